"""The authors' released PReNet weights give the values of their own code, through this evaluator."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import create_model, load_checkpoint
from benchmark.data.images import read_image
from benchmark.run.evaluate import evaluate, summary


def picture(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(read_image(path))).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize(
    ("weights", "dataset", "values"),
    [
        ("Rain100H", "rain200h_test3", "prenet_rain100h_on_rain200h_test3.csv"),
        ("Rain100L", "rain200l_test3", "prenet_rain100l_on_rain200l_test3.csv"),
    ],
)
def test_released_weights(shared: Path, weights: str, dataset: str, values: str) -> None:
    model = create_model("prenet")
    load_checkpoint(model, shared / "data" / "weights" / "prenet" / f"{weights}.pth")
    folder = shared / "data" / "rain_pairs" / dataset
    pairs = [
        {
            "name": name,
            "rainy": picture(folder / "input" / f"{name}.png"),
            "target": picture(folder / "target" / f"{name}.png"),
        }
        for name in ("1", "2", "3")
    ]
    rows = evaluate(model, pairs, conventions=["matlab"], progress=False)
    with (shared / "metrics" / values).open() as file:
        *each, mean = list(csv.DictReader(file))
    means = summary(rows)
    for measured, expected in [*zip(rows, each, strict=True), (means, mean)]:
        # a pipeline that truncates instead of rounding is 0.02 … 0.39 dB away
        assert measured["psnr_matlab"] == pytest.approx(float(expected["psnr_y_matlab_if_rounded"]), abs=0.01)
        assert measured["ssim_matlab"] == pytest.approx(float(expected["ssim_y_matlab_if_rounded"]), abs=1e-4)
        assert measured["psnr_matlab"] > measured["rainy_psnr_matlab"] + 5
