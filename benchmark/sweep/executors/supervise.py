"""What a worker of a cluster does for one run: start its process, pass on a request to stop, say how it ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

from benchmark.files import make_folder
from benchmark.run.claims import Owner
from benchmark.run.ends import end_of, memory_kills
from benchmark.spec import from_plain
from benchmark.sweep.child import Order
from benchmark.sweep.storage import Mirror

_SEND_EVERY = 5.0  # seconds

_process: list[subprocess.Popen[bytes]] = []


def supervise(order: Order, storage: str | None = None) -> dict[str, Any]:
    """Do a run in a process of its own; it saves and stops if this process is gone.

    Args:
        order: for that process.
        storage: where the run's folder is kept, if other machines cannot see it here (`benchmark.sweep.storage`).

    Returns:
        How it ended: an `End` as plain data.
    """
    kills = memory_kills()
    watched = replace(order, watch=Owner.here())
    with _kept(order, storage) as keep, tempfile.TemporaryDirectory(prefix="derain-") as folder:
        path = Path(folder) / "order.json"
        watched.write(path)
        process = subprocess.Popen([sys.executable, "-m", "benchmark.sweep.child", str(path)])
        _process[:] = [process]
        with contextlib.suppress(ValueError):  # not in the main thread: signals are someone else's
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, _pass_on)
        while (code := process.poll()) is None:
            time.sleep(0.1)  # not wait(): Ray's way to cancel reaches Python code only
            keep()
    return asdict(end_of(code, kills))


@contextlib.contextmanager
def _kept(order: Order, storage: str | None) -> Iterator[Callable[[], None]]:
    """The run's folder as storage has it, and what to call now and then for storage to have it as it is here."""
    if storage is None:
        yield lambda: None
        return
    place = Path(order.place)
    make_folder(place)
    mirror = Mirror(storage, place / from_plain(order.config).folder)
    mirror.fetch()
    sent = time.monotonic()

    def keep() -> None:
        nonlocal sent
        if time.monotonic() - sent > _SEND_EVERY:
            with contextlib.suppress(OSError):  # it may answer the next time
                mirror.send()
            sent = time.monotonic()

    try:
        yield keep
    finally:
        wait_for_stop()
        mirror.send()


def stop() -> None:
    """Ask the run to save and stop."""
    for process in _process:
        process.terminate()


def wait_for_stop() -> None:
    """Ask the run to save and stop, and wait until it has."""
    stop()
    for process in _process:
        process.wait()


def _pass_on(signum: int, frame: FrameType | None) -> None:
    stop()
