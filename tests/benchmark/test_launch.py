"""What is offered works, or is refused in one line before work: devices, precisions, losses, allocations."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import catalog
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.launch import require_launch
from benchmark.models import create_model
from benchmark.run.execute import execute
from benchmark.spec import resolve
from benchmark.spec.resolve import choices

TINY = [
    "model=prenet",
    "model.stages=1",
    "model.channels=4",
    "model.residual_blocks=1",
    "data=embedded-light",
    "recipe=embedded",
    "recipe.batch=2",
    "recipe.patch=16",
    "recipe.steps=1",
    "logger=csv",
    "trainer.threads=1",
    "evaluation.tile=whole",
]


@pytest.mark.parametrize("loss", [loss for loss in choices("recipe.loss") if loss != "own"])
@pytest.mark.parametrize("name", list(catalog.networks()))
def test_a_loss_is_taken_by_a_network_or_refused(name: str, loss: str) -> None:
    from benchmark.training.module import Restoration

    entry = catalog.network(name)
    try:
        config = resolve([f"model={name}", "recipe=embedded", f"recipe.loss={loss}"])
    except UserError as error:
        assert "does not have" in str(error) and loss in catalog.networks() and loss != name
        return
    if loss not in catalog.networks() or loss == name:
        return  # those train in `training/test_every_network.py`
    network = create_model(name, **entry.embedded)
    module = Restoration(network, config.recipe, 1, 1, {})
    side = max(entry.minimum_size, entry.size_multiple)
    outputs = getattr(network, "training_outputs", lambda x: [network(x)])(torch.rand(2, 3, side, side))
    assert torch.isfinite(module.loss(outputs, torch.rand(2, 3, side, side), torch.rand(2, 3, side, side)))


@pytest.mark.parametrize("precision", choices("recipe.precision"))
def test_every_precision_trains(precision: str, tmp_path: Path) -> None:
    if precision == "16-mixed" and not torch.cuda.is_available():
        pytest.skip("needs a GPU, and is refused without")
    execute(resolve([*TINY, f"recipe.precision={precision}", f"out={tmp_path}"]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipe.precision=64-true"], "unknown recipe.precision '64-true'"),
        (["trainer.strategy=ddp_spawn"], "unknown trainer.strategy 'ddp_spawn'"),
        (["trainer.strategy=fsdp"], "unknown trainer.strategy 'fsdp'"),
        (["trainer.devices=3", "recipe.batch=2"], "recipe.batch=2: cannot be shared evenly by 3 processes"),
        (["trainer.devices=5"], "recipe.batch=12: cannot be shared evenly by 5 processes"),
        (["trainer.devices=0,1,2,3,4"], "recipe.batch=12: cannot be shared evenly by 5 processes"),
        (["trainer.devices=3", "trainer.nodes=3"], "cannot be shared evenly by 9 processes"),
        (["trainer.devices=99999999999999999999"], "trainer.devices="),
        (["model=sfnet", "recipe.batch=1"], "recipe.batch=1: SFNet trains on at least 2 patches"),
    ],
)
def test_what_cannot_work_anywhere_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve(words)


def test_processes_have_the_least_batch_of_a_network_together() -> None:
    """Their norms are of the whole batch."""
    assert resolve(["model=sfnet", "recipe.batch=2", "trainer.devices=2"]).recipe.batch == 2


@pytest.mark.parametrize("name", list(catalog.networks()))
def test_the_least_batch_of_a_network_is_the_least_that_it_trains_on(name: str) -> None:
    entry = catalog.network(name)
    side = max(entry.minimum_size, entry.size_multiple)
    network = create_model(name, **entry.embedded).train()
    network(torch.rand(entry.minimum_batch, 3, side, side))
    if entry.minimum_batch > 1:
        with pytest.raises(ValueError, match="more than 1 value"):
            network(torch.rand(entry.minimum_batch - 1, 3, side, side))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.accelerator=gpu"], "no usable GPU here"),
        (["trainer.accelerator=cuda"], "no usable GPU here"),
        (["trainer.accelerator=mps"], "no Apple GPU"),
        (["trainer.accelerator=cpu", "recipe.precision=16-mixed"], "needs a GPU; on a CPU use bf16-mixed"),
        (["recipe.precision=16-mixed"], "needs a GPU; on a CPU use bf16-mixed"),
        (["trainer.devices=0,1"], "number of processes"),
        (["trainer.devices=-1"], "number of processes"),
        (["trainer.devices=1000", "recipe.batch=1000"], "at most"),
        (["trainer.nodes=2"], "start it by srun or torchrun"),
    ],
)
def test_what_this_machine_has_not_is_refused_before_work(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *TINY, f"out={tmp_path / 'runs'}", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and said in told
    assert not (tmp_path / "runs").exists()


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for devices in ("2", "0,1", "auto", "-1", "1"):
        require_launch(resolve([f"trainer.devices={devices}"]))
    for devices in ("3", "0,2", "1,1"):
        with pytest.raises(UserError, match="2 GPUs are here"):
            require_launch(resolve([f"trainer.devices={devices}"]))


ALLOCATION = {
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
}


@pytest.mark.parametrize(
    "more", [{}, {"SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}, {"SLURM_NTASKS": "1"}]
)
def test_one_device_trains_in_a_slurm_allocation(more: dict[str, str], tmp_path: Path, derain: Any) -> None:
    words = [*TINY, "trainer.accelerator=cpu", f"out={tmp_path}"]
    done = derain.run("train", *words, env={**os.environ, **ALLOCATION, **more})
    assert done.returncode == 0, done.stderr
    assert (resolve(words).folder / "record.json").is_file()


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        ([], {**ALLOCATION, "SLURM_PROCID": "3"}, "srun --ntasks=1"),
        ([], {**ALLOCATION, "SLURM_STEP_ID": "0"}, "srun --ntasks=1"),
        (["trainer.devices=2"], {**ALLOCATION, "SLURM_STEP_ID": "0"}, "srun --ntasks=2"),
        (["trainer.nodes=2"], ALLOCATION, "start it by srun --ntasks=2"),
        (
            ["trainer.nodes=2"],
            {**ALLOCATION, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NNODES": "1"},
            "has 1 nodes",
        ),
        ([], {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1"}, "torchrun started 2 processes"),
    ],
)
def test_processes_that_do_not_fit_are_refused(
    words: list[str], variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=said):
        require_launch(resolve(["trainer.accelerator=cpu", *words]))


def test_processes_that_fit_are_left_to_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {**ALLOCATION, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(key, value)
    require_launch(resolve(["trainer.accelerator=cpu", "trainer.devices=2"]))
    assert os.environ["SLURM_NTASKS"] == "2"
    monkeypatch.delenv(
        "SLURM_STEP_ID"
    )  # of a batch script, which starts one process: Lightning starts the other
    monkeypatch.setenv("SLURM_PROCID", "0")
    require_launch(resolve(["trainer.accelerator=cpu", "trainer.devices=2"]))
    assert "SLURM_NTASKS" not in os.environ


def test_a_network_is_pickled_and_copied() -> None:
    network = create_model("prenet", stages=1, channels=4, residual_blocks=1).eval()
    rainy = torch.rand(1, 3, 19, 21)
    for again in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert type(again) is type(network) and not again.training
        assert torch.equal(again(rainy), network(rainy))
    assert next(copy.deepcopy(network).parameters()) is not next(network.parameters())
