"""Runs' folders in object storage, for workers that share no file system.

A worker brings a run's folder before it starts and puts what changes there while it runs, the record last; the driver
brings it when the run has ended. What a worker had put there when it was lost, the next one goes on from. Claims cannot
be made once for all in object storage: they go there to be seen, and are not brought back.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, first_line
from benchmark.files import LEFTOVER_PREFIX, make_folder, temporary_name
from benchmark.run.claims import Holder, claim_number, claimant
from benchmark.run.records import RECORD

_Seen = tuple[int, int] | None


def require_storage(url: str) -> None:
    """Refuse early to work towards storage that is not there.

    Raises:
        UserError: no such kind, its package is missing, it does not answer, or it has no such bucket.
    """
    try:
        system, path = _opened(url)
        if (
            "s3" in system.protocol
        ):  # s3fs takes a server that is gone for an empty one, and makes buckets unasked
            _require_bucket(system, path.partition("/")[0])
        else:
            system.exists(path)
    except Exception as error:  # each kind of storage has its own
        raise UserError(f"executor.storage={url}: {first_line(error)}") from None


def _require_bucket(system: Any, name: str) -> None:
    try:
        system.call_s3("head_bucket", Bucket=name)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no bucket '{name}'") from None
    except PermissionError:
        raise PermissionError(f"the bucket '{name}' is not yours to see") from None


def _opened(url: str) -> tuple[Any, str]:
    """The file system (fsspec's) and the path of a URL such as s3://bucket/runs."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return system, path.rstrip("/")


class Mirror:
    """A run's folder and its copy in storage, below the URL as it lies below the folder of the runs.

    Args:
        url: of the storage.
        folder: the run's, RUNS/RECIPE/NAME.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.system, path = _opened(url)
        self.root = f"{path}/{folder.parent.name}/{folder.name}"
        self._put: dict[str, _Seen] = {}
        self._made: set[str] = set()

    def fetch(self) -> None:
        """Bring what is there."""
        for name in sorted(self._there(), key=_checkpoints_and_record_last):
            self._put[name] = None
            if claim_number(name) is None:
                self._bring(name)
                self._put[name] = _seen(self.folder / name)

    def _bring(self, name: str) -> None:
        """A file, in one piece; one that is here already stays as old as it is."""
        path = self.folder / name
        make_folder(path.parent)
        brought = temporary_name(path.parent)
        try:
            self.system.get_file(f"{self.root}/{name}", str(brought))
            if not (path.is_file() and filecmp.cmp(brought, path, shallow=False)):
                brought.replace(path)
        finally:
            brought.unlink(missing_ok=True)

    def send(self) -> None:
        """Put what has changed since the last time, and remove what is gone.

        A checkpoint comes after the logs, as it was before they were read: wherever this is cut off, what the next
        worker goes on from has all its lines.
        """
        here = {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*") if p.is_file()}
        names = [n for n, p in here.items() if not p.name.startswith(LEFTOVER_PREFIX)]
        changed = [n for n in names if _seen(here[n]) not in (None, self._put.get(n))]
        with contextlib.ExitStack() as held:
            for name in filter(_is_checkpoint, changed):
                with contextlib.suppress(FileNotFoundError):
                    here[name] = held.enter_context(_as_it_is(here[name]))
            for name in sorted(changed, key=_checkpoints_and_record_last):
                now = _seen(here[name])
                with contextlib.suppress(FileNotFoundError):  # gone since
                    self._make_parent(name)
                    self.system.put_file(str(here[name]), f"{self.root}/{name}")
                    self._put[name] = now
        for name in self._put.keys() - set(names):
            with contextlib.suppress(FileNotFoundError):
                self.system.rm_file(f"{self.root}/{name}")
            del self._put[name]

    def holder(self) -> Holder | None:
        """Who does the run, by the claim that was last put there."""
        claims = {number: name for name in self._there() if (number := claim_number(name)) is not None}
        try:
            return claimant(self.system.cat_file(f"{self.root}/{claims[max(claims)]}"))
        except (ValueError, KeyError, TypeError, OSError):  # none, or just gone
            return None

    def _there(self) -> list[str]:
        self.system.invalidate_cache()
        try:
            found = self.system.find(self.root)
        except FileNotFoundError:
            return []
        start = len(self.system._strip_protocol(self.root).rstrip("/")) + 1
        names = [str(path)[start:] for path in found]
        return [name for name in names if ".." not in name.split("/")]  # keys may have it, and lead elsewhere

    def _make_parent(self, name: str) -> None:
        """Folders, for kinds of storage that have them."""
        parent = f"{self.root}/{name}".rpartition("/")[0]
        if parent not in self._made:
            self.system.makedirs(parent, exist_ok=True)
            self._made.add(parent)


def _checkpoints_and_record_last(name: str) -> tuple[bool, bool, str]:
    """Neither shall be anywhere before what it speaks of."""
    return name == RECORD, _is_checkpoint(name), name


def _is_checkpoint(name: str) -> bool:
    return name.startswith("checkpoints/")


@contextlib.contextmanager
def _as_it_is(path: Path) -> Iterator[Path]:
    """A file that is only ever replaced, as it is now, under another name."""
    held = temporary_name(path.parent)
    try:
        try:
            os.link(path, held)
        except FileNotFoundError:
            raise
        except OSError:  # not on this file system
            shutil.copy2(path, held)
        yield held
    finally:
        held.unlink(missing_ok=True)


def _seen(path: Path) -> _Seen:
    """What tells one version of a file from the next; None if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
