"""Folders and files that machine code is loaded from: this user's own, that nobody else can write to.

A cache may lie where others can write, by its settings or by a home that is shared. What is executed is taken from a
folder of its own for each user (0700, checked at each start), and read once: what is checked is what is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import stat
import tempfile
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_SEAL = hashlib.sha256().digest_size


def cache() -> Path | None:
    """The cache folder: `DERAIN_CACHE`, else below `XDG_CACHE_HOME` or the home; None for who has no home."""
    named = os.environ.get("DERAIN_CACHE")
    try:
        if named:
            return Path(named).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "derain")
    except RuntimeError:
        return None


def _ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS


def own_folder(name: str) -> Path | None:
    """The folder `NAME-UID` in the cache, made if it is missing; None where there can be none of this user alone."""
    place = cache()
    if place is None:
        return None
    folder = place / f"{name}-{os.geteuid()}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return None
        if found.st_mode & (_OTHERS | stat.S_IRWXO):
            folder.chmod(0o700)
        return folder if os.access(folder, os.W_OK | os.X_OK) else None
    except OSError:
        return None


def all_ours(folder: Path) -> bool:
    """Whether everything in a folder, and the folder itself, is this user's and no one else's to write to.

    Into a folder that nobody else may enter nobody else can write, whatever the modes of what is in it.
    """
    try:
        found = folder.lstat()
        if not _ours(found):
            return False
        closed = not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        for place, folders, files in os.walk(folder):
            for name in (*folders, *files):
                found = Path(place, name).lstat()
                if not (_ours(found) or (closed and found.st_uid == os.geteuid())):
                    return False
    except OSError:
        return False
    return True


def seal(key: str, content: bytes) -> bytes:
    """`content` with a digest behind it, by which `unsealed` knows it; `key` says what it was made for."""
    return content + hashlib.sha256(key.encode() + content).digest()


def unsealed(key: str, path: Path) -> bytes | None:
    """What was sealed in a file; None if there is none, it is not whole, of another key, or could be another's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not _ours(found):
            return None
        content = file.read()[:-_SEAL]
        file.seek(0)
        return content if file.read() == seal(key, content) else None


def load(code: bytes, folder: Path | None) -> ctypes.CDLL:
    """A library from memory; through a file in `folder` (or the system's temporary one) where that cannot be.

    Nobody can cut or change what is in memory: a mapped file that is cut short ends the process (SIGBUS).

    Raises:
        OSError: it cannot be loaded.
    """
    with contextlib.suppress(AttributeError, OSError):
        descriptor = os.memfd_create("esdnet")
        with os.fdopen(descriptor, "wb", closefd=False) as memory:
            memory.write(code)
        # kept open: the loader takes a second library of the same path for the first
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".so") as file:
        file.write(code)
        file.flush()
        return ctypes.CDLL(file.name)


@functools.cache
def guard_triton() -> None:
    """Have Triton keep its kernels where nobody else can write, if it would not.

    Its folder (`TRITON_CACHE_DIR`, else `.triton/cache` in `TRITON_HOME` or the home) holds libraries that it loads
    without a look at their owner.
    """
    named = os.environ.get("TRITON_CACHE_DIR")
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")  # noqa: PTH111 (as Triton does, without a home too)
    folder = Path(named) if named else Path(home, ".triton", "cache")
    if folder.exists() and all_ours(folder):
        return
    own = own_folder("triton")
    if own is None or not all_ours(own):
        own = Path(tempfile.mkdtemp(prefix="esdnet-"))
    os.environ["TRITON_CACHE_DIR"] = str(own)
