"""The configuration of a run: typed, resolved from presets and `key=value` words, and its identity.

Nothing here imports torch, so a wrong word on the command line is answered at once.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
import os
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark import catalog, limits
from benchmark import reading as read
from benchmark.data.specs import DATASETS, dataset_spec
from benchmark.errors import UserError, unknown
from benchmark.files import file_digest, real

PRESETS = Path(__file__).parent / "configs"


@dataclass
class ModelConfig:
    """Which network, and constructor options that differ from its authors'."""

    name: str = "esdnet"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class DataConfig:
    """Which dataset, where it lies, how it is read."""

    name: str = "embedded"
    root: str | None = None  # the folder that holds the dataset, or one above it
    workers: int = 0  # loader processes; the decoded cache makes none necessary for small runs
    cache: str | None = None  # folder of the decoded cache; None: ~/.cache/esdnet-benchmark
    exclude: list[str] = field(default_factory=list)  # names of clean photographs not to train on
    rain: list[str] = field(
        default_factory=list
    )  # data=photographs: regimes alone, in equal parts; empty: all kinds
    accept_problems: bool = False  # train on although the audit finds faults; the record lists them


@dataclass
class OptimizerConfig:
    """The optimiser of a recipe."""

    name: str = "adam"
    lr: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass
class ScheduleConfig:
    """The learning rate over time. Lengths count `unit`s.

    cosine: from lr to final_lr; step: × gamma every `every`; multistep: × gamma at each of `milestones`; linear:
    constant until `start`, then to 0 at the end. Each after `warmup` units of linear warm-up: 1, 2, … of warmup + 1
    parts of lr. With `first` it is as the authors' schedulers count: `first` (0 or 1) is where theirs stands in the
    first unit, the warm-up's parts are of `warmup`, and the unit after it still has lr.
    """

    name: str = "cosine"
    unit: str = "epoch"
    warmup: float = 0.0
    final_lr: float = 1e-7
    milestones: list[float] = field(default_factory=list)
    every: float = 0.0
    gamma: float = 1.0
    start: float = 0.0
    first: int | None = None


@dataclass
class RecipeConfig:
    """How a network is trained. The defaults are section 4.1 of the ESDNet paper."""

    name: str = "paper"
    loss: str = "ssim"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    epochs: int | None = 1000
    steps: int | None = None  # optimiser steps; if given, epochs is not used
    steps_per_epoch: int | None = None  # None: one crop of each training image an epoch
    batch: int = 12
    patch: int = 64
    augmentation: str = "none"
    gradient_clip: float | None = None  # norm
    ema: float | None = (
        None  # decay of an exponential moving average of the weights, which is then what is tested
    )
    precision: str = "32-true"
    validation: float = 0.05  # share of the training images held out to choose the checkpoint
    validate_every: int = 1000  # steps
    select: str = "best"  # "best" on the held-out images, or "last"
    embedded: bool = False  # train the catalogue's small variant
    start_from: str | None = (
        None  # a file of weights of the same network to go on from; None: its initialisation
    )


@dataclass
class TrainerConfig:
    """What it runs on; passed to the Lightning Trainer."""

    accelerator: str = "auto"
    devices: str = "1"
    nodes: int = 1
    strategy: str = "auto"
    threads: int | None = None  # CPU threads; None: torch's default
    checkpoint_every: int = 500  # steps between saves of last.ckpt
    accept_changed_code: bool = False  # go on with a training that other code began
    log_every: int = 50  # steps


@dataclass
class EvaluationConfig:
    """How the trained network is tested."""

    tile: str = "authors"  # "authors": the catalogue's tiling; "whole"; or a number of pixels
    overlap: int = 8
    batch: int | None = None  # pictures or tiles at once; None: chosen by size and device
    save_images: bool = False
    also: list[str] = field(default_factory=list)  # further test sets: names below data.root, or folders
    metrics: list[str] = field(default_factory=list)  # further metrics: NAME, or NAME:FILE with its weights


