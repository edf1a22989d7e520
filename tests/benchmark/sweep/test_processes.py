"""Runs, drivers and claims as processes that are killed: after a rerun the records are those of a quiet sweep."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from benchmark.run.records import FAILURE, read_record
from benchmark.run.states import State, state_of
from benchmark.sweep.driver import drive
from benchmark.sweep.executors import ExecutorConfig
from benchmark.sweep.executors.local import LocalExecutor
from benchmark.sweep.plan import Planned

STEPS = "recipe.steps=30"


def _local(workers: int = 2) -> LocalExecutor:
    return LocalExecutor(ExecutorConfig(workers=workers))


def _with_channels(run: Planned, channels: int) -> Planned:
    """The run with more channels than words may ask for."""
    options = {**run.spec.model.options, "channels": channels}
    spec = dataclasses.replace(run.spec, model=dataclasses.replace(run.spec.model, options=options))
    return dataclasses.replace(run, spec=spec)


def test_failures_of_every_kind_are_told_apart(tmp_path: Path, tools: Any) -> None:
    ways = {
        "done": tools.planned(tmp_path),
        "failed": tools.planned(tmp_path, "data=rain200h", f"data.root={tmp_path / 'nowhere'}"),
        "diverged": tools.planned(
            tmp_path, "recipe.steps=30", "recipe.optimizer.lr=1e30", "recipe.gradient_clip=null", seed=1
        ),
        # more than an address can name: no machine gives it
        "out of memory": _with_channels(tools.planned(tmp_path, seed=2), 3_000_000),
    }
    seen: list[tuple[str, State]] = []
    states = drive(list(ways.values()), _local(), lambda run, state: seen.append((run.name, state)))
    assert {name: states[run.name].name for name, run in ways.items()} == {name: name for name in ways}
    assert "nowhere" in states[ways["failed"].name].reason
    assert "recipe.batch" in states[ways["out of memory"].name].reason
    held = [s.holder for name, s in seen if name == ways["diverged"].name and s.holder]
    assert held and held[0] and held[0].owner and not tools.gone(os.getpid())
    folder = ways["done"].folder
    assert (folder / "log.txt").is_file() and not list(folder.glob("claim-*"))
    record = read_record(folder)
    assert record is not None and record["config"]["trainer"]["threads"] == 1


def test_killed_runs_go_on_and_leave_the_records_of_quiet_ones(tmp_path: Path, tools: Any) -> None:
    quiet = [tools.planned(tmp_path / "quiet", STEPS, seed=seed) for seed in range(3)]
    drive(quiet, _local())
    runs = [tools.planned(tmp_path / "killed", STEPS, seed=seed) for seed in range(3)]
    signals = {runs[0].name: signal.SIGKILL, runs[1].name: signal.SIGTERM}

    def kill(run: Planned, state: State) -> None:
        if state.holder and state.holder.owner and run.name in signals:
            os.kill(state.holder.owner.pid, signals.pop(run.name))

    slow = [tools.planned(tmp_path / "killed", STEPS, seed=seed) for seed in range(3)]
    states = drive(slow, _local(), kill)
    assert not signals, "both were caught in the middle"
    assert [s.name for s in states.values()] == ["interrupted", "interrupted", "done"]
    assert "SIGKILL" in states[runs[0].name].reason
    assert [s.name for s in drive(runs, _local()).values()] == ["done"] * 3
    assert tools.essence(tmp_path / "killed") == tools.essence(tmp_path / "quiet")


def _table(tools: Any, folder: Path, *more: str) -> list[str]:
    words = [*tools.tiny, STEPS, *more]
    return ["table", "1", *words, "--models", "prenet", "--datasets", "embedded-light", "--runs", str(folder)]


@pytest.mark.timeout(900)
def test_two_drivers_of_one_folder_do_each_run_once(tmp_path: Path, tools: Any) -> None:
    words = [*_table(tools, tmp_path / "runs", "--seeds", "0..3"), "--workers", "1"]
    drivers = [tools.derain(*words) for _ in range(2)]
    ended = [d.communicate(timeout=280) for d in drivers]
    assert [d.returncode for d in drivers] == [0, 0], ended
    logs = [p.read_text() for p in (tmp_path / "runs").rglob("log.txt")]
    records = tools.essence(tmp_path / "runs")
    assert len(records) == 4
    for path in (tmp_path / "runs").rglob("metrics.csv"):
        steps = [line for line in path.read_text().splitlines() if line and line[0].isdigit()]
        assert len(steps) == len(set(steps)), "no step was logged twice"
    assert not any("Traceback" in log for log in logs)
    assert all("PReNet" in out for out, _ in ended), "both print the table"
    elsewhere = sum(err.count(": running by process") for _, err in ended)
    assert elsewhere, "they met"


def test_a_killed_driver_leaves_no_orphans_and_the_next_goes_on(tmp_path: Path, tools: Any) -> None:
    words = [*_table(tools, tmp_path, "recipe.steps=100000"), "--workers", "1"]
    driver = tools.derain(*words)
    pid = tools.until(lambda: tools.process_of(tmp_path, 5))
    assert pid, driver.communicate()
    driver.kill()
    assert tools.until(lambda: tools.gone(pid), 60)
    (folder,) = (tmp_path / "embedded").iterdir()
    failure = read_record(folder, FAILURE)
    assert (
        failure is not None
        and failure["state"] == "interrupted"
        and failure["command"].startswith("derain table 1")
    )
    assert (folder / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_and_the_same_command_goes_on(
    tmp_path: Path, tools: Any, signum: signal.Signals, status: int
) -> None:
    words = [*_table(tools, tmp_path), "--workers", "1"]
    driver = tools.derain(*words)
    pid = tools.until(lambda: tools.process_of(tmp_path, 0))
    assert pid, driver.communicate()
    driver.send_signal(signum)
    _, said = driver.communicate(timeout=120)
    assert driver.returncode == status
    assert "1 run stopped, saved; 1 of 1 are left: the same command goes on" in said
    assert "Traceback" not in said
    assert tools.gone(pid)
    (folder,) = (tmp_path / "embedded").iterdir()
    failure = read_record(folder, FAILURE)
    assert failure is not None and failure["state"] == "interrupted"
    again = tools.derain(*words)
    _, said = again.communicate(timeout=280)
    assert again.returncode == 0, said
    assert not list(folder.glob("claim-*")) and not (folder / FAILURE).exists()


def test_one_plan_of_several_gpus_gives_each_run_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,7")
    assert LocalExecutor(ExecutorConfig()).places == 4
    executor = LocalExecutor(ExecutorConfig(gpus=2))
    assert executor.places == 2
    first = executor._devices()
    assert first == "3,5"
    monkeypatch.setattr(executor, "_jobs", [type("Job", (), {"devices": first})()])
    assert executor._devices() == "6,7"
    assert LocalExecutor(ExecutorConfig(gpus=0))._devices() == "", "none is seen where none is wanted"


def test_preloading_does_not_touch_the_gpu() -> None:
    """A process that had initialised CUDA before the fork could not give its runs GPUs of their own."""
    import subprocess
    import sys

    from benchmark.sweep.executors.local import PRELOAD

    code = (
        "import torch\n"
        "def touched(*a): raise SystemExit('CUDA was touched')\n"
        "torch._C._cuda_init = torch._C._cuda_getDeviceCount = torch.cuda.device_count = touched\n"
        f"import importlib\nfor name in {PRELOAD!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_parallel_training_of_a_sweep_is_one_run(tmp_path: Path, tools: Any) -> None:
    """Lightning starts the second process as the command that the first one was: the run, not the table."""
    run = tools.planned(tmp_path, "trainer.devices=2", "trainer.strategy=ddp")
    states = drive([run], _local(1))
    assert states[run.name].name == "done", (states, (run.folder / "log.txt").read_text())
    record = read_record(run.folder)
    assert record is not None and record["config"]["trainer"]["devices"] == "2"
    assert not (run.folder / "order.json").exists() and json.dumps(record)
    assert state_of(run).name == "done"
