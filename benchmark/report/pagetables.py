"""Tables as the page's template wants them: heads, rows in their order, cells in words, and files to take away."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from benchmark import catalog
from benchmark.report.parts import Grid
from benchmark.report.rows import INPUT
from benchmark.text.escapes import in_latex
from benchmark.text.markup import latex_rows
from benchmark.text.table import BEST, MINUS, TIED, Cell, Column, Row, Table, csv, latex, measured

SUBJECT = "ESDNet"
INPUTS = (INPUT, "Input")


def pieces(text: str) -> list[tuple[str, bool]]:
    """Prose, in pieces; what stands between backticks is a name."""
    return [(piece, index % 2 == 1) for index, piece in enumerate(text.split("`"))]


def _link(text: str, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _downloads(name: str, forms: Mapping[str, str]) -> list[dict[str, str]]:
    kinds = {"csv": "text/csv", "tex": "application/x-tex", "json": "application/json"}
    words = {"csv": "CSV", "tex": "LaTeX", "json": "JSON"}
    return [
        {"words": words[form], "file": f"{name}.{form}", "href": _link(text, kinds[form])}
        for form, text in forms.items()
    ]


def _json(data: Any) -> str:
    """Without spaces: a page has many tables."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


_LESS = re.compile(
    r"↓|parameters|operations|macs|accumulates|elementwise|energy|flops|rank|µj|\bp\b|seconds|\btime\b|ours",
    re.I,
)


def _first(title: str) -> str:
    """Which way a column of figures is sorted first: its best on top."""
    return "ascending" if _LESS.search(title) and "↑" not in title else "descending"


def _families() -> dict[str, str]:
    entries = catalog.networks().values()
    return {name: entry.family for entry in entries for name in (entry.title, entry.name)}


def _family(label: str, families: Mapping[str, str]) -> str:
    name = re.split(r"[,†‡§]", label)[0].strip()
    return families.get(name, families.get(name.partition("-")[0], ""))


def of_table(table: Table) -> dict[str, Any]:
    """A table of figures: the best first where it has one column to be sorted by, the input apart."""
    letters = table.reasons()
    families = _families()
    titles = _titles(table.columns)
    groups = _groups(titles)
    sets = _sets(table.rows)
    others = [r for rows in sets.values() for r in rows if not _is_input(r)]
    lead = _lead(table, others)
    heads: list[dict[str, Any]] = []
    for column, title, group in zip(table.columns, titles, groups, strict=True):
        own = title.partition("\n")[2] if group else title
        heads.append(
            {
                "words": own.replace("`", ""),
                "group": group,
                "first": _first(title),
                "sort": _first(title) if column is lead else "",
                "place": len(heads) + 1,
                "left": False,
            }
        )
    spans: list[dict[str, Any]] = []
    for head in heads:
        if spans and head["group"] and spans[-1]["group"] == head["group"]:
            spans[-1]["span"] += 1
        else:
            spans.append({"group": head["group"], "span": 1, "head": head})
    named = [name for name in dict.fromkeys(groups) if name]
    alone = [title for title, group in zip(titles, groups, strict=True) if not group]
    rest = "Costs" if all(_COSTS.match(title) for title in alone) else "Others"

    def shown(row: Row, name: str) -> dict[str, Any]:
        label = row.label.removeprefix(f"{name}: ") if name else row.label
        return {
            "label": label[:1].upper() + label[1:] if _is_input(row) else label,
            "family": _family(label, families),
            "subject": label == SUBJECT,
            "cells": [
                {**_cell(table.cell(row, c), c, letters), "group": g or (rest if named else "")}
                for c, g in zip(table.columns, groups, strict=True)
            ],
        }

    bodies = []
    rows: list[dict[str, Any]] = []
    for name, own_rows in sets.items():
        measured_rows = [r for r in own_rows if not _is_input(r)]
        if lead is not None:
            measured_rows.sort(key=lambda r: _order(table.cell(r, lead), _first(lead.title)))
        own_shown = [shown(r, name) for r in measured_rows]
        rows += own_shown
        bodies.append(
            {
                "title": name,
                "input": [shown(r, name) for r in own_rows if _is_input(r)],
                "rows": own_shown,
            }
        )
    notes = [f"{letter}: {reason}" for reason, letter in letters.items()]
    return {
        "title": pieces(table.title),
        "plain": table.title.replace("`", ""),
        "first_head": "Network" if any(r["family"] for r in rows) else "Row",
        "heads": heads,
        "spans": spans,
        "grouped": bool(named),
        "groups": [*named, *([rest] if alone else [])] if named else [],
        "rest": rest,
        "preferred": "Average" if "Average" in named else (named[0] if named else ""),
        "families": sorted({r["family"] for r in rows} - {""}),
        "bodies": bodies,
        "count": len(rows),
        "printed": any(table.cell(r, c).paper is not None for r in table.rows for c in table.columns),
        "notes": [pieces(note) for note in [*notes, *table.notes]],
        "downloads": _downloads(
            table.name,
            {
                "csv": csv(table),
                "tex": latex(table),
                "json": _json(asdict(table)),
            },
        ),
        "total": "",
    }


