"""What a container made by the native runtime looks like from inside, and what it leaves outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import leftovers
from tests.support.runtime import Runtime, Spec, bind

pytestmark = [pytest.mark.root, pytest.mark.vm]

INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION = 3, 5, 7, 9


@pytest.fixture(scope="module")
def runtime(run_directory: Path) -> Runtime:
    return Runtime(run_directory / "native-runtime")


@pytest.fixture(autouse=True)
def leaves_nothing(runtime: Runtime) -> Iterator[None]:
    """After each test no mount of its is in the host's table, and its cgroups are gone."""
    yield
    assert leftovers.mounts(str(runtime.directory)) == []
    assert leftovers.cgroups_of_runtimes() == []


def set_process(**fields: object) -> Callable[[Spec], None]:
    return lambda spec: spec["process"].update(fields)


def as_user(name: str) -> Callable[[Spec], None]:
    return set_process(user={"username": name})


def test_a_container_has_its_own_names_processes_and_network(runtime: Runtime) -> None:
    script = (
        "hostname; echo $$; ls /sys/class/net; cat /sys/class/net/lo/flags; cut -d: -f3 /proc/self/cgroup | sort -u"
    )
    outcome = runtime.run("sh", "-c", script)
    assert outcome.output.splitlines() == ["box", "1", "lo", "0x9", "/"]


def test_the_root_is_the_only_filesystem_of_the_host_it_sees(runtime: Runtime) -> None:
    lines = runtime.run("cat", "/proc/self/mountinfo").output.splitlines()
    kinds = {line.split()[4]: line.partition(" - ")[2].split()[0] for line in lines}
    assert kinds.pop("/") == "overlay"
    assert set(kinds.values()) <= {"proc", "tmpfs", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"}
    assert all(" shared:" not in line and " master:" not in line for line in lines)


def test_dev_holds_the_standard_nodes_and_links(runtime: Runtime) -> None:
    nodes = "stat -c '%n %F %t:%T %a' null zero full random urandom tty"
    links = "for link in fd stdin ptmx; do readlink $link; done"
    assert runtime.run("sh", "-c", f"cd /dev; {nodes}; {links}").output.splitlines() == [
        "null character special file 1:3 666",
        "zero character special file 1:5 666",
        "full character special file 1:7 666",
        "random character special file 1:8 666",
        "urandom character special file 1:9 666",
        "tty character special file 5:0 666",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "pts/ptmx",
    ]


@pytest.mark.parametrize(
    ("name", "id_says", "home"),
    [
        ("", "uid=0(root) gid=0(root)", "/root"),
        ("alice", "uid=1000(alice) gid=1000(alice) groups=2000(builders)", "/home/alice"),
        ("alice:builders", "uid=1000(alice) gid=2000(builders)", "/home/alice"),
        ("4711:4712", "uid=4711 gid=4712", "/"),
    ],
)
def test_the_user_is_looked_up_in_the_image(runtime: Runtime, name: str, id_says: str, home: str) -> None:
    outcome = runtime.run("sh", "-c", "id; echo $HOME", change=as_user(name))
    assert outcome.output.splitlines() == [id_says, home]


def test_a_user_holds_no_capability_and_can_gain_only_the_bounding_ones(runtime: Runtime) -> None:
    outcome = runtime.run("grep", "^Cap", "/proc/self/status", change=as_user("alice"))
    values = dict(line.split(":\t") for line in outcome.output.splitlines())
    assert {name for name, value in values.items() if int(value, 16)} == {"CapBnd"}


def test_capabilities_are_the_ones_asked_for_in_every_set(runtime: Runtime) -> None:
    sets = {name: ["CAP_NET_BIND_SERVICE"] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")}

    def change(spec: Spec) -> None:
        spec["process"].update(capabilities=sets, user={"username": "alice"}, noNewPrivileges=True)

    outcome = runtime.run("grep", "-E", "^(Cap|NoNew|Seccomp:)", "/proc/self/status", change=change)
    values = [line.split(":\t")[1] for line in outcome.output.splitlines()]
    assert values == ["0000000000000400"] * 5 + ["1", "2"]


def test_a_strict_filter_needs_to_allow_no_step_of_the_runtime_with_no_new_privs(runtime: Runtime) -> None:
    """capset and prctl are denied: were the filter loaded before the runtime's own, starting would fail."""
    denied = {"names": ["capset", "prctl", "setresuid"], "action": "SCMP_ACT_ERRNO"}

    def change(spec: Spec) -> None:
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]}
        spec["process"].update(noNewPrivileges=True)

    assert runtime.run("true", change=change).exit_code == 0


