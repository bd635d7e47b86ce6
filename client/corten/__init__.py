"""The Corten client library."""
