"""Training: what it leaves, what it logs, and that a killed one ends like one that was left alone."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmark.checkpoints import load_checkpoint
from benchmark.data import RainDataModule, write_image
from benchmark.errors import UserError, WorkError
from benchmark.models import create_model
from benchmark.run.evaluate import evaluate, summary
from benchmark.run.execute import execute
from benchmark.run.records import FAILURE, RECORD, read_record
from benchmark.spec import RunSpec, resolve

TINY = [
    "data=embedded-light",
    "recipe=embedded",
    "recipe.batch=2",
    "recipe.patch=16",
    "logger=csv",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "evaluation.tile=whole",
]
PRENET = ["model=prenet", "model.stages=1", "model.channels=4", "model.residual_blocks=1", *TINY]
ESDNET = [
    "model=esdnet",
    "model.dim=4",
    "model.encoder_blocks=[1,1,1]",
    "model.bottleneck_blocks=0",
    "model.decoder_blocks=[1,1]",
    "model.time_steps=2",
    *TINY,
]


def _config(folder: Path, *words: str, base: list[str] = PRENET) -> RunSpec:
    return resolve([*base, f"out={folder}", *words])


def test_a_run_leaves_a_record_weights_and_logs(tmp_path: Path) -> None:
    config = _config(tmp_path, "recipe.steps=4", "trainer.log_every=2", base=ESDNET)
    seen: list[tuple[int, int]] = []
    record = execute(config, lambda step, steps: seen.append((step, steps)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    folder = config.folder
    assert json.loads((folder / RECORD).read_text())["identity"] == record["identity"]
    assert set(record["results"]) == {"embedded-light"}
    rows = record["results"]["embedded-light"]["images"]
    assert len(rows) == record["results"]["embedded-light"]["mean"]["n"] == 13
    assert record["parameters"]["trained"] == sum(v.numel() for v in _parameters(folder))
    for key in ("command", "commit", "machine", "versions", "date", "config", "training"):
        assert key in record
    assert str(Path.home()) not in json.dumps(record["command"])
    with (folder / "metrics.csv").open() as file:
        logged = next(csv.DictReader(file))
    assert "train/loss" in logged
    assert {k for k in logged if k.startswith("spike_rate/")} >= {
        "spike_rate/encoder1",
        "spike_rate/encoder3",
    }


def _parameters(folder: Path) -> list[torch.Tensor]:
    weights = load_file(folder / "weights.safetensors")
    return [v for k, v in weights.items() if "running_" not in k and "num_batches" not in k]


def test_asking_twice_does_the_work_once(tmp_path: Path) -> None:
    config = _config(tmp_path, "recipe.steps=2")
    first = execute(config)
    steps: list[int] = []
    assert execute(config, lambda step, of: steps.append(step)) == json.loads(
        (config.folder / RECORD).read_text()
    )
    assert not steps
    assert first["identity"] == execute(config)["identity"]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = _config(tmp_path / name, "recipe.steps=2", f"seed={seed}")
        execute(config)
        weights.append(load_file(config.folder / "weights.safetensors"))
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert not all(torch.equal(weights[0][k], weights[2][k]) for k in weights[0])


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    config = _config(
        tmp_path,
        "recipe.steps=30",
        "recipe.optimizer.lr=1e30",
        "recipe.gradient_clip=null",
        "trainer.checkpoint_every=1",
    )
    with pytest.raises(WorkError, match="diverged at step"):
        execute(config)
    failure = read_record(config.folder, FAILURE)
    assert failure is not None and failure["state"] == "diverged"
    assert (config.folder / "checkpoints" / "last.ckpt").is_file()
    assert not (config.folder / RECORD).exists()


def test_held_out_images_choose_the_checkpoint(tmp_path: Path) -> None:
    words = ("recipe.steps=4", "recipe.select=best", "recipe.validation=0.1", "recipe.validate_every=2")
    config = _config(tmp_path, *words)
    record = execute(config)
    assert record["training"]["weights"] == "best.ckpt"
    assert record["training"]["data"]["held_out"] > 0


def test_the_checkpoint_is_chosen_by_pictures_restored_as_in_the_test(tmp_path: Path) -> None:
    """ESDNet's attention looks at a whole tile: pictures restored whole would give another figure."""
    for name in (
        "train/input/1",
        "train/target/1",
        "train/input/2",
        "train/target/2",
        "test/input/3",
        "test/target/3",
    ):
        pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (56, 72, 3), dtype=np.uint8)
        write_image(tmp_path / "set" / f"{name}.png", pixels)
    root = str(tmp_path / "set")
    words = ("recipe.steps=2", "recipe.select=best", "recipe.validation=0.5", "recipe.validate_every=2")
    words += ("evaluation.overlap=4", "model.start_as_identity=false", "data=folder", f"data.root={root}")
    chosen = []
    for tile in ("32", "48"):
        config = _config(tmp_path, *words, f"evaluation.tile={tile}", base=ESDNET)
        record = execute(config)
        assert "trained_as" not in record["training"], "another choice is another training"
        network = create_model("esdnet", **config.options)
        load_checkpoint(network, config.folder / "checkpoints" / "best.ckpt")
        data = RainDataModule("folder", root=root, patch=16, batch=2, validation=0.5, seed=config.seed)
        data.setup("fit")
        rows = evaluate(network, data.held_out, tile=int(tile), overlap=4, progress=False)
        chosen.append(record["training"]["validation_psnr_y"])
        assert chosen[-1] == pytest.approx(summary(rows)["psnr_esdnet"], abs=1e-6)
    assert abs(chosen[0] - chosen[1]) > 1e-5


