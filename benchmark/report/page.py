"""The report: one HTML page that fetches nothing, drawn from tables, figures, pictures, costs and records."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.report.rows import title_of
from benchmark.text.table import BEST, MINUS, Cell, Column, Table, measured
from benchmark.text.words import commit_in_words

Record = Mapping[str, Any]
Picture = NDArray[np.uint8]

QUALITY = 90  # of the JPEG pictures in the page: what is measured is the PNG, this is to look at


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
    """A figure: its PNG file and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Layers:
    """What a network costs, layer by layer: column titles and rows, the totals in words."""

    title: str
    total: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Report:
    """All that a page shows."""

    title: str
    about: Sequence[str]  # paragraphs beneath the title
    tables: Sequence[Table] = ()
    comparisons: Sequence[Comparison] = ()
    figures: Sequence[Drawn] = ()
    layers: Sequence[Layers] = ()
    runs: Sequence[Record] = ()
    not_run: Sequence[tuple[str, str]] = ()  # what, why
    missing: Mapping[str, str] = field(default_factory=dict)  # section: why it is empty


def page(report: Report) -> str:
    """The HTML page. Every text that comes from outside (names, reasons, commands) is escaped."""
    sections = [
        ("tables", "Tables", [_table(t) for t in report.tables]),
        ("pictures", "Pictures", _comparisons(report.comparisons)),
        ("figures", "Figures", _figures(report.figures)),
        ("cost", "Cost per layer", [_layers(one) for one in report.layers]),
        ("runs", "Provenance of the runs", [_run(r) for r in report.runs]),
        ("not-run", "What was not run, and why", _not_run(report.not_run)),
    ]
    links = "".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title, _ in sections)
    body = [f"<header><h1>{escape(report.title)}</h1>"]
    body += [f'<p class="soft">{escape(text)}</p>' for text in report.about]
    body.append(f'</header><nav aria-label="Sections"><ul>{links}</ul></nav><main>')
    for key, title, parts in sections:
        body.append(f'<section><h2 id="{key}">{escape(title)}</h2>')
        body += parts or [f"<p>{escape(report.missing.get(key, 'Nothing.'))}</p>"]
        body.append("</section>")
    body.append("</main>")
    if report.comparisons:
        body.append(pictures_data(report.comparisons))
    return filled("page.html", TITLE=escape(report.title), BODY="\n".join(body))


def filled(template: str, **parts: str) -> str:
    """A page of this folder with its `{{PARTS}}` put in; style and script of the comparisons are the same for all."""
    folder = Path(__file__).parent
    parts["STYLE"], parts["COMPARE"] = (
        (folder / name).read_text(encoding="utf-8").rstrip() for name in ("style.css", "compare.js")
    )
    text = (folder / template).read_text(encoding="utf-8")
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda part: parts[part[1]], text)


def _text(text: str) -> str:
    """Prose, escaped; what stands between backticks is a name."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def _sortable(heads: Sequence[str], rows: Sequence[str], label: str) -> str:
    cells = "".join(f'<th scope="col"><button type="button">{escape(h)}</button></th>' for h in heads)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table class="sortable">'
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _table(table: Table) -> str:
    letters = table.reasons()
    rows = []
    for row in table.rows:
        cells = "".join(_cell(table.cell(row, c), c, letters) for c in table.columns)
        rows.append(f'<tr><td data-value="{escape(row.label)}">{escape(row.label)}</td>{cells}</tr>')
    notes = [f"{letter}: {reason}" for reason, letter in letters.items()]
    return "\n".join(
        [
            f"<h3>{_text(table.title)}</h3>",
            _sortable(["Network", *(c.title for c in table.columns)], rows, table.title),
            *(f'<p class="note">{_text(note)}</p>' for note in [*notes, *table.notes]),
        ]
    )


def _cell(cell: Cell, column: Column, letters: Mapping[str, str]) -> str:
    printed = ""
    if cell.paper is not None:
        printed = f"printed {_number(cell.paper, column.digits)}"
        if cell.difference is not None and column.difference:
            printed += f" ({_number(cell.difference, column.digits, '+')})"
        printed = f"<small>{printed}</small>"
    if cell.value is None:
        letter = letters.get(cell.reason, "")
        return f'<td data-value="" title="{escape(cell.reason)}"><i>{letter}</i>{printed}</td>'
    text = measured(cell, column.digits)
    if BEST in cell.mark:
        text = f"<b>{text}</b>"
    value = "Infinity" if cell.value == math.inf else repr(cell.value)
    return f'<td data-value="{value}">{text}{printed}</td>'


def _number(value: float, digits: int, sign: str = "") -> str:
    text = f"{value:{sign}.{digits}f}" if math.isfinite(value) else "∞"
    return text.replace("-", MINUS)


def _comparisons(comparisons: Sequence[Comparison]) -> list[str]:
    parts = []
    for index, comparison in enumerate(comparisons):
        height, width = comparison.pictures[0][1][0].picture.shape[:2]
        parts += [f"<h3>{escape(comparison.title)}</h3>", slider(index, height, width)]
    if parts:
        parts.insert(0, '<p class="soft">Pull the line. On each picture: PSNR-Y (dB) / SSIM-Y.</p>')
    return parts


def slider(index: int | None, height: int = 1, width: int = 1) -> str:
    """A box of one picture over another, for the comparison of that number or (None) one that a script fills."""
    which = "" if index is None else f' data-set="{index}"'
    return (
        f'<div class="comparison"{which}><div class="choose">'
        "<label>picture <select></select></label><label>left <select></select></label>"
        "<label>right <select></select></label></div>"
        f'<div class="slider"><img width="{width}" height="{height}" alt=""><img class="over" alt="">'
        '<div class="bar"></div><span class="left"></span><span class="right"></span>'
        '<input type="range" min="0" max="100" value="50" step="0.5" '
        'aria-label="how much of each picture"></div></div>'
    )


def pictures_data(comparisons: Sequence[Comparison]) -> str:
    """The pictures of the comparisons as the script element that the page's own script reads."""
    return f'<script type="application/json" id="picture-data">{_pictures(comparisons)}</script>'


