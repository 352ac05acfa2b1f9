"""Sizes as people read them."""

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size_words(count: float) -> str:
    """Return ``512 bytes``, ``64.0 MiB`` or ``1.5 TiB``."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.{1 if unit else 0}f} {UNITS[unit]}"
