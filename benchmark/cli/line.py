"""`derain`: the command line. Parses, asks the part that does the work, prints; knows nothing itself."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from benchmark.cli.options import build_parser, path_of
from benchmark.errors import Stop, UserError, WorkError, out_of_memory, speak_any_name, unknown


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The options of a command line.

    Raises:
        UserError: it is none; the nearest command is given.
    """
    known: Any = parser._subparsers._group_actions[0].choices or {}  # type: ignore[union-attr]
    if words and not words[0].startswith("-") and words[0] not in known:
        raise unknown("command", words[0], known)
    options, rest = parser.parse_known_args(words)
    # argparse takes all positional words in one piece; settings and inputs may stand behind options too
    flagless = rest and not any(w.startswith("-") for w in rest)
    if flagless and hasattr(options, "settings") and all("=" in w for w in rest):
        options.settings += rest
    elif flagless and hasattr(options, "inputs"):
        options.inputs += map(path_of, rest)
    elif rest:
        known.get(options.command, parser).error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0 done, 1 the work failed, 2 the command line is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_what_is_closed()
    parser = build_parser()
    speak_any_name()
    options = argparse.Namespace()
    try:
        options = parse(parser, words)
        with _loudness(options):
            status = _run(options, parser)
        sys.stdout.flush()  # what cannot be written is seen here, not when Python ends
        return status
    except (UserError, WorkError, Stop) as error:
        if getattr(options, "verbose", False):
            traceback.print_exc()
        print(f"derain: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MemoryError, OSError, RuntimeError) as error:
        told = _resource(error)
        if told is None:
            raise
        if getattr(options, "verbose", False):
            traceback.print_exc()
        print(f"derain: {told}", file=sys.stderr)
        return told.status
    except KeyboardInterrupt:
        print("derain: interrupted", file=sys.stderr)
        return 130


@contextmanager
def _loudness(options: argparse.Namespace) -> Iterator[None]:
    """As loud as -q and -v ask for.

    Raises:
        UserError: both are asked for.
    """
    quiet, verbose = (getattr(options, name, False) for name in ("quiet", "verbose"))
    if quiet and verbose:
        raise UserError("--quiet and --verbose: give one of them")
    if quiet:
        with redirect_stderr(_Errors(sys.stderr)):
            yield
    elif verbose:
        from benchmark.cli.doctor import told

        with told():
            yield
    else:
        yield


class _Errors:
    """A standard error that keeps errors (`derain: …`) and drops progress and remarks."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._begun = stream, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """No bar is drawn."""
        return False

    def write(self, text: str) -> int:
        """Write the whole lines that are errors."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line.startswith("derain: "):
                self._stream.write(line + "\n")
        return len(text)


def _resource(error: BaseException) -> UserError | WorkError | None:
    """The line for memory or a disk that did not suffice; None for what is a fault of this suite."""
    from benchmark.files import explained

    if out_of_memory(error):
        return WorkError(
            f"out of memory ({' '.join(str(error).split())[:120]}): use smaller pictures, tiles or batches"
        )
    return explained(error, Path.cwd())


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if options.version:
        from benchmark import __version__

        print(__version__)
        return 0
    if options.command is None:
        parser.print_help()
        return 0
    from benchmark.text.output import output

    command = getattr(importlib.import_module(_HOME[options.command]), options.command)
    if options.command not in _LONG:
        with output(options):
            return int(command(options))
    out, err = _Patient(sys.stdout), _Patient(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err), output(options):
        return int(command(options))


_HOME = {  # each command is a function of its name, from the parsed options to the exit status
    "ablations": "benchmark.cli.planned",
    "bench": "benchmark.cli.made",
    "completion": "benchmark.cli.made",
    "config": "benchmark.cli.training",
    "cost": "benchmark.cli.costing",
    "dashboard": "benchmark.cli.made",
    "data": "benchmark.cli.listing",
    "demo": "benchmark.cli.demo",
    "doctor": "benchmark.cli.doctor",
    "evaluate": "benchmark.cli.evaluating",
    "export": "benchmark.cli.exporting",
    "figures": "benchmark.cli.made",
    "inspect": "benchmark.cli.inspecting",
    "models": "benchmark.cli.listing",
    "report": "benchmark.cli.made",
    "restore": "benchmark.cli.restoring",
    "run": "benchmark.cli.planned",
    "score": "benchmark.cli.scoring",
    "ship": "benchmark.cli.made",
    "study": "benchmark.cli.planned",
    "sweep": "benchmark.cli.made",
    "sync": "benchmark.cli.made",
    "table": "benchmark.cli.planned",
    "train": "benchmark.cli.training",
}

_LONG = (
    "train",
    "table",
    "ablations",
    "run",
    "study",
    "bench",
)  # what nobody needs to look at until it is done


class _Patient:
    """A stream whose reader may go away (a pipe, a closed terminal): what is written then is written nowhere."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or not."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        self._try(self._stream.flush)

    def _try(self, what: Callable[[], object]) -> None:
        try:
            what()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _open_what_is_closed() -> None:
    """Let nothing that is opened take the number of a closed standard stream, to which others write."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115, PTH123


if __name__ == "__main__":
    sys.exit(main())
