"""The spec of a container, as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from corten_api.errors import InvalidArgument
from cortend.domain.containers import (
    ContainerConfig,
    ExecConfig,
    MountPoint,
    MountType,
    Resources,
    Security,
    Ulimit,
)
from cortend.oci import capabilities, runtime_spec
from cortend.oci.image_config import ImageConfig
from cortend.oci.platform import Platform
from cortend.oci.runtime_spec import Device, HostFacts, Placement

HOST = HostFacts(
    architecture="amd64",
    kernel=(6, 1),
    capabilities=frozenset(capabilities.ALL),
    apparmor_profile="",
    selinux=False,
    cpus=2,
)
IMAGE = ImageConfig(
    platform=Platform(os="linux", architecture="amd64"),
    entrypoint=("/entry",),
    command=("serve",),
    environment=("PATH=/image/bin", "COLOUR=red"),
    user="nobody",
    working_directory="/srv",
)


def spec(devices: tuple[Device, ...] = (), **config: Any) -> dict[str, Any]:
    placement = Placement(
        container_id="c" * 64, bundle=Path("/b"), cgroup_path="/corten/c", hostname="cafe", devices=devices
    )
    return runtime_spec.runtime_spec(
        config=ContainerConfig(image="x", **config), image=IMAGE, placement=placement, host=HOST
    )


def mount(section: dict[str, Any], target: str) -> dict[str, Any]:
    (found,) = (entry for entry in section["mounts"] if entry["destination"] == target)
    return dict(found)


@pytest.mark.parametrize(
    ("config", "argv"),
    [
        ({}, ["/entry", "serve"]),
        ({"command": ("sh",)}, ["/entry", "sh"]),
        ({"entrypoint": ("/mine",)}, ["/mine"]),
        ({"entrypoint": ("/mine",), "command": ("x",)}, ["/mine", "x"]),
        ({"clear_entrypoint": True, "command": ("sh", "-c", "id")}, ["sh", "-c", "id"]),
    ],
)
def test_entrypoint_and_command_combine_as_in_docker(config: dict[str, Any], argv: list[str]) -> None:
    assert spec(**config)["process"]["args"] == argv


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="what to run"):
        spec(clear_entrypoint=True)


def test_the_environment_is_the_images_then_the_users() -> None:
    env = spec(environment=("COLOUR=blue", "NEW=1", "HOSTNAME"))["process"]["env"]
    assert env == ["PATH=/image/bin", "COLOUR=blue", "NEW=1"]


def test_user_and_directory_come_from_the_image_unless_said() -> None:
    process = spec()["process"]
    assert (process["user"]["username"], process["cwd"]) == ("nobody", "/srv")
    process = spec(user="0:0", working_directory="/w")["process"]
    assert (process["user"]["username"], process["cwd"]) == ("0:0", "/w")


def test_no_capability_is_inheritable_or_ambient() -> None:
    sets = spec()["process"]["capabilities"]
    assert set(sets) == {"bounding", "effective", "permitted"}
    assert set(sets["bounding"]) == capabilities.DEFAULT


def test_mounts_come_parent_first_and_the_users_replace_the_defaults() -> None:
    tmpfs = MountPoint(type=MountType.TMPFS, target="/dev/shm/", options=("size=1m", "exec"))
    section = spec(mounts=(tmpfs, MountPoint(type=MountType.BIND, source="/s", target="/dev", read_only=True)))
    targets = [entry["destination"] for entry in section["mounts"]]
    assert targets.index("/dev") < targets.index("/dev/pts")
    assert mount(section, "/dev/shm")["options"] == ["nosuid", "nodev", "size=1m"]
    assert mount(section, "/dev") == {
        "destination": "/dev",
        "type": "bind",
        "source": "/s",
        "options": ["rbind", "rprivate", "rro"],
    }


@pytest.mark.parametrize("target", ["relative", "/", "/..", ""])
def test_a_mount_target_must_lie_below_the_root(target: str) -> None:
    with pytest.raises(InvalidArgument, match="mount target"):
        spec(mounts=(MountPoint(type=MountType.BIND, source="/s", target=target),))


def test_two_mounts_on_one_target_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="/data"):
        spec(mounts=tuple(MountPoint(type=MountType.TMPFS, target=t) for t in ("/data", "/data/")))


def test_sysfs_and_cgroups_are_read_only_unless_privileged() -> None:
    assert {"ro"} <= set(mount(spec(), "/sys")["options"]) & set(mount(spec(), "/sys/fs/cgroup")["options"])
    assert "rw" in mount(spec(security=Security(privileged=True)), "/sys")["options"]


def test_kernel_settings_are_masked_unless_unmasked() -> None:
    assert "/proc/kcore" in spec()["linux"]["maskedPaths"]
    assert "/proc/sys" in spec()["linux"]["readonlyPaths"]
    assert "maskedPaths" not in spec(security=Security(unmask_paths=True))["linux"]


def test_devices_are_denied_before_any_is_allowed() -> None:
    rules = spec(devices=(Device(path="/dev/fuse", kind="c", major=10, minor=229, access="rw"),))["linux"]["resources"][
        "devices"
    ]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert rules[-1] == {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}


def test_limits_become_the_ocis_numbers() -> None:
    limits = Resources(memory_bytes=64 << 20, cpu_nanos=1_500_000_000, pids_limit=100, cpuset_cpus="0")
    section = spec(resources=limits, ulimits=(Ulimit(name="nofile", soft=10, hard=-1),))
    resources = section["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    assert resources["cpu"] == {"period": 100_000, "quota": 150_000, "cpus": "0"}
    assert resources["pids"] == {"limit": 100}
    assert section["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**64 - 1}]


def test_host_network_keeps_the_hosts_namespace_and_its_settings() -> None:
    linux = spec(network="host")["linux"]
    assert "network" not in {entry["type"] for entry in linux["namespaces"]}
    assert "sysctl" not in linux
    assert spec()["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"


def test_privileged_has_no_seccomp_and_default_has() -> None:
    assert "seccomp" not in spec(security=Security(privileged=True))["linux"]
    assert "seccomp" not in spec(security=Security(seccomp="unconfined"))["linux"]
    assert spec()["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"


def test_apparmor_asked_for_on_a_host_without_it_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="custom"):
        spec(security=Security(apparmor="custom"))


def test_exec_takes_the_containers_process_and_changes_only_what_is_said() -> None:
    base = spec()
    plain = runtime_spec.exec_process(base, ExecConfig(argv=("id",)), HOST)
    assert plain == {**base["process"], "args": ["id"]}
    asked = ExecConfig(
        argv=("sh",), environment=("A=b",), user="root", working_directory="/tmp", terminal=True, privileged=True
    )
    process = runtime_spec.exec_process(base, asked, HOST)
    assert process["user"]["username"] == "root"
    assert process["cwd"] == "/tmp"
    assert {"A=b", "TERM=xterm"} <= set(process["env"])
    assert set(process["capabilities"]["bounding"]) == set(capabilities.ALL)
    assert base["process"]["terminal"] is False


def test_a_container_that_is_removed_when_it_ends_has_a_volatile_root() -> None:
    assert spec(auto_remove=True)["annotations"][runtime_spec.VOLATILE_ANNOTATION] == "true"
    assert runtime_spec.VOLATILE_ANNOTATION not in spec()["annotations"]
