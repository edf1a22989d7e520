"""This machine: runs in processes of their own, cores and GPUs divided among them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from benchmark.cgroup import cores
from benchmark.errors import UserError
from benchmark.files import room_for_sockets
from benchmark.run.claims import Holder, Owner, holder
from benchmark.run.ends import End, end_of, memory_kills
from benchmark.sweep import child
from benchmark.sweep.child import Order
from benchmark.sweep.executors import ExecutorConfig, Job
from benchmark.sweep.plan import Planned

# imported once in the fork server, so that a run does not spend its time importing them again
PRELOAD = [
    "benchmark.sweep.child",
    "benchmark.run.execute",
    "benchmark.training.train",
    "benchmark.run.evaluate",
    "benchmark.models",
]


@dataclass
class LocalJob:
    """A run in its process."""

    run: Planned
    process: BaseProcess
    devices: str | None
    kills_before: int | None

    def ended(self) -> End | None:
        """How it ended; None while it lasts."""
        if self.process.is_alive():
            return None
        self.process.join()
        return end_of(self.process.exitcode, self.kills_before)

    def holder(self) -> Holder | None:
        """Its process; None while there is none."""
        return holder(self.run.folder)

    def stop(self) -> None:
        """Ask it to save and stop."""
        self.process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()


class LocalExecutor:
    """Runs on this machine.

    Every run has its share of the cores, as CPU threads, and of the GPUs, which are all that it sees.
    """

    def __init__(self, config: ExecutorConfig) -> None:
        self.gpus = visible_gpus()
        each = int(config.gpus if config.gpus is not None else bool(self.gpus))
        if each > len(self.gpus):
            raise UserError(f"executor.gpus={each}: this machine has {len(self.gpus)}")
        self.each = each
        fitting = len(self.gpus) // each if each else min(8, cores())
        self.places = config.workers or fitting
        self.threads = config.cpus or max(1, cores() // self.places)
        self.restarts = config.restarts or 0
        self.where = f"{self.places} at a time, {self.threads} core{'s' * (self.threads > 1)}" + (
            f" and {each} GPU{'s' * (each > 1)} each" if each else " each"
        )
        self._jobs: list[LocalJob] = []
        room_for_sockets()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)

    def start(self, run: Planned) -> Job:
        """Start a run."""
        self._jobs = [j for j in self._jobs if j.process.is_alive()]
        order = Order.of(run.spec, self.threads, self._devices(), Owner.here())
        process = self._context.Process(target=child.main, args=(order,), daemon=False)
        job = LocalJob(run, process, order.devices, memory_kills())
        process.start()
        self._jobs.append(job)
        return job

    def _devices(self) -> str | None:
        """The GPUs that fewest runs use now; none if runs shall not use those there are."""
        if not self.gpus:
            return None
        used = [g for j in self._jobs for g in (j.devices or "").split(",")]
        return ",".join(sorted(self.gpus, key=lambda g: (used.count(g), self.gpus.index(g)))[: self.each])

    def wait(self, jobs: Sequence[Job], seconds: float) -> None:
        """Wait so long, or until one of the jobs has ended."""
        sentinels = [j.process.sentinel for j in jobs if isinstance(j, LocalJob)]
        if sentinels:
            wait(sentinels, timeout=seconds)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """Nothing is held."""


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not asked."""
    limited = os.environ.get("CUDA_VISIBLE_DEVICES")
    if limited is not None:
        return [g.strip() for g in limited.split(",") if g.strip() and g.strip() != "-1"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
        return [str(i) for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]
    return []
