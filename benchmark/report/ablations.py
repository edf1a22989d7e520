"""Tables 3 to 5 and other ablation tables, as pure functions of records, costs and printed figures; and their plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.data.specs import dataset_spec
from benchmark.report.comparison import Family, Scenes, compare, marked, seeds_note, sentences
from benchmark.report.paper import printed
from benchmark.report.rows import INPUT
from benchmark.report.style import (
    BEST,
    INK,
    OTHER,
    WIDTH,
    Label,
    at_ends,
    beside,
    drawing,
    heading,
    look,
    mark_logarithms,
    save,
)
from benchmark.report.tables import means_on, over_seeds, shows_only_that_it_works
from benchmark.text.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, Any]

COLUMNS = (
    Column("psnr", "PSNR-Y\n(dB)", 2),
    Column("ssim", "SSIM-Y", 4),
    Column("params_m", "Parameters\n(M)", 3, difference=False),
    Column("flops_g", "FLOPs, paper\n(G)", 3, difference=False),
    Column("energy_uj", "Energy, paper\n(µJ)", 0, difference=False),
    Column("operations_g", "Operations\n(G)", 3, difference=False),
    Column("macs_g", "of them MACs\n(G)", 3, difference=False),
    Column("rate", "Spike rate\nas trained (%)", 1, difference=False),
    Column("trained_energy_45nm_uj", "Energy, 45nm\nas trained (µJ)", 0, difference=False),
    Column("trained_energy_uj", "Energy, full\nas trained (µJ)", 0, difference=False),
)
_AS_PRINTED = ("flops_g", "energy_uj")

_COSTS = (
    "Costs are of one 256 × 256 image. Operations are all products over all time steps: MACs have a real-valued input, "
    "the others are driven by spikes and counted densely. "
)
_TRAINED = (
    "Spike rate and energy (`45nm`: 4.6 pJ a MAC, 0.9 pJ a synaptic operation; `full`: 12.5 pJ and 77 fJ) are of the "
    "network that was trained here, at the rates of its test pictures."
)
OF_FULL = (
    _COSTS
    + "Parameters, operations and the columns `paper` (the count that the printed figures come from, 12.5 pJ "
    "each) are of the full network. " + _TRAINED
)
OF_VARIANTS = (
    _COSTS
    + "Parameters and operations are of the variant that was trained; --full-costs gives the full network's. "
) + _TRAINED


@dataclass(frozen=True)
class Variant:
    """A row and all that is known of it.

    Attributes:
        name: key of its row among the printed figures.
        label: what the table shows.
        records: of its runs.
        failures: of its runs that ended without a record.
        trained: costs of its trained networks, one a run.
        full: cost under `full`, of the full network or, in a table `of_variants`, of the one that was trained.
        counted: cost under `paper` of the network whose count was printed.
        value: its place on the axis, where the study varies a number.
    """

    name: str
    label: str
    records: Sequence[Record] = ()
    failures: Sequence[Record] = ()
    trained: Sequence[Mapping[str, Any]] = ()
    full: Mapping[str, Any] | None = None
    counted: Mapping[str, Any] | None = None
    value: float | None = None


def ablation_table(
    name: str,
    title: str,
    dataset: str,
    variants: Sequence[Variant],
    *,
    paper: str | None = None,
    paper_row: str | None = None,
    seeds: int = 1,
    of_variants: bool = False,
    convention: str = "esdnet",
    notes: Sequence[str] = (),
) -> Table:
    """An ablation table: a row a variant, fidelity and costs, with the paper's figures beside.

    Args:
        name: of the files it is written to.
        title: for people.
        dataset: that all variants were trained and tested on.
        variants: in the order of the rows.
        paper: the printed table ("table3"), if the paper has this one.
        paper_row: the network's row in the printed Table 1, with which the ablation tables are compared.
        seeds: how many runs a row should have.
        of_variants: parameters and operations are those of the variants that were trained; the count that the printed
            figures come from is of the full network, and left out.
        convention: of the metrics.
        notes: printed with the table.
    """
    figures = printed(paper) if paper else {}
    columns = [c for c in COLUMNS if not (of_variants and c.key in _AS_PRINTED)]
    spec = dataset_spec(dataset)
    rows = []
    cells_of: dict[str, dict[str, Cell]] = {}
    measured = [r for v in variants for r in v.records if dataset in r["results"]]
    if measured:
        rows.append(_input_row(measured[0], dataset, convention, columns))
    for variant in variants:
        own = figures.get(variant.name, {})
        reason = _reason(variant)
        cells: dict[str, Cell] = {}
        for key in ("psnr", "ssim"):
            values = means_on(variant.records, dataset, f"{key}_{convention}")
            # the printed figures are Rain200H's, or, for orientation, stand beside what stands for it
            beside = spec.columns == "rain200h" and convention == "esdnet"
            shown = own.get(key) if beside and not shows_only_that_it_works([dataset], seeds) else None
            cells[key] = over_seeds(values, seeds, shown, reason)
        cells["params_m"] = _scaled(variant.full, "params", 1e6)
        if not of_variants:
            cells["flops_g"] = _scaled(variant.counted, "operations", 1e9, own.get("flops_g"))
            cells["energy_uj"] = _scaled(variant.counted, "energy_uj", 1, own.get("energy_uj"))
        cells["operations_g"] = _scaled(variant.full, "operations", 1e9)
        cells["macs_g"] = _scaled(variant.full, "macs", 1e9)
        for key, column, scale in (
            ("rate", "rate", 1e-2),
            ("trained_energy_45nm_uj", "energy_45nm_uj", 1),
            ("trained_energy_uj", "energy_uj", 1),
        ):
            found = [c[column] / scale for c in variant.trained if c.get(column) is not None]
            why = "no spikes" if variant.trained else "its weights are gone" if variant.records else reason
            cells[key] = over_seeds(found, seeds, None, why)
        cells_of[variant.label] = cells
    proposed = _proposed(variants, figures)
    scenes = Scenes(measured, [dataset])
    by_label = {v.label: v.records for v in variants}
    family = Family(
        {k: compare(by_label, dataset, f"{k}_{convention}", scenes) for k in ("psnr", "ssim")},
        proposed,
        {"psnr": "PSNR-Y", "ssim": "SSIM-Y"},
    )
    for key in ("psnr", "ssim"):
        for label, cell in marked({v: c[key] for v, c in cells_of.items()}, family, key, proposed).items():
            cells_of[label][key] = cell
    rows += [Row(label, cells) for label, cells in cells_of.items()]
    disagreement = contradiction(figures, paper_row) if figures else None
    statistics = [
        *seeds_note(seeds),
        *sentences(
            family,
            {"PSNR-Y": 2, "SSIM-Y": 4},
            f"the paper's proposed row ({proposed})" if proposed else "the best",
        ),
    ]
    every = [*notes, *statistics, *([disagreement] if disagreement else [])]
    every.append(OF_VARIANTS if of_variants else OF_FULL)
    return Table(
        name, f"{title}; {spec.title}, convention `{convention}`", columns, rows, [n for n in every if n]
    )


def _proposed(variants: Sequence[Variant], figures: Mapping[str, Mapping[str, float]]) -> str | None:
    """The label of the row that is the paper's whole network: the one printed with the scores of Table 3's SRB."""
    whole = printed("table3")["SRB"]
    for v in variants:
        own = figures.get(v.name, {})
        if (own.get("psnr"), own.get("ssim")) == (whole["psnr"], whole["ssim"]) and v.records:
            return v.label
    return None


def contradiction(figures: Mapping[str, Mapping[str, float]], paper_row: str | None) -> str | None:
    """Where an ablation table of the paper scores the whole network unlike the paper's Table 1; None if nowhere."""
    main, whole = printed("table1").get(paper_row or "", {}), printed("table3")["SRB"]
    scores = (whole["psnr"], whole["ssim"])
    in_main = (main.get("rain200h_psnr"), main.get("rain200h_ssim"))
    if (
        None in in_main
        or in_main == scores
        or scores not in [(f["psnr"], f["ssim"]) for f in figures.values()]
    ):
        return None
    return (
        f"The paper disagrees with itself: on Rain200H its Table 1 gives {paper_row} {in_main[0]:.2f} dB and "
        f"{in_main[1]:.4f}, its Tables 3 to 5 give the same network {scores[0]:.2f} dB and {scores[1]:.4f}."
    )


