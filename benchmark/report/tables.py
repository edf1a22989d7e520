"""The tables of the paper, as pure functions of records and of the printed figures."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmark import catalog
from benchmark.data.specs import COLUMNS, column_key, dataset_spec, folder_spec, result_key
from benchmark.means import PSNR_CAP
from benchmark.report.comparison import (
    FEW_SEEDS,
    Family,
    Scenes,
    average,
    compare,
    marked,
    rank_table,
    results_on,
    seeds_note,
    sentences,
)
from benchmark.report.paper import printed
from benchmark.report.rows import INPUT, Given, about, incomplete, row_of, title_of
from benchmark.text.table import Cell, Column, Row, Table

Record = Mapping[str, Any]

_METRICS = (("psnr", "PSNR-Y", 2), ("ssim", "SSIM-Y", 4))


@dataclass(frozen=True)
class _Shown:
    """A metric as Table 1 has it: its key in the table, title, digits, the records' column, and which is better."""

    key: str
    title: str
    digits: int
    column: str
    lower_better: bool = False


def measured_by(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """The further metrics of records by name, with all their sources (or reasons why there is none)."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        for name, told in record.get("metrics", {}).items():
            one = found.setdefault(name, {**told, "sources": [], "reasons": []})
            for key in ("source", "reason"):
                if told.get(key) and told[key] not in one[f"{key}s"]:
                    one[f"{key}s"].append(told[key])
    return found


def _shown(convention: str, metrics: Mapping[str, Mapping[str, Any]]) -> list[_Shown]:
    shown = [_Shown(key, title, digits, f"{key}_{convention}") for key, title, digits in _METRICS]
    for name, told in metrics.items():
        title = f"{told['title']} {'↓' if told['lower_better'] else '↑'}"
        shown.append(_Shown(name, title, int(told["digits"]), name, bool(told["lower_better"])))
    return shown


def _why_not(name: str, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Why a further metric could not be had; empty where it could."""
    told = metrics.get(name, {})
    reasons = "; ".join(told.get("reasons", ()))
    return f"{told['title']}: {reasons}" if reasons else ""


def _sources(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What computed the further metrics; several sources are figures that are not to be compared."""
    said = []
    for told in metrics.values():
        many = len(told["sources"]) > 1
        if told["sources"]:
            said.append(
                f"{told['title']}: {'; '.join(told['sources'])}."
                + " Rows by different ones are not to be compared." * many
            )
    return said


_OF_VARIANTS = (
    "Parameters and operations (multiplications and accumulates, dense, over all time steps) are those of the variants "
    "that were trained; --full-costs gives the full networks'."
)

_GIVEN = ""  # instead of what it was trained on: a record of a given row, which says by itself what it is for


class _Own:
    """The records of one network by what it was trained on, or those of a given row."""

    def __init__(self, trained_on: Mapping[str, Sequence[Record]] = MappingProxyType({})) -> None:
        self.trained_on = trained_on

    def tested_on(self, dataset: str) -> Sequence[Record]:
        """Those of the runs that are to be tested on a set."""
        if _GIVEN in self.trained_on:
            return [r for r in self.trained_on[_GIVEN] if results_on(r, dataset)]
        return self.trained_on.get(dataset_spec(dataset).training, [])

    def whole(self, datasets: Sequence[str]) -> _Own:
        """Those of the seeds that were tested on every set; itself where that is all of them."""
        seeds = set.intersection(
            *({r["config"]["seed"] for r in self.tested_on(d) if results_on(r, d)} for d in datasets)
        )
        kept = {
            name: [r for r in records if r["config"]["seed"] in seeds]
            for name, records in self.trained_on.items()
        }
        return _Own(kept) if kept != self.trained_on else self


def _by_model(records: Sequence[Record]) -> dict[str, _Own]:
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        config = record["config"]
        own = found.setdefault(row_of(record), {})
        own.setdefault(_GIVEN if record.get("row") else _trained_on(config), []).append(record)
    return {model: _Own(trained_on) for model, trained_on in found.items()}


def _trained_on(config: Mapping[str, Any]) -> str:
    """What a run was trained on, as `Dataset.training` says it."""
    data = config.get("data", {})
    folder = data.get("name") == "folder" and data.get("root")
    return folder_spec(data["root"]).name if folder else str(data.get("name"))


def means_on(records: Sequence[Record], dataset: str, column: str) -> list[float]:
    """The mean of a column on one test set, from each record that has it."""
    found = [results_on(r, dataset).get("mean", {}).get(column) for r in records]
    return [float(v) for v in found if v is not None]


def over_seeds(values: Sequence[float], wanted: int, paper: float | None, reason: str) -> Cell:
    """The mean over seeds, with the sample standard deviation where there are several."""
    if not values:
        return Cell(paper=paper, reason=reason, wanted=wanted)
    deviation = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Cell(statistics.fmean(values), paper, deviation, len(values), wanted)


def infinite_notes(records: Sequence[Record], datasets: Sequence[str], convention: str) -> list[str]:
    """A sentence for each mean of PSNR with pictures that are identical to their targets."""
    said = []
    for record in records:
        for dataset in datasets:
            mean = results_on(record, dataset).get("mean", {})
            for column, what in ((f"psnr_{convention}", "restored"), (f"rainy_psnr_{convention}", "rainy")):
                count = mean.get("infinite", {}).get(column)
                if count:
                    shown = f"restored by {title_of(record)}" if what == "restored" else "as they came"
                    where = f"{count} of {mean['n']} pictures of {dataset_spec(dataset).title}, {shown},"
                    said.append(
                        f"{where} are identical to their targets: their PSNR is infinite and counts as "
                        f"{PSNR_CAP:g} dB, the most that any counts in a mean."
                    )
    return list(dict.fromkeys(said))


def _average(cells: Sequence[Cell], paper: float | None) -> Cell:
    """The mean over test sets, only where all of them were measured."""
    values = [c.value for c in cells]
    if any(v is None for v in values):
        return Cell(paper=paper, reason="not all test sets were measured")
    return Cell(statistics.fmean(v for v in values if v is not None), paper)


def _average_over_seeds(
    own: _Own, datasets: Sequence[str], column: str, wanted: int, paper: float | None
) -> Cell:
    """The mean over test sets for each seed that has them all, then over seeds."""
    means: dict[int, list[float]] = {}
    for dataset in datasets:
        for record in own.tested_on(dataset):
            for value in means_on([record], dataset, column):
                means.setdefault(record["config"]["seed"], []).append(value)
    whole = [statistics.fmean(m) for m in means.values() if len(m) == len(datasets)]
    return over_seeds(whole, wanted, paper, "not all test sets were measured")


def _reason(
    model: str, dataset: str, own: _Own, failures: Sequence[Record], absent: Mapping[str, str]
) -> str:
    if dataset in absent:
        return absent[dataset]
    for record in itertools.chain.from_iterable(own.trained_on.values()):
        if result_key(dataset) in record.get("missing", {}):
            return str(record["missing"][result_key(dataset)])
    trained_on = dataset_spec(dataset).training
    for failure in failures:
        config = failure.get("config", {})
        if config.get("model", {}).get("name") == model and _trained_on(config) == trained_on:
            return f"{failure['state']}: {failure['reason']}"
    return "not run"


def table1(
    name: str,
    datasets: Sequence[str],
    records: Sequence[Record],
    *,
    models: Sequence[str],
    seeds: int = 1,
    failures: Sequence[Record] = (),
    absent: Mapping[str, str] | None = None,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
    variants: Collection[str] = (),
    convention: str = "esdnet",
    metrics: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    given: Sequence[Given] = (),
    notes: Sequence[str] = (),
) -> Table:
    """Table 1: every network on every test set, with the paper's figures beside.

    Args:
        name: of the files it is written to.
        datasets: test sets, in the order of the columns.
        records: of the runs.
        models: names of the networks, in the order of the rows.
        seeds: how many runs a cell should have.
        failures: of the runs that ended without a record.
        absent: datasets that are not there, with the reason.
        costs: parameters and operations by name.
        variants: networks whose costs are not those of the full network, whose figures were printed.
        convention: of the metrics; figures of different conventions never share a table.
        metrics: further ones, as `measured_by` gives them.
        given: rows that nobody trained here, behind the others; their records are among `records`.
        notes: printed above the table.
    """
    paper = printed("table1")
    shown = _shown(convention, metrics)
    columns = [
        Column(f"{column_key(dataset)}_{m.key}", f"{dataset_spec(dataset).title}\n{m.title}", m.digits)
        for dataset in datasets
        for m in shown
    ]
    columns += [Column(f"average_{m.key}", f"Average\n{m.title}", m.digits) for m in shown]
    columns += [
        Column("params_m", "Parameters\n(M)", 3, difference=False),
        Column("operations_g", "Operations\nat 256² (GMAC)", 3, difference=False),
    ]
    beside_printed = not shows_only_that_it_works(datasets, seeds)
    # the printed average is over the paper's four sets: beside a mean over others it would say nothing
    as_printed = sorted(str(dataset_spec(d).columns) for d in datasets) == sorted(COLUMNS)
    rows = []
    with_input = [r for r in records if r["results"]]
    if with_input:
        rows.append(_input_row(datasets, with_input, shown, columns, metrics))
    cells_of: dict[str, dict[str, Cell]] = {}
    by_model = _by_model(records)
    for model in models:
        entry = catalog.network(model)
        own = by_model.get(model, _Own())
        full_row = paper.get(entry.paper_row or "", {})
        printed_row = full_row if convention == "esdnet" and beside_printed else {}
        cells: dict[str, Cell] = {}
        for dataset in datasets:
            reason = _reason(model, dataset, own, failures, absent or {})
            spec = dataset_spec(dataset)
            of_this = own.tested_on(dataset)
            for m in shown:
                values = means_on(of_this, dataset, m.column)
                paper_value = printed_row.get(f"{spec.columns}_{m.key}")
                why = _why_not(m.key, metrics) if of_this else ""
                cells[f"{column_key(dataset)}_{m.key}"] = over_seeds(
                    values, seeds, paper_value, why or reason
                )
        for m in shown:
            average = printed_row.get(f"average_{m.key}") if as_printed else None
            cells[f"average_{m.key}"] = _average_over_seeds(own, datasets, m.column, seeds, average)
        cost = (costs or {}).get(model)
        for key, field, scale in (("params_m", "params", 1e6), ("operations_g", "operations", 1e9)):
            value = cost[field] / scale if cost and cost.get(field) is not None else None
            printed_value = full_row.get("params_m" if key == "params_m" else "flops_g")
            printed_value = printed_value if model not in variants and convention == "esdnet" else None
            cells[key] = Cell(value, printed_value, reason="not counted")
        cells_of[model] = cells
    for row in given:
        own = by_model.get(row.label, _Own())
        cells_of[row.label] = _given_cells(
            row, own, datasets, shown, metrics, paper if convention == "esdnet" else {}
        )
    family = _mark(cells_of, datasets, by_model, shown, Scenes(records, datasets))
    labels = {row.label: row.label for row in given}
    rows += [Row(labels.get(m) or catalog.network(m).title, cells) for m, cells in cells_of.items()]
    return Table(
        name,
        f"Table 1, PSNR-Y (dB) and SSIM-Y, convention `{convention}`",
        columns,
        rows,
        [
            *notes,
            *seeds_note(seeds),
            *([_OF_VARIANTS] if variants else []),
            *sentences(family, {m.title: m.digits for m in shown}),
            *infinite_notes(records, datasets, convention),
            *_sources(metrics),
            *incomplete(records, datasets),
            *about(records),
        ],
    )


def shows_only_that_it_works(datasets: Sequence[str], seeds: int) -> bool:
    """Whether a table is of embedded sets and too few seeds to stand beside printed figures."""
    return seeds < FEW_SEEDS and all(dataset_spec(d).embedded for d in datasets)


def _given_cells(
    row: Given,
    own: _Own,
    datasets: Sequence[str],
    shown: Sequence[_Shown],
    metrics: Mapping[str, Mapping[str, Any]],
    paper: Mapping[str, Mapping[str, float]],
) -> dict[str, Cell]:
    """The cells of a row that nobody trained here."""
    cells = {}
    for dataset in datasets:
        tested = own.tested_on(dataset)
        printed_row = row.printed(paper, dataset, tested)
        for m in shown:
            reason = (_why_not(m.key, metrics) if tested else "") or row.reasons.get(dataset, "not measured")
            printed_value = printed_row.get(f"{dataset_spec(dataset).columns}_{m.key}")
            cells[f"{column_key(dataset)}_{m.key}"] = over_seeds(
                means_on(tested, dataset, m.column), 1, printed_value, reason
            )
    for m in shown:
        cells[f"average_{m.key}"] = _average_over_seeds(own, datasets, m.column, 1, None)
    for key, counted, scale in (("params_m", "params", 1e6), ("operations_g", "operations", 1e9)):
        reason = "no network of this suite" if row.network is None else "not counted"
        cells[key] = Cell(row.cost[counted] / scale if row.cost else None, reason=reason)
    return cells


def ranks(
    name: str,
    datasets: Sequence[str],
    records: Sequence[Record],
    *,
    models: Sequence[str],
    convention: str = "esdnet",
    given: Sequence[Given] = (),
    notes: Sequence[str] = (),
) -> Table | None:
    """The rank table beside Table 1: mean ranks over test sets with intervals; arguments as `table1`'s.

    None where the comparisons are withheld.
    """
    by_model = _by_model(records)
    labels = {m: catalog.network(m).title for m in models} | {row.label: row.label for row in given}
    whole = {m: by_model.get(m, _Own()).whole(datasets) for m in labels}
    scenes = Scenes(records, datasets)
    return rank_table(
        name,
        f"Mean ranks over {len(datasets)} test set{'s' * (len(datasets) != 1)}, convention `{convention}`",
        {
            title: [
                compare(
                    {m: own.tested_on(d) for m, own in whole.items()},
                    d,
                    f"{key}_{convention}",
                    scenes,
                )
                for d in datasets
            ]
            for key, title, _ in _METRICS
        },
        labels,
        [*notes, *incomplete(records, datasets), *about(records)],
    )


def _mark(
    cells: dict[str, dict[str, Cell]],
    datasets: Sequence[str],
    by_model: Mapping[str, _Own],
    shown: Sequence[_Shown],
    scenes: Scenes,
) -> Family:
    """Mark the best of each column and what cannot be told from it; returns what that was found from."""
    own = {m: by_model.get(m, _Own()) for m in cells}
    columns, metrics = {}, {}
    for metric in shown:
        on_each = {
            d: compare({m: o.tested_on(d) for m, o in own.items()}, d, metric.column, scenes)
            for d in datasets
        }
        for title, compared in [*on_each.items(), ("average", average(list(on_each.values())))]:
            key = f"{column_key(title)}_{metric.key}"
            columns[key], metrics[key] = compared, metric
    family = Family(columns, metrics={key: m.title for key, m in metrics.items()})
    for key, metric in metrics.items():
        column = {m: c[key] for m, c in cells.items()}
        for model, cell in marked(column, family, key, lower_better=metric.lower_better).items():
            cells[model][key] = cell
    return family


def _input_row(
    datasets: Sequence[str],
    records: Sequence[Record],
    shown: Sequence[_Shown],
    columns: Sequence[Column],
    metrics: Mapping[str, Mapping[str, Any]],
) -> Row:
    cells = {c.key: Cell(reason="") for c in columns}
    for dataset in datasets:
        for m in shown:
            value = next((v for r in records for v in means_on([r], dataset, f"rainy_{m.column}")), None)
            reason = "" if value is not None else _why_not(m.key, metrics) or "not run"
            cells[f"{column_key(dataset)}_{m.key}"] = Cell(value, reason=reason)
    for m in shown:
        cells[f"average_{m.key}"] = _average([cells[f"{column_key(d)}_{m.key}"] for d in datasets], None)
    return Row(INPUT, cells)
