"""Recipe `authors`: the learning rate of every epoch is that of the authors' scheduler, simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, StepLR

from benchmark.spec import resolve
from benchmark.training.schedules import learning_rate_factor

Rates = Iterator[float]


def optimizer(rate: float) -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def gradual(rate: float, warmup: int, epochs: int, floor: float, steps_before: int) -> Rates:
    """GradualWarmupScheduler of MPRNet's repository (multiplier 1) over CosineAnnealingLR.

    Position p of the warm-up gives p/warmup of the rate. The first position beyond it gives what the cosine has before
    its first step, the rate; from then on every step is the cosine's. Some scripts step once before the first epoch.
    """
    of = optimizer(rate)
    cosine = CosineAnnealingLR(of, epochs - warmup, eta_min=floor)
    position, handed_over = 0, False

    def step() -> None:
        nonlocal position, handed_over
        if handed_over:
            cosine.step()
            return
        position += 1
        handed_over = position > warmup
        of.param_groups[0]["lr"] = rate if handed_over else rate * position / warmup

    of.param_groups[0]["lr"] = 0.0
    of.step()
    for _ in range(steps_before):
        step()
    while True:
        yield of.param_groups[0]["lr"]
        step()


def of_torch(rate: float, make: Callable[[SGD], object], steps_before: int = 0) -> Rates:
    of = optimizer(rate)
    scheduler = make(of)
    of.step()
    for _ in range(steps_before):
        scheduler.step()
    while True:
        yield of.param_groups[0]["lr"]
        scheduler.step()


def linear(rate: float, epochs: int, start: int) -> Rates:
    """EfficientDeRain sets the rate of the next epoch, number n from 0, after each."""
    for n in range(epochs):
        yield rate * (epochs - n) / (epochs - start) if n >= start else rate


# network -> (units simulated, their rates); a training in steps is simulated shorter where its length does not matter
AUTHORS: dict[str, tuple[int, Rates]] = {
    "mprnet": (250, gradual(2e-4, 3, 250, 1e-6, steps_before=1)),
    "sfnet": (300, gradual(1e-4, 3, 300, 1e-6, steps_before=1)),
    "esdnet": (1000, gradual(1e-3, 3, 1000, 1e-7, steps_before=0)),
    "vlif": (1000, gradual(1e-3, 3, 1000, 1e-7, steps_before=0)),
    "spikerain": (2000, gradual(1e-3, 5, 2000, 1e-7, steps_before=0)),
    # both step once before the first epoch
    "elformer": (600, of_torch(2e-4, lambda of: StepLR(of, 80, 0.8), steps_before=1)),
    "hpcnet": (1000, of_torch(4e-4, lambda of: StepLR(of, 60, 0.8), steps_before=1)),
    # steps before each epoch, in the torch of that time (0.4) from epoch 0 on
    "rcdnet": (100, of_torch(1e-3, lambda of: StepLR(of, 25, 0.2))),
    "prenet": (100, of_torch(1e-3, lambda of: MultiStepLR(of, [30, 50, 80], 0.2))),
    "rescan": (20_000, of_torch(5e-3, lambda of: MultiStepLR(of, [15_000, 17_500], 0.1))),
    "efficientderain": (5000, linear(2e-4, 5000, 2000)),
    "nafnet": (2000, of_torch(1e-3, lambda of: CosineAnnealingLR(of, 2000, eta_min=1e-7))),
    "drt": (4600, iter(lambda: 1e-4, None)),
}


@pytest.mark.filterwarnings("ignore:To get the last learning rate")
@pytest.mark.parametrize("name", AUTHORS)
def test_every_epoch_has_the_authors_rate(name: str) -> None:
    recipe = resolve([f"model={name}", "recipe=authors"]).recipe
    units, rates = AUTHORS[name]
    each = 7 if recipe.schedule.unit == "epoch" else 1
    if recipe.epochs is not None:
        assert recipe.epochs == units
    for unit, expected in zip(range(units), rates, strict=False):
        for step in (unit * each, unit * each + each - 1):
            ours = recipe.optimizer.lr * learning_rate_factor(recipe, step, units * each, each)
            assert ours == pytest.approx(expected, rel=1e-6, abs=1e-12), f"unit {unit}"


def test_the_warm_ups_are_as_reported() -> None:
    def first(*words: str) -> list[float]:
        recipe = resolve([*words, "data=embedded-light"]).recipe
        return [learning_rate_factor(recipe, epoch, recipe.epochs or 0, 1) for epoch in range(4)]

    assert first("model=mprnet", "recipe=authors") == pytest.approx([1 / 3, 2 / 3, 1, 1])
    for words in (("model=esdnet", "recipe=authors"), ("model=prenet", "recipe=released-code")):
        assert first(*words) == pytest.approx([0, 1 / 3, 2 / 3, 1])
