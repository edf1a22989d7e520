"""Threads that a command waits for before it ends."""

from __future__ import annotations

import threading
import time


def ended(thread: threading.Thread) -> None:
    """Wait for a thread's end, also for one never started, or whose start Ctrl-C came into.

    The last runs, but cannot be joined for some microseconds yet.
    """
    until = time.monotonic() + 1
    while not thread.is_alive() and thread in threading.enumerate() and time.monotonic() < until:
        time.sleep(0.001)
    if thread.is_alive():
        thread.join()
