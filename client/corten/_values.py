"""Values that are messages: frozen, typed, and written to the wire by one table each.

Owns the protobuf encoding of the client's values, so that the client needs neither protobuf (35 ms of import) nor a
second set of classes beside the generated ones; `tests/unit/client/test_messages.py` checks every table against the
`.proto` files. Knows no service and no transport.

A value class lists its fields with their defaults, and in `WIRE` field number -> (name, kind). What equals its
default is not written, except where the default is None: there, None is "absent" and everything else is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self, dataclass_transform

NOTHING: Mapping[str, str] = MappingProxyType({})
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SECOND = 1_000_000_000
_WRAP = 1 << 64


class Time(int):
    """A moment: nanoseconds since the epoch, UTC."""

    def __str__(self) -> str:
        """RFC 3339 with nine digits."""
        import time

        seconds, nanos = divmod(self, _SECOND)
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanos:09d}Z"

    __repr__ = __str__

    @property
    def seconds(self) -> float:
        """Seconds since the epoch, as `time.time()` counts."""
        return self / _SECOND

    @classmethod
    def now(cls) -> Self:
        import time

        return cls(time.time_ns())


class Kind:
    """How one field is written: its wire type, and the two ways."""

    __slots__ = ("dump", "load", "name", "of", "repeated", "wire")

    def __init__(
        self,
        name: str,
        wire: int,
        dump: Callable[[Any], bytes],
        load: Callable[[Any], Any],
        *,
        repeated: str = "",
        of: Any = None,
    ) -> None:
        self.name = name
        self.wire = wire
        self.dump = dump
        self.load = load
        self.repeated = repeated  # "", "many" or "map"
        self.of = of  # the value class of a message, the names of a choice


def varint(value: int) -> bytes:
    """Base-128; a negative number as its 64-bit two's complement."""
    if 0 <= value < 128:
        return bytes((value,))
    value %= _WRAP
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _signed(value: int) -> int:
    return value - _WRAP if value >> 63 else value


def _text(raw: Any) -> str:
    return str(raw, "utf-8", "replace")


def _encode_text(value: str) -> bytes:
    return value.encode("utf-8", "replace")


