"""The figures: drawn from figures and pictures that are handed in, written as PDF, PNG and SVG.

Fonts are embedded; colours are Okabe and Ito's, which colour-blind readers tell apart, and what a colour says is also
said by a marker, a line style or a label. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Picture = NDArray[np.uint8]

# Okabe and Ito 2008
BLUE, ORANGE, GREEN, RED, SKY, PURPLE, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
    "#000000",
)
_FAMILIES = {"CNN": (BLUE, "-"), "Transformer": (ORANGE, "--"), "Spiking": (GREEN, ":")}
_LINES = [(c, s) for s in ("-", "--", ":", "-.") for c in (BLUE, RED, GREEN, ORANGE, PURPLE, BLACK)]
_BOXES = (RED, BLUE)  # of the two insets

WIDTH = 7.0  # inches: a page's text width
_STYLE: Any = {
    "pdf.fonttype": 42,  # TrueType, embedded and searchable
    "ps.fonttype": 42,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 200,
    "svg.hashsalt": "derain",
}


@dataclass(frozen=True)
class Point:
    """A network of Figure 1: parameters in millions, operations in G at 256², PSNR-Y in dB."""

    label: str
    family: str
    params_m: float
    operations_g: float
    psnr: float


@dataclass(frozen=True)
class Panel:
    """One picture of a comparison: uint8 (H, W, 3), what it is, and what is said beneath it."""

    title: str
    picture: Picture
    caption: str = ""


@dataclass(frozen=True)
class Box:
    """A square part of a picture, in pixels."""

    top: int
    left: int
    side: int

    def of(self, picture: Picture) -> Picture:
        """That part of the picture."""
        return picture[self.top : self.top + self.side, self.left : self.left + self.side]


@contextlib.contextmanager
def _drawing(width: float, height: float) -> Iterator[Figure]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with matplotlib.rc_context(_STYLE):
        figure = plt.figure(figsize=(width, height), layout="constrained")
        try:
            yield figure
        finally:
            plt.close(figure)


def _save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write the figure as PDF, PNG and SVG, without a date, so that the same figure is the same file."""
    from benchmark.files import atomic

    paths = []
    undated: dict[str, Any] = {
        "pdf": {"CreationDate": None, "ModDate": None},
        "png": {"Software": None},
        "svg": {"Date": None},
    }
    for suffix, metadata in undated.items():
        path = folder / f"{name}.{suffix}"
        with atomic(path) as temporary:
            figure.savefig(temporary, format=suffix, metadata=metadata)
        paths.append(path)
    return paths


@dataclass(frozen=True)
class Lengths:
    """A network's scores in dB by training steps."""

    label: str
    family: str
    scores: Mapping[int, float]


