"""What the terminal shows while runs are done: one bar a run, one over all; plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from benchmark.config import run_name
from benchmark.sweep.local import Outcome, Running


class Display:
    """Shows the events of `run_all`.

    Args:
        total: how many runs are to be done.
    """

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        self.total, self.done = total, 0
        self.began = time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )
        self.overall = self.progress.add_task("all runs", total=total)
        self.bars: dict[str, object] = {}

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def notify(self, event: str, what: Running | Outcome) -> None:
        """Show one event."""
        name = run_name(what.config)
        if event == "finished":
            assert isinstance(what, Outcome)
            self.done += 1
            if name in self.bars:
                self.progress.remove_task(self.bars.pop(name))  # type: ignore[arg-type]
            self.progress.advance(self.overall)
            self._line(name, what)
        elif self.live:
            assert isinstance(what, Running)
            if name not in self.bars:
                self.bars[name] = self.progress.add_task(f"  {name.rsplit('-', 1)[0]}", total=None)
            self.progress.update(self.bars[name], completed=what.step, total=what.steps or None)  # type: ignore[arg-type]

    def _line(self, name: str, outcome: Outcome) -> None:
        elapsed = time.monotonic() - self.began
        left = elapsed / self.done * (self.total - self.done)
        state = outcome.state if outcome.state == "done" else f"{outcome.state}: {outcome.reason}"
        text = (
            f"[{self.done}/{self.total}] {name.rsplit('-', 1)[0]}: {state} (about {left / 60:.0f} min left)"
        )
        if self.live:
            self.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)
