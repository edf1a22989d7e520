"""The W&B workspace, as far as it goes without W&B."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import main
from benchmark.cli.dashboard import TITLES
from benchmark.run import tracking
from benchmark.run.records import write_record
from benchmark.spec import resolve


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def _done(runs: Path, *words: str, tested: tuple[str, ...], validated: bool = False) -> None:
    """A run that is done, with nothing in its results but the names of the test sets, of two pictures each."""
    config = resolve([*words, f"out={runs}"])
    record = {
        "identity": config.identity,
        "name": config.name,
        "config": config.plain(),
        "training": {"validation_psnr_y": 30.0 if validated else None},
        "results": {name: {"mean": {"n": 2}, "images": [{}, {}]} for name in tested},
    }
    write_record(config.folder, record)


def _logged(runs: Path, columns: str) -> None:
    """What a run logged, by the names of its columns."""
    (record,) = runs.rglob("record.json")
    (record.parent / "metrics.csv").write_text(f"{columns}\n")


def _panels(capsys: Any, *words: str) -> dict[str, list[dict[str, Any]]]:
    pytest.importorskip("wandb_workspaces")
    assert main(["dashboard", "--dry-run", *words]) == 0
    spec = json.loads(capsys.readouterr().out)
    assert spec["project"] == "derain"
    found = spec["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in found}


EMBEDDED = ("embedded-12", "embedded-light", "embedded-heavy", "embedded-mixed")


def test_the_workspace_shows_what_runs_log(capsys: Any, tmp_path: Path) -> None:
    common = ("recipe=embedded", "data=embedded")
    _done(tmp_path, *common, "model=esdnet", tested=EMBEDDED, validated=True)
    heavy = ("recipe=embedded", "data=embedded-heavy", "model=esdnet")
    for steps in (1, 2):
        _done(tmp_path, *heavy, f"model.time_steps={steps}", tested=("embedded-heavy",))
    found = _panels(capsys, "--runs", str(tmp_path))
    assert list(found) == [
        TITLES["table1"],
        TITLES["table4"],
        "PSNR against energy",
        "Spike rates",
        "Training",
        "Pictures",
        "Scores",
    ]
    assert "scores" in json.dumps(found["Scores"])
    bars = {m for p in found["Table 1, networks"] for m in p["config"].get("metrics", [])}
    assert tracking.on_test("embedded-12", "psnr_y") in bars and len(bars) == 8
    groups = {title: {p["config"].get("groupBy") for p in found[title][1:]} for title in list(found)[:2]}
    assert groups == {"Table 1, networks": {"model.value"}, "Table 4, time steps": {"variant.value"}}
    scatter = {(p["config"]["xAxis"], p["config"]["yAxis"]) for p in found["PSNR against energy"]}
    assert (f"summary:{tracking.ENERGY_PAPER}", "summary:test/embedded-heavy/psnr_y") in scatter
    assert found["Spike rates"][0]["config"]["metricRegex"] == "spike_rate/.*"
    shown = {k for p in found["Pictures"] for k in p["config"]["mediaKeys"]}
    assert "pictures/embedded-light/1" in shown
    lines = {m for p in found["Training"] for m in p["config"]["metrics"]}
    assert lines == {tracking.LOSS, tracking.LEARNING_RATE, *tracking.VALIDATION}


def test_spike_rates_that_were_logged_have_their_histograms(capsys: Any, tmp_path: Path) -> None:
    words = ("recipe=embedded", "data=embedded-light", "model=esdnet")
    _done(tmp_path, *words, tested=("embedded-light",))
    assert len(_panels(capsys, "--runs", str(tmp_path))["Spike rates"]) == 1, "no metrics.csv"
    _logged(tmp_path, "step,train/loss")
    assert len(_panels(capsys, "--runs", str(tmp_path))["Spike rates"]) == 1, "none was measured"
    _logged(tmp_path, "step,train/loss,spike_rate/encoder1,spike_rate/decoder2")
    _, *histograms = _panels(capsys, "--runs", str(tmp_path))["Spike rates"]
    shown = [(p["config"]["metrics"], p["config"]["xAxis"], p["config"]["yAxisTitle"]) for p in histograms]
    assert shown == [
        ([f"{tracking.SPIKE_HISTOGRAMS}{level}"], "trainer/global_step", "Spike rate (0 to 1)")
        for level in ("decoder2", "encoder1")
    ]


def test_axes_have_names_and_units(capsys: Any, tmp_path: Path) -> None:
    words = ("recipe=embedded", "data=embedded-light", "model=esdnet")
    _done(tmp_path, *words, tested=("embedded-light",), validated=True)
    found = _panels(capsys, "--runs", str(tmp_path))
    axes = {
        (p["config"]["xAxisTitle"], p["config"]["yAxisTitle"])
        for panels in found.values()
        for p in panels
        if p["viewType"] in ("Bar Chart", "Run History Line Plot")
    }
    assert axes == {
        ("PSNR-Y (dB)", "Network"),
        ("SSIM-Y", "Network"),
        ("Training step", "Spike rate (0 to 1)"),
        ("Training step", "Training loss"),
        ("Training step", "PSNR-Y on held-out training images (dB)"),
        ("Training step", "SSIM-Y on held-out training images"),
        ("Training step", "Learning rate"),
    }
    titles = [p["config"]["chartTitle"] for p in found["PSNR against energy"]]
    assert all("(dB, upwards)" in title and "(µJ, logarithmic)" in title for title in titles)
    every = json.dumps(found, ensure_ascii=False)
    raw = {
        key
        for path in Path("results/paper").glob("table*.csv")
        for key in path.read_text().split()[0].split(",")
    }
    assert not [key for key in raw if "_" in key and f"| {key} |" in every], "names of columns, not of things"


def test_there_are_no_panels_of_what_was_not_measured(capsys: Any, tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    assert main(["dashboard", "--dry-run", "--runs", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no run is done" in said and "make table1" in said
    _done(tmp_path, "recipe=embedded", "data=embedded-light", "model=prenet", tested=("embedded-light",))
    found = _panels(capsys, "--runs", str(tmp_path))
    assert list(found) == ["Table 1, networks", "PSNR against energy", "Training", "Pictures", "Scores"]
    assert [p["config"]["mediaKeys"] for p in found["Pictures"]] == [
        ["pictures/embedded-light/1", "pictures/embedded-light/2"]
    ]
    named = json.dumps([p for panels in found.values() for p in panels[1:]])
    assert "embedded-light" in named and not [name for name in EMBEDDED if name in named][1:]
    assert {m for p in found["Training"] for m in p["config"]["metrics"]} == {
        tracking.LOSS,
        tracking.LEARNING_RATE,
    }


def test_tables_are_the_measured_ones_where_there_are_any(capsys: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "paper"
    folder.mkdir(parents=True)
    (folder / "table1.md").write_text("# measured here\n")
    (folder / "table2.md").write_text("# pictures of real rain\n")
    data = ("recipe=paper", "data=rain200h")
    for block in ("srb", "ms"):
        _done(tmp_path, *data, "model=esdnet", f"model.block={block}", tested=("rain200h",))
    found = _panels(capsys, "--runs", str(tmp_path), "--recipe", "paper")
    assert found["Table 1, networks"][0]["config"]["value"] == "# measured here\n"
    assert found[TITLES["table2"]][0]["config"]["value"] == "# pictures of real rain\n"
    printed = found["Table 3, residual blocks"][0]["config"]["value"]
    assert "the paper's figures" in printed and "| SRB | 7.32 | 91,500 | 29.31 | 0.9033 |" in printed
    assert "| Residual block | FLOPs (G) | Energy (µJ) | Rain200H PSNR-Y (dB) | Rain200H SSIM-Y |" in printed
    bars = {m for p in found["Table 1, networks"] for m in p["config"].get("metrics", [])}
    assert tracking.on_test("rain200h", "ssim_y") in bars


def test_without_a_key_one_line_says_so(capsys: Any) -> None:
    pytest.importorskip("wandb_workspaces")
    assert main(["dashboard"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "wandb login" in said


def test_without_the_package_one_line_says_so(capsys: Any, monkeypatch: Any) -> None:
    real = builtins.__import__

    def none(name: str, *more: Any, **options: Any) -> Any:
        if name.startswith("wandb_workspaces"):
            raise ImportError(name)
        return real(name, *more, **options)

    monkeypatch.setattr(builtins, "__import__", none)
    assert main(["dashboard", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said == "derain: derain dashboard needs wandb-workspaces: pip install wandb-workspaces\n"


def test_a_server_that_refuses_is_failed_work(capsys: Any, monkeypatch: Any, tmp_path: Path) -> None:
    _done(tmp_path, "recipe=embedded", "data=embedded-light", "model=prenet", tested=("embedded-light",))
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)

    def save(self: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(workspaces.Workspace, "save", save)
    assert main(["dashboard", "--entity", "somebody", "--runs", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "derain: W&B did not take the workspace: no route\n"
