"""Statistics of noisy rates: summaries with intervals, warm-up detection, comparison."""
