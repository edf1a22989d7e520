"""Table 2 as a pure function of records."""

from __future__ import annotations

import statistics

import pytest

from benchmark.report.realrain import table2
from benchmark.text.table import csv, markdown

USED = {
    "piqe_pyiqa": "pyiqa 9.9",
    "piqe_reference": "published algorithm",
    "metaiqa": "not measured: get its weights",
}


def _record(scores: list[float], model: str | None = None, seed: int = 0) -> dict:
    images = [{"name": str(i), "piqe_pyiqa": s, "piqe_reference": s + 1} for i, s in enumerate(scores)]
    about = {} if model is None else {"model": model, "seed": seed}
    return {
        **about,
        "photographs": {"title": "mine", "count": len(scores)},
        "implementations": USED,
        "images": images,
    }


def test_the_rainy_input_comes_first_with_its_standard_error() -> None:
    table = table2(
        "t", _record([30.0, 40.0, 50.0]), [_record([20.0, 22.0, 24.0], "prenet")], models=["prenet"]
    )
    rainy, prenet = table.rows
    assert rainy.label == "Rainy input"
    assert rainy.cells["piqe_pyiqa"].value == pytest.approx(40)
    assert rainy.cells["piqe_pyiqa"].deviation == pytest.approx(10 / 3**0.5)
    assert rainy.cells["piqe_pyiqa"].paper is None
    assert (prenet.cells["piqe_pyiqa"].paper, prenet.cells["metaiqa"].paper) == (18.309, 0.420)
    assert prenet.cells["piqe_pyiqa"].difference == pytest.approx(22 - 18.309)


def test_pictures_of_one_scene_are_drawn_together() -> None:
    scores = [30.0, 40.0, 50.0, 60.0, 50.0, 10.0]
    rainy, own = _record(scores), _record([s - i for i, s in enumerate(scores)], "prenet")
    by_scene = [statistics.fmean(scores[i : i + 2]) for i in (0, 2, 4)]
    for image in rainy["images"]:
        image["scene"] = f"s{int(image['name']) // 2}"
    own["images"] = [
        {**mine, "scene": its["scene"]} for mine, its in zip(own["images"], rainy["images"], strict=True)
    ]
    table = table2("t", rainy, [own], models=["prenet"])
    assert "6 rainy pictures (mine): mean ± standard error over their 3 scenes" in table.title
    assert table.rows[0].cells["piqe_pyiqa"].deviation == pytest.approx(statistics.stdev(by_scene) / 3**0.5)
    low, high = table.rows[1].cells["piqe_pyiqa_change"].interval or (0, 0)
    # scenes' differences −0.5, −2.5, −4.5: a standard error of 2 / √3, Student's t of 4.303
    assert (low, high) == pytest.approx((-2.5 - 4.969, -2.5 + 4.969), abs=0.01)
    assert any("interval over their 3 scenes" in note for note in table.notes)


def test_printed_figures_can_be_left_out_and_the_resolution_is_said() -> None:
    rainy, own = _record([30.0, 40.0, 50.0]), _record([20.0, 22.0, 24.0], "prenet")
    table = table2("t", rainy, [own], models=["prenet"], beside_printed=False)
    assert all(c.paper is None for row in table.rows for c in row.cells.values())
    # differences −10, −18, −26: a standard error of 4.62, Student's t of 4.30 with two degrees of freedom
    assert any(
        "Resolution" in n and "PIQE ↓ pyiqa 9.9: 19.87 (median; 19.87 at most)" in n for n in table.notes
    )


def test_which_implementation_was_used_is_printed_and_bears_the_printed_figure() -> None:
    rainy, own = _record([30.0, 40.0]), _record([20.0, 22.0], "prenet")
    first = table2("t", rainy, [own], models=["prenet"])
    assert "pyiqa 9.9" in first.columns[0].title
    titles = [c.title for c in first.columns]
    assert len({*titles}) == len(titles) and "PIQE ↓\npyiqa 9.9, against the input" in titles
    other = table2("t", rainy, [own], models=["prenet"], implementation="reference")
    assert "published algorithm" in other.columns[0].title
    assert other.rows[1].cells["piqe_reference"].paper == 18.309
    assert other.rows[1].cells["piqe_pyiqa"].paper is None


def test_without_weights_metaiqa_says_how_to_get_them() -> None:
    text = markdown(table2("t", _record([30.0]), [_record([20.0], "prenet")], models=["prenet"]))
    assert "get its weights" in text and "<sup>a</sup> (0.420)" in text


def test_the_footnote_counts_printed_differences_that_are_none() -> None:
    text = " ".join(table2("t", _record([30.0, 40.0]), [], models=[]).notes)
    assert "55 of the 66 pairs of printed rows" in text
    assert "1.00 at most and 1.00 in the median" in text


def test_seeds_are_averaged_by_photograph() -> None:
    records = [_record([10.0, 30.0], "prenet"), _record([20.0, 40.0], "prenet", seed=1)]
    cell = table2("t", _record([0.0, 0.0]), records, models=["prenet"]).rows[1].cells["piqe_pyiqa"]
    assert cell.value == 25.0
    assert cell.deviation == pytest.approx(statistics.stdev([15.0, 35.0]) / 2**0.5)


def test_a_network_that_failed_or_was_not_run_says_so() -> None:
    failure = {"config": {"model": {"name": "rescan"}}, "state": "diverged", "reason": "at step 3"}
    table = table2("t", _record([30.0]), [], models=["rescan", "prenet"], failures=[failure])
    assert table.rows[1].cells["piqe_pyiqa"].reason == "diverged: at step 3"
    assert table.rows[2].cells["piqe_pyiqa"].reason == "not run"


def test_the_files_call_the_error_what_it_is() -> None:
    header = csv(table2("t", _record([30.0, 40.0]), [], models=[])).splitlines()[0]
    assert "piqe_pyiqa_sem" in header and "_std" not in header
