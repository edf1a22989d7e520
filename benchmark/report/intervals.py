"""How sure is a mean, or a difference of two: intervals over scenes and seeds, and what many comparisons cost.

The unit is the scene. Pictures of one photograph (windows of it, several rains over it, the same background in
several test sets) say little more than one of them does, so they are drawn together: x_sg is the mean over the
pictures of scene g under seed s, w_g the scene's share of all pictures (in a mean over test sets, of all shares).
For a comparison x is the difference of two networks on the same picture and seed.

Seeds and scenes are crossed, every scene being restored under every seed, and both are samples:

    x_sg = μ + S_s + G_g + E_sg        m = Σ_g w_g mean_s(x_sg)
    Var(m) = σ_S²/S + (σ_G² + σ_E²/S) Σ w_g²

Two mean squares estimate it, each with the residual's part in it, and a third estimates that part:

    V_S = var_s(Σ_g w_g x_sg) / S                                               S − 1 degrees of freedom
    V_G = Σ w_g² (mean_s(x_sg) − m)² / (1 − 2 w_g + Σ w²)                        G − 1 where scenes weigh alike
    V_E = Σ_sg w_g² (x_sg − mean_s − mean_g + m)² / (1 − 2 w_g + Σ w²) / S (S − 1)

V_G is without bias for scenes that differ in how many pictures they have; its degrees of freedom are then those of
the χ² with the same mean and variance (R. M. Bell, D. F. McCaffrey, Survey Methodology 28(2), 2002).

- With one level (weights that are given: scenes alone; energy of runs: seeds alone) the interval is Student's. It
  errs as often as it says where differences are near normal; where they are as skewed as real ones, a little more.
- With both, V = max(V_S + V_G − V_E, V_S, V_G) and t has the degrees of freedom of F. E. Satterthwaite, Biometrics
  Bulletin 2(6), 1946: the quasi F of two crossed random factors (H. H. Clark, Journal of Verbal Learning and Verbal
  Behavior 12(4), 1973). At a nominal 5 % it errs in 4 to 6 % of cases from five seeds and five scenes on.
- With fewer of either it errs up to twice as often, and far out in the tails, where corrections for many comparisons
  look, many times as often with five too. There the bound of S. K. Banerjee, Sankhyā 22, 1960, holds at every level:
  m ± sqrt(t_S² V_S + t_G² V_G) errs in at most the nominal share of cases, in fewer where both parts are alike.

`results/statistics/` has how often each errs, and with what power, by simulation: `Estimate.withheld` follows it.
What is assumed: parts that are near normal (differences as PReNet's and RESCAN's are on Rain200L, whose skewness is
−1.8, are among what was simulated), and networks paired by seed (independent seeds are covered too).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

LEVEL = 0.95
FEWEST_CROSSED = 5
"""Seeds, and scenes, from which on the crossed interval errs as often as it says."""
FEWEST_SEEDS = 3
"""Seeds, where they are the one level."""
FEWEST_SCENES = 100
"""Scenes under given weights: with fewer, differences as skewed as real ones err in up to 6.3 % of cases."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One level's estimate of the variance of a mean.

    Attributes:
        variance: of the mean, 0 or above; any shape.
        df: its degrees of freedom.
    """

    variance: Array
    df: float


@dataclass(frozen=True)
class Moments:
    """Means with the parts of their variances; arrays of one shape.

    Attributes:
        mean: weighted means.
        parts: of each level that there is (seeds, scenes).
        residual: what both parts hold, with two levels.
    """

    mean: Array
    parts: tuple[Part, ...]
    residual: Part | None = None

    def variance(self) -> tuple[Array, Array]:
        """Variance and degrees of freedom for Student's t (Satterthwaite's, with two levels)."""
        if len(self.parts) == 1:
            (only,) = self.parts
            return only.variance, np.full(self.mean.shape, only.df)
        assert self.residual is not None
        one, two, rest = *self.parts, self.residual
        larger = np.maximum(one.variance, two.variance)
        whole = one.variance + two.variance - rest.variance
        with np.errstate(invalid="ignore", divide="ignore"):
            df = whole**2 / sum(p.variance**2 / p.df for p in (one, two, rest))
        of_larger = np.where(one.variance >= two.variance, one.df, two.df)
        usable = (whole >= larger) & (larger > 0)
        return np.maximum(whole, larger), np.where(usable, df, of_larger)

    def p(self) -> Array:
        """Two-sided p of a mean of 0, by Student's t."""
        variance, df = self.variance()
        return np.minimum(1.0, 2 * special.stdtr(df, -_ratio(self.mean, variance)))

    def half_width(self, level: float = LEVEL) -> Array:
        """Half the width of the interval, by Student's t."""
        variance, df = self.variance()
        return np.sqrt(variance) * -special.stdtrit(df, (1 - level) / 2)

    def bound_p(self) -> Array:
        """Two-sided p of a mean of 0 that is never too small: the level at which `bound_half_width` reaches it."""
        if len(self.parts) == 1:
            return self.p()
        low, high = np.full(self.mean.shape, _LEAST), np.zeros(self.mean.shape)  # logarithms
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            reached = self.bound_half_width(1 - np.exp(middle), np.exp(middle)) >= np.abs(self.mean)
            low, high = np.where(reached, middle, low), np.where(reached, high, middle)
        return np.where(self.mean == 0, 1.0, np.exp(high))

    def bound_half_width(self, level: ArrayLike = LEVEL, outside: ArrayLike | None = None) -> Array:
        """Half the width of an interval that holds at every level (Banerjee's, with two levels).

        Args:
            level: of confidence.
            outside: 1 − level, where that is too small to be told from `level`.
        """
        tail = (1 - np.asarray(level) if outside is None else np.asarray(outside)) / 2
        return np.sqrt(sum(special.stdtrit(p.df, tail) ** 2 * p.variance for p in self.parts))


