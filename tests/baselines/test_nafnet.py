"""NAFNet: gates in place of activations, any size by zero padding."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from baselines.nafnet import NAFBlock
from benchmark import create_model
from benchmark.errors import UserError
from benchmark.training.losses import get_loss

SMALL = {"width": 4, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]}


def test_computes_what_the_authors_code_does(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    card = parity.card
    monkeypatch.setattr(parity, "card", lambda name: card(name) | {"tolerance": 1e-5})
    assert parity.check("nafnet")


def test_parameter_count() -> None:
    assert sum(p.numel() for p in create_model("nafnet").parameters()) == 29_159_715


def test_a_fresh_block_is_the_identity_and_can_learn() -> None:
    block = NAFBlock(6)
    features = torch.randn(2, 6, 8, 8)
    output = block(features)
    torch.testing.assert_close(output, features)
    output.square().sum().backward()
    assert block.spatial_weight.grad.abs().min() > 0
    assert block.channel_weight.grad.abs().min() > 0


def test_any_size_is_padded_with_zeros_to_the_right_and_below() -> None:
    model = create_model("nafnet", **SMALL).eval()
    for block in model.modules():
        if isinstance(block, NAFBlock):
            torch.nn.init.normal_(block.spatial_weight)
            torch.nn.init.normal_(block.channel_weight)
    rainy = torch.rand(1, 3, 18, 21)
    with torch.no_grad():
        expected = model(F.pad(rainy, (0, 3, 0, 2)))[..., :18, :21]
        torch.testing.assert_close(model(rainy), expected)
        assert not torch.allclose(model(rainy), model(F.pad(rainy, (0, 3, 0, 2), value=1.0))[..., :18, :21])


def test_the_loss_is_minus_the_psnr_of_each_image() -> None:
    target = torch.zeros(2, 3, 8, 8)
    restored = torch.stack((target[0] + 0.1, target[1] + 0.01))  # 20 and 40 dB
    assert get_loss("nafnet")([restored], target, target).item() == pytest.approx(-30, abs=1e-3)


def test_levels_must_agree() -> None:
    with pytest.raises(UserError, match="same number"):
        create_model("nafnet", encoder_blocks=[1, 1], decoder_blocks=[1])
