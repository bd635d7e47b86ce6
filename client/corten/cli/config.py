"""From the options of `run` and `create` to a container's intent."""

from __future__ import annotations

from typing import Any

from corten.cli.parameters import usage_error
from corten.cli.sizes import parse_bytes
from corten.containers import ContainerConfig, LogOptions, Resources, Security

_TRUE = ("", "true", "1")


def container_config(image: str, command: tuple[str, ...], given: dict[str, Any]) -> ContainerConfig:
    """The intent that the options stand for. Raises click.UsageError."""
    entrypoint = given["entrypoint"]
    labels = [pair for file in given["label_file"] for pair in file] + list(given["label"])
    return ContainerConfig(
        image=image,
        entrypoint=(entrypoint,) if entrypoint else (),
        clear_entrypoint=entrypoint == "",
        command=command,
        environment=environment(given["env_file"], given["env"]),
        working_directory=given["workdir"],
        user=given["user"],
        hostname=given["hostname"],
        domainname=given["domainname"],
        terminal=given["tty"],
        open_stdin=given["interactive"],
        stdin_once=given["interactive"] and not given.get("detach", True),
        labels=dict(labels),
        annotations=dict(given["annotation"]),
        stop_signal=given["stop_signal"],
        stop_timeout=given["stop_timeout"],
        mounts=(*given["volume"], *given["mount"], *given["tmpfs"]),
        network=given["network"],
        resources=_resources(given),
        security=_security(given),
        ulimits=given["ulimit"],
        auto_remove=given["auto_remove"],
        read_only=given["read_only"],
        shm_size=given["shm_size"],
        oom_score_adj=given["oom_score_adj"],
        umask=given["umask"],
        extra_hosts=given["add_host"],
        log=_log(given["log_opt"]),
    )


def environment(files: tuple[list[str], ...], single: tuple[str, ...]) -> tuple[str, ...]:
    """Variables in the order in which later ones win: those of files first."""
    return tuple([variable for file in files for variable in file] + [variable for variable in single if variable])


def _resources(given: dict[str, Any]) -> Resources:
    return Resources(
        memory_bytes=given["memory"],
        memory_swap_bytes=given["memory_swap"],
        memory_reservation_bytes=given["memory_reservation"],
        cpu_nanos=given["cpus"],
        cpu_shares=given["cpu_shares"],
        cpuset_cpus=given["cpuset_cpus"],
        cpuset_mems=given["cpuset_mems"],
        pids_limit=given["pids_limit"],
    )


def _security(given: dict[str, Any]) -> Security:
    found: dict[str, Any] = {
        "cap_add": given["cap_add"],
        "cap_drop": given["cap_drop"],
        "privileged": given["privileged"],
        "devices": given["device"],
    }
    for option in given["security_opt"]:
        _security_option(option, found)
    return Security(**found)


def _security_option(option: str, found: dict[str, Any]) -> None:
    cut = min((at for at in (option.find("="), option.find(":")) if at >= 0), default=len(option))
    name, value = option[:cut], option[cut + 1 :]
    if name == "no-new-privileges" and value in (*_TRUE, "false", "0"):
        found["no_new_privileges"] = value in _TRUE
    elif name == "seccomp" and value:
        found["seccomp"] = value if value == "unconfined" else _profile(value)
    elif name == "apparmor" and value:
        found["apparmor"] = value
    elif name == "label" and value:
        found["selinux"] = (*found.get("selinux", ()), value)
    elif option in ("systempaths=unconfined", "systempaths:unconfined"):
        found["unmask_paths"] = True
    else:
        known = "no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE, label=..., systempaths=unconfined"
        raise usage_error(f'"{option}" is no security option: there are {known}')


def _profile(path: str) -> str:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        json.loads(text)
    except OSError as error:
        raise usage_error(f"seccomp profile {path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise usage_error(f"seccomp profile {path}: it is no JSON: {error}") from None
    return text


def _log(options: tuple[str, ...]) -> LogOptions:
    found: dict[str, int] = {}
    for option in options:
        key, _, value = option.partition("=")
        try:
            if key == "max-size":
                found["max_bytes"] = parse_bytes(value)
            elif key == "max-file":
                found["max_files"] = int(value)
            else:
                raise ValueError("there are max-size and max-file")
        except ValueError as error:
            raise usage_error(f'"{option}" is no log option: {error}') from None
    return LogOptions(**found)
