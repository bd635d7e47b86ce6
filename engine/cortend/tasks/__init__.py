"""Tasks: the running processes of containers, driven through their shims."""
