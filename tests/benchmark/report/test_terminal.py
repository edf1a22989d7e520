"""Tables in terminals of every width and encoding: no figure is cut, every part says whose it is."""

from __future__ import annotations

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import speak_any_name
from benchmark.report.models import show as show_models
from benchmark.text.table import BEST, Cell, Column, Row, Table
from benchmark.text.terminal import Head, Line, grid, show, width

SETS = ("Rain12", "Rain200L", "Rain200H", "Rain1200", "Average")


def _table(deviation: float | None = None) -> Table:
    columns = [Column(f"{s}_{m}", f"{s}\n{m}", d) for s in SETS for m, d in (("PSNR-Y", 2), ("SSIM-Y", 4))]
    columns.append(Column("params_m", "Parameters\n(M)", 3, difference=False))
    rows = []
    for n, label in enumerate(("RESCAN", "SmartAssign (rebuilt)", "ESDNet")):
        cells = {
            c.key: Cell(10.0 * i + n + 0.11, 10.0 * i + n + 0.5, deviation, mark=BEST if n == 2 else "")
            for i, c in enumerate(columns)
        }
        rows.append(Row(label, cells))
    return Table("t", "Table 1", columns, rows, ["A note."])


def _figures(table: Table) -> list[str]:
    return [f"{table.cell(r, c).value:.{c.digits}f}" for r in table.rows for c in table.columns]


def _at(columns: int, table: Table, monkeypatch: pytest.MonkeyPatch, capsys) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    show(table)
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("columns", [24, 40, 60, 80, 120, 160, 300])
@pytest.mark.parametrize("deviation", [None, 0.1234])
def test_no_figure_is_cut_and_no_line_is_too_long(
    columns: int, deviation: float | None, monkeypatch, capsys
) -> None:
    table = _table(deviation)
    text = _at(columns, table, monkeypatch, capsys)
    words = text.split()
    assert not [f for f in _figures(table) if f not in words]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= columns
    assert all(name in text for name in SETS)


def test_at_80_columns_sets_are_stacked_and_every_part_names_its_rows(monkeypatch, capsys) -> None:
    text = _at(80, _table(), monkeypatch, capsys)
    parts = text.split("─\n")
    assert len(parts) == 3
    assert text.count("SmartAssign (rebuilt)") == 2
    heads = [line for line in text.splitlines() if "Rain" in line]
    assert heads[0].split() == ["Rain12", "Rain200L", "Rain200H"]  # whole sets, both metrics
    wide = _at(200, _table(), monkeypatch, capsys)
    assert wide.count("SmartAssign (rebuilt)") == 1


def test_measured_stands_first_then_printed_then_the_difference(monkeypatch, capsys) -> None:
    lines = _at(80, _table(), monkeypatch, capsys).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("RESCAN"))
    assert lines[at].split()[:3] == ["RESCAN", "0.11", "10.1100"]
    assert lines[at + 1].split()[:3] == ["printed", "0.50", "10.5000"]
    assert lines[at + 2].split()[:3] == ["difference", "−0.39", "−0.3900"]


def test_columns_are_aligned(monkeypatch, capsys) -> None:
    lines = _at(200, _table(), monkeypatch, capsys).splitlines()
    ends = {
        tuple(m.end() for m in re.finditer(r"\S+\.\d+", line))
        for line in lines
        if re.search(r"\.\d+  ", line)
    }
    assert len({e[0] for e in ends}) == 1 and len({e[-1] for e in ends if len(e) == 11}) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_these_characters_shows_the_same_figures(encoding: str, monkeypatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    speak_any_name()
    show(_table(0.1))
    stream.flush()
    text = raw.getvalue().decode(encoding)
    assert "-0.39" in text and "\\u" not in text
    sign = {"ascii": "+/-", "latin-1": "±"}[encoding]
    assert f"0.11 {sign} 0.10" in text
    assert max(map(len, text.splitlines())) <= 80


def test_reasons_and_brackets_are_shown_as_they_are(monkeypatch, capsys) -> None:
    cell = Cell(1.5, interval=(1.0, 2.0))
    table = Table("t", "T", [Column("a", "[bold]"), Column("b", "B")], [Row("[red]x", {"a": cell})])
    text = _at(80, table, monkeypatch, capsys)
    assert "[red]x" in text and "1.50 [1.00, 2.00]" in text and "[bold]" in text
    assert "a: not measured" in text


@given(
    cells=st.lists(
        st.lists(st.from_regex(r"[0-9]{1,7}\.[0-9]{1,6}", fullmatch=True), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    ),
    columns=st.integers(20, 100),
)
def test_any_grid_keeps_its_figures(cells: list[list[str]], columns: int) -> None:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setattr(sys, "stdout", out)
        grid("", [Head(n, "g") for n in "abc"], [Line(f"row {i}", row) for i, row in enumerate(cells)])
    found = out.getvalue().split()
    assert all(found.count(c) >= 1 for row in cells for c in row)


def test_the_list_of_networks_is_whole_at_80(monkeypatch, capsys) -> None:
    from benchmark import catalog

    monkeypatch.setenv("COLUMNS", "80")
    show_models(list(catalog.networks().values()))
    text = capsys.readouterr().out
    assert "492.310" in text and "12.811" in text and "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_width_is_the_terminals_and_unlimited_where_there_is_none(monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert width() > 1000  # the test's output is no terminal
    monkeypatch.setenv("COLUMNS", "72")
    assert width() == 72
    monkeypatch.setenv("COLUMNS", "wide")
    assert width() > 1000
