"""WWW-Authenticate headers: what a registry asks for.

Owns the grammar (RFC 9110 section 11.6.1: several challenges, in one header or many, quoted or not). Sans-IO; what is
done about a challenge is `registry.authorization`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*({_WORD})(?=\s|,|$)")
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*(?=,|$)')
_TOKEN68 = re.compile(r"\s*([A-Za-z0-9._~+/-]+=*)\s*(?=,|$)")
_MAX_LENGTH = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """`scheme` and the parameters' names are lower case: "bearer", {"realm": ..., "service": ..., "scope": ...}."""

    scheme: str
    parameters: Mapping[str, str]


def parse(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Every challenge of these header values, in order; what cannot be read ends the header it stands in."""
    found: list[Challenge] = []
    for header in headers:
        found.extend(_parse_one(header[:_MAX_LENGTH]))
    return tuple(found)


def _parse_one(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    position = 0
    while position < len(header):
        parameter = _PARAMETER.match(header, position) if found else None
        if parameter is not None:
            name, quoted, plain = parameter.groups()
            parameters.setdefault(name.lower(), _unquote(quoted) if quoted is not None else plain)
            position = parameter.end()
        else:
            scheme = _SCHEME.match(header, position)
            if scheme is None:
                break
            parameters = {}
            found.append(Challenge(scheme=scheme[1].lower(), parameters=parameters))
            position = _skip_token68(header, scheme.end())
        while position < len(header) and header[position] in ", \t":
            position += 1
    return found


def _skip_token68(header: str, position: int) -> int:
    """Past `Negotiate dG9rZW4=`'s value; a parameter looks otherwise: it has something behind its "="."""
    if _PARAMETER.match(header, position) is not None:
        return position
    token = _TOKEN68.match(header, position)
    return token.end() if token is not None else position


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
