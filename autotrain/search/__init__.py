"""Optuna's search over the legal space, its bounds, and the duel that proves the choice."""
