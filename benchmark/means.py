"""The one way in which scores are averaged over images: what an infinite PSNR counts as.

A picture identical to its target has an infinite PSNR. Left out, it would lower the mean of the network that restored
it; kept, one such picture would make every mean infinite. So every PSNR counts as at most `PSNR_CAP` in means, in
comparisons and in figures, whichever network or picture it is of: a better picture never lowers a mean. An image's own
score is kept as it is. 100 dB are some 9 pixels in a million that differ by one grey level.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

PSNR_CAP = 100.0
"""dB, the most that a picture's PSNR counts in a mean."""

_PSNR = re.compile(r"(rainy_)?psnr_")


def counted(column: str, value: float | str) -> float:
    """What an image's score counts in a mean: PSNR at most `PSNR_CAP`, anything else itself.

    Args:
        column: of the images' rows; those of PSNR are `psnr_CONVENTION` and `rainy_psnr_CONVENTION`.
        value: the score, as a number or as records write it ("inf").
    """
    return _counted(column, [value])[0]


def _counted(column: str, values: Iterable[float | str]) -> list[float]:
    scores = list(map(float, values))
    # not min(): a NaN is not perfection, it stays one
    return [PSNR_CAP if v > PSNR_CAP else v for v in scores] if _PSNR.match(column) else scores


def mean_of(column: str, values: Iterable[float | str]) -> float:
    """The mean of a column over images; NaN where there are none, or where one is.

    >>> mean_of("psnr_esdnet", [30.0, 40.0, float("inf")])
    56.666666666666664
    """
    scores = _counted(column, values)
    try:
        return math.fsum(scores) / len(scores) if scores else math.nan
    except ValueError:  # infinities of both signs
        return math.nan


def identical(column: str, values: Iterable[float | str]) -> int:
    """How many pictures of a column of PSNR are identical to their targets; 0 of any other column."""
    return sum(float(v) == math.inf for v in values) if _PSNR.match(column) else 0


def identical_note(counts: dict[str, int]) -> str:
    """How the pictures that are identical to their targets count, for the lines beneath means."""
    told = ", ".join(f"{column} {count}" for column, count in counts.items())
    return f"pictures identical to their target, each counted as {PSNR_CAP:g} dB in the mean: {told}"
