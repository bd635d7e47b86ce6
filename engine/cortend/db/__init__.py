"""Metadata in SQLite: one file, one writer, one repository module per noun."""
