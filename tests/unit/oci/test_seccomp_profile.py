"""Which system calls the default profile allows, and how a user's profile is resolved."""

from __future__ import annotations

import json
from typing import Any

import pytest
from corten_api.errors import InvalidArgument
from cortend.oci import capabilities, seccomp_profile

FORBIDDEN = (
    "add_key keyctl request_key bpf init_module finit_module delete_module kexec_load kexec_file_load mount umount2 "
    "pivot_root setns unshare open_by_handle_at perf_event_open userfaultfd io_uring_setup io_uring_enter "
    "io_uring_register swapon swapoff reboot settimeofday iopl ioperm acct quotactl nfsservctl move_pages "
    "lookup_dcookie clone3 fsopen fsmount move_mount open_tree mount_setattr"
).split()


def allowed(section: dict[str, Any]) -> set[str]:
    plain = (rule for rule in section["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule)
    return {name for rule in plain for name in rule["names"]}


def rules(section: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [rule for rule in section["syscalls"] if name in rule["names"]]


def test_what_docker_forbids_is_forbidden() -> None:
    assert not allowed(seccomp_profile.default(capabilities.DEFAULT, "amd64")) & set(FORBIDDEN)


def test_everything_else_fails_with_eperm() -> None:
    section = seccomp_profile.default(capabilities.DEFAULT, "amd64")
    assert (section["defaultAction"], section["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)


def test_clone_may_make_no_namespace_and_clone3_is_unknown() -> None:
    section = seccomp_profile.default(capabilities.DEFAULT, "amd64")
    (clone,) = rules(section, "clone")
    assert clone["args"] == [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    (clone3,) = rules(section, "clone3")
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def test_vsock_is_the_one_family_that_is_refused() -> None:
    (socket,) = rules(seccomp_profile.default((), "amd64"), "socket")
    assert socket["args"] == [{"index": 0, "value": 40, "valueTwo": 0, "op": "SCMP_CMP_NE"}]


def test_a_capability_opens_its_calls() -> None:
    section = seccomp_profile.default({"CAP_SYS_ADMIN"}, "amd64")
    assert {"mount", "setns", "clone", "clone3"} <= allowed(section)
    assert "reboot" in allowed(seccomp_profile.default({"CAP_SYS_BOOT"}, "amd64"))


def test_a_64_bit_host_filters_32_bit_programs_too() -> None:
    assert seccomp_profile.default((), "amd64")["architectures"] == [
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
    ]


def profile(**rule: Any) -> str:
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", **rule}],
        }
    )


def resolve(text: str, caps: tuple[str, ...] = ()) -> dict[str, Any]:
    return seccomp_profile.from_user(text, capabilities=caps, architecture="amd64", kernel=(6, 1))


def test_a_users_profile_in_dockers_form_is_resolved() -> None:
    section = resolve(profile())
    assert section["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert section["syscalls"] == [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"includes": {"arches": ["amd64", "arm64"]}}, True),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "7.0"}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
    ],
)
def test_conditions_are_held_against_the_host(rule: dict[str, Any], kept: bool) -> None:
    assert bool(resolve(profile(**rule))["syscalls"]) is kept


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"defaultAction": 1}', '{"defaultAction": "X", "syscalls": {}}'])
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="seccomp profile"):
        resolve(text)


def test_a_minimal_kernel_that_is_no_version_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"four\.eight"):
        resolve(profile(includes={"minKernel": "four.eight"}))
