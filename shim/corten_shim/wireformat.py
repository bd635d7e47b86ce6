"""Protobuf's wire format, as much of it as the shim's messages use.

Owns tags, varints and how a table of fields becomes bytes and back. Knows no message (see `messages`): maps, groups,
oneofs, floats and packed numbers do not occur there. Unknown fields are skipped, as protobuf does.
Source: protobuf's "Encoding" page.
"""

from __future__ import annotations

STRING, BYTES, UINT32, INT32, INT64, UINT64, BOOL, MESSAGE = range(8)

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_DEFAULTS = {STRING: "", BYTES: b"", UINT32: 0, INT32: 0, INT64: 0, UINT64: 0, BOOL: False, MESSAGE: None}
_MASK64 = (1 << 64) - 1
_DEPTH_LIMIT = 16


class DecodeError(ValueError):
    """The bytes are not a message of this kind."""


class Field:
    """One field of a message: its number, the attribute that holds it, its kind."""

    __slots__ = ("kind", "message", "name", "number", "repeated")

    def __init__(
        self, number: int, name: str, kind: int, *, repeated: bool = False, message: type[Message] | None = None
    ) -> None:
        self.number = number
        self.name = name
        self.kind = kind
        self.repeated = repeated
        self.message = message


class Message:
    """Base of the shim's messages. A subclass lists FIELDS in the order of their numbers, and slots of these names."""

    __slots__ = ()
    FIELDS: tuple[Field, ...] = ()

    def __init__(self, **values: object) -> None:
        for field in self.FIELDS:
            default = [] if field.repeated else _DEFAULTS[field.kind]
            setattr(self, field.name, values.pop(field.name, default))
        if values:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(values)}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field.name) == getattr(other, field.name) for field in self.FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in self.FIELDS)})"

    def encode(self) -> bytes:
        """The message as protobuf writes it: fields in the order of their numbers, defaults left out."""
        out = bytearray()
        for field in self.FIELDS:
            value = getattr(self, field.name)
            if field.repeated:
                for item in value:
                    _put(out, field, item)
            elif value is not None and (value or field.kind == MESSAGE):
                _put(out, field, value)
        return bytes(out)

    def merge(self, data: bytes, depth: int = 0) -> None:
        """Take over what `data` says. Raises DecodeError."""
        if depth > _DEPTH_LIMIT:
            raise DecodeError("nested too deeply")
        position, end = 0, len(data)
        while position < end:
            tag, position = _varint(data, position)
            if not 0 < tag >> 3 < 1 << 29:
                raise DecodeError(f"field number {tag >> 3}")
            value, position = _value(data, position, tag & 7)
            for field in self.FIELDS:
                if field.number == tag >> 3:
                    if (tag & 7) == (_LENGTH if field.kind in (STRING, BYTES, MESSAGE) else _VARINT):
                        self._take(field, value, depth)
                    break

    def _take(self, field: Field, value: int | bytes, depth: int) -> None:
        item: object
        if isinstance(value, int):
            item = _number(field.kind, value)
        elif field.message is not None:
            present = None if field.repeated else getattr(self, field.name)
            nested = field.message() if present is None else present
            nested.merge(value, depth + 1)
            item = nested
        else:
            item = _text(value) if field.kind == STRING else value
        if field.repeated:
            getattr(self, field.name).append(item)
        else:
            setattr(self, field.name, item)


def _put(out: bytearray, field: Field, value: object) -> None:
    if isinstance(value, int):
        _put_varint(out, field.number << 3 | _VARINT)
        _put_varint(out, value & _MASK64)
        return
    if isinstance(value, Message):
        data = value.encode()
    elif isinstance(value, str):
        data = value.encode("utf-8", "replace")
    else:
        data = bytes(value)  # type: ignore[call-overload]
    _put_varint(out, field.number << 3 | _LENGTH)
    _put_varint(out, len(data))
    out += data


def _put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data):
            raise DecodeError("ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK64, position
        shift += 7
        if shift >= 70:
            raise DecodeError("a number of more than ten bytes")


def _value(data: bytes, position: int, wire: int) -> tuple[int | bytes, int]:
    if wire == _VARINT:
        return _varint(data, position)
    if wire == _LENGTH:
        length, position = _varint(data, position)
    elif wire in (_FIXED64, _FIXED32):
        length = 8 if wire == _FIXED64 else 4
    else:
        raise DecodeError(f"wire type {wire}")
    end = position + length
    if end > len(data):
        raise DecodeError("ends within a field")
    return data[position:end], end


def _number(kind: int, value: int) -> int | bool:
    if kind == BOOL:
        return value != 0
    if kind == UINT32:
        return value & 0xFFFFFFFF
    if kind == INT32:
        value &= 0xFFFFFFFF
        return value - (1 << 32) if value >= 1 << 31 else value
    return value - (1 << 64) if kind == INT64 and value >= 1 << 63 else value


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("a string that is not UTF-8") from None
