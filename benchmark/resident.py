"""Memory of this process: what it holds, the most it has held since somebody asked, and that it keeps it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path


def resident() -> tuple[int, int]:
    """Bytes that this process holds now, and the most it has held since `forget_peak`."""
    try:
        facts = dict(
            line.split(":", 1)
            for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
            if ":" in line
        )
        return 1024 * int(facts["VmRSS"].split()[0]), 1024 * int(facts["VmHWM"].split()[0])
    except (OSError, KeyError, ValueError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return most, most


def forget_peak() -> None:
    """Begin anew with the peak; where the system cannot, it stays that of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # of mallopt(3)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its next tensors. For glibc; elsewhere nothing happens.

    By itself glibc hands what a large tensor held back to the system at once, and the system clears every page of it
    when the next tensor asks: a third of the time of a training step on a CPU. Kept, the peak is about a tenth higher.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_MMAP_MAX, 0)
        allocator.mallopt(_TRIM_THRESHOLD, -1)


def hand_back_freed_memory() -> None:
    """Undo `keep_freed_memory`: what a large tensor held goes back to the system at once, in every thread."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_ARENA_MAX, 1)
        allocator.mallopt(_MMAP_MAX, 65536)
        allocator.mallopt(_MMAP_THRESHOLD, 1 << 20)
        allocator.malloc_trim(0)
