"""Grids in a terminal of any width: no digit of a figure is ever cut, columns that find no room go beneath."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from benchmark.text.plain import plain
from benchmark.text.table import BEST, Cell, Column, Table, measured, number

_UNLIMITED = 10_000  # characters: what is piped is one grid
_WORDS = 34  # characters of a column of words, from which on they are folded
_LABEL = 26  # likewise of the labels
_NAME = 14  # likewise of the names of columns


def width() -> int:
    """Characters of a line: COLUMNS, else the terminal's; where there is none, as many as are asked for."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _UNLIMITED
    except (OSError, ValueError, AttributeError):
        return _UNLIMITED


@dataclass(frozen=True)
class Head:
    """A column: its group (a test set), its name, and whether it holds figures, which are never folded."""

    title: str
    group: str = ""
    figures: bool = True


@dataclass(frozen=True)
class Line:
    """A row of a grid: its label, a cell for each column, and its look (of rich: "bold", "dim"), each cell's too."""

    label: str
    cells: Sequence[str]
    style: str = ""
    styles: Sequence[str] = ()


def grid(corner: str, heads: Sequence[Head], lines: Sequence[Line], title: str = "") -> None:
    """Print a grid: side by side what fits; else group beneath group, the labels repeated, or a list.

    Args:
        corner: what the labels are called.
        heads: of the columns.
        lines: of the grid. Empty ones of a part that is printed by itself are left out.
        title: above it.
    """
    most = width()
    encoding = getattr(sys.stdout, "encoding", None)
    console = Console(width=max(most, 8), highlight=False)
    corner, title = plain(corner, encoding), plain(title, encoding)
    heads = [Head(plain(h.title, encoding), plain(h.group, encoding), h.figures) for h in heads]
    lines = [
        dataclasses.replace(
            line, label=plain(line.label, encoding), cells=[plain(cell, encoding) for cell in line.cells]
        )
        for line in lines
    ]
    if title:
        console.print(title, markup=False, style="italic", soft_wrap=most == _UNLIMITED)
    parts = _parts(corner, heads, lines, most)
    if parts is None:
        _listed(console, heads, lines)
        return
    for i, part in enumerate(parts):
        if i:
            console.print()
        for text in _Part(corner, heads, lines, part).drawn(_encodes_lines(encoding)):
            console.print(text, soft_wrap=True)


def _parts(corner: str, heads: Sequence[Head], lines: Sequence[Line], most: int) -> list[list[int]] | None:
    """The columns of each part that fits, whole groups together where one does; None where a column does not."""
    groups: list[list[int]] = []
    for i, head in enumerate(heads):
        if head.group and i and head.group == heads[i - 1].group:
            groups[-1].append(i)
        else:
            groups.append([i])

    def fits(part: Sequence[int]) -> bool:
        return _Part(corner, heads, lines, part).width <= most

    parts: list[list[int]] = [[]]
    for group in groups:
        if fits([*parts[-1], *group]):
            parts[-1] += group
            continue
        pieces = [group] if fits(group) else [[i] for i in group]
        for piece in pieces:
            if not fits(piece):
                return None
            if parts[-1] and (len(pieces) == 1 or not fits([*parts[-1], *piece])):
                parts.append([])
            parts[-1] += piece
    return [part for part in parts if part]


_GAP = "  "


