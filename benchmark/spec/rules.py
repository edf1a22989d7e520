"""What types and bounds of single settings do not say: names, and what cannot go together. Imports no torch."""

from __future__ import annotations

import math
import re
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog
from benchmark.data.specs import dataset_spec, test_sets
from benchmark.errors import UserError, unknown
from benchmark.launch import devices_named
from benchmark.spec.schema import Loss

if TYPE_CHECKING:
    from benchmark.spec.schema import RecipeSpec, RunSpec


def check(config: RunSpec) -> None:
    """Refuse settings that cannot go together, or that no type can say.

    Raises:
        UserError: names the setting, its value and what would be right.
    """
    entry = config.network
    datasets = catalog.datasets()
    if config.data.name not in datasets:
        raise unknown("data", config.data.name, datasets)
    _rain(config)
    for name in config.evaluation.also:
        if not dataset_spec(name).paired or dataset_spec(name).rendered:
            raise UserError(f"evaluation.also: {name} has no clean pictures of its own to compare with")
    keys = [dataset_spec(name).name for name in {*test_sets(config.data.name), *config.evaluation.also}]
    if len(set(keys)) < len(keys):
        raise UserError(f"evaluation.also={','.join(config.evaluation.also)}: two test sets have one name")
    if config.evaluation.metrics:
        from benchmark.metrics import measures

        names = [measures.asked(word)[0].name for word in config.evaluation.metrics]
        if len(set(names)) < len(names):
            raise UserError(f"evaluation.metrics={','.join(config.evaluation.metrics)}: a metric twice")
    if not re.fullmatch(r"auto|-1|[1-9][0-9]{0,3}|[0-9]{1,4}(,[0-9]{1,4})+", config.trainer.devices):
        raise UserError(
            f"trainer.devices={config.trainer.devices}: 'auto', -1 for all, how many, or which, as in 0,1"
        )
    if len(set(config.logger)) < len(config.logger):
        raise UserError(f"logger={','.join(config.logger)}: a logger twice")
    if config.trainer.log_weights and not {"wandb", "mlflow"} & set(config.logger):
        raise UserError(
            f"trainer.log_weights: logger={','.join(config.logger)} keeps no artifacts; wandb and mlflow do"
        )
    _recipe(config)
    _patch(config, entry)
    _batch(config, entry)
    _loss(config, entry)
    _tile(config)
    if not re.fullmatch(r"\w[\w.+-]*", config.recipe.name):
        raise UserError(
            f"recipe.name={config.recipe.name}: letters, digits, '.', '-' and '_', for a folder's name"
        )


def _rain(config: RunSpec) -> None:
    from benchmark.data.rain import REGIMES

    rain = config.data.rain
    for name in rain:
        if name not in REGIMES:
            raise unknown("rain of data.rain", name, REGIMES)
    if len(set(rain)) < len(rain):
        raise UserError(f"data.rain={','.join(rain)}: a regime twice")
    if rain and not dataset_spec(config.data.name).rendered:
        raise UserError(
            f"data.rain={','.join(rain)}: data={config.data.name} has rain of its own; data=photographs does not"
        )


def _recipe(config: RunSpec) -> None:
    recipe = config.recipe
    if recipe.steps is None and recipe.epochs is None:
        raise UserError(
            "recipe.epochs and recipe.steps are both empty: give one, for example recipe.epochs=1000"
        )
    if recipe.select == "best" and not recipe.validation:
        raise UserError(
            "recipe.select=best needs held-out images: set recipe.validation (0.05) or recipe.select=last"
        )
    if recipe.ema is not None and not 0 < recipe.ema < 1:
        raise UserError(f"recipe.ema={recipe.ema}: a decay between 0 and 1, for example 0.999")
    if recipe.start_from is not None and not Path(recipe.start_from).is_file():
        raise UserError(f"recipe.start_from={recipe.start_from}: no such file")
    check_course(recipe)


def check_course(recipe: RecipeSpec) -> None:
    """Refuse an optimiser or a course of the learning rate that cannot be.

    Raises:
        UserError: names the setting, its value and what would be right.
    """
    schedule = recipe.schedule
    betas = recipe.optimizer.betas
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UserError(
            f"recipe.optimizer.betas={betas}: two numbers from 0 to below 1, for example [0.9,0.999]"
        )
    if schedule.first not in (None, 0, 1):
        raise UserError(
            f"recipe.schedule.first={schedule.first}: where the authors' scheduler stands in the first unit, 0 or 1"
        )
    if schedule.name == "step" and not schedule.every:
        raise UserError("recipe.schedule.name=step needs recipe.schedule.every, greater than 0")
    if schedule.name == "multistep" and not schedule.milestones:
        raise UserError(
            "recipe.schedule.name=multistep needs recipe.schedule.milestones, for example [300,400]"
        )
    if sorted(schedule.milestones) != schedule.milestones or any(m < 0 for m in schedule.milestones):
        raise UserError(f"recipe.schedule.milestones={schedule.milestones}: rising numbers, at least 0")


