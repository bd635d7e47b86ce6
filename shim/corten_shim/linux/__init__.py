"""The kernel's interface: every system call the shim makes that the standard library does not offer."""
