"""The work of `derain restore`: a user's own pictures and videos, files and folders, into another folder."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.errors import OutOfMemory, UserError, WorkError
from benchmark.evaluation.evaluate import write_restored
from benchmark.evaluation.memory import OVERLAP, choose_tile
from benchmark.evaluation.metrics import to_8_bit
from benchmark.evaluation.tiling import Progress, restore
from benchmark.evaluation.videos import VIDEO_EXTENSIONS, restore_video

Picture = NDArray[np.uint8]
Tile = int | Literal["auto"] | None

# tried in turn when a whole picture does not fit into memory
_SMALLER_TILES = (768, 384, 192, 96)
_GAP = 8  # pixels of white between the two pictures of a comparison


@dataclass
class Outcome:
    """What `restore_files` did: the pictures written, and the inputs that failed with the reason in one
    line."""

    written: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    tiled: dict[Path, int] = field(default_factory=dict)  # input: tile, where whole did not fit into memory


@dataclass(frozen=True)
class _How:
    """The options that every picture of a call shares."""

    tile: Tile
    overlap: int
    batch: int | None
    overwrite: bool
    compare: bool


def restore_files(
    model: nn.Module,
    inputs: Sequence[Path | str],
    out: Path | str,
    tile: Tile = None,
    overlap: int = 8,
    batch: int | None = None,
    device: torch.device | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
    compare: bool = False,
) -> Outcome:
    """Restore pictures and videos and write them losslessly: PNG with EXIF data and colour profile, FFV1 (.mkv).

    A file goes to `out` under its name, a folder's pictures (subfolders too) under their names in that
    folder. What would collide keeps its old extension too (`a.jpg.png`). A picture that cannot be read or
    restored is passed over and reported in the outcome; a picture for which memory runs out is tried again in
    tiles, in smaller and smaller ones.

    Args:
        model: a network; moved to `device` and left there.
        inputs: files, folders and glob patterns.
        out: a folder; it is created.
        tile: side of the tiles; None for whole pictures; "auto" for whole pictures where they fit into the free
            memory, else for the largest tiles that do, blended without seams over 64 pixels.
        overlap: pixels that tiles share.
        batch: tiles restored at once, None chooses.
        device: where to compute; None where the model is.
        overwrite: replace what is in `out` already; an input is never replaced.
        progress: draw a bar with the time left on standard error.
        compare: also write rainy and restored side by side, under the same names in `out`/compare.

    Returns:
        What was written and what failed; the caller's exit status is 1 if anything failed.

    Raises:
        UserError: before any work: an input that does not exist, no pictures, an output that exists or is an
            input, an output folder that cannot be written.
        WorkError: the disk is full.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from benchmark.files import make_folder

    out = Path(out)
    plan = planned(inputs, out)
    how = _How(tile, overlap, batch, overwrite, compare)
    beside = [(source, _beside(out, target)) for source, target in plan] if compare else []
    clash = {target for _, target in plan} & {target for _, target in beside}
    if clash:
        raise UserError(
            f"{min(clash)}: an input and a comparison would both be written there; leave out --compare"
        )
    _refuse_overwriting([*plan, *beside], overwrite)
    make_folder(out)
    if device is not None:
        model = model.to(device)
    outcome = Outcome()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("restore", total=len(plan))
        for position, (source, destination) in enumerate(plan):

            def tiles_done(done: int, total: int, before: int = position) -> None:
                bar.update(task, completed=before + done / total)

            try:
                work = _restore_video if source.suffix.lower() in VIDEO_EXTENSIONS else _restore_file
                used = work(model, source, destination, _beside(out, destination), how, tiles_done)
            except _Abort as abort:
                raise abort.cause from None
            except (UserError, WorkError) as error:
                outcome.failed.append((source, str(error)))
            else:
                outcome.written.append(destination)
                if tile == "auto" and used is not None:
                    outcome.tiled[source] = used
            bar.update(task, completed=position + 1)
    return outcome


def planned(inputs: Iterable[Path | str], out: Path) -> list[tuple[Path, Path]]:
    """Which picture goes where: (source, destination) for every picture and video of `inputs`, each once.

    Pictures inside `out` are left out where `out` lies inside an input folder: they are results.

    Raises:
        UserError: an input that does not exist, no picture at all, two inputs for one output.
    """
    sources: dict[Path, Path] = {}  # resolved → as given, so that a picture named twice is restored once
    relative: dict[Path, Path] = {}
    for given in inputs:
        for source, name in _pictures(Path(given), out):
            resolved = source.resolve()
            if resolved not in sources:
                sources[resolved], relative[resolved] = source, name
    if not sources:
        raise UserError(f"no pictures in {', '.join(map(str, inputs)) or 'nothing'}")
    taken = Counter(name.with_suffix(_extension(name)) for name in relative.values())
    plan: list[tuple[Path, Path]] = []
    used: dict[Path, Path] = {}
    for resolved, name in relative.items():
        extension = _extension(name)
        short = name.with_suffix(extension)
        destination = out / (short if taken[short] == 1 else name.with_name(f"{name.name}{extension}"))
        if destination in used:
            raise UserError(
                f"{used[destination]} and {sources[resolved]} would both be written to {destination}: "
                "restore them into different folders"
            )
        used[destination] = sources[resolved]
        plan.append((sources[resolved], destination))
    return plan


def _extension(name: Path) -> str:
    return ".mkv" if name.suffix.lower() in VIDEO_EXTENSIONS else ".png"


def _beside(out: Path, destination: Path) -> Path:
    return out / "compare" / destination.relative_to(out)


