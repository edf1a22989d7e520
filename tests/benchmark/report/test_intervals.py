"""Intervals over scenes and seeds against cases computed by hand, scipy's t test and what Holm's paper asks for."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmark.report.intervals import (
    Part,
    by_scene,
    compare,
    estimate,
    holm,
    mean_interval,
    moments,
    rank_range,
)


def test_scenes_alone_are_students_t_over_scene_means() -> None:
    """Nine pictures of three scenes: three units, t with two degrees of freedom."""
    values = np.array([1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 9.0, 10.0, 11.0])
    found = mean_interval(values, list("aaabbbccc"))
    expected = stats.ttest_1samp([2.0, 5.0, 10.0], 0)
    low, high = expected.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx((low, high, expected.pvalue))
    assert (found.df, found.scenes, found.seeds, found.withheld) == (
        pytest.approx(2),
        3,
        None,
        "3 scenes under given weights, 100 are needed",
    )
    as_pictures = mean_interval(values, list("abcdefghi"))
    assert as_pictures.p is not None and found.p is not None and as_pictures.p < found.p


def test_the_order_of_pictures_does_not_matter() -> None:
    values, scenes = np.random.default_rng(0).normal(size=(5, 12)), list("aabbccddeeff")
    order = np.random.default_rng(1).permutation(12)
    straight = mean_interval(values, scenes, range(5))
    shuffled = mean_interval(values[:, order], [scenes[i] for i in order], range(5))
    assert (straight.low, straight.high, straight.p) == pytest.approx(
        (shuffled.low, shuffled.high, shuffled.p)
    )


def test_one_seed_says_nothing_of_seeds() -> None:
    found = moments(np.array([[1.0, 2.0, 6.0]]), np.full(3, 1 / 3))
    (scenes,) = found.parts
    assert found.residual is None and scenes.df == pytest.approx(2)
    assert float(scenes.variance) == pytest.approx(np.var([1.0, 2.0, 6.0], ddof=1) / 3)


def test_seeds_and_scenes_by_hand() -> None:
    """Two of each: V_S = 1, V_G = 2.25, V_E = 0.25, V = 3 with 9 / (1 + 5.0625 + 0.0625) degrees of freedom."""
    found = moments(np.array([[1.0, 3.0], [2.0, 6.0]]), np.array([0.5, 0.5]))
    assert found.residual is not None
    assert [float(p.variance) for p in (*found.parts, found.residual)] == pytest.approx([1, 2.25, 0.25])
    assert [p.df for p in (*found.parts, found.residual)] == pytest.approx([1, 1, 1])
    variance, df = found.variance()
    assert (float(variance), float(df)) == pytest.approx((3, 9 / 6.125))
    assert float(found.p()) == pytest.approx(2 * stats.t.sf(math.sqrt(3), 9 / 6.125))
    bound = stats.t.ppf(0.975, 1) * math.sqrt(3.25)
    assert float(found.bound_half_width(0.95)) == pytest.approx(bound)


def test_what_the_residual_would_make_negative_is_the_larger_part() -> None:
    """Nothing but the residual: V_S + V_G − V_E falls below both."""
    found = moments(np.array([[1.0, -1.0, 0.1], [-1.0, 1.0, -0.1]]) + 0.01, np.full(3, 1 / 3))
    one, two = (float(p.variance) for p in found.parts)
    assert found.residual is not None and one + two < float(found.residual.variance)
    variance, df = found.variance()
    assert float(variance) == max(one, two)
    assert float(df) == pytest.approx(found.parts[0 if one >= two else 1].df)


def test_scenes_of_unlike_numbers_of_pictures() -> None:
    """The variance is without bias, and its degrees of freedom are those of its own mean and variance."""
    weights = np.array([1, 2, 3, 6, 8]) / 20
    x = np.random.default_rng(0).normal(size=(200_000, 1, 5))
    found = moments(x, weights, by_seed=False)
    (part,) = found.parts
    assert part.variance.mean() == pytest.approx((weights**2).sum(), rel=0.01)
    assert part.df == pytest.approx(2 * part.variance.mean() ** 2 / part.variance.var(), rel=0.03)
    assert found.mean.var() == pytest.approx((weights**2).sum(), rel=0.01)
    alike = moments(x[:2], np.full(5, 0.2), by_seed=False)
    assert alike.parts[0].df == pytest.approx(4)


def test_the_bounds_p_is_where_its_interval_ends() -> None:
    found = compare(np.random.default_rng(0).normal(0.5, 1, (6, 9)), np.zeros((6, 9)), range(9), range(6))
    assert found.bound_p is not None
    assert found.resolution(found.bound_p) == pytest.approx(abs(found.mean), rel=1e-6)
    assert found.p is not None and found.p < found.bound_p


@pytest.mark.parametrize(
    ("seeds", "scenes", "why"),
    [
        (None, 1, "one scene"),
        (None, 99, "99 scenes under given weights, 100 are needed"),
        (None, 100, ""),
        (1, 200, "one seed"),
        (3, 200, "3 seeds, 5 are needed"),
        (5, 200, ""),
        (5, 4, "4 scenes, 5 are needed"),
        (5, 5, ""),
        (5, None, ""),
        (2, None, "2 seeds, 3 are needed"),
    ],
)
def test_where_marks_are_withheld(seeds: int | None, scenes: int | None, why: str) -> None:
    shape = (seeds or 1, scenes or 1)
    values = np.random.default_rng(0).normal(size=shape)
    found = mean_interval(
        values, None if scenes is None else range(scenes), None if seeds is None else range(seeds)
    )
    assert found.withheld.startswith(why) and bool(found.withheld) == bool(why)
    assert (found.low is None) == (1 in (seeds, scenes))


def test_few_seeds_get_the_bound() -> None:
    """Three seeds: the interval is the wider one, which errs at most as often as it says."""
    values = np.random.default_rng(0).normal(size=(3, 200))
    found = mean_interval(values, range(200), range(3))
    assert found.df is None and found.high is not None and found.low is not None
    assert (found.high - found.low) / 2 == pytest.approx(float(found.moments.bound_half_width(0.95)))
    assert found.high - found.low > 2 * float(found.moments.half_width(0.95))


def test_one_huge_scene_is_not_many() -> None:
    values = np.random.default_rng(0).normal(size=(5, 106))
    found = mean_interval(values, ["huge"] * 100 + list("abcdef"), range(5))
    assert "worth" in found.withheld and found.scenes == 7


def test_a_mean_over_test_sets_draws_a_shared_scene_once() -> None:
    """Two sets of two pictures, one photograph in both: three units, the shared one with half of the weight."""
    cells, weights = by_scene(np.array([1.0, 3.0, 5.0, 7.0]), ["x", "a", "x", "b"], np.full(4, 0.25))
    assert list(weights) == [0.5, 0.25, 0.25] and list(cells) == [3.0, 3.0, 7.0]


@given(st.floats(0.01, 5), st.integers(0, 1000))
def test_a_shift_that_all_pictures_share_is_found_however_much_they_differ(shift: float, state: int) -> None:
    values = np.random.default_rng(state).normal(30, 10, (5, 8))
    found = compare(values + shift, values, range(8), range(5))
    assert found.mean == pytest.approx(shift) and found.bound_p is not None and found.bound_p < 1e-9
    same = compare(values, values, range(8), range(5))
    assert (same.p, same.bound_p, same.low, same.high) == (1, 1, 0, 0)


def test_vectors_and_single_means_agree() -> None:
    x = np.random.default_rng(0).normal(0.3, 1, (7, 5, 9))
    many = moments(x, np.full(9, 1 / 9))
    for i in range(7):
        one = estimate(moments(x[i], np.full(9, 1 / 9)), 5, 9)
        assert (one.p, one.bound_p) == pytest.approx((many.p()[i], many.bound_p()[i]))


@pytest.mark.parametrize(
    ("values", "scenes", "seeds", "what"),
    [
        ([[1.0, 2.0]], ["a"], [0], "values are"),
        ([[1.0, math.inf]], ["a", "b"], [0], "finite"),
        ([[1.0, 2.0], [1.0, 2.0]], ["a", "b"], [0, 0], "twice"),
        ([1.0], None, None, "neither"),
    ],
)
def test_what_cannot_be_compared_is_said(values: list, scenes: list, seeds: list, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        mean_interval(values, scenes, seeds)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_rank_ranges() -> None:
    means = {"a": 3.0, "b": 2.0, "c": 1.0}
    told = {frozenset("ac"): True}
    assert [rank_range(n, means, told) for n in "abc"] == [(1, 2), (1, 3), (2, 3)]
    assert rank_range("b", means, {}) == (1, 3)


def test_the_parts_of_a_variance_know_their_freedom() -> None:
    """The residual's is the product of the two levels'; where nothing varies it is the seeds'."""
    rng = np.random.default_rng(0)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    found = moments(rng.normal(0, 1, (3, 4)), weights)
    assert found.residual is not None
    assert found.residual.df == pytest.approx(2 * found.parts[1].df) and found.parts[0].df == 2
    still = moments(np.ones((3, 6)), np.full(6, 1 / 6))
    assert still.variance()[0] == pytest.approx(0, abs=1e-20) and still.parts[1].df == pytest.approx(5)
    zero = dataclasses.replace(still, parts=tuple(Part(np.array(0.0), p.df) for p in still.parts))
    assert zero.variance()[1] == 2


def test_a_picture_weighs_something() -> None:
    with pytest.raises(ValueError, match="weights must be positive"):
        mean_interval([1.0, 2.0, 3.0], list("abc"), weights=[1.0, 0.0, 1.0])


def test_an_estimate_is_what_it_says_and_stays_so() -> None:
    found, other = mean_interval([1.0, 2.0, 4.0], list("abc")), mean_interval([1.0, 5.0, 4.0], list("abc"))
    assert dataclasses.replace(found, moments=other.moments) == found != other
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.mean = 0.0  # type: ignore[misc]