class _Part:
    """Columns of a grid that stand side by side, with the labels."""

    def __init__(
        self, corner: str, heads: Sequence[Head], lines: Sequence[Line], part: Sequence[int]
    ) -> None:
        self.heads = [heads[i] for i in part]
        self.corner = _folded(corner, _LABEL)
        # a line that says nothing of these columns is left out
        self.lines = [
            (line, _folded(line.label, _LABEL), [_in_cell(line.cells[i], heads[i]) for i in part],
             [line.styles[i] if line.styles else "" for i in part])
            for line in lines
            if not any(line.cells) or any(line.cells[i] for i in part)
        ]  # fmt: skip
        cells = [[cells[i] for _, _, cells, _ in self.lines] for i in range(len(part))]
        least = [_most(itertools.chain.from_iterable(c)) for c in cells]
        self.names = [
            _folded(h.title, max(_NAME, n) if h.figures else _WORDS)
            for h, n in zip(self.heads, least, strict=True)
        ]
        self.widths = [max(n, _most(name)) for n, name in zip(least, self.names, strict=True)]
        self.spans = [
            list(span) for _, span in itertools.groupby(range(len(part)), lambda i: self.heads[i].group)
        ]
        for span in self.spans:
            missing = cell_len(self.heads[span[0]].group) - self._wide(span)
            for i in itertools.islice(itertools.cycle(span), max(0, missing)):
                self.widths[i] += 1
        self.label = max(
            _most(self.corner), _most(itertools.chain.from_iterable(name for _, name, _, _ in self.lines))
        )

    def _wide(self, span: Sequence[int]) -> int:
        return sum(self.widths[i] for i in span) + len(_GAP) * (len(span) - 1)

    @property
    def width(self) -> int:
        """Characters of a line."""
        return self.label + sum(len(_GAP) + w for w in self.widths)

    def drawn(self, lines: bool) -> Iterator[Text]:
        """The lines of the part; ruled by what the terminal has."""
        if any(h.group for h in self.heads):
            over = [_centred(self.heads[s[0]].group, self._wide(s)) for s in self.spans]
            yield Text(_GAP.join([" " * self.label, *over]).rstrip(), "bold")
        high = max(len(name) for name in [self.corner, *self.names])
        under = [[*self.corner, *[""] * (high - len(self.corner))]]
        under += [[""] * (high - len(name)) + name for name in self.names]
        for row in zip(*under, strict=True):
            yield Text(self._line(row), "bold")
        yield Text(("─" if lines else "-") * self.width)
        for line, label, cells, styles in self.lines:
            for n in range(max(map(len, [label, *cells]))):
                text = Text(style=line.style)
                text.append(_padded(_nth(label, n), self.label, right=False))
                for i, cell in enumerate(cells):
                    text.append(_GAP)
                    text.append(
                        _padded(_nth(cell, n), self.widths[i], self.heads[i].figures), styles[i] or None
                    )
                text.rstrip()
                yield text

    def _line(self, texts: Sequence[str]) -> str:
        rest = [_padded(t, w, h.figures) for t, w, h in zip(texts[1:], self.widths, self.heads, strict=True)]
        return _GAP.join([_padded(texts[0], self.label, right=False), *rest]).rstrip()


def _in_cell(text: str, head: Head) -> list[str]:
    """The lines of a cell: a figure's is one."""
    return [text] if head.figures else _folded(text, _WORDS)


def _nth(lines: Sequence[str], n: int) -> str:
    return lines[n] if n < len(lines) else ""


def _most(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _padded(text: str, wide: int, right: bool) -> str:
    space = " " * (wide - cell_len(text))
    return space + text if right else text + space


def _centred(text: str, wide: int) -> str:
    before = (wide - cell_len(text)) // 2
    return _padded(" " * before + text, wide, right=False)


def _folded(text: str, most: int) -> list[str]:
    """Folded between words; a word is left whole."""
    return [
        piece
        for line in text.split("\n")
        for piece in textwrap.wrap(line, most, break_long_words=False, subsequent_indent=_indent(line))
        or [line]
    ]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _encodes_lines(encoding: str | None) -> bool:
    return (encoding or "utf-8").lower().startswith("utf")


def _listed(console: Any, heads: Sequence[Head], lines: Sequence[Line]) -> None:
    """Every row as a list of its cells, for a terminal that has no room for one column beside the labels."""
    for line in lines:
        console.print(line.label, markup=False, style="bold")
        for head, cell in zip(heads, line.cells, strict=True):
            if cell:
                name = " ".join([head.group, *head.title.split("\n")]).strip()
                console.print(f"{name}: {cell}", markup=False)


def words(text: str) -> None:
    """Print a note: folded at words in a terminal, one line where it is piped."""
    most = width()
    Console(width=max(most, 8)).print(text, markup=False, highlight=False, soft_wrap=most == _UNLIMITED)


def show(table: Table) -> None:
    """Print a table of figures: a line for what was measured, one for what was printed, one for the difference."""
    letters = table.reasons()
    heads = []
    for column in table.columns:
        group, _, name = column.title.partition("\n")
        heads.append(Head(name or group, group if name else ""))
    lines = []
    for row in table.rows:
        cells = [table.cell(row, column) for column in table.columns]
        pairs = [*zip(cells, table.columns, strict=True)]
        lines.append(
            Line(
                row.label,
                [
                    measured(c, k.digits) if c.value is not None else letters.get(c.reason, "")
                    for c, k in pairs
                ],
                styles=["bold" if BEST in c.mark else "" for c in cells],
            )
        )
        for label, texts in (
            ("  printed", [_printed(c, k) for c, k in pairs]),
            ("  difference", [_difference(c, k) for c, k in pairs]),
        ):
            if any(texts):
                lines.append(Line(label, texts, "dim"))
    grid("", heads, lines, table.title)
    for reason, letter in letters.items():
        words(f"{letter}: {reason}")
    for note in table.notes:
        words(note)


def _printed(cell: Cell, column: Column) -> str:
    return number(cell.paper, column.digits) if cell.paper is not None else ""


def _difference(cell: Cell, column: Column) -> str:
    shown = cell.difference is not None and column.difference
    return number(cell.difference or 0.0, column.digits, sign=True) if shown else ""


__all__ = ["Head", "Line", "grid", "show", "width", "words"]
