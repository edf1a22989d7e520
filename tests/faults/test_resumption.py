"""Fault 3: a training that is cut anywhere ends as one that was left alone, and chooses the same checkpoint."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.checkpoints import read_checkpoint
from benchmark.errors import Interrupted
from benchmark.run.execute import execute
from benchmark.run.records import find_record
from benchmark.spec import RunSpec, resolve
from benchmark.training.module import Restoration

WORDS = [
    *("model=prenet", "model.stages=1", "model.channels=4", "model.residual_blocks=1", "data=embedded-light"),
    *("recipe=embedded", "recipe.batch=2", "recipe.patch=16", "recipe.steps=12", "recipe.optimizer.lr=0.005"),
    *("recipe.select=best", "recipe.validation=0.1", "recipe.validate_every=4", "trainer.checkpoint_every=2"),
    *("logger=csv", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.log_every=1"),
    "evaluation.tile=whole",
]
BEST = 8  # the step whose validation is made the best


class Killed(BaseException):
    """As SIGKILL: nothing more is written."""


def _config(folder: Path, *words: str) -> RunSpec:
    return resolve([*WORDS, *words, f"out={folder}"])


def _judged(monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None] = lambda step: None) -> None:
    """Have the validation of step `BEST` be the best, and call `then` in the middle of each."""

    def validation_step(self: Restoration, batch: dict[str, Any], batch_idx: int) -> None:
        self.network(batch["rainy"])
        if batch_idx == 1:
            then(self.global_step)
        score = 30.0 - abs(self.global_step - BEST)
        self.log("validation/psnr_y", score, on_epoch=True, on_step=False, batch_size=1)

    monkeypatch.setattr(Restoration, "validation_step", validation_step)


def _terminate(at: int) -> Callable[[int], None]:
    def then(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    return then


def _kill(at: int) -> Callable[[int], None]:
    def then(step: int) -> None:
        if step == at:
            raise Killed

    return then


def _same(a: Any, b: Any, where: str) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            _same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            _same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def _ended_alike(one: RunSpec, other: RunSpec) -> None:
    a, b = (read_checkpoint(c.folder / "checkpoints" / "last.ckpt") for c in (one, other))
    for part in ("current_model_state", "averaging_state"):
        assert (part in a) == (part in b) == (one.recipe.ema is not None)
    for part in (
        *("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"),
        *("random", "global_step", "epoch"),
    ):
        if part in a:
            _same(a[part], b[part], part)
    records = [find_record(c) for c in (one, other)]
    assert records[0] is not None and records[1] is not None
    for key in ("final_loss", "validation_psnr_y", "weights", "steps"):
        assert records[0]["training"][key] == records[1]["training"][key], key
    assert records[0]["results"] == records[1]["results"]
    logs = [(c.folder / "metrics.csv").read_text().splitlines() for c in (one, other)]
    assert logs[0] == logs[1], "the log is whole, too"


CUTS: dict[str, tuple[str, Callable[[int], Callable[[int], None]], int]] = {
    "killed between validations": ("batch", _kill, 7),
    "killed after a validation whose step was saved": ("batch", _kill, 9),
    "killed in a validation": ("validation", _kill, 8),
    "killed in the last validation": ("validation", _kill, 12),
    "terminated": ("batch", _terminate, 7),
    "terminated where a validation is due": ("batch", _terminate, 8),
    "terminated in a validation": ("validation", _terminate, 8),
    "terminated at the end": ("batch", _terminate, 12),
    "terminated in the last validation": ("validation", _terminate, 12),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, RunSpec]:
    """Trainings that were left alone, with and without an average of the weights."""
    folder = tmp_path_factory.mktemp("whole")
    made = {averaged: _config(folder, *["recipe.ema=0.9"] * averaged) for averaged in (False, True)}
    with pytest.MonkeyPatch.context() as patch:
        _judged(patch)
        for config in made.values():
            execute(config)
    return made


@pytest.mark.parametrize("averaged", [False, True], ids=["plain", "averaged"])
@pytest.mark.parametrize("cut", CUTS)
def test_wherever_a_training_is_cut_it_chooses_the_same_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[bool, RunSpec], cut: str, averaged: bool
) -> None:
    """Weights, their average, optimiser, schedule, random states, best score, log: all bit for bit."""
    where, how, step = CUTS[cut]
    config = _config(tmp_path, *["recipe.ema=0.9"] * averaged)
    then = how(step)
    with monkeypatch.context() as patch:
        _judged(patch, then if where == "validation" else lambda step: None)
        with pytest.raises((Killed, Interrupted)) as ended:
            execute(config, (lambda step, steps: then(step)) if where == "batch" else None)
    if how is _terminate:
        assert f"interrupted at step {step} of 12, saved" in str(ended.value)
    with monkeypatch.context() as patch:
        _judged(patch)
        execute(config)
    record = find_record(config)
    assert record is not None and record["training"]["validation_psnr_y"] == 30.0
    _ended_alike(whole[averaged], config)
