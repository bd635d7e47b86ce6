"""Error kinds and gRPC status codes, one table, both ways.

Codes are the numbers of google.rpc.Code, so that neither a client that imports grpc late nor the ttrpc side needs grpc
for it. `kind` and `name` travel as the trailing metadata `corten-error-bin` (`encode`/`decode` here).
"""

from __future__ import annotations

from corten_api import errors
from corten_api.errors import CortenError

DETAIL_KEY = "corten-error-bin"
_NAME_LIMIT, _DETAIL_LIMIT = 600, 2400  # bytes: all headers together take 8 KiB

CODES: dict[type[CortenError], int] = {
    errors.Cancelled: 1,
    errors.InvalidArgument: 3,
    errors.DeadlineExceeded: 4,
    errors.NotFound: 5,
    errors.AlreadyExists: 6,
    errors.PermissionDenied: 7,
    errors.ResourceExhausted: 8,
    errors.FailedPrecondition: 9,
    errors.Conflict: 10,
    errors.Unimplemented: 12,
    errors.Internal: 13,
    errors.Unavailable: 14,
    errors.DataLoss: 15,
    errors.Unauthenticated: 16,
}
KINDS: dict[int, type[CortenError]] = {code: kind for kind, code in CODES.items()}


def code_of(error: CortenError) -> int:
    """The google.rpc.Code of `error`."""
    return CODES[type(error)]


def encode(error: CortenError) -> bytes:
    """`error` as the value of the `corten-error-bin` trailer: kind, name and detail, each ended by a NUL.

    What is too long for a header is cut.
    """
    fields = ((error.kind, _NAME_LIMIT), (error.name, _NAME_LIMIT), (error.detail, _DETAIL_LIMIT))
    return b"".join(cut(field.replace("\0", "\\x00"), limit) + b"\0" for field, limit in fields)


def cut(text: str, limit: int) -> bytes:
    """As much of `text` as fits into `limit` bytes of UTF-8, in whole characters."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()


def decode(code: int, message: str, trailer: bytes | None) -> CortenError:
    """The error that a status of `code` stands for; without a trailer the message is all there is.

    An unknown code (2, 11 or one of the future) is `Internal`.
    """
    kind = KINDS.get(code, errors.Internal)
    fields = (trailer or b"").split(b"\0")
    if len(fields) == 4:
        return kind(*(field.decode("utf-8", "replace") for field in fields[:3]))
    return kind("", "", message)
