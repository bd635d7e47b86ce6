"""The AppArmor profile that containers run under, on hosts that have AppArmor.

Owns its text and its loading through the host's `apparmor_parser`. Containers name it; the kernel enforces it.
"""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE

import structlog

from cortend import programs
from cortend.tasks import host

log = structlog.get_logger(__name__)

LOAD_SECONDS = 10

# Files, network and capabilities are left to the other confinements; what is denied here is what a container with
# more capabilities than it needs could still do to the host: writing kernel settings, mounting, tracing others.
_PROFILE = f"""
#include <tunables/global>

profile {host.APPARMOR_PROFILE} flags=(attach_disconnected,mediate_deleted) {{
  #include <abstractions/base>

  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (send,receive) peer={host.APPARMOR_PROFILE},
  ptrace (trace,read,tracedby,readby) peer={host.APPARMOR_PROFILE},

  deny mount,

  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{kcore,kmem,mem,sysrq-trigger}} rwklx,
  deny @{{PROC}}/{{acpi,asound,bus,driver,fs,irq,scsi,tty}}/** wklx,
  deny @{{PROC}}/sys/{{abi,crypto,debug,dev,fs,sunrpc,user,vm}}/** wklx,
  # What is left of sys/kernel belongs to the container's own IPC namespace: msg*, sem, shm*.
  deny @{{PROC}}/sys/kernel/[^ms]** wklx,

  deny /sys/{{block,bus,class,dev,devices,hypervisor,kernel,module,power}}/** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/{{firmware,devices/virtual/powercap,kernel/security}}/** rwklx,
}}
"""


async def load() -> str:
    """Load the profile; returns its name, or "" where the kernel has no AppArmor or the parser is missing or fails."""
    if not host.apparmor_enabled():
        return ""
    parser = shutil.which("apparmor_parser")
    if parser is None:
        log.warning("apparmor.unavailable", reason="apparmor_parser is not installed")
        return ""
    process = await programs.start([parser, "--replace", "--skip-cache"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        _, message = await asyncio.wait_for(process.communicate(_PROFILE.encode()), LOAD_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        log.warning("apparmor.unavailable", reason=f"apparmor_parser took longer than {LOAD_SECONDS} s")
        return ""
    if process.returncode != 0:
        log.warning("apparmor.unavailable", reason=message.decode("utf-8", "replace").strip())
        return ""
    return host.APPARMOR_PROFILE
