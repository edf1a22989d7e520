"""Plans: made, saved, edited, read again, and printed with what they will take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.files import write_json
from benchmark.run.records import RECORD, find_record, machine, provenance, without_home, write_record
from benchmark.spec import resolve
from benchmark.sweep import forecast, planfile
from benchmark.sweep.executors import take_settings
from benchmark.sweep.plan import Planner, table1, table_datasets, unique


def test_the_plan_of_table_1_has_a_run_for_each_network_and_training_set() -> None:
    plan = table1("embedded", None, models=["prenet", "esdnet"], seeds=(0, 1))
    assert len(plan.runs) == 2 * 2, "one training is tested on all four sets"
    assert {r.spec.data.name for r in plan.runs} == {"embedded"}
    assert table_datasets(True)[0] == "embedded-12"
    assert not plan.absent
    run = plan.runs[-1]
    assert (run.identity, run.name) == (run.spec.identity, run.spec.name)
    assert run.training == run.spec.training_identity and run.folder == run.spec.folder
    assert run.spec == resolve(["model=esdnet", "data=embedded", "recipe=embedded", "seed=1"])


def test_datasets_narrow_the_plan_to_what_their_columns_need() -> None:
    plan = table1("embedded", None, models=["prenet"], datasets=["embedded-12"])
    assert [r.spec.data.name for r in plan.runs] == ["embedded"]
    with pytest.raises(UserError, match="did you mean 'embedded-heavy'"):
        table1("embedded", None, datasets=["embedded-heawy"])


def test_a_plan_over_a_folder_without_datasets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset of Table 1"):
        table1("paper", str(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        table1("paper", str(tmp_path / "absent"))


def test_settings_that_a_table_has_options_for_are_refused() -> None:
    with pytest.raises(UserError, match="--seeds"):
        table1("embedded", None, words=["seed=3"])


@pytest.mark.parametrize("name", ["plan.yaml", "plan.json"])
def test_a_saved_plan_is_the_same_plan(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    words = ["model.threshold=0.2", "recipe.steps=3", "--seeds", "0,1", "--runs", str(tmp_path / "runs")]
    assert main(["ablations", "table3", "table4", *words, "--save-plan", str(path)]) == 0
    assert f"derain run {path}" in capsys.readouterr().out
    heading, plan = planfile.load(path, str(tmp_path / "runs"))
    assert heading.tables == ["table3", "table4"]
    assert len(plan.runs) == 16, "5 + 4 rows, one of both tables, two seeds"
    shared = [r for r in plan.runs if len(r.rows) > 1]
    assert [set(r.rows) for r in shared] == [{("table3", "SRB"), ("table4", "4")}] * 2
    assert {r.spec.seed for r in plan.runs} == {0, 1}
    assert all(r.spec.recipe.steps == 3 and r.spec.model.options["threshold"] == 0.2 for r in plan.runs)
    planfile.save(tmp_path / f"again-{name}", heading, plan.runs)
    assert planfile.load(tmp_path / f"again-{name}", str(tmp_path / "runs")) == (heading, plan)


def test_runs_of_a_study_are_called_by_their_row() -> None:
    plan = Planner(["model=esdnet", "recipe=embedded"])
    runs = unique(
        [
            plan.plan([], 0, "table3 SRB", [("table3", "SRB")]),
            plan.plan(["model.time_steps=2"], 0, "table4 4", [("table4", "4")]),
            plan.plan(["model.block=ms"], 0, "table3 MS-ResNet", [("table3", "MS-ResNet")]),
        ]
    )
    assert [r.label for r in runs] == ["table3 SRB seed 0 (+1)", "table3 MS-ResNet seed 0"]


def test_runs_that_differ_in_a_setting_alone_are_called_by_it() -> None:
    plan = Planner(["model=esdnet", "recipe=embedded"])
    runs = unique(
        plan.plan([f"recipe.optimizer.lr={lr}"], seed, "a") for lr in (0.01, 0.1) for seed in (0, 1)
    )
    assert [r.label for r in runs] == [
        f"a seed {seed} recipe.optimizer.lr={lr}" for lr in (0.01, 0.1) for seed in (0, 1)
    ]


PLAN = """
format: 1
tables: ["1"]
recipe: embedded
settings: [logger=csv, recipe.steps=2, recipe.batch=1, recipe.patch=16, trainer.accelerator=cpu]
runs:
- model=prenet model.stages=1 model.channels=4 model.residual_blocks=1 data=embedded seed=3
"""


def test_a_plan_written_by_hand_is_run_and_its_table_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(PLAN)
    words = ["run", str(path), "--runs", str(tmp_path / "runs"), "--workers", "1"]
    assert main([*words, "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "waiting       prenet embedded seed 3" in printed and "1 run: 1 waiting; 1 to do" in printed
    assert "by a step measured here" in printed and "about" in printed
    assert main(words) == 0
    assert "27." in capsys.readouterr().out
    record = json.loads(next((tmp_path / "runs").rglob(RECORD)).read_text())
    assert record["config"]["seed"] == 3 and record["test_seconds"] > 0
    assert main([*words, "--plan"]) == 0
    assert "1 run: 1 done; 0 to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a plan"),
        ("format: 9\nruns: [a]", "not a plan of this version"),
        ("format: 1", "runs is a list of runs"),
        ("format: 1\nrunz: []", "did you mean 'runs'"),
        ("format: 1\nruns: [model=prenett seed=0]", "run 1: unknown model 'prenett': did you mean 'prenet'"),
        ("format: 1\nruns: [model=prenet seed=zero]", "run 1"),
        ("format: 1\nruns: [{row: a}]", "run 1: has 'run'"),
        ("format: 1\nruns: ['model=\"prenet']", "run 1"),
        ("format: 1\ntables: 1\nruns: [seed=0]", "tables is a list"),
        ("format: 1\ntables: [tabel3]\nruns: [seed=0]", "did you mean 'table3'"),
        ("a: [", "not a readable plan"),
    ],
)
def test_what_is_no_plan_is_said_in_one_line(
    tmp_path: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    assert main(["run", str(path), "--runs", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["executor=rey"], "did you mean 'ray'"),
        (["executor.gpu=1"], "did you mean 'executor.gpus'"),
        (["executor.partition=long"], "executor.partition is for executor=slurm, not for local"),
        (["executor.cpus=two"], "executor.cpus=two"),
        (["executor.cpus=0"], "at least 1"),
        (["executor=slurm", "executor.hours=-1"], "greater than 0"),
        (["--workers", "0"], "--workers: 0: at least 1"),
        (["--retry", "faild"], "did you mean 'failed'"),
        (["--save-plan", "plan.txt"], "a plan is a .yaml or a .json file"),
    ],
)
def test_mistakes_about_executors_and_plans(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["table", "1", *words, "--models", "prenet", "--runs", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


def test_settings_of_the_executor_are_taken_from_among_the_others() -> None:
    words = ["executor=ray", "recipe.steps=3", "executor.address=auto", "executor.gpus=0.5"]
    config, others = take_settings(words, 3)
    assert others == ["recipe.steps=3"]
    assert (config.name, config.address, config.gpus, config.workers) == ("ray", "auto", 0.5, 3)


def test_a_forecast_is_from_runs_like_it_else_from_a_step(tmp_path: Path, tools: Any) -> None:
    runs = [tools.planned(tmp_path, seed=seed) for seed in range(3)]
    other = tools.planned(tmp_path, "model.channels=6")
    record = {"machine": machine(), "training": {"seconds": 30.0}, "test_seconds": 2.0}
    record |= {"name": "run", "config": {}, "results": {}}
    write_record(runs[0].folder, {**record, "identity": runs[0].identity})
    elsewhere = {**record, "machine": {}, "training": {"seconds": 1e9}}
    write_record(runs[1].folder, {**elsewhere, "identity": runs[1].identity})
    told = forecast.Forecaster(tmp_path, [*runs, other], [runs[0].name, runs[1].name], threads=1)
    assert told.forecast(runs[2]) == forecast.Forecast(32.0, source="records")
    assert told.forecast(other) == forecast.Forecast(source="not measured")
    asked: list[str] = []
    found = told.forecast(other, asked.append)
    assert asked == ["prenet"] and found.source == "measured" and found.seconds and found.memory_gb is None
    again = forecast.Forecaster(tmp_path, [other], [], threads=1)
    assert again.forecast(other) == found, "kept"
    longer = tools.planned(tmp_path, "model.channels=6", "recipe.steps=8")
    assert again.forecast(longer).seconds == pytest.approx(2 * found.seconds)


def test_epochs_are_counted_as_the_training_does() -> None:
    from benchmark.data import RainDataModule

    config = resolve(["model=prenet", "data=embedded-light", "recipe=paper", "recipe.epochs=3"])
    data = RainDataModule("embedded-light", batch=config.recipe.batch, validation=config.recipe.validation)
    data.setup("fit")
    assert forecast.step_count(config) == pytest.approx(3 * data.steps_per_epoch, rel=0.1)


def test_records_that_are_no_records_are_named(tmp_path: Path, tools: Any) -> None:
    config = tools.planned(tmp_path).spec
    config.folder.mkdir(parents=True)
    for text in ("", "{", "[]", '{"format": 99}'):
        (config.folder / RECORD).write_text(text)
        with pytest.raises(UserError, match="to run again"):
            find_record(config)


def test_provenance_names_no_host_and_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    monkeypatch.setenv("HOME", "/home/somebody")
    assert without_home("/home/somebody/data /home/somebodyelse") == "~/data /home/somebodyelse"
    for behind in ("", '"', "'", ",", ":", ";", ")", "]", "}", ">", ".", "\n", '\\"}'):
        assert without_home(f"at /home/somebody{behind}") == f"at ~{behind}"
    for more in ("else", "-2", ".old", "_x", "é"):
        assert without_home(f"/home/somebody{more}/x") == f"/home/somebody{more}/x"
    assert without_home(json.dumps({"root": "/home/somebody"})) == '{"root": "~"}'
    host = platform.node()
    assert not host or host not in str(provenance())


def test_infinite_values_survive_and_nan_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"psnr": float("inf")})
    assert '"inf"' in (tmp_path / "a.json").read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"psnr": float("nan")})
    assert '"inf"' in (tmp_path / "a.json").read_text(), "the old file is intact"
