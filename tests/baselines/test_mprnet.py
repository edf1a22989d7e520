"""MPRNet: three stages on quarters, halves and the whole."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import create_model, load_checkpoint
from benchmark.training.distances import edge, laplacian
from benchmark.training.losses import get_loss

SMALL = {"channels": 4, "growth": 4, "stage3_growth": 4, "level_blocks": 1, "blocks": 1}


def test_computes_what_the_authors_code_does_at_every_stage(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    model = create_model("mprnet").eval()
    assert sum(p.numel() for p in model.parameters()) == 3_637_249
    load_checkpoint(model, parity.checkpoint("mprnet"))
    with np.load(shared / "parity" / "mprnet" / "io.npz") as io:
        with torch.no_grad():
            outputs = model.training_outputs(torch.from_numpy(io["x"]))
        for output, key in zip(outputs, ("y_stage1", "y_stage2", "y"), strict=True):
            expected = io[key].astype(np.float64)
            assert np.linalg.norm(output.double().numpy() - expected) < 1e-5 * np.linalg.norm(expected)


def test_one_slope_serves_all_blocks() -> None:
    model = create_model("mprnet", **SMALL)
    slopes = [n for n, p in model.named_parameters() if p.numel() == 1]
    assert slopes == ["slope"]
    keys = [f"stage1_encoder.encoder_level{n}.0.body.1.weight" for n in (1, 2)]
    keys.append("stage3_orsnet.orb1.body.1.body.1.weight")
    import re

    for key in keys:
        for pattern, replacement in type(model).authors_keys:
            key = re.sub(pattern, replacement, key)
        assert key == "slope"


def test_the_first_stage_sees_a_quarter_alone() -> None:
    model = create_model("mprnet", **SMALL).eval()
    rainy = torch.rand(1, 3, 32, 32)
    other = rainy.clone()
    other[..., 16:, 16:] = torch.rand(1, 3, 16, 16)  # the lower right quarter
    with torch.no_grad():
        encoded = [
            model.encoder1(model.shallow1(r[..., :16, :16], model.slope), model.slope) for r in (rainy, other)
        ]
        first, second, third = model.training_outputs(rainy)
        changed_first, changed_second, changed_third = model.training_outputs(other)
    assert torch.equal(encoded[0][2], encoded[1][2])
    # the decoder of stage 1 joins the quarters of a half, not the halves
    assert torch.equal(first[..., :16, :], changed_first[..., :16, :])
    assert not torch.equal(first[..., 16:, :16], changed_first[..., 16:, :16])
    assert not torch.equal(second[..., :16, :16], changed_second[..., :16, :16])
    assert not torch.equal(third[..., :16, :16], changed_third[..., :16, :16])


def test_loss_counts_every_stage_and_its_edges() -> None:
    target = torch.rand(2, 3, 16, 16)
    worse = target + 0.1
    loss = get_loss("mprnet")
    zero = loss([target] * 3, target, target).item()
    assert zero == pytest.approx(3 * 1.05e-3, rel=1e-4)  # Charbonnier's epsilon
    for stage in range(3):
        outputs = [target] * 3
        outputs[stage] = worse
        # a constant has no Laplacian but at the border: the first term alone sees it, nearly
        assert loss(outputs, target, target).item() == pytest.approx(
            zero + np.hypot(0.1, 1e-3) - 1e-3, rel=0.02
        )


def test_edge_sees_edges_alone() -> None:
    image = torch.rand(1, 3, 16, 16)
    # inside, a constant and a ramp vanish (blur, halve, enlarge and blur keep both)
    ramp = torch.arange(24.0).expand(1, 3, 24, 24)
    assert laplacian(ramp)[..., 6:-6, 6:-6].abs().max() < 1e-4
    flat = torch.full((1, 3, 24, 24), 0.3)
    assert laplacian(flat)[..., 6:-6, 6:-6].abs().max() < 1e-6
    assert edge(image, image).item() == pytest.approx(1e-3)
    assert edge(image, image.flip(-1)).item() > 5 * edge(image, image + 0.3).item()
