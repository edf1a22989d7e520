"""ELFormer: rain at half size, recovery at full size."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from baselines._layers import attend_channels
from benchmark import create_model, load_checkpoint
from benchmark.training.losses import get_loss

SMALL = {"channels": 8, "blocks": 1}


def test_computes_what_the_authors_code_does_at_both_sizes(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    model = create_model("elformer").eval()
    assert sum(p.numel() for p in model.parameters()) == 1_223_972
    load_checkpoint(model, parity.checkpoint("elformer"))
    with np.load(shared / "parity" / "elformer" / "io.npz") as io:
        with torch.no_grad():
            outputs = model.training_outputs(torch.from_numpy(io["x"]))
        for output, key in zip(outputs, ("y_half", "y"), strict=True):
            expected = io[key].astype(np.float64)
            assert np.linalg.norm(output.double().numpy() - expected) < 1e-5 * np.linalg.norm(expected)


def test_each_half_has_a_slope() -> None:
    names = dict(create_model("elformer", **SMALL).named_parameters())
    assert {"remove.slope", "recover.slope"} <= set(names)
    assert sum("CAB" in n or "body" in n for n in names) == 0


def test_channels_attend_to_those_that_look_alike() -> None:
    query = torch.randn(1, 4, 5, 5)
    key = query[:, [1, 0, 3, 2]]
    value = torch.randn(1, 4, 5, 5)
    mixed = attend_channels(query, key, value, torch.full((2, 1, 1), 1e4))
    torch.testing.assert_close(mixed, value[:, [1, 0, 3, 2]])
    # heads keep to themselves: with the pairs across the heads, each channel finds nothing it likes best
    across = attend_channels(query, query[:, [2, 3, 0, 1]], value, torch.full((2, 1, 1), 1e4))
    assert not torch.allclose(across, value[:, [2, 3, 0, 1]])


def test_attention_is_of_the_whole_image_and_linear_in_its_size() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for size in (8, 16):
        x = torch.rand(1, 8, size, size)
        with FlopCounterMode(display=False) as counter:
            attend_channels(x, x, x, torch.ones(2, 1, 1))
        counts.append(counter.get_total_flops() // 2)
    assert counts == [2 * 32 * 64, 2 * 32 * 256]  # C² / heads for each pixel, twice


def test_half_size_output_is_the_halved_image_less_its_rain() -> None:
    model = create_model("elformer", **SMALL).eval()
    rainy = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        model.remove.tail.weight.zero_()
        half, restored = model.training_outputs(rainy)
    torch.testing.assert_close(half, F.avg_pool2d(rainy, 2))
    assert restored.shape == rainy.shape


def test_loss_counts_the_half_size_output_less() -> None:
    target = torch.rand(2, 3, 32, 32)
    half = F.avg_pool2d(target, 2)
    loss = get_loss("elformer")
    perfect = loss([half, target], target, target).item()
    assert perfect == pytest.approx(0.5 * 1.8e-3 - 0.15, abs=1e-4)
    worse = loss([half + 0.1, target], target, target).item()
    assert worse - perfect == pytest.approx(0.3 * 0.8 * (np.hypot(0.1, 1e-3) - 1e-3), rel=0.15)
