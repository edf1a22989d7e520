"""Faults 2 and 3: who is asked to stop, and how. Two processes, a closed terminal, a reader that goes away."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmark.checkpoints import read_checkpoint
from benchmark.cli import main
from benchmark.errors import ProcessLost
from benchmark.run.records import FAILURE, RECORD, Record, find_record, read_record
from benchmark.spec import RunSpec, resolve
from benchmark.training import processes

TINY = [
    *("model=prenet", "model.stages=1", "model.channels=4", "model.residual_blocks=1", "data=embedded-light"),
    *("recipe=embedded", "recipe.batch=2", "recipe.patch=16", "recipe.steps=60", "logger=csv"),
    *("trainer.checkpoint_every=5", "trainer.accelerator=cpu", "trainer.threads=1", "evaluation.tile=whole"),
]
TWO = ["trainer.devices=2", "trainer.strategy=ddp"]
TRAIN = [sys.executable, "-m", "benchmark", "train"]


def _failure(config: RunSpec) -> Record:
    found = read_record(config.folder, FAILURE)
    assert found is not None
    return found


def _until_step(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            return
    raise AssertionError("it ended before it could be stopped")


def _second(first: int) -> int:
    """The process that a process of a training started as the second one."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == first and b"LOCAL_RANK=1" in (path / "environ").read_bytes():
                return int(path.name)
        except OSError:
            continue
    raise AssertionError("there is no second process")


@pytest.mark.timeout(900)  # four trainings, six processes that import everything
def test_two_processes_stop_and_go_on_as_one_does(tmp_path: Path, derain: Any) -> None:
    """One is asked to stop, then one is killed: either way the other ends with it, and the same weights come out."""
    words = [*TINY, *TWO, "recipe.steps=400"]
    left_alone, cut = ([*words, f"out={tmp_path / name}"] for name in ("alone", "cut"))
    whole = derain.start("train", *left_alone, stderr=subprocess.PIPE)
    config = resolve(cut)
    for signum, first, status, told in (
        (signal.SIGTERM, True, 143, "saved; run the same command to go on"),
        (
            signal.SIGKILL,
            False,
            137,
            "process 1 of 2 of this training was killed by SIGKILL; run the same command",
        ),
    ):
        process = derain.start("train", *cut, stderr=subprocess.PIPE)
        _until_step(process)
        other = _second(process.pid)
        os.kill(process.pid if first else other, signum)
        _, said = process.communicate(timeout=120)
        assert process.returncode == status, said
        lines = [line for line in said.splitlines() if line.startswith("derain: ")]
        assert len(lines) == 1 and told in lines[0] and "Traceback" not in said, said
        failure = _failure(config)
        assert failure["state"] == "interrupted" and told in failure["reason"] and not failure["traceback"]
        assert not Path(f"/proc/{other}").exists(), "none is left"
        at = read_checkpoint(config.folder / "checkpoints" / "last.ckpt")["global_step"]
        assert 0 < at < 400
    done = derain.run("train", *cut)
    assert done.returncode == 0, done.stderr
    assert whole.communicate() and whole.returncode == 0
    a, b = (load_file(resolve(w).folder / "weights.safetensors") for w in (left_alone, cut))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_process_that_is_lost_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Started:
        def __init__(self, *codes: int) -> None:
            self.procs = [
                subprocess.Popen(["sh", "-c", f"exit {c}" if c >= 0 else f"kill {c} $$"]) for c in codes
            ]
            self.cluster_environment = type("", (), {"creates_processes_externally": False})
            for process in self.procs:
                process.wait()

    broken = RuntimeError("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    for codes, error, status, words in (
        ((0, -9), broken, 137, "process 2 of 3 of this training was killed by SIGKILL"),
        ((3,), broken, 1, "process 1 of 2 of this training ended with status 3"),
        ((), broken, 1, "another process of this training is gone"),
    ):
        with pytest.raises(ProcessLost, match=words) as told, processes.together(Started(*codes)):  # type: ignore[arg-type]
            raise error
        assert told.value.status == status
    with pytest.raises(KeyError), processes.together(Started(3)):  # type: ignore[arg-type]
        raise KeyError("a bug of ours is ours")


WAITS = """
import subprocess, sys, time
from benchmark.training import processes
processes._GLANCE, processes._GRACE = 0.05, 0.2
class Started:
    procs = [subprocess.Popen(["sleep", "300"]), subprocess.Popen(["sh", "-c", "kill -9 $$"])]
    class cluster_environment: creates_processes_externally = False
print(Started.procs[0].pid, flush=True)
with processes.together(Started):
    time.sleep(300)
"""


def test_who_only_waits_for_a_process_that_is_gone_is_ended() -> None:
    done = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 137
    assert "process 2 of 3 of this training was killed by SIGKILL" in done.stderr
    assert not Path(f"/proc/{done.stdout.strip()}").exists()


@pytest.mark.parametrize("ignored", [False, True], ids=["plain", "nohup"])
def test_a_closed_terminal_saves_first(tmp_path: Path, ignored: bool) -> None:
    """Under `nohup` it goes on to its end, though nobody reads any more."""
    words = [*TINY, f"out={tmp_path}"]
    pid, terminal = pty.fork()
    if pid == 0:
        # whatever the tests themselves run under
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        os.execv(TRAIN[0], [*TRAIN, *words])
    folder = resolve(words).folder
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    _, ended = os.waitpid(pid, 0)
    if ignored:
        assert os.waitstatus_to_exitcode(ended) == 0 and (folder / RECORD).exists()
        return
    assert os.waitstatus_to_exitcode(ended) == 128 + signal.SIGHUP
    failure = _failure(resolve(words))
    assert failure["state"] == "interrupted" and "saved" in failure["reason"]
    step = read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"]
    assert f"at step {step} of 60" in failure["reason"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_outside_the_training_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signum: int
) -> None:
    """While pictures are tested there is nothing to save; the same command tests again."""
    from benchmark.run import execute as run

    def while_testing(*args: object) -> None:
        os.kill(os.getpid(), signum)
        time.sleep(60)

    monkeypatch.setattr(run, "_train_and_test", while_testing)
    words = [*TINY, f"out={tmp_path}"]
    before = signal.signal(signum, signal.SIG_DFL)
    try:
        assert main(["train", *words]) == 128 + signum
        assert signal.getsignal(signum) is signal.SIG_DFL
    finally:
        signal.signal(signum, before)
    assert capsys.readouterr().err == "derain: interrupted; run the same command to go on\n"
    assert _failure(resolve(words))["state"] == "interrupted"


def test_a_training_whose_reader_goes_away_goes_on(tmp_path: Path) -> None:
    command = " ".join([*TRAIN, *TINY, f"out={tmp_path}", "2>&1", "|", "head -1"])
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("logging to ") and not done.stderr
    assert find_record(resolve([*TINY, f"out={tmp_path}"])) is not None


def test_closed_standard_streams_are_nobody_elses(tmp_path: Path) -> None:
    """A file that took the number of a closed stream would have messages written into it."""
    command = " ".join([*TRAIN, *TINY, "recipe.steps=5", f"out={tmp_path}", ">&-", "2>&-", "<&-"])
    assert subprocess.run(["bash", "-c", command]).returncode == 0
    record = find_record(resolve([*TINY, "recipe.steps=5", f"out={tmp_path}"]))
    assert record is not None and record["training"]["steps"] == 5
