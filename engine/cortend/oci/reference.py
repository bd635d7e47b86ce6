"""Image references: `[domain/]path[:tag][@digest]` as users write them.

Owns the distribution grammar and docker's normalisation (`busybox` is `docker.io/library/busybox:latest`). Knows no
registry: which host answers for a domain is `registry`'s business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from corten_api.errors import InvalidArgument

from cortend.oci.digest import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME_LENGTH = 255  # domain and path together
MAX_REFERENCE_LENGTH = 255 + 1 + 128 + 1 + 135

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::(?P<port>[0-9]+))?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_BARE_ID = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A normalised reference: it has a tag, a digest, or both. str() gives it in full."""

    domain: str  # "docker.io", "localhost:5000"
    path: str  # "library/busybox"
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Normalise what a user wrote; without tag and digest the tag is "latest".

        Raises InvalidArgument naming the whole text and the part that is wrong.
        """
        if not text:
            raise _bad(text, "is empty; write for example busybox or registry.example/team/app:1.0")
        if len(text) > MAX_REFERENCE_LENGTH:
            raise _bad(text[:80] + "...", f"is longer than {MAX_REFERENCE_LENGTH} characters")
        if _BARE_ID.fullmatch(text):
            raise _bad(text, "is an image id, not a name")
        name, digest = _split_digest(text)
        name, tag = _split_tag(text, name)
        domain, path = _split_domain(text, name)
        _check_path(text, path)
        if len(domain) + 1 + len(path) > MAX_NAME_LENGTH:
            raise _bad(text, f"the name is longer than {MAX_NAME_LENGTH} characters")
        if tag is None and digest is None:
            tag = DEFAULT_TAG
        return cls(domain=domain, path=path, tag=tag, digest=digest)

    @property
    def name(self) -> str:
        """Domain and path: "docker.io/library/busybox"."""
        return f"{self.domain}/{self.path}"

    @property
    def tagged(self) -> str:
        """The name with its tag ("latest" where only a digest was given), as images are stored under."""
        return f"{self.name}:{self.tag or DEFAULT_TAG}"

    @property
    def selector(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return str(self.digest) if self.digest is not None else self.tag or DEFAULT_TAG

    @property
    def familiar(self) -> str:
        """As docker shows it: without docker.io, and without library/ there."""
        text = str(self)
        if self.domain != DEFAULT_DOMAIN:
            return text
        return text.removeprefix(f"{DEFAULT_DOMAIN}/").removeprefix("library/")

    def with_digest(self, digest: Digest) -> Reference:
        """The same name and tag, pinned to `digest`."""
        return replace(self, digest=digest)

    def without_tag(self) -> Reference:
        """The same name by digest only. Raises InvalidArgument where there is no digest."""
        if self.digest is None:
            raise _bad(str(self), "has no digest")
        return replace(self, tag=None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"


def _bad(text: str, detail: str) -> InvalidArgument:
    return InvalidArgument("image reference", text, detail)


def _split_digest(text: str) -> tuple[str, Digest | None]:
    name, at, digest = text.partition("@")
    if not at:
        return name, None
    try:
        return name, Digest.parse(digest)
    except InvalidArgument as error:
        raise _bad(text, f'digest "{digest}" {error.detail}') from None


def _split_tag(text: str, name: str) -> tuple[str, str | None]:
    head, slash, last = name.rpartition("/")
    base, colon, tag = last.partition(":")
    if not colon:
        return name, None
    if not _TAG.fullmatch(tag):
        raise _bad(text, f'tag "{tag}" must be 1 to 128 letters, digits, "_", "." or "-", not starting with "." or "-"')
    return f"{head}{slash}{base}", tag


def _split_domain(text: str, name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = bool(slash) and (
        "." in first or ":" in first or first == "localhost" or first.startswith("[") or first != first.lower()
    )
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, name)
    match = _DOMAIN.fullmatch(domain)
    if match is None or int(match["port"] or 0) > 65535:
        raise _bad(text, f'"{domain}" is not a host name or address with an optional port')
    if domain in ("index.docker.io", "registry-1.docker.io"):
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _check_path(text: str, path: str) -> None:
    shown = path.removeprefix("library/")
    if path != path.lower():
        raise _bad(text, f'repository "{shown}" must be lower case')
    for component in path.split("/"):
        if not _COMPONENT.fullmatch(component):
            raise _bad(
                text,
                f'repository part "{component}" may hold only lower-case letters and digits,'
                ' separated by ".", "_", "__" or "-"',
            )
