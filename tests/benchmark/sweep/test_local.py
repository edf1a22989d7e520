"""The local executor: runs in processes of their own, failures kept apart, work done once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.config import RunConfig, resolve, run_name
from benchmark.errors import UserError
from benchmark.files import write_json
from benchmark.sweep.local import Outcome, Running, run_all
from benchmark.sweep.plan import table1, table_datasets
from benchmark.sweep.records import (
    FAILURE,
    RECORD,
    collect,
    find_record,
    provenance,
    read_record,
    run_folder,
    without_home,
)

TINY = [
    "model.stages=1",
    "model.channels=4",
    "model.residual_blocks=1",
    "recipe=embedded",
    "recipe.batch=2",
    "recipe.patch=16",
    "recipe.steps=2",
    "logger=csv",
    "trainer.accelerator=cpu",
]


def _config(folder: Path, *words: str) -> RunConfig:
    return resolve(["model=prenet", "data=embedded-light", *TINY, f"out={folder}", *words])


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    good = _config(tmp_path)
    bad = _config(tmp_path, "data=rain200h", f"data.root={tmp_path / 'nowhere'}")
    diverging = _config(
        tmp_path, "recipe.steps=30", "recipe.optimizer.lr=1e30", "recipe.gradient_clip=null", "seed=1"
    )
    events: list[tuple[str, Running | Outcome]] = []
    outcomes = run_all([bad, good, diverging], workers=2, notify=lambda e, w: events.append((e, w)))
    assert [o.state for o in outcomes] == ["failed", "done", "diverged"]
    assert "nowhere" in outcomes[0].reason
    assert find_record(good) is not None
    assert [run_name(r["config"] and good) for r in collect([tmp_path])] == [run_name(good)]
    assert {"started", "progress", "finished"} <= {e for e, _ in events}
    assert (run_folder(good) / "log.txt").is_file()
    # again: what is done is not done again, what failed is tried again
    record = (run_folder(good) / RECORD).stat().st_mtime_ns
    events.clear()
    again = run_all([good, bad], notify=lambda e, w: events.append((e, w)))
    assert [o.state for o in again] == ["done", "failed"]
    assert (run_folder(good) / RECORD).stat().st_mtime_ns == record
    assert {run_name(w.config) for _, w in events} == {run_name(bad)}


def test_a_run_that_dies_without_a_word_is_failed_with_its_signal(tmp_path: Path) -> None:
    config = _config(tmp_path, "recipe.steps=100000")
    killed = []

    def kill(event: str, what: Running | Outcome) -> None:
        if event == "progress" and isinstance(what, Running) and not killed and what.process.pid:
            killed.append(what.process.pid)
            os.kill(what.process.pid, signal.SIGKILL)

    (outcome,) = run_all([config], notify=kill)
    assert outcome.state == "interrupted"
    assert "SIGKILL" in outcome.reason
    failure = read_record(run_folder(config), FAILURE)
    assert failure is not None and failure["reason"] == outcome.reason


def test_a_killed_driver_leaves_no_orphans(tmp_path: Path) -> None:
    words = ["model=prenet", "data=embedded-light", *TINY, f"out={tmp_path}", "recipe.steps=100000"]
    code = (
        "from benchmark.config import resolve; from benchmark.sweep.local import run_all\n"
        "def tell(event, what):\n"
        "    if event == 'progress': print(what.process.pid, flush=True)\n"
        f"if __name__ == '__main__': run_all([resolve({words!r})], notify=tell)\n"
    )
    script = tmp_path / "driver.py"
    script.write_text(code)
    driver = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    child = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not Path(f"/proc/{child}").exists()
    config = resolve(words)
    failure = read_record(run_folder(config), FAILURE)
    assert failure is not None and failure["state"] == "interrupted"
    assert (run_folder(config) / "checkpoints" / "last.ckpt").is_file()


def test_the_plan_of_table_1_has_a_run_for_each_network_and_training_set() -> None:
    plan = table1("embedded", None, models=["prenet", "esdnet"], seeds=(0, 1))
    assert len(plan.runs) == 2 * 3 * 2
    assert {c.data.name for c in plan.runs} == {"embedded-light", "embedded-heavy", "embedded-mixed"}
    assert table_datasets(True)[0] == "embedded-12"
    assert not plan.absent


def test_a_plan_over_a_folder_without_datasets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset of Table 1"):
        table1("paper", str(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        table1("paper", str(tmp_path / "absent"))


def test_records_that_are_no_records_are_named(tmp_path: Path) -> None:
    config = _config(tmp_path)
    run_folder(config).mkdir(parents=True)
    for text in ("", "{", "[]", '{"format": 99}'):
        (run_folder(config) / RECORD).write_text(text)
        with pytest.raises(UserError, match="remove it to run again"):
            find_record(config)
    write_json(run_folder(config) / RECORD, {"format": 1, "identity": "another"})
    with pytest.raises(UserError, match="is of configuration another"):
        find_record(config)


def test_provenance_names_no_host_and_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    monkeypatch.setenv("HOME", "/home/somebody")
    assert without_home("/home/somebody/data /home/somebodyelse") == "~/data /home/somebodyelse"
    host = platform.node()
    assert not host or host not in str(provenance())


def test_infinite_values_survive_and_nan_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"psnr": float("inf")})
    assert '"inf"' in (tmp_path / "a.json").read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"psnr": float("nan")})
    assert '"inf"' in (tmp_path / "a.json").read_text(), "the old file is intact"
