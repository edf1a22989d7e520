"""Claims: who is doing a run, so that nobody else does it at the same time, on this machine or on another.

A claim is a file `claim-N.json` in the run's folder; the highest N counts. It names its owner (host, process, when that
process began) and is written anew every `BEAT` seconds, with how far the run has come: that is the heartbeat. Taking a
claim is making the file of the next number by a hard link, which the file system does once for all who try, on shared
storage too. A claim is open when its owner gave it up, when its owner is no process of this machine any more, or when
nothing was heard of it for `PATIENCE` seconds by the storage's own clock. The highest number is never removed while a
run has no record: so whoever decided on an old claim can only fail to make the next one.

An owner that finds a higher number than its own, or its own gone (it was suspended for longer than the others'
patience, and they have gone on with the run or ended it; or its folder was moved), has lost the run, and ends at once
without writing anything more. A claim in a folder that was copied while its owner worked is nobody's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmark.errors import DiskFull, WorkError
from benchmark.files import (
    clean_leftovers,
    temporary_name,
    this_machine,
    write_json,
)
from benchmark.reading import json_of

BEAT = 1.0  # seconds
PATIENCE = 120.0  # seconds; longer than the 60 that NFS clients may keep an old file time
_PREFIX = "claim-"


class Claimed(WorkError):  # noqa: N818
    """Somebody else is doing the run."""


@dataclass(frozen=True)
class Owner:
    """A process, told from all others of all machines."""

    host: str
    machine: str  # boot and process namespace; two containers of one host differ
    pid: int
    began: str  # as the system counts: a later process with the same number has another

    @staticmethod
    def here() -> Owner:
        """This process."""
        return Owner(platform.node() or "unknown", this_machine(), os.getpid(), _began(os.getpid()))

    def alive(self) -> bool | None:
        """Whether the process lives; None where that cannot be seen from this machine."""
        if self.machine != this_machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _began(self.pid) == self.began


def _began(pid: int) -> str:
    """When a process began, in clock ticks since boot; empty where the system does not tell, or it is a zombie."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return ""
    return "zombie" if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Holder:
    """What can be seen of a claim from outside: its owner and how far the run is."""

    owner: Owner | None  # None: the claim could not be read
    since: float = 0.0  # seconds, of the owner's clock
    step: int = 0
    steps: int = 0
    place: str = ""  # the folder as its owner sees it
    failure: str | None = None  # the digest of the failure that was there at its beginning; None: not told

    def __str__(self) -> str:
        if self.owner is None:
            return "another process"
        at = f", at step {self.step} of {self.steps}" if self.steps else ""
        return (
            f"process {self.owner.pid} on {self.owner.host} since {time.strftime('%H:%M', time.localtime(self.since))}"
            f"{at}"
        )


def holder(folder: Path, now: float | None = None) -> Holder | None:
    """Who holds the run of a folder; None if it is free.

    Args:
        folder: of the run.
        now: by the storage's clock (`storage_time`); this machine's if not given.
    """
    number = _highest(folder)
    return None if number is None else _look(_path(folder, number), time.time() if now is None else now)


@dataclass(frozen=True)
class Left:
    """What a process that died over a run left.

    Attributes:
        heard: when it was last heard of, in seconds of the storage's clock.
        failure: the digest of the failure that was there when it began, empty where there was none; None: not told.
    """

    heard: float
    failure: str | None


def left_open(folder: Path, now: float | None = None) -> Left | None:
    """What a process that died over the run left; None unless nobody gave its claim up and nobody holds it."""
    number = _highest(folder)
    if number is None or _look(_path(folder, number), time.time() if now is None else now) is not None:
        return None
    path = _path(folder, number)
    failure = None
    try:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = claimant(path.read_text(encoding="utf-8"))
            if found is None:
                return None
            failure = found.failure
        return Left(path.stat().st_mtime, failure)
    except OSError:
        return None


def _path(folder: Path, number: int) -> Path:
    return folder / f"{_PREFIX}{number}.json"


def _numbers(folder: Path) -> list[int]:
    try:
        names = [p.name for p in folder.iterdir()]
    except FileNotFoundError:
        return []
    return [number for name in names if (number := claim_number(name)) is not None]


def claim_number(name: str) -> int | None:
    """N of a file name claim-N.json; None of any other."""
    middle = name[len(_PREFIX) : -5]
    return int(middle) if name.startswith(_PREFIX) and name.endswith(".json") and middle.isdigit() else None


def claimant(text: str | bytes) -> Holder | None:
    """The holder that a claim's text names; None if it gave the claim up.

    Raises:
        ValueError, KeyError, TypeError: that is no claim.
    """
    told: dict[str, Any] = json_of(text)
    if "given_up" in told:
        return None
    owner = Owner(**told["owner"])
    place, failure = told.get("place", ""), told.get("failure")
    return Holder(owner, told["since"], told["step"], told["steps"], place, failure)


def _highest(folder: Path) -> int | None:
    return max(_numbers(folder), default=None)


def _look(path: Path, now: float) -> Holder | None:
    """The holder that a claim's file names, None if it is open."""
    try:
        with path.open(encoding="utf-8") as file:  # opening asks a file server for what is there now
            beaten = os.fstat(file.fileno()).st_mtime
            found = claimant(file.read())
        if found is None:
            return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        with contextlib.suppress(OSError):
            return Holder(None) if _lately(path.stat().st_mtime, now) else None
        return None
    alive = found.owner.alive() if found.owner else None
    if alive is None:
        alive = _lately(beaten, now)
    return found if alive and not _is_of_another_folder(found, path.parent) else None


