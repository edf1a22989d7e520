"""How every figure looks: fonts, the colour and the marker of a family, labels at what they name, and its files.

What a colour says is also said by a marker or a label, and the colours are told apart by colour-blind readers (after
Okabe and Ito 2008); the page has the same ones. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation


@dataclass(frozen=True)
class Look:
    """Colour and marker of what belongs together."""

    colour: str
    marker: str

    @property
    def ink(self) -> str:
        """The colour, dark enough for small letters on white."""
        return "#" + "".join(f"{round(0.7 * int(self.colour[i : i + 2], 16)):02X}" for i in (1, 3, 5))


FAMILIES = {
    "CNN": Look("#0072B2", "o"),
    "Transformer": Look("#C27C00", "s"),
    "Spiking": Look("#009E73", "D"),
}
OTHER = Look("#707070", "^")
"""Of what is no network, or one of which nobody says what it is."""
RAINY, CLEAN = Look("#56B4E9", "o"), Look("#D55E00", "s")
INK = "#222222"
BEST = "★"

_PAPER, _EDGE, _GRID, _LINE = "#FFFFFF", "#808080", "#E6E6E6", "#999999"


def in_the_dark() -> dict[str, str]:
    """What each colour of a figure is where the page is dark: as far from its ground as in the light."""
    lighter = {
        "#0072B2": "#56B4E9",
        "#C27C00": "#E69F00",
        "#009E73": "#2CC79C",
        OTHER.colour: "#A8AEB8",
        RAINY.colour: RAINY.colour,
        CLEAN.colour: "#FF8A3D",
    }
    looks = [*FAMILIES.values(), OTHER, RAINY, CLEAN]
    found = {own.colour: lighter[own.colour] for own in looks}
    found |= {own.ink: lighter[own.colour] for own in looks}
    found |= {_PAPER: "#15181C", INK: "#E4E6EA", "#000000": "#C3C8D0"}
    found |= {_EDGE: "#7D838C", _GRID: "#2C3138", _LINE: "#8A9099"}
    return {light.lower(): dark.lower() for light, dark in found.items()}


WIDTH = 7.0  # inches: a page's text width
DPI = 200  # of the PNG
_STYLE: Any = {
    "pdf.fonttype": 42,  # TrueType, embedded and searchable
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "figure.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _EDGE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "savefig.dpi": DPI,
    "svg.hashsalt": "derain",
}
_SMALL = 7  # points: letters of labels


def look(family: str | None) -> Look:
    """How a family is drawn; None and unknown ones alike."""
    return FAMILIES.get(family or "", OTHER)


@contextlib.contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, in the one style; it is drawn and saved within the block."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def heading(figure: Figure, text: str) -> None:
    """What the whole figure shows, above all its axes."""
    figure.suptitle(text, x=0.01, ha="left")


FORMS = ("pdf", "png", "svg")


def save(figure: Figure, folder: Path, name: str, forms: Sequence[str] = FORMS) -> list[Path]:
    """Write the figure, without a date, so that the same figure is the same file; returns the paths."""
    from benchmark.files import atomic

    paths = []
    undated: dict[str, Any] = {
        "pdf": {"CreationDate": None, "ModDate": None},
        "png": {"Software": None},
        "svg": {"Date": None},
    }
    for form in forms:
        path = folder / f"{name}.{form}"
        with atomic(path) as temporary:
            figure.savefig(temporary, format=form, metadata=undated[form])
        paths.append(path)
    return paths


def families_key(figure: Figure, families: Iterable[str]) -> None:
    """Says beneath the figure which colour and marker is which family, of those that occur."""
    from matplotlib.lines import Line2D

    there = set(families)
    handles = [
        Line2D([], [], linestyle="", marker=own.marker, color=own.colour, label=family)
        for family, own in FAMILIES.items()
        if family in there
    ]
    if there - FAMILIES.keys():
        handles.append(
            Line2D([], [], linestyle="", marker=OTHER.marker, color=OTHER.colour, label="not known")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handletextpad=0.2)


def mark_logarithms(axis: Axis) -> None:
    """Mark a logarithmic axis 1, 2, 5, 10, …: over one decade powers of ten would be one mark or crowd."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