@dataclass
class RunConfig:
    """One run: one network, one dataset, one recipe, one seed."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    logger: str = "wandb"
    out: str = "runs"


# what a result depends on: the rest (where files lie, how often to log) may change without making another run
_IDENTITY = (
    "model",
    "data.name",
    "data.accept_problems",
    "recipe",
    "evaluation.tile",
    "evaluation.overlap",
    "seed",
)


def presets(group: str) -> list[str]:
    """Names of the presets of a group ("recipe")."""
    return sorted(p.stem for p in (PRESETS / group).glob("*.yaml"))


def _preset(name: str, model: str) -> dict[str, str]:
    """A recipe's settings, as they are written in its YAML; `model` is for the authors' own recipes alone."""
    if name == "authors":
        path = PRESETS / "recipe" / "authors" / f"{model}.yaml"
        if not path.is_file():
            raise UserError(
                f"recipe=authors: no published recipe is on file for model '{model}'; use recipe=paper"
            )
    elif name not in presets("recipe"):
        raise unknown("recipe", name, [*presets("recipe"), "authors"])
    else:
        path = PRESETS / "recipe" / f"{name}.yaml"
    return {key: read.written(value) for key, value in _flat(read.read_yaml(path), "recipe.")}


@functools.cache
def _recipe(name: str, model: str) -> RecipeConfig:
    """That on the defaults; not to be changed."""
    config = RunConfig()
    for key, text in _preset(name, model).items():
        _put(config, key, text)
    return dataclasses.replace(config.recipe, name=name)


def pairs_of(words: Iterable[str]) -> list[tuple[str, str]]:
    """The keys of `key=value` words, and their values as they are written.

    Raises:
        UserError: a word is not of that form.
    """
    pairs = []
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise UserError(f"'{word}': settings are written key=value, for example recipe=paper or seed=1")
        if "${" in value or value.strip() == "???":
            raise UserError(f"'{word}': values are written out; there are no references here")
        if "\0" in value:
            raise UserError(f"'{word}': a NUL cannot stand in a value")
        pairs.append((key.lstrip("+"), value))
    return pairs


def _put(config: RunConfig, key: str, text: str) -> None:
    """Set one value of a configuration, read by its type."""
    try:
        value = read.typed(_TYPES[key], text)
    except ValueError as error:
        raise UserError(f"{key}={text}: {error}") from None
    if key in _PATHS and value is not None:
        value = [read.path(v) for v in value] if isinstance(value, list) else read.path(value)
    *parents, name = key.split(".")
    setattr(functools.reduce(getattr, parents, config), name, value)


def _with_study(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs with `study=NAME row=NAME` replaced by the settings of that row, as a table of the study has them."""
    chosen = {key: value for key, value in pairs if key in ("study", "row")}
    if not chosen:
        return pairs
    if len(chosen) < 2:
        raise UserError("study and row go together, for example study=table3 row=SRB")
    study = catalog.study(chosen["study"])
    variants = {v.name: v for v in study.variants}
    if chosen["row"] not in variants:
        raise unknown(f"row of study {study.name}", chosen["row"], variants)
    given = [(key, value) for key, value in pairs if key not in chosen]
    own = dict(variants[chosen["row"]].settings)
    for key, value in given:
        if key in own:
            raise UserError(
                f"'{key}={value}': row {chosen['row']} of study {study.name} sets it; leave one out"
            )
    settings = [[(key, read.written(value)) for key, value in part.items()] for part in (study.base, own)]
    return [("model", study.model), *settings[0], *given, *settings[1]]


def resolve(words: Iterable[str] = (), base: RunConfig | None = None) -> RunConfig:
    """The configuration that a list of `key=value` words asks for.

    `model=NAME`, `data=NAME` and `recipe=NAME` choose; `model.OPTION=…` sets a constructor option;
    `recipe.optimizer.lr=…` and the like change one value; `study=table3 row=SRB` stands for the settings of that row
    of an ablation study. Later words win.

    Raises:
        UserError: an unknown key or name (the nearest is given), a wrong type or an impossible value.
    """
    pairs = _with_study(pairs_of(words))
    chosen = {k: v for k, v in pairs if k in ("model", "data", "recipe")}
    config = copy.deepcopy(base or RunConfig())
    config.model.name = chosen.get("model", config.model.name)
    entry = catalog.network(config.model.name)
    if "recipe" in chosen:
        own = entry.name if chosen["recipe"] == "authors" else ""
        config.recipe = copy.deepcopy(_recipe(chosen["recipe"], own))
    config.data.name = chosen.get("data", config.data.name)
    for key, text in pairs:
        if key in chosen:
            continue
        if key.startswith("model.") and key != "model.name":
            option = key.removeprefix("model.")
            config.model.options[option] = model_option(entry, option, text)
        elif key in _KEYS:
            _put(config, key, text)
        else:
            options = [f"model.{option}" for option in entry.options()]
            raise unknown("setting", key, [*_KEYS, "model", "data", "recipe", "study", "row", *options])
    limits.check(config, entry)
    return config


