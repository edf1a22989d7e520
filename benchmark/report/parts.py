"""What a page shows, as plain data: pictures, figures, tables of plain values, sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.text.table import Table

Record = Mapping[str, Any]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """A picture and what is said of it; of a comparison, or a figure."""

    name: str
    picture: Picture
    caption: str = ""


@dataclass(frozen=True)
class Comparison:
    """Test pictures of one set: for each its name, and rainy, restored by each network, target."""

    title: str
    pictures: Sequence[tuple[str, Sequence[Shown]]]


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        path: its PNG file; PDF and SVG beside it, of the same name, where there are any.
        caption: what it shows.
        seen: what is to be seen in it, for those who do not see it; nothing: the caption.
    """

    path: Path
    caption: str
    seen: str = ""


@dataclass(frozen=True)
class Crops:
    """A rainy picture as a whole, and parts of it enlarged as it is, by every network and without rain.

    Attributes:
        title: of the picture and its set.
        whole: the rainy picture.
        zoom: how many pixels wide and high one of a part is shown.
        boxes: (left, top, side) of the parts, in pixels.
        panels: the parts of each, in the boxes' order, with its name and what is said of it.
        best: name of the panel with the highest score.
        drawn: the same as a figure, to be taken away.
    """

    title: str
    whole: Picture
    zoom: int
    boxes: Sequence[tuple[int, int, int]]
    panels: Sequence[tuple[str, str, Sequence[Picture]]]
    best: str = ""
    drawn: Drawn | None = None


@dataclass(frozen=True)
class Choice:
    """Tables of the same rows, of which the reader looks at one; the first is shown first.

    Attributes:
        label: what is chosen.
        tables: by the name of the choice, with what it means.
    """

    label: str
    tables: Sequence[tuple[str, str, Table]]


@dataclass(frozen=True)
class Grid:
    """A table of plain values: column titles and rows; folded under its total where it has one."""

    title: str
    total: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Folded:
    """What is secondary: to be opened by its title."""

    title: str
    parts: Sequence[Part]


Part = Table | Grid | Comparison | Drawn | Crops | Choice | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its address in the page.
        title: above it.
        about: paragraphs beneath the title.
        parts: what it shows, in order.
        runs: records of runs, for a list of where they come from.
        not_run: what was not run, and why.
        missing: what is said where there is nothing to show.
    """

    key: str
    title: str
    about: Sequence[str] = ()
    parts: Sequence[Part] = ()
    runs: Sequence[Record] = ()
    not_run: Sequence[tuple[str, str]] = ()
    missing: str = "Nothing."


@dataclass(frozen=True)
class Report:
    """All that a page shows."""

    title: str
    about: Sequence[str]  # paragraphs beneath the title
    sections: Sequence[Section] = field(default_factory=tuple)
