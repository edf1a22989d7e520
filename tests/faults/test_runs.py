"""Faults 2 to 5, 7 and 8: what becomes of a run that is stopped, breaks, runs out of memory, or is asked for anew.

Further: `test_a_killed_training_ends_with_the_same_weights` (SIGKILL, SIGTERM, Ctrl-C; status, state, bits),
`test_failures_of_every_kind_are_told_apart`, `test_killed_runs_go_on_and_leave_the_records_of_quiet_ones`,
`test_a_killed_driver_leaves_no_orphans_and_the_next_goes_on`, `test_two_drivers_of_one_folder_do_each_run_once`,
`test_a_study_of_ones_own_shares_runs_and_survives_a_failure` (a sweep with a failed run ends with 1),
`test_fewer_tiles_when_memory_runs_out`,
`test_smaller_tiles_when_memory_runs_out`, `test_identity_depends_on_the_question_alone`.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.checkpoints import read_checkpoint
from benchmark.cli.tables import held_out, made_by
from benchmark.errors import Diverged, OutOfMemory, UserError
from benchmark.files import write_json
from benchmark.means import mean_of
from benchmark.metrics.meters import PSNRY
from benchmark.run.execute import execute
from benchmark.run.records import FAILURE, RECORD, find_record, read_record
from benchmark.spec import resolve
from benchmark.training.module import Restoration

# a network from outside that breaks in the way its option says, after its first step
FAULTY = """
import os
import torch
from torch import nn
from benchmark.catalog import Network


class Faulty(nn.Module):
    def __init__(self, fault: str = "none") -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)
        self.fault, self.calls = fault, 0

    def forward(self, rainy):
        self.calls += 1
        if self.calls > 1 and self.training:
            match self.fault:
                case "leaves": os._exit(0)
                case "crashes": os.abort()
                case "bug": raise KeyError("a bug")
                case "python memory": raise MemoryError
                case "cuda memory": raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
                case "cpu memory": torch.empty(1 << 55)
        if self.fault == "nan in test" and not self.training:
            return rainy + self.mix(rainy) * float("nan")
        return rainy + self.mix(rainy)


ENTRY = Network(
    name="faulty", title="Faulty", target="derain_faulty:Faulty", family="CNN", year=2026, venue="nowhere",
    citation="@misc{faulty}", code="me/faulty@0", licence="MIT", weights="none released",
)
"""
COMMON = [
    "data=embedded-light",
    "recipe=embedded",
    "recipe.batch=2",
    "recipe.patch=16",
    "logger=csv",
    "trainer.accelerator=cpu",
    "trainer.threads=1",
    "evaluation.tile=whole",
]
TINY = ["model=prenet", "model.stages=1", "model.channels=4", "model.residual_blocks=1", *COMMON]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed package that registers the network `faulty`."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "derain_faulty-1.0.dist-info"
    info.mkdir()
    (folder / "derain_faulty.py").write_text(FAULTY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: derain-faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[derain.networks]\nfaulty = derain_faulty:ENTRY\n")
    return folder


SWEEP = """
import json, sys
from benchmark.sweep.driver import drive
from benchmark.sweep.executors import ExecutorConfig
from benchmark.sweep.executors.local import LocalExecutor
from benchmark.sweep.plan import Planner
if __name__ == "__main__":
    runs = [Planner([]).plan(words, seed=0) for words in json.loads(sys.argv[1])]
    states = drive(runs, LocalExecutor(ExecutorConfig(workers=1)))
    print(json.dumps([[s.name, s.reason] for s in states.values()]))
