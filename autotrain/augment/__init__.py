"""Augmentation policies: one draw, two appliers of the same parameters."""
