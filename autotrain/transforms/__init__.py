"""Transforms of a dataset's own: read, split into what is deterministic, what can move, and what stays as it is."""