def lengths(curves: Sequence[Lengths], folder: Path, name: str, where: str) -> list[Path]:
    """Score against the length of the training, each network labelled at its end."""
    with _drawing(0.72 * WIDTH, 3.2) as figure:
        axes = figure.add_subplot()
        for curve in curves:
            colour, _ = _FAMILIES[curve.family]
            steps = sorted(curve.scores)
            axes.plot(steps, [curve.scores[s] for s in steps], "o-", color=colour, markersize=3.5)
            end = (steps[-1], curve.scores[steps[-1]])
            axes.annotate(
                curve.label, end, xytext=(7, 0), textcoords="offset points", va="center", color=colour
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({s for c in curves for s in c.scores}))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.margins(x=0.18)
        axes.set_xlabel("training steps")
        axes.set_ylabel(f"PSNR-Y on {where} (dB)")
        return _save(figure, folder, name)


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
    with _drawing(0.9 * WIDTH, 4.0) as figure:
        axes = figure.add_subplot()
        for point in points:
            colour, _ = _FAMILIES[point.family]
            energy = point.energy_uj / 1e3
            if point.low is not None and point.high is not None:
                axes.plot([energy, energy], [point.low, point.high], color=colour, linewidth=0.8, alpha=0.6)
            fill = colour if point.front else "white"
            axes.plot(energy, point.psnr, "o", color=colour, markerfacecolor=fill, markersize=4)
            axes.annotate(
                point.label,
                (energy, point.psnr),
                (4, 3),
                textcoords="offset points",
                fontsize=5,
                color=colour,
            )
        front = sorted((p for p in points if p.front), key=lambda p: p.energy_uj)
        axes.plot([p.energy_uj / 1e3 for p in front], [p.psnr for p in front], color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlabel(f"energy of a 256 × 256 picture under '{convention}' (mJ)")
        axes.set_ylabel(f"PSNR-Y on {where} (dB)")
        return _save(figure, folder, name)


def complexity(
    points: Sequence[Point], folder: Path, name: str, title: str, where: str, most: float | None = None
) -> list[Path]:
    """Figure 1: parameters against PSNR, the area of a circle the operations.

    Args:
        points: the networks.
        folder: where to write.
        name: of the files.
        title: says which accounting this is.
        where: what the PSNR is a mean of.
        most: operations (G) of the largest circle, the same for figures to be compared; None: this figure's largest.

    Returns:
        The files.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter

    most = most or max(p.operations_g for p in points)
    with _drawing(WIDTH, 4.2) as figure:
        axes = figure.add_subplot()
        for point in sorted(points, key=lambda p: -p.operations_g):
            colour, line = _FAMILIES.get(point.family, (BLACK, "-"))
            area = _area(point.operations_g, most)
            look: dict[str, Any] = {"alpha": 0.35, "linewidth": 1.2, "linestyle": line}
            axes.scatter(point.params_m, point.psnr, s=area, color=colour, edgecolor=colour, **look)
            axes.plot(point.params_m, point.psnr, ".", color=colour, markersize=3)
        axes.set_xscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_major_formatter(plain)
        spread = max(p.params_m for p in points) / min(p.params_m for p in points)
        axes.xaxis.set_minor_formatter(plain if spread < 8 else FuncFormatter(lambda *_: ""))
        axes.set_xlabel("Parameters (M)")
        axes.set_ylabel("PSNR-Y (dB)")
        axes.set_title(f"{title}\nPSNR-Y: {where}")
        axes.grid(alpha=0.25)
        axes.margins(0.14, 0.2)
        families = [f for f in _FAMILIES if any(p.family == f for p in points)]
        handles = [
            Line2D([], [], marker="o", linestyle="", markersize=8, color=_FAMILIES[f][0], alpha=0.6, label=f)
            for f in families
        ]
        hollow: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": "0.4"}
        handles += [
            Line2D(
                [], [], marker="o", linestyle="", markersize=_area(s, most) ** 0.5, label=f"{s:g} G", **hollow
            )
            for s in _round_sizes(most)
        ]
        legend = axes.legend(
            handles=handles,
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            labelspacing=2.4,
            borderpad=1.8,
            frameon=False,
            title="area: operations\nat 256²",
            handletextpad=2.0,
        )
        legend.set_alignment("left")
        figure.canvas.draw()
        _labels(axes, points)
        return _save(figure, folder, name)


def _area(operations: float, most: float) -> float:
    """Area of a circle in square points; never so small that it is not seen."""
    return max(6.0, 1100.0 * operations / most)


def _round_sizes(most: float) -> list[float]:
    top = 10 ** math.floor(math.log10(most))
    largest = next(f * top for f in (5, 2, 1) if f * top <= most)
    return [largest / 25, largest / 5, largest]


def _labels(axes: Axes, points: Sequence[Point]) -> None:
    """Names beside the circles' centres, right or left, moved up or down until none covers another."""
    dpi = axes.figure.dpi
    point_size = dpi / 72
    pixels = axes.transData.transform([(p.params_m, p.psnr) for p in points])
    taken: list[_Area] = []
    for (x, y), point in sorted(zip(pixels, points, strict=True), key=lambda pair: -pair[0][1]):
        width, height = 4.4 * point_size * len(point.label), 10 * point_size
        dots = [(px - 3, py - 3, px + 3, py + 3) for px, py in pixels if (px, py) != (x, y)]
        spots: list[tuple[int, int, _Area]] = []
        for rows in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5):
            for side in (1, -1):
                near = x + side * 5 * point_size
                left, low = min(near, near + side * width), y + (rows - 0.5) * height
                spots.append((rows, side, (left, low, left + width, low + height)))
        free = [
            spot
            for spot in spots
            if not any(_overlap(spot[2], other) for other in [*taken, *dots])
            and axes.bbox.x0 < spot[2][0]
            and spot[2][2] < axes.bbox.x1
        ]
        rows, side, area = (free or spots)[0]
        taken.append(area)
        axes.annotate(
            point.label,
            (point.params_m, point.psnr),
            xytext=(5 * side, 10 * rows),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=7,
            fontweight="bold" if point.label == "ESDNet" else "normal",
            arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.5} if rows else None,
        )


_Area = tuple[float, float, float, float]  # left, low, right, high


