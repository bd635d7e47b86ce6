"""What a call carries besides its message.

Owns the metadata keys.
"""

from __future__ import annotations

from typing import Any

from cortend.domain import ids

NAMESPACE_KEY = "corten-namespace"


def namespace_of(context: Any) -> str:
    """The caller's namespace, "default" when it names none. Raises InvalidArgument for one that cannot be."""
    for key, value in context.invocation_metadata() or ():
        if key == NAMESPACE_KEY:
            return ids.parse_namespace(value if isinstance(value, str) else value.decode("utf-8", "replace"))
    return ids.DEFAULT_NAMESPACE
