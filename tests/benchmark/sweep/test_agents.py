"""W&B's sweep files: what W&B takes, settings that exist, and the runs of the tables."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark import catalog
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.run.tracking import VALIDATION, under_agent
from benchmark.spec import resolve, settings_of
from benchmark.sweep import plan
from benchmark.sweep.agents import sweeps
from benchmark.sweep.planfile import load


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _words(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """The words after `derain train` in the command that W&B's agent makes of a sweep's command and a choice."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    made = utils.create_sweep_command_args({"args": {k: {"value": v} for k, v in values.items()}})
    command: list[str] = []
    for word in utils.create_sweep_command(list(sweep["command"])):
        command += made["args_no_hyphens"] if word == "${args_no_hyphens}" else [word]
    assert command[:2] == ["derain", "train"]
    return command[2:]


def _grid(sweep: dict[str, Any]) -> list[list[str]]:
    names = list(sweep["parameters"])
    lists = [sweep["parameters"][name]["values"] for name in names]
    return [_words(sweep, dict(zip(names, chosen, strict=True))) for chosen in itertools.product(*lists)]


@pytest.fixture(scope="module")
def schema() -> Any:
    """W&B's own schema of a sweep, as their package has it."""
    jsonschema = pytest.importorskip("jsonschema")
    found = importlib.util.find_spec("sweeps")
    if found is None or not found.submodule_search_locations:
        pytest.skip("W&B's package of sweeps is not installed: pip install --no-deps sweeps")
    path = Path(found.submodule_search_locations[0]) / "config" / "schema.json"
    return jsonschema.Draft7Validator(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", list(sweeps()))
def test_wandb_takes_the_file(name: str, schema: Any) -> None:
    sweep = _read(sweeps()[name])
    schema.validate(sweep)
    assert not schema.is_valid({**sweep, "method": "gridd"})
    assert all(p["min"] < p["max"] for p in sweep["parameters"].values() if "min" in p)


@pytest.mark.parametrize("name", list(sweeps()))
def test_every_parameter_is_a_setting_with_values_that_can_be(name: str) -> None:
    sweep = _read(sweeps()[name])
    known = {*settings_of(resolve(["model=esdnet"])), "study", "row"}
    assert set(sweep["parameters"]) <= known
    for parameter, space in sweep["parameters"].items():
        for value in space.get("values") or [space["min"], space["max"]]:
            others = {k: (s.get("values") or [s["min"]])[0] for k, s in sweep["parameters"].items()}
            resolve(_words(sweep, {**others, parameter: value}))


def test_the_sweep_of_table_1_has_its_runs() -> None:
    sweep = _read(sweeps()["table1"])
    assert sweep["parameters"]["seed"]["values"] == [0, 1, 2]
    sweep["parameters"]["seed"]["values"] = [1]
    runs = [resolve(words).identity for words in _grid(sweep)]
    assert sorted(runs) == sorted(r.identity for r in plan.table1("embedded", None, seeds=(1,)).runs)


@pytest.mark.parametrize("name", ["table3", "table4", "table5"])
def test_the_sweep_of_a_study_has_its_runs(name: str) -> None:
    runs = {resolve(words).identity for words in _grid(_read(sweeps()[name]))}
    study = catalog.study(name)
    settings = {v.name: v.settings for v in study.variants}
    rows = plan.rows(name, study.model, settings, "embedded", None, (0, 1, 2), study.base)
    assert runs == {run.identity for run in rows}


def test_hyper_parameters_are_chosen_on_held_out_images() -> None:
    sweep = _read(sweeps()["bayes"])
    assert sweep["metric"] == {"name": VALIDATION[0], "goal": "maximize"}
    config = resolve([w for w in sweep["command"][2:] if not w.startswith("${")])
    assert config.recipe.select == "best" and config.recipe.validation > 0
    assert config.recipe.validate_every < (config.recipe.steps or 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["study=table3"], "go together"),
        (["row=SRB"], "go together"),
        (["study=table3", "row=SRBB"], "did you mean 'SRB'"),
        (["study=tabel3", "row=SRB"], "table3"),
        (["study=table4", "row=2", "model.time_steps=3"], "leave one out"),
    ],
)
def test_a_row_that_is_not_there_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve(words)


