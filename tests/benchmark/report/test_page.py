"""The HTML report: what is in it, and how it behaves in a browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.report import evidence
from benchmark.report import page as page_module
from benchmark.report.page import page
from benchmark.report.paper import results
from benchmark.report.parts import Comparison, Drawn, Grid, Report, Section, Shown
from benchmark.text.table import Cell, Column, Row, Table

EVIL = '<script>window.evil = 1</script>"&</script>'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("page")
    Image.fromarray(np.zeros((40, 700, 3), np.uint8)).save(folder / "f.png")
    sets = ("Rain200H", "Rain200L", "Average")
    columns = [
        column
        for name in sets
        for column in (
            Column(f"{name.lower()}_psnr", f"{name}\nPSNR-Y"),
            Column(f"{name.lower()}_ssim", f"{name}\nSSIM-Y", 4),
        )
    ]
    columns += [Column(f"c{i}", f"Parameters {i}\n(M)", 3) for i in range(2)]

    def cells(psnr: float, **more: float) -> dict[str, Cell]:
        found = {
            c.key: Cell(psnr if "psnr" in c.key else psnr / 100, paper=29.0, deviation=0.1, n=1, wanted=3)
            for c in columns[:6]
        }
        return found | {c.key: Cell(40 - psnr) for c in columns[6:]}

    rows = [
        Row("Rainy input", {"rain200h_psnr": Cell(13.1)}),
        Row("NAFNet", cells(9.5)),
        Row("ESDNet", cells(30.0)),
        Row(EVIL, {"average_psnr": Cell(paper=28.0, reason=f"diverged {EVIL}")}),
        Row("DRT", cells(20.0)),
    ]
    black, white = (np.full((60, 80, 3), v, np.uint8) for v in (0, 255))
    shown = [
        Shown("Rainy input", black, "13.10 / 0.3"),
        Shown(EVIL, black),
        Shown("ESDNet", white, "30.00 / 0.9"),
        Shown("Target", black),
    ]
    run = {
        "name": EVIL,
        "command": f"derain train {EVIL}",
        "config": {"recipe": {"name": "paper", "optimizer": {"lr": 0.001}}},
        "results": {"rain200h": {"mean": {"psnr_esdnet": "inf", "n": 2}}},
    }
    (folder / "f.pdf").write_bytes(b"%PDF-1.4")
    return Report(
        title=f"Title {EVIL}",
        about=["About."],
        sections=[
            Section("table1", "Table 1", parts=[Table("t", "Table 1, `esdnet`", columns, rows, ["A note."])]),
            Section(
                "pictures", "Pictures", parts=[Comparison("Rain200H", [("first", shown), (EVIL, shown)])]
            ),
            Section("figures", "Figures", parts=[Drawn(folder / "f.png", "A figure.")]),
            Section(
                "cost",
                "Cost",
                parts=[Grid("Net", "1 M", ["name", "macs"], [["a", 5], ["b", 40], ["c", None]])],
            ),
            Section("runs", "Runs", runs=[run]),
            Section("not-run", "Not run", not_run=[("MPRNet", f"out of memory {EVIL}")]),
            Section("real", "Real rain", missing="make table2 first"),
        ],
    )


def test_everything_is_there_and_names_are_escaped(report: Report) -> None:
    text = page(report)
    assert EVIL not in text
    assert text.count("<script") == 2  # the page's own, and the pictures' data
    for words in (
        "29.00 (+1.00)",
        "30.00<small>± 0.10 (1 of 3)",
        "derain train",
        "optimizer.lr=0.001",
        "A note.",
        "Table 1, <code>esdnet</code>",
        "<noscript>",
        "make table2 first",
    ):
        assert words in text
    assert "out of memory &lt;script&gt;" in text
    assert "Nothing." in page(Report("Title", [], [Section("a", "A")]))


def test_nothing_is_fetched(report: Report) -> None:
    text = page(report)
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", text)
    assert (
        "default-src 'none'" in text and "url(" not in text and "http" not in text.replace("http-equiv", "")
    )


def test_every_table_is_there_to_take_away(report: Report) -> None:
    text = page(report)
    found = dict(re.findall(r'<a download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', text))
    assert {"t.csv", "t.tex", "t.json", "net.csv", "net.tex", "net.json", "f.pdf"} <= set(found)
    assert base64.b64decode(found["f.pdf"]) == b"%PDF-1.4"
    lines = base64.b64decode(found["net.csv"]).decode().split()
    assert lines[:2] == ["name,macs", "a,5.0"] or lines[:2] == ["name,macs", "a,5"]
    assert json.loads(base64.b64decode(found["net.json"]))[1] == {"name": "b", "macs": 40}
    assert b"ESDNet & 30.00" in base64.b64decode(found["t.tex"])
    assert json.loads(base64.b64decode(found["t.json"]))["rows"][2]["label"] == "ESDNet"


def test_a_page_has_a_size_that_can_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "LIMIT", 700_000)
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (120, 160, 3), np.uint8) for _ in range(4)]
    shown = [Shown(str(i), noise[i % 4]) for i in range(14)]
    for i in range(3):
        Image.fromarray(noise[i]).save(tmp_path / f"f{i}.png")
        (tmp_path / f"f{i}.pdf").write_bytes(bytes(150_000))
    figures = [Drawn(tmp_path / f"f{i}.png", f"Figure {i}.") for i in range(3)]
    parts = [*(Comparison(name, [("one", shown), ("two", shown)]) for name in "abc"), *figures]
    text = page(Report("Title", [], [Section("pictures", "Pictures", parts=parts)]))
    assert len(text.encode()) <= 700_000
    assert "more of each set would not fit" in text and f"<code>{tmp_path.name}/f2.pdf</code>" in text
    assert text.count("<figure><img") == 3, "the figures come before pictures and PDFs"


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


@pytest.mark.parametrize("width", [1440, 400])
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
    block = tab.locator(".block").first

    def names() -> list[str]:
        shown = "rows => rows.filter(r => r.offsetHeight).map(r => r.cells[0].innerText.slice(0, 6))"
        return block.locator("tbody.body tr").evaluate_all(shown)

    # the best average first, what is empty last, the input apart; all columns where they fit, else the average's
    assert names() == ["ESDNet", "DRT", "NAFNet", EVIL[:6]]
    assert block.locator("tbody.input").inner_text().startswith("Rainy input")
    columns = block.locator(".tools select")
    assert columns.input_value() == ("" if width == 1440 else "Average")
    assert block.locator(".fit").evaluate("r => r.scrollWidth <= r.clientWidth")
    assert block.locator("th[aria-sort=descending]:visible").inner_text().startswith("PSNR-Y")
    block.locator("th[data-first=descending] button:visible").nth(
        -2
    ).click()  # the average again: the other way round
    assert names() == ["NAFNet", "DRT", "ESDNet", EVIL[:6]]
    columns.select_option("Costs")  # what is hidden is not sorted by; of costs the lowest is best
    assert names() == ["ESDNet", "DRT", "NAFNet", EVIL[:6]]
    assert block.locator("th[aria-sort=ascending]:visible").inner_text().startswith("Parameters 0")
    columns.select_option("Rain200L")
    assert block.locator("th.over:visible").all_inner_texts() == ["Rain200L"]
    block.locator("fieldset input[value=Transformer]").uncheck()
    assert names() == ["ESDNet", "NAFNet", EVIL[:6]]

    box = tab.locator(".viewer")
    left, right = box.locator("select.left"), box.locator("select.right")
    assert (left.input_value(), right.input_value()) == ("Rainy input", "ESDNet")
    assert box.locator(".left-name").inner_text() == "Rainy input\n13.10 / 0.3"
    assert box.locator(".over").evaluate("i => i.naturalWidth") == 80
    assert box.locator("[data-pane=target] .name").inner_text() == "Target"
    assert "30.00 / 0.9" in (box.locator(".over").get_attribute("alt") or "")
    main = box.locator("[data-pane=main]")
    box.locator(".line").focus()
    tab.keyboard.press("Home")
    assert main.evaluate("s => getComputedStyle(s).getPropertyValue('--at')") == "0%"
    assert "0 percent" in (box.locator(".line").get_attribute("aria-valuetext") or "")
    moved = "all => all.map(one => one.style.transform)"
    box.locator("[data-zoom=own]").click()
    for _ in range(6):
        box.locator("[data-zoom=in]").click()
    before = box.locator(".moved").evaluate_all(moved)
    main.focus()
    tab.keyboard.press("ArrowRight")
    after = box.locator(".moved").evaluate_all(moved)
    assert before != after and len(set(after)) == 1  # all are moved alike
    box.get_by_label("difference", exact=True).check()
    pixel = "c => [...c.getContext('2d').getImageData(40, 30, 1, 1).data]"
    tab.wait_for_function("document.querySelector('canvas').width == 80")
    assert box.locator("canvas").evaluate(pixel)[0] > 250  # black and white
    right.select_option("Target")
    tab.wait_for_function(
        "document.querySelector('canvas').getContext('2d').getImageData(40, 30, 1, 1).data[0] < 5"
    )
    box.locator("select.which").select_option(index=1)
    assert right.input_value() == "Target"  # the choice stays with the next picture

    tab.keyboard.press("Escape")
    tab.select_option("#theme", "dark")
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.select_option("#theme", "light")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("window.evil") is None
    assert said == []
    assert asked[0] == path.as_uri() and all(u.startswith("data:") for u in asked[1:])
    tab.close()


def test_without_javascript_the_tables_are_to_be_read(browser: Any, report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(report), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1024, "height": 900})
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert "Without JavaScript" in tab.locator("header").inner_text()
    assert tab.locator("tbody.body tr").first.inner_text().startswith("ESDNet")
    assert not tab.locator(".viewer").is_visible() and not tab.locator("#theme").is_visible()
    assert tab.locator(".downloads a").first.is_visible()
    tab.locator("a.skip").focus()
    assert tab.locator("a.skip").bounding_box()["x"] >= 0
    context.close()


def test_what_is_kept_with_the_suite_is_told_as_it_is() -> None:
    if not results("bench").is_dir():
        pytest.skip("this is no checkout")
    speed = evidence.speed()
    assert speed is not None
    crops = next(row for row in speed.rows if row[4] == "crops/s")
    assert crops[2] / crops[3] == pytest.approx(crops[5], rel=0.5)  # both are rates: more is faster
    assert len({row[0] for row in speed.rows}) > 10 and all(row[-1] for row in speed.rows)
    claims = evidence.claims()
    assert claims is not None and claims.columns[:2] == ["claim", "verdict"]
    assert len(claims.rows) > 10 and all(row[1] for row in claims.rows)
    assert [grid.rows[0][0] for grid in evidence.costs()][:2] == ["RESCAN", "printed"]
    rates = evidence.rates()
    assert rates is not None and {row[0] for row in rates.rows} >= {"ESDNet", "SpikeRain", "VLIF"}


def test_a_table_without_rows_is_a_table() -> None:
    assert "Nothing yet" in page(
        Report("T", [], [Section("a", "A", parts=[Grid("Nothing yet", "", ["a", "b"], [])])])
    )