@pytest.mark.parametrize(
    ("argument", "code"),
    [("no-such", NOT_FOUND), ("/no/such", NOT_FOUND), ("/etc", PERMISSION_DENIED), ("/etc/passwd", PERMISSION_DENIED)],
)
def test_what_cannot_be_executed_says_why(runtime: Runtime, argument: str, code: int) -> None:
    outcome = runtime.run(argument)
    assert outcome.fault is not None
    assert outcome.fault[:3] == (code, "executable", argument)


def test_a_script_for_a_missing_interpreter_and_a_text_without_one_are_told_apart(runtime: Runtime) -> None:
    layer = runtime.layer()
    (layer / "bin").mkdir()
    for name, text in (("orphan", "#!/no/such\n"), ("plain", "echo hello\n")):
        (layer / "bin" / name).write_text(text)
        (layer / "bin" / name).chmod(0o755)
    orphan, plain = runtime.run("orphan", layer=layer).fault, runtime.run("plain", layer=layer).fault
    assert orphan is not None
    assert orphan[0] == NOT_FOUND
    assert "interpreter" in orphan[3]
    assert plain is not None
    assert plain[0] == FAILED_PRECONDITION
    assert "exec format" in plain[3]


def test_a_relative_entry_of_path_runs_nothing(runtime: Runtime) -> None:
    outcome = runtime.run("busybox", change=set_process(cwd="/bin", env=["PATH=.::bin"]))
    assert outcome.fault is not None
    assert outcome.fault[:2] == (NOT_FOUND, "executable")


def test_the_working_directory_is_made_and_environment_and_umask_are_set(runtime: Runtime) -> None:
    def change(spec: Spec) -> None:
        spec["process"].update(cwd="/made/here", env=["PATH=/bin", "A=b=c"], user={"username": "", "umask": 0o077})

    outcome = runtime.run("sh", "-c", "pwd; stat -c '%a %u' .; echo $A; umask", change=change)
    assert outcome.output.splitlines() == ["/made/here", "755 0", "b=c", "0077"]


