"""Restoring pictures of any size, whole or in overlapping tiles that are blended.

A tile starts every `tile` − `overlap` pixels and the last one is shifted inside, so that every tile is full:

    0        tile                  H or W
    ├──────────┤
            ├──────────┤      ├──────────┤
             ↔ overlap     ├──────────┤        (the last overlaps more)

Where tiles overlap, each counts with the weight 1 / √(d² + 1e-3), d its distance in pixels to the tile's
centre (at tile / 2, half a pixel below and to the right of the middle), as in ESDNet's own test. A network
that looks at the whole picture (ESDNet's attention does) gives different results for different tiles; its
authors' test uses 80 and 8.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor, nn

from benchmark.errors import UserError, WorkError

SMALLEST = 16  # every network of the catalogue takes this; smaller pictures are padded to it
# as many tiles at once as have about this many pixels: enough to keep the device busy, little enough to fit
_PIXELS_AT_ONCE = {"cpu": 256**2, "cuda": 768**2}

Progress = Callable[[int, int], None]


class OutOfMemory(WorkError):  # noqa: N818
    """Not even one tile (or one whole picture) fits into the device's memory."""


def restore(
    model: nn.Module,
    image: Tensor,
    tile: int | None = None,
    overlap: int = 8,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Restore one or more pictures of any size.

    The model runs in eval mode where its weights are; the result is put together where `image` is, so a large
    picture kept on the CPU needs little memory on the device. When the device's memory runs out, fewer tiles
    are restored at once; the result does not depend on how many.

    Args:
        model: a network, (N, 3, H, W) in [0, 1] to the same shape.
        image: (3, H, W) or (N, 3, H, W), floating point in [0, 1]; any size of at least 1 × 1.
        tile: side of the tiles in pixels; None restores the whole picture at once. A picture smaller than the
            tile is padded to it by reflection.
        overlap: pixels that neighbouring tiles share at least.
        batch: tiles (or, without tiles, pictures) restored at once; None chooses.
        progress: called with the number of tiles (pictures) done and their total.

    Returns:
        The restored pictures: shape, type and device of `image`, not clamped.

    Raises:
        ValueError: `image` is not such a tensor, or the network returns another shape.
        UserError: impossible tile, overlap or batch.
        OutOfMemory: with a single tile.
    """
    _check(image, tile, overlap, batch)
    if image.ndim == 3:
        return restore(model, image[None], tile, overlap, batch, progress)[0]
    height, width = image.shape[-2:]
    least = max(SMALLEST, tile or 0)
    padded = reflect_to(image, max(height, least), max(width, least))
    with _in_eval_mode(model):
        if tile is None:
            restored = torch.empty_like(padded)
            corners = [(0, 0)]
            size = tuple(padded.shape[-2:])
        else:
            restored = torch.zeros_like(padded, dtype=torch.promote_types(image.dtype, torch.float32))
            corners = list(
                product(
                    tile_starts(padded.shape[-2], tile, overlap), tile_starts(padded.shape[-1], tile, overlap)
                )
            )
            size = (tile, tile)
        places = [(n, top, left) for n in range(len(padded)) for top, left in corners]
        tiles = _restored_tiles(model, padded, places, size, batch, progress)
        if tile is None:
            for (n, _, _), piece in zip(places, tiles, strict=True):
                restored[n] = piece
        else:
            weights = tile_weights(tile).to(restored)
            total = restored.new_zeros(restored.shape[-2:])
            for top, left in corners:
                total[top : top + tile, left : left + tile] += weights
            for (n, top, left), piece in zip(places, tiles, strict=True):
                restored[n, :, top : top + tile, left : left + tile] += piece.to(restored.dtype) * weights
            restored /= total
    return restored[..., :height, :width].to(image.dtype)


def pictures_at_once(device: torch.device, height: int, width: int) -> int:
    """How many pictures or tiles of that size are restored at once when nobody says."""
    return max(1, _PIXELS_AT_ONCE.get(device.type, _PIXELS_AT_ONCE["cpu"]) // (height * width))


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along a side of `length` ≥ `tile` pixels; they cover it, all inside.

    >>> tile_starts(200, 80, 8)
    [0, 72, 120]
    """
    return [*range(0, length - tile, tile - overlap), length - tile]


def tile_weights(tile: int) -> Tensor:
    """What each pixel of a tile counts in the blend: 1 / √(d² + 1e-3), d to the centre at tile / 2."""
    squares = (torch.arange(tile, dtype=torch.float64) - tile / 2).square()
    return (squares[:, None] + squares[None, :] + 1e-3).rsqrt()


def reflect_to(image: Tensor, height: int, width: int) -> Tensor:
    """Extend (..., H, W) to the right and below by reflection without the edge pixel, as often as needed."""
    for dim, size in ((-2, height), (-1, width)):
        length = image.shape[dim]
        if size > length:
            period = max(1, 2 * (length - 1))
            index = torch.arange(size, device=image.device) % period
            image = image.index_select(dim, torch.where(index < length, index, period - index))
    return image


def _check(image: Tensor, tile: int | None, overlap: int, batch: int | None) -> None:
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or min(image.shape[-2:]) < 1:
        raise ValueError(f"image must be (3, H, W) or (N, 3, H, W), not {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"image must be floating point in [0, 1], not {image.dtype}: divide by 255?")
    if tile is not None:
        if tile < SMALLEST:
            raise UserError(f"tile {tile}: tiles must be at least {SMALLEST} pixels")
        if not 0 <= overlap < tile:
            raise UserError(f"overlap {overlap}: it must be at least 0 and less than the tile of {tile}")
    if batch is not None and batch < 1:
        raise UserError(f"batch {batch}: it must be at least 1")


@contextlib.contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode, and afterwards every module as it was: parts of a model may be frozen on purpose."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _restored_tiles(
    model: nn.Module,
    images: Tensor,
    places: list[tuple[int, int, int]],
    size: tuple[int, ...],
    batch: int | None,
    progress: Progress | None,
) -> Iterator[Tensor]:
    """The network's output for each place (image, top, left), in order, on the images' device."""
    example = next(model.parameters(), images)
    device, dtype = example.device, example.dtype
    height, width = size
    batch = batch or pictures_at_once(device, height, width)
    done = 0
    while done < len(places):
        chunk = places[done : done + batch]
        rainy = torch.stack([images[n, :, top : top + height, left : left + width] for n, top, left in chunk])
        try:
            with torch.inference_mode():
                restored = model(rainy.to(device, dtype))
            if restored.shape != rainy.shape:
                raise ValueError(f"the network made {tuple(restored.shape)} of {tuple(rainy.shape)}")
            restored = restored.to(images.device)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if len(chunk) == 1:
                raise OutOfMemory(
                    f"out of memory restoring {width}×{height} pixels on {device}: give a smaller tile"
                ) from error
            batch = len(chunk) // 2
            continue
        yield from restored
        done += len(chunk)
        if progress is not None:
            progress(done, len(places))


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True
    return "allocate memory" in str(error)  # what the CPU's allocator says in a plain RuntimeError
