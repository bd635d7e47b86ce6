"""One run of the virtual machine: qemu without KVM, two disks, a serial line, and a time limit."""

from __future__ import annotations

import re
import selectors
import subprocess
import sys
import time
from pathlib import Path

from tests.vm.kernel import Kernel

MEMORY = "2G"
PROCESSORS = 2
_STATUS = re.compile(rb"corten-vm-exit-status: (\d+)")


def boot(kernel: Kernel, *, root: Path, checkout: Path, seconds: float) -> tuple[int | None, str]:
    """Boot, copy the serial line to stdout; the command's exit status (None: it never ended) and all that was said."""
    argv = [
        "setpriv", "--pdeathsig", "KILL",
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(PROCESSORS), "-m", MEMORY,
        "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nic", "none",
        "-kernel", str(kernel.image), "-initrd", str(kernel.initramfs),
        "-append", "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off random.trust_cpu=on tsc=reliable",
        "-drive", f"file={root},format=raw,if=virtio,snapshot=on,cache=unsafe",
        "-drive", f"file={checkout},format=raw,if=virtio,readonly=on",
    ]  # fmt: skip
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said = _follow(process, time.monotonic() + seconds)
    finally:
        process.kill()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
    found = _STATUS.search(said)
    return (int(found[1]) if found else None), said.decode(errors="replace")


def _follow(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Show what the guest says as it says it; returns it at its end or at `deadline`."""
    assert process.stdout is not None
    said = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                break
            data = process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not data:
                break
            said += data
            sys.stdout.buffer.write(data.replace(b"\r\n", b"\n"))
            sys.stdout.buffer.flush()
    return bytes(said)
