"""The HTML report: what is in it, and how it behaves in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.report.page import Comparison, Drawn, Layers, Report, Shown, page
from benchmark.text.table import Cell, Column, Row, Table

EVIL = '<script>window.evil = 1</script>"&</script>'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("page")
    Image.fromarray(np.zeros((40, 700, 3), np.uint8)).save(folder / "f.png")
    columns = [
        Column("psnr", "Rain200H\nPSNR-Y"),
        *(Column(f"c{i}", f"another {i}\ncolumn", 3) for i in range(12)),
    ]
    extra = {f"c{i}": Cell(1.0, paper=2.0) for i in range(12)}
    rows = [
        Row("Rainy input", {"psnr": Cell(13.1)}),
        Row("B", {"psnr": Cell(30.0, paper=29.0, deviation=0.1, n=1, wanted=3), **extra}),
        Row(EVIL, {"psnr": Cell(paper=28.0, reason=f"diverged {EVIL}")}),
        Row("A", {"psnr": Cell(9.5), **extra}),
    ]
    black, white = (np.full((60, 80, 3), v, np.uint8) for v in (0, 255))
    shown = [
        Shown("Rainy input", black, "13.10 / 0.3"),
        Shown(EVIL, white, "30.00 / 0.9"),
        Shown("Target", black),
    ]
    run = {
        "name": EVIL,
        "command": f"derain train {EVIL}",
        "config": {"recipe": {"name": "paper", "optimizer": {"lr": 0.001}}},
        "results": {"rain200h": {"mean": {"psnr_esdnet": "inf", "n": 2}}},
    }
    return Report(
        title=f"Title {EVIL}",
        about=["About."],
        tables=[Table("t", "Table 1, `esdnet`", columns, rows, ["A note."])],
        comparisons=[Comparison("Rain200H", [("first", shown), (EVIL, shown)])],
        figures=[Drawn(folder / "f.png", "A figure.")],
        layers=[Layers("Net", "1 M", ["name", "macs"], [["a", 5], ["b", 40], ["c", None]])],
        runs=[run],
        not_run=[("MPRNet", f"out of memory {EVIL}")],
    )


def test_everything_is_there_and_names_are_escaped(report: Report) -> None:
    text = page(report)
    assert EVIL not in text
    assert text.count("<script") == 2  # the page's own, and the pictures' data
    for words in (
        "printed 29.00 (+1.00)",
        "30.00 ± 0.10 (1 of 3)",
        "derain train",
        "optimizer.lr=0.001",
        "A note.",
        "Table 1, <code>esdnet</code>",
    ):
        assert words in text
    assert "out of memory &lt;script&gt;" in text


def test_nothing_is_fetched(report: Report) -> None:
    text = page(report)
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", text)
    assert (
        "default-src 'none'" in text and "url(" not in text and "http" not in text.replace("http-equiv", "")
    )


def test_an_empty_section_says_why() -> None:
    text = page(Report("Title", [], missing={"tables": "make table1 first"}))
    assert "make table1 first" in text and "Nothing." in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = next(
        (b for n in ("chromium", "chromium-browser", "google-chrome") if (b := shutil.which(n))), None
    )
    if binary is None:
        pytest.skip("there is no Chromium")
    with driver.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=binary, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(browser: Any, report: Report, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(report), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())

    def names() -> list[str]:
        return tab.eval_on_selector_all(
            "table.sortable >> nth=0 >> tbody tr", "rows => rows.map(r => r.cells[0].innerText)"
        )

    heads = tab.locator("table.sortable").first.locator("thead button")
    heads.nth(1).click()  # figures: the largest first, what is empty last
    assert [n[:5] for n in names()] == ["B", "Rainy", "A", EVIL[:5]]
    heads.nth(1).click()
    assert [n[:5] for n in names()] == ["A", "Rainy", "B", EVIL[:5]]
    heads.nth(0).click()
    assert [n[:5] for n in names()] == [EVIL[:5], "A", "B", "Rainy"]
    assert tab.locator("th[aria-sort]").count() == 1

    box = tab.locator(".comparison")
    assert box.locator(".left").inner_text() == "Rainy input: 13.10 / 0.3"
    assert box.locator(".right").inner_text().startswith(EVIL)
    assert box.locator("img.over").evaluate("i => i.naturalWidth") == 80
    box.locator("input").focus()
    tab.keyboard.press("Home")
    assert box.locator(".slider").evaluate("s => getComputedStyle(s).getPropertyValue('--at')") == "0%"
    box.locator("select").nth(2).select_option("Target")
    assert box.locator(".right").inner_text() == "Target"
    box.locator("select").nth(0).select_option(index=1)
    assert box.locator(".right").inner_text() == "Target"  # the choice stays with the next picture

    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("window.evil") is None
    assert said == []
    assert asked == [path.as_uri()] or all(u.startswith(("data:", "file:")) for u in asked)
    tab.close()
