"""Configuration: what words resolve to, what is refused, what makes a run the same run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.config import (
    RunConfig,
    from_dict,
    identity,
    model_options,
    presets,
    resolve,
    run_name,
    tiling,
    to_dict,
)
from benchmark.errors import UserError


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


@pytest.mark.parametrize("name", presets("recipe"))
def test_every_recipe_resolves(name: str) -> None:
    assert resolve([f"recipe={name}"]).recipe.name == name


def test_later_words_win_and_types_are_kept() -> None:
    config = resolve(["recipe=paper", "recipe.batch=4", "recipe.batch=6", "trainer.devices=2", "seed=3"])
    assert (config.recipe.batch, config.trainer.devices, config.seed) == (6, "2", 3)


def test_model_options_are_the_variant_then_the_user() -> None:
    config = resolve(["model=prenet", "recipe=embedded", "model.channels=8"])
    assert model_options(config)["channels"] == 8
    assert "stages" in model_options(config)
    assert model_options(resolve(["model=prenet", "recipe=paper"])) == {}


def test_tiling_is_the_authors_unless_said_otherwise() -> None:
    assert tiling(resolve(["model=esdnet"])) == (80, 8)
    assert tiling(resolve(["model=prenet"]))[0] is None
    assert tiling(resolve(["model=esdnet", "evaluation.tile=whole"]))[0] is None
    assert tiling(resolve(["model=esdnet", "evaluation.tile=64", "evaluation.overlap=4"])) == (64, 4)


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
        (["seed=["], "not valid YAML"),
        (["logger=tensorboard"], "csv"),
    ],
)
def test_a_mistake_is_named_in_one_line(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_identity_depends_on_the_question_alone() -> None:
    base = ["model=prenet", "data=embedded-light", "recipe=embedded"]
    same = resolve([*base, "out=elsewhere", "data.root=/data", "logger=csv", "trainer.threads=1"])
    assert identity(resolve(base)) == identity(same)
    for other in (
        "seed=1",
        "recipe.steps=7",
        "model.channels=8",
        "data=embedded-heavy",
        "evaluation.tile=64",
    ):
        assert identity(resolve([*base, other])) != identity(resolve(base)), other


def test_identity_is_the_same_in_another_process() -> None:
    words = ["model=esdnet", "data=rain200h", "recipe=paper", "model.encoder_blocks=[1,1,1]"]
    code = f"from benchmark.config import *; print(identity(resolve({words!r})))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == identity(resolve(words))


@settings(deadline=None)  # the first call reads the network's source
@given(st.integers(0, 2**31), st.floats(1e-6, 1.0), st.sampled_from(["esdnet", "prenet", "rescan"]))
def test_configurations_survive_being_plain_data(seed: int, lr: float, model: str) -> None:
    config = resolve([f"model={model}", f"seed={seed}", f"recipe.optimizer.lr={lr!r}"])
    again = from_dict(to_dict(config))
    assert again == config
    assert run_name(again) == run_name(config)


def test_the_default_is_runnable() -> None:
    assert resolve([]) == from_dict(to_dict(RunConfig()))
