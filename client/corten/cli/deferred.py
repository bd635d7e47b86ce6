"""Modules that what the command needs imports, but that the command hardly uses: loaded when somebody does use them.

Owns their list, and the little of them that is used all the same. With protobuf's C implementation its Python one and
its text format lie idle; click takes `inspect` for the indentation of help texts, and `uuid` for a type of parameter
that no command has. Together they are a third of the time that the imports take.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType


def _cleandoc(text: str) -> str:
    """inspect.cleandoc, which need not be loaded for one line."""
    if "\n" in text:
        return str(_real("inspect").cleandoc(text))
    return text.expandtabs().lstrip()


class _NoUUID:
    """In place of the class that click makes a parameter type of."""


IDLE: Mapping[str, Mapping[str, object]] = {
    "google.protobuf.internal.python_message": {},
    "google.protobuf.text_format": {},
    "inspect": {"cleandoc": _cleandoc},
    "uuid": {"UUID": _NoUUID},
}


class Deferred(ModuleType):
    """Stands in for a module until the first use of anything in it but what is `known`."""

    def __init__(self, name: str, known: Mapping[str, object]) -> None:
        super().__init__(name)
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the import system looks at these, and is content with none
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _real(name: str) -> ModuleType:
    """The module itself, loaded now."""
    if isinstance(sys.modules.get(name), Deferred):
        del sys.modules[name]
    return import_module(name)


def defer() -> None:
    """From here on an import of an idle module loads nothing yet. One that is loaded already stays."""
    for name, known in IDLE.items():
        sys.modules.setdefault(name, Deferred(name, known))
