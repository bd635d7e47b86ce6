"""The closed set of errors that the engine raises and the client sees.

Owns the kinds and what they carry. Knows no transport: `corten_api.status` maps them to gRPC, each door to its own.
"""

from __future__ import annotations

_NAME_SHOWN = 300
_DETAIL_SHOWN = 3000


class CortenError(Exception):
    """Base of every error of the closed set; only its subclasses are raised.

    `kind` is the noun that was wrong ("image", "container", "executable"), `name` its value as given,
    `detail` what is wrong with it and what would be right. As text it is one line of printable characters, whatever
    the value holds: it goes to terminals and logs.
    """

    def __init__(self, kind: str, name: str, detail: str) -> None:
        super().__init__(kind, name, detail)
        self.kind = kind
        self.name = name
        self.detail = detail

    def __str__(self) -> str:
        subject = f'{self.kind} "{_shown(self.name, _NAME_SHOWN)}"' if self.name else self.kind
        detail = _shown(self.detail, _DETAIL_SHOWN)
        return f"{subject}: {detail}" if subject else detail


class NotFound(CortenError):
    """The named thing does not exist; never raised for permission problems."""


class AlreadyExists(CortenError):
    """Another thing has that name."""


class InvalidArgument(CortenError):
    """The value can never be right, whatever the state."""


class FailedPrecondition(CortenError):
    """The thing is not in a state that allows this: not running, in use, of another platform."""


class Conflict(CortenError):
    """Something else is changing the same thing just now; trying again may help."""


class PermissionDenied(CortenError):
    """The caller, or the engine for it, may not do this."""


class Unauthenticated(CortenError):
    """A registry or the engine does not know who asks."""


class ResourceExhausted(CortenError):
    """A limit, a quota or the disk is used up."""


class Unavailable(CortenError):
    """The other side cannot be reached now."""


class DeadlineExceeded(CortenError):
    """It took longer than allowed."""


class Cancelled(CortenError):
    """The caller gave up."""


class Unimplemented(CortenError):
    """This version cannot do it; the detail says what to use instead."""


class DataLoss(CortenError):
    """Stored or received bytes are not what their digest says."""


class Internal(CortenError):
    """A bug, or a kernel that answered what it never should."""


LEAVES: tuple[type[CortenError], ...] = (
    NotFound,
    AlreadyExists,
    InvalidArgument,
    FailedPrecondition,
    Conflict,
    PermissionDenied,
    Unauthenticated,
    ResourceExhausted,
    Unavailable,
    DeadlineExceeded,
    Cancelled,
    Unimplemented,
    DataLoss,
    Internal,
)


def _shown(text: str, limit: int) -> str:
    """`text` without control characters, cut after `limit` characters."""
    if len(text) > limit:
        text = f"{text[:limit]}..."
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
