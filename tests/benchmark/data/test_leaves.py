"""Dead leaves: the same from the same seed, covered all over, of many kinds, statistics like a photograph's."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.data.leaves import dead_leaves


@pytest.mark.parametrize("shape", [(40, 60), (96, 96), (1, 1)])
def test_a_picture_follows_from_its_seed(shape: tuple[int, int]) -> None:
    first, again, other = dead_leaves(shape, 3), dead_leaves(shape, 3), dead_leaves(shape, 4)
    assert first.shape == (*shape, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_no_two_are_alike_in_light_colour_and_busyness() -> None:
    pictures = [dead_leaves((96, 96), seed).astype(float) for seed in range(16)]
    light = [p.mean() for p in pictures]
    assert min(light) < 60 and max(light) > 100
    tint = [p.mean((0, 1)) / p.mean() for p in pictures]
    assert np.std(tint, axis=0).min() > 0.03
    edges = [np.abs(np.diff(p.mean(2), axis=1)).mean() for p in pictures]
    assert max(edges) > 2 * min(edges)


def test_edges_are_sharp_and_neighbours_alike_as_in_photographs() -> None:
    steps = np.concatenate(
        [np.diff(dead_leaves((96, 96), seed).astype(float).mean(2), axis=1).ravel() for seed in range(8)]
    )
    # far from a bell: most neighbours are nearly equal, and a few differ much
    assert np.mean((steps - steps.mean()) ** 4) / steps.var() ** 2 > 8