def _pictures(given: Path, out: Path) -> list[tuple[Path, Path]]:
    """The pictures that an argument stands for, each with its name inside the output folder."""
    from benchmark.data.images import EXTENSIONS, natural_key

    if given.is_dir():
        found: list[Path] = []
        for folder, subfolders, files in os.walk(given):
            here = Path(folder)
            subfolders[:] = [
                s for s in subfolders if not s.startswith(".") and (here / s).resolve() != out.resolve()
            ]
            found.extend(
                here / f
                for f in files
                if not f.startswith(".") and Path(f).suffix.lower() in EXTENSIONS | VIDEO_EXTENSIONS
            )
        if not found:
            raise UserError(f"{given}: no pictures in this folder")
        found.sort(key=lambda path: natural_key(str(path)))
        return [(path, path.relative_to(given)) for path in found]
    if given.exists():
        return [(given, Path(given.name))]
    matches = sorted(glob.glob(str(given), recursive=True), key=natural_key)  # noqa: PTH207
    if not matches:
        raise UserError(f"{given}: no such file or folder")
    return [picture for match in matches for picture in _pictures(Path(match), out)]


def _refuse_overwriting(plan: list[tuple[Path, Path]], overwrite: bool) -> None:
    sources = {source.resolve() for source, _ in plan}
    existing = [destination for _, destination in plan if destination.exists()]
    for destination in existing:
        if destination.resolve() in sources:
            raise UserError(f"{destination} is an input and would be overwritten: give another output folder")
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise UserError(
            f"{existing[0]}{more} exists already: give another output folder, or --overwrite to replace it"
        )


class _Abort(Exception):  # noqa: N818
    """Going on makes no sense: the disk is full."""

    def __init__(self, cause: WorkError) -> None:
        self.cause = cause


def _restore_file(
    model: nn.Module, source: Path, destination: Path, beside: Path, how: _How, progress: Progress
) -> int | None:
    """Restore a picture; returns the tile that was used."""
    from benchmark.data.images import read_image, read_metadata, write_image

    pixels = read_image(source)
    metadata = read_metadata(source)
    restored, used = restore_pixels(model, pixels, how.tile, how.overlap, how.batch, progress)
    if not bool(torch.isfinite(restored).all()):
        raise WorkError(f"{source}: the network's output has NaN or infinite values")
    _still_free(destination, how.overwrite)
    try:
        write_restored(destination, restored, metadata)
        if how.compare:
            write_image(beside, side_by_side(pixels, _as_pixels(restored)), metadata)
    except WorkError as error:
        raise _Abort(error) from error
    return used


def _restore_video(
    model: nn.Module, source: Path, destination: Path, beside: Path, how: _How, progress: Progress
) -> int | None:
    """Restore a video frame by frame; returns the tile that was used."""
    used: list[int | None] = []

    def one(frame: Picture) -> Picture:
        # the tile found for the first frame serves them all: frames must not differ in how they were made
        tile = used[-1] if used else how.tile
        overlap = OVERLAP if used and how.tile == "auto" and tile is not None else how.overlap
        restored, tile_used = restore_pixels(
            model, frame, tile, overlap, how.batch, seamless=how.tile == "auto"
        )
        if not bool(torch.isfinite(restored).all()):
            raise WorkError(
                f"{source}: frame {len(used) + 1}: the network's output has NaN or infinite values"
            )
        used.append(tile_used)
        return _as_pixels(restored)

    _still_free(destination, how.overwrite)
    restore_video(source, destination, one, beside if how.compare else None, side_by_side, progress)
    return used[-1]


def _still_free(destination: Path, overwrite: bool) -> None:
    if destination.exists() and not overwrite:  # made since the plan, or the file system ignores case
        raise WorkError(f"{destination} exists already")


def restore_pixels(
    model: nn.Module,
    pixels: Picture,
    tile: Tile = "auto",
    overlap: int = 8,
    batch: int | None = None,
    progress: Progress | None = None,
    seamless: bool = False,
) -> tuple[Tensor, int | None]:
    """Restore a picture of 8-bit pixels (H, W, 3) in tiles that fit into memory.

    Args:
        model: a network, where it should work.
        pixels: uint8 (H, W, 3) RGB.
        tile: as for `restore_files`.
        overlap: pixels that tiles share, where `tile` is a number.
        batch: tiles restored at once.
        progress: called with tiles done and their number.
        seamless: blend without seams although `tile` is a number.

    Returns:
        The restored picture (3, H, W), not clamped, and the tile that was used (None: whole).

    Raises:
        OutOfMemory: with the smallest tile.
    """
    image = torch.tensor(pixels).permute(2, 0, 1).float().div_(255)
    height, width = image.shape[-2:]
    seamless = seamless or tile == "auto"
    first: int | None
    if tile == "auto":
        example = next(model.parameters(), image)
        first = choose_tile(model, height, width, example.device)
        overlap = OVERLAP
    else:
        first = tile
    largest = max(height, width) if first is None else first
    smaller = [t for t in _SMALLER_TILES if t < largest and t > overlap]
    for size in (first, *smaller):
        try:
            blend = "feather" if seamless else "distance"
            return restore(model, image, size, overlap, batch, progress, blend), size
        except OutOfMemory as error:
            last = error
    raise last


def side_by_side(rainy: Picture, restored: Picture) -> Picture:
    """Two pictures of one height beside each other, a white gap between; one below the other if they are wide."""
    wide = rainy.shape[1] > 1.5 * rainy.shape[0]
    shape = (_GAP, rainy.shape[1], 3) if wide else (rainy.shape[0], _GAP, 3)
    return np.concatenate([rainy, np.full(shape, 255, np.uint8), restored], axis=0 if wide else 1)


def _as_pixels(restored: Tensor) -> Picture:
    return to_8_bit(restored).to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
