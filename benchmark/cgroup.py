"""Linux control groups of this process: where the system keeps the limits of a container, a service or a job."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

_OWN = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")
_FILES = {  # limit, used, statistics, key of what is given back when asked for
    2: ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"),
}


def _groups(controller: str) -> Iterator[tuple[int, Path]]:
    """The groups that bound this process's memory or cpu: (version, folder), its own first, then those above."""
    lines = []
    with contextlib.suppress(OSError):
        lines = _OWN.read_text(encoding="utf-8").splitlines()
    own = {2: "/", 1: "/"}  # in a container its own group may be called otherwise than it is mounted
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            own[2] = path
        elif controller in controllers.split(","):
            own[1] = path
    for version, mounts in ((2, ("", "unified")), (1, (controller,))):
        for mount in mounts:
            base = _MOUNTED / mount
            parts = [part for part in Path(own[version]).parts if part not in ("/", "..")]
            for depth in range(len(parts), -1, -1):
                yield version, base.joinpath(*parts[:depth])


def cores() -> int:
    """Processor cores that this process may use: what it is bound to, or the share of time that its groups have."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [float(bound)]
    for version, folder in _groups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max" where there is no limit
            if version == 2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
            if int(quota) > 0:  # version 1 says -1
                shares.append(int(quota) / int(period))
    return max(1, math.ceil(min(shares)))


def free_memory() -> int | None:
    """Bytes that the groups leave to this process; None where none of them has a limit."""
    free = []
    for version, folder in _groups("memory"):
        limit, used, statistics, key = _FILES[version]
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            with contextlib.suppress(OSError, ValueError, KeyError):
                told = dict(line.split() for line in (folder / statistics).read_text().splitlines())
                left += int(told[key])
            free.append(left)
    return max(0, min(free)) if free else None


def kills() -> int | None:
    """How many processes of the innermost group were killed for want of memory; None where that is not counted."""
    for version, folder in _groups("memory"):
        file = "memory.events" if version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (folder / file).read_text().splitlines():
                if line.split()[0] == "oom_kill":
                    return int(line.split()[1])
    return None