def test_a_run_chosen_by_its_last_step_is_trained_once_for_all_tiles(tmp_path: Path) -> None:
    last, best = (
        [
            _config(
                tmp_path, "recipe.validation=0.1", f"recipe.select={s}", f"evaluation.tile={t}"
            ).training_identity
            for t in ("whole", "32", "48")
        ]
        for s in ("last", "best")
    )
    assert len(set(last)) == 1 and len(set(best)) == 3


def test_an_average_of_the_weights_is_what_is_tested(tmp_path: Path) -> None:
    plain = _config(tmp_path, "recipe.steps=3")
    averaged = _config(tmp_path, "recipe.steps=3", "recipe.ema=0.9")
    execute(plain)
    execute(averaged)
    a, b = (load_file(c.folder / "weights.safetensors") for c in (plain, averaged))
    assert any(not torch.equal(a[k], b[k]) for k in a)


def test_another_test_of_the_same_training_does_not_train_again(tmp_path: Path) -> None:
    first = _config(tmp_path, "recipe.steps=2")
    execute(first)
    steps: list[int] = []
    again = execute(
        _config(tmp_path, "recipe.steps=2", "evaluation.tile=32"), lambda step, of: steps.append(step)
    )
    assert not steps and again["training"]["trained_as"] == first.folder.name
    # a record whose training was another, though its configuration reads the same, is no twin
    path = first.folder / RECORD
    record = json.loads(path.read_text())
    for folder in tmp_path.rglob(RECORD):
        folder.write_text(json.dumps({**json.loads(folder.read_text()), "training_identity": "another"}))
    assert record["training_identity"] != "another"
    execute(_config(tmp_path, "recipe.steps=2", "evaluation.tile=48"), lambda step, of: steps.append(step))
    assert steps == [1, 2]


def test_a_checkpoint_of_another_configuration_is_not_gone_on_from(tmp_path: Path) -> None:
    first = _config(tmp_path, "recipe.steps=2")
    execute(first)
    second = _config(tmp_path, "recipe.steps=3")
    second.folder.mkdir(parents=True)
    (first.folder / "checkpoints").rename(second.folder / "checkpoints")
    with pytest.raises(UserError, match=r"another configuration"):
        execute(second)


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root"):
        execute(_config(tmp_path, "recipe.steps=2", "data=rain200h"))


def _wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"step {step} of"):
            return
    raise AssertionError("training ended before it could be killed")


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_killed_training_ends_with_the_same_weights(
    tmp_path: Path, derain: Any, signum: int, status: int
) -> None:
    """Bit for bit on CPU; in mid-epoch too: an epoch is 42 steps here, checkpoints come every 3."""
    words = ["recipe.steps=40", "trainer.checkpoint_every=3", "trainer.log_every=1"]
    whole = _config(tmp_path / "whole", *words)
    execute(whole)
    cut = _config(tmp_path / "cut", *words)
    process = derain.start("train", *PRENET, f"out={tmp_path / 'cut'}", *words, stderr=subprocess.PIPE)
    _wait_for_step(process, 8)
    os.kill(process.pid, signum)
    process.communicate(timeout=120)
    assert process.returncode == status
    assert not (cut.folder / RECORD).exists()
    if signum != signal.SIGKILL:
        failure = read_record(cut.folder, FAILURE)
        assert failure is not None and failure["state"] == "interrupted"
    steps: list[int] = []
    execute(cut, lambda step, of: steps.append(step))
    assert 1 < steps[0] <= 40, "it went on, not again from the start"
    a, b = (load_file(c.folder / "weights.safetensors") for c in (whole, cut))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not (cut.folder / FAILURE).exists()
    logged = [_logged(c.folder) for c in (whole, cut)]
    assert logged[0].keys() == set(range(40))
    # the row of the very step whose checkpoint is gone on from may not have come to the disk before a SIGKILL
    assert len(logged[1]) >= 39 and logged[1].items() <= logged[0].items(), "the curve is whole too"


