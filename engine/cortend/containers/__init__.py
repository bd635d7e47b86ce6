"""Containers: records made, found, renamed and removed."""
