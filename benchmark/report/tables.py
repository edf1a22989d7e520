"""The tables of the paper, as pure functions of records and of the printed figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark import catalog
from benchmark.data.specs import dataset_spec
from benchmark.report.paper import printed
from benchmark.report.table import Cell, Column, Row, Table

Record = Mapping[str, Any]

_METRICS = (("psnr", "PSNR-Y", 2), ("ssim", "SSIM-Y", 4))


def means_on(records: Sequence[Record], dataset: str, column: str) -> list[float]:
    """The mean of a column on one test set, from each record that has it."""
    found = [r["results"][dataset]["mean"].get(column) for r in records if dataset in r["results"]]
    return [float(v) for v in found if v is not None]


def over_seeds(values: Sequence[float], wanted: int, paper: float | None, reason: str) -> Cell:
    """The mean over seeds, with the sample standard deviation where there are several."""
    if not values:
        return Cell(paper=paper, reason=reason, wanted=wanted)
    deviation = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Cell(statistics.fmean(values), paper, deviation, len(values), wanted)


def _average(cells: Sequence[Cell], paper: float | None) -> Cell:
    """The mean over test sets, only where all of them were measured."""
    values = [c.value for c in cells]
    if any(v is None for v in values):
        return Cell(paper=paper, reason="not all test sets were measured")
    return Cell(statistics.fmean(v for v in values if v is not None), paper)


def _reason(
    model: str, dataset: str, records: Sequence[Record], failures: Sequence[Record], absent: Mapping[str, str]
) -> str:
    if dataset in absent:
        return absent[dataset]
    for record in records:
        if dataset in record.get("missing", {}):
            return str(record["missing"][dataset])
    trained_on = dataset_spec(dataset).training
    for failure in failures:
        config = failure.get("config", {})
        if config.get("model", {}).get("name") == model and config.get("data", {}).get("name") == trained_on:
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
        Column(f"{dataset}_{key}", f"{dataset_spec(dataset).title}\n{title}", digits)
        for dataset in datasets
        for key, title, digits in _METRICS
    ]
    columns += [Column(f"average_{key}", f"Average\n{title}", digits) for key, title, digits in _METRICS]
    columns += [
        Column("params_m", "Parameters\n(M)", 3, difference=False),
        Column("operations_g", "Operations\nat 256² (GMAC)", 3, difference=False),
    ]
    rows = []
    with_input = [r for r in records if r["results"]]
    if with_input:
        rows.append(_input_row(datasets, with_input, convention, columns))
    for model in models:
        entry = catalog.network(model)
        own = [r for r in records if r["config"]["model"]["name"] == model]
        printed_row = paper.get(entry.paper_row or "", {}) if convention == "esdnet" else {}
        cells: dict[str, Cell] = {}
        for dataset in datasets:
            reason = _reason(model, dataset, own, failures, absent or {})
            spec = dataset_spec(dataset)
            trained_on = spec.training
            of_this = [r for r in own if r["config"]["data"]["name"] == trained_on]
            for key, _, _ in _METRICS:
                values = means_on(of_this, dataset, f"{key}_{convention}")
                paper_value = printed_row.get(f"{spec.columns}_{key}")
                cells[f"{dataset}_{key}"] = over_seeds(values, seeds, paper_value, reason)
        for key, _, _ in _METRICS:
            cells[f"average_{key}"] = _average(
                [cells[f"{d}_{key}"] for d in datasets], printed_row.get(f"average_{key}")
            )
        cost = (costs or {}).get(model)
        for key, field, scale in (("params_m", "params", 1e6), ("operations_g", "operations", 1e9)):
            value = cost[field] / scale if cost and cost.get(field) is not None else None
            printed_value = printed_row.get("params_m" if key == "params_m" else "flops_g")
            cells[key] = Cell(value, printed_value, reason="not counted")
        rows.append(Row(entry.title, cells))
    return Table(name, f"Table 1, PSNR-Y (dB) and SSIM-Y, convention `{convention}`", columns, rows, notes)


def _input_row(
    datasets: Sequence[str], records: Sequence[Record], convention: str, columns: Sequence[Column]
) -> Row:
    cells = {c.key: Cell(reason="") for c in columns}
    for dataset in datasets:
        for key, _, _ in _METRICS:
            values = means_on(records, dataset, f"rainy_{key}_{convention}")
            cells[f"{dataset}_{key}"] = Cell(values[0]) if values else Cell(reason="not run")
    for key, _, _ in _METRICS:
        cells[f"average_{key}"] = _average([cells[f"{d}_{key}"] for d in datasets], None)
    return Row("Rainy input", cells)
