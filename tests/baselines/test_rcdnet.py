"""RCDNet: unrolled proximal steps on rain kernels and maps."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from baselines.rcdnet import _leaning_kernels, rain_kernels
from benchmark import create_model
from benchmark.errors import UserError
from benchmark.training.losses import get_loss

SMALL = {"stages": 3, "maps": 4, "duals": 3, "blocks": 1}


def test_computes_what_the_authors_code_does(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    card = parity.card
    monkeypatch.setattr(parity, "card", lambda name: card(name) | {"tolerance": 1e-5})
    assert parity.check("rcdnet")


def test_parameter_count_with_those_that_nothing_uses() -> None:
    model = create_model("rcdnet")
    assert sum(p.numel() for p in model.parameters()) == 3_166_355
    idle = {n.split(".")[0] for n, p in model.named_parameters() if not p.requires_grad}
    assert idle == {"idle_step", "idle_rain"}


def test_no_parameter_shares_memory_within_itself() -> None:
    for parameter in create_model("rcdnet", **SMALL).parameters():
        assert parameter.is_contiguous()


def test_the_second_set_of_kernels_is_the_one_in_use() -> None:
    model = create_model("rcdnet", **(SMALL | {"stages": 4}))
    model(torch.rand(2, 3, 16, 16)).sum().backward()
    used = model.kernels.grad.flatten(1).abs().sum(dim=1) > 0
    assert used.tolist() == [False, True, False]


def test_outputs_come_in_the_order_that_the_loss_weighs() -> None:
    model = create_model("rcdnet", **SMALL).eval()
    rainy = torch.rand(1, 3, 16, 20)
    outputs = model.training_outputs(rainy)
    assert len(outputs) == 2 * 3 + 2
    assert torch.equal(outputs[-1], model(rainy))
    # without kernels there is no rain: the rain layers' estimates are the rainy image, the others are not
    with torch.no_grad():
        model.kernels.zero_()
    outputs = model.training_outputs(rainy)
    no_rain = [torch.allclose(o, rainy, atol=1e-6) for o in outputs]
    assert no_rain == [False, True, False, True, False, True, False, False]


def test_the_last_rain_layer_and_the_restored_image_weigh_most() -> None:
    target = torch.zeros(1, 3, 8, 8)
    loss = get_loss("rcdnet")
    weights = []
    for wrong in range(8):
        outputs = [target + 1 / 255 * (n == wrong) for n in range(8)]
        weights.append(loss(outputs, target, target).item())
    assert weights == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.1, 1.0, 0.1, 1.0])


def test_the_restored_image_is_not_negative() -> None:
    model = create_model("rcdnet", **SMALL)
    assert model(torch.rand(2, 3, 16, 16)).min() >= 0


@pytest.mark.parametrize("make", [rain_kernels, _leaning_kernels])
def test_starting_kernels_are_streaks(make: Callable[[int], torch.Tensor]) -> None:
    kernels = make(32)
    assert kernels.shape == (3, 32, 9, 9)
    assert kernels.min() >= 0
    sums = kernels[0].sum(dim=(1, 2))
    if make is rain_kernels:
        assert sums.min() > 0.139 and sums.max() <= 1 and abs(sums.mean() - 0.45) < 0.02
    else:
        torch.testing.assert_close(sums, torch.ones(32))
    assert torch.equal(kernels[0], kernels[1])
    assert len(torch.unique(kernels[0].flatten(1), dim=0)) == 32
    # long along the vertical, give or take 45°: no less spread down than across
    axis = torch.arange(9.0) - 4
    down = (kernels[0].sum(dim=2) * axis**2).sum(dim=1)
    across = (kernels[0].sum(dim=1) * axis**2).sum(dim=1)
    assert (down > across).all()


@pytest.mark.parametrize(
    ("options", "words"), [({"stages": 2}, "stages must be at least 3"), ({"kernel_size": 4}, "must be odd")]
)
def test_impossible_options_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        create_model("rcdnet", **options)
