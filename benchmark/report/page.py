"""The report: one HTML page that fetches nothing, drawn from tables, figures, pictures, costs and records.

What is shown is put together here as plain data; how it looks is `report.html`, a Jinja template that escapes every
text, with `report.css` and `report.js`.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark import catalog
from benchmark.report.rows import INPUT, title_of
from benchmark.text.escapes import in_latex
from benchmark.text.markup import latex_rows
from benchmark.text.table import BEST, MINUS, TIED, Cell, Column, Row, Table, csv, latex, measured
from benchmark.text.words import commit_in_words

Record = Mapping[str, Any]
Picture = NDArray[np.uint8]

LIMIT = 12_000_000
"""Bytes of a page; PDFs that would go beyond are named instead, and pictures are compressed more."""
_MARGIN = 100_000  # bytes: of figures' own markup
_QUALITIES = (90, 80, 70, 55)
_DRAWING = 400_000  # bytes up to which a figure is shown as its own file

_OF_PHOTOGRAPHS = {"format": "WEBP", "quality": 80, "method": 4}
JPEG: Mapping[str, Any] = {"format": "JPEG", "quality": 90, "subsampling": 0}
SUBJECT = "ESDNet"
TARGET = "Target"
_INPUT = (INPUT, "Input")


@dataclass(frozen=True)
class Shown:
    """A picture and what is said of it; of a comparison, or a figure."""

    name: str
    picture: Picture
    caption: str = ""


@dataclass(frozen=True)
class Comparison:
    """Test pictures of one set: for each its name, and rainy, restored by each network, target."""

    title: str
    pictures: Sequence[tuple[str, Sequence[Shown]]]


@dataclass(frozen=True)
class Drawn:
    """A figure: its PNG file (PDF and SVG beside it, of the same name, where there are any) and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Grid:
    """A table of plain values: column titles and rows; folded under its total where it has one."""

    title: str
    total: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its address in the page.
        title: above it.
        about: paragraphs beneath the title.
        parts: what it shows, in order.
        runs: records of runs, for a list of where they come from.
        not_run: what was not run, and why.
        missing: what is said where there is nothing to show.
    """

    key: str
    title: str
    about: Sequence[str] = ()
    parts: Sequence[Table | Grid | Comparison | Drawn] = ()
    runs: Sequence[Record] = ()
    not_run: Sequence[tuple[str, str]] = ()
    missing: str = "Nothing."


@dataclass(frozen=True)
class Report:
    """All that a page shows."""

    title: str
    about: Sequence[str]  # paragraphs beneath the title
    sections: Sequence[Section] = field(default_factory=tuple)


def page(report: Report) -> str:
    """The HTML page. Every text that comes from outside (names, reasons, commands) is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html")
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    sections = [
        {
            "key": s.key,
            "title": s.title,
            "about": [_pieces(t) for t in s.about],
            "parts": list(_parts(s, f"{s.key}-table")),
            "runs": [_run(r) for r in s.runs],
            "not_run": s.not_run,
            "missing": "" if s.parts or s.runs or s.not_run else s.missing,
        }
        for s in report.sections
    ]

    def rendered(
        figures: Mapping[Path, Mapping[str, Any]], pictures: Sequence[Any], quality: int, left_out: int
    ) -> str:
        return template.render(
            title=report.title,
            about=[_pieces(t) for t in report.about],
            sections=sections,
            figures=figures,
            pictures=in_script(pictures),
            quality=quality,
            left_out=left_out,
            style=style,
            script=script,
        )

    comparisons = [p for s in report.sections for p in s.parts if isinstance(p, Comparison)]
    drawn = [p for s in report.sections for p in s.parts if isinstance(p, Drawn)]
    nothing = {d.path: _FIGURE for d in drawn}
    left = LIMIT - len(rendered(nothing, [], 0, 0).encode()) - _MARGIN
    figures, left = _drawings(drawn, left)
    return rendered(figures, *_fitting(comparisons, left))


def _parts(section: Section, name: str) -> Iterator[dict[str, Any]]:
    viewer: dict[str, Any] | None = None
    for number, part in enumerate(section.parts, 1):
        if isinstance(part, Table):
            yield {"kind": "table", "id": f"{name}-{number}", **_table(part)}
        elif isinstance(part, Grid):
            yield {"kind": "table", "id": f"{name}-{number}", **_grid(part)}
        elif isinstance(part, Drawn):
            yield {"kind": "figure", "path": part.path, "caption": part.caption}
        elif viewer is None:  # one for all sets
            viewer = {"kind": "viewer"}
            yield viewer


def _pieces(text: str) -> list[tuple[str, bool]]:
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


_LESS = re.compile(
    r"↓|parameters|operations|macs|accumulates|elementwise|energy|flops|rank|µj|\bp\b|seconds|\btime\b|ours",
    re.I,
)


def _first(title: str) -> str:
    """Which way a column of figures is sorted first: its best on top."""
    return "ascending" if _LESS.search(title) and "↑" not in title else "descending"