_LEAST, _HALVINGS = -60.0, 48  # ln p, and how finely it is found


def _ratio(mean: Array, variance: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mean == 0, 0.0, np.abs(mean) / np.sqrt(variance))


def moments(cells: Array, weights: Array, by_seed: bool = True, by_scene: bool = True) -> Moments:
    """Means over scenes and seeds with their variances' parts; leading axes are other means, all found at once.

    Args:
        cells: (…, seeds, scenes), the mean over the pictures of a scene under a seed.
        weights: (scenes,), positive, with sum 1.
        by_seed: whether seeds are a sample; else there is one row, of weights that are given.
        by_scene: whether scenes are a sample; else the pictures are given and there is one column.
    """
    seeds, scenes = cells.shape[-2:]
    of_seeds = cells @ weights
    of_scenes = cells.mean(axis=-2)
    mean = np.asarray(of_seeds.mean(axis=-1))
    found: list[Part] = []
    if by_seed and seeds > 1:
        found.append(Part(np.asarray(of_seeds.var(axis=-1, ddof=1)) / seeds, seeds - 1))
    if by_scene and scenes > 1:
        shrunk = weights**2 / (1 - 2 * weights + (weights**2).sum())
        df = _scene_df(weights, shrunk)
        found.append(Part(np.asarray((of_scenes - mean[..., None]) ** 2 @ shrunk), df))
        if by_seed and seeds > 1:
            rest = cells - of_scenes[..., None, :] - of_seeds[..., :, None] + mean[..., None, None]
            variance = np.asarray((rest**2).sum(axis=-2) @ shrunk) / (seeds * (seeds - 1))
            return Moments(mean, tuple(found), Part(variance, (seeds - 1) * df))
    return Moments(mean, tuple(found))


