"""The one evaluator: records, the command line and the dashboard get their numbers from `evaluate`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.errors import Diverged, UserError
from benchmark.means import identical, mean_of
from benchmark.metrics.fidelity import (
    CONVENTIONS,
    Convention,
    convention_named,
    fidelity,
)
from benchmark.metrics.measures import Measure
from benchmark.restoration.tiling import pictures_at_once, restore
from benchmark.restoration.writing import write_restored
from benchmark.text.progress import bar

Pair = Mapping[str, Any]
Row = dict[str, Any]
Picture = NDArray[np.uint8]

ABOUT = ("name", "width", "height", "scene", "clean")
"""What a row says of its picture; all else is measured."""


def evaluate(
    model: nn.Module,
    pairs: Iterable[Pair],
    tile: int | None = None,
    overlap: int = 8,
    batch: int | None = None,
    device: torch.device | str | None = None,
    conventions: Sequence[str] = tuple(CONVENTIONS),
    save: Path | None = None,
    progress: bool = True,
    measures: Sequence[Measure] = (),
) -> list[Row]:
    """Restore every rainy picture and measure it, and the rainy picture itself, against the target.

    Args:
        model: a network; it is moved to `device` and left there, its mode (training or not) is kept.
        pairs: mappings with "rainy" and "target", (3, H, W) in [0, 1], "name" and, where it is known, "scene"; a
            list, a data set, or a loader that makes no batches.
        tile: side of the tiles, None for whole pictures.
        overlap: pixels that tiles share.
        batch: tiles, or whole pictures of the same size, restored at once; None chooses by size and device.
        device: where to compute; None where the model is.
        conventions: under which to measure.
        save: folder for the restored pictures, as 8-bit PNG under their names.
        progress: draw a bar on standard error.
        measures: further metrics.

    Returns:
        One row an image, in the order of `pairs`: name, width, height, scene (where it is known), clean (a digest of
        the target: pictures that have it in common are of one scene), and for each convention C psnr_C, ssim_C,
        rainy_psnr_C, rainy_ssim_C (dB may be infinite); for each further metric M also M and rainy_M.

    Raises:
        UserError: no pairs, a pair of different sizes, no such convention, an impossible tile.
        Diverged: the network's output is not finite (the image is named).
        OutOfMemory: a tile (or a whole picture) does not fit.
    """
    chosen = [convention_named(c) for c in conventions]
    if device is not None:
        model = model.to(device)
    found: dict[int, Row] = {}
    total = len(pairs) if isinstance(pairs, Sized) else None
    with bar("evaluate", total, progress) as step:
        here = _device_of(model)
        for group in _same_sized(pairs, here, batch if tile is None else 1):
            rainy = torch.stack([pair["rainy"] for _, pair in group]).to(here)
            target = torch.stack([pair["target"] for _, pair in group]).to(here)
            restored = restore(model, rainy, tile, overlap, batch)
            for i, (_, pair) in enumerate(group):
                if not bool(torch.isfinite(restored[i]).all()):
                    raise Diverged(f"{pair['name']}: the network's output has NaN or infinite values")
            columns = {
                **_measured("", restored, target, chosen),
                **_measured("rainy_", rainy, target, chosen),
            }
            for measure in measures:
                columns[measure.metric.name] = measure(restored, target)
                columns[f"rainy_{measure.metric.name}"] = measure(rainy, target)
            for i, (index, pair) in enumerate(group):
                if save is not None:
                    write_restored(png_path(save, str(pair["name"])), restored[i])
                found[index] = {
                    **about_pair(pair),
                    **{column: values[i] for column, values in columns.items()},
                }
            step.advance(len(group))
    if not found:
        raise UserError("nothing to evaluate: there are no pairs")
    return [found[index] for index in sorted(found)]


def measure_pictures(
    pairs: Sequence[tuple[Path | Picture, Path | Picture]],
    conventions: Sequence[str] = ("esdnet",),
    workers: int | None = None,
) -> list[Row]:
    """PSNR-Y and SSIM-Y of pictures that are restored already: several pairs at a time, a thread for each.

    Args:
        pairs: (restored, target), each a file or uint8 (H, W, 3).
        conventions: which to measure under, see `metrics.CONVENTIONS`.
        workers: threads; None: one for each core.

    Returns:
        A row for each pair, in order: psnr_NAME and ssim_NAME for each convention's name.

    Raises:
        UserError: a file cannot be read, or the sizes of a pair differ.
    """
    from benchmark.cgroup import cores
    from benchmark.data.images import read_image

    chosen = [convention_named(c) for c in conventions]

    def one(pair: tuple[Path | Picture, Path | Picture]) -> Row:
        restored, target = (read_image(p) if isinstance(p, Path) else p for p in pair)
        if restored.shape != target.shape:
            name = pair[0] if isinstance(pair[0], Path) else "a pair"
            raise UserError(
                f"{name}: restored is {restored.shape[1]}×{restored.shape[0]} but target is "
                f"{target.shape[1]}×{target.shape[0]}; pairs must have one size"
            )
        levels = [torch.tensor(p).permute(2, 0, 1)[None] for p in (restored, target)]
        return {k: values[0] for k, values in _measured("", levels[0], levels[1], chosen).items()}

    workers = workers or cores()
    if workers == 1:
        return [one(pair) for pair in pairs]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a thread for each pair, not several for one
    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, pairs))
    finally:
        torch.set_num_threads(threads)


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over images of every measured column.

    Returns:
        "n", the number of images; "infinite", how many pictures are identical to their target in each column of
        PSNR (columns without any are not listed; see `benchmark.means` for what they count); and each column's mean.
    """
    means: dict[str, Any] = {"n": len(rows), "infinite": {}}
    columns = [c for c in (rows[0] if rows else {}) if c not in ABOUT]
    for column in columns:
        means[column] = mean_of(column, (row[column] for row in rows))
        if same := identical(column, (row[column] for row in rows)):
            means["infinite"][column] = same
    return means


