"""A Ray cluster, or Ray on this machine: each run is a task with resources of its own on any node.

Data and working folder must be seen under the same paths by all nodes, and the folder of the runs too, unless there is
storage for them (`benchmark.sweep.storage`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.errors import UserError, first_line
from benchmark.run.claims import Holder, holder
from benchmark.run.ends import End
from benchmark.run.states import FAILED, INTERRUPTED, OUT_OF_MEMORY
from benchmark.sweep.child import Order
from benchmark.sweep.executors import ExecutorConfig, Job
from benchmark.sweep.executors.supervise import supervise
from benchmark.sweep.plan import Planned
from benchmark.sweep.storage import Mirror, require_storage

_PASSED_ON = (  # variables that runs depend on; keys are no business of Ray's, which shows such variables
    *("PYTHONPATH", "DERAIN_CACHE", "WANDB_MODE", "WANDB_PROJECT"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
)
_LOOK_EVERY = 5.0  # seconds between two looks into storage
_RESTARTS = 3  # of a run whose node was lost


@dataclass
class RayJob:
    """A run as a Ray task."""

    run: Planned
    task: Any
    mirror: Mirror | None = None
    _held: Holder | None = None
    _looked: float = 0.0

    def ended(self) -> End | None:
        """How it ended; None while it waits or runs."""
        import ray

        if not ray.wait([self.task], timeout=0)[0]:
            return None
        if self.mirror is not None:
            try:
                self.mirror.fetch()
            except OSError as error:
                return End(INTERRUPTED, f"its folder could not be brought from storage: {error}")
        return self._told()

    def _told(self) -> End:
        import ray
        from ray import exceptions

        try:
            return End(**ray.get(self.task))
        except exceptions.OutOfMemoryError:
            return End(OUT_OF_MEMORY, "Ray ended its worker: the node had run out of memory")
        except exceptions.TaskCancelledError:
            return End(INTERRUPTED, "cancelled")
        except exceptions.RayTaskError as error:
            return End(FAILED, str(error).strip().splitlines()[-1])
        except exceptions.RayError as error:
            return End(INTERRUPTED, f"its worker or node was lost ({type(error).__name__})")

    def holder(self) -> Holder | None:
        """Its process; None while there is none."""
        if self.mirror is None:
            return holder(self.run.folder)
        if time.monotonic() - self._looked > _LOOK_EVERY:
            with contextlib.suppress(OSError):
                self._held = self.mirror.holder()
            self._looked = time.monotonic()
        return self._held

    def stop(self) -> None:
        """Ask it to save and stop."""
        import ray

        ray.cancel(self.task)

    def kill(self) -> None:
        """End its worker; the run's process notices and ends."""
        import ray

        ray.cancel(self.task, force=True)


class RayExecutor:
    """Runs as tasks of a Ray cluster."""

    def __init__(self, config: ExecutorConfig) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise UserError("executor=ray: Ray is not installed; pip install ray") from None
        self.cpus, self.gpus = config.cpus or 1, config.gpus or 0
        self.workers, self.storage = config.workers, config.storage
        if config.storage:
            require_storage(config.storage)
        self.restarts = _RESTARTS if config.restarts is None else config.restarts
        variables = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        own: dict[str, Any] = (
            {} if config.address else {"include_dashboard": False, "object_store_memory": 100 * 2**20}
        )
        try:
            ray.init(
                address=config.address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": variables},
                **own,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"executor.address={config.address}: no Ray cluster answers there ({first_line(error)})"
            ) from None
        self._ray = ray
        if not self._fitting():
            self.close()
            wanted = f"{self.cpus} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")
            raise UserError(f"executor=ray: no node of the cluster has {wanted}, which each run shall have")
        asked: dict[str, Any] = {"memory": int(config.memory * 1e9)} if config.memory else {}
        self._task: Any = ray.remote(
            **asked,
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            max_retries=0,  # the driver starts it again, where the folder says that it was lost
            max_calls=1,
        )(supervise)
        each = f"{self.cpus} core{'s' * (self.cpus > 1)}" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        self.where = f"on Ray, {each} each"

    def _fitting(self) -> int:
        """How many runs the nodes that are there now hold at a time."""
        total = 0
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                by_gpu = int(has.get("GPU", 0) / self.gpus) if self.gpus else 10**9
                total += min(int(has.get("CPU", 0) / self.cpus), by_gpu)
        return total

    @property
    def places(self) -> int:
        """How many runs to give it at a time: what fits on the nodes there are now."""
        return self.workers or max(1, self._fitting())

    def start(self, run: Planned) -> Job:
        """Give it a run."""
        mirror = Mirror(self.storage, run.folder) if self.storage else None
        return RayJob(run, self._task.remote(Order.of(run.spec, self.cpus), self.storage), mirror)

    def wait(self, jobs: Sequence[Job], seconds: float) -> None:
        """Wait so long, or until one of the jobs has ended."""
        tasks = [j.task for j in jobs if isinstance(j, RayJob)]
        if tasks:
            self._ray.wait(tasks, timeout=seconds)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """Leave the cluster, or end the one of this machine."""
        self._ray.shutdown()
