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


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def _panels(capsys: Any, *words: str) -> dict[str, list[dict[str, Any]]]:
    pytest.importorskip("wandb_workspaces")
    assert main(["dashboard", "--dry-run", *words]) == 0
    spec = json.loads(capsys.readouterr().out)
    assert spec["project"] == "derain"
    found = spec["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in found}


def test_the_workspace_shows_what_runs_log(capsys: Any, tmp_path: Path) -> None:
    found = _panels(capsys, "--runs", str(tmp_path))
    assert list(found) == [*TITLES.values(), "PSNR against energy", "Spike rates", "Training", "Pictures"]
    bars = {m for p in found["Table 1, networks"] for m in p["config"].get("metrics", [])}
    assert tracking.on_test("embedded-12", "psnr_y") in bars and len(bars) == 8
    groups = {title: {p["config"].get("groupBy") for p in found[title][1:]} for title in TITLES.values()}
    assert groups["Table 1, networks"] == {"model.value"} and groups["Table 4, time steps"] == {
        "variant.value"
    }
    scatter = {(p["config"]["xAxis"], p["config"]["yAxis"]) for p in found["PSNR against energy"]}
    assert (f"summary:{tracking.ENERGY_PAPER}", "summary:test/embedded-heavy/psnr_y") in scatter
    assert found["Spike rates"][0]["config"]["metricRegex"] == "spike_rate/.*"
    shown = {k for p in found["Pictures"] for k in p["config"]["mediaKeys"]}
    assert "pictures/embedded-light/1" in shown
    lines = {m for p in found["Training"] for m in p["config"]["metrics"]}
    assert lines == {tracking.LOSS, tracking.LEARNING_RATE, *tracking.VALIDATION}


def test_tables_are_the_measured_ones_where_there_are_any(capsys: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tables" / "paper"
    folder.mkdir(parents=True)
    (folder / "table1.md").write_text("# measured here\n")
    found = _panels(capsys, "--runs", str(tmp_path), "--recipe", "paper")
    assert found["Table 1, networks"][0]["config"]["value"] == "# measured here\n"
    printed = found["Table 3, residual blocks"][0]["config"]["value"]
    assert "none are measured yet" in printed and "| SRB |" in printed
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


def test_a_server_that_refuses_is_failed_work(capsys: Any, monkeypatch: Any) -> None:
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)

    def save(self: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(workspaces.Workspace, "save", save)
    assert main(["dashboard", "--entity", "somebody"]) == 1
    assert capsys.readouterr().err == "derain: W&B did not take the workspace: no route\n"
