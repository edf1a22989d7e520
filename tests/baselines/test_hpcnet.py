"""HPCNet: background and rain side by side."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import create_model, load_checkpoint
from benchmark.errors import UserError
from benchmark.training.losses import get_loss

SMALL = {"channels": 8, "coupled_blocks": 1, "blocks": 1}


def test_computes_what_the_authors_code_does_for_both_outputs(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    model = create_model("hpcnet").eval()
    assert sum(p.numel() for p in model.parameters()) == 1_463_185
    weights = parity.checkpoint("hpcnet")
    with np.load(shared / "parity" / "hpcnet" / "io.npz") as io:
        # all keys begin with "model.": read as a wrapper's prefix or not, they fit
        for given in (weights, {"state_dict": {"module." + k: v for k, v in weights.items()}}):
            load_checkpoint(model, given)
        with torch.no_grad():
            outputs = model.training_outputs(torch.from_numpy(io["x"]))
        for output, key in zip(outputs, ("y_rain", "y"), strict=True):
            expected = io[key].astype(np.float64)
            assert np.linalg.norm(output.double().numpy() - expected) < 1e-5 * np.linalg.norm(expected)


def test_idle_parameters_are_kept_but_not_trained() -> None:
    model = create_model("hpcnet")
    idle = {n: p.numel() for n, p in model.named_parameters() if not p.requires_grad}
    assert {n.split(".")[0] for n in idle} == {
        "idle_up_background",
        "idle_up_rain",
        "idle_squeeze",
        "idle_excite",
    }
    assert sum(idle.values()) == 41_760


def test_nothing_of_the_image_goes_around_the_network() -> None:
    model = create_model("hpcnet", **SMALL).eval()
    with torch.no_grad():
        model.reconstruct_background.weight.zero_()
        assert not model(torch.rand(1, 3, 16, 20)).any()


def test_the_first_output_is_the_second_and_the_streaks() -> None:
    model = create_model("hpcnet", **SMALL).eval()
    rainy = torch.rand(1, 3, 16, 20)
    with torch.no_grad():
        again, restored = model.training_outputs(rainy)
        assert not torch.equal(again, restored)
        model.reconstruct_rain.weight.zero_()
        again, restored = model.training_outputs(rainy)
    assert torch.equal(again, restored)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_network_started_as_the_identity_is_nearly_that(blocks: int) -> None:
    options = {"channels": 12, "coupled_blocks": blocks, "blocks": 1, "start_as_identity": True}
    rainy = torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        restored = create_model("hpcnet", **options).eval()(rainy)
    assert (restored - rainy).abs().mean() < 0.03


def test_a_start_as_the_identity_needs_room_for_it() -> None:
    with pytest.raises(UserError, match="12 channels"):
        create_model("hpcnet", channels=8, start_as_identity=True)


def test_loss_compares_the_first_output_with_the_rainy_image() -> None:
    rainy, target = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    loss = get_loss("hpcnet")
    perfect = loss([rainy, target], rainy, target).item()
    assert perfect == pytest.approx(0.3 * 1.2e-3 + 0.2e-3 - 0.15 * 1.2, abs=1e-4)
    assert loss([target, target], rainy, target).item() > perfect + 0.02
