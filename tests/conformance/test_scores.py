"""`derain score` of result pictures that were published gives the scores that were published with them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from benchmark.cli import main


def _scores(restored: Path, target: Path, capsys) -> dict:
    assert main(["score", str(restored), str(target), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_published_rain12_scores(shared: Path, capsys) -> None:
    folder = shared / "data" / "restored" / "codenet_rain12"
    told = _scores(folder, shared / "data" / "rain_pairs" / "rain12" / "target", capsys)
    logged = {row["image"]: row for row in csv.DictReader((folder / "scores.csv").open())}
    assert len(told["images"]) == len(logged) == 12
    for row in told["images"]:
        log = logged[row["name"][:3]]
        assert row["psnr_float"] == pytest.approx(float(log["psnr_y"]), abs=1e-6)
        assert row["ssim_float"] == pytest.approx(float(log["ssim_y"]), abs=1e-6)


def test_published_sfarl_mean(shared: Path, capsys) -> None:
    pairs = shared / "data" / "rain_pairs" / "rain12"
    mean = _scores(pairs / "results_sfarl", pairs / "target", capsys)["mean"]
    assert (round(mean["psnr_float"], 3), round(mean["ssim_float"], 4)) == (35.970, 0.9581)


@pytest.mark.parametrize("name", ["rain200h", "rain200l", "spa_data", "did_ddn"])
def test_published_drsformer_pictures(name: str, shared: Path, capsys) -> None:
    folder = shared / "data" / "restored" / f"drsformer_{name}"
    told = _scores(folder / "restored", folder / "target", capsys)
    table = shared / "metrics" / "metrics.csv"
    known = {row["image"]: row for row in csv.DictReader(table.open())}
    for row in told["images"]:
        by_others = known[f"restored/drsformer_{name}/restored/{row['name']}"]
        for ours, theirs in (("psnr", "psnr_y"), ("ssim", "ssim_y")):
            for convention in ("matlab", "esdnet", "float"):
                # the independent tools' figures are of eight digits
                value = float(by_others[f"{theirs}_{convention}"])
                assert row[f"{ours}_{convention}"] == pytest.approx(value, abs=2e-6), (
                    row["name"],
                    convention,
                )