def _families() -> dict[str, str]:
    return {entry.title: entry.family for entry in catalog.networks().values()}


def _family(label: str, families: Mapping[str, str]) -> str:
    name = re.split(r"[,†‡§]", label)[0].strip()
    return families.get(name, families.get(name.partition("-")[0], ""))


def _table(table: Table) -> dict[str, Any]:
    letters = table.reasons()
    families = _families()
    inputs = [r for r in table.rows if r.label in _INPUT]
    others = [r for r in table.rows if r.label not in _INPUT]
    groups = _groups(table.columns)
    lead = _lead(table, others)
    if lead is not None:
        others = sorted(others, key=lambda r: _order(table.cell(r, lead), _first(lead.title)))
    heads: list[dict[str, Any]] = []
    for column, group in zip(table.columns, groups, strict=True):
        rest = column.title.partition("\n")[2]
        own = rest if group else column.title
        heads.append(
            {
                "words": own.replace("`", ""),
                "group": group,
                "first": _first(column.title),
                "sort": _first(column.title) if column is lead else "",
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

    def shown(row: Row) -> dict[str, Any]:
        return {
            "label": row.label,
            "family": _family(row.label, families),
            "subject": row.label == SUBJECT,
            "cells": [
                {**_cell(table.cell(row, c), c, letters), "group": g or (_REST if named else "")}
                for c, g in zip(table.columns, groups, strict=True)
            ],
        }

    rows = [shown(r) for r in others]
    notes = [f"{letter}: {reason}" for reason, letter in letters.items()]
    return {
        "title": _pieces(table.title),
        "plain": table.title.replace("`", ""),
        "first_head": "Network" if any(r["family"] for r in rows) else "Row",
        "heads": heads,
        "spans": spans,
        "grouped": bool(named),
        "groups": [*named, *([_REST] if not all(groups) else [])] if named else [],
        "rest": _REST,
        "preferred": "Average" if "Average" in named else (named[-1] if named else ""),
        "families": sorted({r["family"] for r in rows} - {""}),
        "input": [shown(r) for r in inputs],
        "rows": rows,
        "printed": any(table.cell(r, c).paper is not None for r in table.rows for c in table.columns),
        "notes": [_pieces(note) for note in [*notes, *table.notes]],
        "downloads": _downloads(
            table.name,
            {
                "csv": csv(table),
                "tex": latex(table),
                "json": json.dumps(asdict(table), ensure_ascii=False, indent=1),
            },
        ),
        "total": "",
    }


_REST = "Costs"


def _groups(columns: Sequence[Column]) -> list[str]:
    """Names of the groups of columns: a first line that neighbours share; empty for those that stand alone."""
    lines = [c.title.partition("\n")[0] for c in columns]
    return [
        line if line in (lines[i - 1] if i else "", lines[i + 1] if i + 1 < len(lines) else "") else ""
        for i, line in enumerate(lines)
    ]


def _lead(table: Table, rows: Sequence[Row]) -> Column | None:
    """The column that rows are sorted by: the average, or the first with figures of most rows; None of several sets."""
    if not rows or any(r.label.endswith(": rainy input") for r in rows):
        return None
    full = [c for c in table.columns if sum(table.cell(r, c).value is not None for r in rows) > len(rows) / 2]
    averages = [c for c in full if c.key.startswith("average")]
    return next(iter([*averages, *full]), None)


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


def _grid(grid: Grid) -> dict[str, Any]:
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
        "title": _pieces(grid.title),
        "plain": grid.title,
        "first_head": grid.columns[0],
        "heads": heads,
        "spans": [],
        "grouped": False,
        "groups": [],
        "rest": _REST,
        "preferred": "",
        "families": sorted({r["family"] for r in rows} - {""}) if len(rows) > 4 else [],
        "input": [],
        "rows": rows,
        "printed": False,
        "notes": [_pieces(note) for note in grid.notes],
        "downloads": _downloads(
            name,
            {
                "csv": csv_text(frame),
                "tex": "\n".join(tex) + "\n",
                "json": json.dumps(records, ensure_ascii=False, indent=1),
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


def _fitting(comparisons: Sequence[Comparison], room: int) -> tuple[list[dict[str, Any]], int, int]:
    """The pictures in the best quality at which all fit into the room, that quality, how many of a set do not."""
    every = max((len(c.pictures) for c in comparisons), default=0)
    for most in range(every, -1, -1):
        for quality in _QUALITIES:
            found = [_comparison(c, quality, most) for c in comparisons if most]
            if len(in_script(found)) <= room:
                return found, quality, every - most
    return [], 0, every


def _comparison(comparison: Comparison, quality: int, most: int) -> dict[str, Any]:
    options = {"format": "WEBP", "quality": quality, "method": 4}
    pictures = []
    for name, shown in comparison.pictures[:most]:
        height, width = shown[0].picture.shape[:2]
        pictures.append(
            {
                "name": name,
                "width": width,
                "height": height,
                "shown": [
                    {
                        "name": s.name,
                        "caption": s.caption,
                        "data": encoded(s.picture, options),
                        "alt": _alt(s, name, comparison.title),
                    }
                    for s in shown
                ],
            }
        )
    return {"title": comparison.title, "pictures": pictures}


def _alt(shown: Shown, name: str, title: str) -> str:
    if shown.name in _INPUT:
        what = "in the rain, as the networks get it"
    elif shown.name == TARGET:
        what = "without rain: what the networks should restore"
    else:
        what = f"restored by {shown.name}"
    figures = shown.caption and f"; PSNR-Y in dB and SSIM-Y: {shown.caption}"
    return f"Picture {name} of {title}, {what}{figures}"


def encoded(picture: Picture, options: Mapping[str, Any]) -> str:
    """A picture as a data address, by Pillow's options of a format."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, **options)
    kind = str(options["format"]).lower()
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def in_script(data: Any) -> str:
    """Plain data as JSON inside a script element, where only "</" and "<!--" mean something."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")


_FIGURE: Mapping[str, Any] = {"src": "", "name": "", "form": "", "pdf": "", "beside": ()}


def _drawings(figures: Sequence[Drawn], left: int) -> tuple[dict[Path, dict[str, Any]], int]:
    """The figures as they are looked at, and in a quarter of what is left their PDFs; what does not fit is named.

    Returns:
        The figures, and how many of `left` bytes they leave to the pictures.
    """
    found: dict[Path, dict[str, Any]] = {}
    pdfs: dict[Path, str] = {}
    for figure in figures:
        if figure.path in found:
            continue
        svg, pdf = figure.path.with_suffix(".svg"), figure.path.with_suffix(".pdf")
        form, src = _looked_at(figure.path, svg)
        beside = [_named(svg)] if svg.is_file() and form != "svg" else []
        if len(src) > left:
            form, src, beside = "", "", [_named(figure.path), *beside]
        left -= len(src)
        found[figure.path] = {**_FIGURE, "src": src, "name": figure.path.stem, "form": form, "beside": beside}
        if pdf.is_file():
            pdfs[figure.path] = _file("application/pdf", pdf)
    room = left // 4
    for path, data in sorted(pdfs.items(), key=lambda item: len(item[1])):
        if len(data) > room:
            found[path]["beside"].append(_named(path.with_suffix(".pdf")))
            continue
        room -= len(data)
        left -= len(data)
        found[path]["pdf"] = data
    return found, left


def _named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _looked_at(png: Path, svg: Path) -> tuple[str, str]:
    """A figure's form and data address in the page: SVG where it is small, else PNG, or WebP of many photographs."""
    from PIL import Image

    if svg.is_file() and svg.stat().st_size <= _DRAWING:
        return "svg", _file("image/svg+xml", svg)
    if png.stat().st_size <= _DRAWING:
        return "png", _file("image/png", png)
    with Image.open(png) as opened:
        return "webp", encoded(np.asarray(opened.convert("RGB")), _OF_PHOTOGRAPHS)


def _file(kind: str, path: Path) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _run(record: Record) -> dict[str, Any]:
    config = record.get("config", {})
    machine = record.get("machine", {})
    training = record.get("training", {})
    data = training.get("data", {})
    row = record.get("row")
    options = record.get("model_options") if row else config.get("model", {}).get("options")
    facts = {
        "command": str(record.get("command", "")),
        "commit": commit_in_words(record.get("commit")),
        "date": str(record.get("date", "")),
        "machine": ", ".join(f"{k} {v}" for k, v in machine.items()),
        **({"row": f"{title_of(record)} ({_flat(row)})"} if row else {}),
        "recipe": _flat(config.get("recipe", {})),
        "network": "of others, not known"
        if row and row.get("network") is None
        else f"{config.get('model', {}).get('name', '')} {_flat(options or {})}",
        "training": "by others, not known"
        if row and not training
        else f"{training.get('steps', '?')} steps in {training.get('seconds', '?')} s; "
        f"{data.get('images', '?')} images of {data.get('trained_on', '?')}, data {data.get('digest', '?')}; "
        f"weights {training.get('weights', '?')}, seed {config.get('seed', '?')}",
        "parameters": f"{record.get('parameters', {}).get('trained', '?'):,}"
        if record.get("parameters")
        else "?",
        "tested": "; ".join(
            f"{name}: {r['mean']['psnr_esdnet']} dB, {r['mean']['n']} images"
            if isinstance(r["mean"].get("psnr_esdnet"), str)
            else f"{name}: {r['mean']['psnr_esdnet']:.2f} dB, {r['mean']['n']} images"
            for name, r in record.get("results", {}).items()
            if r.get("mean", {}).get("psnr_esdnet") is not None
        ),
        "versions": ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items()),
    }
    title = ", ".join([str(record.get("name", "a run")), *([_flat(options)] if options else [])])
    return {"title": title, "facts": facts}


def _flat(data: Mapping[str, Any], prefix: str = "") -> str:
    words = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            words.append(_flat(value, f"{prefix}{key}."))
        elif value is not None:
            words.append(f"{prefix}{key}={value}")
    return " ".join(w for w in words if w)
