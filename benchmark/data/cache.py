"""Decoded training images on disk: uint8, memory-mapped, built once.

Reading a crop out of a PNG costs the decoding of the whole picture (5 ms); out of the cache, a few pages.

An entry is a folder `<dataset>-<split>-<key>/` with `pixels.bin` (for each pair the rainy picture, then the
clean one, H × W × 3 bytes each) and `index.json` (names, sizes, offsets, digests). The key is a hash of every
file's path, size and times of modification and of change (which no program can set back): looking these up for
Rain1200 takes a fraction of a second; hashing the contents would read the whole set at every start, which is what
the cache is there to avoid. What is decoded is hashed on the way, and each pair is compared with its hash when a
process first looks at it: where bits have flipped the pair is decoded again, and the entry is built anew next time.

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
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.cgroup import cores
from benchmark.data.images import image_size, read_image
from benchmark.data.layouts import Pair
from benchmark.errors import UserError, WorkError
from benchmark.files import home, make_folder, require_room, write_failure, write_json
from benchmark.reading import json_of
from benchmark.reading import path as expanded
from benchmark.text.progress import bar

Picture = NDArray[np.uint8]

_VERSION = 2  # of the format; part of the key
_TEMPORARY = ".part"
_INDEX = "index.json"
_DAMAGED = "damaged"  # a file that says: to be built anew


@dataclass(frozen=True)
class Cached:
    """A decoded split; `pair(i)` are views into the file, nothing is read before it is looked at."""

    names: tuple[str, ...]
    groups: tuple[str, ...]  # digest of each clean picture: pairs over the same background share it
    digest: str  # of all pixels
    sizes: tuple[tuple[int, int], ...]  # (H, W)
    _offsets: tuple[int, ...]
    _hashes: tuple[str, ...]  # of each pair's pixels
    _pixels: np.memmap
    _entry: Path
    _files: tuple[Pair, ...]
    _sound: set[int] = field(default_factory=set)
    _again: dict[int, tuple[Picture, Picture]] = field(
        default_factory=dict
    )  # pairs whose pixels were damaged

    def __reduce__(self) -> tuple[Callable[..., Cached | None], tuple[Path, tuple[Pair, ...]]]:
        # to a loader's worker goes the place, not the pixels
        return _load, (self._entry, self._files)

    def pair(self, index: int) -> tuple[Picture, Picture]:
        """The rainy and the clean picture, uint8 (H, W, 3), read-only.

        Raises:
            WorkError: the pixels are damaged, and the files are no longer those that were decoded.
        """
        height, width = self.sizes[index]
        start, size = self._offsets[index], height * width * 3
        if index not in self._sound and index not in self._again:
            if hashlib.sha256(self._pixels[start : start + 2 * size].data).hexdigest() == self._hashes[index]:
                self._sound.add(index)
            else:
                self._decode_again(index)
        if index in self._again:
            return self._again[index]
        shape = (height, width, 3)
        return (
            self._pixels[start : start + size].reshape(shape),
            self._pixels[start + size : start + 2 * size].reshape(shape),
        )

    def _decode_again(self, index: int) -> None:
        with contextlib.suppress(OSError):
            (self._entry / _DAMAGED).touch()
        rainy, clean = read_pair(self._files[index])
        if hashlib.sha256(rainy.tobytes() + clean.tobytes()).hexdigest() != self._hashes[index]:
            raise WorkError(
                f"{self._entry}: the decoded pixels of {self._files[index].rainy} are damaged, and the file has "
                "changed since; run the command again"
            )
        for picture in (rainy, clean):
            picture.flags.writeable = False
        self._again[index] = (rainy, clean)
        print(
            f"derain: {self._entry}: the decoded pixels of {self.names[index]} were damaged; decoded again",
            file=sys.stderr,
        )


def _home() -> Path:
    found = home()
    if found is None:
        raise UserError(
            "this user has no home folder: set DERAIN_CACHE (or data.cache) to a folder for the cache"
        )
    return found


def cache_folder(option: str | Path | None = None) -> Path:
    """Where the cache lies: the option, else $DERAIN_CACHE, else ~/.cache/derain.

    Raises:
        UserError: there is no home either.
    """
    if option:
        return Path(expanded(str(option)))
    named = os.environ.get("DERAIN_CACHE")
    if named:
        return Path(expanded(named))
    place = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(place) / "derain"


def content_key(pairs: Sequence[Pair]) -> str:
    """A hash of which files there are, where, how large, and when they were last written and changed.

    Raises:
        UserError: a file is gone.
    """
    files = sorted({p.rainy for p in pairs} | {p.clean for p in pairs})
    base = os.path.commonpath([f.parent for f in files])
    digest = hashlib.sha256(f"{_VERSION}\0".encode() + os.fsencode(os.path.realpath(base)))
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror}") from None
        digest.update(os.fsencode(os.path.relpath(file, base)))
        digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n".encode())
    for p in pairs:
        digest.update(os.fsencode(f"{p.name}\0{p.rainy}\0{p.clean}\0{p.half}\n"))
    return digest.hexdigest()[:20]


def files_digest(pairs: Sequence[Pair], folder: str | Path | None = None) -> str:
    """A hash of what the files hold and of how they are paired: the same wherever they lie.

    It is kept in the cache, for as long as no file changes.

    Args:
        pairs: whose files.
        folder: see `cache_folder`.

    Raises:
        UserError: a file is gone or cannot be read.
    """
    kept = cache_folder(folder) / f"digest-{content_key(pairs)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json_of(kept.read_text(encoding="utf-8"))["digest"])

    def of(pair: Pair) -> str:
        hashes = []
        for path in dict.fromkeys((pair.rainy, pair.clean)):
            try:
                with path.open("rb") as file:
                    hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        return f"{pair.name}\0{pair.half}\0{' '.join(hashes)}\n"

    with ThreadPoolExecutor(cores()) as pool:
        whole = "".join(pool.map(of, pairs))
    digest = hashlib.sha256(os.fsencode(whole)).hexdigest()[:20]
    with contextlib.suppress(UserError, WorkError):  # where nothing can be kept it is computed again
        write_json(kept, {"digest": digest})
    return digest


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
    found = _opened(entry, pairs)
    if found is not None:
        return found
    make_folder(home)
    with _lock(home / f"{entry.name}.lock") as alone:
        found = _opened(entry, pairs)
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
    found = _load(entry, pairs)
    if found is None:
        raise WorkError(f"{entry}: the cache was removed while it was built; run the command again")
    return found


def _opened(entry: Path, pairs: Sequence[Pair]) -> Cached | None:
    return None if (entry / _DAMAGED).exists() else _load(entry, pairs)


def _load(entry: Path, pairs: Sequence[Pair]) -> Cached | None:
    """The entry if it is there and whole; its pixels are looked at later."""
    try:
        index = json_of((entry / _INDEX).read_text(encoding="utf-8"))
        if index["version"] != _VERSION or (entry / "pixels.bin").stat().st_size != index["bytes"]:
            return None
        if index.pop("sum") != _sum(index):
            return None
        return Cached(
            names=tuple(index["names"]),
            groups=tuple(index["groups"]),
            digest=index["digest"],
            sizes=tuple((h, w) for h, w in index["sizes"]),
            _offsets=tuple(index["offsets"]),
            _hashes=tuple(index["hashes"]),
            _pixels=np.memmap(entry / "pixels.bin", dtype=np.uint8, mode="r"),
            _entry=entry,
            _files=tuple(pairs),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sum(index: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _build(part: Path, name: str, pairs: Sequence[Pair], progress: bool, workers: int | None) -> None:
    workers = workers or cores()
    with ThreadPoolExecutor(workers) as pool:
        sizes = list(pool.map(pair_size, pairs))
    offsets, total = [], 0
    for height, width in sizes:
        offsets.append(total)
        total += 2 * height * width * 3
    require_room(part.parent, total, "the decoded images", "DERAIN_CACHE=FOLDER, or data.cache=FOLDER")
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
            bar(f"decoding {name}", len(pairs), progress, always=False) as step,
        ):
            try:
                for _ in pool.map(decode, range(len(pairs))):
                    step.advance()
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
        "hashes": whole,
    }
    (part / _INDEX).write_text(json.dumps({**index, "sum": _sum(index)}), encoding="utf-8")


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on a file; yields False where the system has none (the rename is enough)."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    try:
        handle = path.open("ab")
    except OSError as error:
        raise write_failure(path, error) from None
    with handle:
        held = False
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
            held = True
        yield held