_COSTS = re.compile(r"parameters|operations|of them macs|energy|spike rate|flops", re.I)
_COUNTS = ("Pictures", "Seeds")  # columns that nobody ranks by
_OF_SETS = f": {INPUT[:1].lower()}{INPUT[1:]}"  # ends the label of a set's input, in tables of several sets


def _is_input(row: Row) -> bool:
    return row.label in INPUTS or row.label.endswith(_OF_SETS)


def _sets(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each test set, where labels begin with its name; else all under no name."""
    names = [r.label.removesuffix(_OF_SETS) for r in rows if r.label.endswith(_OF_SETS)]
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = next((n for n in names if row.label.startswith(f"{n}: ")), "")
        found.setdefault(name, []).append(row)
    return found or {"": []}


def _titles(columns: Sequence[Column]) -> list[str]:
    """Titles of columns; of PSNR-Y and SSIM-Y beside each other with what both are of before them, in one line."""
    found = [c.title for c in columns]
    for i in range(len(found) - 1):
        (one, _, of), (two, _, of_two) = found[i].partition("\n"), found[i + 1].partition("\n")
        if (one, two) == ("PSNR-Y", "SSIM-Y") and of == of_two and of and not of.startswith("("):
            name = " ".join(of.replace("`", "").split())
            found[i : i + 2] = [f"{name}\n{one}", f"{name}\n{two}"]
        elif (of, found[i + 1]) == ("PSNR-Y", "SSIM-Y"):
            found[i + 1] = f"{one}\nSSIM-Y"
    return found


def _groups(titles: Sequence[str]) -> list[str]:
    """Names of the groups of columns: a first line that neighbours share; empty for those that stand alone."""
    lines = [title.partition("\n")[0] for title in titles]
    return [
        line if line in (lines[i - 1] if i else "", lines[i + 1] if i + 1 < len(lines) else "") else ""
        for i, line in enumerate(lines)
    ]


def _lead(table: Table, rows: Sequence[Row]) -> Column | None:
    """The column that rows are sorted by: the average, where most rows have it, else the first of the fullest."""
    filled = {
        c.key: sum(table.cell(r, c).value is not None for r in rows)
        for c in table.columns
        if c.title not in _COUNTS
    }
    most = max(filled.values(), default=0)
    if not most:
        return None
    fullest = [c for c in table.columns if filled.get(c.key) == most]
    averages = [c for c in table.columns if c.key.startswith("average") and filled[c.key] > len(rows) / 2]
    return [*averages, *fullest][0]


def _order(cell: Cell, first: str) -> tuple[bool, float]:
    if cell.value is None or math.isnan(cell.value):
        return True, 0.0
    return False, cell.value if first == "ascending" else -cell.value


def _cell(cell: Cell, column: Column, letters: Mapping[str, str]) -> dict[str, Any]:
    printed = ""
    if cell.paper is not None:
        printed = _number(cell.paper, column.digits)
        if cell.difference is not None and column.difference:
            printed += f" ({_number(cell.difference, column.digits, '+')})"
    if cell.value is None:
        return {
            "value": "",
            "text": "",
            "rest": "",
            "why": cell.reason,
            "letter": letters.get(cell.reason, ""),
            "best": False,
            "printed": printed,
        }
    text, _, rest = measured(replace(cell, mark=""), column.digits).partition(" ")
    text += " ≈" * (TIED in cell.mark)
    return {
        "value": "Infinity" if cell.value == math.inf else repr(cell.value),
        "text": text,
        "rest": rest,
        "why": "",
        "letter": "",
        "best": BEST in cell.mark,
        "printed": printed,
    }


def _number(value: float, digits: int, sign: str = "") -> str:
    text = f"{value:{sign}.{digits}f}" if math.isfinite(value) else "∞"
    return text.replace("-", MINUS)


def of_grid(grid: Grid) -> dict[str, Any]:
    """A table of plain values, in the order in which they come."""
    import pandas as pd

    from benchmark.text.escapes import csv_text

    name = re.sub(r"\W+", "-", grid.title.lower()).strip("-")[:60] or "table"
    families = _families()
    numeric = [
        any(_is_number(row[i]) for row in grid.rows)
        and not any(isinstance(row[i], str) and row[i] for row in grid.rows)
        for i in range(len(grid.columns))
    ]
    heads = [
        {
            "words": words,
            "group": "",
            "first": _first(words) if number else "ascending",
            "sort": "",
            "place": i,
            "left": not number,
        }
        for i, (words, number) in enumerate(zip(grid.columns[1:], numeric[1:], strict=True), 1)
    ]
    rows = [
        {
            "label": _readable(row[0]),
            "family": _family(_readable(row[0]), families),
            "subject": row[0] == SUBJECT,
            "cells": [
                {
                    "value": _plain(value),
                    "text": _readable(value),
                    "rest": "",
                    "why": "",
                    "letter": "",
                    "best": False,
                    "printed": "",
                    "group": "",
                    "words": not number,
                }
                for value, number in zip(row[1:], numeric[1:], strict=True)
            ],
        }
        for row in grid.rows
    ]
    heading = [" ".join(c.split()) for c in grid.columns]
    values = [[None if _plain(v) == "" else v for v in row] for row in grid.rows]
    frame = pd.DataFrame(values, columns=heading)
    tex = latex_rows(
        [in_latex(c) for c in heading], [[in_latex(_readable(v)) for v in row] for row in grid.rows], numeric
    )
    records = [dict(zip(heading, map(_jsonable, row), strict=True)) for row in grid.rows]
    return {
        "title": pieces(grid.title),
        "plain": grid.title,
        "first_head": grid.columns[0],
        "heads": heads,
        "spans": [],
        "grouped": False,
        "groups": [],
        "rest": "",
        "preferred": "",
        "families": sorted({r["family"] for r in rows} - {""}) if len(rows) > 4 else [],
        "bodies": [{"title": "", "input": [], "rows": rows}],
        "count": len(rows),
        "printed": False,
        "notes": [pieces(note) for note in grid.notes],
        "downloads": _downloads(
            name,
            {
                "csv": csv_text(frame),
                "tex": "\n".join(tex) + "\n",
                "json": _json(records),
            },
        ),
        "total": grid.total,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _jsonable(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _readable(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _plain(value)
    if isinstance(value, float) and not value.is_integer():
        return "" if math.isnan(value) else _short(value).replace("-", MINUS)
    return f"{int(value):,}".replace("-", MINUS)


def _short(value: float) -> str:
    """Four figures, without a power of ten where it can be read without."""
    if not math.isfinite(value):
        return "∞"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
