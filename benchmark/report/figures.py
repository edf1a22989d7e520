"""The paper's figures, and those of trainings and of the study, drawn from figures and pictures that are handed in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    families_key,
    heading,
    look,
    mark_logarithms,
    save,
)


@dataclass(frozen=True)
class Point:
    """A network of Figure 1: parameters in millions, operations in G at 256², PSNR-Y in dB."""

    label: str
    family: str
    params_m: float
    operations_g: float
    psnr: float


@dataclass(frozen=True)
class Lengths:
    """A network's scores in dB by training steps."""

    label: str
    family: str
    scores: Mapping[int, float]


def lengths(curves: Sequence[Lengths], folder: Path, name: str, where: str) -> list[Path]:
    """Score against the length of the training, each network labelled at its end, the best of the longest starred."""
    with drawing(0.72 * WIDTH, 3.2) as figure:
        axes = figure.add_subplot()
        ends = {curve.label: (max(curve.scores), curve.scores[max(curve.scores)]) for curve in curves}
        best = max(ends, key=lambda label: ends[label])
        labels = []
        for curve in curves:
            own, steps = look(curve.family), sorted(curve.scores)
            axes.plot(steps, [curve.scores[s] for s in steps], f"{own.marker}-", color=own.colour)
            labels.append(Label(curve.label, *ends[curve.label], own.ink, curve.label == best))
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({s for c in curves for s in c.scores}))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("training steps")
        axes.set_ylabel(f"PSNR-Y on {where} (dB)")
        families_key(figure, (c.family for c in curves))
        at_ends([(axes, labels)])
        return save(figure, folder, name)


@dataclass(frozen=True)
class Difference:
    """How far a row is from the one that it is compared with, in dB; the interval is None where there is none.

    Attributes:
        told: whether it was told from 0, all comparisons of its table considered.
    """

    label: str
    family: str | None
    mean: float
    low: float | None
    high: float | None
    told: bool


def differences(groups: Mapping[str, Sequence[Difference]], folder: Path, name: str, what: str) -> list[Path]:
    """Differences with their intervals, a row each, in groups with a title; filled where they are told from 0."""
    count = sum(len(group) + 1 for group in groups.values())
    with drawing(WIDTH, 0.7 + 0.19 * count) as figure:
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
        row, ticks = 0, []
        for title, group in groups.items():
            axes.annotate(
                title,
                (0, row),
                (4, 0),
                ("axes fraction", "data"),
                "offset points",
                fontweight="bold",
                va="center",
            )
            row += 1
            for one in group:
                own = look(one.family)
                if one.low is not None and one.high is not None:
                    axes.plot([one.low, one.high], [row, row], color=own.colour, linewidth=1.5)
                axes.plot(
                    one.mean,
                    row,
                    own.marker,
                    color=own.colour,
                    markerfacecolor=own.colour if one.told else "white",
                )
                span = "" if one.low is None else f" [{_signed(one.low)}, {_signed(one.high or 0)}]"
                axes.annotate(
                    f"{_signed(one.mean)}{span}",
                    (1.01, row),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontsize=7,
                    fontweight="bold" if one.told else "normal",
                )
                ticks.append((row, one.label))
                row += 1
        axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks])
        axes.set_ylim(row - 0.3, -0.7)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("dB; bars: 95 % intervals; filled: told from 0 after Holm's correction")
        heading(figure, what)
        return save(figure, folder, name)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


@dataclass(frozen=True)
class Quality:
    """A network's score in dB, with its interval where it has one, and its energy."""

    label: str
    family: str
    energy_uj: float
    psnr: float
    low: float | None
    high: float | None
    front: bool
    """Whether no network of less energy scores higher."""


