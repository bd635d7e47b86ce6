"""The command `cortend`: arguments, signals, exit status.

Owns the life of the process. What the engine consists of is `cortend.engine`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog
from corten_api.errors import CortenError, PermissionDenied

from cortend import config as configuration
from cortend import logs
from cortend.config import Config
from cortend.locks import DirectoryLock
from cortend.notify import notify

log = structlog.get_logger()

# Calls make few cycles, and each collection walks everything that calls left alive.
GC_THRESHOLD = 20_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT. Exit status 1 with one line on stderr for whatever keeps it from starting."""
    options = _parser().parse_args(arguments)
    try:
        config = _config(options)
        if os.geteuid() != 0:
            raise PermissionDenied("user", str(os.geteuid()), "the engine must run as root")
        os.umask(0o022)
        logs.configure(level=config.log_level, format=config.log_format)
        with ExitStack() as locks:
            for directory, kind in ((config.state, "state"), (config.root, "root")):
                locks.callback(DirectoryLock(directory, kind=kind).close)
            asyncio.run(_run(config))
    except CortenError as error:
        print(f"cortend: {error}", file=sys.stderr)
        raise SystemExit(1) from None


async def _run(config: Config) -> None:
    # Imported late: a wrong flag is answered without loading the engine.
    from cortend.engine import Engine

    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    starting = asyncio.ensure_future(Engine.start(config))
    waiting = asyncio.ensure_future(asked.wait())
    await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
    if starting.cancelled():
        waiting.cancel()
        return
    engine = starting.result()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    log.info("engine.started", address=config.address, pid=os.getpid())
    notify("READY=1")
    await waiting
    notify("STOPPING=1")
    log.info("engine.stopping", drain_seconds=config.drain_seconds)
    await engine.stop()
    log.info("engine.stopped")


def _config(options: argparse.Namespace) -> Config:
    overrides = {
        "root": options.root,
        "state": options.state,
        "address": options.address,
        "log_level": options.log_level,
        "log_format": options.log_format,
    }
    path = options.config or configuration.DEFAULT_FILE
    return configuration.load(path, required=options.config is not None, overrides=overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cortend", description="The Corten container engine.", allow_abbrev=False)
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"default {configuration.DEFAULT_FILE}, if there")
    parser.add_argument("--root", type=Path, metavar="DIR", help="images, snapshots, records; default /var/lib/corten")
    parser.add_argument("--state", type=Path, metavar="DIR", help="sockets, live bundles; default /run/corten")
    parser.add_argument("--address", metavar="URL", help="default unix://STATE/engine.sock")
    parser.add_argument("--log-level", choices=configuration.LEVELS)
    parser.add_argument("--log-format", choices=configuration.FORMATS)
    return parser


if __name__ == "__main__":
    main()
