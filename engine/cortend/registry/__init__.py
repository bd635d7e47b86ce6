"""The registry client: manifests and blobs by the OCI distribution protocol."""