def test_starting_a_sweep(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert main(["sweep"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(sweeps())
    assert main(["sweep", "table11"]) == 2 and "did you mean 'table1'" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert main(["sweep", "bayes"]) == 0
    assert asked == [[sys.executable, "-m", "wandb", "sweep", "--project", "derain", str(sweeps()["bayes"])]]
    assert not under_agent()


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing is to be started"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["table1", "table3", "table4", "table5"])
def test_without_a_key_it_is_said_what_would_be_and_what_does_the_same(
    name: str, no_key: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", name]) == 0
    said, warned = capsys.readouterr()
    sweep = _read(sweeps()[name])
    assert not warned and "nothing was created" in said and "wandb login" in said
    assert f"{sweep['name']} (grid, {len(_grid(sweep))} runs), in the project derain" in said
    for parameter, space in sweep["parameters"].items():
        assert f"  {parameter:<8}  {', '.join(map(str, space['values']))}\n" in said
    # the command that is named has the sweep's runs
    (command,) = re.findall(r"^  derain (table \d --seeds \S+)$", said, re.MULTILINE)
    assert main([*command.split(), "--save-plan", "plan.yaml"]) == 0
    named = {run.identity for run in load(Path("plan.yaml"), "runs")[1].runs}
    assert named == {resolve(words).identity for words in _grid(sweep)}


def test_what_only_the_server_can_choose_is_said_so(no_key: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "bayes"]) == 0
    said = capsys.readouterr().out
    assert "(bayes, 40 runs)" in said and "0.0003 to 0.03 (log_uniform_values)" in said
    assert "method: grid" in said and "chooses" in said
    assert "ended early" not in said
    sweep = _read(sweeps()["bayes"]) | {"early_terminate": {"type": "hyperband", "min_iter": 3}}
    Path("mine.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    assert main(["sweep", "mine.yaml"]) == 0
    assert re.search(r"ended early +type hyperband, min_iter 3\n", capsys.readouterr().out)
    assert main(["sweep", "bayes", "--save-plan", "plan.yaml"]) == 2
    assert "a plan has those of a grid" in capsys.readouterr().err and not Path("plan.yaml").exists()


def test_a_users_grid_is_a_plan_with_the_agents_runs(
    no_key: None, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = _read(sweeps()["table3"])
    sweep["parameters"] |= {"trainer.threads": {"value": 1}, "seed": {"values": [5, 6]}}
    Path("mine.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    assert main(["sweep", "mine.yaml"]) == 0
    said = capsys.readouterr().out
    assert "  derain sweep mine.yaml --save-plan plan.yaml\n  derain run plan.yaml\n" in said
    assert main(["sweep", "mine.yaml", "--save-plan", "plan.yaml"]) == 0
    runs = load(Path("plan.yaml"), "runs")[1].runs
    sweep["parameters"]["trainer.threads"] = {"values": [1]}
    assert [run.identity for run in runs] == [resolve(words).identity for words in _grid(sweep)] and len(
        runs
    ) == 10
    assert all(run.spec.trainer.threads == 1 for run in runs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": None}, "it has no parameters"),
        ({"parameters": {"seed": 3}}, "seed: has values"),
        ({"method": "grod"}, "did you mean 'grid'"),
        ({"early_terminate": "hyperband"}, "early_terminate: has a type"),
        ({"parameters": {"seed": {"min": 0, "max": 3}}}, "a grid has values"),
        ({"parameters": {"seed": {"values": ["x"]}}}, "not a whole number"),
        ({"parameters": {"sede": {"values": [1]}}}, "did you mean 'seed'"),
        ({"command": ["python", "train.py"]}, "a plan is made of a command"),
    ],
)
def test_a_sweep_that_cannot_be_planned_is_a_line(
    change: dict[str, Any], said: str, no_key: None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text(yaml.safe_dump({**_read(sweeps()["table1"]), **change}))
    for words in (["sweep", "mine.yaml"], ["sweep", "mine.yaml", "--save-plan", "plan.yaml"]):
        assert main(words) == 2
        told = capsys.readouterr()
        assert said in told.err and told.err.count("\n") == 1 and not told.out
