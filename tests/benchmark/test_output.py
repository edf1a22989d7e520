"""Figures as JSON and CSV, quiet and verbose, completion, doctor."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark import catalog, create_model
from benchmark.cli import main
from benchmark.text import output

SMALL = ["stages=1", "channels=4", "residual_blocks=1"]
TINY = [f"model.{word}" for word in SMALL] + [
    "recipe.steps=1",
    "recipe.batch=1",
    "recipe.patch=16",
    "logger=csv",
]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "prenet.pth"
    torch.save(create_model("prenet", stages=1, channels=4, residual_blocks=1).state_dict(), path)
    return path


def _json(capsys, *words: str, status: int = 0):
    assert main(list(words)) == status
    return json.loads(capsys.readouterr().out)  # nothing else may stand there


def _rows(capsys, *words: str) -> list[dict[str, str]]:
    assert main(list(words)) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_the_table_alone_stands_on_the_output(tmp_path: Path, capsys) -> None:
    words = ["table", "1", *TINY, "--models", "prenet", "--runs", str(tmp_path), "--workers", "1"]
    plan = _json(capsys, *words, "--plan", "--dry-run", "--json")
    assert [r["state"] for r in plan["runs"]] == ["waiting"]
    found = _json(capsys, *words, "--json", "--csv", str(tmp_path / "t.csv"))
    (table,) = found["tables"]
    assert [r["label"] for r in table["rows"]] == ["Rainy input", "PReNet"]
    measured = table["rows"][1]["cells"]["average_psnr"]["value"]
    (_, prenet) = csv.DictReader((tmp_path / "t.csv").open())
    assert float(prenet["average_psnr"]) == measured
    assert _rows(capsys, *words, "--csv", "-")[1]["method"] == "PReNet"


def test_a_foreign_table_is_not_replaced(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.csv").write_text("a,b\n")
    for words in (["models"], ["table", "1", "--dry-run"], ["doctor"], ["bench", "--list"]):
        assert main([*words, "--csv", str(tmp_path / "mine.csv")]) == 2
        assert "is no table of derain" in capsys.readouterr().err
    assert (tmp_path / "mine.csv").read_text() == "a,b\n"
    assert main(["models", "--json", "--csv", "-"]) == 2
    assert "one of them" in capsys.readouterr().err


def test_models_and_their_figures(tmp_path: Path, capsys) -> None:
    found = _json(capsys, "models", "--json")
    assert [n["name"] for n in found["networks"]] == list(catalog.networks())
    esdnet = next(n for n in found["networks"] if n["name"] == "esdnet")
    assert esdnet["parameters (M)"] == pytest.approx(12.811463)
    path = tmp_path / "models.csv"
    for _ in range(2):  # its own is replaced
        assert main(["models", "--csv", str(path)]) == 0
    assert "ESDNet" in capsys.readouterr().out and "esdnet" in path.read_text()


def test_evaluate_score_inspect_and_cost(checkpoint: Path, small_set: Path, capsys) -> None:
    given = ["--model", "prenet", "--checkpoint", str(checkpoint), "--set", *SMALL]
    found = _json(capsys, "evaluate", *given, "--data", str(small_set), "--json")
    assert found["n"] == 2 and len(found["images"]) == 2 and "psnr_esdnet" in found["mean"]
    rows = _rows(capsys, "evaluate", *given, "--data", str(small_set), "--csv", "-")
    assert [float(r["psnr_esdnet"]) for r in rows] == [i["psnr_esdnet"] for i in found["images"]]
    found = _json(capsys, "score", str(small_set / "input"), str(small_set / "target"), "--json")
    assert found["mean"]["infinite"]  # equal pictures: infinite numbers are words in JSON
    words = ["cost", "--model", "prenet", "--set", *SMALL, "--size", "32"]
    found = _json(capsys, *words, "--json")
    assert {r["convention"] for r in found["rows"]} >= {"full", "paper"}
    assert len(_rows(capsys, *words, "--csv", "-")) == len(found["rows"])
    layers = _json(capsys, "inspect", "--model", "esdnet", "--layers", "--json")
    assert len(layers["names"]) > 20


def test_spike_rates_on_rain_hand_over_each_picture_and_what_made_them(capsys) -> None:
    small = ["dim=2", "time_steps=2", "encoder_blocks=[1,1,1]", "bottleneck_blocks=1", "decoder_blocks=[1,1]"]
    words = [
        "inspect",
        "--model",
        "esdnet",
        "--set",
        *small,
        "--data",
        "embedded-light",
        "--limit",
        "1",
        "--json",
    ]
    found = _json(capsys, *words)
    assert len(found["pairs"]) == 1 and set(found["pairs"][0]) == {"rain", "background", "without_rain"}
    means = [100 * (p["rain"] - p["background"]) for p in found["pairs"]]
    assert found["rain_less"]["background"]["points"] == pytest.approx(means[0])
    assert found["rain_less"]["background"]["pictures"] == 1
    assert found["commit"] and found["command"] and found["machine"]


def test_a_training_hands_over_its_figures(tmp_path: Path, capsys) -> None:
    words = ["train", "model=prenet", "data=embedded-light", *TINY, f"out={tmp_path}"]
    found = _json(capsys, *words, "--json")
    assert found["results"]["embedded-light"]["n"] == 13 and Path(found["record"]).is_file()
    assert main(words) == 0
    assert "PSNR-Y" in capsys.readouterr().out


def test_quiet_keeps_results_and_errors(small_set: Path, tmp_path: Path, checkpoint: Path, capsys) -> None:
    (small_set / "input" / "broken.png").write_bytes(b"no picture")
    words = ["restore", "--model", "prenet", "--checkpoint", str(checkpoint), "--set", *SMALL, "-o"]
    assert main(["-q", *words, str(tmp_path / "a"), "--", str(small_set / "input")]) == 1
    told = capsys.readouterr()
    assert "2 restored" in told.out
    assert all(line.startswith("derain: ") for line in told.err.splitlines()) and "broken.png" in told.err
    train = ["train", "model=prenet", "data=embedded-light", *TINY, f"out={tmp_path / 'runs'}"]
    assert main([*train, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["models", "-q", "-v"]) == 2


def test_verbose_says_where_an_error_came_from_and_what_a_command_took(capsys) -> None:
    assert main(["models", "-v"]) == 0
    assert "took" in capsys.readouterr().err
    assert main(["-v", "models", "prenett"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.splitlines()[-1].startswith("derain: unknown")
    assert main(["models", "prenett"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_doctor_looks_and_says_what_is_at_fault(tmp_path: Path, monkeypatch, capsys) -> None:
    assert main(["doctor", "--runs", str(tmp_path / "new" / "runs")]) == 0
    told = capsys.readouterr().out
    assert "compiler" in told and "no fault found" in told
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DERAIN_NATIVE", "0")
    found = _json(capsys, "doctor", "--runs", str(tmp_path / "file" / "runs"), "--json", status=1)
    states = {f["what"]: f["state"] for f in found["findings"]}
    assert states["runs"] == "fault" and states["kernels"] == "less"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completion_knows_the_names(shell: str, capsys) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "smartassign" in script and "doctor" in script
    assert main(["completion", "bsh"]) == 2
    assert "did you mean 'bash'" in capsys.readouterr().err


def test_bash_completes_a_network(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "benchmark", "completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (tmp_path / "c").write_text(made)
    ask = f"source {tmp_path / 'c'}; COMP_WORDS=(derain restore --model es); COMP_CWORD=3; _shtab_derain; "
    done = subprocess.run(
        ["bash", "-c", ask + 'echo "${COMPREPLY[@]}"'], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["esdnet", "esdnet-s"]


def test_figures_without_a_command_are_shown(capsys) -> None:
    output.give({"a": float("nan")}, None, lambda: print("shown"))
    assert capsys.readouterr().out == "shown\n"
