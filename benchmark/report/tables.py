"""The tables of the paper, as pure functions of records and of the printed figures."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from benchmark import catalog
from benchmark.data.specs import COLUMNS, column_key, dataset_spec, folder_spec, result_key
from benchmark.report.comparison import (
    average,
    compare,
    marked,
    rank_table,
    resampled_over,
    results_on,
    seeds_note,
    sentence,
)
from benchmark.report.paper import printed
from benchmark.report.statistics import Resampled
from benchmark.report.table import Cell, Column, Row, Table

Record = Mapping[str, Any]

_METRICS = (("psnr", "PSNR-Y", 2), ("ssim", "SSIM-Y", 4))


class _Own:
    """The records of one network, by what it was trained on."""

    def __init__(self, trained_on: Mapping[str, Sequence[Record]] = MappingProxyType({})) -> None:
        self.trained_on = trained_on

    def tested_on(self, dataset: str) -> Sequence[Record]:
        """Those of the runs that are to be tested on a set."""
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
        own = found.setdefault(config["model"]["name"], {})
        own.setdefault(_trained_on(config), []).append(record)
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
    """A sentence for each mean of PSNR that leaves pictures out because they are identical to their targets."""
    said = []
    for record in records:
        for dataset in datasets:
            mean = results_on(record, dataset).get("mean", {})
            for column, what in ((f"psnr_{convention}", "restored"), (f"rainy_psnr_{convention}", "rainy")):
                count = mean.get("infinite", {}).get(column)
                if count:
                    by = catalog.network(record["config"]["model"]["name"]).title
                    shown = f"restored by {by}" if what == "restored" else "as they came"
                    where = f"{count} of {mean['n']} pictures of {dataset_spec(dataset).title}, {shown},"
                    said.append(
                        f"{where} are identical to their targets: their "
                        "PSNR is infinite and in no mean (where all are, the mean is ∞)."
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
    convention: str = "esdnet",
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
        costs: parameters and operations of the full networks, by name.
        convention: of the metrics; figures of different conventions never share a table.
        notes: printed above the table.
    """
    paper = printed("table1")
    columns = [
        Column(f"{column_key(dataset)}_{key}", f"{dataset_spec(dataset).title}\n{title}", digits)
        for dataset in datasets
        for key, title, digits in _METRICS
    ]
    columns += [Column(f"average_{key}", f"Average\n{title}", digits) for key, title, digits in _METRICS]
    columns += [
        Column("params_m", "Parameters\n(M)", 3, difference=False),
        Column("operations_g", "Operations\nat 256² (GMAC)", 3, difference=False),
    ]
    # the printed average is over the paper's four sets: beside a mean over others it would say nothing
    as_printed = sorted(str(dataset_spec(d).columns) for d in datasets) == sorted(COLUMNS)
    rows = []
    with_input = [r for r in records if r["results"]]
    if with_input:
        rows.append(_input_row(datasets, with_input, convention, columns))
    cells_of: dict[str, dict[str, Cell]] = {}
    by_model = _by_model(records)
    for model in models:
        entry = catalog.network(model)
        own = by_model.get(model, _Own())
        printed_row = paper.get(entry.paper_row or "", {}) if convention == "esdnet" else {}
        cells: dict[str, Cell] = {}
        for dataset in datasets:
            reason = _reason(model, dataset, own, failures, absent or {})
            spec = dataset_spec(dataset)
            of_this = own.tested_on(dataset)
            for key, _, _ in _METRICS:
                values = means_on(of_this, dataset, f"{key}_{convention}")
                paper_value = printed_row.get(f"{spec.columns}_{key}")
                cells[f"{column_key(dataset)}_{key}"] = over_seeds(values, seeds, paper_value, reason)
        for key, _, _ in _METRICS:
            cells[f"average_{key}"] = _average_over_seeds(
                own,
                datasets,
                f"{key}_{convention}",
                seeds,
                printed_row.get(f"average_{key}") if as_printed else None,
            )
        cost = (costs or {}).get(model)
        for key, field, scale in (("params_m", "params", 1e6), ("operations_g", "operations", 1e9)):
            value = cost[field] / scale if cost and cost.get(field) is not None else None
            printed_value = printed_row.get("params_m" if key == "params_m" else "flops_g")
            cells[key] = Cell(value, printed_value, reason="not counted")
        cells_of[model] = cells
    compared = _mark(cells_of, datasets, by_model, convention)
    rows += [Row(catalog.network(model).title, cells) for model, cells in cells_of.items()]
    return Table(
        name,
        f"Table 1, PSNR-Y (dB) and SSIM-Y, convention `{convention}`",
        columns,
        rows,
        [
            *notes,
            *seeds_note(seeds),
            *sentence(compared, records),
            *infinite_notes(records, datasets, convention),
        ],
    )


def ranks(
    name: str,
    datasets: Sequence[str],
    records: Sequence[Record],
    *,
    models: Sequence[str],
    convention: str = "esdnet",
    notes: Sequence[str] = (),
) -> Table:
    """The rank table beside Table 1: mean ranks over test sets with intervals; arguments as `table1`'s."""
    by_model = _by_model(records)
    whole = {m: by_model.get(m, _Own()).whole(datasets) for m in models}
    return rank_table(
        name,
        f"Mean ranks over {len(datasets)} test sets, convention `{convention}`",
        {
            title: [
                compare(
                    {m: own.tested_on(d) for m, own in whole.items()},
                    d,
                    f"{key}_{convention}",
                )
                for d in datasets
            ]
            for key, title, _ in _METRICS
        },
        {m: catalog.network(m).title for m in models},
        resampled_over(records),
        notes,
    )


def _mark(
    cells: dict[str, dict[str, Cell]],
    datasets: Sequence[str],
    by_model: Mapping[str, _Own],
    convention: str,
) -> list[Resampled]:
    """Mark the best of each column and what cannot be told from it; returns what that was found from."""
    compared = []
    own = {m: by_model.get(m, _Own()) for m in cells}
    whole = {m: o.whole(datasets) for m, o in own.items()}
    for key, _, _ in _METRICS:
        column = f"{key}_{convention}"
        on_each = {d: compare({m: o.tested_on(d) for m, o in own.items()}, d, column) for d in datasets}
        over_all = (
            list(on_each.values())
            if all(whole[m] is own[m] for m in cells)
            else [compare({m: o.tested_on(d) for m, o in whole.items()}, d, column) for d in datasets]
        )
        for title, resampled in [*on_each.items(), ("average", average(over_all))]:
            name = f"{column_key(title)}_{key}"
            for model, cell in marked({m: c[name] for m, c in cells.items()}, resampled).items():
                cells[model][name] = cell
            compared.append(resampled)
    return compared


def _input_row(
    datasets: Sequence[str], records: Sequence[Record], convention: str, columns: Sequence[Column]
) -> Row:
    cells = {c.key: Cell(reason="") for c in columns}
    for dataset in datasets:
        for key, _, _ in _METRICS:
            column = f"rainy_{key}_{convention}"
            value = next((v for r in records for v in means_on([r], dataset, column)), None)
            cells[f"{column_key(dataset)}_{key}"] = Cell(value, reason="" if value is not None else "not run")
    for key, _, _ in _METRICS:
        cells[f"average_{key}"] = _average([cells[f"{column_key(d)}_{key}"] for d in datasets], None)
    return Row("Rainy input", cells)
