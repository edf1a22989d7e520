"""What a worker of a cluster does for one run: start its process, pass on a request to stop, say how it ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

from benchmark.sweep.child import Order
from benchmark.sweep.claims import Owner
from benchmark.sweep.executors import end_of, memory_kills

_process: list[subprocess.Popen[bytes]] = []


def supervise(order: Order) -> dict[str, Any]:
    """Do a run in a process of its own; it saves and stops if this process is gone.

    Returns:
        How it ended: an `End` as plain data.
    """
    kills = memory_kills()
    watched = replace(order, watch=Owner.here())
    with tempfile.TemporaryDirectory(prefix="derain-") as folder:
        path = Path(folder) / "order.json"
        watched.write(path)
        process = subprocess.Popen([sys.executable, "-m", "benchmark.sweep.child", str(path)])
        _process[:] = [process]
        with contextlib.suppress(ValueError):  # not in the main thread: signals are someone else's
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, _pass_on)
        while (code := process.poll()) is None:
            time.sleep(0.1)  # not wait(): Ray's way to cancel reaches Python code only
    return asdict(end_of(code, kills))


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
