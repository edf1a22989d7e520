"""The metrics against values computed by the authors' own scripts (Octave, OpenCV)."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.metrics.fidelity import psnr_y, ssim_y
from benchmark.metrics.noreference import metaiqa, piqe


def tensor(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def rows(shared: Path) -> list[dict[str, str]]:
    with (shared / "metrics" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_pair_under_every_convention(shared: Path) -> None:
    pairs = [row for row in rows(shared) if row["target"]]
    assert len(pairs) == 21
    for row in pairs:
        restored = tensor(shared / "data" / row["image"])
        target = tensor(shared / "data" / row["target"])
        for convention, psnr, ssim in (
            ("esdnet", "psnr_y_esdnet", "ssim_y_esdnet"),
            ("matlab", "psnr_y_matlab", "ssim_y_matlab"),
            ("statistic", "psnr_y_float", "ssim_y_statistic"),
        ):
            where = f"{row['image']} {convention}"
            # 8 printed digits, and ties in rounding the luma to 8 bits
            assert psnr_y(restored, target, convention).item() == pytest.approx(float(row[psnr]), abs=1e-4), (
                where
            )
            assert ssim_y(restored, target, convention).item() == pytest.approx(float(row[ssim]), abs=2e-7), (
                where
            )


def test_piqe_of_every_picture(shared: Path) -> None:
    pytest.importorskip("pyiqa")
    departures = []
    for row in rows(shared):
        image = tensor(shared / "data" / row["image"])
        assert piqe(image).item() == pytest.approx(float(row["piqe_pyiqa"]), abs=0.1), row["image"]
        reference = piqe(image, "reference").item()
        departures.append(abs(reference - float(row["piqe_octave"])))
        assert departures[-1] <= 0.8, row["image"]
    assert len(departures) == 54
    assert np.median(departures) <= 1e-3


def test_metaiqa_fixture(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyiqa")
    folder = shared / "metrics" / "metaiqa"
    monkeypatch.syspath_prepend(str(shared / "parity"))
    parity = importlib.import_module("parity")
    gain = json.loads((folder / "card.json").read_text())["gain"]
    keys = json.loads((folder / "keys.json").read_text())
    checkpoint = tmp_path / "metaiqa.pth"
    torch.save(
        {key: parity.tensor_for(key, tuple(shape), dtype, gain) for key, shape, dtype in keys}, checkpoint
    )
    io = np.load(folder / "io.npz")
    score = metaiqa(torch.from_numpy(io["x"]), checkpoint)
    assert score.item() == pytest.approx(io["y"].item(), abs=1e-4)
