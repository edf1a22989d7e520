"""The driver: gives a plan's runs to an executor until each has a record or a reason why not."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmark.errors import Interrupted, stop_signals
from benchmark.files import storage_time
from benchmark.run import tracking
from benchmark.run.records import FAILURE, provenance, write_record
from benchmark.run.states import (
    BROKEN,
    DONE,
    INTERRUPTED,
    RUNNING,
    WAITING,
    State,
    mark_of,
    state_of,
)
from benchmark.sweep.executors import Executor, Job
from benchmark.sweep.plan import Planned

GLANCE = 0.5  # seconds between two looks at the runs
LOOK_AROUND = 3.0  # seconds between two looks at runs that others do

Notify = Callable[[Planned, State], None]
_Mark = tuple[int, int] | None


@dataclass
class _Running:
    job: Job
    mark: _Mark  # of the failure that an earlier attempt left


def drive(
    runs: Sequence[Planned],
    executor: Executor,
    notify: Notify = lambda run, state: None,
    retry: Iterable[str] = (),
) -> dict[str, State]:
    """Do runs until each is done or has failed. A failing run does not stop the others.

    What is done is not done again; what was interrupted goes on; what another driver does is waited for. A run that
    differs from another in the test alone waits for that one's training.

    Args:
        runs: of a plan, started in this order.
        executor: does them.
        notify: called with every change of a run's state, and with its progress.
        retry: states of earlier attempts ("failed", "diverged", "out of memory") to try again.

    Returns:
        The state of each run by its name, as it ended.

    Raises:
        Interrupted: a signal came; what was running has saved and stopped, and can be gone on with.
        UserError: WANDB_MODE is none of W&B's.
    """
    if any("wandb" in run.spec.logger for run in runs):
        tracking.mode()  # else each run would be refused for it
    return _Driver(runs, executor, notify, tuple(retry)).drive()


class _Driver:
    def __init__(
        self, runs: Sequence[Planned], executor: Executor, notify: Notify, retry: tuple[str, ...]
    ) -> None:
        self.executor, self.notify = executor, notify
        self.ended: dict[str, State] = {}
        self.pending: deque[Planned] = deque()
        self.elsewhere: dict[str, tuple[Planned, _Mark]] = {}
        self.running: dict[str, _Running] = {}
        self.restarts: dict[str, int] = {}
        self.last_look = 0.0
        self.signals: list[int] = []
        self.places = {run.folder.parent for run in runs}
        now = self._now()
        for run in runs:
            state = state_of(run, now.get(run.folder.parent))
            if state.name == DONE or (state.name in BROKEN and state.name not in retry):
                self.ended[run.name] = state
            elif state.name == RUNNING:
                self._leave(run, state)
            else:
                self.pending.append(run)
        first: dict[str, str] = {}
        for run in runs:
            first.setdefault(run.training, run.name)
        self.after = {run.name: first[run.training] for run in runs if first[run.training] != run.name}
        self.runs = runs

    def drive(self) -> dict[str, State]:
        with self._heard(), self._no_orphans():
            while self.pending or self.running or self.elsewhere:
                self._start()
                jobs = [r.job for r in self.running.values()]
                self.executor.wait(jobs, GLANCE) if jobs else time.sleep(GLANCE)
                self._follow()
                self._look_around()
                if self.signals:
                    self._stop()
        return {run.name: self.ended[run.name] for run in self.runs}

    def _now(self) -> dict[Path, float]:
        return {place: storage_time(place) for place in self.places if place.is_dir()}

    # --- starting

    def _start(self) -> None:
        for _ in range(len(self.pending)):
            if len(self.running) >= self.executor.places:
                return
            run = self.pending.popleft()
            if not self._ready(run):
                self.pending.append(run)
                continue
            state = state_of(run)  # another driver may have been quicker
            if state.name == DONE:
                self._end(run, state)
            elif state.name == RUNNING:
                self._leave(run, state)
            else:
                self.running[run.name] = _Running(self.executor.start(run), mark_of(run.folder))

    def _ready(self, run: Planned) -> bool:
        trainer = self.after.get(run.name)
        return trainer is None or trainer in self.ended

    # --- following

    def _follow(self) -> None:
        for name, running in list(self.running.items()):
            run = running.job.run
            end = running.job.ended()
            if end is None:
                held = running.job.holder()
                if held is not None:
                    self.notify(run, State(RUNNING, holder=held))
                continue
            del self.running[name]
            state = state_of(run)
            if state.name == RUNNING:
                self._leave(run, state, running.mark)
            elif state.name == DONE:
                self._end(run, state)
            elif mark_of(run.folder) != running.mark and state.name != WAITING:
                self._end_or_again(run, state)
            elif end.claimed:  # whoever had it let go of it meanwhile
                self.pending.append(run)
            else:
                failure = {
                    "state": end.state,
                    "reason": end.reason,
                    "name": run.name,
                    **provenance(run.spec.model.name),
                }
                failure |= {"identity": run.identity, "config": run.spec.plain(), "traceback": []}
                write_record(run.folder, failure, FAILURE)
                self._end_or_again(run, State(end.state, end.reason))

    def _end_or_again(self, run: Planned, state: State) -> None:
        again = self.restarts.get(run.name, 0) + 1
        if state.name == INTERRUPTED and not self.signals and again <= self.executor.restarts:
            self.restarts[run.name] = again
            self.pending.appendleft(run)
            self.notify(
                run, State(WAITING, f"{state.reason}; started again, {again} of {self.executor.restarts}")
            )
        else:
            self._end(run, state)

    def _end(self, run: Planned, state: State) -> None:
        self.ended[run.name] = state
        self.notify(run, state)

    # --- what others do

    def _leave(self, run: Planned, state: State, mark: _Mark = None) -> None:
        self.elsewhere[run.name] = (run, mark or mark_of(run.folder))
        self.notify(run, state)

    def _look_around(self) -> None:
        if not self.elsewhere or time.monotonic() - self.last_look < LOOK_AROUND:
            return
        self.last_look = time.monotonic()
        now = self._now()
        for name, (run, mark) in list(self.elsewhere.items()):
            state = state_of(run, now.get(run.folder.parent))
            if state.name == RUNNING:
                self.notify(run, state)
                continue
            del self.elsewhere[name]
            if state.name == DONE or (state.name in BROKEN and mark_of(run.folder) != mark):
                self._end(run, state)
            else:
                self.pending.append(run)
                self.notify(run, State(WAITING, "left by the other"))

    # --- stopping

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        """The first signal is remembered, a second Ctrl-C or SIGTERM ends everything at once.

        A terminal that is closed sends several by itself.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def hear(signum: int, frame: FrameType | None) -> None:
            self.signals.append(signum)
            if len(self.signals) > 1 and signum in (signal.SIGINT, signal.SIGTERM):
                for running in self.running.values():
                    running.job.kill()
                raise KeyboardInterrupt

        before: dict[int, Any] = {s: signal.signal(s, hear) for s in stop_signals()}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _stop(self) -> None:
        """Have what runs save and stop.

        Raises:
            Interrupted: always, when it has.
        """
        for running in self.running.values():
            running.job.stop()
            self.notify(
                running.job.run, State(RUNNING, "finishing its batch; the same signal again kills it")
            )
        saved = len(self.running)
        self.pending.clear()
        while self.running:
            self.executor.wait([r.job for r in self.running.values()], GLANCE)
            self._follow()
            self.pending.clear()
        left = sum(s.name != DONE for s in self.ended.values()) + len(self.runs) - len(self.ended)
        stopped = f"{saved} run{'s' * (saved != 1)} stopped, saved" if saved else "stopped"
        raise Interrupted(
            f"{stopped}; {left} of {len(self.runs)} are left: the same command goes on", self.signals[0]
        )

    @contextlib.contextmanager
    def _no_orphans(self) -> Iterator[None]:
        """On any error, ask every run to save and stop, and wait a while for it."""
        try:
            yield
        except BaseException:
            for running in self.running.values():
                running.job.stop()
            deadline = time.monotonic() + 60
            while any(r.job.ended() is None for r in self.running.values()) and time.monotonic() < deadline:
                time.sleep(0.1)
            for running in self.running.values():
                if running.job.ended() is None:
                    running.job.kill()
            raise
        finally:
            self.executor.close()
