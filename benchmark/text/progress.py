"""The progress bar of all long work: on standard error, with the time left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_FEW = 50


class Bar:
    """What moves a bar on; without one shown, nothing happens."""

    def __init__(self, bar: Any = None, task: Any = None) -> None:
        self._bar, self._task = bar, task

    @property
    def on_terminal(self) -> bool:
        """Whether somebody sees it move."""
        return self._bar is not None and bool(self._bar.console.is_terminal)

    def advance(self, count: float = 1) -> None:
        """So much more is done."""
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def update(self, done: float | None = None, total: float | None = None, note: str | None = None) -> None:
        """What is done, of how much, and what stands behind the bar; None: as it was."""
        if self._bar is not None:
            told = {} if note is None else {"note": note}
            self._bar.update(self._task, completed=done, total=total, **told)


@contextlib.contextmanager
def bar(
    title: str, total: float | None, shown: bool = True, counted: bool = True, always: bool = True
) -> Iterator[Bar]:
    """A bar while the block lasts.

    Args:
        title: stands before it.
        total: of what is counted; None: not known yet.
        shown: False: none.
        counted: whether done and total are shown as numbers.
        always: False: none for fewer than 50, which are done at once, and none is left standing.
    """
    if not shown or (not always and total is not None and total < _FEW):
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn()]
    columns += [MofNCompleteColumn()] * counted
    columns += [TextColumn("{task.fields[note]}", markup=False), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=not always) as progress:
        yield Bar(progress, progress.add_task(title, total=total, note=""))


__all__ = ["Bar", "bar"]
