"""What does the runs of a plan: this machine, a Ray cluster, a Slurm cluster. Any of them leaves the same records."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmark import reading as read
from benchmark.errors import UserError, unknown
from benchmark.run.claims import Holder
from benchmark.run.ends import End
from benchmark.spec import pairs_of
from benchmark.sweep.plan import Planned


class Job(Protocol):
    """A run that an executor was given."""

    run: Planned

    def ended(self) -> End | None:
        """How it ended; None while it waits or runs."""

    def holder(self) -> Holder | None:
        """Its process and how far that is; None while there is none."""

    def stop(self) -> None:
        """Ask it to finish the batch in hand, save and stop."""

    def kill(self) -> None:
        """End it at once."""


class Executor(Protocol):
    """Does runs, each in a process of its own.

    Attributes:
        restarts: how often a run whose process was lost is started again.
        where: in words, for the user.
    """

    restarts: int
    where: str

    @property
    def places(self) -> int:
        """How many runs to give it at a time."""

    def start(self, run: Planned) -> Job:
        """Start a run, or put it in the queue."""

    def wait(self, jobs: Sequence[Job], seconds: float) -> None:
        """Wait so long, or until one of the jobs has ended."""

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass
class ExecutorConfig:
    """What does the runs, and what each may take. Not part of a run's identity.

    Attributes:
        name: local, ray or slurm.
        workers: runs at a time. None: local, one for each GPU or else each core (at most 8); others, as many as fit.
        cpus: cores of each run. None: local, the cores divided among the workers; others, 1.
        gpus: GPUs of each run. None: local, 1 where there are GPUs; others, 0.
        memory: GB of each run; None: not asked for. Ray and Slurm.
        storage: Ray: where the runs' folders are kept for nodes that share no file system: s3://BUCKET/RUNS, or any URL
            that fsspec knows. None: the folder of the runs is seen by all.
        address: Ray: of the cluster ("auto" for the one this machine belongs to; None: one of this machine alone).
        partition: Slurm's, None for its default.
        account: Slurm's, None for its default.
        hours: after which Slurm ends a job (None: 12); the run goes on in another.
        debug: Slurm: run its jobs on this machine, to try it out.
        restarts: how often a run that was lost with its process or node is started again.
    """

    name: str = "local"
    workers: int | None = None
    cpus: int | None = None
    gpus: float | None = None
    memory: float | None = None
    storage: str | None = None
    address: str | None = None
    partition: str | None = None
    account: str | None = None
    hours: float | None = None
    debug: bool = False
    restarts: int | None = None


_FOR = {
    "local": ("cpus", "gpus", "restarts"),
    "ray": ("cpus", "gpus", "memory", "address", "storage", "restarts"),
    "slurm": (
        "cpus",
        "gpus",
        "memory",
        "partition",
        "account",
        "hours",
        "debug",
        "restarts",
    ),
}


_LIMITS = {  # least and most; memory in GB, hours up to a year
    "cpus": (1, 4096),
    "gpus": (0, 1024),
    "restarts": (0, 1000),
    "memory": (0, 10**6),
    "hours": (0, 366 * 24),
}


def take_settings(words: Iterable[str], workers: int | None = None) -> tuple[ExecutorConfig, list[str]]:
    """The executor that `executor=NAME executor.KEY=VALUE` words ask for, and the other words.

    Args:
        words: settings of all kinds.
        workers: `--workers`, runs at a time.

    Raises:
        UserError: an unknown executor or key, one that this executor has no use for, a wrong type or value.
    """
    own: list[str] = []
    others: list[str] = []
    for word in words:
        key = word.partition("=")[0]
        (own if key == "executor" or key.startswith("executor.") else others).append(word)
    given = dict(pairs_of(own))
    name = str(given.pop("executor", "local"))
    if name not in _FOR:
        raise unknown("executor", name, _FOR)
    result = ExecutorConfig(name=name, workers=workers)
    hints = typing.get_type_hints(ExecutorConfig)
    keys = list(dict.fromkeys(k for each in _FOR.values() for k in each))
    for key, value in given.items():
        key = key.removeprefix("executor.")
        if key not in keys:
            raise unknown("setting", f"executor.{key}", ["executor", *(f"executor.{k}" for k in keys)])
        if key not in _FOR[name]:
            takers = " or ".join(n for n, keys in _FOR.items() if key in keys)
            raise UserError(f"executor.{key} is for executor={takers}, not for {name}")
        try:
            setattr(result, key, read.typed(hints[key], value))
        except ValueError as error:
            raise UserError(f"executor.{key}={value}: {error}") from None
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: at least 1")
    if result.storage is not None and "://" not in result.storage:
        result.storage = read.path(result.storage)
    for key, (least, most) in _LIMITS.items():
        value = getattr(result, key)
        if value is None:
            continue
        if key in ("memory", "hours") and value <= least:
            raise UserError(f"executor.{key}={value:g}: must be greater than 0")
        if not least <= value <= most:
            limit = f"at least {least}" if value < least else f"at most {most}"
            raise UserError(f"executor.{key}={value:g}: {limit}")
    return result, others


def open_executor(config: ExecutorConfig, folder: Path) -> Executor:
    """The executor of a configuration.

    Args:
        config: which, and what each run may take.
        folder: of the runs, seen by all machines; Slurm's job files go there.

    Raises:
        UserError: what it needs is not installed, or the cluster cannot be reached.
    """
    if config.name == "ray":
        from benchmark.sweep.executors.ray import RayExecutor

        return RayExecutor(config)
    if config.name == "slurm":
        from benchmark.sweep.executors.slurm import SlurmExecutor

        return SlurmExecutor(config, folder)
    from benchmark.sweep.executors.local import LocalExecutor

    return LocalExecutor(config)