def quality(points: Sequence[Quality], folder: Path, name: str, convention: str, where: str) -> list[Path]:
    """Score against energy, intervals as bars, the Pareto front as a line through its networks."""
    with drawing(WIDTH, 4.4) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        best = max(points, key=lambda p: p.psnr)
        labels, lines = [], []
        for point in points:
            own, energy = look(point.family), point.energy_uj / 1e3
            if point.low is not None and point.high is not None:
                axes.plot([energy, energy], [point.low, point.high], color=own.colour, alpha=0.6, linewidth=1)
                lines.append([[energy, energy], [point.low, point.high]])
            fill = own.colour if point.front else "white"
            axes.plot(energy, point.psnr, own.marker, color=own.colour, markerfacecolor=fill)
            labels.append(Label(point.label, energy, point.psnr, own.ink, point is best))
        front = sorted((p for p in points if p.front), key=lambda p: p.energy_uj)
        along = [[p.energy_uj / 1e3 for p in front], [p.psnr for p in front]]
        axes.plot(*along, color=INK, linewidth=0.8, zorder=1)
        mark_logarithms(axes.xaxis)
        axes.margins(0.08, 0.1)
        scores = [p.psnr for p in points]
        # the widest interval must not flatten all others: it ends in an arrow
        beyond = max(0.3 * (max(scores) - min(scores)), 0.5)
        floor, ceiling = min(scores) - beyond, max(scores) + beyond
        axes.set_ylim(floor, ceiling)
        cut = [
            (point, edge, arrow)
            for point in points
            if point.low is not None and point.high is not None
            for goes_on, edge, arrow in (
                (point.low < floor, floor, "v"),
                (point.high > ceiling, ceiling, "^"),
            )
            if goes_on
        ]
        for point, edge, arrow in cut:
            axes.plot(
                point.energy_uj / 1e3, edge, arrow, color=look(point.family).colour, clip_on=False, zorder=5
            )
        axes.set_xlabel(f"energy of a 256 × 256 picture, convention {convention} (mJ)")
        axes.set_ylabel(f"PSNR-Y on {where} (dB)")
        axes.set_title(
            f"PSNR-Y on {where} against energy, convention {convention}; a number behind a name: its width\n"
            f"bars: 95 % intervals{', with an arrow where they go on' * bool(cut)}\n"
            f"filled, joined: no network of less energy scores higher; {BEST} the highest",
            fontsize=8,
        )
        families_key(figure, (p.family for p in points))
        beside(axes, labels, [*lines, along])
        return save(figure, folder, name)


def complexity(
    points: Sequence[Point], folder: Path, name: str, title: str, where: str, most: float | None = None
) -> list[Path]:
    """Figure 1: parameters against PSNR, the area of a circle the operations.

    Args:
        points: the networks.
        folder: where to write.
        name: of the files.
        title: says which accounting this is.
        where: the PSNR is measured or printed.
        most: operations (G) of the largest circle, the same for figures to be compared; None: this figure's largest.

    Returns:
        The files.
    """
    most = most or max(p.operations_g for p in points)
    with drawing(WIDTH, 4.4) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        best = max(points, key=lambda p: p.psnr)
        labels = []
        for point in sorted(points, key=lambda p: -p.operations_g):
            own = look(point.family)
            area = max(6.0, 1100.0 * point.operations_g / most)  # square points; never too small to be seen
            axes.scatter(point.params_m, point.psnr, s=area, color=own.colour, alpha=0.35, linewidth=1)
            axes.plot(point.params_m, point.psnr, own.marker, color=own.colour, markersize=2.5)
            text = f"{point.label}, {point.operations_g:.3g} G"
            labels.append(
                Label(text, point.params_m, point.psnr, own.ink, point is best, max(3.0, 0.45 * area**0.5))
            )
        axes.margins(0.14, 0.14)
        mark_logarithms(axes.xaxis)
        axes.set_xlabel("parameters (M)")
        axes.set_ylabel(f"PSNR-Y on {where} (dB)")
        axes.set_title(f"{title}\narea and number: operations at 256 × 256; {BEST} the highest PSNR-Y")
        families_key(figure, (p.family for p in points))
        beside(axes, labels)
        return save(figure, folder, name)


@dataclass(frozen=True)
class Scores:
    """A row's PSNR-Y of every image in dB, as it counts in means."""

    label: str
    family: str
    psnr: Sequence[float]


