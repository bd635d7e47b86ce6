"""What goes wrong with a registry, as the errors of the closed set.

Owns the translation of answers (status and the distribution specification's error body) and of broken connections, and
which of them are worth another try. Reads no sockets.
"""

from __future__ import annotations

import email.utils
import os
import time
from collections.abc import Mapping

import aiohttp
import msgspec
from corten_api.errors import (
    CortenError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

MAX_ERROR_BODY = 64 << 10
_MAX_SHOWN = 300
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_MAX_RETRY_AFTER = 60.0


class Transient(Exception):
    """A failure that may pass: `error` is what to raise when it does not, `retry_after` what the server asked for."""

    def __init__(self, error: CortenError, *, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


class _Item(msgspec.Struct):
    code: str = ""
    message: str = ""
    detail: msgspec.Raw = msgspec.Raw()


class _Body(msgspec.Struct):
    errors: list[_Item] = []
    details: str = ""
    message: str = ""
    error: str = ""
    error_description: str = ""


def message_of(body: bytes) -> str:
    """What the server says is wrong, one line of printable text, "" where it says nothing that can be read."""
    try:
        wire = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    parts = [f"{item.code.lower()}: {item.message}".strip(": ") for item in wire.errors[:3]]
    parts += [wire.details, wire.message, wire.error_description or wire.error]
    text = "; ".join(part for part in parts if part)
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def from_answer(
    status: int, body: bytes, headers: Mapping[str, str], *, host: str, subject: tuple[str, str]
) -> CortenError | Transient:
    """The error that an answer of 400 and above stands for; `subject` is the kind and name that were asked for."""
    said = message_of(body)
    detail = f"{host} answered {status}" + (f": {said}" if said else "")
    kind, name = subject
    error: CortenError
    if status == 401:
        error = Unauthenticated(kind, name, f"{detail}; it may not exist or may need a login")
    elif status == 403:
        error = PermissionDenied(kind, name, detail)
    elif status == 404:
        error = NotFound(kind, name, detail)
    elif status == 429:
        error = ResourceExhausted("registry", host, f"too many requests ({detail})")
    elif status == 416:
        error = FailedPrecondition(kind, name, detail)
    elif status >= 500 or status in _TRANSIENT:
        error = Unavailable("registry", host, detail)
    elif status == 400:
        error = InvalidArgument(kind, name, detail)
    else:
        error = Internal("registry", host, f"{detail}, which is not expected for {kind} {name}")
    if status in _TRANSIENT:
        return Transient(error, retry_after=retry_after(headers.get("Retry-After", "")))
    return error


def from_exception(error: Exception, *, host: str, answered: bool) -> CortenError | Transient:
    """The error that a broken exchange stands for. A host that never `answered` is not tried again: it is not there."""
    reason = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return Unavailable("registry", host, f"no TLS connection to it: {reason[:_MAX_SHOWN]}")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        found = Unavailable("registry", host, "cannot be reached: no connection within the time limit")
        return Transient(found) if answered else found
    if isinstance(error, aiohttp.ClientConnectorError):
        found = Unavailable("registry", host, f"cannot be reached: {_cause(error.os_error)}")
        return Transient(found) if answered else found
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Unavailable("registry", host, f"the proxy before it answered {error.status}")
    if isinstance(error, TimeoutError):
        return Transient(Unavailable("registry", host, "stopped answering: nothing came within the time limit"))
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | OSError):
        return Transient(Unavailable("registry", host, "the connection broke"))
    return Unavailable("registry", host, f"its answer cannot be understood ({type(error).__name__})")


def _cause(error: OSError) -> str:
    """What the kernel or the resolver says, without addresses."""
    number = error.errno
    text = os.strerror(number) if number is not None and number > 0 else error.strerror or str(error)
    return text[:_MAX_SHOWN]


def retry_after(value: str, *, now: float | None = None) -> float | None:
    """Seconds that a Retry-After header asks to wait, at most a minute; None where it says nothing."""
    value = value.strip()
    if value.isascii() and value.isdecimal() and len(value) < 10:
        return min(float(value), _MAX_RETRY_AFTER)
    try:
        then = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(then - (time.time() if now is None else now), 0.0), _MAX_RETRY_AFTER)
