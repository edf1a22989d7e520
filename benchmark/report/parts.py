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
    """A figure: its PNG file (PDF and SVG beside it, of the same name, where there are any) and what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Grid:
    """A table of plain values: column titles and rows; folded under its total where it has one."""

    title: str
    total: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()


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
    parts: Sequence[Table | Grid | Comparison | Drawn] = ()
    runs: Sequence[Record] = ()
    not_run: Sequence[tuple[str, str]] = ()
    missing: str = "Nothing."


@dataclass(frozen=True)
class Report:
    """All that a page shows."""

    title: str
    about: Sequence[str]  # paragraphs beneath the title
    sections: Sequence[Section] = field(default_factory=tuple)
