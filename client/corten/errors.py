"""The errors a client sees: the closed set of `corten_api.errors`, under the library's own name."""

from __future__ import annotations

from corten_api.errors import (
    LEAVES,
    AlreadyExists,
    Cancelled,
    Conflict,
    CortenError,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

__all__ = [
    "LEAVES",
    "AlreadyExists",
    "Cancelled",
    "Conflict",
    "CortenError",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]
