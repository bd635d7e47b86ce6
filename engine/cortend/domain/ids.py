"""Names and ids: how they are made and what is accepted.

Owns their syntax. Knows nothing of what exists (see `cortend.containers.lookup`).
"""

from __future__ import annotations

import re
import secrets

from corten_api.errors import InvalidArgument

DEFAULT_NAMESPACE = "default"

_ID = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{1,64}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_NAME_MAX = 253
_NAMESPACE_MAX = 63
_REQUEST_ID_MAX = 128

_ADJECTIVES = """
amber ashen bold brave bright brisk calm candid clever copper crisp daring deft eager early fair fine fleet fond frank
gentle glad golden grand happy hardy honest humble iron jolly keen kind late lively lofty loyal lucid mellow merry mild
modest neat noble patient placid plain plucky polite proud quick quiet rapid ready rosy rusty sharp silent silver sleek
sober solid spry stable steady stern still sturdy sunny swift tidy tranquil true trusty vivid warm weathered wise witty
""".split()
_SURNAMES = """
agnesi ampere archimedes babbage banach bell bohr boole bosch brunel carnot cauchy church curie daimler darwin diesel
dijkstra eiffel erdos euler faraday fermi fourier franklin galois gauss germain godel goodall hamilton hertz hopper
huygens joule kelvin kepler kirchhoff knuth kovalevskaya lagrange laplace leibniz liskov lovelace maxwell meitner mendel
morse napier newton noether ohm pascal pasteur planck poincare ramanujan riemann ritchie rontgen shannon siemens
somerville tesla torvalds turing volta watt wiles wright zuse
""".split()


def new_id() -> str:
    """64 hex digits. Never only decimal digits in its first 12, which a user might read as a number."""
    while True:
        made = secrets.token_hex(32)
        if not made[:12].isdecimal():
            return made


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def is_prefix(text: str) -> bool:
    """Whether `text` may be the beginning of an id."""
    return _HEX.fullmatch(text) is not None


def made_up_name(attempt: int = 0) -> str:
    """A name such as "rusty_hopper"; after some attempts with a number, so that one is always free."""
    name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_SURNAMES)}"
    return name if attempt < 3 else f"{name}{secrets.randbelow(10 ** min(attempt, 12))}"


def parse_name(text: str) -> str:
    """`text` if it may name a container; a leading slash, as docker writes it, is dropped."""
    name = text.removeprefix("/")
    if _NAME.fullmatch(name) is None or len(name) > _NAME_MAX:
        detail = f"2 to {_NAME_MAX} characters are needed: a letter or digit, then letters, digits, '_', '.' and '-'"
        raise InvalidArgument("name", text, detail)
    return name


def parse_namespace(text: str) -> str:
    if _NAMESPACE.fullmatch(text) is None or len(text) > _NAMESPACE_MAX:
        detail = f"1 to {_NAMESPACE_MAX} characters are needed: small letters, digits, '-' and '.', not first or last"
        raise InvalidArgument("namespace", text, detail)
    return text


def parse_request_id(text: str) -> str:
    if len(text) > _REQUEST_ID_MAX or not text.isprintable():
        raise InvalidArgument("request id", text[:_REQUEST_ID_MAX], f"at most {_REQUEST_ID_MAX} printable characters")
    return text
