"""What the statistics say of records: marks in a table's cells, the sentence beneath it, and the table of ranks."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.data.specs import dataset_spec, result_key
from benchmark.means import counted
from benchmark.report.statistics import (
    LEVEL,
    RESAMPLES,
    Resampled,
    Scores,
    rankings,
    resample,
    undecided,
)
from benchmark.report.table import BEST, TIED, Cell, Column, Row, Table

Record = Mapping[str, Any]


def results_on(record: Record, dataset: str) -> Mapping[str, Any]:
    """What a record has of a test set; empty where it was not tested on it."""
    found: Mapping[str, Any] = record["results"].get(result_key(dataset), {})
    return found


def scores(records: Sequence[Record], dataset: str, column: str) -> Scores | None:
    """A network's scores from its records, by seed and image; None where the records have no images."""
    runs: dict[int, dict[str, float]] = {}
    for record in records:
        rows = results_on(record, dataset).get("images")
        if rows:
            with contextlib.suppress(KeyError):
                runs[int(record["config"]["seed"])] = {
                    row["name"]: counted(column, row[column]) for row in rows
                }
    return Scores.of(runs)


def compare(own: Mapping[str, Sequence[Record]], dataset: str, column: str) -> Resampled:
    """The resampled means of networks (or variants) on one test set.

    Args:
        own: each one's records, trained on what `dataset` is tested after.
        dataset: the test set.
        column: of its images' rows.
    """
    found = {name: s for name, r in own.items() if (s := scores(r, dataset, column)) is not None}
    return resample(found, dataset, dataset_spec(dataset).training)


def average(sets: Sequence[Resampled]) -> Resampled:
    """The resampled means over test sets, of those that are in all of them."""
    names = set.intersection(*(set(s.means) for s in sets)) if sets else set()
    return Resampled(
        {n: np.mean([s.means[n] for s in sets], axis=0) for n in sorted(names)},
        {n: float(np.mean([s.observed[n] for s in sets])) for n in sorted(names)},
        sum(s.images for s in sets),
        sum(s.left_out for s in sets),
    )


def marked(
    cells: Mapping[str, Cell], resampled: Resampled, reference: str | None = None, lower_better: bool = False
) -> dict[str, Cell]:
    """The cells of a column, the best marked, and those that cannot be told from it.

    Args:
        cells: by network.
        resampled: of the same column.
        reference: with which to compare instead of the best.
        lower_better: whether the lowest is the best, instead of the highest.
    """
    values = {n: c.value for n, c in cells.items() if c.value is not None and math.isfinite(c.value)}
    if len(values) < 2 or not resampled.means:
        return dict(cells)
    best = (min if lower_better else max)(values, key=lambda n: values[n])
    tied = undecided(resampled.means, reference or best)
    result = {}
    for name, cell in cells.items():
        marks = [*([BEST] if name == best else []), *([TIED] if name in tied and name in values else [])]
        result[name] = dataclasses.replace(cell, mark=" ".join(marks))
    return result


def resampled_over(records: Sequence[Record]) -> str:
    """What is drawn anew: images and seeds, or images alone where there is one seed."""
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for r in records:
        config = r["config"]
        key = (config["model"]["name"], str(config["model"].get("options")), config["data"]["name"])
        seeds.setdefault(key, set()).add(config["seed"])
    single = [len(s) == 1 for s in seeds.values()]
    if all(single):
        return "images alone: with one seed each, what another seed would give is not in it"
    return "images and seeds, images alone for what has one seed" if any(single) else "images and seeds"


def sentence(sets: Sequence[Resampled], records: Sequence[Record], reference: str = "the best") -> list[str]:
    """What the marks mean and what they were made from, for the notes of a table; nothing where there are none."""
    if not any(len(s.means) > 1 for s in sets):
        return []
    over = resampled_over(records)
    left_out = max(s.left_out for s in sets)
    return [
        f"Bold: the best of a column. ≈: not to be told from {reference} at {LEVEL:.0%}, by a paired bootstrap "
        f"({RESAMPLES:,} resamples) over {over}. Not corrected for the number of comparisons."
        + (f" Images without a finite score are not compared (up to {left_out} a set)." if left_out else "")
    ]


def seeds_note(seeds: int) -> list[str]:
    """How several seeds are shown."""
    if seeds < 2:
        return []
    return [
        f"Mean ± sample standard deviation over {seeds} seeds; where some are missing, how many there are."
    ]


def rank_table(
    name: str,
    title: str,
    sets: Mapping[str, Sequence[Resampled]],
    labels: Mapping[str, str],
    over: str,
    notes: Sequence[str] = (),
) -> Table:
    """Mean ranks over test sets with intervals, and the probability of being the best.

    Args:
        name: of the files it is written to.
        title: for people.
        sets: for each metric ("PSNR-Y"), the resampled means on every test set.
        labels: each network's, in the order of the rows.
        over: what was drawn anew.
        notes: printed with the table.
    """
    columns = []
    rows: dict[str, dict[str, Cell]] = {n: {} for n in labels}
    for metric, resampled in sets.items():
        key = metric.partition("-")[0].lower()
        rank, best = f"{key}_rank", f"{key}_best"
        columns += [
            Column(rank, f"Mean rank\n{metric}", 2),
            Column(best, f"Best in % of\nresamples, {metric}", 1),
        ]
        found = rankings(resampled)
        top = min((r.mean_rank for r in found.values()), default=0.0)
        for network, cells in rows.items():
            place = found.get(network)
            if place is None:
                cells[rank] = cells[best] = Cell(reason="not measured on all test sets")
                continue
            mark = BEST if place.mean_rank == top and len(found) > 1 else ""
            cells[rank] = Cell(place.mean_rank, mark=mark, interval=(place.low, place.high))
            cells[best] = Cell(100 * place.best)
    ranked = [
        f"In brackets: the {LEVEL:.0%} interval of the mean rank in {RESAMPLES:,} resamples over {over}. "
        "Ranks are among the networks that were measured on all test sets, 1 the best."
    ]
    return Table(
        name, title, columns, [Row(labels[n], cells) for n, cells in rows.items()], [*ranked, *notes]
    )
