"""`derain score`: pictures that anybody restored, against their targets."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.data import write_image


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for i in range(3):
        clean = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        write_image(tmp_path / "target" / f"{i}.png", clean)
        write_image(tmp_path / "restored" / f"{i}_ours.png", clean ^ 8)
    return tmp_path / "restored", tmp_path / "target"


def test_folders_are_paired_by_name(folders: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    words = ["score", *map(str, folders)]
    assert main([*words, "--csv", str(tmp_path / "rows.csv")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("3 pictures\n") and "float" in said
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [row["name"] for row in rows] == ["0_ours.png", "1_ours.png", "2_ours.png"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["n"], told["of"], told["faults"]) == (3, 3, [])
    means = [float(row["psnr_float"]) for row in rows]
    assert told["mean"]["psnr_float"] == pytest.approx(np.mean(means), abs=1e-12)


def test_what_cannot_be_measured_is_named_and_counted(folders: tuple[Path, Path], capsys) -> None:
    restored, target = folders
    write_image(restored / "2_ours.png", np.zeros((40, 52, 3), np.uint8))
    write_image(target / "7.png", np.zeros((40, 50, 3), np.uint8))
    (restored / "1_ours.png").write_bytes(b"no picture")
    assert main(["score", str(restored), str(target)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("1 of 4 pictures")
    assert "2_ours.png: 52×40, but its target is 50×40" in err
    assert "7.png: not among the restored pictures" in err and "1_ours.png" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/nowhere", "{target}"], "RESTORED /nowhere: no such file or folder"),
        (["{restored}", "{empty}"], "no pictures directly in it"),
        (["{restored}", "{other}"], "no name fits one in"),
        (["{restored}", "{target}/0.png"], "two folders, or two pictures"),
        (["{restored}", "{target}", "--csv", "{target}/0.png"], ".csv"),
        (["{restored}", "{target}", "--csv", "{mine}"], "is no table of derain score"),
    ],
)
def test_mistakes(words: list[str], said: str, folders: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    write_image(tmp_path / "other" / "elsewhere.png", np.zeros((40, 50, 3), np.uint8))
    places = {"restored": folders[0], "target": folders[1], "empty": tmp_path / "empty"}
    places |= {"other": tmp_path / "other", "mine": tmp_path / "mine.csv"}
    assert main(["score", *(word.format(**places) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert (tmp_path / "mine.csv").read_text() == "a,b\n1,2\n"
