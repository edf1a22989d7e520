"""What all trainings of Table 1 take: a step's time, measured, times the paper's number of steps.

Section 4.1: batch 12, patches of 64, 1000 epochs; the released code takes one crop of each image an epoch. Each
network is trained on Rain200L, Rain200H and Rain1200; Rain12 is tested with the model of Rain200L.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark import catalog
from benchmark.bench.case import NotMeasured
from benchmark.bench.points import Point, measure_point
from benchmark.bench.results import by_machine, circumstances, duration, size_of, table
from benchmark.data.datasets import MOST_HELD_OUT, held_out_count
from benchmark.files import write_text
from benchmark.spec.resolve import resolve

BATCH, PATCH, EPOCHS = 12, 64, 1000
IMAGES = {"Rain200L": 1800, "Rain200H": 1800, "Rain1200": 12_000}
"""Training pairs of the published datasets."""

Row = dict[str, Any]


def steps(images: int) -> int:
    """Optimiser steps of one training.

    >>> steps(1800)
    150000
    """
    return EPOCHS * (images // BATCH)


def measure(
    networks: Iterable[str],
    device: str,
    threads: int,
    seconds: float = 30.0,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """A row for each network: its step's time, or why there is none."""
    rows = []
    for entry in map(catalog.network, networks):
        progress(f"reproduction: {entry.title}")
        row: Row = {"network": entry.name, "title": entry.title, "in_table_1": entry.paper_row is not None}
        try:
            row |= measure_point(
                Point(entry.name, batch=BATCH, patch=PATCH, device=device, threads=threads, seconds=seconds)
            )
        except NotMeasured as error:
            row["reason"] = str(error)
        rows.append(row)
    return rows


def hours(row: Row, images: Sequence[int] = tuple(IMAGES.values())) -> float | None:
    """Hours of a network's trainings on datasets of so many images; None where its step was not measured."""
    return row["seconds"] * sum(map(steps, images)) / 3600 if "seconds" in row else None


def write(folder: Path) -> Path:
    """Draw `reproduction.md` from what all machines measured; returns its path."""
    share = resolve(["recipe=paper"]).recipe.validation
    whole = sum(map(steps, IMAGES.values()))
    kept = sum(steps(n - held_out_count(n, share)) for n in IMAGES.values())
    lines = [
        "# What a full reproduction of Table 1 costs",
        "",
        "One training step of every network in its full size by recipe `paper` (batch 12, 64×64, Adam, 1 − SSIM,",
        "float32), times the paper's schedule on all images: 1000 epochs of one crop of each (`recipe.select=last`; "
        f"recipe `paper` else holds out {100 * share:g} % of the pairs, at most {MOST_HELD_OUT}, to choose a "
        f"checkpoint by: {kept:,} steps in place of {whole:,}). "
        + ", ".join(f"{name} {images:,} pairs, {steps(images):,} steps" for name, images in IMAGES.items())
        + ".",
        "Rain12 is tested with the model of Rain200L. One seed; without validation, tests and data loading.",
    ]
    for name, data in by_machine(folder, "reproduction-*.json"):
        lines += ["", f"## {name}", "", *_section(data)]
    path = folder / "reproduction.md"
    write_text(path, "\n".join(lines) + "\n")
    return path


def _section(data: dict[str, Any]) -> list[str]:
    there = {row["network"] for row in data["rows"]}
    rows = [
        *data["rows"],
        *(
            {
                "network": entry.name,
                "title": entry.title,
                "in_table_1": entry.paper_row is not None,
                "reason": f"derain bench --only reproduction/{entry.name}",
            }
            for entry in catalog.networks().values()
            if entry.name not in there
        ),
    ]
    head = [
        "network",
        "a step",
        "processor time",
        "steps timed",
        "peak memory",
        *(f"{n}, h" for n in IMAGES),
        "all, h",
        "energy, kWh",
    ]
    body = []
    for row in sorted(rows, key=lambda r: not r["in_table_1"]):
        title = row["title"] + ("" if row["in_table_1"] else " (not in Table 1)")
        if "seconds" not in row:
            body.append([title, f"not measured: {row['reason']}", *[""] * (len(head) - 2)])
            continue
        span = f"{duration(row['seconds'])} ({duration(min(row['steps']))} to {duration(max(row['steps']))})"
        each = [f"{hours(row, [images]):,.0f}" for images in IMAGES.values()]
        total = hours(row) or 0.0
        energy = f"{row['watts'] * total / 1000:,.0f}" if row["watts"] is not None else ""
        body.append(
            [
                title,
                span,
                duration(row["processor"]),
                str(len(row["steps"])),
                size_of(row["peak"]),
                *each,
                f"{total:,.0f}",
                energy,
            ]
        )
    table_1 = [r for r in rows if r["in_table_1"]]
    told = [r for r in table_1 if "seconds" in r]
    total = sum(hours(r) or 0.0 for r in told)
    energy = (
        f"{sum(r['watts'] * (hours(r) or 0.0) for r in told) / 1000:,.0f}"
        if told and all(r["watts"] is not None for r in told)
        else ""
    )
    body.append(
        [
            f"**Table 1, {len(told)} of its {len(table_1)} networks**",
            *[""] * (len(head) - 3),
            f"**{total:,.0f}**",
            energy,
        ]
    )
    notes = [f"{total / 24 / 365.25:,.1f} years one after the other on this machine."] if total > 8766 else []
    if not energy:
        notes.append(
            "Energy is left empty: what this device draws was not measured (nvidia-smi says it of a GPU)."
        )
    return [*table(head, body), "", *notes, "", circumstances(data["rows"])]
