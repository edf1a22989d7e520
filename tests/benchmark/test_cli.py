"""The command line: what a user sees, and exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import create_model
from benchmark.cli import main

SMALL = ["stages=1", "channels=4", "residual_blocks=1"]
OPTIONS = {"stages": 1, "channels": 4, "residual_blocks": 1}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "prenet.pth"
    torch.save(create_model("prenet", **OPTIONS).state_dict(), path)
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("input", "target"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        for i in range(2):
            picture = rng.integers(0, 256, (33, 40, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "set" / folder / f"{i}.png")
    return tmp_path / "set"


def _said(capsys: pytest.CaptureFixture[str], status: int, *words: str) -> str:
    assert main(words) == status
    error = capsys.readouterr().err
    assert error.startswith("derain: ")
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "model=esdnt"], "did you mean 'esdnet'"),
        (["train", "--dry"], "--dry"),
        (["table", "7"], "7"),
        (["table", "1", "--seeds", "a"], "--seeds a"),
        (["table", "1", "--models", "prenett"], "did you mean 'prenet'"),
        (["table", "1", "--data", "/nowhere/at/all"], "no such folder"),
        (["table", "1", "--recipe", "papr"], "did you mean 'paper'"),
        (["table", "1", "--recipe", "embedded", "--data", "/"], "embedded datasets"),
        (["data", "check", "/nowhere"], "/nowhere"),
        (
            ["evaluate", "--model", "prenet", "--checkpoint", "/no.pth", "--data", "/"],
            "/no.pth: no such file",
        ),
        (["evaluate", "--model", "prenet", "--data", "/"], "--checkpoint"),
        (["models", "nafnett"], "nafnet"),
        (["restore", "--model", "prenet", "--checkpoint", "/no.pth", "x.png", "-o", "out"], "no such file"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(words, said, capsys) -> None:
    assert said in _said(capsys, 2, *words)


def test_evaluate_prints_all_conventions_and_writes_rows(checkpoint, pairs, tmp_path, capsys) -> None:
    words = [
        "evaluate",
        "--model",
        "prenet",
        "--checkpoint",
        str(checkpoint),
        "--data",
        str(pairs),
        "--set",
        *SMALL,
    ]
    assert main([*words, "--csv", str(tmp_path / "rows.csv"), "--save", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("esdnet", "matlab", "statistic", "2 images"))
    assert (tmp_path / "rows.csv").read_text().count("\n") == 3
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_a_checkpoint_of_another_network_says_which_keys(checkpoint, pairs, capsys) -> None:
    words = ["evaluate", "--model", "rescan", "--checkpoint", str(checkpoint), "--data", str(pairs)]
    error = _said(capsys, 2, *words)
    assert "missing" in error and "unexpected" in error and "does not fit RESCAN" in error


def test_restore_goes_on_past_a_broken_picture(checkpoint, pairs, tmp_path, capsys) -> None:
    (pairs / "input" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    words = ["restore", "--model", "prenet", "--checkpoint", str(checkpoint), "--set", *SMALL, "-o"]
    assert main([*words, str(tmp_path / "out"), "--", str(pairs / "input")]) == 1
    captured = capsys.readouterr()
    assert "2 restored" in captured.out
    assert "broken.png" in captured.err
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.png")}
    (pairs / "input" / "broken.png").unlink()
    assert main([*words, str(tmp_path / "out"), "--", str(pairs / "input")]) == 2
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.png")} == before


def test_check_tells_what_is_there(pairs, capsys) -> None:
    assert main(["data", "check", str(pairs)]) == 0
    assert "2" in capsys.readouterr().out
    (pairs / "input" / "5.png").write_bytes(b"")
    assert main(["data", "check", str(pairs)]) == 1
    assert "5.png" in capsys.readouterr().out


def test_what_can_be_left_out_is_not_asked_for(capsys) -> None:
    for line, asked in (("table", "TABLE"), ("run", "PLAN")):
        assert main([line]) == 2
        assert f"are required: {asked} (see derain {line}" in capsys.readouterr().err


def test_models_lists_every_network_with_its_citation(capsys) -> None:
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert main(["models", "--markdown"]) == 0
    markdown = capsys.readouterr().out
    assert main(["models", "--bibtex"]) == 0
    bibtex = capsys.readouterr().out
    from benchmark import catalog

    for entry in catalog.networks().values():
        assert entry.name in listed and entry.title in markdown
        assert entry.citation in bibtex
    assert main(["models", "esdnet"]) == 0
    details = capsys.readouterr().out
    assert "encoder_blocks=(4, 4, 8)" in details and "tiles of 80" in details


def test_the_embedded_table_from_three_tiny_runs(tmp_path, capsys) -> None:
    words = "recipe.steps=1 recipe.batch=1 recipe.patch=16 model.stages=1 model.channels=4 model.residual_blocks=1"
    arguments = [
        "table",
        "1",
        *words.split(),
        "--models",
        "prenet",
        "--runs",
        str(tmp_path),
        "--workers",
        "1",
    ]
    assert main([*arguments, "--plan"]) == 0
    assert "1 run: 1 waiting; 1 to do" in capsys.readouterr().out
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "PReNet" in printed and "Rainy input" in printed
    folder = tmp_path / "tables" / "embedded"
    first = (folder / "table1.md").read_text()
    assert "| 0.002 | 0.116 |" in first and "66.249" not in first
    assert main([*arguments, "--full-costs"]) == 0
    of_full = (folder / "table1.md").read_text()
    assert "| 0.169 (0.168) | 66.249 (66.249) |" in of_full and "12.811" not in of_full
    assert main(arguments) == 0
    assert (folder / "table1.md").read_text() == first
    assert main([*arguments, "--plan"]) == 0
    assert "1 run: 1 done; 0 to do" in capsys.readouterr().out


def test_published_layouts_train_and_test_from_one_root(tmp_path, capsys) -> None:
    """`--data` on a miniature of the published sets: what is there is run, what is not is an empty cell."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for folder in ("input", "target"):
            (tmp_path / "Rain200H" / split / folder).mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(picture).save(tmp_path / "Rain200H" / split / folder / f"{i}.png")
    words = "recipe.steps=1 recipe.batch=1 recipe.patch=16 recipe.validation=0.25 recipe.validate_every=1 logger=csv"
    words += " model.stages=1 model.channels=4 model.residual_blocks=1 data.accept_problems=true"
    arguments = [
        "table",
        "1",
        *words.split(),
        "--data",
        str(tmp_path),
        "--models",
        "prenet",
    ]
    assert main([*arguments, "--runs", str(tmp_path / "runs"), "--workers", "1"]) == 0
    text = (tmp_path / "runs" / "tables" / "paper" / "table1.md").read_text()
    assert "(27.18" in text
    assert "Rain1200" in text and "<sup>" in text
    (record,) = list((tmp_path / "runs" / "paper").rglob("record.json"))
    assert json.loads(record.read_text())["results"].keys() == {"rain200h"}
    capsys.readouterr()


def test_help_is_short_and_quick() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmark"], capture_output=True, text=True, check=True)
    assert "train" in done.stdout and "table" in done.stdout


def test_rain_is_rendered_in_every_regime_that_the_help_names(pairs, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["data", "render", "--help"])
    helped = capsys.readouterr().out.split("--regime REGIME")[-1].split("(")[0]
    regimes = helped.replace(",", " ").replace(" or ", " ").split()
    assert len(regimes) == 4
    for regime in regimes:
        words = ["data", "render", str(pairs / "target"), "-o", str(tmp_path / regime), "--regime", regime]
        assert main(words) == 0
        assert len(list((tmp_path / regime / "input").glob("*.png"))) == 2
