"""How the process of a run ended, where the run itself has left no word."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from benchmark import cgroup
from benchmark.run.states import FAILED, INTERRUPTED, OUT_OF_MEMORY

CLAIMED = 75  # exit status: somebody else does the run (EX_TEMPFAIL)


@dataclass(frozen=True)
class End:
    """How the process of a run ended; counts where the run itself has left neither record nor failure."""

    state: str  # interrupted | out of memory | failed
    reason: str
    claimed: bool = False  # it found the run claimed by another, and did nothing


def end_of(code: int | None, kills_before: int | None) -> End:
    """What a process's exit code says about a run that left no word.

    Args:
        code: as of `subprocess`: minus the signal that ended it.
        kills_before: `memory_kills()` when it was started.
    """
    if code == CLAIMED:
        return End(INTERRUPTED, "another process does it", claimed=True)
    if code in (128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGHUP):
        return End(INTERRUPTED, "its process was asked to stop before it had begun")
    if code is None or code >= 0:
        return End(FAILED, f"its process ended with status {code} and left no record")
    name = signal.Signals(-code).name
    if -code == signal.SIGKILL and kills_before is not None and (memory_kills() or 0) > kills_before:
        return End(OUT_OF_MEMORY, "its process was killed by the system, which had run out of memory")
    lost = -code in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP)
    return End(INTERRUPTED if lost else FAILED, f"its process was killed by {name}")


def memory_kills() -> int | None:
    """How many processes the system has killed for want of memory, here or in this container; None if unknown."""
    if (found := cgroup.kills()) is not None:
        return found
    try:
        for line in Path("/proc/vmstat").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None
