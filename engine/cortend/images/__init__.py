"""The images use case: pulling, loading, naming and removing images."""
