"""The work of `derain restore`: a user's own pictures and videos, files and folders, beside them or into a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.errors import DiskFull, OutOfMemory, UserError, WorkError, out_of_memory, printable
from benchmark.metrics.fidelity import to_8_bit
from benchmark.restoration.memory import OVERLAP, choose_tile, looks_at_all
from benchmark.restoration.places import Job, is_video, plan_of, refuse_overwriting
from benchmark.restoration.tiling import SMALLEST, Progress, restore
from benchmark.restoration.together import fits_together, restore_together, times_the_whole
from benchmark.restoration.videos import Encoding, look_through, restore_video
from benchmark.restoration.writing import write_restored
from benchmark.text.words import duration

if TYPE_CHECKING:
    from benchmark.data.images import Metadata

Picture = NDArray[np.uint8]
Tile = int | Literal["auto"] | None

# tried in turn when a whole picture does not fit into memory
_SMALLER_TILES = (768, 384, 192, 96)
_TRIED = 256  # side of the picture that tells how long a video or a large picture will take
_LARGE, _TELLING = (
    1e6,
    5e4,
)  # pixels of a picture worth that trial, and of one that tells how long the next takes
_GAP = 8  # pixels of white between the two pictures of a comparison


@dataclass(frozen=True)
class Done:
    """A picture or video that was restored.

    Attributes:
        source: the input.
        destination: the result, which was written now or, with `only_missing`, before.
        width, height: pixels as it is seen, upright.
        frames: of a video; None: a picture.
        tile: side of the tiles in pixels; None: whole.
        seconds: from its reading to its writing.
    """

    source: Path
    destination: Path
    width: int
    height: int
    frames: int | None
    tile: int | None
    seconds: float


@dataclass
class Outcome:
    """What `restore_files` did: the pictures written, and the inputs that failed with the reason in one
    line."""

    done: list[Done] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    tiled: dict[Path, int] = field(
        default_factory=dict
    )  # input: tile, where whole, or the tile asked for, did not fit
    lost: list[tuple[Path, str]] = field(
        default_factory=list
    )  # restored, but without a track, which is named
    remarks: list[tuple[Path, str]] = field(default_factory=list)  # what a result cannot keep by its nature
    passed_over: list[Path] = field(
        default_factory=list
    )  # in input folders: by name no picture, or not listed

    @property
    def written(self) -> list[Path]:
        """The results."""
        return [one.destination for one in self.done]


@dataclass(frozen=True)
class _How:
    """The options that every picture of a call shares."""

    tile: Tile
    overlap: int
    batch: int | None
    overwrite: bool
    only_missing: bool
    compare: bool
    encoding: Encoding


def restore_files(
    model: nn.Module,
    inputs: Sequence[Path | str],
    out: Path | str | None = None,
    tile: Tile = None,
    overlap: int = 8,
    batch: int | None = None,
    device: torch.device | str | None = None,
    overwrite: bool = False,
    progress: bool = True,
    compare: bool = False,
    encoding: Encoding | None = None,
    by: str = "",
    only_missing: bool = False,
) -> Outcome:
    """Restore pictures and videos: into PNG with EXIF data and colour profile, and H.264 (.mp4) or FFV1 (.mkv).

    A file goes to `out` under its name, a folder's pictures (subfolders too) under their names in that
    folder. Without `out`, `photo.jpg` goes to `photo-derained.png` beside it, a folder's pictures to the
    folder `NAME-derained` beside it; what has such a name in a folder is a result and passed over, and so is
    what was made of another input.
    What would collide keeps its old extension too (`a.jpg.png`). A picture that cannot be read or
    restored is passed over and reported in the outcome; so is one that does not fit into memory whole where `tile`
    is None. Otherwise a picture for which memory runs out is tried again in smaller and smaller tiles.

    Args:
        model: a network; moved to `device` and left there.
        inputs: files, folders and glob patterns.
        out: a folder, none of the inputs; it is created. None: beside the inputs.
        tile: side of the tiles; None for whole pictures; "auto" for whole pictures where they fit into the free
            memory, else for the largest tiles that do, blended without seams over 64 pixels, or pooling
            together where the network looks at the whole picture and that can be (`together`).
        overlap: pixels that tiles share.
        batch: tiles restored at once, None chooses.
        device: where to compute; None where the model is.
        overwrite: replace results that are there already; an input is never replaced.
        progress: draw bars with the time left on standard error: pictures, and tiles or frames of this one.
        compare: also write rainy and restored side by side, under the same names in `out`/compare, or as
            `photo-compare-derained.png`.
        encoding: how videos are written; None: H.264 where there is an encoder, else FFV1.
        by: a network's name, so that `photo.jpg` goes to `photo-NAME-derained.png`.
        only_missing: leave results that are there already as they are, and restore the others.

    Returns:
        What was written, what failed and what a video lost; the caller's exit status is 1 if anything did.

    Raises:
        UserError: before any work: an input that does not exist, no pictures, an output that exists or is an
            input, an output folder that cannot be written.
        WorkError: the disk is full.
    """
    from benchmark.files import require_writable

    outcome = Outcome()
    encoding = encoding or Encoding()
    jobs, roots = plan_of(inputs, None if out is None else Path(out), encoding, outcome.passed_over, by)
    how = _How(tile, overlap, batch, overwrite, only_missing, compare, encoding)
    if compare:
        clash = {job.destination for job in jobs} & {job.beside for job in jobs}
        if clash:
            raise UserError(
                f"{min(clash)}: an input and a comparison would both be written there; leave out --compare"
            )
    if only_missing:
        jobs = [job for job in jobs if not all(path.exists() for path in job.results(compare))]
    refuse_overwriting(jobs, overwrite, compare, only_missing)
    for root in roots:
        require_writable(root)
    if device is not None:
        model = model.to(device)
    with _Bars(progress, jobs) as bars:
        for position, job in enumerate(jobs):
            began = time.perf_counter()
            try:
                if is_video(job.source):
                    size, used = _restore_video(model, job, how, bars, bars.begin(position, "frame"), outcome)
                else:
                    expected = bars.expected(model, job, how)
                    began = time.perf_counter()
                    size, used = _restore_file(
                        model, job, how, bars.begin(position, "tile", expected), outcome
                    )
            except _Abort as abort:
                raise _told(abort.cause, jobs, how) from None
            except DiskFull as full:
                raise _told(full, jobs, how) from None
            except (UserError, WorkError) as error:
                outcome.failed.append((job.source, str(error)))
            except (MemoryError, RuntimeError) as error:  # beside the network: its pixels, its result
                if not out_of_memory(error):
                    raise
                outcome.failed.append((job.source, "out of memory: make it smaller first"))
            else:
                taken = time.perf_counter() - began
                outcome.done.append(Done(job.source, job.destination, *size, used, taken))
                if used is not None and used != tile:
                    outcome.tiled[job.source] = used
            bars.end(position)
    return outcome


class _Bars:
    """Bars on standard error: over the inputs, and over the tiles or frames of the one in hand."""

    def __init__(self, shown: bool, jobs: Sequence[Job]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        class Ticking(Bar):
            """Moves on by itself while a picture is restored whole, which tells nothing until it is done."""

            def get_renderables(bar) -> Iterable[Any]:  # noqa: N805
                self._tick()
                yield from super().get_renderables()

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeRemainingColumn(),
        )
        self._jobs, self._shown = jobs, shown
        self._began = self._expected = self._pixels = 0.0
        self._position = 0
        self._speed: float | None = None  # seconds a pixel, of the picture before
        self._bar = Ticking(*columns, console=Console(stderr=True), disable=not shown)
        total = len(jobs)
        self._all = self._bar.add_task("restore", total=total, count=f"0/{total}", visible=total > 1)
        self._one = self._bar.add_task("", total=1, count="")

    def __enter__(self) -> _Bars:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def expected(self, model: nn.Module, job: Job, how: _How) -> float:
        """Seconds that a picture will take, 0 where that is not known or not worth knowing."""
        from benchmark.data.images import image_size

        self._pixels = 0.0
        if not (self._shown and self._bar.console.is_terminal):
            return 0.0
        try:
            height, width = image_size(job.source)
        except UserError:  # which is told when it is read
            return 0.0
        device = next(model.parameters(), torch.empty(0)).device
        tile = choose_tile(model, height, width, device) if how.tile == "auto" else how.tile
        if tile is not None:  # tiles tell
            return 0.0
        self._pixels = float(height * width)
        if self._speed is None and self._pixels >= _LARGE:
            self._speed = _speed(model, how, height, width)
        return (self._speed or 0.0) * self._pixels

    def begin(self, position: int, unit: str, expected: float = 0.0) -> Callable[[float, int], None]:
        """Begin with the input of that position; gives what to call as its tiles or frames are done."""
        self._began, self._expected, self._position = time.perf_counter(), expected, position
        self._bar.reset(
            self._one, description=printable(self._jobs[position].source.name), total=1, count=f"0 {unit}s"
        )

        def advance(done: float, of: int) -> None:
            if of == 1 and self._pixels >= _TELLING:
                self._speed = (time.perf_counter() - self._began) / self._pixels
            self._expected = 0.0
            self._bar.update(self._one, completed=done, total=of, count=f"{unit} {int(done)}/{of}")
            self._bar.update(self._all, completed=position + done / of)

        return advance

    def _tick(self) -> None:
        if self._expected:
            share = min(0.99, (time.perf_counter() - self._began) / self._expected)
            self._bar.update(self._one, completed=share, total=1)
            self._bar.update(self._all, completed=self._position + share)

    def end(self, position: int) -> None:
        """That input is done."""
        self._expected = 0.0
        self._bar.update(self._all, completed=position + 1, count=f"{position + 1}/{len(self._jobs)}")

    def say(self, text: str) -> None:
        """A line above the bars."""
        if self._shown:
            self._bar.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


class _Abort(Exception):  # noqa: N818
    """Going on makes no sense: the disk is full."""

    def __init__(self, cause: WorkError) -> None:
        self.cause = cause


def _told(error: WorkError, jobs: Sequence[Job], how: _How) -> WorkError:
    """A full disk, with words that work once there is room: what was restored would be in the way."""
    done = sum(job.destination.exists() for job in jobs)
    if not isinstance(error, DiskFull) or how.overwrite or not done:
        return error
    return error.then(f"run it again with --only-missing ({done} of {len(jobs)} are restored)")


_Size = tuple[int, int, int | None]  # width, height, and a video's frames


def _restore_file(
    model: nn.Module, job: Job, how: _How, progress: Progress, outcome: Outcome
) -> tuple[_Size, int | None]:
    """Restore a picture; returns its size and the tile that was used."""
    from benchmark.data.images import read_content, write_image

    source, destination = job.source, job.destination
    made = restore_picture(model, read_content(source), source, how.tile, how.overlap, how.batch, progress)
    try:
        if not (how.only_missing and destination.exists()):
            _still_free(destination, how.overwrite)
            write_restored(destination, made.restored, made.metadata)
        if how.compare and not (how.only_missing and job.beside.exists()):
            write_image(job.beside, side_by_side(made.rainy, made.pixels), made.metadata)
    except WorkError as error:
        raise _Abort(error) from error
    outcome.remarks += [(source, words) for words in made.remarks]
    return (made.rainy.shape[1], made.rainy.shape[0], None), made.tile


@dataclass(frozen=True)
class Restored:
    """A picture and what a network made of it.

    Attributes:
        rainy: uint8 (H, W, 3) RGB, upright.
        restored: (3, H, W), finite, not clamped.
        metadata: what its file is to carry on.
        tile: side of the tiles it was restored in, None: whole.
        remarks: what the result cannot keep or show, in words.
    """

    rainy: Picture
    restored: Tensor
    metadata: Metadata
    tile: int | None
    remarks: list[str]

    @property
    def pixels(self) -> Picture:
        """The restored picture as 8 bits, as it is written and measured."""
        return as_pixels(self.restored)


def restore_picture(
    model: nn.Module,
    data: bytes,
    name: Path | str,
    tile: Tile = "auto",
    overlap: int = 8,
    batch: int | None = None,
    progress: Progress | None = None,
    opened: Callable[[int, int], None] | None = None,
) -> Restored:
    """Restore the picture that some bytes are.

    Args:
        model: a network, where it should work.
        data: of a file of any kind that `read_image` takes.
        name: what messages call it.
        tile, overlap, batch, progress: as for `restore_pixels`.
        opened: called with height and width before the work.

    Raises:
        UserError: no picture that can be read.
        WorkError: out of memory with the smallest tile, or a result that is not finite.
    """
    from benchmark.data.images import decode_image, metadata_of, not_kept_of

    pixels = decode_image(data, name)
    if opened is not None:
        opened(pixels.shape[0], pixels.shape[1])
    metadata, words = metadata_of(data, name), not_kept_of(data, name)
    restored, used = restore_pixels(model, pixels, tile, overlap, batch, progress)
    if not bool(torch.isfinite(restored).all()):
        raise WorkError(f"{name}: the network's output has NaN or infinite values")
    if tile == "auto" and used is not None and _apart(model, pixels, used):
        words.append(
            "in tiles by themselves: each sees less than the whole picture does, and may differ from its neighbours"
        )
    if min(pixels.shape[:2]) < SMALLEST:
        words.append(f"smaller than {SMALLEST} pixels, which is too little to see rain in")
    return Restored(pixels, restored, metadata, used, words)


def _apart(model: nn.Module, pixels: Picture, tile: int) -> bool:
    """Whether tiles of a network that looks at the whole picture were restored each by itself."""
    device = next(model.parameters(), torch.empty(0)).device
    return looks_at_all(model) and not fits_together(model, pixels.shape[0], pixels.shape[1], tile, device)


def _restore_video(
    model: nn.Module,
    job: Job,
    how: _How,
    bars: _Bars,
    progress: Callable[[float, int], None],
    outcome: Outcome,
) -> tuple[_Size, int | None]:
    """Restore a video frame by frame; returns its size and the tile that was used."""
    clip = look_through(job.source, progress)
    speed = _speed(model, how, clip.height, clip.width) * _times(model, how, clip.height, clip.width)
    taken = duration(speed * clip.height * clip.width * clip.frames)
    bars.say(f"{job.source}: {clip.frames} frames of {clip.width}×{clip.height}, about {taken}")
    # the tile found for the first frame serves them all: frames must not differ in how they were made
    tile, overlap, done = how.tile, how.overlap, 0

    def inside(tiles: int, of: int) -> None:
        progress(done + tiles / of, clip.frames)

    def one(frame: Picture) -> Picture:
        nonlocal tile, overlap, done
        restored, used = restore_pixels(
            model, frame, tile, overlap, how.batch, inside, seamless=how.tile == "auto"
        )
        if tile == "auto" and used is not None:
            overlap = OVERLAP
        tile, done = used, done + 1
        if not bool(torch.isfinite(restored).all()):
            raise WorkError(f"{job.source}: frame {done}: the network's output has NaN or infinite values")
        return as_pixels(restored)

    _still_free(job.destination, how.overwrite)
    beside = job.beside if how.compare else None
    lost = restore_video(clip, job.destination, one, how.encoding, beside, side_by_side)
    outcome.lost += [(job.source, words) for words in lost]
    outcome.remarks += [(job.source, words) for words in clip.remarks]
    return (clip.width, clip.height, done), tile if isinstance(tile, int) else None


def _speed(model: nn.Module, how: _How, height: int, width: int) -> float:
    """Seconds that a pixel of so large a picture will take, from a small one restored before."""
    rng = np.random.default_rng(0)
    for side in (_TRIED // 2, _TRIED):  # the first warms up
        pixels = rng.integers(0, 256, (min(side, height), min(side, width), 3), dtype=np.uint8)
        began = time.perf_counter()
        restore_pixels(model, pixels, how.tile, how.overlap, how.batch)
        taken = time.perf_counter() - began
    return taken / (pixels.shape[0] * pixels.shape[1])


def _times(model: nn.Module, how: _How, height: int, width: int) -> float:
    """How much more work a picture is in the tiles that it will be restored in than whole."""
    device = next(model.parameters(), torch.empty(0)).device
    tile = choose_tile(model, height, width, device) if how.tile == "auto" else None
    if tile is None or not fits_together(model, height, width, tile, device):
        return 1.0
    return times_the_whole(model, height, width, tile, device)


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
        seamless: as "auto", although `tile` is what that chose.

    Returns:
        The restored picture (3, H, W), not clamped, and the tile that was used (None: whole).

    Raises:
        OutOfMemory: with the smallest tile; whole, where `tile` is None and not `seamless`.
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
    if tile is None and not seamless:
        smaller = []
    for size in (first, *smaller):
        try:
            if seamless and size is not None:
                where = next(model.parameters(), image).device
                if fits_together(model, height, width, size, where):
                    return restore_together(model, image, size, progress=progress), size
            blend = "feather" if seamless else "distance"
            return restore(model, image, size, overlap, batch, progress, blend), size
        except OutOfMemory as error:
            last = error
    if tile is None and not seamless:
        raise OutOfMemory(
            f"out of memory restoring {width}×{height} pixels whole: give --tile auto, or a tile in pixels"
        ) from last
    raise last


def side_by_side(rainy: Picture, restored: Picture) -> Picture:
    """Two pictures of one height beside each other, a white gap between; one below the other if they are wide."""
    wide = rainy.shape[1] > 1.5 * rainy.shape[0]
    shape = (_GAP, rainy.shape[1], 3) if wide else (rainy.shape[0], _GAP, 3)
    return np.concatenate([rainy, np.full(shape, 255, np.uint8), restored], axis=0 if wide else 1)


def as_pixels(restored: Tensor) -> Picture:
    """A restored picture (3, H, W) as it is written and measured: clamped, × 255, rounded; uint8 (H, W, 3)."""
    return to_8_bit(restored).to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
