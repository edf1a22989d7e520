"""Tables: cells, their forms, and Table 1 from records."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from benchmark.report.paper import printed
from benchmark.report.tables import measured_by, table1
from benchmark.sweep.plan import table_datasets
from benchmark.text.table import BEST, Cell, Column, Row, Table, csv, latex, markdown, read_table, write


def _table(**more: Cell) -> Table:
    cells = {"psnr": Cell(30.0, paper=29.5), **more}
    columns = [Column("psnr", "PSNR"), *(Column(k, k) for k in more)]
    return Table("t", "A table", columns, [Row("One", cells)], notes=["A note."])


def test_a_cell_shows_measured_printed_and_difference() -> None:
    assert "| One | 30.00 (29.50, +0.50) |" in markdown(_table())


def test_a_negative_difference_has_a_minus() -> None:
    assert "29.00 (29.50, −0.50)" in markdown(_table(psnr=Cell(29.0, paper=29.5)))


def test_an_empty_cell_says_why_and_keeps_the_printed_figure() -> None:
    text = markdown(_table(ssim=Cell(paper=0.9, reason="not run")))
    assert "<sup>a</sup> (0.90)" in text
    assert "<sup>a</sup> not run" in text


def test_missing_seeds_are_not_dropped_in_silence() -> None:
    assert "30.00 ± 0.10 (3 of 5)" in markdown(_table(psnr=Cell(30.0, deviation=0.1, n=3, wanted=5)))


def test_an_infinite_value_is_shown_as_such() -> None:
    assert "∞" in markdown(_table(psnr=Cell(float("inf"), paper=30.0)))


def test_names_cannot_break_markdown_or_become_formulas() -> None:
    table = Table("t", "T", [Column("x", "X")], [Row("=cmd()|<script>", {"x": Cell(1.0)})])
    assert "<script>" not in markdown(table)
    assert "\\|" in markdown(table)
    assert "'=cmd()" in csv(table)


def test_csv_has_full_precision_and_reads_back() -> None:
    data = pd.read_csv(io.StringIO(csv(_table(psnr=Cell(30.123456789, paper=29.5)))))
    assert data["psnr"][0] == 30.123456789
    assert data["psnr_difference"][0] == pytest.approx(0.623456789)


def test_latex_is_a_tabular_with_escapes() -> None:
    text = latex(Table("t", "T", [Column("x", "50 %")], [Row("A_B", {"x": Cell(1.0, deviation=0.5)})]))
    assert "A\\_B & 1.00 $\\pm$ 0.50 \\\\" in text
    assert "50 \\%" in text


def test_a_table_is_written_in_three_forms(tmp_path) -> None:
    assert sorted(p.suffix for p in write(_table(), tmp_path)) == [".csv", ".md", ".tex"]
    assert all(p.is_file() for p in tmp_path.iterdir())


def test_a_table_reads_back_from_json(tmp_path) -> None:
    table = _table(ssim=Cell(float("inf"), deviation=0.5, n=1, wanted=3), rate=Cell(reason="not run"))
    write(table, tmp_path)
    again = read_table(tmp_path / "t.json")
    assert markdown(again) == markdown(table)
    assert csv(again) == csv(table)


def test_the_printed_tables_are_the_papers() -> None:
    paper = printed("table1")
    assert len(paper) == 12
    assert paper["ESDNet"]["rain200h_psnr"] == 30.01
    assert paper["MPRNet"]["flops_g"] == 548.651
    assert printed("table4")["4"]["psnr"] == 29.31


def _record(model: str, dataset: str, psnr: float, seed: int = 0, tested: tuple[str, ...] = ()) -> dict:
    mean = {
        "n": 2,
        "psnr_esdnet": psnr,
        "ssim_esdnet": 0.9,
        "rainy_psnr_esdnet": 20.0,
        "rainy_ssim_esdnet": 0.7,
    }
    return {
        "config": {"model": {"name": model}, "data": {"name": dataset}, "seed": seed},
        "results": {name: {"mean": mean, "images": []} for name in (dataset, *tested)},
        "missing": {},
        "commit": "abc",
    }


def test_the_best_of_a_further_metric_is_the_one_that_its_direction_says() -> None:
    def record(model: str, lpips: float, source: str) -> dict:
        one = _record(model, "rain200h", 27.0)
        told = {"title": "LPIPS", "lower_better": True, "digits": 4}
        one["metrics"] = {
            "lpips": {**told, "source": source},
            "dists": {**told, "title": "DISTS", "reason": "no weights"},
        }
        images = [
            {"name": str(i), "lpips": lpips + i / 100, "psnr_esdnet": 27.0, "ssim_esdnet": 0.9}
            for i in range(8)
        ]
        one["results"]["rain200h"] = {
            "mean": {**one["results"]["rain200h"]["mean"], "lpips": lpips, "rainy_lpips": 0.5},
            "images": images,
        }
        return one

    records = [record("prenet", 0.1, "one"), record("rescan", 0.3, "two")]
    for r in list(records):
        records += [{**r, "config": {**r["config"], "seed": seed}} for seed in range(1, 5)]
    metrics = measured_by(records)
    assert metrics["lpips"]["sources"] == ["one", "two"] and metrics["dists"]["reasons"] == ["no weights"]
    table = table1("t", ["rain200h"], records, models=["prenet", "rescan"], metrics=metrics)
    rainy, prenet, rescan = (row.cells for row in table.rows)
    assert prenet["rain200h_lpips"].mark == BEST and not rescan["rain200h_lpips"].mark
    assert rainy["rain200h_lpips"].value == 0.5 and prenet["average_lpips"].value == pytest.approx(0.1)
    assert {c["rain200h_dists"].reason for c in (rainy, prenet)} == {"DISTS: no weights"}
    assert any(
        "LPIPS: one; two. Rows by different ones are not to be compared" in note for note in table.notes
    )
    assert "lpips" not in " ".join(
        c.key for c in table1("t", ["rain200h"], records, models=["prenet"]).columns
    )


def test_table_1_has_the_input_first_and_averages_only_what_is_whole() -> None:
    datasets = table_datasets(embedded=False)
    records = [
        _record("prenet", "rain200l", 36.0, tested=("rain12",)),
        _record("prenet", "rain200h", 27.0),
        _record("prenet", "rain1200", 33.0),
        _record("rescan", "rain200h", 26.0),
    ]
    table = table1("t", datasets, records, models=["rescan", "prenet"], absent={"rain1200": "not there"})
    assert [r.label for r in table.rows] == ["Rainy input", "RESCAN", "PReNet"]
    rainy, rescan, prenet = table.rows
    assert rainy.cells["rain200h_psnr"].value == 20.0
    assert prenet.cells["rain12_psnr"].value == 36.0
    assert prenet.cells["average_psnr"].value == pytest.approx((36 + 36 + 27 + 33) / 4)
    assert prenet.cells["rain200h_psnr"].paper == 27.18
    assert rescan.cells["rain200l_psnr"].value is None
    assert rescan.cells["rain200l_psnr"].reason == "not run"
    assert rescan.cells["rain1200_psnr"].reason == "not there"
    assert rescan.cells["average_psnr"].value is None


def test_seeds_become_mean_and_deviation() -> None:
    records = [_record("prenet", "rain200h", p, seed=i) for i, p in enumerate((27.0, 28.0))]
    cell = table1("t", ["rain200h"], records, models=["prenet"], seeds=3).rows[1].cells["rain200h_psnr"]
    assert (cell.value, cell.deviation, cell.n, cell.wanted) == (27.5, pytest.approx(0.7071, abs=1e-4), 2, 3)


def test_a_failed_run_leaves_its_reason() -> None:
    failure = {
        "state": "diverged",
        "reason": "at step 3",
        "config": _record("prenet", "rain200h", 0)["config"],
    }
    table = table1("t", ["rain200h"], [], models=["prenet"], failures=[failure])
    assert table.rows[0].cells["rain200h_psnr"].reason == "diverged: at step 3"


def test_another_convention_has_no_printed_figures() -> None:
    record = _record("prenet", "rain200h", 27.0)
    record["results"]["rain200h"]["mean"]["psnr_matlab"] = 26.5
    cell = (
        table1("t", ["rain200h"], [record], models=["prenet"], convention="matlab")
        .rows[1]
        .cells["rain200h_psnr"]
    )
    assert (cell.value, cell.paper) == (26.5, None)
