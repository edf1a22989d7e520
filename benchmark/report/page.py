"""The report: one HTML page that fetches nothing, drawn from tables, figures, pictures, costs and records.

What is shown (`parts.py`) is put together here as plain data; how it looks is `report.html`, a Jinja template that
escapes every text, with `report.css` and `report.js`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.report.pagepictures import FIGURE, drawings, fitting, in_script, of_crops
from benchmark.report.pagetables import SUBJECT, of_grid, of_table, pieces
from benchmark.report.parts import (
    Choice,
    Comparison,
    Crops,
    Drawn,
    Folded,
    Grid,
    Part,
    Record,
    Report,
)
from benchmark.report.rows import title_of
from benchmark.report.style import FAMILIES
from benchmark.text.table import Table
from benchmark.text.words import commit_in_words

LIMIT = 12_000_000
"""Bytes of a page; PDFs that would go beyond are named instead, and pictures are compressed more."""
_MARGIN = 100_000  # bytes: of figures' own markup


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
    parts = list(_all(p for s in report.sections for p in s.parts))
    comparisons = [p for p in parts if isinstance(p, Comparison)]
    viewer = comparisons[0] if comparisons else None
    sections = [
        {
            "key": s.key,
            "title": s.title,
            "about": [pieces(t) for t in s.about],
            "parts": list(_parts(s.parts, f"{s.key}-table", viewer)),
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
            about=[pieces(t) for t in report.about],
            sections=sections,
            figures=figures,
            pictures=in_script(pictures),
            quality=quality,
            left_out=left_out,
            style=style,
            script=script,
            families=[*FAMILIES],
            subject=SUBJECT,
            any_table=any(isinstance(p, Table | Choice) for p in parts),
        )

    drawn = [p for p in parts if isinstance(p, Drawn)]
    drawn += [p.drawn for p in parts if isinstance(p, Crops) and p.drawn is not None]
    nothing = {d.path: FIGURE for d in drawn}
    left = LIMIT - len(rendered(nothing, [], 0, 0).encode()) - _MARGIN
    figures, left = drawings(drawn, left)
    return rendered(figures, *fitting(comparisons, left))


def _parts(parts: Sequence[Part], name: str, viewer: Comparison | None) -> Iterator[dict[str, Any]]:
    """What the template draws of some parts; the pictures of all sets are looked at in the place of `viewer`."""
    for number, part in enumerate(parts, 1):
        place = f"{name}-{number}"
        if isinstance(part, Table):
            yield {"kind": "table", "id": place, **of_table(part)}
        elif isinstance(part, Grid):
            yield {"kind": "table", "id": place, **of_grid(part)}
        elif isinstance(part, Choice):
            tables = [
                {"name": own, "means": means, "id": f"{place}-{n}", **of_table(table)}
                for n, (own, means, table) in enumerate(part.tables, 1)
            ]
            yield {"kind": "choice", "label": part.label, "tables": tables}
        elif isinstance(part, Folded):
            yield {"kind": "folded", "title": part.title, "parts": list(_parts(part.parts, place, viewer))}
        elif isinstance(part, Drawn):
            yield {"kind": "figure", "path": part.path, "caption": part.caption, "seen": part.seen}
        elif isinstance(part, Crops):
            yield {"kind": "crops", **of_crops(part)}
        elif part is viewer:
            yield {"kind": "viewer"}


def _all(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, and those that are folded into them."""
    for part in parts:
        yield part
        if isinstance(part, Folded):
            yield from _all(part.parts)


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
