from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmark.errors import UserError
from benchmark.restoration import tiling
from benchmark.restoration.tiling import OutOfMemory, reflect_to, restore, tile_starts, tile_weights


@contextlib.contextmanager
def as_on_an_accelerator() -> Iterator[None]:
    """Several tiles at once, which a CPU does not do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "_ONE_AT_A_TIME", frozenset())
        yield


class Recorder(nn.Module):
    """The identity, remembering what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[int, ...]] = []
        self.modes: list[bool] = []

    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(rainy.shape))
        self.modes.append(self.training)
        return rainy * self.scale


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    tile=st.one_of(st.none(), st.integers(16, 40)),
    overlap=st.integers(0, 15),
    batch=st.integers(1, 5),
    blend=st.sampled_from(tiling.BLENDS),
)
def test_tiles_put_together_again(
    height: int, width: int, tile: int | None, overlap: int, batch: int, blend: str
) -> None:
    image = torch.rand(2, 3, height, width)
    network = Recorder()
    with as_on_an_accelerator():
        restored = restore(network, image, tile, overlap, batch, blend=blend)
    # a pixel may lie in (16 / (16 - 15))² = 256 tiles, each adding a rounding of up to 2^-24 to sum and weights
    torch.testing.assert_close(restored, image, rtol=0, atol=2 * 256 * 2**-24)
    assert all(shape[0] <= batch for shape in network.seen)
    assert all(min(shape[2:]) >= 16 for shape in network.seen)
    if tile is not None:
        assert all(shape[2:] == (tile, tile) for shape in network.seen)


@given(length=st.integers(16, 2000), tile=st.integers(16, 200), overlap=st.integers(0, 199))
def test_tiles_cover_and_stay_inside(length: int, tile: int, overlap: int) -> None:
    tile, overlap = min(tile, length), min(overlap, min(tile, length) - 1)
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0 and starts[-1] == length - tile
    assert all(0 < b - a <= tile - overlap for a, b in pairwise(starts))


def test_the_authors_tiles() -> None:
    # their loop: every 72nd pixel while the tile ends before the border, then the last that fits
    assert tile_starts(481, 80, 8) == [0, 72, 144, 216, 288, 360, 401]
    assert tile_starts(321, 80, 8) == [0, 72, 144, 216, 241]
    assert tile_starts(80, 80, 8) == [0]
    assert tile_starts(152, 80, 8) == [0, 72]


def test_the_authors_weights() -> None:
    weights = tile_weights(80)
    for row, column in ((0, 0), (40, 40), (3, 77)):
        squared = (row - 40) ** 2 + (column - 40) ** 2
        assert weights[row, column].item() == pytest.approx(1 / math.sqrt(squared + 1e-3), rel=1e-12)


def test_overlaps_are_blended_by_these_weights() -> None:
    class Numbered(nn.Module):
        count = 0

        def forward(self, rainy: torch.Tensor) -> torch.Tensor:
            values = torch.arange(self.count, self.count + len(rainy), dtype=rainy.dtype)
            self.count += len(rainy)
            return torch.zeros_like(rainy) + values.view(-1, 1, 1, 1)

    restored = restore(Numbered(), torch.rand(3, 16, 28), tile=16, overlap=4)
    weights = tile_weights(16)
    row, column = 5, 13  # in the first tile at column 13, in the second at 1
    expected = weights[row, 1] / (weights[row, 13] + weights[row, 1])
    assert restored[0, row, column].item() == pytest.approx(expected.item(), rel=1e-5)
    assert restored[0, 0, 0] == 0 and restored[0, 0, 27] == 1


def local_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))


def test_the_batch_of_tiles_does_not_matter() -> None:
    image = torch.rand(2, 3, 50, 61)
    network = local_network()
    one = restore(network, image, 24, 4, batch=1)
    for batch in (2, 5, 100, None):
        assert torch.equal(restore(network, image, 24, 4, batch=batch), one)
        with as_on_an_accelerator():
            torch.testing.assert_close(restore(network, image, 24, 4, batch=batch), one, rtol=0, atol=1e-6)
    assert torch.equal(restore(network, image[1], 24, 4), one[1])


