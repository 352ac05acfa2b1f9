"""The cache: deterministic work on samples, kept in memory or on disk and shared by all loader processes."""
