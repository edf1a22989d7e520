"""The ways a command ends badly, and the words for a misspelt name."""

from __future__ import annotations

import difflib
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from benchmark.text.plain import HANDLER


def printable(text: object) -> str:
    """Text (a file's name, another program's words) for a line on a terminal: what is not printable is written out.

    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def first_line(error: BaseException) -> str:
    """The first line of what an error says, its kind where it says nothing: for a line that names it.

    >>> first_line(ValueError("a\\nb")), first_line(TimeoutError())
    ('a', 'TimeoutError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def speak_any_name() -> None:
    """Let standard output and error spell (`+/-`, `\\xe9`) what the terminal's encoding has no character for."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in (
            "strict",
            "surrogateescape",  # of the C locale
            "backslashreplace",
        ):
            stream.reconfigure(errors=HANDLER)


class _OneLineError(Exception):
    """An error that is told in one line; what cannot be printed in one is written out (`\\n`)."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UserError(_OneLineError):
    """The command line, the configuration or the user's files are wrong: one line, exit status 2.

    The message says what is wrong, where, and what would be right.
    """

    status = 2


class WorkError(_OneLineError):
    """The request was right but the work failed (diverged, disk full, out of memory): exit status 1."""

    status = 1


class DiskFull(WorkError):  # noqa: N818
    """There is no room, or the quota is used up: the same work goes on where some was made.

    Args:
        what: is full or too small, where.
        then: what to do once there is room.
    """

    def __init__(self, what: str, then: str = "run it again") -> None:
        super().__init__(f"{what}; free some room and {then}")
        self._what = what

    def then(self, words: str) -> DiskFull:
        """The same, with other words for what to do once there is room."""
        return DiskFull(self._what, words)


class Diverged(WorkError):  # noqa: N818
    """A loss, a weight or a restored picture is not a finite number any more."""


class OutOfMemory(WorkError):  # noqa: N818
    """The memory of the machine or of its accelerator did not suffice."""


class Foreign(WorkError):  # noqa: N818
    """Code of a package from outside failed; where it raised something, that is the cause."""


_NO_MEMORY = ("allocate memory", "can't start new thread", "bad_alloc")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, CUDA's, the system's, or a plain RuntimeError.

    So the allocator of the CPU says it, and Python where there is no memory for a thread.
    """
    if isinstance(error, (MemoryError, OutOfMemory)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    names = {cls.__name__ for cls in type(error).__mro__}
    return "OutOfMemoryError" in names or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def fault_in_words(error: BaseException, package: str = "") -> str:
    """What an exception in a user's own code says, and where it was raised, for one line.

    Args:
        error: what was raised.
        package: whose code is the user's wherever it is installed.

    >>> fault_in_words(KeyError("a"))
    "KeyError: 'a'"
    """
    said = (str(error).strip().splitlines() or [""])[0][:200]
    places = [
        f"{Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if (package and str(frame.f_globals.get("__name__", "")).partition(".")[0] == package)
        or not any(part in frame.f_code.co_filename for part in _NOT_THEIRS)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        said, places = error.msg, [f"{Path(error.filename).name}, line {error.lineno}"]
    return f"{type(error).__name__}{f': {said}' if said else ''}{f' ({places[-1]})' if places else ''}"


_NOT_THEIRS = (
    str(Path(__file__).parent),
    "site-packages",
    f"{os.sep}lib{os.sep}python",
    "<frozen ",
    "<string>",
)


class Interrupted(WorkError):  # noqa: N818
    """Work was asked to stop by a signal, and can be gone on with; exit status 128 and the signal's number."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.status = 128 + signum


class ProcessLost(WorkError):  # noqa: N818
    """Another process of a parallel training ended before its time; what was saved can be gone on with.

    Args:
        which: process, in words.
        ended: its exit status, minus the signal that ended it; None if that cannot be seen.
    """

    def __init__(self, which: str, ended: int | None) -> None:
        how = "is gone"
        if ended is not None and ended < 0:
            how = f"was killed by {signal.Signals(-ended).name}"
            self.status = 128 - ended
        then = "; run the same command to go on from the last checkpoint"
        if ended is not None and ended > 0:
            how, then = f"ended with status {ended}", ""
        super().__init__(f"{which} of this training {how}{then}")
        self.ended = ended


class Stop(BaseException):
    """A signal came while there was nothing to save. No `Exception`, so that nobody takes it for a broken file."""

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted; run the same command to go on")
        self.status = 128 + signum


def stop_signals() -> list[int]:
    """The signals that ask this process to stop: not those that it was started to ignore, as `nohup` has SIGHUP."""
    asked = (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM))
    return [s for s in dict.fromkeys(asked) if signal.getsignal(s) is not signal.SIG_IGN]


_LISTED = 16


def unknown(kind: str, given: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest one that does.

    >>> str(unknown("model", "prent", ["prenet", "rescan"]))
    "unknown model 'prent': did you mean 'prenet'? (prenet, rescan)"
    """
    names = sorted(allowed)
    # `recipe.lr` is nearer to `recipe.optimizer.lr`, of the same last word, than to `recipe.loss`
    last = given.rpartition(".")[2]
    same_last = [n for n in names if "." in given and n.rpartition(".")[2] == last]
    by_lower = {n.lower(): n for n in names}
    near = same_last or [
        by_lower[n] for n in difflib.get_close_matches(given.lower(), by_lower, n=3, cutoff=0.5)
    ]
    if len(names) <= _LISTED:
        hint = f"did you mean '{near[0]}'? " if near else "one of "
        return UserError(f"unknown {kind} '{given}': {hint}({', '.join(names)})")
    some = " or ".join(f"'{n}'" for n in near) if near else ""
    return UserError(
        f"unknown {kind} '{given}': " + (f"did you mean {some}?" if some else f"{len(names)} are known")
    )
