"""A table of measured figures beside printed ones, and its forms: Markdown, CSV, LaTeX, JSON."""

from __future__ import annotations

import dataclasses
import math
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.errors import UserError
from benchmark.files import write_json, write_text
from benchmark.reading import json_of
from benchmark.text.escapes import csv_text, in_latex, in_markdown, one_line
from benchmark.text.markup import latex_rows, markdown_rows

MINUS = "−"
BEST, TIED = "best", "tied"


@dataclass(frozen=True)
class Cell:
    """A measured figure (mean over `n` of `wanted` runs), the paper's, or the reason why there is none."""

    value: float | None = None
    paper: float | None = None
    deviation: float | None = None  # standard deviation over seeds, or what the column's `spread` says
    n: int = 1
    wanted: int = 1
    reason: str = ""
    mark: str = ""  # BEST, or TIED: cannot be told from the best (or from what the table's note says)
    interval: tuple[float, float] | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus printed."""
        if self.value is None or self.paper is None or not math.isfinite(self.value):
            return None
        return self.value - self.paper


@dataclass(frozen=True)
class Column:
    """A column: `key` in files, `title` for people, digits behind the point."""

    key: str
    title: str
    digits: int = 2
    difference: bool = True  # whether measured minus printed means something here
    spread: str = "std"  # what a cell's deviation is, in the names of files' columns


@dataclass(frozen=True)
class Row:
    """A row: its label and its cells by column key."""

    label: str
    cells: dict[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table with its title, the notes above it and those beneath it."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    def cell(self, row: Row, column: Column) -> Cell:
        """The cell, an empty one where the row has none."""
        return row.cells.get(column.key, Cell(reason="not measured"))

    def reasons(self) -> dict[str, str]:
        """Letters of the footnotes that say why cells are empty."""
        found = dict.fromkeys(
            c.reason
            for r in self.rows
            for c in (self.cell(r, k) for k in self.columns)
            if c.value is None and c.reason
        )
        return {reason: _letter(i) for i, reason in enumerate(found)}


def _letter(index: int) -> str:
    letters = string.ascii_lowercase
    return (
        letters[index]
        if index < len(letters)
        else _letter(index // len(letters) - 1) + letters[index % len(letters)]
    )


def number(value: float, digits: int, sign: bool = False) -> str:
    """A figure to so many digits, with a proper minus."""
    text = (
        f"{value:{'+' if sign else ''}.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")
    )
    return text.replace("-", MINUS)


def measured(cell: Cell, digits: int) -> str:
    """The measured figure in words: deviation or interval, how many of the wanted runs, the mark of a tie."""
    assert cell.value is not None
    text = number(cell.value, digits)
    if cell.deviation is not None:
        text += f" ± {number(cell.deviation, digits)}"
    if cell.interval is not None:
        text += f" [{number(cell.interval[0], digits)}, {number(cell.interval[1], digits)}]"
    if cell.n < cell.wanted:
        text += f" ({cell.n} of {cell.wanted})"
    if TIED in cell.mark:
        text += " ≈"
    return text


def _printed(cell: Cell, column: Column, separator: str = ", ") -> str:
    if cell.paper is None:
        return ""
    text = number(cell.paper, column.digits)
    if cell.difference is not None and column.difference:
        text += f"{separator}{number(cell.difference, column.digits, sign=True)}"
    return text


def markdown(table: Table) -> str:
    """Markdown: each cell the measured figure, in brackets the printed one and the difference."""
    letters = table.reasons()
    lines = [f"# {in_markdown(table.title)}", ""]
    lines += [f"{one_line(note)}\n".replace("<", "&lt;") for note in table.notes]
    rows = []
    for row in table.rows:
        texts = [in_markdown(row.label)]
        for column in table.columns:
            cell = table.cell(row, column)
            own = _footnote(letters.get(cell.reason))
            if cell.value is not None:
                own = measured(cell, column.digits)
                own = f"**{own}**" if BEST in cell.mark else own
            printed = _printed(cell, column)
            texts.append(
                f"{own} ({printed})" if printed and own else own or (f"({printed})" if printed else "")
            )
        rows.append(texts)
    head = ["", *(in_markdown(c.title) for c in table.columns)]
    lines += markdown_rows(head, rows, [False] + [True] * len(table.columns))
    if letters:
        lines += ["", *[f"<sup>{letter}</sup> {in_markdown(reason)}  " for reason, letter in letters.items()]]
    return "\n".join(lines) + "\n"


def _footnote(letter: str | None) -> str:
    return f"<sup>{letter}</sup>" if letter else ""


def frame(table: Table) -> pd.DataFrame:
    """One row a row, and for each column the measured figure, its deviation, the printed one and the difference."""
    records = []
    for row in table.rows:
        record: dict[str, object] = {"method": row.label}
        for column in table.columns:
            cell = table.cell(row, column)
            record[column.key] = cell.value
            if any(table.cell(r, column).deviation is not None for r in table.rows):
                record[f"{column.key}_{column.spread}"] = cell.deviation
                record[f"{column.key}_n"] = cell.n if cell.value is not None else 0
            if any(table.cell(r, column).interval is not None for r in table.rows):
                record[f"{column.key}_low"], record[f"{column.key}_high"] = cell.interval or (None, None)
            if any(table.cell(r, column).mark for r in table.rows):
                record[f"{column.key}_mark"] = cell.mark
            if any(table.cell(r, column).paper is not None for r in table.rows):
                record[f"{column.key}_paper"] = cell.paper
                if column.difference:
                    record[f"{column.key}_difference"] = cell.difference
        record["reason"] = "; ".join(
            dict.fromkeys(
                c.reason for c in (table.cell(row, k) for k in table.columns) if c.value is None and c.reason
            )
        )
        records.append(record)
    return pd.DataFrame.from_records(records)


def csv(table: Table) -> str:
    """CSV, full precision; text that a spreadsheet would take for a formula is quoted with an apostrophe."""
    return csv_text(frame(table))


def latex(table: Table) -> str:
    """A LaTeX tabular (booktabs); the printed figure in brackets behind the measured one."""
    letters = table.reasons()
    rows = []
    for row in table.rows:
        texts = [in_latex(row.label)]
        for column in table.columns:
            cell = table.cell(row, column)
            text = measured(cell, column.digits) if cell.value is not None else ""
            if cell.value is None and cell.reason in letters:
                text = f"$^{{{letters[cell.reason]}}}$"
            text = text if text.startswith("$") else in_latex(text)
            if BEST in cell.mark:
                text = f"\\textbf{{{text}}}"
            if cell.paper is not None:
                text += f" ({in_latex(number(cell.paper, column.digits))})"
            texts.append(text.strip())
        rows.append(texts)
    head = ["Method", *(in_latex(c.title) for c in table.columns)]
    lines = [
        f"% {one_line(table.title)}",
        *latex_rows(head, rows, [False] + [True] * len(table.columns)),
    ]
    lines += [f"% {letter}: {one_line(reason)}" for reason, letter in letters.items()]
    lines += [f"% {line}" for note in table.notes for line in note.splitlines()]
    return "\n".join(lines) + "\n"


def write(table: Table, folder: str | Path) -> list[Path]:
    """Write the table as Markdown, CSV and LaTeX, and as JSON for `read_table`; returns the first three's paths."""
    paths = []
    for suffix, text in ((".md", markdown(table)), (".csv", csv(table)), (".tex", latex(table))):
        path = Path(folder) / f"{table.name}{suffix}"
        write_text(path, text)
        paths.append(path)
    write_json(Path(folder) / f"{table.name}.json", dataclasses.asdict(table))
    return paths


def read_table(path: str | Path) -> Table:
    """A table that `write` wrote, from its JSON.

    Raises:
        UserError: the file is not one.
    """
    try:
        data = json_of(Path(path).read_text(encoding="utf-8"))
        return Table(
            data["name"],
            data["title"],
            [Column(**c) for c in data["columns"]],
            [Row(r["label"], {k: _read_cell(c) for k, c in r["cells"].items()}) for r in data["rows"]],
            data["notes"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a table of this version ({error}); make the table again") from None


def _read_cell(data: dict[str, Any]) -> Cell:
    # infinite numbers are text in JSON
    numbers = {k: float(v) for k in ("value", "paper", "deviation") if (v := data[k]) is not None}
    interval = tuple(map(float, data["interval"])) if data.get("interval") else None
    return Cell(**{**data, **numbers, "interval": interval})
