"""What is to be seen in a figure, in words, for those who do not see it: from the figures that it is drawn of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmark.report.rows import INPUT
from benchmark.text.table import Table, number
from benchmark.text.words import several


def ranking(values: Mapping[str, float], unit: str = " dB", digits: int = 2, apart: str = INPUT) -> str:
    """The highest three, the lowest, and one that stands apart."""
    ranked = sorted(
        ((v, name) for name, v in values.items() if math.isfinite(v) and name != apart), reverse=True
    )
    if not ranked:
        return ""
    words = [f"{name} {number(v, digits)}{unit}" for v, name in ranked]
    said = f"Highest: {', '.join(words[:3])}"
    if len(words) > 3:
        said += f"; lowest of {len(words)}: {words[-1]}"
    if apart in values:
        above = sum(v > values[apart] for v, _ in ranked)
        said += f"; {apart}: {number(values[apart], digits)}{unit}, {above} of {len(ranked)} above it"
    return f"{said}."


def reach(values: Sequence[float], unit: str, digits: int = 3) -> str:
    """From the least to the most."""
    finite = [v for v in values if math.isfinite(v)]
    return f"{min(finite):.{digits}g} to {max(finite):.{digits}g}{unit}" if finite else "none"


def scatter(points: Sequence[tuple[str, float, float, float]]) -> str:
    """Figure 1: name, parameters in millions, operations in G, PSNR-Y of each."""
    if not points:
        return ""
    most, least = (of(points, key=lambda p: p[2]) for of in (max, min))
    return (
        f"{several(len(points), 'network')}: parameters {reach([p[1] for p in points], ' M')}; operations from "
        f"{least[2]:.3g} G ({least[0]}) to {most[2]:.3g} G ({most[0]}). PSNR-Y: "
        + ranking({name: psnr for name, _, _, psnr in points})
    )


def of_losses(trainings: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Where the loss of each training began and ended: means of its first and its last tenth."""
    told = []
    for name, logged in trainings.items():
        values = [v for _, v in logged]
        some = max(1, len(values) // 10)
        first, last = sum(values[:some]) / some, sum(values[-some:]) / some
        told.append(f"{name} {first:.2g} to {last:.2g}")
    return (
        f"Mean loss of the first and of the last tenth of each training: {', '.join(told)}." if told else ""
    )


def column(table: Table, key: str) -> dict[str, float]:
    """A column of a table by row, without what is empty."""
    return {
        row.label: cell.value
        for row in table.rows
        if (cell := row.cells.get(key)) is not None and cell.value is not None
    }


def against_energy(table: Table, score: str, energies: Sequence[str], convention: str = "") -> str:
    """Score against energy: the highest scores, and which rows no other of less energy beats."""
    scores = column(table, score)
    energy = next((found for key in energies if (found := column(table, key))), {})
    front, best = [], -math.inf
    for name in sorted((n for n in energy if n in scores), key=lambda n: energy[n]):
        if scores[name] > best:
            best = scores[name]
            front.append(f"{name} ({energy[name] / 1e3:.3g} mJ, {best:.2f} dB)")
    if not front:
        return ranking(scores)
    of = f" ({convention})" if convention else ""
    return (
        f"{ranking(scores)} Energy{of} {reach([v / 1e3 for v in energy.values()], ' mJ')}; no row of less energy "
        f"scores higher than: {', '.join(front)}."
    )


def of_differences(tables: Sequence[Table], key: str = "difference") -> str:
    """Differences with intervals: which lie above and below 0 with their whole interval, and which reach over it."""
    above: list[str] = []
    below: list[str] = []
    over: list[str] = []
    for table in tables:
        for row in table.rows:
            cell = row.cells.get(key)
            if cell is None or cell.value is None:
                continue
            said = f"{row.label} {number(cell.value, 2, sign=True)}"
            if cell.interval is None:
                continue
            low, high = cell.interval
            (above if low > 0 else below if high < 0 else over).append(said)
    parts = [
        f"{what}: {', '.join(some)}"
        for what, some in (
            ("Interval above 0", above),
            ("interval below 0", below),
            ("interval across 0", over),
        )
        if some
    ]
    return "; ".join(parts) + " dB." if parts else ""


def of_lengths(table: Table) -> str:
    """Scores by training steps: each row's first and last."""
    told = []
    for row in table.rows:
        known = [(c, row.cells[c.key].value) for c in table.columns if c.key in row.cells]
        values = [(c.title, v) for c, v in known if v is not None]
        if values:
            (first, low), (last, high) = values[0], values[-1]
            told.append(f"{row.label} {low:.2f} dB at {first} and {high:.2f} dB at {last}")
    return "; ".join(told) + "." if told else ""


def of_balance(rows: Sequence[Mapping[str, object]], convention: str) -> str:
    """Where the spiking networks' energy meets NAFNet's, beside the rate that was measured."""
    told = {}
    for row in rows:
        if row.get("convention") != convention or not isinstance(row.get("measured_percent"), float):
            continue
        level = row.get("nafnet_percent")
        meets = (
            f"less energy than NAFNet up to a rate of {level:.1f} %"
            if isinstance(level, float)
            else "more energy than NAFNet at any rate"
        )
        told[str(row["network"])] = f"{row['network']}: {meets}, measured {row['measured_percent']:.1f} %"
    return "; ".join(told.values()) + "." if told else ""
