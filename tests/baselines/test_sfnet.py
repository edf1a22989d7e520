"""SFNet: dynamic filters, and three scales in and out."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from baselines.sfnet import DynamicFilter, GlobalModulation, QuadrantModulation
from benchmark import create_model, load_checkpoint
from benchmark.errors import UserError
from benchmark.training.losses import get_loss

SMALL = {"channels": 8, "blocks": 1, "filter_groups": 4}


def test_computes_what_the_authors_code_does_at_every_scale(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    model = create_model("sfnet").eval()
    assert sum(p.numel() for p in model.parameters()) == 13_271_209
    load_checkpoint(model, parity.checkpoint("sfnet"))
    with np.load(shared / "parity" / "sfnet" / "io.npz") as io:
        with torch.no_grad():
            outputs = model.training_outputs(torch.from_numpy(io["x"]))
        for output, key in zip(outputs, ("y_quarter", "y_half", "y"), strict=True):
            expected = io[key].astype(np.float64)
            # 96 blocks in float32: the fixture itself is 1.4e-5 from what float64 gives
            assert np.linalg.norm(output.double().numpy() - expected) < 3e-5 * np.linalg.norm(expected)


def test_dynamic_filters_are_one_for_each_group_and_sum_to_one() -> None:
    layer = DynamicFilter(8, kernel=5, groups=4).eval()
    seen = {}
    layer.select.register_forward_hook(lambda module, args, output: seen.update(low=args[0], high=args[1]))
    features = torch.rand(2, 8, 9, 11)
    layer(features)
    # the parts add up, and what is constant is low
    torch.testing.assert_close(seen["low"] + seen["high"], features)
    flat = torch.full((1, 8, 9, 11), 0.7)
    layer(flat)
    torch.testing.assert_close(seen["low"], flat)
    # im2col, as the paper writes it
    logits = layer.norm(layer.filters(features.mean(dim=(-2, -1), keepdim=True)))
    weights = torch.softmax(logits.view(2, 4, 1, 25, 1), dim=3)
    patches = F.unfold(F.pad(features, (2, 2, 2, 2), mode="reflect"), 5).view(2, 4, 2, 25, 99)
    layer(features)
    torch.testing.assert_close(seen["low"], (patches * weights).sum(dim=3).view(2, 8, 9, 11))


def test_modulations_at_their_initial_weights() -> None:
    features = torch.rand(2, 3, 6, 8)
    torch.testing.assert_close(
        GlobalModulation(3)(features), features - features.mean(dim=(-2, -1), keepdim=True)
    )
    assert not QuadrantModulation(3)(features).any()


def test_quadrants_have_weights_of_their_own() -> None:
    layer = QuadrantModulation(2)
    with torch.no_grad():
        layer.low.view(2, 2, 2)[1, 0, 1] = 3.0  # channel 1, upper right
    features = torch.rand(1, 2, 6, 8)
    output = layer(features)
    expected = torch.zeros_like(features)
    expected[0, 1, :3, 4:] = 3 * features[0, 1, :3, 4:].mean()
    torch.testing.assert_close(output, expected)


def test_scales() -> None:
    outputs = create_model("sfnet", **SMALL).eval().training_outputs(torch.rand(2, 3, 32, 48))
    assert [tuple(o.shape[-2:]) for o in outputs] == [(8, 12), (16, 24), (32, 48)]


def test_idle_parameters_are_kept_but_not_trained() -> None:
    idle = {
        n.rpartition(".")[2]
        for n, p in create_model("sfnet", **SMALL).named_parameters()
        if not p.requires_grad
    }
    assert idle == {"idle_low", "idle_high"}


def test_loss_has_a_term_of_frequencies_at_each_scale() -> None:
    target = torch.rand(2, 3, 16, 16)
    scales = [F.interpolate(target, scale_factor=s, mode="bilinear") for s in (0.25, 0.5)] + [target]
    loss = get_loss("sfnet")
    assert loss(scales, target, target).item() == pytest.approx(0, abs=1e-5)
    # a constant error c of an image of n pixels: c, and c·n in one real part out of 2n numbers
    scales[1] = scales[1] + 0.1
    assert loss(scales, target, target).item() == pytest.approx(0.1 + 0.1 * 0.1 / 2, rel=1e-3)


def test_channels_divide_into_groups() -> None:
    with pytest.raises(UserError, match=r"multiple of 2·filter_groups = 16"):
        create_model("sfnet", channels=24)
