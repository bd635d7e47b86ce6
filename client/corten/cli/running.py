"""`corten run` and `corten create`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click
from corten_api.errors import CortenError, NotFound

from corten.cli import terminal
from corten.cli.config import container_config
from corten.cli.options import container_options, detach_keys_option, sig_proxy_option
from corten.cli.parameters import usage_error
from corten.cli.session import Session, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.containers import ContainerConfig, Created

_SETTINGS = {"allow_interspersed_args": False}
_arguments = (
    click.argument("image"),
    click.argument("command", nargs=-1, type=click.UNPROCESSED),
)


@click.command("create", context_settings=_SETTINGS, short_help="Make a container without starting it")
@container_options
@_arguments[0]
@_arguments[1]
@click.pass_obj
def create_command(session: Session, /, image: str, command: tuple[str, ...], **given: Any) -> None:
    """Make a container from IMAGE that will run COMMAND, and print its id."""
    session.runs_containers()
    config = container_config(image, command, given)
    print(_create(session, config, given).container.id)


@click.command("run", context_settings=_SETTINGS, short_help="Run a command in a new container")
@click.option("-d", "--detach", is_flag=True, help="Let it run in the background and print its id")
@container_options
@detach_keys_option
@sig_proxy_option
@_arguments[0]
@_arguments[1]
@click.pass_obj
def run_command(session: Session, /, image: str, command: tuple[str, ...], **given: Any) -> int:
    """Run COMMAND (or what the image says) in a new container made from IMAGE.

    The exit code is the command's; 125 when the engine failed, 126 when the command cannot be executed, 127 when it is
    not there.
    """
    session.runs_containers()
    if given["interactive"] and given["tty"] and not given["detach"] and not terminal.is_terminal(terminal.STDIN):
        raise usage_error("the input device is not a TTY: leave out -t")
    config = container_config(image, command, given)
    container = _create(session, config, given).container.id
    if given["detach"]:
        _starter(session, container, config)()
        print(container)
        return 0
    from corten.cli.pump import Foreground

    foreground = Foreground(
        session.client,
        container,
        stdin=given["interactive"],
        detach_keys=given["detach_keys"],
        sig_proxy=given["sig_proxy"],
        owned=True,
    )
    with foreground.attach() as attachment:
        return foreground.run(attachment, _starter(session, container, config))


def _starter(session: Session, container: str, config: ContainerConfig) -> Callable[[], None]:
    """Starts the container; one that was to be removed at its end does not stay when it cannot begin."""

    def start() -> None:
        try:
            warn(session.client.tasks.start(container).warnings)
        except CortenError:
            if config.auto_remove:
                _remove(session, container)
            raise

    return start


def _remove(session: Session, container: str) -> None:
    try:
        session.client.containers.delete(container, force=True)
    except NotFound:
        return  # the engine was faster


def _create(session: Session, config: ContainerConfig, given: dict[str, Any]) -> Created:
    """Makes the container, pulls its image before that where it has to."""
    note = _open_note(given["cidfile"])
    if given["pull"] == "always":
        _pull(session, config.image, quiet=given["quiet"])
    try:
        made = session.client.containers.create(config, name=given["name"])
    except NotFound as error:
        if error.kind != "image" or given["pull"] != "missing":
            raise
        print(f"Unable to find image '{config.image}' locally", file=sys.stderr)
        _pull(session, config.image, quiet=given["quiet"])
        made = session.client.containers.create(config, name=given["name"])
    warn(made.warnings)
    if note is not None:
        with os.fdopen(note, "w") as file:
            file.write(made.container.id)
    return made


def _open_note(path: str | None) -> int | None:
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise usage_error(f"{path} is there already: --cidfile writes a new file") from None


def _pull(session: Session, image: str, *, quiet: bool) -> None:
    from corten.cli.progress import follow

    follow(session.client.images.pull(image), image, quiet=quiet)
