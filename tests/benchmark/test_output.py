"""Figures as JSON and CSV, quiet and verbose, completion, doctor."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmark import catalog, create_model
from benchmark.cli import build_parser, main
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


TABLE = ["table", "1", *TINY, "--models", "prenet", "--workers", "1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, derain: Any) -> Path:
    """The runs of `TABLE`, done."""
    folder = tmp_path_factory.mktemp("table") / "runs"
    done = derain.run(*TABLE, "--runs", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_the_table_alone_stands_on_the_output(runs: Path, tmp_path: Path, capsys) -> None:
    plan = _json(capsys, *TABLE, "--runs", str(tmp_path), "--plan", "--dry-run", "--json")
    assert [r["state"] for r in plan["runs"]] == ["waiting"]
    words = [*TABLE, "--runs", str(runs)]
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


def test_quiet_leaves_the_table_alone(runs: Path, tmp_path: Path, capsys) -> None:
    words = [*TABLE, "--runs", str(runs)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "wrote " in told and "Made by" in told
    assert main([*words, "-q", "--csv", str(tmp_path / "t.csv")]) == 0
    told = capsys.readouterr()
    assert "PReNet" in told.out and told.err == "" and (tmp_path / "t.csv").is_file()
    assert not any(words in told.out for words in ("wrote ", "Made by", "Held out"))
    assert main([*words, "-q", "--save-plan", str(tmp_path / "plan.yaml")]) == 0
    assert main(["-q", "cost", "--model", "prenet", "--set", *SMALL, "--size", "32"]) == 0
    told = capsys.readouterr().out
    assert "45nm" in told and "untrained" not in told and "note:" not in told


def test_verbose_says_which_kernels_served(checkpoint: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from esdnet import native

    monkeypatch.setattr(native, "asked", {"winograd.c": True, "metrics.c": False})
    assert main(["data", "list", "-v"]) == 0
    (told,) = capsys.readouterr().err.splitlines()
    assert "kernels: convolutions" in told and "instead of the kernels for metrics" in told
    from benchmark.cli import listing

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setattr(listing, "_list_datasets", broken)
    for words, traced in ((["data", "list"], False), (["data", "list", "-v"], True)):
        assert main(words) == 1
        told = capsys.readouterr().err
        assert ("Traceback" in told) is traced and "derain: " in told.splitlines()[-1]


NO_FIGURES = {"completion", "dashboard", "demo", "figures", "report", "ship", "sweep", "sync"}


def test_every_command_that_prints_figures_gives_them_as_data() -> None:
    commands = build_parser()._subparsers._group_actions[0].choices
    actions = commands.pop("data")._subparsers._group_actions[0].choices
    parsers = {**commands, **{f"data {name}": parser for name, parser in actions.items()}}
    without = {
        name
        for name, parser in parsers.items()
        if not {"--json", "--csv"} <= {flag for action in parser._actions for flag in action.option_strings}
    }
    assert without == NO_FIGURES


def test_data_as_data(small_set: Path, tmp_path: Path, capsys) -> None:
    for path in (small_set / "input").iterdir():
        with Image.open(path) as picture:
            wet = picture.point(lambda level: min(255, level + 60))
        wet.save(path)
    found = _json(capsys, "data", "check", str(small_set), "--json")
    (part,) = found["parts"]
    assert (part["count"], part["paired"], found["problems"]) == (2, True, [])
    assert sum(size["count"] for size in part["sizes"]) == 2 and part["psnr_y"] > 0
    (row,) = _rows(capsys, "data", "check", str(small_set), "--csv", "-")
    assert float(row["psnr_y"]) == part["psnr_y"]
    (small_set / "input" / "broken.png").write_bytes(b"no picture")
    assert _json(capsys, "data", "check", str(small_set), "--json", status=1)["problems"]
    names = [d["name"] for d in _json(capsys, "data", "list", "--json")["datasets"]]
    assert names == [row["name"] for row in _rows(capsys, "data", "list", "--csv", "-")]
    (one,) = _json(capsys, "data", "list", "rain12", "--json")["datasets"]
    assert one["counts"] == {"test": 12} and one["trained_on"] == "rain200l"
    words = ["data", "render", str(small_set / "target"), "-o", str(tmp_path / "made"), "--json"]
    assert _json(capsys, *words, "--dry-run") == {"pairs": 2, "out": str(tmp_path / "made"), "written": False}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in (small_set / "target").iterdir():
            archive.write(path, f"set/{path.name}")
    words = ["data", "import", str(tmp_path / "a.zip"), "-o", str(tmp_path / "out"), "--json"]
    assert _json(capsys, *words, "--dry-run")["report"] is None
    found = _json(capsys, *words)
    assert found["unpacked"] and found["files"] == 2 and found["report"]["parts"][0]["count"] == 2


def test_restored_pictures_as_data(small_set: Path, checkpoint: Path, tmp_path: Path, capsys) -> None:
    (small_set / "input" / "broken.png").write_bytes(b"no picture")
    words = ["restore", str(small_set / "input"), "--model", "prenet", "--checkpoint", str(checkpoint)]
    words += ["--set", *SMALL, "-o", str(tmp_path / "out")]
    planned = _json(capsys, *words, "--dry-run", "--json")["planned"]
    assert len(planned) == 3 and not any(row["replaced"] for row in planned)
    found = _json(capsys, *words, "--json", "--csv", str(tmp_path / "r.csv"), status=1)
    assert [Path(f["input"]).name for f in found["failed"]] == ["broken.png"] and found["network"] == "prenet"
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [row["output"] for row in rows] == [row["output"] for row in found["restored"]]
    for row in found["restored"]:
        with Image.open(row["output"]) as picture:
            assert picture.size == (row["width"], row["height"])
        assert row["bytes"] == Path(row["output"]).stat().st_size and row["seconds"] > 0


def test_drawings_settings_and_lists_as_data(small_set: Path, tmp_path: Path, capsys) -> None:
    (picture, _) = sorted((small_set / "input").iterdir())
    words = ["inspect", "--model", "esdnet", "--image", str(picture), "-o", str(tmp_path / "i.png"), "--json"]
    rainy, restored = _json(capsys, *words, "--set", "dim=4")["patches"]
    assert rainy["patch"] == "rainy" and restored["layer"] == rainy["layer"] and 0 < rainy["rate"] < 1
    (row,) = [r for r in _rows(capsys, "config", "seed=3", "--csv", "-") if r["setting"] == "seed"]
    assert (row["value"], row["from"]) == ("3", "command line")
    assert _json(capsys, "train", "data=embedded-light", "--dry-run", "--json")["run"] == "would be done in"
    assert _json(capsys, "ablations", "--list", "--json")["studies"][0]["name"] == "table3"


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