def model_option(entry: catalog.Network, option: str, text: str) -> Any:
    """The value of a constructor option, read by the kind of its default.

    Raises:
        UserError: the network has no such option (the nearest is given), or it cannot be that.
    """
    catalog.check_options(entry, {option: text})
    value = read.like(entry.options()[option], text)
    limits.check_option(entry, option, value)
    return value


_KEYS = [k for k, _ in limits.leaves(RunConfig()) if k not in ("model.name", "model.options")]
_PATHS = ("data.root", "data.cache", "recipe.start_from", "evaluation.also", "out")


def _types(config: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, kind in typing.get_type_hints(config).items():
        if dataclasses.is_dataclass(kind):
            yield from _types(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield prefix + name, kind


_TYPES = dict(_types(RunConfig))


def model_options(config: RunConfig) -> dict[str, Any]:
    """All constructor options of the run's network: the embedded variant's, if the recipe says so, then the user's."""
    entry = catalog.network(config.model.name)
    return {**(entry.embedded if config.recipe.embedded else {}), **config.model.options}


def tiling(config: RunConfig) -> tuple[int | None, int]:
    """The tile size (None: whole image) and overlap, in pixels, that the run is tested with."""
    if config.evaluation.tile == "authors":
        return catalog.network(config.model.name).tile or (None, config.evaluation.overlap)
    if config.evaluation.tile == "whole":
        return None, config.evaluation.overlap
    return int(config.evaluation.tile), config.evaluation.overlap


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain data."""
    return dataclasses.asdict(config)


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Every setting under its name on the command line: `model`, `model.dim`, `recipe`, `recipe.batch`, `seed`, …"""
    found: dict[str, Any] = {"model": config.model.name}
    options = {**_defaults(config.model.name), **model_options(config)}
    found |= {f"model.{name}": value for name, value in _plain(options).items() if value is not ...}
    found |= {"data": config.data.name, "recipe": config.recipe.name}
    plain = to_dict(config)
    for key in _KEYS:
        if key not in ("data.name", "recipe.name"):
            found[key] = functools.reduce(lambda part, name: part[name], key.split("."), plain)
    return found


def sources(words: Iterable[str], config: RunConfig) -> dict[str, str]:
    """Where the value of every setting comes from.

    Args:
        words: the command line's `key=value` words.
        config: what they resolve to.

    Returns:
        For each name in `settings_of(config)`: "command line", "study NAME", a preset's file, "embedded variant" (of
        the network), "environment NAME", "network's default" or "default".
    """
    words = list(words)
    given = dict(pairs_of(words))
    in_study = {key for key, _ in _with_study(list(pairs_of(words)))} - given.keys()
    found = {
        key: "network's default" if key.startswith("model.") else "default" for key in settings_of(config)
    }
    if config.recipe.embedded:
        variant = catalog.network(config.model.name).embedded
        found |= {f"model.{option}": "embedded variant" for option in variant}
    if "recipe" in given:
        name = "authors/" + config.model.name if config.recipe.name == "authors" else config.recipe.name
        preset = _preset(config.recipe.name, config.model.name)
        found |= {key: f"recipe/{name}.yaml" for key in preset if key in found}
    if os.environ.get("ESDNET_CACHE"):
        found["data.cache"] = "environment ESDNET_CACHE"
    found |= {key: f"study {given['study']}" for key in found if key in in_study}
    return found | {key: "command line" for key in found if key in given}


def _flat(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def from_dict(data: Mapping[str, Any]) -> RunConfig:
    """The configuration that `to_dict` made plain.

    Raises:
        UserError: it is none of this suite's, or there are references in it.
    """
    try:
        read.refuse_references(dict(data))
        return _of_plain(data)
    except (ValueError, OmegaConfBaseException) as error:
        raise UserError(f"not a configuration of a run: {str(error).splitlines()[0]}") from None


def _of_plain(data: Mapping[str, Any]) -> RunConfig:
    result = OmegaConf.to_object(
        OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.create(dict(data)))
    )
    assert isinstance(result, RunConfig)
    return result


def identity(config: RunConfig) -> str:
    """A hash of all that the result depends on: the same for the same question, on any machine."""
    return digest(question(config))


def differences(plain: Mapping[str, Any], config: RunConfig) -> list[str]:
    """In what that matters to the result another configuration (plain data) differs: "seed 4 there, 12 here"."""
    there, here = _leaves_of(plain), _leaves_of(to_dict(config))
    return [
        f"{key} {there.get(key, 'not set')} there, {here.get(key, 'not set')} here"
        for key in sorted(there.keys() | here.keys())
        if any(key == part or key.startswith(f"{part}.") for part in _IDENTITY)
        and there.get(key) != here.get(key)
    ]


def _leaves_of(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in _plain(data).items():
        inner = _leaves_of(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        found.update(inner)
    return found


def training_identity(config: RunConfig, asked: Mapping[str, Any] | None = None) -> str:
    """A hash of all that the trained weights depend on: runs that differ in how they are tested share it.

    But for the tiles, where the checkpoint is chosen by pictures restored in them.

    Args:
        config: the run's.
        asked: its `question`, where it is known already.
    """
    asked = question(config) if asked is None else asked
    training = {key: value for key, value in asked.items() if not key.startswith("evaluation.")}
    tile, overlap = tiling(config)
    if config.recipe.select == "best" and tile is not None:
        training["chosen_in_tiles"] = [tile, overlap]
    return digest(training)


def question(config: RunConfig) -> dict[str, Any]:
    """All that a run's result depends on, as plain data; `digest` of it is the identity."""
    asked: dict[str, Any] = {}
    for key in _IDENTITY:
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        asked[key] = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
    if config.recipe.schedule.first is None:  # of a later version: left alone it does not make another run
        del asked["recipe"]["schedule"]["first"]
    start = asked["recipe"].pop("start_from")
    if start is not None:
        asked["recipe"]["start_from"] = file_digest(Path(start))
    asked["model"] = {"name": config.model.name, "options": _own_options(config)}
    if config.data.exclude:
        asked["data.exclude"] = sorted(config.data.exclude)
    if config.data.rain:
        asked["data.rain"] = sorted(config.data.rain)
    if config.evaluation.also:
        asked["evaluation.also"] = sorted(_placed(name) for name in config.evaluation.also)
    if config.evaluation.metrics:
        from benchmark.evaluation import measures

        asked["evaluation.metrics"] = sorted(measures.question(word) for word in config.evaluation.metrics)
    if config.data.name in ("folder", "photographs"):
        asked["data.root"] = str(real(Path(config.data.root or ".")))
    return asked


def _placed(name: str) -> str:
    """A test set's name, the folder it is in written out."""
    spec = dataset_spec(name)
    return name if spec.root is None or spec.name in DATASETS else str(real(Path(spec.root)))


def digest(asked: Mapping[str, Any]) -> str:
    """The hash that identifies a question."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def _own_options(config: RunConfig) -> dict[str, Any]:
    """Options that differ from the constructor's defaults: saying a default does not make another network."""
    defaults = _plain(_defaults(config.model.name))
    return {k: v for k, v in _plain(model_options(config)).items() if k not in defaults or v != defaults[k]}


@functools.cache
def _defaults(model: str) -> dict[str, Any]:
    return catalog.network(model).options()


def _plain(value: Any) -> Any:
    """Tuples as lists, so that an option written either way is the same run."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def run_name(config: RunConfig) -> str:
    """The folder name of a run: readable, and unique by its identity."""
    return name_of(config, identity(config))


def name_of(config: RunConfig, identity: str) -> str:
    """`run_name` where the identity is known already."""
    return f"{config.model.name}-{config.data.name}-seed{config.seed}-{identity}"
