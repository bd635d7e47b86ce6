"""`corten stop`, `kill`, `rm`, `wait`, `pause`, `unpause` and `rename`."""

from __future__ import annotations

import click
from corten_api.errors import NotFound

from corten.cli.session import Session

_many = click.argument("containers", nargs=-1, required=True)


@click.command("stop", short_help="Stop running containers")
@click.option("-t", "--timeout", "--time", "grace", type=float, metavar="SECONDS", help="Before SIGKILL [its own, 10]")
@click.option("-s", "--signal", default="", metavar="SIGNAL", help="Instead of its stop signal")
@_many
@click.pass_obj
def stop_command(session: Session, containers: tuple[str, ...], grace: float | None, signal: str) -> int:
    """Ask containers to end, and kill those that do not."""

    def stop(name: str) -> str:
        session.client.tasks.stop(name, grace=grace, signal=signal)
        return name

    return session.each(containers, stop)


@click.command("kill", short_help="Send a signal to running containers")
@click.option("-s", "--signal", default="KILL", metavar="SIGNAL", show_default=True)
@_many
@click.pass_obj
def kill_command(session: Session, containers: tuple[str, ...], signal: str) -> int:
    """Send a signal to the main process of containers."""

    def kill(name: str) -> str:
        session.client.tasks.kill(name, signal=signal)
        return name

    return session.each(containers, kill)


@click.command("rm", short_help="Remove containers")
@click.option("-f", "--force", is_flag=True, help="Kill it where it runs; fine where it is not there")
@click.option("-v", "--volumes", is_flag=True, help="And its anonymous volumes (there are none in this version)")
@_many
@click.pass_obj
def rm_command(session: Session, containers: tuple[str, ...], force: bool, volumes: bool) -> int:
    """Remove containers and their files."""

    def remove(name: str) -> str | None:
        try:
            session.client.containers.delete(name, force=force)
        except NotFound:
            if force:
                return None
            raise
        return name

    return session.each(containers, remove)


@click.command("wait", short_help="Wait until containers end")
@click.option(
    "--condition", type=click.Choice(["not-running", "next-exit", "removed"]), default="not-running", show_default=True
)
@_many
@click.pass_obj
def wait_command(session: Session, containers: tuple[str, ...], condition: str) -> int:
    """Wait until containers end, and print their exit codes."""
    return session.each(containers, lambda name: str(session.client.tasks.wait(name, condition=condition).exit_code))


@click.command("pause", short_help="Freeze containers")
@_many
@click.pass_obj
def pause_command(session: Session, containers: tuple[str, ...]) -> int:
    """Freeze every process of containers."""

    def pause(name: str) -> str:
        session.client.tasks.pause(name)
        return name

    return session.each(containers, pause)


@click.command("unpause", short_help="Let paused containers go on")
@_many
@click.pass_obj
def unpause_command(session: Session, containers: tuple[str, ...]) -> int:
    """Let paused containers go on."""

    def resume(name: str) -> str:
        session.client.tasks.resume(name)
        return name

    return session.each(containers, resume)


@click.command("rename", short_help="Give a container another name")
@click.argument("container")
@click.argument("name")
@click.pass_obj
def rename_command(session: Session, container: str, name: str) -> None:
    """Give CONTAINER another NAME."""
    session.client.containers.rename(container, name)
