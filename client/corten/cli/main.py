"""The command line: which commands there are, global options, and how a failure ends.

Owns the table of commands; each is imported when it is asked for, so that `corten ps` pays for `ps` only.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click
from corten_api.errors import CortenError

from corten.cli.session import ENGINE_FAILED, Session, complain

_HOMES = {
    "running": "run create",
    "attaching": "start attach",
    "execute": "exec",
    "lifecycle": "stop kill rm wait pause unpause rename",
    "listing": "ps",
    "logs": "logs",
    "pulling": "pull load",
    "images": "images rmi tag",
    "inspecting": "inspect",
    "events": "events",
    "system": "info version",
    "content": "content",
    "snapshots": "snapshots",
    "tasks": "tasks",
    "shims": "shims",
}
_COMMANDS = {name: home for home, names in _HOMES.items() for name in names.split()}
_ATTRIBUTES = {"exec": "execute"}


class Commands(click.Group):
    """The commands, imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _COMMANDS.get(cmd_name)
        if home is None:
            return None
        command = getattr(import_module(f"corten.cli.{home}"), f"{_ATTRIBUTES.get(cmd_name, cmd_name)}_command")
        assert isinstance(command, click.Command)
        return command


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        print(f"corten version {version('corten')}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"max_content_width": 120})
@click.option("--address", "-H", metavar="URL", help="Of the engine: unix:///path or tcp://host:port [CORTEN_ADDRESS]")
@click.option("--namespace", metavar="NAME", help="That the containers belong to [CORTEN_NAMESPACE]")
@click.option("--version", "-v", is_flag=True, is_eager=True, expose_value=False, callback=_version)
@click.pass_obj
def cli(session: Session, address: str | None, namespace: str | None) -> None:
    """Run and manage containers."""
    session.address = address
    session.namespace = namespace


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; its exit code."""
    session = Session()
    try:
        code = cli.main(args=arguments, prog_name="corten", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return ENGINE_FAILED
    except click.ClickException as error:
        return _misused(error)
    except CortenError as error:
        complain(str(error))
        return session.exit_code(error)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        return _stdout_gone()
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return session.failure
    return code if isinstance(code, int) else 0


def _misused(error: click.ClickException) -> int:
    complain(error.format_message())
    context: Any = getattr(error, "ctx", None)
    if context is not None:
        print(f"See '{context.command_path} --help'.", file=sys.stderr)
    return ENGINE_FAILED


def _stdout_gone() -> int:
    """The reader of our output went away: what a shell expects of who writes on is death by SIGPIPE."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    return 141


def _open_standard_streams() -> None:
    """A descriptor below 3 that is closed would become the engine's socket, and output would go there."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def main() -> NoReturn:
    """The console script. Ends the process at once: threads may still be waiting for input nobody will send.

    The collector hardly runs: it takes 4 ms of the imports and finds nothing.
    """
    gc.set_threshold(50_000)
    _open_standard_streams()
    code = invoke()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 141
    os._exit(code)
