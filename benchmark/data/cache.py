"""Decoded training images on disk: uint8, memory-mapped, built once.

Reading a crop out of a PNG costs the decoding of the whole picture (5 ms); out of the cache, a few pages.

An entry is a folder `<dataset>-<split>-<key>/` with `pixels.bin` (for each pair the rainy picture, then the
clean one, H × W × 3 bytes each) and `index.json` (names, sizes, offsets, digests). The key is a hash of every
file's path below the common folder, size and modification time: looking these up for Rain1200 takes a
fraction of a second; hashing the contents would read the whole set at every start, which is what the cache is
there to avoid. What is decoded is hashed on the way: the index keeps a digest of the pixels for records.

One process builds, others wait for it (a lock that the system releases when its holder dies); all write to a
temporary folder that is renamed when it is whole, so that even without working locks, as on some network
disks, nobody sees half an entry. What a killed process left is removed by the next one to build.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.data.images import image_size, read_image
from benchmark.data.layouts import Pair
from benchmark.errors import UserError, WorkError
from benchmark.files import home, make_folder, write_failure

Picture = NDArray[np.uint8]

_VERSION = 1  # of the format; part of the key
_TEMPORARY = ".part"


@dataclass(frozen=True)
class Cached:
    """A decoded split; `pair(i)` are views into the file, nothing is read before it is looked at."""

    names: tuple[str, ...]
    groups: tuple[str, ...]  # digest of each clean picture: pairs over the same background share it
    digest: str  # of all pixels
    sizes: tuple[tuple[int, int], ...]  # (H, W)
    _offsets: tuple[int, ...]
    _pixels: np.memmap
    _entry: Path

    def __reduce__(self) -> tuple[Callable[[Path], Cached | None], tuple[Path]]:
        # to a loader's worker goes the place, not the pixels
        return _load, (self._entry,)

    def pair(self, index: int) -> tuple[Picture, Picture]:
        """The rainy and the clean picture, uint8 (H, W, 3), read-only."""
        height, width = self.sizes[index]
        start, size = self._offsets[index], height * width * 3
        shape = (height, width, 3)
        return (
            self._pixels[start : start + size].reshape(shape),
            self._pixels[start + size : start + 2 * size].reshape(shape),
        )


def _home() -> Path:
    found = home()
    if found is None:
        raise UserError(
            "this user has no home folder: set ESDNET_CACHE (or data.cache) to a folder for the cache"
        )
    return found


def cache_folder(option: str | Path | None = None) -> Path:
    """Where the cache lies: the option, else $ESDNET_CACHE, else ~/.cache/esdnet-benchmark.

    Raises:
        UserError: there is no home either.
    """
    if option:
        return Path(option).expanduser()
    named = os.environ.get("ESDNET_CACHE")
    if named:
        return Path(named).expanduser()
    place = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(place) / "esdnet-benchmark"


def content_key(pairs: Sequence[Pair]) -> str:
    """A hash of which files there are, how large, and when they were last changed.

    Raises:
        UserError: a file is gone.
    """
    files = sorted({p.rainy for p in pairs} | {p.clean for p in pairs})
    base = os.path.commonpath([f.parent for f in files])
    digest = hashlib.sha256(f"{_VERSION}".encode())
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}") from None
        digest.update(
            f"{os.path.relpath(file, base)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(
                errors="replace"
            )
        )
    for p in pairs:
        digest.update(f"{p.name}\0{p.rainy.name}\0{p.clean.name}\0{p.half}\n".encode(errors="replace"))
    return digest.hexdigest()[:20]


def read_pair(pair: Pair) -> tuple[Picture, Picture]:
    """Decode a pair: uint8 (H, W, 3) rainy and clean.

    Raises:
        UserError: a file cannot be read, or the two differ in size.
    """
    if pair.half:
        both = read_image(pair.rainy)
        width = both.shape[1]
        if width % 2:
            raise UserError(f"{pair.rainy}: {width} pixels wide, so it does not hold two halves")
        left, right = both[:, : width // 2], both[:, width // 2 :]
        rainy, clean = (left, right) if pair.half == "left" else (right, left)
        return np.ascontiguousarray(rainy), np.ascontiguousarray(clean)
    rainy = read_image(pair.rainy)
    clean = rainy if pair.clean == pair.rainy else read_image(pair.clean)
    if rainy.shape != clean.shape:
        raise _sizes_differ(pair, (rainy.shape[0], rainy.shape[1]), (clean.shape[0], clean.shape[1]))
    return rainy, clean


def pair_size(pair: Pair) -> tuple[int, int]:
    """(H, W) of a pair from the headers.

    Raises:
        UserError: as `read_pair`.
    """
    height, width = image_size(pair.rainy)
    if pair.half:
        if width % 2:
            raise UserError(f"{pair.rainy}: {width} pixels wide, so it does not hold two halves")
        return height, width // 2
    other = image_size(pair.clean)
    if other != (height, width):
        raise _sizes_differ(pair, (height, width), other)
    return height, width


def _sizes_differ(pair: Pair, rainy: tuple[int, int], clean: tuple[int, int]) -> UserError:
    return UserError(
        f"{pair.rainy} is {rainy[1]}×{rainy[0]} but its clean image {pair.clean} is {clean[1]}×{clean[0]}; "
        "a pair must have one size"
    )


def open_cache(
    name: str,
    pairs: Sequence[Pair],
    folder: str | Path | None = None,
    progress: bool = True,
    workers: int | None = None,
) -> Cached:
    """The decoded pairs, built first if this machine has not seen them.

    Args:
        name: what the entry's folder begins with, e.g. "rain200h-train".
        pairs: what to decode.
        folder: see `cache_folder`.
        progress: show a bar while building.
        workers: threads that decode; None: one for each core.

    Raises:
        UserError: a picture is damaged, a pair's sizes differ, or the folder cannot be written to.
        WorkError: the disk is full.
    """
    if not pairs:
        raise UserError(f"{name}: no pairs to read")
    home = cache_folder(folder)
    entry = home / f"{name}-{content_key(pairs)}"
    found = _load(entry)
    if found is not None:
        return found
    make_folder(home)
    with _lock(home / f"{entry.name}.lock") as alone:
        found = _load(entry)
        if found is not None:
            return found
        for left in home.glob(f"{entry.name}.*{_TEMPORARY}") if alone else ():
            shutil.rmtree(left, ignore_errors=True)
        part = home / f"{entry.name}.{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}"
        try:
            part.mkdir()
            _build(part, name, pairs, progress, workers)
            if entry.exists():  # an older, damaged one: `_load` refused it
                shutil.rmtree(entry, ignore_errors=True)
            with contextlib.suppress(FileExistsError):
                part.rename(entry)
        except OSError as error:
            raise write_failure(entry, error) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    found = _load(entry)
    if found is None:
        raise WorkError(f"{entry}: the cache was removed while it was built; run the command again")
    return found


def _load(entry: Path) -> Cached | None:
    """The entry if it is there and whole."""
    try:
        index = json.loads((entry / "index.json").read_text(encoding="utf-8"))
        if index["version"] != _VERSION or (entry / "pixels.bin").stat().st_size != index["bytes"]:
            return None
        return Cached(
            names=tuple(index["names"]),
            groups=tuple(index["groups"]),
            digest=index["digest"],
            sizes=tuple((h, w) for h, w in index["sizes"]),
            _offsets=tuple(index["offsets"]),
            _pixels=np.memmap(entry / "pixels.bin", dtype=np.uint8, mode="r"),
            _entry=entry,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _build(part: Path, name: str, pairs: Sequence[Pair], progress: bool, workers: int | None) -> None:
    workers = workers or cores()
    with ThreadPoolExecutor(workers) as pool:
        sizes = list(pool.map(pair_size, pairs))
    offsets, total = [], 0
    for height, width in sizes:
        offsets.append(total)
        total += 2 * height * width * 3
    free = shutil.disk_usage(part).free
    if total > free:
        raise WorkError(
            f"{part.parent}: the decoded images need {total / 2**30:.1f} GiB, {free / 2**30:.1f} are free; "
            "make room, or set data.cache=FOLDER on another disk"
        )
    groups = [""] * len(pairs)
    whole = [""] * len(pairs)
    stop = threading.Event()
    descriptor = os.open(part / "pixels.bin", os.O_CREAT | os.O_WRONLY, 0o644)
    try:

        def decode(i: int) -> None:
            if stop.is_set():
                return
            rainy, clean = read_pair(pairs[i])
            if rainy.shape[:2] != sizes[i]:
                raise UserError(
                    f"{pairs[i].rainy}: its header gives another size than its content; it is damaged"
                )
            data = rainy.tobytes() + clean.tobytes()
            groups[i] = hashlib.sha256(data[len(data) // 2 :]).hexdigest()[:16]
            whole[i] = hashlib.sha256(data).hexdigest()
            _write_at(descriptor, data, offsets[i])

        # threads: decoding, hashing and writing all release the interpreter's lock
        with (
            ThreadPoolExecutor(workers) as pool,
            progress_bar(f"decoding {name}", len(pairs), progress) as step,
        ):
            try:
                for _ in pool.map(decode, range(len(pairs))):
                    step()
            except BaseException:
                stop.set()
                raise
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    index = {
        "version": _VERSION,
        "bytes": total,
        "names": [p.name for p in pairs],
        "groups": groups,
        "digest": hashlib.sha256("".join(whole).encode()).hexdigest()[:20],
        "sizes": sizes,
        "offsets": offsets,
    }
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def progress_bar(title: str, total: int, show: bool) -> Iterator[Callable[[], object]]:
    """A progress bar on stderr; yields a function that advances it."""
    if not show or total < 50:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on a file; yields False where the system has none (the rename is enough)."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    try:
        handle = path.open("a")
    except OSError as error:
        raise write_failure(path, error) from None
    with handle:
        held = False
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
            held = True
        yield held