def _input_row(record: Record, dataset: str, convention: str, columns: Sequence[Column]) -> Row:
    cells = {c.key: Cell(reason="") for c in columns}
    for key in ("psnr", "ssim"):
        values = means_on([record], dataset, f"rainy_{key}_{convention}")
        cells[key] = Cell(values[0]) if values else Cell(reason="not run")
    return Row(INPUT, cells)


def _reason(variant: Variant) -> str:
    for failure in variant.failures:
        return f"{failure['state']}: {failure['reason']}"
    return "not run"


def _scaled(cost: Mapping[str, Any] | None, column: str, scale: float, paper: float | None = None) -> Cell:
    if cost is None or cost.get(column) is None:
        return Cell(paper=paper, reason="not counted")
    return Cell(cost[column] / scale, paper)


_TRAINED_ENERGY = {"45nm": "trained_energy_45nm_uj", "full": "trained_energy_uj"}
"""Columns by convention; the first one that a table has is drawn."""


def plots(table: Table, variants: Sequence[Variant], symbol: str | None, folder: Path) -> list[Path]:
    """Draw PSNR against energy and, where the rows are values of a number, against that number.

    Args:
        table: from `ablation_table`.
        variants: its rows.
        symbol: what the number is called.
        folder: where the files go.

    Returns:
        The files; none where there is nothing to draw yet.
    """
    values = {v.label: v.value for v in variants if v.value is not None}
    rows = [row for row in table.rows if row.label != INPUT]
    if not any(_finite(row.cells["psnr"].value) for row in rows):
        return []
    convention = next(c for c, key in _TRAINED_ENERGY.items() if any(c.key == key for c in table.columns))
    accounts: list[str | None] = [convention]
    if any(_finite(r.cells["energy_uj"].paper) for r in rows if "energy_uj" in r.cells):
        accounts.append(None)
    count = len(accounts) + (len(values) > 1)
    with drawing(WIDTH if count > 1 else 0.6 * WIDTH, 3.2) as figure:
        panels = figure.subplots(1, count, squeeze=False)[0]
        title = fill(table.title.replace("`", ""), 110 if count > 1 else 60)
        heading(figure, f"{title}\n{BEST} the highest PSNR-Y")
        named = [(axes, *_against_energy(axes, rows, of)) for axes, of in zip(panels, accounts, strict=False)]
        if len(values) > 1:
            at_ends([(panels[-1], _against_value(panels[-1], rows, values, symbol or ""))])
        for axes, labels, bars in named:
            beside(axes, labels, bars)
        return save(figure, folder, table.name)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _against_energy(
    axes: Axes, rows: Sequence[Row], convention: str | None
) -> tuple[list[Label], list[list[list[float]]]]:
    """One kind of figures an axis: measured and printed ones (convention None) are of other networks, tenfold apart.

    Returns what the points are called, and their bars.
    """
    points = []
    for row in rows:
        psnr, energy = (
            row.cells["psnr"],
            row.cells[_TRAINED_ENERGY[convention] if convention else "energy_uj"],
        )
        x, y = (energy.value, psnr.value) if convention else (energy.paper, psnr.paper)
        if x is not None and y is not None and _finite(x) and _finite(y):
            own = look("CNN" if row.cells["rate"].reason == "no spikes" else "Spiking")
            points.append((x / 1e3, y, psnr.deviation if convention else None, row.label, own))
    labels, bars = [], []
    for x, y, deviation, label, own in points:
        if deviation:
            axes.errorbar(x, y, yerr=deviation, color=own.colour, capsize=3, linewidth=1)
            bars.append([[x, x], [y - deviation, y + deviation]])
        axes.plot(x, y, own.marker, color=own.colour, markerfacecolor=own.colour if convention else "white")
        labels.append(Label(label, x, y, own.ink, y == max(p[1] for p in points)))
    axes.margins(0.3, 0.15)
    if points and max(p[0] for p in points) > 5 * min(p[0] for p in points):
        axes.set_xscale("log")
        mark_logarithms(axes.xaxis)
    axes.set_title(f"measured; energy as trained, {convention}" if convention else "printed", fontsize=8)
    axes.set_xlabel("energy of a 256 × 256 image (mJ)")
    axes.set_ylabel("PSNR-Y (dB)")
    return labels, bars


