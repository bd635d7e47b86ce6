"""Filesystem trees made on top of trees."""