def test_a_bind_mount_is_read_only_all_the_way_down(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    script = "touch /data/a; touch /data/below/b; ls -A /data"
    outcome = runtime.run("sh", "-c", script, change=bind("/data", tmp_path, "rro", "rprivate"))
    assert outcome.output.splitlines()[-1] == "below"
    assert outcome.output.count("Read-only file system") == 2


def test_a_file_is_mounted_where_the_image_has_nothing(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello\n")
    outcome = runtime.run("cat", "/new/place/file", change=bind("/new/place/file", tmp_path / "file", "ro"))
    assert outcome.output == "hello\n"


def test_a_mount_source_that_is_not_there_is_named(runtime: Runtime) -> None:
    outcome = runtime.run("true", change=bind("/data", Path("/no/such/source")))
    assert outcome.fault is not None
    assert outcome.fault[:3] == (NOT_FOUND, "mount source", "/no/such/source")


def test_a_tmpfs_has_its_options(runtime: Runtime) -> None:
    options = ["noexec", "size=1m", "mode=1770"]
    entry = {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": options}
    fill = "head -c 2000000 /dev/zero > /scratch/x; wc -c < /scratch/x"
    outcome = runtime.run(
        "sh",
        "-c",
        f"stat -c %a /scratch; grep ' /scratch ' /proc/self/mountinfo; {fill}",
        change=lambda spec: spec["mounts"].append(entry),
    )
    lines = outcome.output.splitlines()
    assert lines[0] == "1770"
    assert "noexec" in lines[1]
    assert lines[-1] == str(1 << 20)


def test_a_read_only_root_leaves_what_is_mounted_in_it_writable(runtime: Runtime) -> None:
    outcome = runtime.run(
        "sh", "-c", "touch /x; touch /dev/shm/y && echo ok", change=lambda spec: spec["root"].update(readonly=True)
    )
    assert "Read-only file system" in outcome.output
    assert outcome.output.endswith("ok\n")


def test_sysctls_are_those_of_the_containers_namespaces(runtime: Runtime) -> None:
    before = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    outcome = runtime.run("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")
    assert outcome.output == "0\n"
    assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == before


def test_a_limit_on_descriptors_may_be_as_low_as_three(runtime: Runtime) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}
    outcome = runtime.run("true", change=set_process(rlimits=[limit]))
    assert (outcome.fault, outcome.exit_code) == (None, 0)


def test_a_second_process_has_the_same_world_and_its_own_user(runtime: Runtime) -> None:
    script = "hostname; id -un; pwd; tr '\\0' ' ' < /proc/1/cmdline; grep Seccomp: /proc/self/status; exit 7"
    process = {
        "args": ["sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/tmp",
        "user": {"username": "alice"},
        "capabilities": {"bounding": ["CAP_KILL"]},
    }
    outcome = runtime.run("sleep", "60", exec=process)
    assert outcome.exec_code == 7
    assert outcome.output.splitlines() == ["box", "alice", "/tmp", "sleep 60 Seccomp:\t2"]


def test_a_second_process_enters_a_container_that_divided_its_cgroup(runtime: Runtime) -> None:
    divide = "mkdir a && echo $$ > a/cgroup.procs && echo +pids > cgroup.subtree_control"
    script = f"cd /sys/fs/cgroup; if [ -e cgroup.procs ]; then {divide}; fi; echo ready; exec sleep 60"

    def change(spec: Spec) -> None:
        for mount in spec["mounts"]:
            if mount["type"] == "cgroup":
                mount["options"] = ["rw"]

    process = {"args": ["echo", "entered"], "env": ["PATH=/bin"], "cwd": "/"}
    outcome = runtime.run(
        "sh", "-c", script, change=change, prepare=lambda job: job.update(speaks_first=True), exec=process
    )
    assert (outcome.fault, outcome.output) == (None, "ready\nentered\n")


def test_running_out_of_memory_is_counted(runtime: Runtime) -> None:
    def change(spec: Spec) -> None:
        spec["linux"]["resources"]["memory"] = {"limit": 12 << 20, "swap": 12 << 20}

    outcome = runtime.run("sh", "-c", "x=a; while true; do x=$x$x; done", change=change)
    assert outcome.exit_code == -9
    assert outcome.oom_kills >= 1


def test_an_impossible_memory_limit_leaves_nothing_half_made(runtime: Runtime) -> None:
    def change(spec: Spec) -> None:
        spec["linux"]["resources"]["memory"] = {"limit": 1}

    outcome = runtime.run("true", change=change)
    assert outcome.fault is not None
    assert outcome.fault[:3] == (INVALID_ARGUMENT, "memory limit", "1")


@pytest.mark.parametrize("old_kernel", [False, True])
def test_sixty_layers_are_stacked_with_and_without_the_new_mount_options(runtime: Runtime, old_kernel: bool) -> None:
    layers = [runtime.layer() for _ in range(60)]
    for number, layer in enumerate(layers):
        (layer / f"from-{number}").write_text("x")
        (layer / "same").write_text(f"{number}\n")

    def stack(job: dict[str, Any]) -> None:
        options = job["root"][3]
        lower = ":".join(map(str, [*layers, runtime.base]))
        job["root"][3] = [f"lowerdir={lower}" if each.startswith("lowerdir=") else each for each in options]
        job["old_overlay"] = old_kernel

    outcome = runtime.run("sh", "-c", "ls / | grep -c from-; cat /same; touch /written", prepare=stack)
    assert (outcome.fault, outcome.output) == (None, "60\n0\n")


def test_a_terminal_is_of_the_containers_own_devpts(runtime: Runtime) -> None:
    def wish(job: dict[str, Any]) -> None:
        job["window"] = [100, 30]

    shown = "tty; stty size; stat -c '%u %F' $(tty); test -c /dev/console && echo console"
    script = f"{shown}; cut -d' ' -f7 /proc/self/stat"
    outcome = runtime.run("sh", "-c", script, change=as_user("alice"), prepare=wish)
    lines = outcome.output.split()
    assert lines[:3] == ["/dev/pts/0", "30", "100"]
    assert lines[3:-1] == ["1000", "character", "special", "file", "console"]
    assert lines[-1] == str(136 << 8)
