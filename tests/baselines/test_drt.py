"""DRT: windows of tokens, layers run again with the same weights."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.drt import pad_by_flip
from benchmark import catalog, create_model, load_checkpoint
from benchmark.checkpoints import options_in

SMALL = {"dim": 8, "layers": 2, "repeats": 2, "window_size": 4}


@pytest.mark.parametrize("fixture", ["drt", "drt-w7"])
def test_computes_what_the_authors_code_does(
    shared: Path, monkeypatch: pytest.MonkeyPatch, fixture: str
) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    card = parity.card
    monkeypatch.setattr(parity, "card", lambda name: card(name) | {"tolerance": 1e-5})
    assert parity.check(fixture)


@pytest.mark.parametrize(("window_size", "parameters"), [(8, 1_186_974), (7, 1_185_630)])
def test_parameter_count_with_those_that_nothing_uses(window_size: int, parameters: int) -> None:
    model = create_model("drt", window_size=window_size)
    assert sum(p.numel() for p in model.parameters()) == parameters
    idle = {n.split(".")[0] for n, p in model.named_parameters() if not p.requires_grad}
    assert idle == {"idle_input", "idle_output"}


def test_repeats_share_their_weights() -> None:
    counts = {
        sum(p.numel() for p in create_model("drt", **(SMALL | {"repeats": n})).parameters()) for n in (1, 3)
    }
    assert len(counts) == 1


def test_padding_mirrors_with_the_edge_twice() -> None:
    image = torch.rand(2, 3, 16, 17)
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, 5), (0, 4)), mode="symmetric")
    assert np.array_equal(pad_by_flip(image, 7).numpy(), expected)
    assert torch.equal(pad_by_flip(image[..., :16], 8), image[..., :16])


def test_images_need_not_be_square() -> None:
    model = create_model("drt", **SMALL).eval()
    rainy = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        upright = model(rainy)
        assert upright.shape == rainy.shape
        # what is cropped away after padding is not seen: the padded image gives the same
        torch.testing.assert_close(model(rainy[..., :22]), model(pad_by_flip(rainy[..., :22], 4))[..., :22])


def test_denormalising_is_the_released_one_and_a_fresh_bias_makes_up_for_it() -> None:
    model = create_model("drt", **SMALL, start_as_identity=True).eval()
    rainy = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        model.restore.weight.zero_()
        torch.testing.assert_close(model(rainy), rainy)
        model.restore.bias.zero_()
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        torch.testing.assert_close(model(rainy), rainy - mean + mean * std)


def test_released_weights_are_known_by_their_window() -> None:
    key = "recursive_layers.0.block1.transformer.attn.relative_position_bias_table"
    entry = catalog.network("drt")
    assert options_in(entry, {"state_dict": {key: torch.zeros(169, 2)}, "epoch": 7}) == {"window_size": 7}
    assert options_in(entry, {key: torch.zeros(225, 2)}) == {}


def test_position_indices_in_the_authors_files_are_passed_over(shared: Path) -> None:
    parity = importlib.import_module("runpy").run_path(str(shared / "parity" / "parity.py"))
    weights = parity["checkpoint"]("drt")
    index = "recursive_layers.0.block1.transformer.attn.relative_position_index"
    load_checkpoint(create_model("drt"), weights | {index: torch.zeros(64, 64, dtype=torch.int64)})
