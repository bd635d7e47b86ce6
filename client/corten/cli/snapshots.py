"""`corten snapshots`: the tree of snapshots itself, for debugging."""

from __future__ import annotations

import click

from corten.cli import moments
from corten.cli.output import format_option, render, show
from corten.cli.session import Session
from corten.cli.sizes import format_bytes
from corten.cli.table import Columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from corten.snapshots import Mount, Snapshot

_COLUMNS = Columns(
    {"Name": "NAME", "Parent": "PARENT", "Kind": "KIND", "CreatedAt": "CREATED AT", "Labels": "LABELS"},
    ("Name", "Parent", "Kind"),
)


@click.group("snapshots", short_help="Snapshots themselves, for debugging")
def snapshots_command() -> None:
    """Look at snapshots, and make some by hand. KEY names an active one or a view, NAME a committed one."""


@snapshots_command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print names and keys only")
@format_option
@click.pass_obj
def list_snapshots(session: Session, quiet: bool, layout: str) -> None:
    """List snapshots."""
    found = session.client.snapshots.list()
    if quiet:
        for snapshot in found:
            print(snapshot.name)
        return
    show(_COLUMNS, [_row(snapshot) for snapshot in found], layout)


@snapshots_command.command("stat")
@click.argument("name")
@click.pass_obj
def stat_snapshot(session: Session, name: str) -> None:
    """Show one snapshot as JSON."""
    print(render("json", _row(session.client.snapshots.stat(name))))


@snapshots_command.command("usage")
@click.argument("names", nargs=-1)
@click.pass_obj
def snapshot_usage(session: Session, names: tuple[str, ...]) -> None:
    """Show what snapshots take on disk, parents excluded."""
    chosen = names or [snapshot.name for snapshot in session.client.snapshots.list()]
    columns = Columns({"Name": "NAME", "Size": "SIZE", "Inodes": "INODES"}, ("Name", "Size", "Inodes"))
    rows = []
    for name in chosen:
        usage = session.client.snapshots.usage(name)
        rows.append({"Name": name, "Size": format_bytes(usage.size_bytes), "Inodes": usage.inodes})
    show(columns, rows, "")


@snapshots_command.command("mounts")
@click.argument("key")
@click.pass_obj
def snapshot_mounts(session: Session, key: str) -> None:
    """Show how an active snapshot is mounted."""
    _print_mounts(session.client.snapshots.mounts(key))


@snapshots_command.command("prepare")
@click.argument("key")
@click.argument("parent", default="")
@click.pass_obj
def prepare_snapshot(session: Session, key: str, parent: str) -> None:
    """Make an active snapshot KEY on PARENT, and show how it is mounted."""
    _print_mounts(session.client.snapshots.prepare(key, parent))


@snapshots_command.command("view")
@click.argument("key")
@click.argument("parent", default="")
@click.pass_obj
def view_snapshot(session: Session, key: str, parent: str) -> None:
    """Make a read-only view KEY of PARENT, and show how it is mounted."""
    _print_mounts(session.client.snapshots.view(key, parent))


@snapshots_command.command("commit")
@click.argument("key")
@click.argument("name")
@click.pass_obj
def commit_snapshot(session: Session, key: str, name: str) -> None:
    """Make the active snapshot KEY a committed one called NAME."""
    print(session.client.snapshots.commit(key, name).name)


@snapshots_command.command("rm")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def remove_snapshots(session: Session, names: tuple[str, ...]) -> int:
    """Remove snapshots that nothing is made on top of."""

    def remove(name: str) -> str:
        session.client.snapshots.remove(name)
        return name

    return session.each(names, remove)


def _row(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "Name": snapshot.name,
        "Parent": snapshot.parent,
        "Kind": snapshot.kind,
        "CreatedAt": moments.rfc3339(snapshot.created_at_ns),
        "Labels": dict(snapshot.labels),
    }


def _print_mounts(mounts: Iterable[Mount]) -> None:
    for mount in mounts:
        print(f"mount -t {mount.type} {mount.source} TARGET -o {','.join(mount.options)}")