def _lately(beaten: float, now: float) -> bool:
    """Whether a claim was renewed lately; one that is dated ahead was not, whatever set the clock or copied it."""
    return abs(now - beaten) < PATIENCE


def _is_of_another_folder(found: Holder, folder: Path) -> bool:
    """Whether a claim came here with a copy: its owner, a process of this machine, works in a folder that is there."""
    if found.owner is None or found.owner.machine != this_machine() or not found.place:
        return False
    try:
        return not os.path.samefile(found.place, folder)  # noqa: PTH121
    except OSError:
        return False


@dataclass
class Claim:
    """A run that this process has claimed; a thread keeps the claim alive while the `with` block lasts.

    Attributes:
        folder: of the run.
        step: of training done, of `steps`: shown to others.
        on_loss: what happens when another has taken the run over; by default the process ends at once.
    """

    folder: Path
    step: int = 0
    steps: int = 0
    on_loss: Callable[[], None] = field(default=lambda: _end())
    number: int = 0
    owner: Owner = field(default_factory=Owner.here)
    since: float = field(default_factory=time.time)
    watch: Owner | None = None  # asks this process to stop when that one is gone
    failure: str = ""  # the digest of an earlier process's, that is not of this one
    on_orphaned: Callable[[], None] = field(default=lambda: None)
    _beaten: float = field(default_factory=lambda: _clock())
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def take(self) -> Claim:
        """Take the claim.

        Raises:
            Claimed: somebody holds it.
            UserError, WorkError: the folder cannot be written to.
        """
        clean_leftovers(self.folder)
        mine = temporary_name(self.folder)
        write_json(mine, self._told())
        try:
            top = _highest(self.folder)
            held = None if top is None else _look(_path(self.folder, top), mine.stat().st_mtime)
            number = (top or 0) + 1
            if held is None and _link(mine, _path(self.folder, number)):
                if max(_numbers(self.folder)) == number:
                    self.number = number
                    for lower in _numbers(self.folder):
                        if lower < number:
                            _path(self.folder, lower).unlink(missing_ok=True)
                    return self
                _path(self.folder, number).unlink(missing_ok=True)  # it was long taken over
        finally:
            mine.unlink(missing_ok=True)
        raise Claimed(
            f"{self.folder.name} is being done by {held or holder(self.folder) or 'another process'}"
        )

    def beat(self) -> bool:
        """Give a sign of life; False if the run is lost: taken over or done by another, or its folder is gone."""
        if not self._mine():
            return False
        write_json(_path(self.folder, self.number), self._told())
        self._beaten = _clock()
        return True

    def _mine(self) -> bool:
        there = _numbers(self.folder)
        if max(there, default=0) > self.number:
            return False
        return self.number in there or _path(self.folder, self.number).exists()

    def hold(self, sure: bool = True) -> None:
        """Have `on_loss` happen if the run is lost.

        Args:
            sure: look in any case; else only after a silence in which others may have lost their patience.
        """
        if (sure or _clock() - self._beaten > PATIENCE / 4) and not self._mine():
            self.on_loss()

    def give_up(self, done: bool) -> None:
        """End the claim: its file goes if the run is done, else it says that it was given up."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        path = _path(self.folder, self.number)
        with contextlib.suppress(Exception):  # the run's own outcome matters more
            if done:
                path.unlink(missing_ok=True)
            elif max(_numbers(self.folder), default=0) == self.number:
                try:
                    write_json(path, {"given_up": True})
                except DiskFull:
                    _write_over(path, '{"given_up": true}')

    def _told(self) -> dict[str, Any]:
        place = str(self.folder.absolute())
        return {
            **{"owner": asdict(self.owner), "since": self.since, "step": self.step, "steps": self.steps},
            **{"place": place, "failure": self.failure},
        }

    def __enter__(self) -> Claim:
        self.take()
        self._thread = threading.Thread(target=self._live, name="claim", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up(done=kind is None)

    def _live(self) -> None:
        orphaned = False
        while not self._stop.wait(BEAT):
            if self.watch is not None and not orphaned and self.watch.alive() is False:
                orphaned = True
                self.on_orphaned()
            try:
                held = self.beat()
            except Exception as error:  # storage may come back before the others' patience ends
                print(
                    f"derain: the claim on {self.folder.name} could not be renewed: {error}", file=sys.stderr
                )
                continue
            if not held:
                self.on_loss()
                return


def _clock() -> float:
    """Seconds that go on while this process, or the machine, sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _end() -> None:
    print(
        "derain: another process has taken this run over, or its folder was moved; ended without saving",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _write_over(path: Path, text: str) -> None:
    """Write a text shorter than what is there in its place, which needs no room."""
    with path.open("r+", encoding="utf-8") as file:
        file.write(text)
        file.truncate()


def _link(source: Path, target: Path) -> bool:
    """Give a file a second name unless that exists; False if it does."""
    try:
        os.link(source, target)
        return True
    except FileExistsError:
        return source.stat().st_nlink == 2  # a file server did it, and answered again when asked again
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
    try:  # file systems without hard links
        with target.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
        return True
    except FileExistsError:
        return False
