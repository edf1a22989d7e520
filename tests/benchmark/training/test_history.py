"""The log of a training: at once on the disk, and gone on with."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmark.training.history import History


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_there_at_once_and_new_columns_are_empty_before(tmp_path: Path) -> None:
    history = History(tmp_path / "metrics.csv")
    history.add({"loss": 1.5}, 0)
    assert _rows(history.path) == [{"loss": "1.5", "step": "0"}]
    history.add({"loss": 1.0}, 1)
    history.add({"psnr": 20.0}, 1)
    assert _rows(history.path) == [
        {"loss": "1.5", "psnr": "", "step": "0"},
        {"loss": "1.0", "psnr": "", "step": "1"},
        {"loss": "", "psnr": "20.0", "step": "1"},
    ]


def test_who_goes_on_keeps_what_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = History(path)
    for step in range(5):
        first.add({"loss": float(step)}, step)
    with path.open("a") as file:
        file.write("9")  # torn by the machine's end
    second = History(path)
    second.add({"loss": 30.0, "rate": 0.1}, 3)
    assert [(r["step"], r["loss"], r["rate"]) for r in _rows(path)] == [
        ("0", "0.0", ""),
        ("1", "1.0", ""),
        ("2", "2.0", ""),
        ("3", "30.0", "0.1"),
    ]


def test_a_validation_that_is_caught_up_on_keeps_the_row_of_its_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = History(path)
    first.add({"loss": 1.0, "epoch": 0}, 3)
    first.add({"psnr": 20.0, "epoch": 0}, 3)
    first.add({"loss": 0.9, "epoch": 0}, 4)
    History(path).add({"psnr": 21.0, "epoch": 0}, 3)
    assert [(r["step"], r["loss"], r["psnr"]) for r in _rows(path)] == [("3", "1.0", ""), ("3", "", "21.0")]
