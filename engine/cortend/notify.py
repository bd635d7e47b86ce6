"""What systemd is told: sd_notify(3), a datagram to the socket in NOTIFY_SOCKET.

Owns the protocol. Without that variable nothing happens.
"""

from __future__ import annotations

import os
import socket

import structlog

log = structlog.get_logger()


def notify(message: str) -> None:
    """Send "READY=1", "STOPPING=1" or a "STATUS=..." line. Never raises: the engine runs as well unsupervised."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(target)
            channel.sendall(message.encode())
    except OSError as error:
        log.warning("supervisor.unreachable", error=str(error))