def _overlap(a: _Area, b: _Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def telling_boxes(rainy: Picture, target: Picture, count: int = 2) -> list[Box]:
    """Squares in which there is both much rain and much to be seen: where networks differ most.

    Args:
        rainy: uint8 (H, W, 3).
        target: the same without rain; another restored picture where there is none.
        count: how many, not overlapping where there is room.
    """
    side = max(16, min(rainy.shape[:2]) // 4)
    step = max(4, side // 4)
    rain = np.abs(rainy.astype(np.float32) - target).mean(axis=2)
    grey = target.astype(np.float32).mean(axis=2)
    height, width = grey.shape
    found: list[tuple[float, Box]] = []
    for top in range(0, height - side + 1, step):
        for left in range(0, width - side + 1, step):
            box = (slice(top, top + side), slice(left, left + side))
            found.append((float(rain[box].mean() * (4 + grey[box].std())), Box(top, left, side)))
    chosen: list[Box] = []
    for _, candidate in sorted(found, key=lambda pair: -pair[0]):
        if all(max(abs(candidate.top - c.top), abs(candidate.left - c.left)) >= side for c in chosen):
            chosen.append(candidate)
        if len(chosen) == count:
            break
    return chosen


def comparison(
    panels: Sequence[Panel], boxes: Sequence[Box], folder: Path, name: str, title: str = ""
) -> list[Path]:
    """Figures 4 and 5: the same picture by every network, with the same parts magnified beneath.

    Args:
        panels: rainy first, target (if any) last; pictures of one size.
        boxes: the parts, one or two, squares inside the pictures.
        folder: where to write.
        name: of the files.
        title: above the figure.

    Returns:
        The files.
    """
    from matplotlib.patches import Rectangle

    height, width = panels[0].picture.shape[:2]
    columns = next(c for most, c in ((5, len(panels)), (8, 4), (10, 5), (10_000, 6)) if len(panels) <= most)
    rows = math.ceil(len(panels) / columns)
    gap, words = 0.06, 0.19  # inches: between pictures, for a line of text
    wide = (WIDTH - gap * columns) / columns  # half a gap is left at the page's borders
    tall = wide * height / width
    inset = (wide - gap * (len(boxes) - 1)) / len(boxes)
    each = words + tall + gap + inset + words + gap
    total = rows * each + 1.6 * words * bool(title)
    with _drawing(WIDTH, total) as figure:
        figure.set_layout_engine("none")

        def place(left: float, top: float, w: float, h: float) -> Axes:
            return figure.add_axes((left / WIDTH, 1 - (top + h) / total, w / WIDTH, h / total))

        if title:
            figure.text(0.5, 1 - 0.5 * words / total, title, ha="center", va="center", fontsize=9)
        for index, panel in enumerate(panels):
            row, column = divmod(index, columns)
            left, top = gap / 2 + column * (wide + gap), row * each + 1.6 * words * bool(title)
            axes = place(left, top + words, wide, tall)
            axes.imshow(panel.picture, interpolation="nearest", aspect="auto")
            _bare(axes)
            middle = (left + wide / 2) / WIDTH
            figure.text(
                middle, 1 - (top + words / 2) / total, panel.title, ha="center", va="center", fontsize=7.5
            )
            for number, (box, colour) in enumerate(zip(boxes, _BOXES, strict=False)):
                line = "-" if number == 0 else "--"
                corner = (box.left - 0.5, box.top - 0.5)
                axes.add_patch(
                    Rectangle(
                        corner,
                        box.side,
                        box.side,
                        fill=False,
                        edgecolor=colour,
                        linewidth=1.2,
                        linestyle=line,
                    )
                )
                close = place(left + number * (inset + gap), top + words + tall + gap, inset, inset)
                close.imshow(box.of(panel.picture), interpolation="bicubic", aspect="auto")
                _bare(close, colour, line)
            beneath = 1 - (top + words + tall + gap + inset + words / 2) / total
            figure.text(middle, beneath, panel.caption, ha="center", va="center", fontsize=6.5)
        return _save(figure, folder, name)


def _bare(axes: Axes, colour: str | None = None, line: str = "-") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(colour is not None)
        if colour is not None:
            spine.set(edgecolor=colour, linewidth=1.4, linestyle=line)


def distributions(
    values: Mapping[str, Sequence[float]], rainy: Sequence[float], folder: Path, name: str, title: str
) -> list[Path]:
    """The PSNR-Y of every single image, by network: a dot an image, the quartiles as a box, the mean as a diamond.

    Args:
        values: dB of each image, by network, as they count in means.
        rainy: of the rainy images themselves.
        folder: where to write.
        name: of the files.
        title: above the figure.

    Returns:
        The files.
    """
    rows = {"Rainy input": rainy, **values}
    rng = np.random.default_rng(0)  # the dots' jitter
    with _drawing(WIDTH, 0.9 + 0.28 * len(rows)) as figure:
        axes = figure.add_subplot()
        for place, (label, numbers) in enumerate(rows.items()):
            scores = np.array(numbers)
            y = len(rows) - place
            colour = "0.45" if label == "Rainy input" else BLUE
            axes.boxplot(
                scores,
                positions=[y],
                orientation="horizontal",
                widths=0.6,
                showfliers=False,
                medianprops={"color": RED, "linewidth": 1.4},
                boxprops={"color": colour},
                whiskerprops={"color": colour},
                capprops={"color": colour},
            )
            axes.plot(
                scores,
                y + rng.uniform(-0.18, 0.18, len(scores)),
                ".",
                color=colour,
                alpha=0.5,
                markersize=3.5,
            )
            axes.plot(scores.mean(), y, "D", color=BLACK, markersize=3.5)
        axes.axvline(float(np.mean(rainy)), color="0.6", linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(rows), 0, -1), list(rows))
        axes.set_xlabel(
            "PSNR-Y of an image (dB): dot an image, box quartiles, red median, black diamond mean"
        )
        axes.set_title(title)
        axes.grid(axis="x", alpha=0.25)
        return _save(figure, folder, name)


def curves(
    lines: Mapping[str, Sequence[tuple[float, float]]], folder: Path, name: str, title: str, ylabel: str
) -> list[Path]:
    """Training curves: (step, value) by label.

    Returns:
        The files.
    """
    with _drawing(WIDTH, 3.6) as figure:
        axes = figure.add_subplot()
        for (label, points), (colour, line) in zip(lines.items(), _cycle(len(lines)), strict=True):
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) < 12 else ""
            axes.plot(
                steps,
                values,
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=2.5,
                linewidth=1.2,
                label=label,
            )
        axes.set_xlabel("optimiser step")
        axes.set_ylabel(ylabel)
        axes.set_title(title)
        axes.grid(alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, handlelength=3)
        return _save(figure, folder, name)


def _cycle(count: int) -> list[tuple[str, Any]]:
    return [_LINES[i % len(_LINES)] for i in range(count)]


@dataclass(frozen=True)
class Curve:
    """How one training step grows with one setting; `line` is the time that the work alone would make."""

    label: str
    values: Sequence[float]
    seconds: Sequence[float]
    line: Sequence[float]
    mebibytes: Sequence[float]
    millijoules: Sequence[float]


def mark_logarithms(axis: Axis) -> None:
    """Mark a logarithmic axis 1, 2, 5, 10, …: over one decade powers of ten would be one mark or crowd."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def scaling(curves: Sequence[Curve], folder: Path, name: str, title: str) -> list[Path]:
    """Time, memory and energy of a training step (rows) against each setting (columns), logarithmic.

    Returns:
        The files.
    """
    from matplotlib.ticker import FormatStrFormatter, NullLocator

    quantities = (
        ("seconds", "a step (s)"),
        ("mebibytes", "peak memory (MiB)"),
        ("millijoules", "energy (mJ)"),
    )
    with _drawing(WIDTH, 5.2) as figure:
        grid = figure.subplots(3, len(curves), sharey="row", squeeze=False)
        for column, curve in enumerate(curves):
            for row, (attribute, label) in enumerate(quantities):
                axes = grid[row][column]
                axes.plot(
                    curve.values, getattr(curve, attribute), "o-", color=BLUE, markersize=3, label="measured"
                )
                if attribute == "seconds":
                    axes.plot(curve.values, curve.line, "--", color=RED, linewidth=1, label="with the work")
                axes.set_xscale("log")
                axes.set_yscale("log")
                axes.set_xticks(list(curve.values))
                axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
                axes.xaxis.set_minor_locator(NullLocator())
                mark_logarithms(axes.yaxis)
                axes.grid(alpha=0.25)
                if column == 0:
                    axes.set_ylabel(label)
            grid[2][column].set_xlabel(curve.label)
        grid[0][0].legend(frameon=False)
        figure.suptitle(f"ESDNet, one training step: {title}", fontsize=9)
        return _save(figure, folder, name)
