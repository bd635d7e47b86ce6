"""Codecs of OCI and Docker documents: bytes in, values out, no IO."""