def _against_value(axes: Axes, rows: Sequence[Row], values: Mapping[str, float], symbol: str) -> list[Label]:
    """Measured and printed PSNR along the number; what the lines are called at their ends."""
    own = look("Spiking")
    along = sorted((r for r in rows if r.label in values), key=lambda r: values[r.label])
    measured = [(values[r.label], r.cells["psnr"].value, r.cells["psnr"].deviation) for r in along]
    printed = [(values[r.label], r.cells["psnr"].paper, None) for r in along]
    ends = []
    for title, found, line, colour, fill_of in (
        ("measured", measured, "-", own, own.colour),
        ("printed", printed, "--", OTHER, "white"),
    ):
        known = [(x, y, e or 0.0) for x, y, e in found if y is not None and math.isfinite(y)]
        if known:
            xs, ys, errors = zip(*known, strict=True)
            bars = errors if any(errors) else None
            style: Any = {"color": colour.colour, "markerfacecolor": fill_of, "capsize": 3}
            axes.errorbar(xs, ys, yerr=bars, fmt=f"{own.marker}{line}", **style)
            axes.plot(xs[int(np.argmax(ys))], max(ys), "*", color=INK, markersize=8, zorder=4)
            ends.append(Label(title, xs[-1], ys[-1], colour.ink))
    axes.set_xlabel(symbol)
    axes.set_ylabel("PSNR-Y (dB)")
    axes.set_title("measured and printed" if len(ends) > 1 else "measured", fontsize=8)
    return ends


__all__ = ["COLUMNS", "Variant", "ablation_table", "contradiction", "plots"]
