"""The release this shim is of; `tests/house` holds it against pyproject.toml."""

VERSION = "0.1.0"
