"""Timing, and the table of what was timed. Knows no engine."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, in which unit, by engine. A text is shown as it is."""

    what: str
    unit: str
    values: Mapping[str, float | str]
    target: str = ""
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def ratio(self, engine: str) -> str:
        """How the first engine, Corten, stands to `engine`."""
        ours, theirs = self.values.get("corten"), self.values.get(engine)
        if engine == "corten" or not isinstance(ours, float) or not isinstance(theirs, float) or not theirs:
            return ""
        return f" (x{ours / theirs:.2f})"


def timed(command: Sequence[str]) -> float:
    """Seconds of a whole command, which must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=300)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{said}")
    return seconds


def interleaved(actions: Mapping[str, Callable[[], float]], runs: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds by name, taken in turn A B C A B C, so that a drift of the machine meets all alike."""
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(warmup + runs):
        for name, action in actions.items():
            seconds = action()
            if number >= warmup:
                samples[name].append(seconds)
    return samples


def row(what: str, unit: str, samples: Mapping[str, Sequence[float]], *, scale: float = 1.0, target: str = "") -> Row:
    """A row of medians."""
    values = {name: statistics.median(seconds) * scale for name, seconds in samples.items()}
    return Row(what, unit, values, target=target, samples=samples)


def table(rows: Sequence[Row], engines: Sequence[str]) -> str:
    """Markdown: a column per engine; in brackets, Corten divided by that engine."""
    lines = [f"| median | unit | {' | '.join(engines)} | target |", f"|---|---|{'---|' * len(engines)}---|"]
    for each in rows:
        cells = [f"{_shown(each.values.get(engine))}{each.ratio(engine)}" for engine in engines]
        lines.append(f"| {each.what} | {each.unit} | {' | '.join(cells)} | {each.target} |")
    return "\n".join(lines)


def _shown(value: float | str | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def pss(pid: int) -> int:
    """Proportional set size of a process in bytes (proc_pid_smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup names no Pss")


def rss(pid: int) -> int:
    """Resident set size of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status names no VmRSS")
