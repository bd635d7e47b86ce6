"""A rehearsal of a shim's life, in the zygote, before it is frozen.

Owns the calls that are rehearsed. The interpreter writes to code and caches when something runs for the first times;
what is written here is shared by all shims, what is written later is memory of each. Nothing of it is visible outside.
"""

from __future__ import annotations

import os

from corten_shim import messages, ttrpc
from corten_shim.envelopes import Any, Request
from corten_shim.linux import sockets
from corten_shim.server import Server
from corten_shim.tasks import Tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten_shim.wireformat import Message

NAME = "rehearsal"
ROUNDS = 10  # CPython 3.11 adapts a function in its ninth call


def rehearse(state: str, tasks: Tasks) -> None:
    """Serve a client that asks for what a shim does until its container waits; the create fails for want of a spec.

    Works in a directory of its own below `state`, which is gone afterwards. Raises OSError.
    """
    directory = f"{state}/{NAME}-{os.getpid()}"
    os.mkdir(directory, 0o700)
    try:
        client, first = sockets.pair(packets=False)
        server = Server(NAME, directory, tasks)
        server.accept(first)
        stream = 1
        for _ in range(ROUNDS):
            for service, method, message in calls(directory):
                request = Request(service=service, method=method, payload=message.encode())
                client.sendall(ttrpc.encode(stream, ttrpc.REQUEST, request.encode()))
                stream += 2
        client.shutdown(sockets.SHUT_WR)  # the end of its only connection is the end of the server
        server.reactor.run()
        server.close()
        client.close()
    finally:
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)


def calls(directory: str) -> list[tuple[str, str, Message]]:
    """One round: (service, method, request)."""
    task = ttrpc.TASK_SERVICES[0]
    options = messages.CreateOptions(log_directory=directory, open_stdin=True, exit_record=f"{directory}/exit.json")
    create = messages.CreateTaskRequest(
        id=NAME,
        bundle=directory,
        rootfs=[messages.Mount(type="bind", source="/", options=["rbind"])],
        options=Any(type_url=ttrpc.CREATE_OPTIONS, value=options.encode()),
    )
    return [
        (ttrpc.SHIM_SERVICE, "Describe", messages.DescribeRequest()),
        (task, "Create", create),
        (ttrpc.SHIM_SERVICE, "Attach", messages.AttachRequest(id=NAME, stdout=True)),
        (task, "Start", messages.StartRequest(id=NAME)),
        (task, "Wait", messages.WaitRequest(id=NAME)),
        (task, "State", messages.StateRequest(id=NAME)),
    ]
