"""`corten exec`."""

from __future__ import annotations

from typing import Any

import click

from corten.cli import terminal
from corten.cli.config import environment
from corten.cli.options import ENVIRONMENT, ENVIRONMENT_FILE, detach_keys_option
from corten.cli.parameters import usage_error
from corten.cli.session import Session


@click.command("exec", context_settings={"allow_interspersed_args": False}, short_help="Run a command in a container")
@click.option("-d", "--detach", is_flag=True, help="Let it run in the background")
@click.option("-i", "--interactive", is_flag=True, help="Keep stdin open")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal")
@click.option("-e", "--env", multiple=True, type=ENVIRONMENT, metavar="NAME[=VALUE]", help="Set a variable")
@click.option("--env-file", multiple=True, type=ENVIRONMENT_FILE, metavar="FILE", help="Set the variables of a file")
@click.option("-w", "--workdir", default="", metavar="DIR", help="Working directory in the container")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]", help="Who it runs as")
@click.option("--privileged", is_flag=True, help="With every capability")
@detach_keys_option
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def execute_command(session: Session, /, container: str, command: tuple[str, ...], **given: Any) -> int:
    """Run COMMAND in a running CONTAINER. The exit code is the command's."""
    session.runs_containers()
    detach = given["detach"]
    if given["interactive"] and given["tty"] and not detach and not terminal.is_terminal(terminal.STDIN):
        raise usage_error("the input device is not a TTY: leave out -t")
    process = session.client.tasks.exec(
        container,
        command,
        environment=environment(given["env_file"], given["env"]),
        working_directory=given["workdir"],
        user=given["user"],
        terminal=given["tty"],
        open_stdin=given["interactive"],
        privileged=given["privileged"],
        attach_first=not detach,
    )
    if detach:
        return 0
    from corten.cli.pump import Foreground

    foreground = Foreground(
        session.client,
        container,
        exec_id=process.exec_id,
        stdin=given["interactive"],
        detach_keys=given["detach_keys"],
        owned=True,
    )
    with foreground.attach() as attachment:
        return foreground.run(attachment)
