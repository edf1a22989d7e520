"""Table 2 of the paper, rainy photographs without a clean counterpart, as a pure function of records."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from benchmark import catalog
from benchmark.report.intervals import LEVEL, mean_interval
from benchmark.report.paper import printed
from benchmark.report.rows import INPUT, Given, about, label
from benchmark.text.table import Cell, Column, Row, Table

Record = Mapping[str, Any]

PIQE = ("pyiqa", "reference")
PHOTOGRAPHS = "photographs"  # among a given row's reasons
AGAINST = "against the input"
# pyiqa against pypiqe 1.2 and MATLAB's algorithm in Octave, on 40 photographs of any size
IMPLEMENTATIONS_APART = 0.6


def table2(
    name: str,
    rainy: Record,
    records: Sequence[Record],
    *,
    models: Sequence[str],
    implementation: str = "pyiqa",
    others: Mapping[str, bool] = MappingProxyType({}),
    failures: Sequence[Record] = (),
    given: Sequence[Given] = (),
    beside_printed: bool = True,
    notes: Sequence[str] = (),
) -> Table:
    """Table 2: the quality of real-rain photographs, as taken and as restored by every network.

    Args:
        name: of the files it is written to.
        rainy: the scores of the photographs themselves.
        records: of the scores of the restored ones, one a run.
        models: names of the networks, in the order of the rows.
        implementation: of PIQE, whose figures stand beside the printed ones.
        others: further metrics by name, and whether a lower score is better.
        failures: of the runs that ended without a record.
        given: rows that nobody trained here, behind the others; their records have "row".
        beside_printed: the printed figures stand in brackets.
        notes: printed above the table.

    A record has "photographs" {"title", "count"}, "implementations" {metric: what computed it, or the reason why it
    was not computed}, "images" [{"name", "scene", metric: score}] and, but for the rainy one, "model" and "seed".
    Figures are means over photographs, ± standard error of that mean; for each metric a second column has the mean
    difference to the photographs as taken, with its interval. Both are over scenes (`benchmark.report.intervals`): what
    shows the same, under other rain or nearly, is drawn together.
    """
    paper = printed("table2")
    shown = paper if beside_printed else {}
    used = rainy["implementations"]
    second = next(p for p in PIQE if p != implementation)
    keys = [f"piqe_{implementation}", f"piqe_{second}", "metaiqa", *others]
    titles = [
        f"PIQE ↓\n{_source(rainy, keys[0])}",
        f"PIQE ↓\n{_source(rainy, keys[1])}",
        f"MetaIQA ↑\n{_source(rainy, 'metaiqa')}",
        *(f"{name} {'↓' if lower else '↑'}\n{_source(rainy, name)}" for name, lower in others.items()),
    ]
    printed_as = {keys[0]: "piqe", "metaiqa": "metaiqa"}
    columns = [Column(key, title.rstrip(), 3, spread="sem") for key, title in zip(keys, titles, strict=True)]
    columns += [
        Column(_changed(key), _joined(title, AGAINST), 3) for key, title in zip(keys, titles, strict=True)
    ]
    rows = [
        Row(
            INPUT,
            {k: _cell([rainy], k, None, used) for k in keys} | {_changed(k): Cell() for k in keys},
        )
    ]
    for model in models:
        entry = catalog.network(model)
        own = [r for r in records if r["model"] == model and not r.get("row")]
        reason = "" if own else _failure(model, failures)
        printed_row = shown.get(entry.paper_row or "", {})
        cells = {k: _cell(own, k, printed_row.get(printed_as.get(k, "")), used, reason) for k in keys}
        rows.append(Row(entry.title, cells | _changes(rainy, own, keys, used, reason)))
    for row in given:
        own = [r for r in records if r.get("row") and label(r["row"]["name"], r["row"]["kind"]) == row.label]
        reason = "" if own else row.reasons.get(PHOTOGRAPHS, "not measured")
        cells = {k: _cell(own, k, None, used, reason) for k in keys}
        rows.append(Row(row.label, cells | _changes(rainy, own, keys, used, reason)))
    taken = rainy["photographs"]
    scenes = len({_scene(image) for image in rainy["images"]})
    over = "photographs" if scenes == taken["count"] else f"their {scenes} scenes"
    title = f"Table 2, {taken['count']} rainy pictures ({taken['title']}): mean ± standard error over {over}"
    said = [
        *notes,
        *_footnotes([rainy, *records], paper, over),
        _resolution(rows, columns),
        *about([{**r, "results": {}} for r in records]),
    ]
    return Table(name, title, columns, rows, said)


def _resolution(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """The smallest difference to the input that could have been told, by metric."""
    found = []
    for column in columns:
        halves = [
            (cell.interval[1] - cell.interval[0]) / 2
            for row in rows
            if (cell := row.cells[column.key]).interval is not None
        ]
        if halves:
            metric = column.title.removesuffix(AGAINST).rstrip("\n ,").replace("\n", " ")
            found.append(f"{metric}: {statistics.median(halves):.2f} (median; {max(halves):.2f} at most)")
    told = "; ".join(dict.fromkeys(found)) or "none"
    return (
        f"Resolution, the smallest difference to the input that could have been told ({LEVEL:.0%}, each alone): "
        f"{told}. Rows are not compared with each other."
    )


def _joined(title: str, more: str) -> str:
    """A column's title with more in its second line."""
    return f"{title}, {more}" if title.partition("\n")[2] else f"{title}{more}"


