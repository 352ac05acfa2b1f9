"""What can be set: one file per knob, listed in the registry."""
