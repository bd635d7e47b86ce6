"""The shim and its native OCI runtime. Standard library only."""
