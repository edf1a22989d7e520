"""Fault 18: means over the wrong things. Uneven shares, pictures seen twice, infinite values, mixed conventions.

Further: `test_missing_seeds_are_not_dropped_in_silence` ("n of N"), `test_two_processes_train_like_one` (DDP, gloo),
`test_meters_merge_as_processes_do`, `test_summary_is_a_mean_over_images_in_which_a_perfect_one_counts`,
`test_meters_count_a_perfect_picture_as_means_do`,
`test_table_1_has_the_input_first_and_averages_only_what_is_whole`.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.means import PSNR_CAP, identical, mean_of
from benchmark.report.comparison import Scenes, compare
from benchmark.report.tables import table1
from benchmark.run.evaluate import summary
from benchmark.run.records import read_record, write_record
from benchmark.text.table import markdown

WORKER = """
import json, sys
import torch
import torch.distributed as distributed
from benchmark.metrics.meters import PSNRY, SSIMY

rank, place = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
pictures = [(torch.rand(1, 3, 24, 24), torch.rand(1, 3, 24, 24)) for _ in range(5)]
pictures[2] = (pictures[2][0], pictures[2][0])  # identical: infinite
distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)

def means(mine, together):
    meters = PSNRY(sync_on_compute=together), SSIMY(sync_on_compute=together)
    for restored, target in mine:
        for meter in meters:
            meter.update(restored, target)
    return [float(m.compute()) for m in meters]

# alone; shares of 3 and 2 pictures; every process all of them, as the trainer's validation does
print(json.dumps([means(pictures, False), means(pictures[rank::2], True), means(pictures, True)]))
distributed.destroy_process_group()
"""


def test_two_processes_average_to_what_one_does(tmp_path: Path) -> None:
    """Over gloo, to 1e-6, with shares of 3 and 2 pictures and with pictures seen twice, an infinite one among them."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path / "meet")],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in (0, 1)
    ]
    for answer in [p.communicate(timeout=240)[0] for p in processes]:
        one, uneven, twice = json.loads(answer)
        assert uneven == pytest.approx(one, abs=1e-6)
        assert twice == pytest.approx(one, abs=1e-6)


def _record(model: str = "prenet", seed: int = 0, **mean: Any) -> dict[str, Any]:
    values = {
        f"{p}{m}_{c}": 30.0 for p in ("", "rainy_") for m in ("psnr", "ssim") for c in ("esdnet", "matlab")
    }
    return {
        "config": {"model": {"name": model}, "data": {"name": "embedded"}, "seed": seed},
        "results": {"embedded-light": {"mean": {"n": 8, "infinite": {}, **values, **mean}}},
    }


def test_figures_of_another_convention_do_not_fill_a_cell() -> None:
    record = _record()
    mean = record["results"]["embedded-light"]["mean"]
    for key in [k for k in mean if k.endswith("_matlab")]:
        del mean[key]
    by_convention = {
        c: table1("t", ["embedded-light"], [record], models=["prenet"], convention=c)
        for c in ("esdnet", "matlab")
    }
    cells = {c: t.rows[-1].cells["embedded-light_psnr"] for c, t in by_convention.items()}
    assert cells["esdnet"].value == 30.0
    assert cells["matlab"].value is None and cells["matlab"].reason
    assert "convention `matlab`" in by_convention["matlab"].title


def test_a_table_says_how_many_runs_a_mean_is_of() -> None:
    table = table1("t", ["embedded-light"], [_record(seed=s) for s in (0, 1)], models=["prenet"], seeds=3)
    assert "30.00 ± 0.00 (2 of 3)" in markdown(table)


def test_a_table_says_how_many_pictures_are_perfect() -> None:
    record = _record(infinite={"psnr_esdnet": 2})
    table = table1("t", ["embedded-light"], [record], models=["prenet"])
    assert any("2 of 8 pictures of embedded-light, restored by PReNet" in note for note in table.notes)
    assert not any(
        "pictures of" in note
        for note in table1("t", ["embedded-light"], [_record()], models=["prenet"]).notes
    )


