"""Modules that what the command needs imports, but that the command never uses: loaded when somebody does use them.

Owns their list. With protobuf's C implementation its Python one and its text format lie idle; they are a quarter of the
time that importing messages takes.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

IDLE = ("google.protobuf.internal.python_message", "google.protobuf.text_format")


class Deferred(ModuleType):
    """Stands in for a module until the first use of anything in it."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the import system looks at these, and is content with none
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def defer() -> None:
    """From here on an import of an idle module loads nothing yet. One that is loaded already stays."""
    for name in IDLE:
        sys.modules.setdefault(name, Deferred(name))
