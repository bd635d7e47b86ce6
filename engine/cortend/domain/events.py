"""What happened, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`cursor` is 0 until it was recorded; `topic` is dotted, noun first: "task.exited"."""

    topic: str
    id: str
    namespace: str
    time_ns: int
    attributes: Mapping[str, str] = field(default_factory=dict)
    cursor: int = 0
