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

  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,

  deny mount,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
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
    process = await programs.start([parser, "--replace", "--write-cache=no"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
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