@dataclass(frozen=True)
class Label:
    """What a point or the end of a line is called.

    Attributes:
        text: its name.
        x, y: where it is, in the data's units.
        colour: of the letters.
        best: marked with a star, in bold letters.
        radius: in points, of the marker that is drawn there.
    """

    text: str
    x: float
    y: float
    colour: str = INK
    best: bool = False
    radius: float = 3.0

    def written(self, axes: Axes, **more: Any) -> Annotation:
        """The text as it is put on the axes."""
        return axes.annotate(
            f"{BEST} {self.text}" if self.best else self.text,
            (self.x, self.y),
            color=self.colour,
            fontsize=_SMALL,
            fontweight="bold" if self.best else "normal",
            annotation_clip=False,
            **more,
        )


def at_ends(panels: Sequence[tuple[Axes, Sequence[Label]]]) -> None:
    """Write the names of lines right of the axes, at the height of their ends, apart where ends are close together.

    All axes of a figure at once, and after everything else that takes room: the layout stays as it is from here on.
    """
    written = [
        [
            label.written(
                axes,
                xytext=(1.05, 0.5),
                textcoords="axes fraction",
                va="center",
                arrowprops={
                    "arrowstyle": "-",
                    "color": label.colour,
                    "linewidth": 0.5,
                    "shrinkA": 1,
                    "relpos": (0, 0.5),
                },
            )
            for label in labels
        ]
        for axes, labels in panels
    ]
    for (axes, labels), texts in zip(panels, written, strict=True):
        if not labels:
            continue
        _settle(axes)
        heights = axes.transData.transform([(label.x, label.y) for label in labels])[:, 1]
        each = max(_extent(text)[3] - _extent(text)[1] for text in texts) + 0.5
        for text, y in zip(texts, _apart(heights, each, axes.bbox.y0, axes.bbox.y1), strict=True):
            text.set_position((1.05, float(axes.transAxes.inverted().transform((0, y))[1])))


def _apart(wanted: NDArray[np.float64], gap: float, low: float, high: float) -> list[float]:
    """Positions nearest to the wanted ones that are `gap` apart, in the same order; within [low, high] if they fit."""
    order = np.argsort(wanted, kind="stable")
    groups: list[
        list[float]
    ] = []  # of each: the sum of what its members want, less their places in it; how many
    for place, at in enumerate(wanted[order]):
        groups.append([float(at) - gap * place, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] >= groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + count]
    bases = [total / count for total, count in groups for _ in range(int(count))]
    most = high - gap * (len(bases) - 0.5)
    found = [0.0] * len(bases)
    for place, (index, base) in enumerate(zip(order, bases, strict=True)):
        found[index] = max(min(base, most), low + gap / 2) + gap * place
    return found


Boxes = NDArray[np.float64]  # (n, 4): left, low, right, high


def beside(axes: Axes, labels: Sequence[Label], lines: Iterable[Sequence[Sequence[float]]] = ()) -> None:
    """Write the names of points beside them, where they cover neither points, lines nor one another.

    After everything else that takes room: the layout stays as it is from here on.

    Args:
        axes: on which the points are drawn.
        labels: of all points; one without a text is only kept clear of.
        lines: (xs, ys) of lines that are to be kept clear of, in the data's units.
    """
    _settle(axes)
    point = axes.figure.dpi / 72
    at = axes.transData.transform([(label.x, label.y) for label in labels])
    drawn = [_around(x, y, label.radius * point) for (x, y), label in zip(at, labels, strict=True)]
    drawn += [box for line in lines for box in _along(axes.transData.transform(np.transpose(line)), point)]
    kept_clear = np.array(drawn)
    named = [i for i, label in enumerate(labels) if label.text]
    texts = {i: labels[i].written(axes, xytext=(0, 0), textcoords="offset points") for i in named}
    spots = {i: _spots(at[i], _extent(texts[i]), labels[i].radius * point, point) for i in named}
    leads = {i: [_line_to(at[i], spot, labels[i].radius + 4, point) for spot in spots[i]] for i in named}
    room = np.array(axes.bbox.extents)
    dull: dict[int, NDArray[np.float64]] = {}
    for i, boxes in spots.items():
        crossing = np.array([float(_covered(lead, kept_clear).sum()) for lead in leads[i]])
        costs = 20.0 * _covered(boxes, kept_clear) + 100.0 * _outside(boxes, room) + 2.0 * crossing
        dull[i] = costs + np.arange(len(boxes)) * 0.1
    best = {i: int(np.argmin(dull[i])) for i in named}
    for _ in range(12):
        before = dict(best)
        for i in named:
            others = [j for j in named if j != i]
            texts_there = np.array([spots[j][best[j]] for j in others]).reshape(-1, 4)
            lines_there = np.concatenate([np.empty((0, 4)), *(leads[j][best[j]] for j in others)])
            crossed = np.array([_covered(lead, texts_there).sum() for lead in leads[i]])
            crossed += _covered(spots[i], lines_there)
            best[i] = int(np.argmin(dull[i] + 1000.0 * _covered(spots[i], texts_there) + 30.0 * crossed))
        if best == before:
            break
    for i in named:
        left, low, right, high = spots[i][best[i]]
        offset = ((left + right) / 2 - at[i, 0], (low + high) / 2 - at[i, 1])
        nearest = _nearest(at[i], spots[i][best[i]])
        far = math.dist(nearest, at[i]) > (labels[i].radius + 6) * point
        texts[i].remove()
        line: dict[str, Any] = {
            "arrowstyle": "-",
            "color": "0.5",
            "linewidth": 0.5,
            "shrinkA": 0,
            "shrinkB": 1,
        }
        line["relpos"] = tuple((nearest - (left, low)) / (right - left, high - low))
        labels[i].written(
            axes,
            xytext=(offset[0] / point, offset[1] / point),
            textcoords="offset points",
            ha="center",
            va="center",
            arrowprops=line if far else None,
        )


