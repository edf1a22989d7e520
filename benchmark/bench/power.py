"""What a GPU draws while something runs, as its driver says; a CPU's is not known."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import threading
from types import TracebackType

_PERIOD = 0.25  # seconds


class Power:
    """Asks nvidia-smi every quarter of a second while the block runs; `watts` is then the mean, or None.

    Args:
        device: "cuda", or another, of which nothing is known.
    """

    def __init__(self, device: str) -> None:
        self.watts: float | None = None
        self._known = device == "cuda" and shutil.which("nvidia-smi") is not None
        self._stop = threading.Event()
        self._seen: list[float] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Power:
        if self._known:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._known:
            self._stop.set()
            self._thread.join()
            self.watts = statistics.fmean(self._seen) if self._seen else None

    def _watch(self) -> None:
        import torch

        device = getattr(
            torch.cuda.get_device_properties(0), "uuid", None
        )  # numbers may differ from the driver's
        chosen = f"--id=GPU-{device}" if device else "--id=0"
        words = ["nvidia-smi", chosen, "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
        while not self._stop.wait(_PERIOD):
            with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
                said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=5).stdout
                self._seen.append(float(said.strip().splitlines()[0]))
