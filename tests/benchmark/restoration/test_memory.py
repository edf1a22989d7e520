"""Tiles chosen from free memory, and comparisons side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmark import create_model
from benchmark.errors import UserError
from benchmark.restoration import memory, restoring
from benchmark.restoration.restoring import restore_files, restore_pixels
from benchmark.restoration.tiling import restore


class Invert(nn.Module):
    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        return 1 - rainy


class Wide(nn.Module):
    """Keeps `channels` copies of the picture alive at once."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 1)
        self.back = nn.Conv2d(channels, 3, 1)

    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        return self.back(self.conv(rainy))


def test_the_need_for_memory_is_counted_from_live_tensors() -> None:
    small, large = memory.bytes_per_pixel(Wide(8)), memory.bytes_per_pixel(Wide(80))
    # 4 bytes a channel: the middle of both, then middle and output together
    assert small == pytest.approx(2.4 * 4 * (8 + 3), rel=0.1)
    assert large == pytest.approx(2.4 * 4 * (80 + 3), rel=0.1)


def test_the_largest_tile_that_fits_is_chosen() -> None:
    model = Wide(8)
    need = memory.bytes_per_pixel(model)
    cpu = torch.device("cpu")
    assert memory.choose_tile(model, 2160, 3840, cpu, free=int(2160 * 3840 * need) + 1) is None
    assert memory.choose_tile(model, 2160, 3840, cpu, free=int(512 * 512 * need) + 1) == 512
    assert memory.choose_tile(model, 2160, 3840, cpu, free=1) == min(memory.TILES)
    assert memory.choose_tile(model, 300, 400, cpu) is None
    assert 0 < memory.memory_to_use(cpu) <= memory.free_memory()


class Pooled(Wide):
    """Looks at the whole picture."""

    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        return super().forward(rainy) + rainy.mean((2, 3), keepdim=True)


def test_a_network_that_looks_at_all_gets_the_whole_while_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    local, pooled = Wide(800), Pooled(800)
    assert memory.looks_at_all(pooled) and not memory.looks_at_all(local)
    need = 2160 * 3840 * memory.bytes_per_pixel(pooled)
    assert need > memory._MOST_ON_CPU
    cpu = torch.device("cpu")
    for model, free, whole in (
        (pooled, need / 0.75 + 1, True),
        (pooled, need / 0.75 * 0.98, False),
        (local, 9 * need, False),
    ):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: int(free))
        assert (memory.choose_tile(model, 2160, 3840, cpu) is None) == whole


@pytest.mark.parametrize(("name", "far"), [("prenet", False), ("nafnet", True), ("esdnet", True)])
def test_which_networks_look_at_all(name: str, far: bool) -> None:
    small = {
        "prenet": {"stages": 2, "channels": 8, "residual_blocks": 1},
        "nafnet": {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
        "esdnet": {
            "dim": 8,
            "encoder_blocks": [1, 1, 1],
            "bottleneck_blocks": 0,
            "decoder_blocks": [1, 1],
            "time_steps": 2,
        },
    }
    torch.manual_seed(0)
    assert memory.looks_at_all(_stirred(create_model(name, **small[name]))) == far


def _stirred(model: nn.Module) -> nn.Module:
    """With weights that are not those which training starts with: NAFNet begins as the identity."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def test_a_large_picture_is_tiled_without_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    """PReNet is local: in automatic tiles it gives what the whole picture gives."""
    torch.set_num_threads(1)
    model = create_model("prenet", stages=1, channels=8, residual_blocks=1)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 330, 3), dtype=np.uint8)
    monkeypatch.setattr(restoring, "choose_tile", lambda *_: 128)
    tiled, used = restore_pixels(model, pixels, "auto")
    whole = restore(model, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    assert used == 128
    assert (tiled - whole).abs().max() < 1e-5


def test_files_tell_that_they_were_tiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (140, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(restoring, "choose_tile", lambda *_: 128)
    outcome = restore_files(Invert(), [tmp_path / "a.png"], tmp_path / "out", "auto", progress=False)
    assert outcome.tiled == {tmp_path / "a.png": 128}
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "a.png")), 255 - pixels)


def test_tiles_that_cannot_be_the_whole_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hidden(Wide):
        """Pools in a way that is not recognised, so that its tiles are restored each by itself."""

        def forward(self, rainy: torch.Tensor) -> torch.Tensor:
            return super().forward(rainy) + nn.functional.avg_pool2d(rainy, rainy.shape[-2:])

    Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(restoring, "choose_tile", lambda *_: 256)
    for model, told in ((Hidden(8), True), (Pooled(8), False), (Wide(8), False)):
        outcome = restore_files(
            model, [tmp_path / "a.png"], tmp_path / "out", "auto", progress=False, overwrite=True
        )
        assert bool(outcome.remarks) == told
        assert not told or "in tiles by themselves" in outcome.remarks[0][1]


def test_compare_puts_rainy_and_restored_side_by_side(tmp_path: Path) -> None:
    for name, size in (("tall", (40, 20)), ("wide", (20, 40))):
        Image.fromarray(np.full((*size, 3), 10, np.uint8)).save(tmp_path / f"{name}.png")
    out = tmp_path / "out"
    restore_files(Invert(), [tmp_path / "*.png"], out, progress=False, compare=True)
    tall = np.array(Image.open(out / "compare" / "tall.png"))
    wide = np.array(Image.open(out / "compare" / "wide.png"))
    assert tall.shape == (40, 48, 3) and wide.shape == (48, 40, 3)
    assert (tall[:, :20] == 10).all() and (tall[:, 28:] == 245).all()
    assert (wide[:20] == 10).all() and (wide[28:] == 245).all()
    with pytest.raises(UserError, match="exists already"):
        restore_files(Invert(), [tmp_path / "*.png"], out, progress=False, compare=True)
