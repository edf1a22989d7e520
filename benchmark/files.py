"""Writing files so that a kill, a full disk or a second process never leaves half of one under its name."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, WorkError

LEFTOVER_PREFIX = ".derain-"
LEFTOVER_SUFFIX = ".tmp"


def write_failure(path: Path, error: OSError) -> UserError | WorkError:
    """The one line for a write that failed: no permission is the user's (2), a full disk the work's (1)."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkError(f"{path}: the disk is full or the quota is used up; free some room and run it again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"{path}: no permission to write there; choose another folder")
    if error.errno == errno.ENAMETOOLONG:
        return UserError(f"{path}: the name is too long for this file system; give a shorter one")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return UserError(f"{path}: a file stands where a folder is needed, or the reverse")
    return WorkError(f"{path}: writing failed: {error.strerror or error}")


def make_folder(path: Path) -> None:
    """Create a folder and its parents.

    Raises:
        UserError, WorkError: as `write_failure`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(path, error) from None


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well, removed when not.

    The temporary name is short and hidden, so that it fits where the final name fits and no reader takes
    it for a picture. The folder is created.

    Raises:
        UserError, WorkError: as `write_failure`, for what fails inside the block too.
    """
    make_folder(path.parent)
    temporary = path.parent / f"{LEFTOVER_PREFIX}{os.getpid()}-{secrets.token_hex(4)}{LEFTOVER_SUFFIX}"
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise write_failure(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def clean_leftovers(folder: Path, older_than: float = 3600.0) -> int:
    """Remove temporary files that a killed process left in `folder`; returns how many.

    Only what nobody has touched for `older_than` seconds, so that a live writer (on another host, perhaps)
    is safe.
    """
    removed = 0
    limit = time.time() - older_than
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{LEFTOVER_PREFIX}*{LEFTOVER_SUFFIX}"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < limit:
                    path.unlink()
                    removed += 1
    return removed


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file in one piece."""
    with atomic(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data as JSON in one piece; infinite numbers become the strings "inf" and "-inf".

    Raises:
        ValueError: there is a NaN in it.
    """
    write_text(path, json.dumps(_finite(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(k): _finite(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(v) for v in data]
    if isinstance(data, float) and data in (float("inf"), float("-inf")):
        return "inf" if data > 0 else "-inf"
    return data


def require_writable(folder: str | Path) -> None:
    """Refuse early to work towards a folder that cannot be written to.

    Raises:
        UserError: it cannot be made or written to.
    """
    probe = Path(folder) / ".derain-probe"
    with atomic(probe) as temporary:
        temporary.write_bytes(b"x")
    probe.unlink(missing_ok=True)
