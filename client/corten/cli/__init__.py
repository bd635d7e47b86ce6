"""The `corten` command."""

from typing import NoReturn


def main() -> NoReturn:
    """The console script."""
    from corten.cli import deferred

    deferred.defer()  # before anything imports what is deferred
    from corten.cli.main import main as run

    run()
