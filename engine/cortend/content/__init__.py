"""Blobs by digest, kept as an OCI image layout."""