def test_a_local_network_inside_the_tiles_is_exact() -> None:
    # only the overlapping pixels, where a tile sees its border instead of the picture, may differ
    image = torch.rand(3, 40, 72)
    network = local_network()
    whole, tiled = restore(network, image), restore(network, image, tile=40, overlap=8)
    difference = (whole - tiled).abs()
    assert difference[..., :32].max() < 1e-6 and difference[..., 40:].max() < 1e-6
    assert difference[..., 32:40].max() > 0


@pytest.mark.parametrize("overlap", [12, 20])
def test_feathered_tiles_of_a_local_network_are_exact_everywhere(overlap: int) -> None:
    # it reaches 2 pixels, the quarter of an overlap that is left out is 3 or 5
    image = torch.rand(3, 61, 100)
    network = local_network()
    whole = restore(network, image)
    assert (restore(network, image, 32, overlap, blend="feather") - whole).abs().max() < 1e-6
    assert (restore(network, image, 32, overlap) - whole).abs().max() > 1e-3


def test_mode_is_kept_and_evaluation_mode_is_used() -> None:
    network = nn.Sequential(Recorder(), nn.BatchNorm2d(3))
    network.train()
    network[1].eval()  # frozen on purpose
    before = {k: v.clone() for k, v in network.state_dict().items()}
    image = torch.rand(3, 20, 20)
    restored = restore(network, image)
    assert network[0].modes == [False]
    assert network.training and network[0].training and not network[1].training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not restored.requires_grad and not restored.is_inference()
    assert torch.equal(restored, restore(network, image))


def test_mode_is_kept_when_the_network_fails() -> None:
    class Broken(nn.Module):
        def forward(self, rainy: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    network = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        restore(network, torch.rand(3, 20, 20))
    assert network.training


class Limited(Recorder):
    """Runs out of memory above `limit` pictures at once."""

    limit = 2
    error: BaseException = torch.OutOfMemoryError("CUDA out of memory")

    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        if len(rainy) > self.limit:
            raise self.error
        return super().forward(rainy)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_fewer_tiles_when_memory_runs_out(error: BaseException) -> None:
    image = torch.rand(3, 64, 64)
    network = Limited()
    network.error = error
    done: list[tuple[int, int]] = []
    with as_on_an_accelerator():
        restored = restore(network, image, 16, 0, batch=16, progress=lambda *state: done.append(state))
    torch.testing.assert_close(restored, image, rtol=0, atol=1e-6)
    assert done == [(n, 16) for n in range(2, 17, 2)]
    network.limit = 0
    with pytest.raises(OutOfMemory, match=r"16×16.*smaller tile"):
        restore(network, image, 16, 0)


def test_types() -> None:
    image = torch.rand(3, 40, 40)
    network = local_network()
    assert restore(network, image.half(), 24, 4).dtype == torch.float16
    assert restore(network.double(), image).dtype == torch.float32
    assert restore(nn.Identity(), image).equal(image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 8}, "at least 16"),
        ({"tile": 32, "overlap": 32}, "less than the tile of 32"),
        ({"tile": 32, "overlap": -1}, "at least 0"),
        ({"batch": 0}, "batch 0"),
        ({"blend": "feathr"}, "did you mean 'feather'"),
    ],
)
def test_impossible_options(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        restore(nn.Identity(), torch.rand(3, 40, 40), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(40, 40),
        torch.rand(1, 40, 40),
        torch.rand(3, 0, 40),
        torch.zeros(3, 40, 40, dtype=torch.uint8),
    ],
)
def test_wrong_images(image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="image must be"):
        restore(nn.Identity(), image)


def test_another_shape_out_than_in() -> None:
    with pytest.raises(ValueError, match="made"):
        restore(nn.AvgPool2d(2), torch.rand(3, 40, 40))


def test_reflection_repeats() -> None:
    row = torch.arange(3.0).expand(1, 1, 3)
    assert reflect_to(row, 1, 8).flatten().tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert reflect_to(torch.ones(1, 1, 1), 2, 3).tolist() == [[[1, 1, 1], [1, 1, 1]]]