def distributions(
    rows: Sequence[Scores], rainy: Sequence[float], folder: Path, name: str, title: str
) -> list[Path]:
    """The PSNR-Y of every single image, by network, the best mean on top.

    Args:
        rows: of the networks.
        rainy: dB of the rainy images themselves.
        folder: where to write.
        name: of the files.
        title: above the figure.

    Returns:
        The files.
    """
    ranked = sorted(rows, key=lambda row: -float(np.mean(row.psnr)))
    every = [*ranked, Scores(INPUT, "", rainy)]
    rng = np.random.default_rng(0)  # the dots' jitter
    with drawing(WIDTH, 1.1 + 0.24 * len(every)) as figure:
        axes = figure.add_subplot()
        for y, row in zip(range(len(every), 0, -1), every, strict=True):
            scores, own = np.array(row.psnr), look(row.family)
            lines: Any = {
                f"{part}props": {"color": own.colour, "linewidth": 1} for part in ("box", "whisker", "cap")
            }
            axes.boxplot(
                scores,
                positions=[y],
                orientation="horizontal",
                widths=0.6,
                showfliers=False,
                medianprops={"color": INK, "linewidth": 1.2},
                **lines,
            )
            jitter = rng.uniform(-0.18, 0.18, len(scores))
            axes.plot(scores, y + jitter, ".", color=own.colour, alpha=0.5, markersize=3.5)
            axes.plot(scores.mean(), y, own.marker, color=own.colour, markeredgecolor=INK, markersize=5)
        axes.axvline(float(np.mean(rainy)), color="0.6", linewidth=0.8, linestyle=":")
        names = [f"{BEST} {every[0].label}", *(row.label for row in every[1:])]
        axes.set_yticks(range(len(every), 0, -1), names)
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("PSNR-Y of an image (dB)")
        axes.set_title(
            f"{title}\ndots: images; boxes: quartiles and median; large markers: means; {BEST} the best mean"
        )
        families_key(figure, [row.family for row in rows if row.family])
        return save(figure, folder, name)


Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Training:
    """What a training logged, (step, value): its loss, and PSNR-Y in dB on held-out images, where there is any."""

    label: str
    family: str
    loss: Curve
    validation: Curve = ()


