"""The options of `run` and `create`, as docker names them.

Owns names, metavars and help. What they mean together is `config`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from corten.cli import assignments, keys, mounts, sizes
from corten.cli.parameters import Parsed

F = TypeVar("F", bound=Callable[..., Any])

BYTES = Parsed(sizes.parse_bytes, "bytes")
DETACH_KEYS = Parsed(keys.parse_keys, "keys")
ENVIRONMENT = Parsed(lambda text: assignments.parse_environment(text) or "", "variable")
ENVIRONMENT_FILE = Parsed(assignments.read_environment, "file")


def _option(*names: str, many: bool = False, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, multiple=many, **settings)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _option("-i", "--interactive", is_flag=True, help="Keep stdin open"),
    _option("-t", "--tty", is_flag=True, help="Give it a terminal"),
    _option("--rm", "auto_remove", is_flag=True, help="Remove the container when it ends"),
    _option("--name", default="", metavar="NAME", help="Of the container"),
    _option("-e", "--env", many=True, type=ENVIRONMENT, metavar="NAME[=VALUE]", help="Set a variable"),
    _option("--env-file", many=True, type=ENVIRONMENT_FILE, metavar="FILE", help="Set the variables of a file"),
    _option("-w", "--workdir", default="", metavar="DIR", help="Working directory in the container"),
    _option("-u", "--user", default="", metavar="USER[:GROUP]", help="Who it runs as"),
    _option(
        *("-v", "--volume"),
        many=True,
        type=Parsed(mounts.parse_volume, "mount"),
        metavar="SRC:DST[:ro]",
        help="Bind a host path; a missing directory is made",
    ),
    _option(
        *("--mount",),
        many=True,
        type=Parsed(mounts.parse_mount, "mount"),
        metavar="KEY=VALUE,...",
        help="Mount a bind or a tmpfs: type=bind,source=/a,target=/b,readonly",
    ),
    _option(
        *("--tmpfs",),
        many=True,
        type=Parsed(mounts.parse_tmpfs, "mount"),
        metavar="DST[:OPTIONS]",
        help="Mount a tmpfs: /run:size=64m,mode=755",
    ),
    _option("--entrypoint", metavar="PROGRAM", help="Instead of the image's; empty for none"),
    _option("-h", "--hostname", default="", metavar="NAME", help="In the container"),
    _option("--domainname", default="", metavar="NAME", help="In the container"),
    _option("--network", "--net", default="none", metavar="none|host", show_default=True, help="Its network"),
    _option("-m", "--memory", type=BYTES, default="0", metavar="BYTES", help="Limit of memory: 512m, 2g"),
    _option(
        *("--memory-swap",),
        type=Parsed(sizes.parse_swap, "bytes"),
        default="0",
        metavar="BYTES",
        help="Limit of memory and swap; -1 for none",
    ),
    _option("--memory-reservation", type=BYTES, default="0", metavar="BYTES", help="What it may keep under pressure"),
    _option("--cpus", type=Parsed(sizes.parse_cpus, "number"), default="0", metavar="N", help="Limit of CPUs: 1.5"),
    _option("-c", "--cpu-shares", type=int, default=0, metavar="N", help="Weight against other containers"),
    _option("--cpuset-cpus", default="", metavar="LIST", help="CPUs it may run on: 0-3,7"),
    _option("--cpuset-mems", default="", metavar="LIST", help="Memory nodes it may use"),
    _option("--pids-limit", type=int, default=0, metavar="N", help="Limit of processes; -1 for none"),
    _option("--cap-add", many=True, metavar="NAME", help="Add a capability, or ALL"),
    _option("--cap-drop", many=True, metavar="NAME", help="Drop a capability, or ALL"),
    _option(
        *("--security-opt",),
        many=True,
        metavar="OPTION",
        help="no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE, label=..., systempaths=unconfined",
    ),
    _option("--privileged", is_flag=True, help="Every capability and device, no confinement"),
    _option("--device", many=True, metavar="SRC[:DST[:rwm]]", help="Give it a device of the host"),
    _option("--read-only", is_flag=True, help="Mount its root filesystem read-only"),
    _option(
        *("--ulimit",),
        many=True,
        type=Parsed(assignments.parse_ulimit, "limit"),
        metavar="NAME=SOFT[:HARD]",
        help="Limit of a process: nofile=1024:2048",
    ),
    _option(
        *("-l", "--label"),
        many=True,
        type=Parsed(assignments.parse_label, "label"),
        metavar="KEY[=VALUE]",
        help="Label the container",
    ),
    _option(
        *("--label-file",),
        many=True,
        type=Parsed(assignments.read_labels, "file"),
        metavar="FILE",
        help="Label it with the lines of a file",
    ),
    _option(
        *("--annotation",),
        many=True,
        type=Parsed(assignments.parse_label, "label"),
        metavar="KEY=VALUE",
        help="Annotate its OCI spec",
    ),
    _option("--stop-signal", default="", metavar="SIGNAL", help="That asks it to end [SIGTERM]"),
    _option("--stop-timeout", type=float, metavar="SECONDS", help="Between that and SIGKILL [10]"),
    _option("--shm-size", type=BYTES, default="0", metavar="BYTES", help="Of /dev/shm [64m]"),
    _option("--add-host", many=True, metavar="NAME:ADDRESS", help="Add a line to /etc/hosts"),
    _option("--oom-score-adj", type=click.IntRange(-1000, 1000), metavar="N", help="-1000 to 1000"),
    _option("--umask", type=Parsed(lambda text: int(text, 8), "octal"), metavar="OCTAL", help="Of its process [0022]"),
    _option("--log-opt", many=True, metavar="KEY=VALUE", help="max-size=10m, max-file=3"),
    _option("--pull", type=click.Choice(["missing", "always", "never"]), default="missing", show_default=True),
    _option("-q", "--quiet", is_flag=True, help="Show no progress of a pull"),
    _option("--cidfile", metavar="FILE", help="Write the container's id to a new file"),
)


def container_options(command: F) -> F:
    """Everything that says what a container is."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def detach_keys_option(command: F) -> F:
    """`--detach-keys`, of the commands that attach."""
    return click.option(
        "--detach-keys", type=DETACH_KEYS, default=keys.DEFAULT, metavar="KEYS", show_default=True, help="To leave it"
    )(command)


def sig_proxy_option(command: F) -> F:
    """`--sig-proxy`, of the commands that attach."""
    return click.option(
        "--sig-proxy", type=click.BOOL, is_flag=False, flag_value=True, default=True, help="Forward signals [true]"
    )(command)
