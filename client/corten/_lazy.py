"""What `import corten` offers, loaded when it is asked for: the command imports this package and needs little of it."""

from __future__ import annotations

from importlib import import_module

_HOMES = {"Client": "corten.client", "AsyncClient": "corten.client", "errors": ""}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'corten' has no attribute {name!r}")
    return getattr(import_module(home), name) if home else import_module(f"corten.{name}")
