"""PReNet: stages of one network, tied by a memory."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from benchmark import create_model, load_checkpoint
from benchmark.errors import UserError


def test_computes_what_the_authors_code_does(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    card = parity.card
    monkeypatch.setattr(parity, "card", lambda name: card(name) | {"tolerance": 1e-5})
    assert parity.check("prenet")


@pytest.mark.parametrize("weights", ["Rain100H", "Rain100L", "Rain1400"])
def test_released_weights_load_and_remove_something(shared: Path, weights: str) -> None:
    model = create_model("prenet").eval()
    load_checkpoint(model, shared / "data" / "weights" / "prenet" / f"{weights}.pth")
    rainy = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        assert (model(rainy) - rainy).abs().mean() > 0.01


def test_stages_share_their_weights() -> None:
    for stages in (2, 6):
        assert sum(p.numel() for p in create_model("prenet", stages=stages).parameters()) == 168_963


def test_every_stage_is_an_output_and_the_last_is_the_restored_image() -> None:
    model = create_model("prenet", stages=3, channels=4, residual_blocks=1).eval()
    rainy = torch.rand(2, 3, 16, 20)
    outputs = model.training_outputs(rainy)
    assert len(outputs) == 3
    assert torch.equal(outputs[-1], model(rainy))
    # a network of fewer stages gives the first outputs of one of more
    model.stages = 2
    torch.testing.assert_close(model(rainy), outputs[1])


def test_the_memory_reaches_later_stages_but_not_the_next_image() -> None:
    model = create_model("prenet", stages=2, channels=4, residual_blocks=1).eval()
    rainy = torch.rand(1, 3, 16, 16)
    before = model(rainy)
    model(torch.rand(1, 3, 16, 16))
    assert torch.equal(model(rainy), before)
    # the half of the gates' weights that sees the hidden state matters from stage 2 on only
    first, second = model.training_outputs(rainy)
    with torch.no_grad():
        model.memory.input_gate.weight[:, 4:] += 1
    first_again, second_again = model.training_outputs(rainy)
    assert torch.equal(first_again, first)
    assert not torch.allclose(second_again, second)


def test_no_stage_is_refused() -> None:
    with pytest.raises(UserError, match="stages must be at least 1"):
        create_model("prenet", stages=0)