"""


def test_every_way_to_break_is_a_state_and_the_next_run_is_done(
    site: Path, tmp_path: Path, derain: Any
) -> None:
    """Each run in a process of its own: aborted, gone with status 0 and no record, out of memory three ways, NaN."""
    faults = {
        "leaves": ("failed", "ended with status 0 and left no record"),
        "crashes": ("failed", "SIGABRT"),
        "bug": ("failed", "a bug"),
        "python memory": ("out of memory", "recipe.batch"),
        "cuda memory": ("out of memory", "recipe.batch"),
        "cpu memory": ("out of memory", "batches of 2 patches of 16 px"),
        "nan in test": ("diverged", "NaN"),
        "none": ("done", ""),
    }
    runs = [
        ["model=faulty", f"model.fault={fault}", *COMMON, "recipe.steps=2", f"out={tmp_path}"]
        for fault in faults
    ]
    (tmp_path / "sweep.py").write_text(SWEEP)
    path = os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    script = [str(tmp_path / "sweep.py"), json.dumps(runs)]
    done = derain.run(*script, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    outcomes = dict(zip(faults, json.loads(done.stdout.splitlines()[-1]), strict=True))
    for fault, (state, words) in faults.items():
        assert outcomes[fault][0] == state, outcomes[fault]
        assert words in outcomes[fault][1]
        assert "\n" not in outcomes[fault][1]
    records = [json.loads(p.read_text()) for p in tmp_path.rglob(RECORD)]
    assert [r["config"]["model"]["options"]["fault"] for r in records] == ["none"]
    assert {r["config"]["recipe"]["batch"] for r in records} == {2}
    failures = [json.loads(p.read_text()) for p in tmp_path.rglob(FAILURE)]
    assert len(failures) == len(faults) - 1


def test_memory_that_runs_out_in_derain_train_is_one_line_and_status_1(
    site: Path, tmp_path: Path, derain: Any
) -> None:
    done = derain.run(
        *("train", "model=faulty", "model.fault=cuda memory", *COMMON, "recipe.steps=2", f"out={tmp_path}"),
        env={**os.environ, "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"},
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("step ", "logging to "))]
    assert done.returncode == 1
    assert len(lines) == 1 and lines[0].startswith("derain: out of memory"), "no traceback"


def _last(config: object) -> dict[str, object]:
    return read_checkpoint(config.folder / "checkpoints" / "last.ckpt")  # type: ignore[arg-type]


def _same(a: object, b: object, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), where
        for key in a:
            _same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert isinstance(b, (list, tuple)) and len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            _same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "bf16-mixed"])
def test_all_state_of_a_resumed_training_is_that_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Weights, optimiser, schedule, random states and best score; stopped in the middle of an epoch of 42 steps.

    Every step draws from the three random streams, as networks with dropout do from one.
    """
    step_without = Restoration.training_step

    def training_step(self: Restoration, batch: dict[str, object], batch_idx: int) -> torch.Tensor:
        drawn = torch.rand(()) + np.random.rand() + random.random()
        return step_without(self, batch, batch_idx) * drawn

    monkeypatch.setattr(Restoration, "training_step", training_step)
    words = [
        *("recipe.steps=12", "recipe.select=best", "recipe.validation=0.1", "recipe.validate_every=4"),
        *("recipe.schedule.name=cosine", "recipe.schedule.warmup=1", "trainer.checkpoint_every=1"),
        f"recipe.precision={precision}",
    ]
    whole = resolve([*TINY, *words, f"out={tmp_path / 'whole'}"])
    cut = resolve([*TINY, *words, f"out={tmp_path / 'cut'}"])
    execute(whole)

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(step: int, steps: int) -> None:
        if step == 7:
            raise Stopped

    with pytest.raises(Stopped):
        execute(cut, stop)
    execute(cut)
    a, b = _last(whole), _last(cut)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "random", "global_step"):
        _same(a[part], b[part], part)
    scores = []
    for checkpoint in (a, b):
        (best,) = (
            c["best_model_score"]
            for key, c in checkpoint["callbacks"].items()  # type: ignore[attr-defined]
            if "validation/psnr_y" in key
        )
        scores.append(best)
    assert torch.equal(scores[0], scores[1])
    assert find_record(whole)["results"] == find_record(cut)["results"]  # type: ignore[index]


def test_a_record_of_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    config = resolve([*TINY, "recipe.steps=2", f"out={tmp_path}"])
    other = resolve([*TINY, "recipe.steps=3", "model.channels=6", f"out={tmp_path}"])

    config.folder.mkdir(parents=True)
    record = {"format": 1, "identity": other.identity, "name": "", "config": other.plain(), "results": {}}
    write_json(config.folder / RECORD, record)
    with pytest.raises(
        UserError, match=r"model\.options\.channels 6 there, 4 here; recipe\.steps 3 there, 2 here"
    ):
        find_record(config)


def test_a_training_that_other_code_began_is_gone_on_with_only_if_asked(tmp_path: Path, monkeypatch) -> None:
    from benchmark.training import saving

    words = [*TINY, "recipe.steps=4", "trainer.checkpoint_every=1", f"out={tmp_path}"]

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(step: int, steps: int) -> None:
        if step == 3:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(saving, "code_digest", lambda target: "0ld")
        with pytest.raises(Stopped):
            execute(resolve(words), stop)
    with pytest.raises(UserError, match=r"made by other code \(digest 0ld, here [0-9a-f]{12}\)"):
        execute(resolve(words))
    record = execute(resolve([*words, "trainer.accept_changed_code=true"]))
    assert record["training"]["code"] == ["0ld", record["code"]]
    assert any("Mixed commits" in line for line in made_by([record])), "one run of two codes is mixed too"


