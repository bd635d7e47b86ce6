"""The `corten` command."""

from corten.cli.main import main as main
