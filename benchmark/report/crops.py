"""Figures 4 and 5: pictures beside each other, as a whole and enlarged where networks differ most."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.report.style import BEST, DPI, WIDTH, Look, drawing, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Picture = NDArray[np.uint8]

_BOXES = (Look("#F0E442", "-"), Look("#56B4E9", "--"))  # of the two crops: a colour and a line style


@dataclass(frozen=True)
class Panel:
    """One picture of a comparison: uint8 (H, W, 3), what it is, and what is said beneath it."""

    title: str
    picture: Picture
    caption: str = ""
    best: bool = False


@dataclass(frozen=True)
class Box:
    """A square part of a picture, in pixels."""

    top: int
    left: int
    side: int

    def of(self, picture: Picture) -> Picture:
        """That part of the picture."""
        return picture[self.top : self.top + self.side, self.left : self.left + self.side]


def telling_boxes(rainy: Picture, target: Picture, side: int, count: int = 2) -> list[Box]:
    """Squares in which there is both much rain and much to be seen: where networks differ most.

    Args:
        rainy: uint8 (H, W, 3).
        target: the same without rain; another restored picture where there is none.
        side: of a square, in pixels.
        count: how many, not overlapping where there is room.
    """
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
    for apart in (side, side // 2):
        for _, candidate in sorted(found, key=lambda pair: -pair[0]):
            if len(chosen) < count and all(
                max(abs(candidate.top - c.top), abs(candidate.left - c.left)) >= apart for c in chosen
            ):
                chosen.append(candidate)
    return chosen


_GAP = 8  # pixels of the PNG
ENLARGED = 3
"""How many pixels of a comparison a pixel of a crop is wide, at least."""
_TEXT = 26  # pixels of the PNG: a line of text


def comparison(panels: Sequence[Panel], folder: Path, name: str, title: str) -> list[Path]:
    """Figures 4 and 5: the whole rainy picture once, and two parts of it by every network, enlarged as they are.

    A pixel of a crop is a square of `ENLARGED` × `ENLARGED` of the PNG, or of more where a crop would else be nearly
    half of a small picture's side. The whole picture is at a whole scale too where it fits. Which parts:
    `telling_boxes`.

    Args:
        panels: rainy first, target or another restored one last; pictures of one size.
        folder: where to write.
        name: of the files.
        title: above the figure.

    Returns:
        The files.
    """
    from matplotlib.patches import Rectangle

    columns = 3 if len(panels) <= 4 else 4 if len(panels) <= 6 else 5  # the whole picture takes two
    page = round(WIDTH * DPI)
    cell = page // columns
    most = (cell - 2 * _GAP) // 2
    rainy = panels[0].picture
    height, width = rainy.shape[:2]
    zoom = max(ENLARGED, math.ceil(most / (0.42 * min(height, width))))
    boxes = telling_boxes(rainy, panels[-1].picture, most // zoom)
    crop = zoom * (most // zoom)
    each = crop + 2 * _TEXT + 2 * _GAP
    room = 2 * cell - 2 * _GAP
    scale = min(room / width, (3 * each - _TEXT) / height)
    scale = math.floor(scale) if scale >= 1 else scale
    wide, tall = round(scale * width), round(scale * height)
    beside_it = math.ceil((tall + _TEXT) / each)  # rows that the whole picture takes
    places = itertools.islice(
        ((r, c) for r in itertools.count() for c in range(2 if r < beside_it else 0, columns)), len(panels)
    )
    spots = list(places)
    total = _TEXT + _GAP + max(beside_it, spots[-1][0] + 1) * each
    with drawing(WIDTH, total / DPI) as figure:
        figure.set_layout_engine("none")

        def put(left: int, top: int, w: int, h: int, picture: Picture, smooth: bool = False) -> Axes:
            axes = figure.add_axes((left / page, 1 - (top + h) / total, w / page, h / total))
            axes.imshow(picture, interpolation="auto" if smooth else "none", aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            return axes

        def write(x: float, y: float, text: str, **more: Any) -> None:
            figure.text(x / page, 1 - y / total, text, va="center", **{"fontsize": 7, **more})

        write(_GAP, _TEXT / 2 + 4, f"{title}; crops at {zoom}:1", fontsize=9)
        top = _TEXT + _GAP
        whole = put(_GAP, top + _TEXT, wide, tall, rainy, smooth=scale < 1)
        said = f"{scale}:1" if scale >= 1 else f"1:{1 / scale:.2f}"
        write(_GAP, top + _TEXT / 2, f"{panels[0].title}, whole ({width} × {height}) at {said}")
        for box, own in zip(boxes, _BOXES, strict=False):
            corner = (box.left - 0.5, box.top - 0.5)
            whole.add_patch(
                Rectangle(
                    corner,
                    box.side,
                    box.side,
                    fill=False,
                    edgecolor=own.colour,
                    linewidth=1.4,
                    linestyle=own.marker,
                )
            )
        for panel, (row, column) in zip(panels, spots, strict=True):
            left, upper = column * cell + _GAP, top + row * each
            said = f"{BEST} {panel.title}" if panel.best else panel.title
            weight = "bold" if panel.best else "normal"
            write(left, upper + _TEXT / 2, said, fontweight=weight)
            write(left, upper + 1.5 * _TEXT + crop + 2, panel.caption, fontweight=weight)
            for number, (box, own) in enumerate(zip(boxes, _BOXES, strict=False)):
                axes = put(
                    left + number * (crop + _GAP // 2), upper + _TEXT, crop, crop, box.of(panel.picture)
                )
                axes.spines[:].set(visible=True, edgecolor=own.colour, linewidth=1.2, linestyle=own.marker)
        return save(figure, folder, name)
