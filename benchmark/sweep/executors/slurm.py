"""A Slurm cluster, through submitit: each run is a job.

Runs folder, data and working folder must be seen under the same paths by all nodes. Jobs do not need the driver: when
it is gone they go on, and a later one finds what they have done.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.run.claims import Holder, holder
from benchmark.run.ends import End
from benchmark.run.states import FAILED, INTERRUPTED, OUT_OF_MEMORY
from benchmark.sweep.child import Order
from benchmark.sweep.executors import ExecutorConfig, Job
from benchmark.sweep.executors.supervise import supervise, wait_for_stop
from benchmark.sweep.plan import Planned

_PLACES = 100  # jobs in the queue at a time, if --workers does not say
_HOURS = 12.0  # of a job, if executor.hours does not say; submitit's own default is five minutes
_RESTARTS = 3  # of a run whose node was lost
_LOST = ("NODE_FAIL", "PREEMPTED", "TIMEOUT", "CANCELLED", "BOOT_FAIL", "REVOKED", "INTERRUPTED")


class SlurmTask:
    """What a job does. Before its time is up Slurm warns it: then the run saves and stops, and the job is queued anew.

    Args:
        order: for the run's process.
    """

    def __init__(self, order: Order) -> None:
        self.order = order

    def __call__(self) -> dict[str, Any]:
        """Do the run."""
        return supervise(self.order)

    def checkpoint(self) -> Any:
        """Called by submitit on the warning."""
        from submitit.helpers import DelayedSubmission

        wait_for_stop()
        return DelayedSubmission(self)


@dataclass
class SlurmJob:
    """A run as a Slurm job."""

    run: Planned
    job: Any

    def ended(self) -> End | None:
        """How it ended; None while it waits or runs."""
        if not self.job.done():
            return None
        try:
            return End(**self.job.result())
        except Exception as error:  # of submitit, whatever was raised in the job, or a file that is not there
            state = str(self.job.state)
            if state.startswith("OUT_OF_ME"):
                return End(OUT_OF_MEMORY, f"Slurm ended job {self.job.job_id}: out of memory")
            lost = any(state.startswith(s) for s in _LOST)
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            return End(INTERRUPTED if lost else FAILED, f"job {self.job.job_id}, state {state}: {last}")

    def holder(self) -> Holder | None:
        """Its process; None while there is none."""
        return holder(self.run.folder)

    def stop(self) -> None:
        """Ask it to save and stop."""
        self.job.cancel()

    def kill(self) -> None:
        """Slurm ends what does not stop."""
        self.job.cancel()


class SlurmExecutor:
    """Runs as jobs of a Slurm cluster."""

    def __init__(self, config: ExecutorConfig, folder: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError("executor=slurm: submitit is not installed; pip install submitit") from None
        if not config.debug and shutil.which("sbatch") is None:
            raise UserError(
                "executor=slurm: there is no sbatch on this machine; executor.debug=true runs the jobs here"
            )
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self.cpus = config.cpus or 1
        self.places = config.workers or (1 if config.debug else _PLACES)
        self.restarts = _RESTARTS if config.restarts is None else config.restarts
        self.where = f"Slurm jobs{' on this machine' if config.debug else ''}, {self.places} at a time"
        place = (folder / "slurm").resolve()
        self._executor = submitit.AutoExecutor(place, cluster="local" if config.debug else "slurm")
        asked: dict[str, Any] = {
            "name": "derain",
            "cpus_per_task": self.cpus,
            "tasks_per_node": 1,
            "nodes": 1,
            "gpus_per_node": int(config.gpus) if config.gpus else None,
            "mem_gb": config.memory,
            "timeout_min": max(1, round((config.hours or _HOURS) * 60)),
        }
        if not config.debug:
            asked |= {"slurm_partition": config.partition, "slurm_account": config.account}
        self._executor.update_parameters(**{k: v for k, v in asked.items() if v is not None})

    def start(self, run: Planned) -> Job:
        """Put a run in the queue."""
        return SlurmJob(run, self._executor.submit(SlurmTask(Order.of(run.spec, self.cpus))))

    def wait(self, jobs: Sequence[Job], seconds: float) -> None:
        """Wait so long."""
        time.sleep(seconds)

    def close(self) -> None:
        """Nothing is held: jobs go on without."""
