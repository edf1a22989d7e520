"""Losses and schedules against other implementations and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark import catalog
from benchmark.errors import UserError
from benchmark.spec import RecipeSpec, ScheduleSpec, resolve
from benchmark.spec.resolve import choices
from benchmark.training.distances import charbonnier, ssim
from benchmark.training.losses import LOSSES, get_loss
from benchmark.training.schedules import learning_rate_factor


def test_ssim_is_wang_2004_with_zero_padding() -> None:
    """Against a direct computation in float64 with scipy's convolution."""
    from scipy.ndimage import correlate

    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 20, 24)), rng.random((2, 3, 20, 24))
    x = np.arange(11) - 5
    g = np.exp(-(x**2) / (2 * 1.5**2))
    window = np.outer(g, g) / g.sum() ** 2

    def blur(image: np.ndarray) -> np.ndarray:
        return np.stack([[correlate(c, window, mode="constant") for c in i] for i in image])

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    expected = ((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))).mean()
    assert ssim(torch.from_numpy(a), torch.from_numpy(b)).item() == pytest.approx(expected, abs=1e-10)


def test_ssim_of_the_same_is_one_and_its_gradient_is_finite() -> None:
    a = torch.rand(1, 3, 16, 16, requires_grad=True)
    value = ssim(a, a.detach())
    value.backward()
    assert value.item() == pytest.approx(1.0, abs=1e-6)
    assert a.grad is not None and torch.isfinite(a.grad).all()


def test_charbonnier_by_hand() -> None:
    a, b = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, -1.0]])
    assert charbonnier(a, b).item() == pytest.approx((1e-3 + math.sqrt(16 + 1e-6)) / 2)


def test_generic_losses_look_at_the_last_output_alone() -> None:
    target = torch.rand(1, 3, 16, 16)
    for name in ("ssim", "l1", "mse", "charbonnier", "l1+ssim"):
        loss = get_loss(name)
        assert loss([torch.rand_like(target), target], target * 0, target) == loss(
            [target], target * 0, target
        )
        assert loss([target], target * 0, target) < 2e-3


def test_an_unknown_loss_is_named() -> None:
    with pytest.raises(UserError, match="did you mean 'ssim'"):
        get_loss("ssimm")


def test_the_configuration_knows_every_loss() -> None:
    assert set(choices("recipe.loss")) - {"own"} == {*LOSSES, *catalog.losses()}


def _recipe(**schedule: object) -> RecipeSpec:
    return RecipeSpec(schedule=ScheduleSpec(**schedule))


def test_cosine_of_the_paper_ends_at_1e_7() -> None:
    recipe = resolve(["recipe=paper"]).recipe
    factors = [learning_rate_factor(recipe, s, 1000 * 150, 150) for s in (0, 149, 150, 75_000, 149_999)]
    assert factors[0] == factors[1] == 1.0  # the rate changes between epochs
    assert factors[2] < 1.0
    assert factors[3] == pytest.approx(0.5, abs=1e-3)
    assert recipe.optimizer.lr * learning_rate_factor(recipe, 150_000, 150_000, 150) == pytest.approx(1e-7)


def test_warm_up_rises_to_the_rate() -> None:
    recipe = resolve(["recipe=released-code"]).recipe
    rates = [learning_rate_factor(recipe, epoch * 10, 10_000, 10) for epoch in range(5)]
    assert rates == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    own = _recipe(name="cosine", warmup=3)
    rates = [learning_rate_factor(own, epoch * 10, 10_000, 10) for epoch in range(5)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] < 1.0


def test_step_multistep_linear_and_constant() -> None:
    step = _recipe(name="step", every=25, gamma=0.2)
    assert [learning_rate_factor(step, s, 100, 1) for s in (0, 24, 25, 50)] == [
        1,
        1,
        0.2,
        pytest.approx(0.04),
    ]
    multi = _recipe(name="multistep", milestones=[30, 50, 80], gamma=0.2)
    assert [learning_rate_factor(multi, s, 100, 1) for s in (29, 30, 80)] == [1, 0.2, pytest.approx(0.008)]
    linear = _recipe(name="linear", start=50, unit="step")
    assert [learning_rate_factor(linear, s, 100, 7) for s in (50, 75, 100)] == [1, 0.5, 0]
    assert learning_rate_factor(_recipe(name="constant"), 99, 100, 1) == 1


@given(st.sampled_from(["cosine", "step", "multistep", "linear", "constant"]), st.integers(0, 5000))
def test_a_factor_is_between_0_and_1(name: str, step: int) -> None:
    recipe = _recipe(name=name, every=10, gamma=0.5, milestones=[10, 20], start=30, warmup=2)
    assert 0 <= learning_rate_factor(recipe, step, 5000, 50) <= 1
