"""Restoring pictures of any size, whole or in overlapping tiles that are blended.

A tile starts every `tile` − `overlap` pixels and the last one is shifted inside, so that every tile is full:

    0        tile                  H or W
    ├──────────┤
            ├──────────┤      ├──────────┤
             ↔ overlap     ├──────────┤        (the last overlaps more)

Where tiles overlap they are blended, in one of two ways:

    distance   each counts with 1 / √(d² + 1e-3), d its distance in pixels to the tile's centre (at tile / 2,
               half a pixel below and to the right of the middle), as in ESDNet's own test; the default. The
               weight does not vanish at the tile's border: what a network makes of the border stays visible.
    feather    the outer quarter of an overlap is left out, and weights rise linearly over the middle half.
               Equal to the whole picture's result where a network reaches less than a quarter of the overlap.

A network that looks at the whole picture (ESDNet's attention does) gives different results for different
tiles; its authors' test uses 80 and 8.

On a CPU the network gets one tile at a time whatever the batch: that is as fast (measured), and batches of
another size take other kernels, whose rounding a spiking network amplifies from 1e-7 to 1e-2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, product

import torch
from torch import Tensor, nn

from benchmark.errors import OutOfMemory, UserError, out_of_memory, unknown

SMALLEST = 16  # every network of the catalogue takes this; smaller pictures are padded to it
# as many tiles at once as have about this many pixels: enough to keep the device busy, little enough to fit
_PIXELS_AT_ONCE = 768**2
_ONE_AT_A_TIME = frozenset({"cpu"})

BLENDS = ("distance", "feather")

Progress = Callable[[int, int], None]


def restore(
    model: nn.Module,
    image: Tensor,
    tile: int | None = None,
    overlap: int = 8,
    batch: int | None = None,
    progress: Progress | None = None,
    blend: str = "distance",
) -> Tensor:
    """Restore one or more pictures of any size.

    The model runs in eval mode where its weights are; the result is put together where `image` is, so a large
    picture kept on the CPU needs little memory on the device. When the device's memory runs out, fewer tiles
    are restored at once. How many does not change the result: not at all on a CPU, not beyond rounding
    elsewhere.

    Args:
        model: a network, (N, 3, H, W) in [0, 1] to the same shape.
        image: (3, H, W) or (N, 3, H, W), floating point in [0, 1]; any size of at least 1 × 1.
        tile: side of the tiles in pixels; None restores the whole picture at once. A picture smaller than the
            tile is padded to it by reflection.
        overlap: pixels that neighbouring tiles share at least.
        batch: tiles (or, without tiles, pictures) that an accelerator restores at once; None chooses.
        progress: called with the number of tiles (pictures) done and their total.
        blend: "distance" (the authors') or "feather"; see above.

    Returns:
        The restored pictures: shape, type and device of `image`, not clamped.

    Raises:
        ValueError: `image` is not such a tensor, or the network returns another shape.
        UserError: impossible tile, overlap or batch, no such blend.
        OutOfMemory: with a single tile.
    """
    _check(image, tile, overlap, batch)
    if blend not in BLENDS:
        raise unknown("blend", blend, BLENDS)
    if image.ndim == 3:
        return restore(model, image[None], tile, overlap, batch, progress, blend)[0]
    height, width = image.shape[-2:]
    least = max(SMALLEST, tile or 0)
    padded = reflect_to(image, max(height, least), max(width, least))
    with in_eval_mode(model):
        if tile is None:
            places = [(n, 0, 0) for n in range(len(padded))]
            restored = torch.empty_like(padded)
            for n, piece in enumerate(_pieces(model, padded, places, padded.shape[-2:], batch, progress)):
                restored[n] = piece
        else:
            restored = _blended(model, padded, tile, overlap, batch, progress, blend)
    return restored[..., :height, :width].to(image.dtype)


def pictures_at_once(device: torch.device, height: int, width: int, batch: int | None = None) -> int:
    """How many pictures or tiles of that size are restored at once; `batch` is what the user asked for."""
    if device.type in _ONE_AT_A_TIME:
        return 1
    return batch or max(1, _PIXELS_AT_ONCE // (height * width))


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


def feather_weights(starts: list[int], tile: int, overlap: int) -> Tensor:
    """What each pixel along a side counts in each of its tiles, (tiles, tile).

    Zero in the outer quarter of the overlap, rising over its middle half, one beyond; one up to the picture's
    border.
    """
    inside = torch.arange(tile, dtype=torch.float64) + 0.5
    margin = overlap // 4
    rise = ((inside - margin) / max(1, overlap - 2 * margin)).clamp(0, 1)
    weights = torch.ones(len(starts), tile, dtype=torch.float64)
    weights[1:] *= rise
    weights[:-1] *= rise.flip(0)
    return weights


def reflect_to(image: Tensor, height: int, width: int) -> Tensor:
    """Extend (..., H, W) to the right and below by reflection without the edge pixel, as often as needed."""
    for dim, size in ((-2, height), (-1, width)):
        length = image.shape[dim]
        if size > length:
            period = max(1, 2 * (length - 1))
            index = torch.arange(size, device=image.device) % period
            image = image.index_select(dim, torch.where(index < length, index, period - index))
    return image


def check_tiles(tile: int | None, overlap: int) -> None:
    """Refuse tiles that no picture can be restored in; None: there are none.

    Raises:
        UserError: the tile is too small, or not larger than the overlap.
    """
    if tile is not None:
        if tile < SMALLEST:
            raise UserError(f"tile {tile}: tiles must be at least {SMALLEST} pixels")
        if not 0 <= overlap < tile:
            raise UserError(f"overlap {overlap}: it must be at least 0 and less than the tile of {tile}")


def _check(image: Tensor, tile: int | None, overlap: int, batch: int | None) -> None:
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or min(image.shape[-2:]) < 1:
        raise ValueError(f"image must be (3, H, W) or (N, 3, H, W), not {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"image must be floating point in [0, 1], not {image.dtype}: divide by 255?")
    check_tiles(tile, overlap)
    if batch is not None and batch < 1:
        raise UserError(f"batch {batch}: it must be at least 1")


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode, and afterwards every module as it was: parts of a model may be frozen on purpose."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _blended(
    model: nn.Module,
    images: Tensor,
    tile: int,
    overlap: int,
    batch: int | None,
    progress: Progress | None,
    blend: str,
) -> Tensor:
    """The whole of (N, 3, H, W), H and W ≥ `tile`, from tiles, as float32 or better."""
    rows, columns = (tile_starts(length, tile, overlap) for length in images.shape[-2:])
    corners = list(product(rows, columns))
    canvas = torch.zeros_like(images, dtype=torch.promote_types(images.dtype, torch.float32))
    # a tile's weights are a product of two factors; the first of "distance" is already the whole of them
    if blend == "distance":
        weights = [(tile_weights(tile).to(canvas), canvas.new_ones(tile))] * len(corners)
    else:
        down, across = (feather_weights(starts, tile, overlap).to(canvas) for starts in (rows, columns))
        weights = list(product(down[:, :, None], across))
    total = canvas.new_zeros(canvas.shape[-2:])
    for (top, left), (first, second) in zip(corners, weights, strict=True):
        total[top : top + tile, left : left + tile] += first * second
    places = [(n, top, left) for n in range(len(images)) for top, left in corners]
    pieces = _pieces(model, images, places, (tile, tile), batch, progress)
    for piece, (n, top, left), (first, second) in zip(pieces, places, cycle(weights), strict=False):
        canvas[n, :, top : top + tile, left : left + tile] += piece.to(canvas.dtype) * first * second
    return canvas.div_(total)


def _pieces(
    model: nn.Module,
    images: Tensor,
    places: list[tuple[int, int, int]],
    size: Sequence[int],
    batch: int | None,
    progress: Progress | None,
) -> Iterator[Tensor]:
    """The network's output for each place (image, top, left), in order, on the images' device."""
    example = next(model.parameters(), images)
    device, dtype = example.device, example.dtype
    height, width = size
    batch = pictures_at_once(device, height, width, batch)
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
            if not out_of_memory(error):
                raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
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
