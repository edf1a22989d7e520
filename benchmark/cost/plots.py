"""Pictures of a measured cost: spike rates through the network, and where the energy goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cost.result import Cost
from benchmark.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from benchmark.cost.breakeven import Line

PAPER_RATE = 0.1642
"""The firing rate that the ESDNet paper quotes; no printed figure depends on it."""


def rates(cost: Cost, paper: float | None = PAPER_RATE) -> Figure:
    """Spike rate of every layer that spikes drive, in the order of execution.

    Raises:
        UserError: no layer of this network is driven by spikes.
    """
    from matplotlib.figure import Figure

    layers = [(row.name, row.rate) for row in cost.rows if row.accumulates and row.rate is not None]
    if not layers:
        raise UserError("no layer of this network is driven by spikes: there are no rates to draw")
    figure = Figure(figsize=(max(6, 0.16 * len(layers)), 3.6), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(layers)), [100 * rate for _, rate in layers], color="#3b6ea5")
    if cost.rate is not None:
        axes.axhline(
            100 * cost.rate, color="black", linewidth=1, label=f"mean by work {100 * cost.rate:.2f} %"
        )
    if paper is not None:
        axes.axhline(
            100 * paper, color="#b5462f", linewidth=1, linestyle="--", label=f"paper {100 * paper:.2f} %"
        )
    axes.set_xticks(range(len(layers)), [name for name, _ in layers], rotation=90, fontsize=5)
    axes.set_ylabel("spike rate of the input (%)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def against_rate(lines: Sequence[Line], level: float, level_title: str, convention: str) -> Figure:
    """Energy over the spike rate, a line a network with its measured points, and one ordinary network's energy.

    Args:
        lines: of `benchmark.cost.breakeven.lines`.
        level, level_title: the ordinary network's energy in µJ, and its name.
        convention: under which all of it is.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, line in enumerate(lines):
        rates = range(101)  # a straight line is none on this axis
        energies = [(line.silent + (line.full - line.silent) * r / 100) / 1e3 for r in rates]
        axes.plot(rates, energies, color=f"C{number}", label=line.title)
        for weights, rate, energy in line.points:
            axes.plot(100 * rate, energy / 1e3, "o", color=f"C{number}", markersize=5)
            axes.annotate(weights, (100 * rate, energy / 1e3), (4, 4), textcoords="offset points", fontsize=6)
    axes.axhline(level / 1e3, color="black", linewidth=1, linestyle="--", label=level_title)
    axes.set_yscale("log")
    axes.set_xlim(0, 100)
    axes.set_xlabel("mean spike rate, by work (%)")
    axes.set_ylabel(f"energy of a picture under '{convention}' (mJ)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def shares(cost: Cost, most: int = 20) -> Figure:
    """Share of each layer in the energy under the cost's convention, the largest first."""
    from matplotlib.figure import Figure

    table = cost.sorted("energy_uj").head(most).iloc[::-1]
    figure = Figure(figsize=(6, 0.6 + 0.22 * len(table)), layout="constrained")
    axes = figure.subplots()
    colours = ["#3b6ea5" if kind == "binary" else "#b5462f" for kind in table["input"]]
    axes.barh(range(len(table)), 100 * table["share"], color=colours)
    axes.set_yticks(range(len(table)), list(table["name"]), fontsize=6)
    axes.set_xlabel(f"share of the energy under '{cost.convention.name}' (%); blue: driven by spikes")
    return figure


def growth(table: pd.DataFrame) -> Figure:
    """Operations, energy under `full` and, where measured, latency and peak memory, against the side of the image.

    Args:
        table: from `scaling.scalability`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    shown = [
        (column, title)
        for column, title in (
            ("operations_g", "operations (G)"),
            ("energy_full_mj", "energy, full (mJ)"),
            ("latency_s", "latency of one forward (s)"),
            ("peak_memory_gb", "peak memory (GB)"),
        )
        if column in table and table[column].notna().any()
    ]
    figure = Figure(figsize=(3.4 * len(shown), 4.6), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for number, (network, rows) in enumerate(table.groupby("network", sort=False)):
            axes.plot(
                rows["size"], rows[column], label=network, linewidth=1,
                marker="osv^D"[number % 5], markersize=4, color=f"C{number % 10}",
                linestyle="-" if number < 10 else "--",
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        sizes = sorted(table["size"].unique())
        axes.set_xticks(sizes, [str(s) for s in sizes])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("side of the image (pixels)")
        axes.set_title(title, fontsize="medium")
        axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small", frameon=False)
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as its file's ending asks."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    return path