def test_tables_say_how_many_pairs_chose_the_checkpoint_instead_of_training_it() -> None:
    def record(held_out: int) -> dict:
        return {"training": {"data": {"trained_on": "rain200h", "images": 1710, "held_out": held_out}}}

    assert held_out([record(0), {}, {"training": {}}]) == []
    (told,) = held_out([record(90), record(90)])
    assert told.count("90 of 1800 pairs of rain200h") == 1 and "recipe.select=last" in told


def test_tables_say_when_their_rows_were_made_by_different_code() -> None:
    def record(commit: str, code: str, model: str = "prenet") -> dict[str, object]:
        return {
            "command": "derain", "commit": commit, "code": code,
            "config": {"recipe": {"name": "paper"}, "model": {"name": model}},
            "machine": {"processor": "x", "cores": 2}, "versions": {"torch": "2"}, "date": "2026-01-01",
        }  # fmt: skip

    def mixed(*records: dict[str, object]) -> bool:
        return any("Mixed" in line for line in made_by(records))

    assert not mixed(record("a", "1"), record("a", "1"))
    assert mixed(record("a", "1"), record("b", "1"))
    assert mixed(record("a+", "1"), record("a+", "2"))
    assert not mixed(record("a", "1"), record("a", "1+2", "theirs")), (
        "a network from outside has its own code too"
    )
    assert mixed(record("a", "1+2", "theirs"), record("a", "1+3", "theirs"))
    assert mixed(record("a", "1"), record("a", "0+2", "theirs"))


def test_a_diverged_training_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The step that spoils the weights has a finite loss still: its checkpoint must not replace the good one."""
    config = resolve(
        [
            *TINY,
            "recipe.steps=30",
            "recipe.optimizer.lr=1e30",
            "recipe.gradient_clip=null",
            "trainer.checkpoint_every=1",
            f"out={tmp_path}",
        ]
    )
    with pytest.raises(Diverged, match="diverged at step"):
        execute(config)
    failure = read_record(config.folder, FAILURE)
    assert failure is not None and failure["state"] == "diverged"
    last = config.folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        assert all(torch.isfinite(v).all() for v in read_checkpoint(last)["state_dict"].values())
    # again: from the good checkpoint, and to the same end
    with pytest.raises(Diverged, match="diverged at step"):
        execute(config)


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    config = resolve([*TINY, "recipe.steps=6", "trainer.checkpoint_every=1", f"out={tmp_path}"])
    from benchmark.training.module import Restoration

    module_of: list[Restoration] = []
    remember = Restoration.on_fit_start

    def started(self: Restoration) -> None:
        module_of.append(self)
        remember(self)

    def spoil(step: int, steps: int) -> None:
        if step == 3:
            next(module_of[0].network.parameters()).data.fill_(float("nan"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Restoration, "on_fit_start", started)
        with pytest.raises(Diverged, match=r"diverged at step 3: network\.\S+ is not finite; the last good"):
            execute(config, spoil)
    kept = _last(config)
    assert kept["global_step"] == 2
    assert execute(config)["state"] == "done"


def test_a_nan_is_neither_dropped_from_a_mean_nor_taken_for_perfection(tmp_path: Path) -> None:
    mean = mean_of("psnr_esdnet", [30.0, float("nan"), float("inf")])
    assert mean != mean
    with pytest.raises(ValueError):
        write_json(tmp_path / "record.json", {"mean": mean})
    meter = PSNRY()
    picture = torch.rand(1, 3, 16, 16)
    meter._measure = lambda restored, target: torch.tensor([float("nan"), 30.0])  # type: ignore[method-assign]
    meter.update(picture, picture)
    value = meter.compute()
    assert bool(torch.isnan(value)), "a NaN that counted as infinite would be chosen as the best checkpoint"


def test_memory_that_runs_out_in_a_test_is_its_own_state(tmp_path: Path, monkeypatch) -> None:
    from benchmark.restoration import tiling

    def refused(*words: object, **options: object) -> None:
        raise OutOfMemory("out of memory restoring 9×9 pixels on cpu: give a smaller tile")

    monkeypatch.setattr(tiling, "_pieces", refused)
    config = resolve([*TINY, "recipe.steps=2", f"out={tmp_path}"])
    with pytest.raises(OutOfMemory):
        execute(config)
    failure = read_record(config.folder, FAILURE)
    assert failure is not None and failure["state"] == "out of memory"
    assert not (config.folder / RECORD).exists()
