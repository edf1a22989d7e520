"""Fault 18: means over the wrong things. Uneven shares, pictures seen twice, infinite values, mixed conventions.

Further: `test_missing_seeds_are_not_dropped_in_silence` ("n of N"), `test_two_processes_train_like_one` (DDP, gloo),
`test_meters_merge_as_processes_do`, `test_summary_is_a_mean_over_images_with_infinite_ones_apart`,
`test_meters_leave_infinite_values_out_and_count_them`,
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

from benchmark.report.table import markdown
from benchmark.report.tables import table1

WORKER = """
import json, sys
import torch
import torch.distributed as distributed
from benchmark.evaluation.meters import PSNRY, SSIMY

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


def test_a_table_says_which_pictures_no_mean_has() -> None:
    record = _record(infinite={"psnr_esdnet": 2})
    table = table1("t", ["embedded-light"], [record], models=["prenet"])
    assert any("2 of 8 pictures of embedded-light, restored by PReNet" in note for note in table.notes)
    assert not any(
        "pictures of" in note
        for note in table1("t", ["embedded-light"], [_record()], models=["prenet"]).notes
    )
    whole = _record(psnr_esdnet=math.inf, infinite={"psnr_esdnet": 8})
    assert "∞" in markdown(table1("t", ["embedded-light"], [whole], models=["prenet"]))
