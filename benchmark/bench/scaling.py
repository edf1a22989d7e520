"""How ESDNet's training step grows: time, memory and energy against T, width, picture size and batch.

One of the four is changed at a time, from one base. Time is set beside what it would be if it grew with the work
(the multiply-accumulates and accumulates of a forward, counted) from the base on: the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.bench.case import NotMeasured
from benchmark.bench.points import Point, measure_point
from benchmark.bench.results import circumstances, describe, duration, size_of, table
from benchmark.files import write_text

Row = dict[str, Any]

BASE = {
    "cpu": {"T": 4, "width": 24, "size": 64, "batch": 2},
    "cuda": {"T": 4, "width": 48, "size": 64, "batch": 12},
}
VALUES: Mapping[str, Mapping[str, Sequence[int]]] = {
    "cpu": {
        "T": (1, 2, 4, 6, 8),
        "width": (8, 16, 24, 32, 48),
        "size": (32, 48, 64, 96, 128),
        "batch": (1, 2, 4, 8, 12),
    },
    "cuda": {
        "T": (1, 2, 4, 6, 8, 16),
        "width": (16, 32, 48, 64, 96),
        "size": (32, 64, 128, 192, 256),
        "batch": (1, 4, 12, 24, 48, 96),
    },
}
LABELS = {"T": "time steps T", "width": "width (dim)", "size": "side of the crops, pixels", "batch": "batch"}

_ON_THE_LINE = 1.2  # within 20 % of the line


def _point(values: Mapping[str, int], device: str, threads: int, seconds: float) -> Point:
    return Point(
        "esdnet",
        {"dim": values["width"], "time_steps": values["T"]},
        batch=values["batch"],
        patch=values["size"],
        device=device,
        threads=threads,
        least=3,
        seconds=seconds,
        details=True,
    )


def measure(
    axes: Iterable[str],
    device: str,
    threads: int,
    seconds: float = 3.0,
    least: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """A row for each point; the base is measured once for each axis, beside the points that it is compared with.

    Args:
        axes: some of `LABELS`.
        device: "cpu" or "cuda".
        threads: of torch.
        seconds: of timing a point.
        least: only the smallest, the base and the largest of each axis.
        progress: told what is going on.
    """
    rows = []
    for axis in axes:
        values, base = VALUES[device][axis], BASE[device][axis]
        for value in (v for v in values if not least or v in (values[0], base, values[-1])):
            progress(f"scaling: {axis} {value}")
            row: Row = {"axis": axis, "value": value, "base": value == base}
            point = _point({**BASE[device], axis: value}, device, threads, seconds)
            try:
                row |= measure_point(point)
            except NotMeasured as error:
                row["reason"] = str(error)
            rows.append(row)
    return rows


def beside_the_line(rows: Sequence[Row], axis: str) -> list[Row]:
    """The measured rows of an axis with "line", their time over what the work alone would make of the base's."""
    along = [r for r in rows if r["axis"] == axis and "seconds" in r]
    base = next((r for r in along if r["base"]), None)
    if base is None:
        return []
    return [{**r, "line": r["seconds"] / base["seconds"] * base["macs"] / r["macs"]} for r in along]


def why(rows: Sequence[Row], axis: str) -> str:
    """Where the time of an axis leaves the line, and what the measurements say of the reason."""
    along = beside_the_line(rows, axis)
    base = next((r for r in along if r["base"]), None)
    off = [r for r in along if not 1 / _ON_THE_LINE <= r["line"] <= _ON_THE_LINE]
    if base is None:
        return f"{LABELS[axis]}: the base was not measured."
    if not off:
        return f"{LABELS[axis]}: time grows with the work, within {100 * (_ON_THE_LINE - 1):.0f} %, at all values."
    said = []
    for row in off:
        rest, base_rest = (r["seconds"] * (1 - r["convolutions"]) / r["macs"] for r in (row, base))
        speed, base_speed = (r["macs"] / (r["seconds"] * r["convolutions"]) for r in (row, base))
        said.append(
            f"at {row['value']} a step takes {row['line']:.2f} of it: a convolution's operation takes "
            f"{base_speed / speed:.2f} times as long as at the base, and what is not convolution, for each such "
            f"operation, {rest / base_rest:.2f} times as long (convolutions are {100 * row['convolutions']:.0f} % of "
            f"the step there, {100 * base['convolutions']:.0f} % at the base)"
        )
    return f"{LABELS[axis]}: " + "; ".join(said) + "."


def _cells(axis: str, row: Row) -> list[str]:
    return [
        LABELS[axis],
        f"{row['value']}{' (base)' if row['base'] else ''}",
        duration(row["seconds"]),
        f"{row['line']:.2f}",
        size_of(row["peak"]),
        f"{row['energy_uj'] / 1000:,.2f}",
        f"{100 * row['convolutions']:.0f} %",
    ]


def write(folder: Path, name: str, data: dict[str, Any]) -> list[Path]:
    """Draw the table and the plot of what a machine measured; returns their paths."""
    from benchmark.report.figures import Growth, scaling

    rows, device, provenance = data["rows"], data["device"], data["provenance"]
    base = BASE[device]
    head = ["", "value", "a step", "of the line", "peak memory", "energy of a forward, mJ", "convolutions"]
    body, curves = [], []
    for axis in VALUES[device]:
        along = beside_the_line(rows, axis)
        body += [
            [LABELS[axis], str(row["value"]), f"not measured: {row['reason']}", *[""] * 4]
            for row in rows
            if row["axis"] == axis and "seconds" not in row
        ]
        body += [_cells(axis, row) for row in along]
        if along:
            at = next(r for r in along if r["base"])
            curves.append(
                Growth(
                    label=LABELS[axis],
                    values=[r["value"] for r in along],
                    seconds=[r["seconds"] for r in along],
                    line=[at["seconds"] * r["macs"] / at["macs"] for r in along],
                    mebibytes=[r["peak"] / 2**20 for r in along],
                    millijoules=[r["energy_uj"] / 1000 for r in along],
                )
            )
    lines = [
        f"# How ESDNet's training step grows: {describe(provenance)}",
        "",
        circumstances(rows),
        "",
        f"Recipe `paper` in float32; one setting is changed at a time, from T {base['T']}, dim {base['width']}, crops "
        f"of {base['size']}×{base['size']}, batch {base['batch']}. Each",
        "point is a process of its own. The line is the base's time × the operations of a forward, counted. Memory is",
        "the peak above the imports. Energy is counted, not measured: convention `full`, untrained weights.",
        "",
        *table(head, body),
        "",
        *(f"- {why(rows, axis)}" for axis in VALUES[device]),
    ]
    path = folder / f"scaling-{name}.md"
    write_text(path, "\n".join(lines) + "\n")
    drawn = scaling(curves, folder, f"scaling-{name}", describe(provenance)) if curves else []
    return [path, *drawn]
