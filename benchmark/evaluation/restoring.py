"""The work of `derain restore`: a user's own pictures, files and folders, into another folder."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.errors import UserError, WorkError
from benchmark.evaluation.evaluate import write_restored
from benchmark.evaluation.tiling import OutOfMemory, Progress, restore

# tried in turn when a whole picture does not fit into memory
_SMALLER_TILES = (768, 384, 192, 96)


@dataclass
class Outcome:
    """What `restore_files` did: the pictures written, and the inputs that failed with the reason in one
    line."""

    written: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


def restore_files(
    model: nn.Module,
    inputs: Sequence[Path | str],
    out: Path | str,
    tile: int | None = None,
    overlap: int = 8,
    batch: int | None = None,
    device: torch.device | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Outcome:
    """Restore pictures and write them as lossless PNG, with their EXIF data and colour profile.

    A file goes to `out` under its name, a folder's pictures (subfolders too) under their names in that
    folder. What would collide keeps its old extension too (`a.jpg.png`). A picture that cannot be read or
    restored is passed over and reported in the outcome; a picture for which memory runs out is tried again in
    tiles, in smaller and smaller ones.

    Args:
        model: a network; moved to `device` and left there.
        inputs: files, folders and glob patterns.
        out: a folder; it is created.
        tile: side of the tiles, None for whole pictures.
        overlap: pixels that tiles share.
        batch: tiles restored at once, None chooses.
        device: where to compute; None where the model is.
        overwrite: replace what is in `out` already; an input is never replaced.
        progress: draw a bar with the time left on standard error.

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

    from benchmark.data.files import make_folder

    out = Path(out)
    plan = planned(inputs, out)
    _refuse_overwriting(plan, overwrite)
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
                _restore_file(model, source, destination, tile, overlap, batch, overwrite, tiles_done)
            except _Abort as abort:
                raise abort.cause from None
            except (UserError, WorkError) as error:
                outcome.failed.append((source, str(error)))
            else:
                outcome.written.append(destination)
            bar.update(task, completed=position + 1)
    return outcome


def planned(inputs: Iterable[Path | str], out: Path) -> list[tuple[Path, Path]]:
    """Which picture goes where: (source, destination) for every picture of `inputs`, each once.

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
    taken = Counter(name.with_suffix(".png") for name in relative.values())
    plan: list[tuple[Path, Path]] = []
    used: dict[Path, Path] = {}
    for resolved, name in relative.items():
        png = name.with_suffix(".png")
        destination = out / (png if taken[png] == 1 else name.with_name(f"{name.name}.png"))
        if destination in used:
            raise UserError(
                f"{used[destination]} and {sources[resolved]} would both be written to {destination}: "
                "restore them into different folders"
            )
        used[destination] = sources[resolved]
        plan.append((sources[resolved], destination))
    return plan


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
                here / f for f in files if not f.startswith(".") and Path(f).suffix.lower() in EXTENSIONS
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
    model: nn.Module,
    source: Path,
    destination: Path,
    tile: int | None,
    overlap: int,
    batch: int | None,
    overwrite: bool,
    progress: Progress,
) -> None:
    from benchmark.data.images import read_image, read_metadata

    pixels = read_image(source)
    metadata = read_metadata(source)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)
    restored = _restored(model, image, tile, overlap, batch, progress)
    if not bool(torch.isfinite(restored).all()):
        raise WorkError(f"{source}: the network's output has NaN or infinite values")
    if destination.exists() and not overwrite:  # made since the plan, or the file system ignores case
        raise WorkError(f"{destination} exists already")
    try:
        write_restored(destination, restored, metadata)
    except WorkError as error:
        raise _Abort(error) from error


def _restored(
    model: nn.Module, image: Tensor, tile: int | None, overlap: int, batch: int | None, progress: Progress
) -> Tensor:
    largest = max(image.shape[-2:]) if tile is None else tile
    smaller = [t for t in _SMALLER_TILES if t < largest and t > overlap]
    for size in (tile, *smaller):
        try:
            return restore(model, image, size, overlap, batch, progress)
        except OutOfMemory as error:
            last = error
    raise last