def _settle(axes: Axes) -> None:
    figure: Any = axes.figure
    figure.canvas.draw()
    figure.set_layout_engine("none")


def _extent(text: Annotation) -> tuple[float, float, float, float]:
    """The letters' box in pixels; an annotation's own one would include its line."""
    from matplotlib.text import Text

    canvas: Any = text.figure.canvas
    text.update_positions(canvas.get_renderer())
    box = Text.get_window_extent(text)
    return float(box.x0), float(box.y0), float(box.x1), float(box.y1)


def _around(x: float, y: float, radius: float) -> list[float]:
    return [x - radius, y - radius, x + radius, y + radius]


def _nearest(at: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(at, box[:2], box[2:])


def _line_to(at: NDArray[np.float64], box: NDArray[np.float64], free: float, point: float) -> Boxes:
    """Small boxes on the line from a point to its text, without the first points' length, which lie on the marker."""
    end = _nearest(at, box)
    length = math.dist(at, end)
    if length <= free * point:
        return np.empty((0, 4))
    return np.array(list(_along(np.array([at + (end - at) * free * point / length, end]), point)))


def _along(pixels: NDArray[np.float64], point: float) -> Iterator[list[float]]:
    """Small boxes on a line."""
    for start, end in itertools.pairwise(pixels):
        for share in np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / (4 * point))):
            x, y = start + share * (end - start)
            yield _around(float(x), float(y), 1.5 * point)


def _spots(
    at: NDArray[np.float64], extent: tuple[float, float, float, float], radius: float, point: float
) -> Boxes:
    """Where a text of that extent can be beside a point, the best first: right, left, aslant, above, below, farther."""
    half_width, half_height = (extent[2] - extent[0]) / 2 + point, (extent[3] - extent[1]) / 2
    found = []
    near = (0, 180, 45, 135, 315, 225, 90, 270)
    for away in (2, 6, 11, 17, 24, 32, 42, 54, 68, 84):
        for degrees in (*near, *(d for d in range(0, 360, 15) if d not in near)):
            along = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
            side = np.clip(along * 1.5, -1, 1)
            x, y = at + along * (radius + away * point) + side * (half_width, half_height)
            found.append([x - half_width, y - half_height, x + half_width, y + half_height])
    return np.array(found)


def _covered(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """How many of the others each box overlaps."""
    if not len(others):
        return np.zeros(len(boxes))
    over = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(
        boxes[:, None, :2], others[None, :, :2]
    )
    return (over > 0).all(axis=2).sum(axis=1).astype(np.float64)


def _outside(boxes: Boxes, room: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = boxes[:, :2] < room[:2], boxes[:, 2:] > room[2:]
    return np.asarray((low | high).any(axis=1), dtype=np.float64)