def _scene_df(w: Array, a: Array) -> float:
    """Degrees of freedom of Σ a_g (x_g − Σ w x)² for x alike and independent: those of the χ² of its moments."""
    ww, aw = float(w @ w), float(a @ w)
    trace = a.sum() - 2 * aw + a.sum() * ww
    squared = (
        a @ a
        + 2 * (aw**2 + (a @ a) * ww)
        + (a.sum() * ww) ** 2
        - 4 * (a**2) @ w
        + 2 * a.sum() * (a @ w**2)
        - 4 * a.sum() * aw * ww
    )
    return float(trace**2 / squared)


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, with its interval.

    Attributes:
        mean: over seeds and pictures.
        low: of the interval; None where none can be made.
        high: likewise.
        df: degrees of freedom of the t that made it; None where it is the bound for few seeds or scenes.
        p: two-sided, of a mean of 0; None where there is no interval.
        seeds: how many; None where the weights are given.
        scenes: how many; None where the pictures are given.
        withheld: why no mark (better, not told apart) is to be made of it; empty where one may be. The interval of
            such a one errs at most as often as it says, or there is none.
        moments: what it was made from.
    """

    mean: float
    low: float | None
    high: float | None
    df: float | None
    p: float | None
    seeds: int | None
    scenes: int | None
    withheld: str
    moments: Moments = field(repr=False, compare=False)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both its ends; None where none can be made."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def bound_p(self) -> float | None:
        """A p for many comparisons (`holm`): right far out in the tails too, where `p` is too small."""
        return None if self.p is None else float(self.moments.bound_p())

    def resolution(self, alpha: float) -> float | None:
        """The smallest difference from 0 that is told at a (small) level: half the bound's width."""
        return None if self.p is None else float(self.moments.bound_half_width(1 - alpha, alpha))


def mean_interval(
    values: ArrayLike,
    scenes: Sequence[Hashable] | None,
    seeds: Sequence[Hashable] | None = None,
    weights: ArrayLike | None = None,
    level: float = LEVEL,
) -> Estimate:
    """A mean over seeds and pictures, with its interval.

    Args:
        values: (seeds, pictures), finite; (pictures,) without seeds, (seeds,) without scenes.
        scenes: the scene of each picture; None where the pictures are not a sample.
        seeds: of the rows, each once; None where the weights are given and the claim is about them alone.
        weights: of the pictures, positive; None for all alike. A mean over test sets gives each picture 1 / the
            number in its set.
        level: of confidence.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a seed twice, or neither seeds nor scenes.
    """
    x = np.asarray(values, dtype=float)
    if seeds is None and scenes is None:
        raise ValueError(
            "neither scenes nor seeds: nothing was drawn, so nothing can be said of another draw"
        )
    x = x[None, :] if seeds is None and x.ndim == 1 else x[:, None] if scenes is None and x.ndim == 1 else x
    told = (
        1 if seeds is None else len(seeds),
        len(scenes) if scenes is not None else x.shape[-1],
    )
    if x.shape != told or 0 in told:
        raise ValueError(f"values are {x.shape}, seeds and pictures {told}")
    if not np.isfinite(x).all():
        raise ValueError("values must be finite")
    if seeds is not None and len(set(seeds)) < len(seeds):
        raise ValueError(f"a seed twice: {list(seeds)}")
    share = np.ones(x.shape[1]) if weights is None else np.asarray(weights, dtype=float)
    if share.shape != x.shape[1:] or not (share > 0).all():
        raise ValueError("weights must be positive, one a picture")
    cells, of_scene = by_scene(x, ["all"] * x.shape[1] if scenes is None else scenes, share / share.sum())
    found = moments(cells, of_scene, seeds is not None, scenes is not None)
    counts = (None if seeds is None else len(seeds), None if scenes is None else cells.shape[1])
    return estimate(found, *counts, level)


def compare(
    a: ArrayLike,
    b: ArrayLike,
    scenes: Sequence[Hashable] | None,
    seeds: Sequence[Hashable] | None = None,
    weights: ArrayLike | None = None,
    level: float = LEVEL,
) -> Estimate:
    """The mean of a − b over the same pictures and seeds, with its interval; arguments as `mean_interval`'s."""
    one, two = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if one.shape != two.shape:
        raise ValueError(f"a is {one.shape}, b {two.shape}: the same pictures and seeds are compared")
    return mean_interval(one - two, scenes, seeds, weights, level)


