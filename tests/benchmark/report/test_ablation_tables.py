"""Ablation tables from records, costs and printed figures alone; their plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.report.ablations import Variant, ablation_table, contradiction, plots
from benchmark.report.paper import printed
from benchmark.text.table import latex, markdown

FULL = {"params": 12_811_463, "operations": 492_309_840_736, "macs": 159_516_984_160}
COUNTED = {"operations": 7_320_375_128, "energy_uj": 91_504.689}


def record(psnr: float, seed: int = 0, dataset: str = "rain200h") -> dict[str, Any]:
    mean = {
        "psnr_esdnet": psnr,
        "ssim_esdnet": 0.9,
        "rainy_psnr_esdnet": 13.0,
        "rainy_ssim_esdnet": 0.4,
        "n": 1,
    }
    return {"results": {dataset: {"mean": mean}}, "config": {"seed": seed}, "missing": {}, "commit": "abc"}


def variants() -> list[Variant]:
    failure = {"state": "diverged", "reason": "at step 3"}
    trained = [
        {"rate": 0.1, "energy_uj": 2e6, "energy_45nm_uj": 4e6},
        {"rate": 0.2, "energy_uj": 3e6, "energy_45nm_uj": 8e6},
    ]
    ann = [{"rate": None, "energy_uj": 1e6, "energy_45nm_uj": 2e6}]
    return [
        Variant("ANN-ResNet", "ANN-ResNet", [record(28.0)], trained=ann),
        Variant("MS-ResNet", "MS-ResNet", failures=[failure]),
        Variant("SRB", "SRB", [record(29.0), record(30.0, 1)], trained=trained, full=FULL, counted=COUNTED),
    ]


def table(**more: Any) -> Any:
    return ablation_table("table3", "Table 3", "rain200h", variants(), paper="table3", seeds=2, **more)


def test_rows_have_measured_printed_and_costs() -> None:
    made = table(paper_row="ESDNet")
    assert [r.label for r in made.rows] == ["Rainy input", "ANN-ResNet", "MS-ResNet", "SRB"]
    srb = made.rows[-1].cells
    assert srb["psnr"].value == 29.5 and srb["psnr"].paper == 29.31
    assert srb["psnr"].deviation == pytest.approx(0.7071, abs=1e-4)
    assert (srb["params_m"].value, srb["macs_g"].value) == (12.811463, 159.51698416)
    assert (srb["flops_g"].value, srb["flops_g"].paper) == (7.320375128, 7.32)
    assert srb["energy_uj"].paper == 91_500
    assert srb["rate"].value == pytest.approx(15) and srb["trained_energy_uj"].value == 2.5e6
    assert srb["trained_energy_45nm_uj"].value == 6e6
    assert made.rows[0].cells["psnr"].value == 13.0


def test_a_failed_run_leaves_its_cells_empty_with_the_reason_and_the_others_whole() -> None:
    text = markdown(table())
    assert "diverged: at step 3" in text
    assert "| MS-ResNet | <sup>" in text and "(25.20)" in text
    assert "28.00 (1 of 2) (28.79, −0.79)" in text
    assert "no spikes" in text
    assert "29.50 $\\pm$ 0.71 (29.31)" in latex(table())


def test_the_papers_disagreement_with_itself_is_said_where_the_table_is() -> None:
    assert "30.01 dB and 0.9132" in markdown(table(paper_row="ESDNet"))
    assert "29.31 dB and 0.9033" in markdown(table(paper_row="ESDNet"))
    for name in ("table4", "table5"):
        assert contradiction(printed(name), "ESDNet") is not None
    assert contradiction(printed("table3"), None) is None


def test_a_study_that_the_paper_does_not_have_has_no_printed_figures() -> None:
    made = ablation_table("loss", "Loss", "embedded-heavy", [Variant("L1", "L1")])
    assert all(c.paper is None for r in made.rows for c in r.cells.values())
    assert "disagrees" not in markdown(made)


def test_printed_figures_stand_beside_nothing_but_what_stands_for_rain200h() -> None:
    light = ablation_table("t", "T", "embedded-light", variants(), paper="table3", seeds=5)
    heavy = ablation_table("t", "T", "embedded-heavy", variants(), paper="table3", seeds=5)
    few = ablation_table("t", "T", "embedded-heavy", variants(), paper="table3", seeds=4)
    assert few.rows[-1].cells["psnr"].paper is None
    assert light.rows[-1].cells["psnr"].paper is None
    assert heavy.rows[-1].cells["psnr"].paper == 29.31


def test_costs_of_variants_do_not_stand_beside_the_count_of_the_full_network() -> None:
    of_full, of_variants = table(), table(of_variants=True)
    assert {c.key for c in of_full.columns} - {c.key for c in of_variants.columns} == {"flops_g", "energy_uj"}
    assert "of the full network." in of_full.notes[-1] and "--full-costs" in of_variants.notes[-1]
    assert all(r.cells.keys() == {c.key for c in of_variants.columns} for r in of_variants.rows)


def test_plots_are_pictures_and_the_same_for_the_same_table(tmp_path: Path) -> None:
    from PIL import Image

    steps = [
        Variant(
            f"{t:g}",
            f"T = {t:g}",
            [record(28.0 + t / 10)],
            trained=[{"rate": 0.1, "energy_45nm_uj": t}],
            value=t,
        )
        for t in (1.0, 2.0)
    ]
    of_steps = ablation_table("table4", "Table 4", "rain200h", steps, paper="table4")
    paths = plots(of_steps, steps, "T", tmp_path)
    assert [p.name for p in paths] == ["table4.pdf", "table4.png", "table4.svg"]
    _, one, _ = plots(table(), variants(), None, tmp_path)
    assert Image.open(paths[1]).width >= Image.open(one).width, (
        "PSNR against T stands beside PSNR against energy"
    )
    before = [p.read_bytes() for p in paths]
    plots(of_steps, steps, "T", tmp_path)
    assert [p.read_bytes() for p in paths] == before


def test_nothing_measured_is_nothing_drawn(tmp_path: Path) -> None:
    empty = [Variant("SRB", "SRB")]
    assert plots(ablation_table("t", "T", "rain200h", empty), empty, None, tmp_path) == []