def _scored(folder: Path, model: str, scores: list[float]) -> dict[str, Any]:
    """A record as a run writes it, read again."""
    columns = ("psnr_esdnet", "ssim_esdnet", "rainy_psnr_esdnet", "rainy_ssim_esdnet")
    rows = [{"name": str(i), **dict.fromkeys(columns, 0.5), "psnr_esdnet": s} for i, s in enumerate(scores)]
    record = {
        **_record(model),
        **{"identity": model, "name": model},
        "results": {"embedded-light": {"mean": summary(rows), "images": rows}},
    }
    write_record(folder / model, record)
    read = read_record(folder / model)
    assert read is not None
    return read


def test_a_perfect_picture_never_lowers_a_mean_nor_a_place(tmp_path: Path) -> None:
    """Two networks alike but for one picture, which the second restores to the last bit."""
    scores = [30.0 + 0.1 * i for i in range(12)]
    better = [*scores[:3], math.inf, *scores[4:]]
    records = [_scored(tmp_path, "prenet", scores), _scored(tmp_path, "rescan", better)]
    table = table1("t", ["embedded-light"], records, models=["prenet", "rescan"])
    cells = {r.label: r.cells["embedded-light_psnr"] for r in table.rows}
    assert cells["PReNet"].value == pytest.approx(sum(scores) / 12)
    assert cells["RESCAN"].value == pytest.approx((sum(scores) - scores[3] + PSNR_CAP) / 12)
    compared = compare(
        {r["identity"]: [r] for r in records},
        "embedded-light",
        "psnr_esdnet",
        Scenes(records, ["embedded-light"]),
    )
    assert (len(compared.scenes), compared.left_out) == (12, 0)
    for record in records:
        whole = record["results"]["embedded-light"]["mean"]["psnr_esdnet"]
        assert compared.means[record["identity"]] == pytest.approx(whole)
    assert any("1 of 12 pictures of" in n and "counts as 100 dB" in n for n in table.notes)


@pytest.mark.parametrize("scores", [[30.0, math.inf, 31.0], [math.inf] * 3, [30.0, 120.0, math.inf]])
def test_an_older_record_is_read_by_the_same_rule(tmp_path: Path, scores: list[float]) -> None:
    _scored(tmp_path, "prenet", scores)
    path = tmp_path / "prenet" / "record.json"
    record = json.loads(path.read_text())
    finite = [s for s in scores if math.isfinite(s)]
    mean = record["results"]["embedded-light"]["mean"]
    mean["psnr_esdnet"] = sum(finite) / len(finite) if finite else "inf"
    path.write_text(json.dumps(record))
    read = read_record(path.parent)
    assert read is not None
    expected = sum(min(s, PSNR_CAP) for s in scores) / 3
    assert read["results"]["embedded-light"]["mean"]["psnr_esdnet"] == pytest.approx(expected)


@given(st.lists(st.floats(0, 200) | st.just(math.inf), min_size=1), st.data())
def test_no_better_picture_lowers_a_mean(scores: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(scores) - 1))
    better = [*scores]
    better[place] = data.draw(st.floats(scores[place], 300) if scores[place] <= 300 else st.just(math.inf))
    for prefix in ("", "rainy_"):
        column = f"{prefix}psnr_float"
        assert mean_of(column, better) >= mean_of(column, scores)
    assert mean_of("psnr_float", ["inf", 20.0]) == 60


def test_other_scores_are_not_capped() -> None:
    assert mean_of("ntire", [300.0, 400.0]) == 350
    assert mean_of("mine", [1.0, math.inf]) == math.inf
    assert math.isnan(mean_of("mine", [-math.inf, math.inf])) and math.isnan(mean_of("psnr_esdnet", []))
    assert identical("mine", [math.inf]) == 0
