"""`corten attach` and `corten start`."""

from __future__ import annotations

import click
from corten_api.errors import FailedPrecondition

from corten.cli.options import detach_keys_option, sig_proxy_option
from corten.cli.parameters import usage_error
from corten.cli.session import Session, warn


@click.command("attach", short_help="Attach to a running container")
@click.option("--no-stdin", is_flag=True, help="Only look")
@detach_keys_option
@sig_proxy_option
@click.argument("container")
@click.pass_obj
def attach_command(session: Session, container: str, no_stdin: bool, detach_keys: bytes, sig_proxy: bool) -> int:
    """Attach your terminal to a running CONTAINER. The exit code is its."""
    session.runs_containers()
    found = session.client.containers.get(container)
    if found.state.status != "running":
        raise FailedPrecondition("container", container, f"it is {found.state.status}, not running")
    return _attach(session, found.id, stdin=found.config.open_stdin and not no_stdin, keys=detach_keys, proxy=sig_proxy)


@click.command("start", short_help="Start containers")
@click.option("-a", "--attach", is_flag=True, help="Show its output and forward signals")
@click.option("-i", "--interactive", is_flag=True, help="Attach stdin too")
@detach_keys_option
@sig_proxy_option
@click.argument("containers", nargs=-1, required=True)
@click.pass_obj
def start_command(
    session: Session,
    containers: tuple[str, ...],
    attach: bool,
    interactive: bool,
    detach_keys: bytes,
    sig_proxy: bool,
) -> int:
    """Start containers that were created or have ended."""
    if not (attach or interactive):
        return session.each(containers, lambda name: _start(session, name))
    if len(containers) != 1:
        raise usage_error("only one container can be attached to")
    session.runs_containers()
    found = session.client.containers.get(containers[0])
    if found.state.status == "running":
        return _attach(session, found.id, stdin=interactive, keys=detach_keys, proxy=sig_proxy)
    stdin = interactive and found.config.open_stdin
    return _attach(session, found.id, stdin=stdin, keys=detach_keys, proxy=sig_proxy, start=True)


def _start(session: Session, name: str) -> str:
    warn(session.client.tasks.start(name).warnings)
    return name


def _attach(session: Session, container: str, *, stdin: bool, keys: bytes, proxy: bool, start: bool = False) -> int:
    from corten.cli.pump import Foreground

    foreground = Foreground(session.client, container, stdin=stdin, detach_keys=keys, sig_proxy=proxy)
    with foreground.attach() as attachment:
        return foreground.run(attachment, (lambda: _started(session, container)) if start else None)


def _started(session: Session, container: str) -> None:
    warn(session.client.tasks.start(container).warnings)
