"""The rivals of ``benchmarks/rivals.py``: their environments, the scripts that run there, and their choices, live."""
