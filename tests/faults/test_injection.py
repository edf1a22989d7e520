"""Fault 19: names that are code. In HTML, CSV, LaTeX, Markdown and the terminal they stay names.

Further: `test_everything_is_there_and_names_are_escaped` and `test_in_a_browser` (the report),
`test_names_cannot_break_markdown_or_become_formulas`, `test_names_stay_inside_the_folder`.
"""

from __future__ import annotations

import csv as csv_module
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cost.writing import latex as cost_latex
from benchmark.cost.writing import markdown as cost_markdown
from benchmark.report.page import page
from benchmark.report.parts import Comparison, Grid, Report, Section, Shown
from benchmark.text.escapes import csv_text, in_latex, in_markdown, write_csv
from benchmark.text.table import Cell, Column, Row, Table, csv, latex, markdown
from benchmark.text.terminal import show

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|'/C calc'!A0",
    " =1+1",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\\input{/etc/passwd}",
    "a & b % c # d _ e ~ f ^ g $x$",
    "a | b",
    "[text](javascript:alert(1))",
    "two\nlines",
    "[/bold]",
    "[red]",
    "</script><script>",
]


def _table(name: str) -> Table:
    return Table(
        "t",
        f"title {name}",
        [Column("x", f"column {name}"), Column("y", "y")],
        [Row(name, {"x": Cell(1.0), "y": Cell(reason=name)})],
        [f"note {name}"],
    )


@pytest.mark.parametrize("name", EVIL)
def test_csv_has_no_formula(name: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", pd.DataFrame([{"name": name, name: -1.5}]))
    for text in (csv(_table(name)), (tmp_path / "rows.csv").read_text()):
        for row in csv_module.reader(io.StringIO(text)):
            for value in row:
                number = re.fullmatch(r"-?\d+(\.\d+)?", value)
                assert number or not value.lstrip(" ").startswith(tuple("=+-@\t\r")), value
    assert "-1.5" in (tmp_path / "rows.csv").read_text(), "a number stays a number"


@pytest.mark.parametrize("name", EVIL)
def test_latex_obeys_nothing(name: str) -> None:
    frame = pd.DataFrame([{"network": name, "value": 1.0}])
    for text in (latex(_table(name)), cost_latex(frame)):
        for line in text.splitlines():
            if line.startswith("%"):
                continue
            bare = re.sub(r"\\[\\{}&%$#_]|\\text\w+\{\}|\$\^\{\w\}\$|\$\\?-?\w*\$", "", line)
            if not bare.startswith("\\"):  # \toprule and the like are ours
                assert not re.search(r"[#$%_^~\\]", bare), line
    own, plain = (
        [line for line in latex(_table(n)).splitlines() if line[:1] != "%"] for n in (name, "plain")
    )
    assert len(own) == len(plain), "no line is begun but in a comment"


@pytest.mark.parametrize("name", EVIL)
def test_markdown_has_no_tag_link_or_further_cell(name: str) -> None:
    frame = pd.DataFrame([{"network": name, "value": 1.0}])
    for text, plain in (
        (markdown(_table(name)), markdown(_table("plain"))),
        (cost_markdown(frame), cost_markdown(pd.DataFrame([{"network": "plain", "value": 1.0}]))),
    ):
        assert not re.search(r"<(?!/?sup>)", text)
        assert text.count("\n") == plain.count("\n")
        rows, plain_rows = (
            [re.sub(r"\\\|", "", line).count("|") for line in t.splitlines() if line.startswith("|")]
            for t in (text, plain)
        )
        assert rows == plain_rows
        tables = [line for line in text.splitlines() if line.startswith("|")]
        assert not any(re.search(r"(?<!\\)\[", line) for line in tables)


@pytest.mark.parametrize("name", EVIL)
def test_the_terminal_shows_the_name_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(_table(name))
    shown = capsys.readouterr().out
    if "\n" not in name and "\t" not in name and "\r" not in name:
        assert name in shown


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, frozenset[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, frozenset(k for k, _ in attrs)))


def _page(name: str) -> str:
    picture = np.zeros((2, 2, 3), np.uint8)
    record = {
        "name": name,
        "command": name,
        "commit": name,
        "machine": {name: name},
        "versions": {name: name},
    }
    return page(
        Report(
            title=name,
            about=[name],
            sections=[
                Section(
                    "all",
                    name,
                    [name],
                    [
                        _table(name),
                        Comparison(name, [(name, [Shown(name, picture, name)])]),
                        Grid(name, name, [name, name], [[name, name]], [name]),
                    ],
                    [{**record, "config": {"model": {"name": name, "options": {name: name}}}}],
                    [(name, name)],
                ),
                Section("empty", name, missing=name),
            ],
        )
    )


@pytest.mark.parametrize("name", EVIL)
def test_the_report_has_the_same_tags_whatever_things_are_called(name: str) -> None:
    found, plain = _Tags(), _Tags()
    found.feed(_page(name))
    plain.feed(_page("plain"))
    assert found.tags == plain.tags


@given(st.text(max_size=40))
def test_any_text_stays_text(text: str) -> None:
    assert "\n" not in in_markdown(text) + in_latex(text)
    value = next(
        csv_module.reader(io.StringIO(csv_text(pd.DataFrame([{"x": text + "x"}])).split("\n", 1)[1]))
    )
    assert not value or not value[0].lstrip(" ").startswith(tuple("=+-@\t\r\n"))
