"""`python -m tests.vm [PYTEST ARGUMENTS]`: the kernel tests on Debian's cloud kernel with cgroup v2, under qemu.

Called by `tests/run --vm`. It runs what is marked `vm`, unless the arguments name tests or marks. The guest has no
network but loopback.
"""

from __future__ import annotations

import re
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.support.paths import CHECKOUT, cache
from tests.support.programs import run
from tests.vm import disk
from tests.vm.kernel import kernel
from tests.vm.machine import boot

DEFAULT = ["-m", "vm"]
LIMIT_SECONDS = 30 * 60
PATIENCE = 6  # everything takes about so many times longer under emulation
_CLOSING = re.compile(
    r"^.*\b\d+ (?:passed|failed|errors?|skipped|deselected|tests collected)\b.* in [0-9.]+s.*$", re.MULTILINE
)


def main(arguments: list[str]) -> int:
    """Exit status: pytest's, or 3 when the guest did not come to an end."""
    began = time.monotonic()
    chosen = kernel()
    root = disk.root_disk()
    print(f"booting {chosen.version} under qemu (tcg)", flush=True)
    with tempfile.TemporaryDirectory(prefix="vm-", dir=cache()) as scratch:
        archive = Path(scratch) / "checkout.tar"
        disk.checkout_archive(archive)
        _append(archive, Path(scratch), _command(_selected(arguments)))
        status, said = boot(chosen, root=root, checkout=archive, seconds=LIMIT_SECONDS)
    closing = [each.strip() for each in _CLOSING.findall(said.replace("\r", ""))]
    print(f"in the virtual machine ({chosen.version}, {time.monotonic() - began:.0f} s):")
    print(closing[-1] if closing else "pytest did not come to its end")
    return 3 if status is None else status


def _selected(arguments: list[str]) -> list[str]:
    named = any(each.startswith("-m") or (CHECKOUT / each.partition("::")[0]).exists() for each in arguments)
    return arguments if named else [*DEFAULT, *arguments]


def _command(arguments: list[str]) -> str:
    python = f"{sys.prefix}/bin/python"
    options = ["-p", "no:cacheprovider", "-o", f"timeout={120 * PATIENCE}", "--color=no", *arguments]
    words = [python, "-m", "pytest", *options]
    return f"export CORTEN_TEST_PATIENCE={PATIENCE}\nexec {shlex.join(words)}\n"


def _append(archive: Path, scratch: Path, command: str) -> None:
    (scratch / ".vm-command").write_text(command)
    run(["tar", "-rf", archive, "-C", scratch, "./.vm-command"])


if __name__ == "__main__":
    if not (CHECKOUT / "protos/corten_api/v1/images_pb2.py").is_file():
        raise SystemExit("generated code is missing: run `python protos/build.py`, or tests/run --vm, which does")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    raise SystemExit(main(sys.argv[1:]))
