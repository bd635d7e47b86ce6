"""Unpacking layers: a confined worker, and chains of layers as snapshots."""
