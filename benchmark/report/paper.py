"""The figures that the paper printed, as data."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path


def results(path: str) -> Path:
    """A file of `results/` that the suite reads: in the installed package, or in the checkout."""
    installed = Path(__file__).resolve().parents[1] / "results" / path
    return installed if installed.exists() else Path(__file__).resolve().parents[2] / "results" / path


@cache
def printed(table: str) -> dict[str, dict[str, float]]:
    """A printed table: {row: {column: value}}; cells that the paper leaves empty are absent.

    Args:
        table: "table1" … "table5", "spikerain_table1".
    """
    rows: dict[str, dict[str, float]] = {}
    with results(f"paper/{table}.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            label = next(iter(row.values()))
            values: dict[str, float] = {}
            for column, text in row.items():
                try:
                    values[column] = float(text)
                except ValueError:  # names and families
                    continue
            rows[label] = values
    return rows
