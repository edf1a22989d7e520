"""The state of a run, read from its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmark.errors import UserError, unknown
from benchmark.files import file_digest
from benchmark.run.claims import Holder, Left, claim_number, holder, left_open
from benchmark.run.records import FAILURE, RECORD, read_record

WAITING, RUNNING, DONE = "waiting", "running", "done"
FAILED, OUT_OF_MEMORY, DIVERGED, INTERRUPTED = "failed", "out of memory", "diverged", "interrupted"
BROKEN = (
    FAILED,
    OUT_OF_MEMORY,
    DIVERGED,
)  # ended without a record, and would so again if nothing else changed


class HasFolder(Protocol):
    """What has the folder of a run."""

    @property
    def folder(self) -> Path:
        """Where it keeps its checkpoints, logs and record."""


@dataclass(frozen=True)
class State:
    """What became of a run so far.

    Attributes:
        name: waiting, running, done, failed, out of memory, diverged or interrupted.
        reason: in one line, of those that ended without a record; who does it, of one that is running.
        traceback: its last lines, of those that failed by an error that is no user's mistake.
        holder: who does it, of one that is running.
    """

    name: str
    reason: str = ""
    traceback: tuple[str, ...] = ()
    holder: Holder | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" if self.reason else self.name


def state_of(run: HasFolder, now: float | None = None) -> State:
    """The state of a run.

    Args:
        run: a `RunSpec`, or what a plan has of one.
        now: by the clock of the storage, to judge the claims of other machines; this machine's clock if not given.
    """
    folder = os.fspath(run.folder)
    if os.path.exists(f"{folder}/{RECORD}"):  # noqa: PTH110 (one call a run: plans have ten thousand)
        return State(DONE)
    try:
        there = set(os.listdir(folder))  # noqa: PTH208
    except FileNotFoundError:
        return State(WAITING)
    claims = any(claim_number(name) is not None for name in there)
    held = holder(run.folder, now) if claims else None
    if held is not None:
        return State(RUNNING, f"by {held}", holder=held)
    left = left_open(run.folder, now) if claims else None
    if left is not None and not (FAILURE in there and _tells_of(left, run.folder)):
        return State(INTERRUPTED, "its process is gone")
    if FAILURE in there:
        failure = read_record(run.folder, FAILURE) or {}
        reason = failure.get("reason", "")
        return State(failure.get("state", FAILED), reason, tuple(failure.get("traceback", ())))
    return State(INTERRUPTED, "before it ended") if _begun(there) else State(WAITING)


def _tells_of(left: Left, folder: Path) -> bool:
    """Whether the failure is that of the process that left a claim; by no clock, where the claim tells."""
    if left.failure is None:
        return (folder / FAILURE).stat().st_mtime >= left.heard
    return failure_digest(folder) != left.failure


def failure_digest(folder: Path) -> str:
    """The digest of a run's failure; empty while there is none."""
    path = folder / FAILURE
    return file_digest(path) if path.exists() else ""


def _begun(there: Iterable[str]) -> bool:
    return "checkpoints" in there


def mark_of(folder: Path) -> tuple[int, int] | None:
    """What tells one failure of a run from the next; None while there is none."""
    try:
        found = (folder / FAILURE).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def retried(text: str | None) -> tuple[str, ...]:
    """The states that `--retry` names: failed, diverged, out-of-memory, commas between, or all.

    Raises:
        UserError: there is no such state, or it is not one that would need it.
    """
    if not text:
        return ()
    if text == "all":
        return BROKEN
    words = [word.strip().replace("-", " ") for word in text.split(",") if word.strip()]
    for word in words:
        if word == INTERRUPTED:
            raise UserError(f"--retry {text}: what was interrupted goes on without being asked")
        if word not in BROKEN:
            raise unknown("state to retry", word, ["all", *(b.replace(" ", "-") for b in BROKEN)])
    return tuple(words)
