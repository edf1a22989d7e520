"""Pictures of measured costs: spike rates through the network, where the energy goes, and how both grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UserError
from benchmark.report.style import (
    BEST,
    INK,
    OTHER,
    WIDTH,
    Label,
    at_ends,
    beside,
    drawing,
    families_key,
    heading,
    look,
    mark_logarithms,
    save,
)

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.cost.breakeven import Line
    from benchmark.cost.result import Cost

PAPER_RATE = 0.1642
"""The firing rate that the ESDNet paper quotes; no printed figure depends on it."""


def rates(cost: Cost, folder: Path, name: str, paper: float = PAPER_RATE) -> list[Path]:
    """Spike rate of every layer that spikes drive, in the order of execution; returns the files.

    Raises:
        UserError: no layer of this network is driven by spikes.
    """
    layers = [(row.name, row.rate) for row in cost.rows if row.accumulates and row.rate is not None]
    if not layers:
        raise UserError("no layer of this network is driven by spikes: there are no rates to draw")
    own = look("Spiking")
    with drawing(max(WIDTH, 0.13 * len(layers)), 3.6) as figure:
        axes = figure.subplots()
        axes.bar(range(len(layers)), [100 * rate for _, rate in layers], color=own.colour)
        axes.set_xlim(-0.6, len(layers) - 0.4)
        levels = [("quoted in the paper", paper, "--")]
        if cost.rate is not None:
            levels.append(("mean by work", cost.rate, "-"))
        labels = []
        for said, rate, line in levels:
            axes.axhline(100 * rate, color=INK, linewidth=1, linestyle=line)
            labels.append(Label(f"{said}\n{100 * rate:.2f} %", len(layers) - 0.4, 100 * rate))
        axes.set_xticks(range(len(layers)), [layer for layer, _ in layers], rotation=90, fontsize=5)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("spike rate of a layer's input (%)")
        at_ends([(axes, labels)])
        return save(figure, folder, name)


def against_rate(
    lines: Sequence[Line], level: float, other: tuple[str, str], convention: str, folder: Path, name: str
) -> list[Path]:
    """Energy over the spike rate, a line a network with its measured points, and one ordinary network's energy.

    A circle is where a spiking network takes as much energy as the ordinary one.

    Args:
        lines: of `benchmark.cost.breakeven.lines`.
        level: the ordinary network's energy in µJ.
        other: its name and family.
        convention: under which all of it is.
        folder: where to write.
        name: of the files.

    Returns:
        The files.
    """
    own, title = look("Spiking"), other[0]
    on = {weights.partition(" on ")[2] for line in lines for weights, *_ in line.points} - {""}
    where = f" on {next(iter(on))}" if len(on) == 1 else ""  # said once, above all
    percents = range(101)  # a straight line is none on this axis
    with drawing(WIDTH, 4.2) as figure:
        axes = figure.subplots()
        axes.set_yscale("log")
        axes.set_xlim(0, 100)
        ends, points = [], []
        drawn: list[list[Sequence[float]]] = []
        for line in lines:
            energies = [(line.silent + (line.full - line.silent) * r / 100) / 1e3 for r in percents]
            axes.plot(percents, energies, color=own.colour)
            drawn.append([list(percents), energies])
            ends.append(Label(line.title, 100, energies[-1], own.ink))
            for weights, rate, energy in line.points:
                axes.plot(100 * rate, energy / 1e3, own.marker, color=own.colour, clip_on=False, zorder=3)
                points.append(Label(weights.removesuffix(where), 100 * rate, energy / 1e3, own.ink))
            if line.silent < level < line.full:
                meets = 100 * (level - line.silent) / (line.full - line.silent)
                axes.plot(meets, level / 1e3, "o", color=INK, markerfacecolor="white", markersize=6, zorder=3)
                points.append(Label(f"{meets:.1f} %", meets, level / 1e3, radius=4))
        axes.axhline(level / 1e3, color=look(other[1]).colour, linestyle="--")
        drawn.append([[0, 100], [level / 1e3] * 2])
        ends.append(Label(title, 100, level / 1e3, look(other[1]).ink))
        mark_logarithms(axes.yaxis)
        axes.set_xlabel("mean spike rate, by work (%)")
        axes.set_ylabel(f"energy of a 256 × 256 picture, convention {convention} (mJ)")
        axes.set_title(
            f"filled: measured, untrained or after so many steps{where}\ncircles: as much energy as {title}"
        )
        at_ends([(axes, ends)])
        beside(axes, points, drawn)
        return save(figure, folder, name)


def shares(cost: Cost, folder: Path, name: str, most: int = 20) -> list[Path]:
    """Share of each layer in the energy under the cost's convention, the largest first; returns the files."""
    table = cost.sorted("energy_uj").head(most).iloc[::-1]
    spikes, real = look("Spiking").colour, OTHER.colour
    with drawing(WIDTH, 0.9 + 0.2 * len(table)) as figure:
        axes = figure.subplots()
        percent = [100 * float(share) for share in table["share"]]
        bars = axes.barh(
            range(len(table)), percent, color=[spikes if k == "binary" else real for k in table["input"]]
        )
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=6)
        axes.set_yticks(range(len(table)), list(table["name"]))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"share of the energy under convention {cost.convention.name} (%)")
        axes.set_title("green: driven by spikes; grey: by real values")
        return save(figure, folder, name)


def growth(table: pd.DataFrame, families: Mapping[str, str], folder: Path, name: str) -> list[Path]:
    """Operations, energy under `full` and, where measured, latency and peak memory, against the side of the image.

    Args:
        table: from `scaling.scalability`.
        families: by the networks' names in the table.
        folder: where to write.
        name: of the files.

    Returns:
        The files.
    """
    from matplotlib.ticker import NullFormatter, NullLocator

    shown = [
        (column, title)
        for column, title in (
            ("operations_g", "operations (G)"),
            ("energy_full_mj", "energy, convention full (mJ)"),
            ("latency_s", "latency of one forward (s)"),
            ("peak_memory_gb", "peak memory (GB)"),
        )
        if column in table and table[column].notna().any()
    ]
    rows = (len(shown) + 1) // 2
    with drawing(WIDTH, 0.6 + 3.1 * rows) as figure:
        grid = figure.subplots(rows, min(2, len(shown)), squeeze=False)
        panels = []
        for axes, (column, title) in zip(grid.flat, shown, strict=False):
            axes.set(xscale="log", yscale="log")
            labels = []
            for network, own in table[table[column].notna()].groupby("network", sort=False):
                seen, last = look(families.get(str(network))), own.iloc[-1]
                axes.plot(
                    own["size"],
                    own[column],
                    f"{seen.marker}-",
                    color=seen.colour,
                    markersize=3,
                    linewidth=0.9,
                )
                labels.append(Label(str(network), float(last["size"]), float(last[column]), seen.ink))
            largest = max(label.x for label in labels)
            least = min(label.y for label in labels if label.x == largest)
            panels.append(
                (
                    axes,
                    [
                        Label(la.text, la.x, la.y, la.colour, (la.x, la.y) == (largest, least))
                        for la in labels
                    ],
                )
            )
            sizes = sorted(table["size"].unique())
            axes.set_xticks(sizes, [str(s) for s in sizes])
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_minor_locator(NullLocator())
            mark_logarithms(axes.yaxis)
            axes.set_xlabel("side of the image (pixels)")
            axes.set_title(title)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        heading(figure, f"{BEST} the least at the largest size")
        families_key(figure, (families.get(str(n), "") for n in table["network"].unique()))
        at_ends(panels)
        return save(figure, folder, name)
