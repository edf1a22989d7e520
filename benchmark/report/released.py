"""Rows that nobody trained here, on every test set, by every convention, beside what was printed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark import catalog
from benchmark.data.specs import dataset_spec
from benchmark.report.comparison import results_on
from benchmark.report.paper import printed
from benchmark.report.rows import Given, about, incomplete, row_of, whole_set
from benchmark.text.table import Cell, Column, Row, Table

Record = Mapping[str, Any]

_CONVENTIONS = ("esdnet", "matlab", "statistic", "float")
_DIGITS = {"psnr": 2, "ssim": 4}
_TRUNCATED = "truncated_"


def released_table(
    name: str,
    datasets: Sequence[str],
    records: Sequence[Record],
    given: Sequence[Given],
    notes: Sequence[str],
) -> Table:
    """A row for each given row and test set.

    Args:
        name: of the files it is written to.
        datasets: test sets, in order.
        records: of the given rows, perhaps among others.
        given: the rows.
        notes: printed above the table.
    """
    paper = printed("table1")
    columns = [Column("pictures", "Pictures", 0)]
    for convention in _CONVENTIONS:
        for key, digits in _DIGITS.items():
            columns.append(Column(f"{key}_{convention}", f"{key.upper()}-Y\n`{convention}`", digits))
    for whose, title in (("publisher", "its publisher\nprinted"), ("paper", "the ESDNet paper\nprinted")):
        for key, digits in _DIGITS.items():
            columns.append(Column(f"{key}_{whose}", f"{key.upper()}-Y\n{title}", digits))
    rows = []
    for dataset in datasets:
        tested = [r for r in records if results_on(r, dataset)]
        if tested:
            title = dataset_spec(dataset).title
            rows.append(Row(f"{title}: rainy input", _cells(tested[0], dataset, "rainy_", {}, {})))
        for row in given:
            for record in (r for r in tested if row_of(r) == row.label):
                rows += _rows(row, record, dataset, paper)
    return Table(
        name,
        "Rows that nobody trained here, by every convention: means over all pictures of a set",
        columns,
        rows,
        [*notes, *incomplete(records, datasets), *about(records)],
    )


def _rows(row: Given, record: Record, dataset: str, paper: Mapping[str, Mapping[str, float]]) -> list[Row]:
    spec = dataset_spec(dataset)
    values = record["row"]["printed"].get(spec.name, ())
    publisher = dict(zip(_DIGITS, map(float, values), strict=False))
    printed_there: dict[str, float] = {}
    if row.kind == "weights" and row.network is not None and whole_set([record], dataset):
        of_network = paper.get(catalog.network(row.network).paper_row or "", {})
        printed_there = {k: v for k in _DIGITS if (v := of_network.get(f"{spec.columns}_{k}")) is not None}
    file = record["row"]["file"]
    title = f"{spec.title}: {row.label}" + (f", {file}" if file and row.kind == "weights" else "")
    found = [Row(title, _cells(record, dataset, "", publisher, printed_there))]
    if f"{_TRUNCATED}psnr_float" in results_on(record, dataset)["mean"]:
        cells = _cells(record, dataset, _TRUNCATED, publisher, printed_there)
        found.append(Row(f"{title}, 8 bits by truncation", cells))
    return found


def _cells(
    record: Record, dataset: str, prefix: str, publisher: Mapping[str, float], paper: Mapping[str, float]
) -> dict[str, Cell]:
    mean = results_on(record, dataset)["mean"]
    cells = {"pictures": Cell(float(mean["n"]))}
    for convention in _CONVENTIONS:
        for key in _DIGITS:
            value = mean.get(f"{prefix}{key}_{convention}")
            cells[f"{key}_{convention}"] = Cell(
                None if value is None else float(value), reason="not measured"
            )
    for whose, values in (("publisher", publisher), ("paper", paper)):
        for key in _DIGITS:
            cells[f"{key}_{whose}"] = Cell(values.get(key), reason="")
    return cells
