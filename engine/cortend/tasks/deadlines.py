"""How long a shim may take to answer: a stuck one costs its caller an error, never the engine.

Owns the numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from corten_api.errors import DeadlineExceeded

T = TypeVar("T")

CALL = 10.0  # what a shim does at once
CREATE = 60.0  # mounts, namespaces, cgroups: on a busy host
START = 30.0
ENDING = 5.0  # from Shutdown to the end of the shim


async def within(name: str, call: Awaitable[T], seconds: float = CALL) -> T:
    """The result of `call`. Raises DeadlineExceeded naming the container `name`."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise DeadlineExceeded("container", name, f"its shim did not answer for {seconds:g} s") from None
