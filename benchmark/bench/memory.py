"""Peak memory of one side, in a process of its own: what came before it cannot hide or add to it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

from benchmark.bench.case import NotMeasured, Setting, load
from benchmark.resident import forget_peak, keep_freed_memory, resident

_CALLS = 2  # the second step of a training has the optimiser's state already


def peak_memory(side: str, setting: Setting) -> int:
    """The most bytes that building a side and calling it twice holds at once.

    On a GPU what PyTorch has allocated there; on a CPU the process's resident memory above what it held after its
    imports.

    Raises:
        NotMeasured: the process failed.
    """
    words = [side, setting.device, str(setting.threads), str(setting.scratch)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.bench.memory", *words], capture_output=True, text=True, check=False
    )
    try:
        return int(json.loads(done.stdout.splitlines()[-1])["peak"])
    except (IndexError, ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise NotMeasured(f"its process failed: {last[:200]}") from None


def release() -> None:
    """Hand back what nothing holds any more: allocators keep gigabytes that the next process may need."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc's alone
        ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _main(side: str, device: str, threads: str, scratch: str) -> None:
    import torch

    keep_freed_memory()
    torch.set_num_threads(int(threads))
    make = load(side)
    setting = Setting(device, int(threads), Path(scratch))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    forget_peak()
    before, _ = resident()
    call = make(setting)
    for _ in range(_CALLS):
        call()
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident()[1] - before
    print(json.dumps({"peak": peak}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
