"""Memory of this process: what it holds, and the most it has held since somebody asked."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def resident() -> tuple[int, int]:
    """Bytes that this process holds now, and the most it has held since `forget_peak`."""
    try:
        facts = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
        )
        return 1024 * int(facts["VmRSS"].split()[0]), 1024 * int(facts["VmHWM"].split()[0])
    except (OSError, KeyError, ValueError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return most, most


def forget_peak() -> None:
    """Begin anew with the peak; where the system cannot, it stays that of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