def png_path(folder: Path, name: str) -> Path:
    """Where the picture of that name goes: `folder`/name.png, a picture's own extension left out.

    Raises:
        UserError: the name leads out of the folder.
    """
    from benchmark.data.images import EXTENSIONS

    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError(f"picture '{name}': its name leads out of {folder}")
    stem = relative.stem if relative.suffix.lower() in EXTENSIONS else relative.name
    return folder / relative.parent / f"{stem}.png"


def _measured(
    prefix: str, image: Tensor, target: Tensor, conventions: Sequence[Convention]
) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for name, (psnr, ssim) in fidelity(image, target, conventions).items():
        values[f"{prefix}psnr_{name}"] = psnr.tolist()
        values[f"{prefix}ssim_{name}"] = ssim.tolist()
    return values


def about_pair(pair: Pair) -> Row:
    """What a row says of its pair (`ABOUT`)."""
    target = pair["target"]
    return {
        "name": str(pair["name"]),
        "width": int(target.shape[-1]),
        "height": int(target.shape[-2]),
        **({"scene": pair["scene"]} if pair.get("scene") else {}),
        "clean": _digest(target),
    }


def _digest(target: Tensor) -> str:
    pixels = np.ascontiguousarray(target.cpu().numpy())
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=8).hexdigest()


def _device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _same_sized(
    pairs: Iterable[Pair], device: torch.device, batch: int | None
) -> Iterator[list[tuple[int, Pair]]]:
    """Groups of pairs of one size, each with its position; few pictures wait in memory at a time."""
    waiting: dict[tuple[int, int], list[tuple[int, Pair]]] = {}
    for index, pair in enumerate(pairs):
        rainy, target = pair["rainy"], pair["target"]
        if rainy.shape != target.shape:
            raise UserError(
                f"{pair['name']}: rainy is {rainy.shape[-1]}×{rainy.shape[-2]} but target is "
                f"{target.shape[-1]}×{target.shape[-2]}; pairs must have one size"
            )
        size = (int(rainy.shape[-2]), int(rainy.shape[-1]))
        group = waiting.setdefault(size, [])
        group.append((index, pair))
        full = pictures_at_once(device, *size, batch)
        if len(group) >= full:
            yield waiting.pop(size)
        elif sum(map(len, waiting.values())) >= 4 * full:
            yield waiting.pop(max(waiting, key=lambda s: len(waiting[s])))
    yield from waiting.values()
