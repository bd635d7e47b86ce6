"""`corten info` and `corten version`."""

from __future__ import annotations

import click
from corten_api.errors import CortenError

from corten.cli import moments
from corten.cli.output import render
from corten.cli.session import FAILED, Session, complain
from corten.cli.sizes import format_binary

_layout = click.option("-f", "--format", "layout", default="", metavar="TEMPLATE", help='"json" or {{.Field}}')


@click.command("version", short_help="Show the versions of this command and of the engine")
@_layout
@click.pass_obj
def version_command(session: Session, layout: str) -> int:
    """Show the versions of this command and of the engine."""
    from importlib.metadata import version
    from platform import python_version

    client = {"Version": version("corten"), "ApiVersion": "corten.v1", "Python": python_version()}
    try:
        found = session.client.system.version()
    except CortenError as error:
        if layout:
            raise
        print("\n".join(["Client:", *_pairs(client)]))
        complain(str(error))
        return FAILED
    server = {
        "Version": found.version,
        "ApiVersion": found.api,
        "GitCommit": found.git_commit,
        "Python": found.python,
        "KernelVersion": found.kernel,
        "Os": found.os,
        "Arch": found.architecture,
    }
    if layout:
        print(render(layout, {"Client": client, "Server": server}))
        return 0
    print("\n".join(["Client:", *_pairs(client), "", "Server:", *_pairs(server)]))
    return 0


def _pairs(values: dict[str, str]) -> list[str]:
    return [f" {name + ':':<18}{value}" for name, value in values.items() if value]


@click.command("info", short_help="Show the engine and its host")
@_layout
@click.pass_obj
def info_command(session: Session, layout: str) -> None:
    """Show where the engine keeps things, what it holds, and its host."""
    info = session.client.system.info()
    fields = {
        "ID": info.id,
        "Name": info.hostname,
        "OperatingSystem": info.operating_system,
        "NCPU": info.cpus,
        "MemTotal": info.memory_bytes,
        "Containers": info.containers,
        "ContainersRunning": info.containers_running,
        "ContainersPaused": info.containers_paused,
        "ContainersStopped": info.containers_stopped,
        "Images": info.images,
        "Driver": info.snapshotter,
        "CgroupVersion": info.cgroup_version,
        "CgroupParent": info.cgroup_parent,
        "SecurityOptions": list(info.security),
        "DockerRootDir": info.root,
        "Root": info.root,
        "State": info.state,
        "Pid": info.pid,
        "StartedAt": moments.rfc3339(info.started_at_ns),
        "Warnings": list(info.warnings),
    }
    if layout:
        print(render(layout, fields))
        return
    shown = {
        "Address": session.client.address,
        "Root": info.root,
        "State": info.state,
        "Started": f"{moments.local(info.started_at_ns)} (pid {info.pid})",
        "Containers": f"{info.containers} ({info.containers_running} running, {info.containers_paused} paused, "
        f"{info.containers_stopped} stopped)",
        "Images": str(info.images),
        "Snapshotter": info.snapshotter,
        "Cgroups": f"v{info.cgroup_version}, below {info.cgroup_parent}",
        "Security": ", ".join(info.security),
        "Host": f"{info.hostname}, {info.operating_system}",
        "CPUs": str(info.cpus),
        "Memory": format_binary(info.memory_bytes),
    }
    print("\n".join([f"{name + ':':<13}{value}" for name, value in shown.items()]))
    for warning in info.warnings:
        print(f"WARNING: {warning}")
