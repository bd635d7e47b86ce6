"""The engine: one daemon that keeps images, snapshots and containers, behind several doors."""
