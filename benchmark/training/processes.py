"""The processes of a parallel training: when one is gone the others end, in a line, and none is left waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from benchmark.errors import Interrupted, ProcessLost

_GLANCE = 0.5  # seconds
_GRACE = 15.0  # seconds in which a process finds out by itself, by what it shares with the one that is gone
_LATER = 15.0  # seconds by which the end of a process is seen later than that of the connection to it


class Launcher(_SubprocessScriptLauncher):
    """Starts the other processes as Lightning does, and leaves it to `together` to see when one of them ends.

    Lightning's own observer kills this process too, before it can say or write anything.
    """

    @staticmethod
    def of(trainer: pl.Trainer) -> Launcher | None:
        """This launcher in place of the trainer's; None where it starts no processes by itself."""
        theirs = trainer.strategy.launcher
        if not isinstance(theirs, _SubprocessScriptLauncher):
            return None
        ours = Launcher(theirs.cluster_environment, theirs.num_processes, theirs.num_nodes)
        trainer.strategy._launcher = ours
        return ours

    def launch(
        self, function: Callable[..., Any], *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any
    ) -> Any:
        """Start them, then call the function."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
        _set_num_threads_if_needed(self.num_processes)
        return function(*args, **kwargs)


def lost(processes: Sequence[subprocess.Popen[Any]], wait: float = 0.0) -> ProcessLost | None:
    """The first of some processes that ended badly; None if there is none after `wait` seconds."""
    deadline = time.monotonic() + wait
    while True:
        for number, process in enumerate(processes, start=1):
            if process.poll():
                return ProcessLost(f"process {number} of {len(processes) + 1}", process.returncode)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.1)


def _of_a_connection(error: BaseException) -> bool:
    """Whether an error says that the processes cannot reach each other any more."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


@contextmanager
def together(launcher: Launcher | None) -> Iterator[None]:
    """Watch the other processes of the training within the block.

    Where one ends badly, what it shares with this one fails, mostly, and that is told as what it is. Where this process
    only waits (until the processes have met, or on a GPU) it is ended.

    Raises:
        ProcessLost: another process of the training is gone.
    """
    if launcher is None:
        yield
        return
    over = threading.Event()
    parent = os.getppid() if launcher.cluster_environment.creates_processes_externally else None

    def watch() -> None:
        while not over.wait(_GLANCE):
            if parent is not None and os.getppid() != parent:
                gone = ProcessLost("the process that started this one", None)
            else:
                found = lost(launcher.procs)
                if found is None:
                    continue
                gone = found
            if not over.wait(_GRACE):
                print(f"derain: {gone}", file=sys.stderr, flush=True)
                _end(launcher.procs, 0.0)
                os._exit(gone.status)

    threading.Thread(target=watch, name="processes", daemon=True).start()
    try:
        yield
    except BaseException as error:
        gone: BaseException = error
        if _of_a_connection(error):
            waited = _LATER if launcher.procs else 0.0
            gone = lost(launcher.procs, waited) or ProcessLost("another process", None)
        # who stops does so at the same step; else the others would wait for this one
        _end(launcher.procs, _GRACE if isinstance(error, Interrupted) else 0.0)
        if gone is error:
            raise
        raise gone from error
    finally:
        over.set()


def _end(processes: Sequence[subprocess.Popen[Any]], grace: float) -> None:
    """Have some processes ended, at once or after a while."""
    deadline = time.monotonic() + grace
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
