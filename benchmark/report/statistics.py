"""Is A better than B: a paired bootstrap over images and seeds, and what it says of ranks.

The scores of a network on a test set are a matrix, seeds × images, and both are samples: another seed and another
picture would have given other figures. Both are therefore drawn anew with replacement, independently of each other
(the bootstrap of crossed factors: A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007;
for paired comparisons of systems on one test set: P. Koehn, EMNLP 2004). All networks get the same images in a
resample, and networks that have the same seeds get the same seeds, so that what is common to them cancels. n − 1 of
n are drawn, with which the variance of a mean is estimated without bias also for the few seeds that there are
(J. N. K. Rao, C. F. J. Wu, JASA 83(401), 1988).

What it cannot do: a network with one seed has only its images drawn anew, and intervals from two or three seeds are
still too narrow (as any without a distribution assumed). Nothing is corrected for the number of comparisons.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
_BLOCK = 500  # resamples at a time, for memory's sake

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """A network's score on every image of a test set, for every seed.

    Attributes:
        seeds: of its runs.
        images: names.
        values: (seeds, images), as they count in means; what is not finite even so (no PSNR is) is left out of
            comparisons, for all networks alike.
    """

    seeds: tuple[int, ...]
    images: tuple[str, ...]
    values: Array

    @classmethod
    def of(cls, runs: Mapping[int, Mapping[str, float]]) -> Scores | None:
        """From each seed's scores by image; the images that all seeds have. None where there are none."""
        seeds = tuple(sorted(runs))
        common = set.intersection(*(set(runs[s]) for s in seeds)) if seeds else set()
        images = tuple(sorted(common))
        if not images:
            return None
        return cls(seeds, images, np.array([[runs[s][i] for i in images] for s in seeds], dtype=float))

    def only(self, seeds: Sequence[int]) -> Scores:
        """The same with some of the seeds."""
        rows = [self.seeds.index(s) for s in seeds]
        return Scores(tuple(seeds), self.images, self.values[rows])


@dataclass(frozen=True)
class Resampled:
    """Mean scores of networks on one test set in every resample.

    Attributes:
        means: network: (resamples,).
        observed: network: mean over seeds and the images that are compared.
        images: how many images are compared.
        left_out: how many are not, because some network lacks them or has an infinite score there.
    """

    means: dict[str, Array]
    observed: dict[str, float] = field(default_factory=dict)
    images: int = 0
    left_out: int = 0


def resample(
    scores: Mapping[str, Scores], test_set: str = "", trained_on: str = "", resamples: int = RESAMPLES
) -> Resampled:
    """Draw images and seeds anew, `resamples` times, for all networks together.

    Args:
        scores: of each network on the same test set.
        test_set: its name; the draws of images depend on it alone, so that they are the same each time.
        trained_on: likewise for seeds: test sets of the same trained networks get the same seeds.
        resamples: how often.
    """
    if not scores:
        return Resampled({})
    every = sorted(set().union(*(s.images for s in scores.values())))
    common = sorted(set.intersection(*(set(s.images) for s in scores.values())))
    values: dict[str, Array] = {}
    for name, own in scores.items():
        at = {image: i for i, image in enumerate(own.images)}
        values[name] = own.values[:, [at[i] for i in common]]
    finite = np.ones(len(common), dtype=bool)
    for v in values.values():
        finite &= np.isfinite(v).all(axis=0)
    count = int(finite.sum())
    if count == 0:
        return Resampled({}, left_out=len(every))
    values = {name: v[:, finite] for name, v in values.items()}
    for_images, for_seeds = _generator("images", test_set), _generator("seeds", trained_on)
    kinds = sorted({s.seeds for s in scores.values()})
    means: dict[str, list[Array]] = {name: [] for name in values}
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        of_images = _weights(for_images, size, count)
        of_seeds = {seeds: _weights(for_seeds, size, len(seeds)) for seeds in kinds}
        for name, v in values.items():
            means[name].append(((of_seeds[scores[name].seeds] @ v) * of_images).sum(axis=1))
    return Resampled(
        {name: np.concatenate(parts) for name, parts in means.items()},
        {name: float(v.mean()) for name, v in values.items()},
        count,
        len(every) - count,
    )


def _generator(*names: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(":".join(names).encode()))


def _weights(rng: np.random.Generator, resamples: int, count: int) -> Array:
    """How much each of `count` units weighs in each resample: n − 1 draws of n; the one there is, where it is one."""
    if count == 1:
        return np.ones((resamples, 1))
    drawn = rng.integers(count, size=(resamples, count - 1))
    drawn += count * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * count).reshape(resamples, count) / (count - 1)


def interval(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of resampled values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def distinguishable(a: Array, b: Array, level: float = LEVEL) -> bool:
    """Whether the interval of the difference of resampled means leaves out 0: two-sided, at `level`."""
    low, high = interval(a - b, level)
    return low > 0 or high < 0


def undecided(means: Mapping[str, Array], reference: str, level: float = LEVEL) -> set[str]:
    """The others that cannot be told from `reference`."""
    if reference not in means:
        return set()
    return {
        name
        for name, values in means.items()
        if name != reference and not distinguishable(values, means[reference], level)
    }


@dataclass(frozen=True)
class Ranking:
    """A network's place among the others.

    Attributes:
        mean_rank: over test sets, of the observed means; 1 is the best, equals share their ranks.
        low: of the interval of the mean rank over resamples.
        high: likewise.
        best: share of the resamples in which its mean rank is the lowest; equals share it.
    """

    mean_rank: float
    low: float
    high: float
    best: float


def rankings(sets: Sequence[Resampled], level: float = LEVEL) -> dict[str, Ranking]:
    """The mean rank over test sets of every network that was measured on all of them, higher scores being better.

    Test sets are drawn independently of each other.
    """
    names = sorted(set.intersection(*(set(s.means) for s in sets))) if sets else []
    if not names:
        return {}
    observed = sum(_ranks(np.array([[s.observed[n]] for n in names])) for s in sets) / len(sets)
    drawn = sum(_ranks(np.stack([s.means[n] for n in names])) for s in sets) / len(sets)
    assert isinstance(observed, np.ndarray) and isinstance(drawn, np.ndarray)
    first = drawn <= drawn.min(axis=0) + 1e-9
    best = (first / first.sum(axis=0)).mean(axis=1)
    return {
        name: Ranking(float(observed[i, 0]), *interval(drawn[i], level), float(best[i]))
        for i, name in enumerate(names)
    }


def _ranks(scores: Array) -> Array:
    """Ranks along the first axis, 1 for the highest; equals get the mean of their ranks. (networks, resamples)."""
    above = np.zeros_like(scores)
    for row in scores:
        above += (row > scores) + 0.5 * (row == scores)
    return above + 0.5