def _patch(config: RunSpec, entry: catalog.Network) -> None:
    patch, multiple = config.recipe.patch, entry.size_multiple
    least = max(entry.minimum_size, multiple)
    if patch < least or patch % multiple:
        nearest = max(least, round(patch / multiple) * multiple)
        raise UserError(
            f"recipe.patch={patch}: {entry.title} trains on patches whose side is a multiple of "
            f"{multiple} and at least {least}, for example {nearest}"
        )


def _batch(config: RunSpec, entry: catalog.Network) -> None:
    """Every process has an equal share of a batch, and all together as many patches as the network needs."""
    batch = config.recipe.batch
    processes = (devices_named(config.trainer.devices) or 1) * config.trainer.nodes
    if batch % processes:
        raise UserError(
            f"recipe.batch={batch}: cannot be shared evenly by {processes} processes "
            f"(trainer.devices={config.trainer.devices}, trainer.nodes={config.trainer.nodes})"
        )
    if batch < entry.minimum_batch:
        raise UserError(
            f"recipe.batch={batch}: {entry.title} trains on at least {entry.minimum_batch} patches at once"
        )


def _loss(config: RunSpec, entry: catalog.Network) -> None:
    loss = config.recipe.loss
    if loss == "own" and not entry.loss:
        raise UserError(
            f"recipe.loss=own: {entry.title} declares no loss of its own; ssim or l1, for example"
        )
    if loss == "own" or entry.name == loss or not entry.is_ours():
        return
    theirs = catalog.losses()
    refused = {n for n, of in theirs.items() if not _has_outputs_of(of, entry)}
    if loss in refused:
        others = ", ".join(n for n in typing.get_args(Loss) if n not in {"own", *refused})
        raise UserError(
            f"recipe.loss={loss}: it is on outputs that {entry.title} does not have; one of {others}"
        )


def _has_outputs_of(of: catalog.Network, entry: catalog.Network) -> bool:
    """Whether a network has the outputs that another's loss is on."""
    return of.loss_on == "restored" or (of.loss_on == "images" and entry.side_outputs == "images")


def _tile(config: RunSpec) -> None:
    tile, overlap = config.evaluation.tile, config.evaluation.overlap
    if tile in ("authors", "whole"):
        return
    if not re.fullmatch(r"[1-9][0-9]{0,6}", tile):
        raise UserError(f"evaluation.tile={tile}: 'authors', 'whole' or a number of pixels")
    if int(tile) <= overlap:
        raise UserError(f"evaluation.tile={tile}: must be larger than evaluation.overlap ({overlap})")


def check_option(entry: catalog.Network, option: str, value: Any) -> None:
    """Refuse a constructor option of a kind that its default is not of, or that the catalogue says cannot be.

    What only the constructor knows (widths that must divide, say) it refuses when the network is built.

    Raises:
        UserError: names the option, its value and what would be right.
    """
    declared = entry.option(option)
    default, given = declared.default, f"model.{option}={value}"
    if declared.choices:
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is not None and not isinstance(one, bool) and one not in declared.choices:
                raise unknown(f"model.{option}", str(one), declared.choices)
    if default is None or default is ... or value == default:
        return
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise UserError(f"{given}: true or false")
    elif isinstance(default, (int, float)):
        _number(given, value, type(default), declared)
    elif isinstance(default, str):
        if not isinstance(value, str):
            raise UserError(f"{given}: a word, such as {default}")
    elif isinstance(default, (tuple, list)):
        if not isinstance(value, (list, tuple)) or not value:
            raise UserError(f"{given}: a list, such as [{','.join(map(str, default))}]")
        if declared.length is not None and len(value) != declared.length:
            raise UserError(f"{given}: {declared.length} values, such as [{','.join(map(str, default))}]")
        for one in value:
            _number(given, one, type(default[0]) if default else float, declared)


def _number(given: str, value: Any, kind: type, option: catalog.Option) -> None:
    kinds = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        raise UserError(f"{given}: {'whole numbers' if kind is int else 'finite numbers'} are needed here")
    if option.least is not None and value < option.least:
        raise UserError(f"{given}: must be at least {option.least}")
    if option.most is not None and value > option.most:
        raise UserError(f"{given}: must be at most {option.most}")
