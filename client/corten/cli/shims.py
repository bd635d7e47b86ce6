"""`corten shims`: the processes that own containers, for debugging."""

from __future__ import annotations

import click

from corten.cli.output import format_option, show
from corten.cli.session import Session
from corten.cli.table import Columns

_COLUMNS = Columns(
    {"ShimPid": "SHIM PID", "ID": "CONTAINER ID", "Names": "NAMES", "Pid": "PID", "State": "STATE", "Memory": "PSS"},
    ("ShimPid", "ID", "Names", "Pid", "State", "Memory"),
)


@click.group("shims", short_help="The processes that own containers, for debugging")
def shims_command() -> None:
    """Look at shims."""


@shims_command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print pids only")
@format_option
@click.pass_obj
def list_shims(session: Session, quiet: bool, layout: str) -> None:
    """List shims with their containers and, where it can be read here, the memory they take."""
    rows = [
        {
            "ShimPid": container.state.shim_pid,
            "ID": container.id[:12],
            "Names": container.name,
            "Pid": container.state.pid,
            "State": container.state.status,
            "Memory": _memory(container.state.shim_pid),
        }
        for container in session.client.containers.list(all=True)
        if container.state.shim_pid
    ]
    if quiet:
        for row in rows:
            print(row["ShimPid"])
        return
    show(_COLUMNS, rows, layout)


def _memory(pid: int) -> str:
    """The proportional set size; empty where the engine is on another machine or is not ours to look at."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return f"{int(line.split()[1]) / 1024:.1f}MiB"
    except OSError:
        return ""
    return ""
