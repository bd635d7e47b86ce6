"""`corten ps`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import click
from corten_api.errors import NotFound

from corten.cli import moments
from corten.cli.filters import label_matches, parse_filters
from corten.cli.output import filter_option, format_option, show
from corten.cli.session import Session
from corten.cli.table import Columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.containers import Container

_FILTERS = ("status", "name", "label", "id", "ancestor", "exited", "before", "since")
_COMMAND_WIDTH = 20
_COLUMNS = Columns(
    {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "Status": "STATUS",
        "State": "STATE",
        "Ports": "PORTS",
        "Names": "NAMES",
        "Labels": "LABELS",
        "Mounts": "MOUNTS",
        "Networks": "NETWORKS",
        "Namespace": "NAMESPACE",
        "Pid": "PID",
        "ShimPid": "SHIM PID",
        "ExitCode": "EXIT CODE",
    },
    ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"),
)


@click.command("ps", short_help="List containers")
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run too")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only")
@click.option("--no-trunc", is_flag=True, help="Print whole ids and commands")
@click.option("-n", "--last", type=int, default=0, metavar="N", help="The N newest, running or not")
@click.option("-l", "--latest", is_flag=True, help="The newest, running or not")
@filter_option
@format_option
@click.pass_obj
def ps_command(
    session: Session,
    everything: bool,
    quiet: bool,
    no_trunc: bool,
    last: int,
    latest: bool,
    filters: tuple[str, ...],
    layout: str,
) -> None:
    """List containers, the newest first."""
    wanted = parse_filters(filters, _FILTERS)
    limit = 1 if latest else max(0, last)
    selective = wanted.keys() & {"status", "exited"}
    every = session.client.containers.list(all=bool(everything or limit or selective))
    found = [container for container in every if _matches(session, container, wanted)]
    found.sort(key=lambda container: -container.created_at_ns)
    if limit:
        found = found[:limit]
    if quiet and not layout:
        for container in found:
            print(container.id if no_trunc else container.id[:12])
        return
    now = time.time_ns()
    show(_COLUMNS, [row(container, now, whole=no_trunc) for container in found], layout)


def _matches(session: Session, container: Container, wanted: dict[str, list[str]]) -> bool:
    return all(_TESTS[key](session, container, values) for key, values in wanted.items())


def _named(session: Session, container: Container, values: Iterable[str]) -> bool:
    import re

    return any(re.search(value.removeprefix("/"), container.name) for value in values)


def _descends(session: Session, container: Container, values: Iterable[str]) -> bool:
    for value in values:
        if value in (container.config.image, container.image_name):
            return True
        try:
            if session.client.images.get(value).id == container.image_id:
                return True
        except NotFound:
            continue
    return False


def _exited(session: Session, container: Container, values: Iterable[str]) -> bool:
    return container.state.status == "exited" and str(container.state.exit_code) in values


def _older(session: Session, container: Container, values: Iterable[str]) -> bool:
    return all(container.created_at_ns < session.client.containers.get(value).created_at_ns for value in values)


def _newer(session: Session, container: Container, values: Iterable[str]) -> bool:
    return all(container.created_at_ns > session.client.containers.get(value).created_at_ns for value in values)


_TESTS: dict[str, Callable[[Session, Any, list[str]], bool]] = {
    "status": lambda session, container, values: container.state.status in values,
    "name": _named,
    "label": lambda session, container, values: label_matches(container.config.labels, values),
    "id": lambda session, container, values: any(container.id.startswith(value) for value in values),
    "ancestor": _descends,
    "exited": _exited,
    "before": _older,
    "since": _newer,
}


def row(container: Container, now_ns: int, *, whole: bool = False) -> dict[str, Any]:
    """What `ps` shows of a container."""
    command = " ".join(container.argv)
    if not whole and len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    return {
        "ID": container.id if whole else container.id[:12],
        "Image": container.config.image,
        "Command": f'"{command}"',
        "CreatedAt": moments.local(container.created_at_ns),
        "RunningFor": moments.ago(container.created_at_ns, now_ns),
        "Status": status(container, now_ns),
        "State": container.state.status,
        "Ports": "",
        "Names": container.name,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(container.config.labels.items())),
        "Mounts": ",".join(mount.source or mount.target for mount in container.config.mounts),
        "Networks": container.config.network,
        "Namespace": container.namespace,
        "Pid": container.state.pid,
        "ShimPid": container.state.shim_pid,
        "ExitCode": container.state.exit_code,
    }


def status(container: Container, now_ns: int) -> str:
    """The state in docker's words: "Up 3 minutes", "Exited (0) 2 hours ago"."""
    state = container.state
    if state.status in ("running", "paused"):
        up = f"Up {moments.span(now_ns - state.started_at_ns)}"
        return f"{up} (Paused)" if state.status == "paused" else up
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {moments.ago(state.finished_at_ns, now_ns)}"
    return "Removal In Progress" if state.status == "removing" else "Created"
