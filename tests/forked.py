"""Processes of `derain` for tests, forked from one that has imported everything already.

`python tests/forked.py SOCKET` serves them; `Forked` in `tests/conftest.py` asks. What is imported takes five seconds
of a core in every process that is started by itself, and some sixty are started. The fork runs `python -m
benchmark` (or a script, where the first word is a .py file, or another module behind `-m`) to its end as such a
process would, in its own environment, folder and session; the runs of a sweep are forked from it in the same way in
place of Python's fork server, which would import everything as well.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import json
import multiprocessing
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
from typing import Any

_MODULES = (
    "benchmark.run.execute",
    "benchmark.training.train",
    "benchmark.run.evaluate",
    "benchmark.models",
    "benchmark.data.audit",
    "benchmark.cli.training",
    "benchmark.cli.tables",
    "rich.progress",
)


def serve(link: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each request; returns in it what it is asked for, and None here at the end."""
    here, there = socket.socketpair()
    here.setblocking(False), there.setblocking(False)
    signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal, which is for the tests
    waiting: dict[int, int] = {}  # process: where its end is told
    selector = selectors.DefaultSelector()
    selector.register(link, selectors.EVENT_READ)
    selector.register(here, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is here:
                with contextlib.suppress(BlockingIOError):
                    here.recv(4096)
                _tell_ends(waiting)
                continue
            told, given, _, _ = socket.recv_fds(link, 1 << 20, 4)
            if not told:
                return None
            *streams, end = given
            pid = os.fork()
            if pid == 0:
                selector.close()
                for stream, number in zip(streams, (0, 1, 2), strict=True):
                    os.dup2(stream, number)
                signal.set_wakeup_fd(-1)
                for number in (*given, link.detach(), here.detach(), there.detach(), *waiting.values()):
                    os.close(number)
                return dict(json.loads(told))
            waiting[pid] = end
            for stream in streams:
                os.close(stream)
            link.sendall(array.array("q", [pid]).tobytes())


def _tell_ends(waiting: dict[int, int]) -> None:
    """Of all processes that have ended."""
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        end = waiting.pop(pid, None)
        if end is not None:
            os.write(end, array.array("q", [status]).tobytes())
            os.close(end)


class _Forks:
    """Python's context of a fork server, but forking this process."""

    Process = multiprocessing.get_context("fork").Process

    def set_forkserver_preload(self, modules: list[str]) -> None:
        """All is there."""


def become(asked: dict[str, Any]) -> None:
    """Be the process that is asked for, but for running it."""
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # those of the process that forks are of other files
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    if asked["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    first = [p for p in asked["environment"].get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:] = [asked["folder"], *first, *(p for p in sys.path[1:] if p not in first)]
    sys.argv = ["-m", *asked["words"]]
    original = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: (  # type: ignore[assignment]
        _Forks() if method == "forkserver" else original(method)
    )


def main() -> None:
    """Import, then fork."""
    import importlib

    for name in _MODULES:
        importlib.import_module(name)
    from benchmark.data.embedded import render_split

    for name in ("embedded-12", "embedded-light", "embedded-heavy", "embedded-mixed"):
        render_split(name, "test")
    render_split("embedded", "train")
    gc.collect()
    gc.freeze()
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is None:
        return
    become(asked)
    try:
        module = "benchmark"
        if sys.argv[1].endswith(".py"):
            del sys.argv[0]
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            if sys.argv[1] == "-m":
                del sys.argv[0]
                module = sys.argv.pop(1)
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        status: Any = 0
    except SystemExit as exit:
        status = exit.code
    except BaseException:
        traceback.print_exc()
        status = 1
    # as Python ends, but for taking apart what was imported, which takes a second
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if not isinstance(status, int):
        status = 0 if status is None else print(status, file=sys.stderr, flush=True) or 1
    os._exit(status & 0xFF)


if __name__ == "__main__":
    main()
