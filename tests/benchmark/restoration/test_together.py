"""Tiles that pool over the whole picture give the whole picture's result."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark import create_model
from benchmark.errors import OutOfMemory
from benchmark.restoration import restoring, together
from benchmark.restoration.tiling import restore
from benchmark.restoration.together import fits_together, restore_together

CPU = torch.device("cpu")


class Pools(nn.Module):
    """Convolutions, and a weight for each channel from means and maxima over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 8, 2, stride=2)
        self.after = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, rainy: Tensor) -> Tensor:
        features = self.before(rainy)
        features = features * features.mean(dim=(2, 3), keepdim=True)
        low = self.down(features)
        low = low * low.amax((-2, -1))[..., None, None] - low.mean((2, 3), True)
        return self.after(features + nn.functional.interpolate(low, scale_factor=2))


def photograph(height: int, width: int) -> np.ndarray:
    """Unlike from one end to the other."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    return (np.stack([columns * 190 // width, rows * 190 // height, 0 * rows], -1) + noise).astype(np.uint8)


def as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@pytest.fixture
def nafnet() -> nn.Module:
    torch.manual_seed(0)
    model = create_model("nafnet", width=4, encoder_blocks=[1], middle_blocks=1, decoder_blocks=[1])
    with torch.no_grad():  # it begins as the identity
        for name, parameter in model.named_parameters():
            parameter.add_((2 if "attention" in name else 0.1) * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("size", [(256, 384), (352, 512), (320, 290)])
def test_means_and_maxima_are_those_of_the_whole(size: tuple[int, int]) -> None:
    model, image = Pools(), as_tensor(photograph(*size))
    whole = restore(model, image)
    alone = restore(model, image, 256, 128, blend="feather")
    tiles = restore_together(model, image, 256)
    assert (alone - whole).abs().max() > 4 / 255
    assert (tiles - whole).abs().max() < 1e-5
    assert model.training, "as it was"
    for hold in (0, 1):
        assert torch.equal(restore_together(model, image, 256, hold=hold), tiles)


def test_tiles_that_hold_nothing_begin_anew_for_each_pool_and_are_the_same(monkeypatch) -> None:
    class Counted(Pools):
        calls = 0

        def forward(self, rainy: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(rainy)

    model, image = Counted(), as_tensor(photograph(256, 640))  # four tiles
    wanted = restore_together(model, image, 256)
    seen: list[tuple[int, int]] = []
    for hold, calls in (
        (4, 4),
        (3, 3 + 3),
        (0, 4 * 3),
    ):  # the maximum and the second mean are of the same features
        model.calls = 0
        seen.clear()
        made = restore_together(model, image, 256, progress=lambda *a: seen.append(a), hold=hold)
        assert torch.equal(made, wanted) and model.calls == calls
        assert seen[-1] == (4, 4) and [d for d, _ in seen] == sorted({d for d, _ in seen})
    need = together._need(model)
    assert need is not None and need.last == (True, False, True)
    room = (together.bytes_per_pixel(model) + 2.5 * need.held) * 256**2 / 0.75
    monkeypatch.setattr(together, "free_on", lambda device: room)
    assert fits_together(model, 256, 640, 256, CPU)
    model.calls = 0
    assert torch.equal(restore_together(model, image, 256), wanted) and model.calls == 2 + 2 * 3
    # three pools make four parts; who begins anew goes one part, then three, then all four
    work = (2 * 4 + 2 * (1 + 3 + 4)) / 4 * 256**2 / (256 * 640)
    assert together.times_the_whole(model, 256, 640, 256, CPU) == pytest.approx(work)


def test_features_changed_in_place_between_two_pools_are_others() -> None:
    class Changed(Pools):
        def forward(self, rainy: Tensor) -> Tensor:
            features = self.before(rainy)
            features.mul_(1 + features.mean((2, 3), keepdim=True))
            features.add_(features.amax((2, 3), keepdim=True))
            return self.after(features)

    model, image = Changed().eval(), as_tensor(photograph(256, 640))
    assert fits_together(model, 2000, 3000, 1024, CPU)
    need = together._need(model)
    assert need is not None and need.last == (True, True)
    whole = restore(model, image)
    assert (restore_together(model, image, 256, hold=1) - whole).abs().max() < 1e-5


def test_a_network_of_the_catalogue_in_tiles_is_the_whole(nafnet: nn.Module, monkeypatch) -> None:
    pixels = photograph(270, 400)
    whole = restore(nafnet, as_tensor(pixels)).clamp(0, 1)
    monkeypatch.setattr(restoring, "choose_tile", lambda *_: 256)
    seen: list[tuple[int, int]] = []
    tiled, used = restoring.restore_pixels(nafnet, pixels, "auto", progress=lambda *a: seen.append(a))
    assert used == 256 and (tiled.clamp(0, 1) - whole).abs().max() < 1 / 255
    alone = restore(nafnet, as_tensor(pixels), 256, 64, blend="feather").clamp(0, 1)
    assert (alone - whole).abs().max() > 1 / 255
    assert seen[-1] == (6, 6) and [d for d, _ in seen] == list(range(1, 7))
    again, _ = restoring.restore_pixels(nafnet, pixels, 256, seamless=True)  # the next frame of a video
    assert torch.equal(again, tiled)


def test_a_spiking_network_of_the_catalogue_in_tiles_is_the_whole() -> None:
    """ESDNet pools over the picture in its attention and refinement; a spike more or less is seen nearby alone."""
    torch.manual_seed(0)
    options = {"encoder_blocks": [1, 1, 1], "bottleneck_blocks": 0, "decoder_blocks": [1, 1], "time_steps": 2}
    model = create_model("esdnet", dim=8, **options).eval()
    image = as_tensor(photograph(262, 390))
    assert fits_together(model, 2000, 3000, 1024, CPU)
    whole = restore(model, image)
    alone = restore(model, image, 256, 128, blend="feather")
    tiles = restore_together(model, image, 256)
    assert (alone - whole).abs().max() > 1 / 255
    assert (tiles - whole).abs().max() < 1 / 255
    assert torch.equal(restore_together(model, image, 256, hold=1), tiles)


def test_what_is_not_so_by_a_trial_is_not_restored_so(nafnet: nn.Module, monkeypatch) -> None:
    class Local(nn.Module):
        def forward(self, rainy: Tensor) -> Tensor:
            return 1 - rainy

    class Hidden(nn.Module):
        """Pools in a way that is not recognised."""

        def forward(self, rainy: Tensor) -> Tensor:
            return rainy * 0.5 + nn.functional.avg_pool2d(rainy, rainy.shape[-2:])

    class Partly(Pools):
        def forward(self, rainy: Tensor) -> Tensor:
            return super().forward(rainy) + nn.functional.avg_pool2d(rainy, rainy.shape[-2:])

    assert fits_together(nafnet, 2000, 3000, 1024, CPU)
    assert not fits_together(nafnet, 2000, 3000, 192, CPU), "smaller than two overlaps"
    for model in (Local(), Hidden(), Partly()):
        assert not fits_together(model, 2000, 3000, 1024, CPU)
    monkeypatch.setattr(together, "free_on", lambda device: 1000)
    assert not fits_together(nafnet, 2000, 3000, 1024, CPU)


def test_a_tile_that_fails_ends_them_all() -> None:
    class Fails(Pools):
        left = 10**9

        def forward(self, rainy: Tensor) -> Tensor:
            made = super().forward(rainy)
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return made

    model = Fails()
    assert fits_together(model, 256, 640, 256, CPU)
    model.left = 2
    with pytest.raises(OutOfMemory, match="together"):
        restore_together(model, as_tensor(photograph(256, 640)), 256)
    assert not [t for t in threading.enumerate() if t.name.startswith("tile")]


def test_ctrl_c_ends_all_tiles_before_the_command() -> None:
    class Interrupted(Pools):
        at = 10**9

        def forward(self, rainy: Tensor) -> Tensor:
            self.at -= 1
            if self.at == 0:
                os.kill(os.getpid(), signal.SIGINT)
            return super().forward(rainy)

    model = Interrupted()
    assert fits_together(model, 256, 640, 256, CPU)
    model.at = 2
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            restore_together(model, as_tensor(photograph(256, 640)), 256)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not [t for t in threading.enumerate() if t.name.startswith("tile")]


def test_ctrl_c_amid_the_start_of_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is there by then, but not yet one that can be joined."""
    usual = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "tile 2":
            begin: Any = thread._bootstrap  # type: ignore[attr-defined]

            def late() -> None:
                time.sleep(0.1)
                begin()

            def interrupted(timeout: float | None = None) -> bool:
                raise KeyboardInterrupt

            monkeypatch.setattr(thread, "_bootstrap", late)
            monkeypatch.setattr(thread._started, "wait", interrupted)  # type: ignore[attr-defined]
        usual(thread)

    model = Pools()
    assert fits_together(model, 256, 640, 256, CPU)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        restore_together(model, as_tensor(photograph(256, 640)), 256)
    assert not [t for t in threading.enumerate() if t.name.startswith("tile")]


def test_no_memory_for_another_thread_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under `ulimit -v`: each tile's thread has a stack."""
    started, usual = [], threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        assert threading.stack_size() <= 1 << 20
        started.append(thread)
        usual(thread)

    model = Pools()
    assert fits_together(model, 600, 600, 256, CPU)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(OutOfMemory):
        restore_together(model, torch.rand(3, 600, 600), 256)
    assert started and not any(thread.is_alive() for thread in started)
    assert threading.stack_size() == 0
