"""What a process knows of its memory, and that it keeps it."""

from __future__ import annotations

import mmap
import platform
import subprocess
import sys

import pytest

from benchmark.resident import forget_peak, resident

SIZE = 64 * 2**20
PAGES = SIZE // 4096

_CHURN = """
import resource, sys
import torch
from benchmark.resident import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(10):
    torch.ones(2**24).add_(1)  # until the pieces fit
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24).add_(1)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the whole process")
def test_the_peak_is_that_since_somebody_asked() -> None:
    with mmap.mmap(-1, SIZE) as block:
        block.write(b"x" * SIZE)
        held, peak = resident()
    forget_peak()
    after, peak_after = resident()
    assert peak >= held > after + SIZE // 2
    assert after <= peak_after < peak


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways")
def test_freed_memory_is_kept_where_asked() -> None:
    def faults(mode: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _CHURN, mode], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert faults("keep") < PAGES / 10
    assert faults("as it is") > 5 * PAGES
