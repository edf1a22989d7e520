"""Quantities as a person says them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 s, 12 min, 3.5 h, 4 d."""
    for unit, size, next_size in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 2 * 86400)):
        if seconds < next_size:
            value = seconds / size
            return f"{value:.1f} {unit}" if unit == "h" and value < 10 else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} d"
