"""What `corten` asks an engine for, what it prints, and its exit code; the engine is a fake one."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corten.cli.main import invoke as invoke_once
from corten.cli.session import Session
from corten_api import errors
from corten_api.v1 import common_pb2, containers_pb2, images_pb2, system_pb2, tasks_pb2

from tests.unit.client.fake_engine import FakeEngine

ID = "c0ffee" + "0" * 58
ATTACHED = tasks_pb2.AttachResponse(attached=tasks_pb2.AttachResponse.Attached())


class Shop:
    """A fake engine where containers can be run. `asked` holds the requests by name."""

    def __init__(self, engine: FakeEngine) -> None:
        self.asked: dict[str, Any] = {}
        self.outputs: list[Any] = [tasks_pb2.AttachResponse(stdout=b"hello\n")]
        self.exit_code = 0
        self.started = threading.Event()
        self.start_error: errors.CortenError | None = None
        engine.answers |= {
            "Containers/Create": self._create,
            "Containers/Delete": lambda request: self._noted("Containers/Delete", request),
            "Tasks/Start": self._start,
            "Tasks/Attach": self._attach,
        }

    def _noted(self, name: str, request: Any) -> Any:
        self.asked[name] = request
        return containers_pb2.DeleteContainerResponse()

    def _create(self, request: Any) -> Any:
        self.asked["Containers/Create"] = request
        return containers_pb2.CreateContainerResponse(container={"id": ID}, warnings=["mind the gap"])

    def _start(self, request: Any) -> Any:
        self.asked["Tasks/Start"] = request
        self.started.set()
        if self.start_error is not None:
            raise self.start_error
        return tasks_pb2.StartTaskResponse(pid=5)

    def _attach(self, requests: Iterator[Any]) -> Iterator[Any]:
        self.asked["Tasks/Attach"] = next(requests).open
        yield ATTACHED
        assert self.started.wait(20)
        yield from self.outputs
        yield tasks_pb2.AttachResponse(exited=tasks_pb2.ExitStatus(exit_code=self.exit_code))


def invoke(words: list[str]) -> int:
    """Runs one command line. The command leaves its connection to the end of its process, which is not here."""
    made: list[Session] = []

    class Kept(Session):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[invoke_once.__module__], "Session", Kept)
        try:
            return invoke_once(words)
        finally:
            for session in made:
                if "client" in session.__dict__:
                    session.client.close()


@pytest.fixture
def shop(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("CORTEN_ADDRESS", engine.address)
    monkeypatch.delenv("CORTEN_NAMESPACE", raising=False)
    return Shop(engine)


Capture = pytest.CaptureFixture[bytes]


def test_run_shows_what_the_container_writes_and_ends_as_it_ends(shop: Shop, capfdbinary: Capture) -> None:
    shop.outputs.append(tasks_pb2.AttachResponse(stderr=b"oops\n"))
    shop.exit_code = 7
    assert invoke(["run", "busybox", "sh", "-c", "exit 7"]) == 7
    out, err = capfdbinary.readouterr()
    assert out == b"hello\n"
    assert err == b"WARNING: mind the gap\noops\n"
    config = shop.asked["Containers/Create"].config
    assert (config.image, list(config.command)) == ("busybox", ["sh", "-c", "exit 7"])
    assert shop.asked["Tasks/Attach"].container == ID


def test_run_in_the_background_prints_the_id(shop: Shop, capfdbinary: Capture) -> None:
    assert invoke(["run", "-d", "--name", "n", "busybox"]) == 0
    assert capfdbinary.readouterr().out == f"{ID}\n".encode()
    assert shop.asked["Containers/Create"].name == "n"
    assert "Tasks/Attach" not in shop.asked


def test_flags_become_the_containers_intent(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSED", "on")
    profile = tmp_path / "seccomp.json"
    profile.write_text("{}")
    (tmp_path / "env").write_text("A=file\nB=file\n")
    words = (
        f"create -it --rm --env-file {tmp_path}/env -e A=flag -e PASSED -e MISSING -w /w -u 1:2 --entrypoint /e "
        f"-h host --network host -m 64m --cpus 1.5 --pids-limit 9 --cpuset-cpus 0-1 --cap-add NET_ADMIN --cap-drop ALL "
        f"--security-opt no-new-privileges --security-opt seccomp={profile} --security-opt apparmor=x "
        f"--security-opt systempaths=unconfined --read-only --ulimit nofile=1:2 -l a=b --label c --stop-signal INT "
        f"--stop-timeout 3 --shm-size 1m --add-host h:1.2.3.4 --oom-score-adj -5 --device /dev/fuse --domainname d "
        f"-v /s:/t:ro --mount type=tmpfs,target=/m --tmpfs /n:size=1m image arg -x"
    )
    assert invoke(words.split()) == 0
    config = shop.asked["Containers/Create"].config
    assert list(config.environment) == ["A=file", "B=file", "A=flag", "PASSED=on"]
    assert list(config.entrypoint) == ["/e"]
    assert list(config.command) == ["arg", "-x"]
    assert (config.terminal, config.open_stdin, config.auto_remove, config.read_only) == (True, True, True, True)
    assert (config.working_directory, config.user, config.hostname, config.domainname) == ("/w", "1:2", "host", "d")
    resources = config.resources
    assert (resources.memory_bytes, resources.cpu_nanos, resources.pids_limit) == (64 << 20, 1_500_000_000, 9)
    security = config.security
    assert (list(security.cap_add), list(security.cap_drop)) == (["NET_ADMIN"], ["ALL"])
    assert (security.no_new_privileges, security.seccomp, security.apparmor) == (True, "{}", "x")
    assert security.unmask_paths
    assert dict(config.labels) == {"a": "b", "c": ""}
    assert (config.stop_signal, config.stop_timeout.seconds, config.oom_score_adj) == ("INT", 3, -5)
    assert [mount.target for mount in config.mounts] == ["/t", "/m", "/n"]
    assert config.network == "host"


def test_an_empty_entrypoint_drops_the_images(shop: Shop) -> None:
    assert invoke(["create", "--entrypoint", "", "image", "x"]) == 0
    assert shop.asked["Containers/Create"].config.clear_entrypoint


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("executable", "x", "not found"), 127),
        (errors.PermissionDenied("executable", "x", "permission denied"), 126),
        (errors.FailedPrecondition("executable", "x", "exec format error"), 126),
        (errors.NotFound("user", "x", "no such user"), 125),
        (errors.Internal("", "", "broken"), 125),
    ],
)
def test_a_start_that_fails_has_dockers_exit_codes(
    shop: Shop, error: errors.CortenError, code: int, capfdbinary: Capture
) -> None:
    shop.start_error = error
    assert invoke(["run", "--rm", "busybox", "x"]) == code
    last = capfdbinary.readouterr().err.decode().splitlines()[-1]
    assert last == f"corten: {error}"
    assert shop.asked["Containers/Delete"].container == ID


def test_a_missing_image_is_pulled(shop: Shop, engine: FakeEngine, capfdbinary: Capture) -> None:
    pulled = []

    def pull(request: Any) -> Iterator[Any]:
        pulled.append(request.reference)
        layer = common_pb2.Descriptor(
            media_type="application/vnd.oci.image.layer.v1.tar", digest="sha256:" + "ab" * 32, size=5
        )
        yield images_pb2.PullImageProgress(phase="PHASE_DOWNLOADING", blob=layer, offset=2)
        yield images_pb2.PullImageProgress(phase="PHASE_COMPLETE", blob=layer, offset=5)
        yield images_pb2.PullImageProgress(phase="PHASE_COMPLETE", done=images_pb2.Image(id="sha256:" + "cd" * 32))

    create = engine.answers["Containers/Create"]

    def missing(request: Any) -> Any:
        if not pulled:
            raise errors.NotFound("image", request.config.image, "is not here")
        return create(request)

    engine.answers |= {"Images/Pull": pull, "Containers/Create": missing}
    assert invoke(["run", "busybox"]) == 0
    out, err = capfdbinary.readouterr()
    assert out == b"hello\n"
    assert err.startswith(b"Unable to find image 'busybox' locally\n")
    assert b"abababababab" in err
    assert pulled == ["busybox"]
    pulled.clear()
    assert invoke(["run", "--pull", "never", "busybox"]) == 125
    assert not pulled


def test_stdin_is_passed_on_to_its_end(shop: Shop, engine: FakeEngine, tmp_path: Path, capfdbinary: Capture) -> None:
    program = (
        "import sys; from corten.cli.main import invoke; code = invoke(['run', '-i', 'busybox', 'cat']);"
        "sys.stdout.flush(); sys.exit(code)"
    )

    def cat(requests: Iterator[Any]) -> Iterator[Any]:
        assert next(requests).open.stdin
        yield ATTACHED
        for request in requests:
            if request.WhichOneof("message") == "close_stdin":
                break
            yield tasks_pb2.AttachResponse(stdout=request.stdin)
        yield tasks_pb2.AttachResponse(exited=tasks_pb2.ExitStatus(exit_code=4))

    engine.answers["Tasks/Attach"] = cat
    data = bytes(range(256)) * 20_000
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode == 4
    assert done.stdout == data


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("run", "Missing argument 'IMAGE'"),
        ("run --nope busybox", "No such option"),
        ("run -m 1x busybox", '"1x" is no size'),
        ("run -v a:/b busybox", "named volumes"),
        ("run --ulimit x=1 busybox", "is no ulimit"),
        ("run --security-opt what busybox", "is no security option"),
        ("run --pull often busybox", "often"),
        ("run --env-file /none busybox", "no such file"),
        ("frobnicate", "frobnicate"),
        ("ps --filter what=x", "is no filter"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_125(shop: Shop, words: str, complaint: str, capfdbinary: Capture) -> None:
    assert invoke(words.split()) == 125
    err = capfdbinary.readouterr().err.decode()
    assert err.startswith("corten: ")
    assert complaint in err.splitlines()[0]
    assert not shop.asked


@pytest.mark.parametrize(("words", "code"), [(["run", "busybox"], 125), (["ps"], 1), (["version"], 1)])
def test_an_engine_that_is_not_there_is_said_in_one_line(
    tmp_path: Path, words: list[str], code: int, capfdbinary: Capture
) -> None:
    assert invoke(["--address", f"unix://{tmp_path}/none.sock", *words]) == code
    err = capfdbinary.readouterr().err.decode()
    assert err == f"corten: Cannot connect to the Corten engine at unix://{tmp_path}/none.sock. Is cortend running?\n"


def test_the_namespace_is_the_flags(shop: Shop, engine: FakeEngine) -> None:
    assert invoke(["--namespace", "k8s.io", "create", "busybox"]) == 0
    assert engine.namespaces == ["k8s.io"]


def test_a_cidfile_holds_the_id_and_is_never_overwritten(shop: Shop, tmp_path: Path, capfdbinary: Capture) -> None:
    note = tmp_path / "cid"
    assert invoke(["create", "--cidfile", str(note), "busybox"]) == 0
    assert note.read_text() == ID
    assert invoke(["create", "--cidfile", str(note), "busybox"]) == 125


def test_several_names_are_all_tried(shop: Shop, engine: FakeEngine, capfdbinary: Capture) -> None:
    def stop(request: Any) -> Any:
        if request.container == "bad":
            raise errors.NotFound("container", "bad", "is not here")
        assert request.timeout.seconds == 3
        return tasks_pb2.StopTaskResponse()

    engine.answers["Tasks/Stop"] = stop
    assert invoke(["stop", "-t", "3", "one", "bad", "two"]) == 1
    out, err = capfdbinary.readouterr()
    assert out == b"one\ntwo\n"
    assert err == b'corten: container "bad": is not here\n'


def test_wait_prints_exit_codes(shop: Shop, engine: FakeEngine, capfdbinary: Capture) -> None:
    engine.answers["Tasks/Wait"] = lambda request: tasks_pb2.WaitTaskResponse(
        status={"exit_code": int(request.container)}
    )
    assert invoke(["wait", "3", "137"]) == 0
    assert capfdbinary.readouterr().out == b"3\n137\n"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("logs c", "one\n"),
        ("logs -t c", "2023-11-14T22:13:20.000000001Z one\n"),
    ],
)
def test_logs_keep_their_streams(shop: Shop, engine: FakeEngine, words: str, shown: str, capfdbinary: Capture) -> None:
    time = {"seconds": 1_700_000_000, "nanos": 1}
    entries = [{"stream": 1, "time": time, "data": b"one\n"}, {"stream": 2, "time": time, "data": b"two\n"}]
    engine.answers["Tasks/Logs"] = lambda _: iter([tasks_pb2.LogEntries(entries=entries)])
    engine.answers["Containers/Get"] = lambda _: containers_pb2.GetContainerResponse(container={"id": ID})
    assert invoke(words.split()) == 0
    out, err = capfdbinary.readouterr()
    assert out.decode() == shown
    assert err.decode() == shown.replace("one", "two")


def test_version_tells_both_ends(shop: Shop, engine: FakeEngine, capfdbinary: Capture) -> None:
    engine.answers["System/Version"] = lambda _: system_pb2.VersionResponse(version="9.8.7", api="corten.v1")
    assert invoke(["version"]) == 0
    assert b"9.8.7" in capfdbinary.readouterr().out
    assert invoke(["version", "--format", "{{.Server.Version}}"]) == 0
    assert capfdbinary.readouterr().out == b"9.8.7\n"


def test_images_are_listed_as_docker_lists_them(shop: Shop, engine: FakeEngine, capfdbinary: Capture) -> None:
    image = images_pb2.Image(
        id="sha256:" + "ab" * 32, names=["docker.io/library/busybox:1", "localhost:5000/a/b:c"], size=4_270_000
    )
    engine.answers["Images/List"] = lambda _: images_pb2.ListImagesResponse(images=[image])
    assert invoke(["images", "--format", "{{.Repository}} {{.Tag}} {{.ID}} {{.Size}}"]) == 0
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        "busybox 1 abababababab 4.27MB",
        "localhost:5000/a/b c abababababab 4.27MB",
    ]
    assert invoke(["images", "-q", "--no-trunc"]) == 0
    assert set(capfdbinary.readouterr().out.decode().split()) == {"sha256:" + "ab" * 32}
    assert invoke(["images", "--format", "{{.Nope}}"]) == 125
    assert b"Nope" in capfdbinary.readouterr().err


def test_help_needs_no_engine(capfdbinary: Capture) -> None:
    commands = (
        "pull images load rmi tag inspect run create start stop kill rm ps logs exec attach wait pause unpause rename "
        "events info version content snapshots tasks shims"
    ).split()
    assert invoke(["--help"]) == 0
    shown = capfdbinary.readouterr().out.decode()
    for command in commands:
        assert f"\n  {command} " in shown
        assert invoke([command, "--help"]) == 0
        assert f"Usage: corten {command}" in capfdbinary.readouterr().out.decode()
