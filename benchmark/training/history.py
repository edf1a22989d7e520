"""What a training logs, as `metrics.csv` in its folder."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from benchmark.files import write_text


class History:
    """A row for each step that something is logged at, on the disk at once.

    A training that goes on keeps the rows of what it does not do again. Lightning's own logger deletes them, and holds
    back the last hundred steps, which a kill then takes away.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] | None = None

    def add(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row; columns that are new are empty in the rows before."""
        row: dict[str, Any] = {**metrics, "step": step}
        if self._columns is None or not set(row) <= set(self._columns):
            begun = self._columns is not None
            rows = [r for r in _read(self.path) if begun or step is None or _before(r, metrics, step)]
            self._columns = sorted({*row, *(self._columns or ()), *(key for r in rows for key in r)})
            text = io.StringIO()
            writer = csv.DictWriter(text, self._columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows([*rows, row])
            write_text(self.path, text.getvalue())
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)


def _before(row: dict[str, str], metrics: dict[str, float], step: int) -> bool:
    """Whether a row of the file is not done again by a training whose first figures are `metrics` of `step`.

    It may go on with the validation of a step whose training stands in a row of its own.
    """
    then = int(row["step"] or 0)
    return then < step or (then == step and not any(row.get(key) for key in metrics if key != "epoch"))


def _read(path: Path) -> list[dict[str, str]]:
    """The whole rows of a file; none where there is no file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [r for r in csv.DictReader(file) if None not in r and None not in r.values()]
    except FileNotFoundError:
        return []
