from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmark.errors import UserError, WorkError
from benchmark.metrics.fidelity import psnr_y, ssim_y
from benchmark.restoration import tiling
from benchmark.run.evaluate import evaluate, measure_pictures, summary


class Brighten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.05))
        self.batches: list[int] = []

    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(rainy))
        return rainy + self.shift


def pairs(sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    made = []
    for i, (height, width) in enumerate(sizes):
        target = torch.randint(0, 256, (3, height, width)).float() / 255
        made.append(
            {"name": f"{i}", "target": target, "rainy": (target - 0.1 * torch.rand_like(target)).clamp(0, 1)}
        )
    return made


def test_rows() -> None:
    given = pairs([(32, 40), (40, 32), (32, 40), (24, 24)])
    rows = evaluate(Brighten(), given, progress=False)
    assert [row["name"] for row in rows] == ["0", "1", "2", "3"]
    assert [(row["height"], row["width"]) for row in rows] == [(32, 40), (40, 32), (32, 40), (24, 24)]
    for row, pair in zip(rows, given, strict=True):
        restored, rainy, target = pair["rainy"][None] + 0.05, pair["rainy"][None], pair["target"][None]
        for convention in ("esdnet", "matlab", "statistic"):
            for name, metric in (("psnr", psnr_y), ("ssim", ssim_y)):
                measured = metric(restored, target, convention).item()
                assert row[f"{name}_{convention}"] == pytest.approx(measured, abs=1e-9)
                before = metric(rainy, target, convention).item()
                assert row[f"rainy_{name}_{convention}"] == pytest.approx(before, abs=1e-9)
        assert row["psnr_esdnet"] > row["rainy_psnr_esdnet"]


def test_same_sizes_go_together_and_order_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "_ONE_AT_A_TIME", frozenset())  # as on an accelerator
    sizes = [(32, 40), (40, 32)] * 4 + [(24, 24)]
    given = pairs(sizes)
    single, together = Brighten(), Brighten()
    one_by_one = evaluate(single, given, batch=1, progress=False)
    rows = evaluate(together, iter(given), batch=3, progress=False)
    assert single.batches == [1] * 9
    assert sorted(together.batches) == [1, 1, 1, 3, 3]
    for a, b in zip(one_by_one, rows, strict=True):
        assert a["name"] == b["name"]
        assert a == pytest.approx(b, abs=1e-9)


def test_tiles_and_conventions() -> None:
    given = pairs([(32, 40)])
    (whole,) = evaluate(Brighten(), given, conventions=["matlab"], progress=False)
    (tiled,) = evaluate(Brighten(), given, tile=16, overlap=4, conventions=["matlab"], progress=False)
    assert set(whole) == {
        "name", "width", "height", "clean", "psnr_matlab", "ssim_matlab", "rainy_psnr_matlab", "rainy_ssim_matlab",
    }  # fmt: skip
    assert whole == pytest.approx(tiled, abs=1e-3)


def test_what_is_saved_is_what_was_measured(tmp_path: Path) -> None:
    given = pairs([(32, 40)])
    given[0]["name"] = "rain-1.jpg"
    (row,) = evaluate(Brighten(), given, save=tmp_path / "out", progress=False)
    with Image.open(tmp_path / "out" / "rain-1.png") as image:
        pixels = np.array(image)
    assert pixels.shape == (32, 40, 3)
    saved = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    assert psnr_y(saved, given[0]["target"][None]).item() == pytest.approx(row["psnr_esdnet"], abs=1e-9)


def test_names_stay_inside_the_folder(tmp_path: Path) -> None:
    given = pairs([(32, 40)])
    given[0]["name"] = "../1"
    with pytest.raises(UserError, match="leads out"):
        evaluate(Brighten(), given, save=tmp_path / "out", progress=False)
    assert not (tmp_path / "1.png").exists()


def test_output_that_is_not_finite_names_the_image() -> None:
    network = Brighten()
    network.shift.data.fill_(math.nan)
    given = pairs([(32, 40)])
    given[0]["name"] = "norain-7"
    with pytest.raises(WorkError, match=r"norain-7.*NaN"):
        evaluate(network, given, progress=False)


def test_wrong_pairs() -> None:
    with pytest.raises(UserError, match="no pairs"):
        evaluate(Brighten(), [], progress=False)
    given = pairs([(32, 40)])
    given[0]["target"] = given[0]["target"][:, :-1]
    with pytest.raises(UserError, match="40×32 but target is 40×31"):
        evaluate(Brighten(), given, progress=False)
    with pytest.raises(UserError, match="did you mean 'esdnet'"):
        evaluate(Brighten(), pairs([(32, 40)]), conventions=["esdnt"], progress=False)


def test_training_mode_is_kept() -> None:
    network = Brighten().train()
    evaluate(network, pairs([(32, 40)]), progress=False)
    assert network.training


def test_a_bar_is_drawn_when_asked(capfd: pytest.CaptureFixture[str]) -> None:
    evaluate(Brighten(), pairs([(32, 40)]), progress=False)
    assert capfd.readouterr() == ("", "")
    evaluate(Brighten(), pairs([(32, 40)]), progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "1/1" in err


def test_summary_is_a_mean_over_images_in_which_a_perfect_one_counts() -> None:
    rows: list[dict[str, Any]] = [
        {
            "name": "a",
            "width": 4,
            "height": 4,
            "psnr_esdnet": 30.0,
            "ssim_esdnet": 0.5,
            "rainy_psnr_esdnet": 20.0,
        },
        {
            "name": "b",
            "width": 4,
            "height": 4,
            "psnr_esdnet": math.inf,
            "ssim_esdnet": 1.0,
            "rainy_psnr_esdnet": 25.0,
        },
    ]
    assert summary(rows) == {
        "n": 2,
        "infinite": {"psnr_esdnet": 1},
        "psnr_esdnet": 65.0,
        "ssim_esdnet": 0.75,
        "rainy_psnr_esdnet": 22.5,
    }
    assert summary([]) == {"n": 0, "infinite": {}}


@pytest.mark.parametrize("workers", [1, 3])
def test_pictures_from_files_and_from_memory_have_the_metrics_values(tmp_path: Path, workers: int) -> None:
    draws = np.random.default_rng(0)
    arrays = [
        tuple(draws.integers(0, 256, (40, 30 + n, 3), dtype=np.uint8) for _ in range(2)) for n in range(4)
    ]
    files = []
    for n, two in enumerate(arrays):
        files.append((tmp_path / f"{n}a.png", tmp_path / f"{n}b.png"))
        for path, array in zip(files[-1], two, strict=True):
            Image.fromarray(array).save(path)
    threads = torch.get_num_threads()
    rows = measure_pictures(files, ("esdnet", "matlab"), workers)
    assert rows == measure_pictures(arrays, ("esdnet", "matlab"), workers)
    assert torch.get_num_threads() == threads
    for row, two in zip(rows, arrays, strict=True):
        a, b = (torch.from_numpy(x).permute(2, 0, 1)[None].double() / 255 for x in two)
        for name in ("esdnet", "matlab"):
            assert row[f"psnr_{name}"] == psnr_y(a, b, name).item()
            assert row[f"ssim_{name}"] == ssim_y(a, b, name).item()


def test_pictures_of_two_sizes_are_no_pair() -> None:
    a, b = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 41, 3), np.uint8)
    with pytest.raises(UserError, match="a pair: restored is 40×40 but target is 41×40"):
        measure_pictures([(a, b)], workers=1)
