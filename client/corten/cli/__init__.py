"""The `corten` command."""