def by_scene(values: Array, scenes: Sequence[Hashable], weights: Array) -> tuple[Array, Array]:
    """Weighted means over the pictures of each scene, and the scenes' weights.

    Args:
        values: (…, pictures).
        scenes: of each picture.
        weights: of each picture, with sum 1.

    Returns:
        (…, scenes) and (scenes,), in the order in which scenes first come.
    """
    number: dict[Hashable, int] = {}
    index = np.array([number.setdefault(s, len(number)) for s in scenes])
    member = np.zeros((len(index), len(number)))
    member[np.arange(len(index)), index] = weights
    of_scene = member.sum(axis=0)
    return (values @ member) / of_scene, of_scene


def estimate(found: Moments, seeds: int | None, scenes: int | None, level: float = LEVEL) -> Estimate:
    """What a mean of `found` (one, not several) is worth.

    Args:
        found: from `moments`.
        seeds: how many; None where the weights are given.
        scenes: how many; None where the pictures are given.
        level: of confidence.
    """
    why = _withheld(found, seeds, scenes)
    mean = float(found.mean)
    if not found.parts or (seeds == 1) or (scenes == 1):
        return Estimate(mean, None, None, None, None, seeds, scenes, why, found)
    crossed_few = bool(why) and len(found.parts) > 1
    half = found.bound_half_width(level) if crossed_few else found.half_width(level)
    p = found.bound_p() if crossed_few else found.p()
    df = None if crossed_few else float(found.variance()[1])
    return Estimate(mean, mean - float(half), mean + float(half), df, float(p), seeds, scenes, why, found)


def _withheld(found: Moments, seeds: int | None, scenes: int | None) -> str:
    """Why no mark is to be made of an estimate; empty where the interval errs as often as it says."""
    if seeds == 1:
        return "one seed: what another seed would give is not known"
    if scenes == 1:
        return "one scene: what another scene would give is not known"
    crossed = len(found.parts) > 1
    least = FEWEST_CROSSED if crossed else FEWEST_SEEDS
    if seeds is not None and seeds < least:
        return f"{seeds} seeds, {least} are needed"
    least = FEWEST_CROSSED if crossed else FEWEST_SCENES
    under = "" if crossed else " under given weights"
    worth = round(found.parts[-1].df + 1)
    if scenes is not None and scenes < least:
        return f"{scenes} scenes{under}, {least} are needed"
    if scenes is not None and worth < least:
        unlike = f"{scenes} scenes of such unlike numbers of pictures that they are worth {worth}"
        return f"{unlike}, {least} are needed{under}"
    return ""


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for their number, so that all below 5 % together err in at most 5 % of tables.

    S. Holm, Scandinavian Journal of Statistics 6(2), 1979: the smallest times n, the next times n − 1, …, none
    below the one before; whatever the dependence among them.
    """
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted = [1.0] * len(ps)
    so_far = 0.0
    for place, index in enumerate(order):
        so_far = max(so_far, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = so_far
    return adjusted


def rank_range(name: str, means: Mapping[str, float], told: Mapping[frozenset[str], bool]) -> tuple[int, int]:
    """The ranks that a network may have: those told to be better come before it, those told to be worse behind.

    With pairs told apart at a family-wise level the ranges hold together at that level (M. Mogstad, J. P. Romano,
    A. M. Shaikh, D. Wilhelm, Review of Economic Studies 91(1), 2024).

    Args:
        name: the network.
        means: of all, higher being better.
        told: whether the two of a pair are told apart.
    """
    apart = [o for o in means if o != name and told.get(frozenset((name, o)), False)]
    better = sum(means[o] > means[name] for o in apart)
    return 1 + better, len(means) - (len(apart) - better)
