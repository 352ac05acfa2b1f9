"""Facts of the machine, one source per file."""
