"""The envelopes of ttrpc and the well-known types that ride in them.

Owns Request, Response and Status as ttrpc sends them, and protobuf's Any, Empty and Timestamp. The messages inside the
envelopes are in `messages`, the frames around them in `ttrpc`. Field numbers: `corten_api/shim/ttrpc.proto`.
"""

from __future__ import annotations

from corten_shim.wireformat import BYTES, INT32, INT64, MESSAGE, STRING, Field, Message


class Any(Message):
    __slots__ = ("type_url", "value")
    type_url: str
    value: bytes
    FIELDS = (Field(1, "type_url", STRING), Field(2, "value", BYTES))


class Empty(Message):
    __slots__ = ()


class Timestamp(Message):
    __slots__ = ("nanos", "seconds")
    seconds: int
    nanos: int
    FIELDS = (Field(1, "seconds", INT64), Field(2, "nanos", INT32))


class KeyValue(Message):
    __slots__ = ("key", "value")
    key: str
    value: str
    FIELDS = (Field(1, "key", STRING), Field(2, "value", STRING))


class Request(Message):
    __slots__ = ("metadata", "method", "payload", "service", "timeout_nano")
    service: str
    method: str
    payload: bytes
    timeout_nano: int
    metadata: list[KeyValue]
    FIELDS = (
        Field(1, "service", STRING),
        Field(2, "method", STRING),
        Field(3, "payload", BYTES),
        Field(4, "timeout_nano", INT64),
        Field(5, "metadata", MESSAGE, repeated=True, message=KeyValue),
    )


class Status(Message):
    __slots__ = ("code", "details", "message")
    code: int
    message: str
    details: list[Any]
    FIELDS = (
        Field(1, "code", INT32),
        Field(2, "message", STRING),
        Field(3, "details", MESSAGE, repeated=True, message=Any),
    )


class Response(Message):
    __slots__ = ("payload", "status")
    status: Status | None
    payload: bytes
    FIELDS = (Field(1, "status", MESSAGE, message=Status), Field(2, "payload", BYTES))