def _logged(folder: Path) -> dict[int, str]:
    with (folder / "metrics.csv").open() as file:
        rows = [(int(r["step"]), r["train/loss"]) for r in csv.DictReader(file)]
    assert len(dict(rows)) == len(rows), "no step twice"
    return dict(rows)


# Adam as it is takes a step of lr by a gradient that is nothing but rounding
LINEAR = ["recipe.optimizer.eps=1", "recipe.optimizer.lr=0.1"]


@pytest.mark.parametrize("base", [PRENET, [*ESDNET, *LINEAR]], ids=["prenet", "esdnet"])
def test_two_processes_train_like_one(tmp_path: Path, derain: Any, base: list[str]) -> None:
    """DDP over gloo: batch and batch norms are the recipe's whatever the number of processes."""
    words = ["recipe.steps=3", "recipe.batch=4"]
    one = _config(tmp_path / "one", *words, base=base)
    execute(one)
    two = [*base, *words, f"out={tmp_path / 'two'}", "trainer.devices=2", "trainer.strategy=ddp"]
    done = derain.run("train", *two)
    assert done.returncode == 0, done.stderr
    folder = resolve(two).folder
    a, b = (load_file(f / "weights.safetensors") for f in (one.folder, folder))
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=1e-6, rtol=1e-5)
    mean = [read_record(f)["results"]["embedded-light"]["mean"] for f in (one.folder, folder)]  # type: ignore[index]
    assert mean[0]["n"] == mean[1]["n"]
    assert mean[0]["psnr_esdnet"] == pytest.approx(mean[1]["psnr_esdnet"], abs=1e-4)


def test_a_training_goes_on_from_given_weights(tmp_path: Path) -> None:
    first = _config(tmp_path, "recipe.steps=2")
    execute(first)
    weights = tmp_path / "start.safetensors"
    weights.write_bytes((first.folder / "weights.safetensors").read_bytes())
    # a rate of almost nothing: what comes out is what went in
    words = ["recipe.steps=1", f"recipe.start_from={weights}", "recipe.optimizer.lr=1e-12"]
    second = _config(tmp_path, *words, "recipe.schedule.final_lr=0")
    record = execute(second)
    given, left = load_file(weights), load_file(second.folder / "weights.safetensors")
    assert all(torch.allclose(left[key], value, atol=1e-8) for key, value in given.items())
    assert (
        record["training"]["data"]["start_from"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    )
    # another content under the same name is another run, and no file is a mistake
    weights.write_bytes(weights.read_bytes() + b" ")
    assert second.folder != first.folder
    with pytest.raises(UserError, match=r"start\.safetensors"):
        execute(second)
    weights.unlink()
    with pytest.raises(UserError, match="no such file"):
        execute(second)


def test_optimiser_clipping_and_average_are_the_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytorch_lightning.callbacks import Callback

    from benchmark.training import train as training
    from benchmark.training.module import Restoration

    asked = {"name": "adamw", "betas": "[0.8,0.95]", "eps": "1e-6", "weight_decay": "0.02", "lr": "0.003"}
    words = [f"recipe.optimizer.{key}={value}" for key, value in asked.items()]
    words += ["recipe.gradient_clip=0.3", "recipe.ema=0.9", "recipe.steps=3"]
    config = _config(tmp_path, *words)
    module = Restoration(create_model("prenet", **config.options), config.recipe, 3, 3, {})
    optimizer = module.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.AdamW)
    (group,) = optimizer.param_groups
    assert group["betas"] == (0.8, 0.95) and group["weight_decay"] == 0.02 and group["eps"] == 1e-6
    assert group["initial_lr"] == 0.003
    seen: dict[str, Any] = {}

    def trainer(**settings: Any) -> None:
        seen.update(settings)
        raise InterruptedError

    def averaging(decay: float) -> Callback:
        seen["ema"] = decay
        return Callback()

    monkeypatch.setattr(training.pl, "Trainer", trainer)
    monkeypatch.setattr(training, "EMAWeightAveraging", averaging)
    with pytest.raises(InterruptedError):
        training.train(config, tmp_path / "run")
    assert seen["gradient_clip_val"] == 0.3 and seen["ema"] == 0.9