def curves(trainings: Sequence[Training], folder: Path, name: str, title: str) -> list[Path]:
    """A panel a training, on the same axes: loss and its running mean, validation as dots on the axis at the right.

    Returns:
        The files.
    """
    columns = min(4, len(trainings))
    rows = math.ceil(len(trainings) / columns)
    losses = np.array([v for t in trainings for _, v in t.loss if math.isfinite(v)])
    held_out = [v for t in trainings for _, v in t.validation if math.isfinite(v)]
    best = max(
        (t for t in trainings if t.validation), key=lambda t: max(v for _, v in t.validation), default=None
    )
    with drawing(WIDTH, 0.7 + 1.45 * rows) as figure:
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(trainings) :]:
            axes.set_visible(False)
        for number, (training, axes) in enumerate(zip(trainings, grid.flat, strict=False)):
            own = look(training.family)
            steps, values = np.transpose(training.loss)
            axes.plot(steps, values, color=own.colour, linewidth=0.6, alpha=0.4)
            axes.plot(steps, _running_mean(values), color=own.colour, linewidth=1.2)
            axes.grid(axis="x", visible=False)
            said = training.label
            if training.validation:
                said += f", {max(v for _, v in training.validation):.2f} dB"
            axes.set_title(
                f"{BEST} {said}" if training is best else said,
                fontsize=7.5,
                color=own.ink,
                fontweight="bold" if training is best else "normal",
            )
            axes.tick_params(labelbottom=True)
            if number % columns == 0:
                axes.set_ylabel("training loss")
            if held_out:
                right = axes.twinx()
                right.grid(visible=False)
                right.plot(
                    *np.transpose(training.validation or [(np.nan, np.nan)]), ".:", color=INK, linewidth=0.7
                )
                spread = 0.08 * (max(held_out) - min(held_out)) + 0.1
                right.set_ylim(min(held_out) - spread, max(held_out) + spread)
                at_the_right = number % columns == columns - 1 or number == len(trainings) - 1
                right.tick_params(labelright=at_the_right, length=2)
                right.spines["right"].set_visible(True)
                if at_the_right:
                    right.set_ylabel("held-out PSNR-Y (dB)")
        low, high, most = (float(v) for v in np.percentile(losses, (0, 99, 100)))
        above = ""
        if low > 0 and most > 20 * low:  # losses of different kinds, or high first ones
            grid[0][0].set_yscale("log")
        elif most > 3 * high:
            grid[0][0].set_ylim(min(0.0, low), 1.05 * high)
            above = f"; losses above {1.05 * high:.2g}, up to {most:.2g}, are beyond the frame"
        else:
            grid[0][0].set_ylim(min(0.0, low), 1.05 * most)
        figure.supxlabel("optimiser step", fontsize=8)
        said = "\nthin: loss of a batch; thick: its mean over a fifth of the training"
        if held_out:
            said += f"; dots: PSNR-Y on held-out images, the best beside the name, {BEST} of all"
        else:
            said += "; no images were held out"
        heading(figure, title + said + above)
        return save(figure, folder, name)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the tenth of all values before and behind each; fewer at the ends."""
    reach = len(values) // 10
    return np.array([values[max(0, i - reach) : i + reach + 1].mean() for i in range(len(values))])


@dataclass(frozen=True)
class Growth:
    """How one training step grows with one setting; `line` is the time that the work alone would make."""

    label: str
    values: Sequence[float]
    seconds: Sequence[float]
    line: Sequence[float]
    mebibytes: Sequence[float]
    millijoules: Sequence[float]


def scaling(curves: Sequence[Growth], folder: Path, name: str, title: str) -> list[Path]:
    """Time, memory and energy of ESDNet's training step (rows) against each setting (columns), logarithmic.

    Returns:
        The files.
    """
    from matplotlib.ticker import FormatStrFormatter, NullLocator

    own = look("Spiking")
    quantities = (
        ("seconds", "time of a step (s)"),
        ("mebibytes", "peak memory (MiB)"),
        ("millijoules", "energy (mJ)"),
    )
    with drawing(WIDTH, 5.2) as figure:
        grid = figure.subplots(3, len(curves), sharey="row", squeeze=False)
        for column, curve in enumerate(curves):
            for row, (attribute, label) in enumerate(quantities):
                axes = grid[row][column]
                axes.set(xscale="log", yscale="log")
                axes.plot(curve.values, getattr(curve, attribute), f"{own.marker}-", color=own.colour)
                if attribute == "seconds":
                    axes.plot(curve.values, curve.line, "--", color=OTHER.colour)
                axes.set_xticks(list(curve.values))
                axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
                axes.xaxis.set_minor_locator(NullLocator())
                mark_logarithms(axes.yaxis)
                if column == 0:
                    axes.set_ylabel(label)
            grid[2][column].set_xlabel(curve.label)
        heading(figure, f"ESDNet, one training step, {title}; dashed: as the work grows")
        return save(figure, folder, name)


@dataclass(frozen=True)
class Stage:
    """One of the trainings that follow each other: PSNR-Y in dB by the hours since the first one began."""

    hours: Sequence[float]
    psnr: Sequence[float]
    end: float


def stages(trained: Sequence[Stage], family: str, folder: Path, name: str, title: str) -> list[Path]:
    """Score over the hours of trainings, the best marked; as PNG alone."""
    own = look(family)
    score, hour = max((s, h) for one in trained for h, s in zip(one.hours, one.psnr, strict=True))
    with drawing(6, 3.2) as figure:
        axes = figure.add_subplot()
        for one in trained:
            axes.plot(one.hours, one.psnr, color=own.colour)
            axes.axvline(one.end, color=OTHER.colour, linewidth=0.8, linestyle=":")
        axes.plot(hour, score, own.marker, color=own.colour)
        axes.margins(y=0.12)
        axes.set_xlabel("hours of training")
        axes.set_ylabel("PSNR-Y on held-out photographs (dB)")
        axes.set_title(title + ("; dotted: where a training ended" if len(trained) > 1 else ""))
        lines = [[one.hours, one.psnr] for one in trained]
        beside(axes, [Label(f"{score:.2f} dB", hour, score, own.ink, best=True)], lines)
        return save(figure, folder, name, ("png",))