def _changed(key: str) -> str:
    return f"{key}_change"


def _changes(
    rainy: Record, records: Sequence[Record], keys: Sequence[str], used: Mapping[str, str], reason: str
) -> dict[str, Cell]:
    """The mean differences to the photographs as taken, with intervals."""
    cells = {}
    for key in keys:
        before, after = _values(rainy, key), {int(r["seed"]): v for r in records if (v := _values(r, key))}
        names = sorted(set(before).intersection(*after.values())) if after else []
        if not names:
            cells[_changed(key)] = Cell(reason=reason or used.get(key, "not measured"))
            continue
        differences = [[scores[n] - before[n] for n in names] for scores in after.values()]
        several = len(after) > 1
        own = _scenes(rainy, names)
        found = mean_interval(
            differences if several else differences[0], own, list(after) if several else None
        )
        cells[_changed(key)] = Cell(found.mean, interval=found.interval)
    return cells


def _source(rainy: Record, key: str) -> str:
    """What computed a metric; nothing where nothing did."""
    return str(rainy["implementations"][key]) if _values(rainy, key) else ""


def _values(record: Record, key: str) -> dict[str, float]:
    return {str(i["name"]): float(i[key]) for i in record["images"] if i.get(key) is not None}


def _scene(image: Mapping[str, Any]) -> str:
    return str(image.get("scene") or image["name"])


def _scenes(record: Record, names: Sequence[str]) -> list[str]:
    """The scenes of some pictures; a picture of which nobody said it is one of its own."""
    told = {str(image["name"]): _scene(image) for image in record["images"]}
    return [told[name] for name in names]


def _cell(
    records: Sequence[Record], key: str, paper: float | None, used: Mapping[str, str], reason: str = ""
) -> Cell:
    """The mean over photographs of the mean over seeds, and its standard error over scenes."""
    each = [v for v in (_values(r, key) for r in records) if v]
    if not each:
        return Cell(paper=paper, reason=reason or used.get(key, "not measured"))
    names = sorted(set.intersection(*(set(v) for v in each)))
    found = mean_interval([statistics.fmean(v[n] for v in each) for n in names], _scenes(records[0], names))
    error = None if found.low is None else math.sqrt(float(found.moments.variance()[0]))
    return Cell(found.mean, paper, error)


def _failure(model: str, failures: Sequence[Record]) -> str:
    for failure in failures:
        if failure.get("config", {}).get("model", {}).get("name") == model:
            return f"{failure['state']}: {failure['reason']}"
    return "not run"


def _footnotes(records: Sequence[Record], paper: Mapping[str, Mapping[str, float]], over: str) -> list[str]:
    scores = [row["piqe"] for row in paper.values()]
    pairs = list(itertools.combinations(scores, 2))
    close = sum(abs(a - b) < IMPLEMENTATIONS_APART for a, b in pairs)
    apart = [
        abs(i["piqe_pyiqa"] - i["piqe_reference"])
        for r in records
        for i in r["images"]
        if i.get("piqe_pyiqa") is not None and i.get("piqe_reference") is not None
    ]
    here = (
        f" (on the pictures here, {max(apart):.2f} at most and {statistics.median(apart):.2f} in the median)"
        if apart
        else ""
    )
    return [
        f"PIQE by two implementations of the same algorithm differs by {IMPLEMENTATIONS_APART} on the median "
        f"photograph and by up to 3.1{here}. A published difference smaller than that between two implementations "
        f"is not a difference: so it is with {close} of the {len(pairs)} pairs of printed rows. The paper does not "
        "say which implementation it used, nor what the photographs themselves score.",
        f"Against the input: the mean over photographs of restored minus as taken, in brackets its {LEVEL:.0%} "
        f"interval over {over} (Student's t; with several seeds over both); one that leaves out 0 is a "
        "difference of these scores, not of what is seen.",
        "The rainy input's own row says whether a figure means anything: set the paper's level of 18 beside it.",
    ]
