"""`corten tasks`: running processes themselves, for debugging."""

from __future__ import annotations

import click

from corten.cli.output import format_option, show
from corten.cli.session import Session
from corten.cli.table import Columns

_TASKS = Columns(
    {
        "ID": "CONTAINER ID",
        "Names": "NAMES",
        "Pid": "PID",
        "State": "STATE",
        "ExitCode": "EXIT CODE",
        "Reason": "REASON",
    },
    ("ID", "Names", "Pid", "State", "ExitCode"),
)
_PIDS = Columns({"Pid": "PID", "ExecID": "EXEC ID"}, ("Pid", "ExecID"))


@click.group("tasks", short_help="Running processes of containers, for debugging")
def tasks_command() -> None:
    """Look at tasks: what runs of a container, or ended and is not forgotten."""


@tasks_command.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print container ids only")
@format_option
@click.pass_obj
def list_tasks(session: Session, quiet: bool, layout: str) -> None:
    """List containers that run or ran, by their tasks."""
    rows = [
        {
            "ID": container.id[:12],
            "Names": container.name,
            "Pid": container.state.pid,
            "State": container.state.status,
            "ExitCode": container.state.exit_code,
            "Reason": container.state.reason,
        }
        for container in session.client.containers.list(all=True)
        if container.state.status != "created"
    ]
    if quiet:
        for row in rows:
            print(row["ID"])
        return
    show(_TASKS, rows, layout)


@tasks_command.command("pids")
@format_option
@click.argument("container")
@click.pass_obj
def task_pids(session: Session, container: str, layout: str) -> None:
    """List the processes of CONTAINER by their pids on the host."""
    rows = [{"Pid": process.pid, "ExecID": process.exec_id[:12]} for process in session.client.tasks.pids(container)]
    show(_PIDS, rows, layout)


@tasks_command.command("kill")
@click.option("-s", "--signal", default="TERM", show_default=True, metavar="SIGNAL")
@click.option("-a", "--all", "everything", is_flag=True, help="Every process of the container")
@click.option("--exec-id", default="", metavar="ID", help="Of a process that was exec'd")
@click.argument("container")
@click.pass_obj
def kill_task(session: Session, container: str, signal: str, everything: bool, exec_id: str) -> None:
    """Send a signal."""
    session.client.tasks.kill(container, signal=signal, exec_id=exec_id, all=everything)


@tasks_command.command("wait")
@click.option("--exec-id", default="", metavar="ID", help="Of a process that was exec'd")
@click.argument("container")
@click.pass_obj
def wait_task(session: Session, container: str, exec_id: str) -> None:
    """Wait for the end, and print the exit code."""
    print(session.client.tasks.wait(container, exec_id=exec_id).exit_code)


@tasks_command.command("delete")
@click.argument("containers", nargs=-1, required=True)
@click.pass_obj
def delete_tasks(session: Session, containers: tuple[str, ...]) -> int:
    """Forget ended tasks; their shims end, the containers stay."""

    def delete(name: str) -> str:
        session.client.tasks.delete(name)
        return name

    return session.each(containers, delete)
