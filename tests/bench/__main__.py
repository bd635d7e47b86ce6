"""`tests/bench/run`: measure Corten and the engines beside it, in one run, and print the table."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench.measure import Row, table, timed
from tests.bench.peers import CGROUP, PEERS, Peer
from tests.bench.rows import ROWS, Field
from tests.support import images, leftovers
from tests.support.daemon import Daemon

MEMORY = "/dev/shm"


def main() -> int:
    arguments = _parse()
    if os.geteuid() != 0:
        print("tests/bench/run: containers need root", file=sys.stderr)
        return 1
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed command is compiled
    wanted = arguments.only or list(ROWS)
    with ExitStack() as stack:
        # As on a host: stores on disk, what need not survive a boot in memory.
        directory, state = (Path(tempfile.mkdtemp(prefix="cb-", dir=place)) for place in (arguments.directory, MEMORY))
        for each in (directory, state):
            stack.callback(shutil.rmtree, each, ignore_errors=True)
        image = images.busybox()
        daemon = Daemon(directory / "d", name="bench", state=state / "d")
        daemon.start()
        stack.callback(_close, daemon)
        daemon.corten("load", "-i", image.archive)
        stack.callback(leftovers.remove_cgroups, CGROUP)
        kinds = [] if arguments.alone else [kind for kind in PEERS if kind.installed()]
        tried = [_start(kind, directory, state, image, stack) for kind in kinds]
        peers = tuple(peer for peer in tried if peer is not None)
        field = Field(daemon=daemon, peers=peers, image=image, runs=arguments.runs)
        rows: list[Row] = []
        for name in wanted:
            print(f"measuring {name}...", file=sys.stderr, flush=True)
            rows.append(ROWS[name](field))
        engines = ["corten", *(peer.name for peer in peers)]
        if arguments.json:
            print(json.dumps([{"what": row.what, "unit": row.unit, "values": dict(row.values)} for row in rows]))
        else:
            print(table(rows, engines))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(ROWS), help="only this row; may be given again")
    parser.add_argument("--runs", type=int, default=15, help="counted runs of each command (default 15)")
    parser.add_argument("--alone", action="store_true", help="without the other engines")
    parser.add_argument("--json", action="store_true", help="medians as JSON")
    parser.add_argument(
        "--directory", type=Path, default=None, help="where the stores lie (default: the system's /tmp)"
    )
    return parser.parse_args()


def _start(kind: type[Peer], directory: Path, state: Path, image: images.TestImage, stack: ExitStack) -> Peer | None:
    """The engine, when it comes up and runs a container here; otherwise it is left out, and why is said."""
    peer = kind(directory, state)
    stack.callback(peer.stop)
    try:
        peer.start(image)
        timed(peer.run(image.reference, "true"))
    except RuntimeError as error:
        print(f"without {peer.name}: {error}", file=sys.stderr)
        return None
    return peer


def _close(daemon: Daemon) -> None:
    for line in daemon.close():
        print(f"left behind: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
