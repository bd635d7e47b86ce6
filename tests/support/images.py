"""Real OCI images, made by other people's tools (umoci, skopeo, Debian's packages), cached between runs.

Owns which images the tests have and what is in them. Serving them is `tests.support.registry`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import packages
from tests.support.paths import cached
from tests.support.programs import run

BUSYBOX = Path("/bin/busybox")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USERS = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n"
    "alice:x:1000:1000::/home/alice:/bin/sh\n"
)
_GROUP = "root:x:0:\nnogroup:x:65534:\nalice:x:1000:\nbuilders:x:2000:alice\naudio:x:29:alice,nobody\n"
_HOSTILE = 'import os\nos.system("touch /poisoned; touch /proc/1/root/poisoned")\nos._exit(99)\n'
_EDITION = 3  # grows when what this module puts into an image changes


@dataclass(frozen=True, slots=True, kw_only=True)
class TestImage:
    """One image in an OCI layout on disk. `name` is what it is called when it is loaded or pushed."""

    __test__ = False

    name: str
    layout: Path
    tag: str = "latest"
    archive: Path  # an OCI archive (tar) that carries the full name, for `corten load`

    @property
    def reference(self) -> str:
        """The full name it has once it is loaded."""
        return f"docker.io/library/{self.name}:{self.tag}"

    @property
    def source(self) -> str:
        """The layout as skopeo and umoci name it."""
        return f"oci:{self.layout}:{self.tag}"


def busybox() -> TestImage:
    """Debian's busybox-static with every applet, /etc/passwd with alice (1000, groups builders and audio)."""
    return _made("busybox", _file_key(BUSYBOX), _busybox_root, command="sh")


def debian() -> TestImage:
    """A small Debian root: bash, coreutils, tar, python3. About 90 MB unpacked."""
    return _made("debian-small", "bash coreutils tar python3-minimal", _debian_root, command="bash")


def poisoned() -> TestImage:
    """busybox, and a hostile Python standard library wherever the interpreter of this run would look for one."""
    return _made("poisoned", _file_key(BUSYBOX) + repr(_import_directories()), _poisoned_root, command="sh")


def multi_platform() -> TestImage:
    """An index of busybox for this machine and two foreign platforms, so that a platform has to be chosen."""
    source = busybox()

    def make(directory: Path) -> None:
        layout = directory / "layout"
        shutil.copytree(source.layout, layout)
        _add_index(layout)
        _archive(directory, layout, "docker.io/library/multi:latest")

    directory = cached("image-multi", f"{_EDITION} {source.layout}", make)
    return TestImage(name="multi", layout=directory / "layout", archive=directory / "archive.tar")


def _made(name: str, inputs: str, fill: Callable[[Path], None], *, command: str) -> TestImage:
    def make(directory: Path) -> None:
        layout = directory / "layout"
        run(["umoci", "init", "--layout", layout])
        run(["umoci", "new", "--image", f"{layout}:latest"])
        bundle = directory / "bundle"
        run(["umoci", "unpack", "--image", f"{layout}:latest", bundle])
        fill(bundle / "rootfs")
        run(["umoci", "repack", "--image", f"{layout}:latest", bundle])
        run(["umoci", "config", "--image", f"{layout}:latest", f"--config.env={_PATH}", f"--config.cmd={command}"])
        run(["umoci", "gc", "--layout", layout])
        shutil.rmtree(bundle)
        _archive(directory, layout, f"docker.io/library/{name}:latest")

    directory = cached(f"image-{name}", f"{_EDITION} {inputs}", make)
    return TestImage(name=name, layout=directory / "layout", archive=directory / "archive.tar")


def _archive(directory: Path, layout: Path, reference: str) -> None:
    """`layout` as a tar whose index names the image in full, as containerd writes it."""
    copy = directory / "archive"
    shutil.copytree(layout, copy)
    index = json.loads((copy / "index.json").read_bytes())
    index["manifests"] = [each for each in index["manifests"] if _tag(each) == "latest"]
    for each in index["manifests"]:
        each["annotations"] = {
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": "latest",
        }
    (copy / "index.json").write_text(json.dumps(index))
    run(["tar", "-C", copy, "-cf", directory / "archive.tar", "oci-layout", "index.json", "blobs"])
    shutil.rmtree(copy)


def _tag(descriptor: dict[str, Any]) -> str:
    return str(descriptor.get("annotations", {}).get("org.opencontainers.image.ref.name", ""))


def _add_index(layout: Path) -> None:
    """Make tag `latest` of `layout` an index: its manifest, and the same for platforms this machine is not."""
    outer = json.loads((layout / "index.json").read_bytes())
    native = next(each for each in outer["manifests"] if _tag(each) == "latest")
    manifest = json.loads(_blob(layout, native["digest"]))
    config = json.loads(_blob(layout, manifest["config"]["digest"]))
    described = [_described(native, config["architecture"])]
    for architecture in ("s390x", "riscv64"):
        made = _put(layout, {**config, "architecture": architecture}, manifest["config"]["mediaType"])
        foreign = _put(layout, {**manifest, "config": made}, native["mediaType"])
        described.insert(0, _described(foreign, architecture))
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": described}
    entry = _put(layout, index, index["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _described(descriptor: dict[str, Any], architecture: str) -> dict[str, Any]:
    plain = {key: descriptor[key] for key in ("mediaType", "digest", "size")}
    return {**plain, "platform": {"os": "linux", "architecture": architecture}}


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def _put(layout: Path, document: Any, media_type: Any) -> dict[str, Any]:
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _busybox_root(root: Path) -> None:
    for name in ("bin", "sbin", "etc", "root", "home/alice", "usr/bin", "usr/sbin", "var/log", "dev", "proc", "sys"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    shutil.copyfile(BUSYBOX, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    for applet in run([BUSYBOX, "--list"]).split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(_USERS)
    (root / "etc/group").write_text(_GROUP)


def _debian_root(root: Path) -> None:
    scratch = root.parent / "packages"
    names = ["bash", "coreutils", "tar", "python3-minimal", "dash", "base-files"]
    packages.unpack(packages.download(names, scratch, dependencies=True), root)
    shutil.rmtree(scratch)
    for name in ("usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/info"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "etc/passwd").write_text(_USERS)
    (root / "etc/group").write_text(_GROUP)
    for name in ("dev", "proc", "sys", "home/alice"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)


def _import_directories() -> list[Path]:
    found = {Path(each) for each in sys.path if each.startswith("/")}
    found |= {Path(each).resolve() for each in found}
    return sorted(each for each in found if each.suffix != ".zip")


def _poisoned_root(root: Path) -> None:
    _busybox_root(root)
    names = ["codecs", "traceback", "linecache", "tokenize", "io", "os", "signal", "struct", "ctypes/__init__"]
    names += ["json/__init__"]
    names += ["encodings/__init__", "encodings/utf_8", "encodings/idna", "encodings/ascii", "encodings/latin_1"]
    names += ["sitecustomize", "usercustomize", "site", "grp", "pwd", "errno", "locale", "unicodedata", "_colorize"]
    for directory in _import_directories():
        for name in names:
            target = root / directory.relative_to("/") / f"{name}.py"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_HOSTILE)


def _file_key(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
