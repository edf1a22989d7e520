"""How many processes a training is, and whether this machine and whoever started it agree."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UserError

if TYPE_CHECKING:
    from benchmark.spec import RunSpec


def devices_named(text: str) -> int | None:
    """How many devices `trainer.devices` says, on each node; None where that depends on the machine (auto, -1)."""
    if text in ("auto", "-1"):
        return None
    return len(text.split(",")) if "," in text else int(text)


def leave_allocation() -> None:
    """Forget the Slurm allocation that this process was started in: what it does is one task, whatever it says."""
    for key in [k for k in os.environ if k.startswith("SLURM_")]:
        del os.environ[key]


_PACKAGES = {
    "tensorboard": "tensorboard",
    "mlflow": "mlflow-skinny",
}  # W&B is a dependency, and no run needs it


def require_loggers(config: RunSpec) -> None:
    """Refuse a run whose loggers are not installed here.

    Raises:
        UserError: says what to install.
    """
    for name in config.logger:
        if name in _PACKAGES and importlib.util.find_spec(name) is None:
            raise UserError(
                f"logger={name}: {name} is not installed; pip install {_PACKAGES[name]} "
                f"(or this project with [{name}]), or leave it out"
            )


def require_launch(config: RunSpec) -> None:
    """Refuse a training that this machine has no loggers, no devices or no shared memory for, or of which several
    processes were started in vain.

    Where Slurm has more tasks than the training has processes, and has started one, it is done as outside Slurm.

    Raises:
        UserError: says what was asked for and what there is.
    """
    require_loggers(config)
    _require_shared_memory(config)
    devices = _devices(config)
    processes = devices * config.trainer.nodes
    asked = f"trainer.devices={config.trainer.devices} trainer.nodes={config.trainer.nodes}"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        started = _number("WORLD_SIZE")
        if started is not None and started != processes:
            raise UserError(
                f"torchrun started {started} processes, {asked} are {processes}: let them be equal"
            )
    tasks = _number("SLURM_NTASKS")
    if tasks is None:
        if config.trainer.nodes > 1 and "MASTER_ADDR" not in os.environ:
            raise UserError(
                f"{asked}: start it by srun or torchrun, or on every node with MASTER_ADDR, MASTER_PORT, NODE_RANK"
            )
        return
    by_srun = "SLURM_STEP_ID" in os.environ or (_number("SLURM_PROCID") or 0) > 0
    if by_srun and tasks > 1 and tasks != processes:
        raise UserError(
            f"srun started {tasks} tasks, {asked} are {processes} processes: srun --ntasks={processes}"
        )
    if config.trainer.nodes > 1:
        if not by_srun:
            raise UserError(f"{asked}: start it by srun --ntasks={processes}, one task a process")
        given = _number("SLURM_NNODES")
        if given is not None and given != config.trainer.nodes:
            raise UserError(f"{asked}: this Slurm step has {given} nodes")
    elif processes == 1 or not by_srun or tasks != processes:
        leave_allocation()


_SHARED = Path("/dev/shm")
_AHEAD = 2  # batches that each process of a loader makes ahead


def _require_shared_memory(config: RunSpec) -> None:
    """The processes of a loader hand over batches in shared memory; where it ends, torch hangs or is killed."""
    workers, recipe = config.data.workers, config.recipe
    if not workers:
        return
    try:
        multiprocessing.get_context().Lock()
    except (OSError, ImportError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"data.workers={workers}: the processes of a loader need shared memory, and {_SHARED} cannot be used "
            f"({told}): set data.workers=0"
        ) from None
    batch = 2 * 3 * 4 * recipe.patch**2 * recipe.batch
    needed = (_AHEAD * workers + 1) * batch
    if _SHARED.is_dir() and (free := shutil.disk_usage(_SHARED).free) < needed:
        raise UserError(
            f"data.workers={workers}: the processes of a loader share batches in {_SHARED}, which has "
            f"{free / 2**20:.1f} MiB free of the {needed / 2**20:.1f} MiB that they need: set data.workers=0, or give "
            "it more (docker run --shm-size=2g)"
        )


def _devices(config: RunSpec) -> int:
    """Devices on each node, being there."""
    import torch

    trainer = config.trainer
    asked = f"trainer.accelerator={trainer.accelerator}"
    mps = torch.backends.mps.is_available()
    if trainer.accelerator == "mps" and not mps:
        raise UserError(f"{asked}: this is no Apple GPU; use trainer.accelerator=auto")
    cuda = torch.cuda.is_available()
    if (trainer.accelerator == "cuda" and not cuda) or (trainer.accelerator == "gpu" and not (cuda or mps)):
        raise UserError(f"{asked}: there is no usable GPU here; use trainer.accelerator=cpu")
    on_cuda = cuda and trainer.accelerator in ("auto", "gpu", "cuda")
    if config.recipe.precision == "16-mixed" and not on_cuda and (trainer.accelerator == "cpu" or not mps):
        # Lightning would train in bf16-mixed instead, and the record would say 16-mixed
        raise UserError("recipe.precision=16-mixed needs a GPU; on a CPU use bf16-mixed")
    named = devices_named(trainer.devices)
    asked = f"trainer.devices={trainer.devices}"
    if on_cuda:
        there = torch.cuda.device_count()
        which = [int(i) for i in trainer.devices.split(",")] if "," in trainer.devices else []
        if len(set(which)) < len(which) or any(i >= there for i in which) or (named or 1) > there:
            raise UserError(f"{asked}: {there} GPU{'s are' if there > 1 else ' is'} here, counted from 0")
        return there if named is None else named
    if "," in trainer.devices or trainer.devices == "-1":
        raise UserError(
            f"{asked}: there is no GPU to choose here; on a CPU it is a number of processes, such as 2"
        )
    if mps and trainer.accelerator != "cpu" and (named or 1) > 1:
        raise UserError(f"{asked}: an Apple GPU is one device")
    most = max(8, os.cpu_count() or 1)
    if (named or 1) > most:
        raise UserError(f"{asked}: as many processes are not for {os.cpu_count()} cores; at most {most}")
    return named or 1


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() else None