def _dump_moment(value: float) -> bytes:
    """Timestamp and Duration alike: {1: seconds, 2: nanos}."""
    total = int(value)
    seconds, nanos = (total // _SECOND, total % _SECOND) if total >= 0 else (-(-total // _SECOND), -(-total % _SECOND))
    return (b"\x08" + varint(seconds) if seconds else b"") + (b"\x10" + varint(nanos) if nanos else b"")


def _load_moment(raw: Any) -> int:
    found = {1: 0, 2: 0}
    for number, value in fields(raw):
        found[number] = _signed(value)
    return found[1] * _SECOND + found[2]


TEXT = Kind("text", _LENGTH, _encode_text, _text)
BYTES = Kind("bytes", _LENGTH, bytes, bytes)
INT = Kind("int", _VARINT, varint, _signed)
UINT = Kind("uint", _VARINT, varint, int)
BOOL = Kind("bool", _VARINT, varint, bool)
TIME = Kind("time", _LENGTH, _dump_moment, lambda raw: Time(_load_moment(raw)))
# Seconds, as a float.
DURATION = Kind(
    "duration", _LENGTH, lambda value: _dump_moment(round(value * _SECOND)), lambda raw: _load_moment(raw) / _SECOND
)
TEXTS = Kind("text", _LENGTH, _encode_text, _text, repeated="many")


def _dump_pair(pair: tuple[str, str]) -> bytes:
    return _labelled(0x0A, _encode_text(pair[0])) + _labelled(0x12, _encode_text(pair[1]))


def _load_pair(raw: Any) -> tuple[str, str]:
    found = {number: _text(value) for number, value in fields(raw)}
    return found.get(1, ""), found.get(2, "")


# A mapping of text to text.
LABELS = Kind("map", _LENGTH, _dump_pair, _load_pair, repeated="map")


def one(of: type[Value]) -> Kind:
    """A message inside this one."""
    return Kind("message", _LENGTH, of.encode, of.decode, of=of)


def many(of: type[Value]) -> Kind:
    """A tuple of messages."""
    return Kind("message", _LENGTH, of.encode, of.decode, repeated="many", of=of)


def choice(*names: str) -> Kind:
    """An enumeration as words, in the order of their numbers from 0; a number of the future becomes its digits."""
    numbers = {name: number for number, name in enumerate(names)}
    return Kind(
        "choice",
        _VARINT,
        lambda value: varint(numbers[value]),
        lambda raw: names[raw] if raw < len(names) else str(raw),
        of=names,
    )


def _labelled(tag: int, payload: bytes) -> bytes:
    return varint(tag) + varint(len(payload)) + payload


def _take_varint(data: Any, at: int) -> tuple[int, int]:
    value = data[at]
    at += 1
    if value < 128:
        return value, at
    value &= 127
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value % _WRAP, at
        shift += 7
        if shift > 63:
            raise ValueError("a number on the wire is longer than 64 bits")


def fields(data: Any) -> list[tuple[int, Any]]:
    """Field numbers and raw values of one message, in order: ints, and memoryviews for what has a length.

    Raises ValueError for bytes that are no message.
    """
    view = memoryview(data)
    end = len(view)
    at = 0
    found: list[tuple[int, Any]] = []
    try:
        while at < end:
            tag, at = _take_varint(view, at)
            wire = tag & 7
            if wire == _LENGTH:
                length, at = _take_varint(view, at)
                value: Any = view[at : at + length]
                at += length
            elif wire == _VARINT:
                value, at = _take_varint(view, at)
            elif wire in (_FIXED64, _FIXED32):
                length = 8 if wire == _FIXED64 else 4
                value = int.from_bytes(view[at : at + length], "little")
                at += length
            else:
                raise ValueError(f"wire type {wire} is not known")
            found.append((tag >> 3, value))
    except IndexError:
        at = end + 1
    if at != end:
        raise ValueError("a message on the wire is cut short")
    return found


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Value:
    """Base of every value: keyword arguments in, attributes out, nothing changes afterwards."""

    WIRE: ClassVar[Mapping[int, tuple[str, Kind]]] = {}

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - self.names()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        self.__dict__.update(values)

    @classmethod
    def names(cls) -> dict[str, int]:
        """Field name -> field number, in the order of the table."""
        return {name: number for number, (name, _) in cls.WIRE.items()}

    @classmethod
    def decode(cls, data: Any) -> Self:
        """The value of these bytes; fields of the future are left out. Raises ValueError."""
        values: dict[str, Any] = {}
        table = cls.WIRE
        for number, raw in fields(data):
            entry = table.get(number)
            if entry is None:
                continue
            name, kind = entry
            if isinstance(raw, int) != (kind.wire == _VARINT):
                raise ValueError(f"field {number} of {cls.__name__} has the wrong wire type")
            if not kind.repeated:
                values[name] = kind.load(raw)
            else:
                values.setdefault(name, []).append(kind.load(raw))
        for name, found in values.items():
            if type(found) is list:
                repeated = table[cls.names()[name]][1].repeated
                values[name] = MappingProxyType(dict(found)) if repeated == "map" else tuple(found)
        made = cls.__new__(cls)
        made.__dict__.update(values)
        return made

    def encode(self) -> bytes:
        """This value on the wire."""
        out: list[bytes] = []
        held = self.__dict__
        for number, (name, kind) in self.WIRE.items():
            value = held.get(name)
            if value is None or (not value and getattr(type(self), name) is not None):
                continue
            if not kind.repeated:
                payload = kind.dump(value)
                tag = varint(number << 3 | kind.wire)
                out += (tag, payload) if kind.wire == _VARINT else (tag, varint(len(payload)), payload)
                continue
            for item in value.items() if kind.repeated == "map" else value:
                out.append(_labelled(number << 3 | _LENGTH, kind.dump(item)))
        return b"".join(out)

    def replace(self, **changes: Any) -> Self:
        """The same with these fields changed."""
        return type(self)(**{**self.__dict__, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able data: every field by its name, times as text."""
        return {name: _plain(getattr(self, name)) for name in self.names()}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: make another with .replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.names())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.names() if name in self.__dict__)
        return f"{type(self).__name__}({told})"


def _plain(value: Any) -> Any:
    if isinstance(value, Value):
        return value.to_dict()
    if isinstance(value, Time):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
