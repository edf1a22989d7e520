"""The local executor: every run in a process of its own, several at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from benchmark.config import RunConfig, from_dict, run_name, to_dict
from benchmark.errors import UserError, WorkError
from benchmark.sweep.claims import holder
from benchmark.sweep.records import FAILURE, find_record, read_record, run_folder, write_record

# imported once in the fork server, so that a run does not spend its time importing them again
_PRELOAD = [
    "benchmark.sweep.run",
    "benchmark.training.train",
    "benchmark.evaluation.evaluate",
    "benchmark.models",
]


@dataclass
class Running:
    """A run in its process."""

    config: RunConfig
    process: BaseProcess
    messages: Connection
    began: float = field(default_factory=time.monotonic)
    step: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its state and, unless done, the reason."""

    config: RunConfig
    state: str  # done | failed | diverged | out of memory | interrupted
    reason: str = ""


def _child(plain: dict[str, Any], messages: Connection, command: list[str]) -> None:
    """What a run's process does. Its output goes to the run's log; success is the record, not the exit code."""
    sys.argv = command  # the record tells the command the user typed
    config = from_dict(plain)
    folder = run_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "log.txt").open("a", buffering=1, encoding="utf-8")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)

    def tell(step: int, steps: int) -> None:
        try:
            messages.send((step, steps))
        except OSError:  # the driver is gone: save and stop rather than live on unseen
            os.kill(os.getpid(), signal.SIGTERM)

    from benchmark.sweep.run import execute

    try:
        execute(config, tell)
    except (UserError, WorkError) as error:
        print(f"derain: {error}", file=sys.stderr)
        sys.exit(error.status)


def run_all(
    runs: Sequence[RunConfig],
    workers: int = 1,
    notify: Callable[[str, Running | Outcome], None] = lambda event, what: None,
) -> list[Outcome]:
    """Do runs, those that are done already skipped; a failing run does not stop the others.

    Args:
        runs: configurations, started in this order.
        workers: processes at a time; CPU threads are divided among them.
        notify: called with ("started" | "progress", Running) and ("finished", Outcome).

    Returns:
        An outcome for each run, in the order of `runs`.
    """
    outcomes: dict[str, Outcome] = {}
    waiting: list[RunConfig] = []
    for config in runs:
        if find_record(config) is not None:
            outcomes[run_name(config)] = Outcome(config, "done")
        else:
            waiting.append(config)
    if waiting:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        running: list[Running] = []
        with _no_orphans(running):
            while waiting or running:
                while waiting and len(running) < workers:
                    started = _start(context, waiting.pop(0), workers)
                    running.append(started)
                    notify("started", started)
                _listen(running, notify)
                for ended in [r for r in running if not r.process.is_alive()]:
                    running.remove(ended)
                    ended.process.join()
                    outcome = _outcome(ended)
                    outcomes[run_name(ended.config)] = outcome
                    notify("finished", outcome)
    return [outcomes[run_name(c)] for c in runs]


def _start(context: Any, config: RunConfig, workers: int) -> Running:
    if config.trainer.threads is None:
        config.trainer.threads = max(1, (os.cpu_count() or 1) // workers)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(to_dict(config), sender, sys.argv), daemon=False)
    process.start()
    sender.close()
    return Running(config, process, receiver)


def _listen(running: Sequence[Running], notify: Callable[[str, Running | Outcome], None]) -> None:
    """Wait a moment for news from the runs."""
    ends = {r.messages: r for r in running if not r.messages.closed}
    sentinels = [r.process.sentinel for r in running]
    for ready in wait([*ends, *sentinels], timeout=0.5):
        if not isinstance(ready, Connection):
            continue
        run = ends[ready]
        try:
            while ready.poll():
                run.step, run.steps = ready.recv()
        except (EOFError, OSError):
            ready.close()
            continue
        notify("progress", run)


def _outcome(ended: Running) -> Outcome:
    config = ended.config
    if find_record(config) is not None:
        return Outcome(config, "done")
    other = holder(run_folder(config))
    if other is not None:
        return Outcome(config, "running", f"by {other}")
    failure = read_record(run_folder(config), FAILURE)
    if failure is not None and not _stale(failure, ended):
        return Outcome(config, failure["state"], failure["reason"])
    code = ended.process.exitcode
    how = f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"
    state = "interrupted" if code in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL) else "failed"
    reason = f"the process was {how}" if code and code < 0 else f"the process {how} and left no record"
    write_record(run_folder(config), {"state": state, "reason": reason, "name": run_name(config)}, FAILURE)
    return Outcome(config, state, reason)


def _stale(failure: dict[str, Any], ended: Running) -> bool:
    """Whether a failure was written by an earlier attempt."""
    path = run_folder(ended.config) / FAILURE
    return time.time() - path.stat().st_mtime > time.monotonic() - ended.began + 1


@contextlib.contextmanager
def _no_orphans(running: list[Running]) -> Iterator[None]:
    """On an error or Ctrl-C, ask every run to save and stop, and wait for it."""
    try:
        yield
    except BaseException:
        for run in running:
            run.process.terminate()
        for run in running:
            run.process.join(timeout=60)
            if run.process.is_alive():
                run.process.kill()
        raise
