"""Bursts of real training and what they saw."""
