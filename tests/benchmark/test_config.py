"""Configuration: what words resolve to, what is refused, what makes a run the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import catalog
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.reading import written, yaml_of
from benchmark.run.execute import as_yaml
from benchmark.spec import RunSpec, from_plain, recipes, resolve, settings_of, sources, words_of_file
from benchmark.spec.resolve import TYPES


def test_the_paper_recipe_is_section_4_1() -> None:
    recipe = resolve(["model=esdnet", "data=rain200h", "recipe=paper"]).recipe
    assert (recipe.loss, recipe.epochs, recipe.batch, recipe.patch) == ("ssim", 1000, 12, 64)
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.schedule.final_lr) == ("adam", 1e-3, 1e-7)


def test_the_released_code_differs_in_optimiser_and_warm_up() -> None:
    recipe = resolve(["recipe=released-code"]).recipe
    assert (recipe.optimizer.name, recipe.optimizer.weight_decay, recipe.schedule.warmup) == (
        "adamw",
        0.01,
        3,
    )


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_resolves(name: str) -> None:
    assert resolve([f"recipe={name}"]).recipe.name == name


def test_later_words_win_and_types_are_kept() -> None:
    config = resolve(["recipe=paper", "recipe.batch=4", "recipe.batch=6", "trainer.devices=2", "seed=3"])
    assert (config.recipe.batch, config.trainer.devices, config.seed) == (6, "2", 3)


def test_model_options_are_the_variant_then_the_user() -> None:
    config = resolve(["model=prenet", "recipe=embedded", "model.channels=8"])
    assert config.options["channels"] == 8
    assert "stages" in config.options
    assert resolve(["model=prenet", "recipe=paper"]).options == {}


def test_tiling_is_the_authors_unless_said_otherwise() -> None:
    assert resolve(["model=esdnet"]).tiling == (80, 8)
    assert resolve(["model=prenet"]).tiling[0] is None
    assert resolve(["model=esdnet", "evaluation.tile=whole"]).tiling[0] is None
    assert resolve(["model=esdnet", "evaluation.tile=64", "evaluation.overlap=4"]).tiling == (64, 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=esdnt"], "did you mean 'esdnet'"),
        (["data=rain20h"], "did you mean 'rain200h'"),
        (["recipe=papper"], "did you mean 'paper'"),
        (["recipe.lr=1"], "did you mean 'recipe.optimizer.lr'"),
        (["model.dimm=3"], "did you mean 'dim'"),
        (["recipe.batch=abc"], "recipe.batch"),
        (["recipe.batch=0"], "greater than 0"),
        (["recipe.patch=66"], "multiple of 4"),
        (["recipe.augmentation=flip"], "flips"),
        (["recipe.loss="], "recipe.loss"),
        (["recipe.validation=1"], "below 1"),
        (["recipe.validation=0"], "held-out"),
        (["recipe.epochs=null"], "recipe.epochs"),
        (["evaluation.tile=8"], "larger than evaluation.overlap"),
        (["evaluation.tile=big"], "number of pixels"),
        (["seed"], "key=value"),
        (["seed=["], "a whole number"),
        (["logger=tensorbord"], "did you mean 'tensorboard'"),
        (["logger=csv,wandbb"], "did you mean 'wandb'"),
        (["logger=[csv,csv]"], "twice"),
        (["logger="], "csv, mlflow, tensorboard, wandb"),
        (["logger=[]"], "csv, wandb"),
        (["recipe.optimizer.lr=nan"], "finite"),
        (["recipe.optimizer.betas=[0.9,.inf]"], "finite"),
        (["recipe.optimizer.betas=[1,2,3]"], "two numbers"),
        (["recipe.optimizer.weight_decay=-1"], "at least 0"),
        (["recipe.schedule.name=step"], "recipe.schedule.every"),
        (["recipe.schedule.name=multistep"], "recipe.schedule.milestones"),
        (["recipe.schedule.milestones=[3,1]"], "rising"),
        (["recipe.embedded=3"], "true or false"),
        (["recipe.name=../x"], "folder's name"),
        (["recipe={a: 1}"], "unknown recipe"),
        (["trainer.devices=x"], "which"),
        (["trainer.devices=0"], "which"),
        (["trainer.accelerator=cud"], "did you mean 'cuda'"),
        (["trainer.strategy=dpp"], "did you mean 'ddp'"),
        (["trainer.threads=0"], "greater than 0"),
        (["data.workers=-1"], "at least 0"),
        (["evaluation.overlap=-1"], "at least 0"),
        (["seed=-1"], "at least 0"),
        (["seed=4294967296"], "below"),
        (["seed=1.5"], "seed"),
        (["out="], "out"),
        (["recipe.batch=${seed}"], "written out"),
        (["seed=${oc.env:HOME}"], "written out"),
        (["out=???"], "written out"),
        (["data=null"], "unknown data"),
        (["model.dim=0"], "at least 1"),
        (["model.dim=abc"], "whole numbers"),
        (["model.dim=true"], "whole numbers"),
        (["model.time_steps=-1"], "at least 1"),
        (["model.bottleneck_blocks=-1"], "at least 0"),
        (["model.threshold=nan"], "finite"),
        (["model.refinement=2"], "true or false"),
        (["model.block=sbr"], "did you mean 'srb'"),
        (["model.surrogate=sigmoit"], "did you mean 'sigmoid'"),
        (["model.attention=[temporal,chanel]"], "did you mean 'channel'"),
        (["model.encoder_blocks=[1,2]"], "3 values"),
        (["model.encoder_blocks=3"], "a list"),
        (["model.encoder_blocks=[1,2,x]"], "whole numbers"),
        (["recipe.optimiser.lr=1"], "did you mean 'recipe.optimizer.lr'"),
        (["evalution.tile=80"], "did you mean 'evaluation.tile'"),
        (["trainer.device=1"], "did you mean 'trainer.devices'"),
        (["sede=1"], "did you mean 'seed'"),
        (["loger=csv"], "did you mean 'logger'"),
        (["data.rot=/data"], "did you mean 'data.root'"),
    ],
)
def test_a_mistake_is_named_in_one_line(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


_VALUES = st.one_of(
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["[]", "{}", "[1,2]", "null", "true", "{a: 1}", "[[]]", "!!python/object:os", "&a", "'", "a: b"]
    ),
)


@settings(max_examples=150)
@given(st.sampled_from([*settings_of(RunSpec()), "model.", "data.", "recipe.optimizer", "", "."]), _VALUES)
def test_any_word_resolves_or_is_refused_in_one_line(key: str, value: str) -> None:
    try:
        config = resolve([f"{key}={value}"])
    except UserError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert from_plain(config.plain()).name == config.name


@given(st.sampled_from(sorted(settings_of(RunSpec()))), st.data())
def test_a_misspelt_key_is_answered_with_the_right_one(key: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(key) - 1))
    wrong = key[:at] + key[at + 1 :]
    if len(key) < 4 or wrong in settings_of(RunSpec()) or not wrong.rpartition(".")[2]:
        return
    with pytest.raises(UserError) as error:
        resolve([f"{wrong}=1"])
    nearest = key.removeprefix("model.") if wrong.startswith("model.") else key
    assert f"'{nearest}'" in str(error.value)


def test_the_choices_of_options_are_what_the_networks_take() -> None:
    from benchmark import catalog
    from esdnet import kernels
    from esdnet.blocks import MixedAttention
    from esdnet.network import BLOCKS

    esdnet = catalog.network("esdnet")
    for option, known in (
        ("block", BLOCKS),
        ("reset_mechanism", kernels.RESETS),
        ("surrogate", kernels.SURROGATES),
        ("attention", MixedAttention.KINDS),
    ):
        assert set(esdnet.option(option).choices) == set(known)


@pytest.mark.parametrize("name", list(catalog.networks()))
def test_what_a_network_is_made_with_is_not_refused(name: str) -> None:
    entry = catalog.network(name)
    for options in (entry.options(), entry.embedded, *(v.options for v in entry.variants)):
        resolve([f"model={name}", *(f"model.{k}={written(v)}" for k, v in options.items())])


def test_every_value_has_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERAIN_CACHE", "/somewhere")
    words = ["model=esdnet", "recipe=embedded", "recipe.batch=2", "model.dim=6", "seed=1"]
    config = resolve(words)
    found = sources(words, config)
    assert found.keys() == settings_of(config).keys()
    for key, where in {
        "model": "command line",
        "model.dim": "command line",
        "model.time_steps": "embedded variant",
        "model.beta": "network's default",
        "recipe": "command line",
        "recipe.batch": "command line",
        "recipe.optimizer.lr": "recipe/embedded.yaml",
        "recipe.optimizer.eps": "default",
        "data": "default",
        "data.cache": "environment DERAIN_CACHE",
        "seed": "command line",
    }.items():
        assert found[key] == where, key
    assert (
        sources(["model=nafnet", "recipe=authors"], resolve(["model=nafnet", "recipe=authors"]))[
            "recipe.loss"
        ]
        == "recipe of nafnet"
    )


def test_what_derain_config_prints_asks_for_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=vlif", "data=embedded-12", "recipe=embedded", "recipe.optimizer.lr=1e-7", "seed=2"]
    assert main(["config", *words]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"# identity {resolve(words).identity}"
    assert all("  # " in line for line in printed[1:])
    again = [line.partition("  # ")[0].rstrip() for line in printed[1:]]
    assert resolve(again).identity == resolve(words).identity


def test_identity_depends_on_the_question_alone() -> None:
    base = ["model=prenet", "data=embedded-light", "recipe=embedded"]
    same = resolve([*base, "out=elsewhere", "data.root=/data", "logger=csv", "trainer.threads=1"])
    assert resolve(base).identity == same.identity
    for other in (
        "seed=1",
        "recipe.steps=7",
        "model.channels=8",
        "data=embedded-heavy",
        "evaluation.tile=64",
    ):
        assert resolve([*base, other]).identity != resolve(base).identity, other


@settings(deadline=None)  # the first call reads the network's source
@given(st.integers(0, 2**31), st.floats(1e-6, 1.0), st.sampled_from(["esdnet", "prenet", "rescan"]))
def test_configurations_survive_being_plain_data(seed: int, lr: float, model: str) -> None:
    config = resolve([f"model={model}", f"seed={seed}", f"recipe.optimizer.lr={lr!r}"])
    again = from_plain(config.plain())
    assert again == config
    assert again.name == config.name


def test_the_default_is_runnable() -> None:
    assert resolve([]) == from_plain(RunSpec().plain())


_FILE = """
model: {name: prenet, channels: 8}
data: embedded-light
recipe: {name: embedded, optimizer: {lr: 5e-4}, steps: 3}
evaluation.tile: whole
seed: 2
out: 2024_11_26
"""
_SAME = [
    "model=prenet",
    "model.channels=8",
    "data=embedded-light",
    "recipe=embedded",
    "recipe.optimizer.lr=5e-4",
    "recipe.steps=3",
    "evaluation.tile=whole",
    "seed=2",
    "out=2024_11_26",
]


def test_a_file_of_settings_is_what_its_words_are(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(_FILE)
    assert resolve(words_of_file(file)) == resolve(_SAME)
    words = words_of_file(file)
    spec = resolve([*words, "seed=4"])
    assert spec.seed == 4
    found = sources(["seed=4"], spec, words, file)
    assert (found["seed"], found["recipe.steps"], found["model.channels"]) == (
        "command line",
        str(file),
        str(file),
    )
    assert found["recipe.batch"] == "recipe/embedded.yaml"


@pytest.mark.parametrize("words", [_SAME, ["model=nafnet", "recipe=authors"], [*_SAME, "recipe.name=mine"]])
def test_what_a_run_keeps_asks_for_the_same_run(tmp_path: Path, words: list[str]) -> None:
    spec = resolve(words)
    for name, text in (("a.json", json.dumps(spec.plain())), ("a.yaml", as_yaml(spec))):
        (tmp_path / name).write_text(text)
        again = resolve(words_of_file(tmp_path / name))
        assert (again.identity, again.recipe.name) == (spec.identity, spec.recipe.name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {name: prenet, chanels: 8}", "did you mean 'channels'"),
        ("recipe: papper", "did you mean 'paper'"),
        ("recipe: {name: papper, batch: 3}", "did you mean 'paper'"),
        ("recipe: {batch: 0}", "recipe.batch=0: must be greater than 0"),
        ("- model=prenet", "mapping"),
        ("seed: [1, [2]]", "one value or a list of values"),
        ("seed: ${oc.env:HOME}", "no references"),
        ("model: {name: ", "not readable"),
    ],
)
def test_a_wrong_file_of_settings_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    assert main(["config", "-c", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_schema_knows_bounds_choices_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    import jsonschema

    assert main(["config", "--schema"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert yaml_of(_FILE)["recipe"]["steps"] == 3
    wrong = jsonschema.Draft202012Validator(told)
    nested = yaml_of(_FILE)
    nested["evaluation"] = {"tile": nested.pop("evaluation.tile")}
    assert not list(wrong.iter_errors(nested))
    for bad in ({"recipe": {"batch": 0}}, {"recipe": {"loss": "sim"}}, {"seed": -1}, {"sede": 1}):
        assert list(wrong.iter_errors(bad)), bad
    every = [key for key, kind in TYPES.items() if not key.startswith("model.")]
    for key in every:
        group, _, name = key.rpartition(".")
        place = told["properties"] if not group else _properties(told, group)
        assert place[name].get("description"), f"{key} says what it is for"


def _properties(told: dict[str, Any], group: str) -> dict[str, Any]:
    titles = {"optimizer": "OptimizerSpec", "schedule": "ScheduleSpec"}
    last = group.rpartition(".")[2]
    return told["$defs"][titles.get(last, f"{last.title()}Spec")]["properties"]
