"""The errors of this library: `corten_api.errors`, under the name users import."""

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