def _pictures(comparisons: Sequence[Comparison]) -> str:
    data = [
        [
            {
                "name": name,
                "shown": [{"name": s.name, "caption": s.caption, "data": _jpeg(s.picture)} for s in shown],
            }
            for name, shown in comparison.pictures
        ]
        for comparison in comparisons
    ]
    return in_script(data)


def in_script(data: Any) -> str:
    """Plain data as JSON inside a script element, where only "</" and "<!--" mean something."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")


def _jpeg(picture: Picture) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _figures(figures: Sequence[Drawn]) -> list[str]:
    parts = []
    for figure in figures:
        data = base64.b64encode(figure.path.read_bytes()).decode()
        caption = escape(figure.caption)
        parts.append(
            f'<figure><img src="data:image/png;base64,{data}" alt="{caption}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return [f'<div class="figures">{"".join(parts)}</div>'] if parts else []


def _layers(layers: Layers) -> str:
    rows = []
    for row in layers.rows:
        cells = "".join(f'<td data-value="{escape(_plain(v))}">{escape(_readable(v))}</td>' for v in row)
        rows.append(f"<tr>{cells}</tr>")
    table = _sortable(layers.columns, rows, f"{layers.title}, layer by layer")
    return f"<details><summary>{escape(layers.title)}: {escape(layers.total)}</summary>{table}</details>"


def _plain(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _readable(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _plain(value)
    if isinstance(value, float) and not value.is_integer():
        return "" if math.isnan(value) else f"{value:.4g}"
    return f"{int(value):,}"


def _run(record: Record) -> str:
    config = record.get("config", {})
    machine = record.get("machine", {})
    training = record.get("training", {})
    data = training.get("data", {})
    row = record.get("row")
    options = record.get("model_options") if row else config.get("model", {}).get("options")
    facts = {
        "command": f"<code>{escape(str(record.get('command', '')))}</code>",
        "commit": escape(commit_in_words(record.get("commit"))),
        "date": escape(str(record.get("date", ""))),
        "machine": escape(", ".join(f"{k} {v}" for k, v in machine.items())),
        **({"row": escape(f"{title_of(record)} ({_flat(row)})")} if row else {}),
        "recipe": escape(_flat(config.get("recipe", {}))),
        "network": escape(
            "of others, not known"
            if row and row.get("network") is None
            else f"{config.get('model', {}).get('name', '')} {_flat(options or {})}"
        ),
        "training": escape(
            "by others, not known"
            if row and not training
            else f"{training.get('steps', '?')} steps in {training.get('seconds', '?')} s; "
            f"{data.get('images', '?')} images of {data.get('trained_on', '?')}, data {data.get('digest', '?')}; "
            f"weights {training.get('weights', '?')}, seed {config.get('seed', '?')}"
        ),
        "parameters": escape(
            f"{record.get('parameters', {}).get('trained', '?'):,}" if record.get("parameters") else "?"
        ),
        "tested": escape(
            "; ".join(
                f"{name}: {r['mean']['psnr_esdnet']} dB, {r['mean']['n']} images"
                if isinstance(r["mean"].get("psnr_esdnet"), str)
                else f"{name}: {r['mean']['psnr_esdnet']:.2f} dB, {r['mean']['n']} images"
                for name, r in record.get("results", {}).items()
                if r.get("mean", {}).get("psnr_esdnet") is not None
            )
        ),
        "versions": escape(", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items())),
    }
    rows = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in facts.items())
    title = ", ".join([str(record.get("name", "a run")), *([_flat(options)] if options else [])])
    return f"<details><summary>{escape(title)}</summary><dl>{rows}</dl></details>"


def _flat(data: Mapping[str, Any], prefix: str = "") -> str:
    words = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            words.append(_flat(value, f"{prefix}{key}."))
        elif value is not None:
            words.append(f"{prefix}{key}={value}")
    return " ".join(w for w in words if w)


def _not_run(items: Sequence[tuple[str, str]]) -> list[str]:
    rows = "".join(f"<li><b>{escape(what)}</b>: {escape(why)}</li>" for what, why in items)
    return [f"<ul>{rows}</ul>"] if rows else []
