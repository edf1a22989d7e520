"""Quantities as a person says them."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 s, 12 min, 3.5 h, 4 d."""
    for unit, size, next_size in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 2 * 86400)):
        if seconds < next_size:
            value = seconds / size
            return f"{value:.1f} {unit}" if unit == "h" and value < 10 else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} d"


def several(count: int, noun: str) -> str:
    """A count with its noun.

    >>> several(1, "thread"), several(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{count:,} {noun}" + "s" * (count != 1)


def short(value: float) -> str:
    """A number by two digits, as it is written out: 0.0079, 0.61, 44, 106.

    >>> short(106.14), short(0.61323), short(1.76e-05), short(0)
    ('106', '0.61', '0.000018', '0')
    """
    return (
        f"{value:.0f}"
        if abs(value) >= 10 or not value
        else f"{value:.{1 - math.floor(math.log10(abs(value)))}f}"
    )


def commit_in_words(commit: str | None) -> str:
    """A record's commit, or why it has none."""
    return commit or "unknown (installed without its history)"
