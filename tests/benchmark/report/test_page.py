"""The HTML report: what is in it, and how it behaves in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.report import evidence, style
from benchmark.report import page as page_module
from benchmark.report.page import page
from benchmark.report.paper import results
from benchmark.report.parts import Choice, Comparison, Crops, Drawn, Folded, Grid, Report, Section, Shown
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
    assert box.locator(".gain").get_attribute("aria-valuetext") == "differences 4 times as large"
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


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What a reader opens, chooses or narrows: a choice of tables, folded parts, crops, a table of several sets."""
    folder = tmp_path_factory.mktemp("folded")
    with style.drawing(4, 2) as figure:
        figure.add_subplot().plot([1, 2], [1, 2], color=style.FAMILIES["CNN"].colour)
        style.save(figure, folder, "drawn", ("png", "svg"))
    columns = [Column(f"c{i}", f"A column with a long name {i}\n(dB)") for i in range(9)]

    def of_sets(low: float) -> list[Row]:
        return [
            Row(f"{name}: {label}", {c.key: Cell(low + value) for c in columns})
            for name in ("Rain12", "Rain200L")
            for label, value in (("rainy input", 1.0), ("worse", 2.0), ("better", 3.0))
        ]

    def of(convention: str, low: float) -> Table:
        columns = [Column("psnr", "PSNR-Y")]
        rows = [Row(f"n{i}", {"psnr": Cell(low + i)}) for i in range(12)]
        return Table(f"t_{convention}", f"Table, convention `{convention}`", columns, rows)

    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (100, 200, 3), np.uint8)
    crops = [whole[:20, :20], whole[40:60, 40:60]]
    enlarged = Crops(
        "Set, first",
        whole,
        3,
        [(0, 0, 20), (40, 40, 20)],
        [("Rainy input", "13.0 / 0.3", crops), ("NAFNet", "30.0 / 0.9", crops)],
        "NAFNet",
        Drawn(folder / "drawn.png", "The same."),
    )
    drawn = Drawn(folder / "drawn.png", "A figure.", "A figure. Highest: NAFNet 30 dB.")
    conventions = [("esdnet", "As ESDNet.", of("esdnet", 10)), ("matlab", "As MATLAB.", of("matlab", 20))]
    parts = [
        Choice("Convention", conventions),
        Table("sets", "Several sets", columns, of_sets(10.0)),
        drawn,
        Folded("Enlarged", [enlarged]),
    ]
    return Report(
        "T", [], [Section("a", "A", parts=parts), Section("b", "B", parts=[Folded("More", [drawn])])]
    )


@pytest.mark.parametrize("width", [1440, 400])
def test_what_is_chosen_opened_and_narrowed(browser: Any, folded: Report, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(folded), encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(path.as_uri())

    # one table of several, with what the choice means
    first, second = (tab.locator(f".chosen >> nth={i}") for i in (0, 1))
    assert first.is_visible() and not second.is_visible()
    tab.locator(".choice select").first.select_option("matlab")
    assert second.is_visible() and not first.is_visible()
    assert (
        "As MATLAB." in second.inner_text() and "31.00" in second.locator("tbody.body tr").first.inner_text()
    )
    second.locator(".find").fill("n11")
    assert second.locator("tbody.body tr:visible").count() == 1
    assert second.locator(".found").inner_text() == "1 of 12 rows shown"

    # sets keep to themselves, each with its input; where the page is narrow rows are cards that can be sorted
    block = tab.locator(".block").nth(2)
    assert block.locator("tr.set").all_inner_texts() == ["Rain12", "Rain200L"]
    assert [t.split()[:2] for t in block.locator("tbody.input tr:not(.set)").all_inner_texts()] == [
        ["Rainy", "input"]
    ] * 2
    names = "rows => rows.map(r => r.cells[0].innerText)"
    assert block.locator("tbody.body tr").evaluate_all(names) == ["better", "worse"] * 2
    assert block.locator(".fit").evaluate("r => r.scrollWidth <= r.clientWidth + 1")
    cards = "stacked" in (block.get_attribute("class") or "")
    assert cards == (width == 400)
    if cards:
        assert block.locator(".sorter select").input_value() == "1"
        heights = block.locator("tbody.body td").evaluate_all("all => all.map(c => c.offsetHeight)")
        assert max(heights) < 40, "no figure is broken over lines"
        label = block.locator("tbody.body td").first.evaluate("c => getComputedStyle(c, '::before').content")
        assert label == '"A column with a long name 0 (dB)"'
        assert block.locator("table").get_attribute("role") == "table"
    else:
        block.locator("th[data-column='1'] button").click()
        assert block.locator("tbody.body tr").evaluate_all(names) == ["worse", "better"] * 2

    # crops are as large as is said, in a page of any width
    tab.locator("details.more > summary").first.click()
    assert set(
        tab.locator(".two img").evaluate_all("all => all.map(i => i.clientWidth / i.naturalWidth)")
    ) == {3}
    tab.locator(".scale", has_text=re.compile("^at 1:1$")).wait_for()
    assert tab.locator(".crops .downloads a").count() == 1

    # figures: what is to be seen, dark where the page is, light where they are saved
    figure = tab.locator("figure > img").first
    assert figure.get_attribute("alt") == "A figure. Highest: NAFNet 30 dB."
    with tab.expect_download() as download:
        tab.locator("a.of-image").first.click()
    assert b"prefers-color-scheme" not in Path(download.value.path()).read_bytes()
    assert (
        "prefers-color-scheme"
        in base64.b64decode(str(figure.get_attribute("src")).partition(",")[2]).decode()
    )

    # where one is
    tab.evaluate("scrollTo(0, 0)")
    tab.locator("nav a[aria-current]", has_text="A").wait_for(state="attached")
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    tab.locator("nav a[aria-current]", has_text="B").wait_for(state="attached")
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details.more:not([open])").count() == 0
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details.more:not([open])").count() == 1
    assert said == []
    tab.close()


def test_figures_are_dark_where_the_page_is(browser: Any, folded: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(folded), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme="light")
    tab.goto(path.as_uri())

    def ground() -> int:
        shot = tab.locator("figure > img").first.screenshot()
        return int(np.asarray(Image.open(io.BytesIO(shot)).convert("L"))[12, 12])

    assert ground() > 240
    tab.select_option("#theme", "dark")  # the page's own choice counts, not the system's alone
    assert ground() < 40
    tab.close()


def test_without_javascript_every_table_of_a_choice_can_be_opened(
    browser: Any, folded: Report, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(folded), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1024, "height": 900})
    tab = context.new_page()
    tab.goto(path.as_uri())
    tab.get_by_text("The same, convention matlab").click()
    assert tab.locator(".chosen table").nth(1).is_visible()
    tab.locator("details.more > summary").first.click()
    assert tab.locator(".two img").first.is_visible()
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
