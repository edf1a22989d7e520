"""RESCAN: rain maps of stages with a state, in BGR inside."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmark import create_model, load_checkpoint
from benchmark.errors import UserError
from benchmark.training.losses import get_loss


def test_computes_what_the_authors_code_does(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    card = parity.card
    monkeypatch.setattr(parity, "card", lambda name: card(name) | {"tolerance": 1e-5})
    assert parity.check("rescan")


def test_parameter_count() -> None:
    assert sum(p.numel() for p in create_model("rescan").parameters()) == 149_823


def test_a_file_of_the_authors_training_script_loads(shared: Path, tmp_path: Path) -> None:
    parity = importlib.import_module("runpy").run_path(str(shared / "parity" / "parity.py"))
    weights = parity["checkpoint"]("rescan")
    torch.save({"net": weights, "clock": {"epoch": 3}, "opt": {}}, tmp_path / "latest")
    model = create_model("rescan")
    load_checkpoint(model, tmp_path / "latest")
    assert torch.equal(model.units[1].state_reset.weight, weights["rnns.1.conv_hr.weight"])
    assert torch.equal(model.units[4].input_candidate.bias, weights["rnns.4.conv_xn.bias"])


def test_channels_are_blue_green_red_inside() -> None:
    model = create_model("rescan", stages=1, channels=4, depth=3)
    with torch.no_grad():
        model.rain.weight.zero_()
        model.rain.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    rainy = torch.rand(1, 3, 16, 16)
    rain = (rainy - model(rainy)).mean(dim=(0, 2, 3))
    torch.testing.assert_close(rain, torch.tensor([0.3, 0.2, 0.1]))


def test_the_loss_is_that_of_every_stages_rain_map() -> None:
    model = create_model("rescan", stages=3, channels=4, depth=4).eval()
    rainy, target = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    outputs = model.training_outputs(rainy)
    assert len(outputs) == 3
    assert torch.equal(outputs[-1], model(rainy))
    expected = sum(F.mse_loss(rainy - o, rainy - target) for o in outputs)
    torch.testing.assert_close(get_loss("rescan")(outputs, rainy, target), expected)


def test_the_first_stage_has_no_state() -> None:
    for stages, used in ((1, False), (2, True)):
        model = create_model("rescan", stages=stages, channels=4, depth=4)
        model(torch.rand(1, 3, 16, 16)).sum().backward()
        for unit in model.units:
            for part in (unit.state_update, unit.state_reset, unit.state_candidate, unit.input_reset):
                assert (part.weight.grad is not None) == used


def test_the_context_widens_with_depth() -> None:
    dilations = [unit.input_update.dilation[0] for unit in create_model("rescan").units]
    assert dilations == [1, 1, 2, 4, 8]
    assert all(unit.state_update.dilation == (1, 1) for unit in create_model("rescan").units)


def test_impossible_depth_is_refused() -> None:
    with pytest.raises(UserError, match="depth at least 3"):
        create_model("rescan", depth=2)
