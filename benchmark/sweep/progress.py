"""What the terminal shows while runs are done: one table that is kept up to date; plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from benchmark.run.states import BROKEN, DONE, FAILED, INTERRUPTED, RUNNING, WAITING, State
from benchmark.sweep.plan import Planned
from benchmark.text.words import duration

_COLOURS = {DONE: "green", RUNNING: "cyan", WAITING: "dim", INTERRUPTED: "yellow"}
_LAST = 6  # ended runs that stay in the table


@dataclass
class _Timed:
    """How fast a run goes, by what was seen of it."""

    step: int
    at: float

    def left(self, step: int, steps: int) -> float | None:
        """Seconds of training to come."""
        done, took = step - self.step, time.monotonic() - self.at
        return took / done * (steps - step) if done > 0 and steps else None


class Display:
    """Shows the states of a plan's runs.

    Args:
        runs: of the plan.
        where: what does them, in words.
    """

    def __init__(self, runs: Sequence[Planned], where: str = "") -> None:
        from rich.console import Console
        from rich.live import Live

        self.runs, self.where = runs, where
        self.states: dict[str, State] = {}
        self.timed: dict[str, _Timed] = {}
        self.ended: list[Planned] = []
        self.took: list[float] = []
        self.began = time.monotonic()
        self.started: dict[str, float] = {}
        self.counts: Counter[str] = Counter({WAITING: len(runs)})
        self.console = Console(stderr=True)
        self.live = (
            Live(get_renderable=self._table, console=self.console, refresh_per_second=2, transient=True)
            if self.console.is_terminal
            else None
        )

    def __enter__(self) -> Display:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def notify(self, run: Planned, state: State) -> None:
        """Take note of a run's state or progress, and say what a plain terminal shall say."""
        before = self.states.get(run.name)
        self.states[run.name] = state
        self.counts[before.name if before else WAITING] -= 1
        self.counts[state.name] += 1
        if state.name == RUNNING:
            held = state.holder
            if run.name not in self.started:
                self.started[run.name] = time.monotonic()
            if held is not None and held.step and run.name not in self.timed:
                self.timed[run.name] = _Timed(held.step, time.monotonic())
            if (before is None or before.name != RUNNING) and state.reason:
                self._say(f"{run.label}: running {state.reason}")
            return
        self.timed.pop(run.name, None)
        started = self.started.pop(run.name, None)
        if state.name == WAITING:
            self._say(f"{run.label}: waiting, {state.reason}")
            return
        if started is not None:
            self.took.append(time.monotonic() - started)
        self.ended.append(run)
        left = self._left()
        about = f" ({left} left)" if left else ""
        self._say(f"[{len(self.ended)}/{len(self.runs)}] {run.label}: {state}{about}")
        if state.name == FAILED and state.traceback:
            self._say("\n".join(f"    {line}" for line in state.traceback[-4:]))

    def _say(self, text: str) -> None:
        if self.live is not None:
            self.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _left(self) -> str:
        """Time to come, by the runs that have ended."""
        remaining = len(self.runs) - len(self.ended)
        if not self.took or not remaining:
            return ""
        return "about " + duration((time.monotonic() - self.began) / len(self.took) * remaining)

    def _table(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, expand=False)
        for name in ("run", "state", "progress", "left"):
            table.add_column(name, header_style="bold", no_wrap=True)
        running = [r for r in self.runs if self.states.get(r.name, State(WAITING)).name == RUNNING]
        for run in [*self.ended[-_LAST:], *running]:
            state = self.states[run.name]
            held, bar, left = state.holder, Text(""), ""
            if held is not None and held.steps:
                bar = ProgressBar(total=held.steps, completed=held.step, width=24)  # type: ignore[assignment]
                timed = self.timed.get(run.name)
                seconds = timed.left(held.step, held.steps) if timed else None
                left = duration(seconds) if seconds is not None else ""
                left = "testing" if held.step >= held.steps else left
            colour = "red" if state.name in BROKEN else _COLOURS.get(state.name, "")
            table.add_row(run.label, Text(state.name, colour), bar, left)
        counted = ", ".join(f"{n} {name}" for name, n in self.counts.items() if n > 0)
        total = ProgressBar(total=len(self.runs), completed=len(self.ended), width=24)
        foot = Table(box=None, pad_edge=False, show_header=False)
        foot.add_row(
            f"{len(self.ended)} of {len(self.runs)} runs",
            total,
            counted,
            self._left(),
            Text(self.where, "dim"),
        )
        return Group(table, foot)
