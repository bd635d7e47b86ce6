"""`corten logs`."""

from __future__ import annotations

import signal

import click

from corten.cli import moments, terminal
from corten.cli.parameters import Parsed
from corten.cli.session import Session

_STDOUT_GONE = 141
MOMENT = Parsed(moments.parse_moment, "time")


def _lines(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise ValueError(f'"{text}" is no number of lines: write a number or "all"')
    return int(text)


@click.command("logs", short_help="Show what a container wrote")
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends")
@click.option("--since", type=MOMENT, metavar="TIME", help="From then on: 10m (ago), 2026-01-31T15:04:05")
@click.option("--until", type=MOMENT, metavar="TIME", help="Up to then")
@click.option("-n", "--tail", type=Parsed(_lines, "lines"), default="all", metavar="N", help="The last N lines [all]")
@click.option("-t", "--timestamps", is_flag=True, help="Show when it was written")
@click.argument("container")
@click.pass_obj
def logs_command(
    session: Session,
    container: str,
    follow: bool,
    since: int | None,
    until: int | None,
    tail: int | None,
    timestamps: bool,
) -> int:
    """Show what CONTAINER wrote to stdout and stderr."""
    from corten.cli.pump import write_all

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ctrl-c ends a follow as it ends tail -f
    batches = session.client.tasks.logs(container, follow=follow, since_ns=since, until_ns=until, tail=tail)
    whole = {"stdout": True, "stderr": True}  # whether the last entry of the stream ended its line
    with batches:
        for batch in batches:
            pieces: list[tuple[int, bytes]] = []
            for entry in batch:
                data = entry.data
                if timestamps and whole[entry.stream]:
                    data = f"{moments.rfc3339(entry.time_ns)} ".encode() + data
                whole[entry.stream] = data.endswith(b"\n")
                pieces.append((terminal.STDERR if entry.stream == "stderr" else terminal.STDOUT, data))
            for fd, data in _joined(pieces):
                if not write_all(fd, data):
                    return _STDOUT_GONE
    return 0


def _joined(pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Neighbours of the same stream as one write."""
    found: list[tuple[int, list[bytes]]] = []
    for fd, data in pieces:
        if found and found[-1][0] == fd:
            found[-1][1].append(data)
        else:
            found.append((fd, [data]))
    return [(fd, b"".join(parts)) for fd, parts in found]
