"""Checkpoints: every wrapping loads, everything else is refused with its name and nothing half loaded."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

from benchmark import create_model, load_checkpoint
from benchmark.checkpoints import options_in, read_checkpoint
from benchmark.errors import UserError

OPTIONS = {"stages": 2, "channels": 4, "residual_blocks": 1}


@pytest.fixture
def network() -> torch.nn.Module:
    return create_model("prenet", **OPTIONS)


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return dict(create_model("prenet", **OPTIONS).state_dict())


def _same(network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(v, weights[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {f"module.{k}": v for k, v in w.items()},
        lambda w: {"state_dict": w, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}, "epoch": 3},
        lambda w: {"params": w},
        lambda w: {"params_ema": w, "params": {k: v * 0 for k, v in w.items()}},
        lambda w: {"model": {f"module.{k}": v for k, v in w.items()}},
        lambda w: {"net": w, "clock": {"step": 1}, "opt": {}},
        lambda w: {"state_dict": {f"network.{k}": v for k, v in w.items()}},
    ],
)
def test_every_usual_wrapping_loads(network, weights, wrap, tmp_path) -> None:
    torch.save(wrap(weights), tmp_path / "c.pth")
    assert not _same(network, weights)
    load_checkpoint(network, tmp_path / "c.pth")
    assert _same(network, weights)


def test_safetensors_load(network, weights, tmp_path) -> None:
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "c.safetensors")
    load_checkpoint(network, tmp_path / "c.safetensors")
    assert _same(network, weights)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_code_in_a_checkpoint_is_not_executed(network, tmp_path) -> None:
    torch.save({"state_dict": _Evil(tmp_path / "executed")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"Python objects.*system"):
        load_checkpoint(network, tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


def test_files_that_are_no_checkpoints_are_named(network, weights, tmp_path) -> None:
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>Not found</html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save(weights, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:1000])
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "bare.pth")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    for name in ("page", "empty", "cut", "zip", "list", "bare", "absent"):
        with pytest.raises(UserError) as error:
            load_checkpoint(network, tmp_path / f"{name}.pth")
        assert f"{name}.pth" in str(error.value)
        assert "\n" not in str(error.value)
    assert _same(network, before)


def test_another_network_is_refused_with_the_first_keys(network, tmp_path) -> None:
    torch.save(create_model("rescan", channels=4, stages=2, depth=3).state_dict(), tmp_path / "c.pth")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(UserError, match=r"missing: .*unexpected: .*more"):
        load_checkpoint(network, tmp_path / "c.pth")
    assert _same(network, before)


def test_another_width_is_refused_with_the_shapes(network, tmp_path) -> None:
    torch.save(create_model("prenet", **{**OPTIONS, "channels": 6}).state_dict(), tmp_path / "c.pth")
    with pytest.raises(UserError, match=r"of another shape: .* is \(6, .* must be \(4, "):
        load_checkpoint(network, tmp_path / "c.pth")


def test_our_checkpoints_carry_their_options() -> None:
    from benchmark.catalog import network as entry

    plain = {"derain": {"model": {"name": "prenet", "options": OPTIONS}}, "state_dict": {}}
    assert options_in(entry("prenet"), plain) == OPTIONS
    with pytest.raises(UserError, match="of model 'prenet', not 'rescan'"):
        options_in(entry("rescan"), plain)


def test_the_released_prenet_weights_load_unmodified(shared) -> None:
    for name in ("Rain100H", "Rain100L", "Rain1400"):
        path = shared / "data" / "weights" / "prenet" / f"{name}.pth"
        if not path.is_file():
            pytest.skip(f"no {path}")
        network = create_model("prenet")
        load_checkpoint(network, path)
        assert sum(p.numel() for p in network.parameters()) == 168_963
        assert len(read_checkpoint(path)) == len(network.state_dict())
