"""The base of every value the library hands out: keyword-only, immutable, compared by its fields.

Owns what a value can do. To type checkers a subclass is a frozen keyword-only dataclass; it is not made by
`dataclasses` because importing that and building the classes of one command cost more than the rest of a `corten run`.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar, dataclass_transform

V = TypeVar("V", bound="Value")


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Value:
    """Fields are the annotations of the class, defaults its attributes."""

    _fields: tuple[str, ...]
    _required: frozenset[str]

    def __init_subclass__(cls) -> None:
        own = cls.__dict__.get("__annotations__", {})  # noqa: RUF063 - importing inspect costs 10 ms
        cls._fields = (*getattr(cls, "_fields", ()), *own)
        cls._required = frozenset(name for name in cls._fields if not hasattr(cls, name))

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - set(self._fields)
        missing = self._required - values.keys()
        if unknown or missing:
            wrong = [f"unknown field {name!r}" for name in sorted(unknown)]
            wrong += [f"missing field {name!r}" for name in sorted(missing)]
            raise TypeError(f"{type(self).__name__}: {', '.join(wrong)}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable; `replace({name}=...)` makes a changed copy")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def as_dict(self) -> dict[str, Any]:
        """Field names to values, in the order of the class."""
        return {name: getattr(self, name) for name in self._fields}

    def replace(self: V, **changes: Any) -> V:
        """A copy with `changes`."""
        return type(self)(**{**self.__dict__, **changes})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((type(self), *self.as_dict().values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"{type(self).__name__}({fields})"
