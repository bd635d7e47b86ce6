"""Who asks a registry: a user's name with a password, or an identity token. Never shown, never stored."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from corten_api.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """All empty: anonymous. `identity_token` is an OAuth2 refresh token and goes before the password."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __post_init__(self) -> None:
        if ":" in self.username:
            raise InvalidArgument("user name", self.username, 'must not hold ":"')

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.identity_token)

    def __repr__(self) -> str:
        return "Credentials(...)" if self else "Credentials()"

    @property
    def basic(self) -> str:
        """The value of an Authorization header; "" where there is no password."""
        if not self.username and not self.password:
            return ""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def redact(self, text: str) -> str:
        """`text` without the secrets that it may quote."""
        for secret in (self.password, self.identity_token, self.basic.removeprefix("Basic ")):
            if len(secret) > 2:
                text = text.replace(secret, "***")
        return text


ANONYMOUS = Credentials()
