"""The configuration of a run: typed, resolved from presets and `key=value` words, and its identity.

Nothing here imports torch, so a wrong word on the command line is answered at once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark import catalog
from benchmark.errors import UserError, unknown

PRESETS = Path(__file__).parent / "configs"

AUGMENTATIONS = ("none", "horizontal", "flips", "dihedral")
SCHEDULES = ("cosine", "step", "multistep", "linear", "constant")
OPTIMIZERS = ("adam", "adamw")
LOGGERS = ("wandb", "csv")
LOSSES = (  # benchmark/training has them; named here so that a wrong one is refused before torch is imported
    "ssim",
    "l1",
    "mse",
    "charbonnier",
    "l1+ssim",
    "rescan",
    "rcdnet",
    "mprnet",
    "nafnet",
    "sfnet",
    "elformer",
    "hpcnet",
    "smartassign",
)
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true")


@dataclass
class ModelConfig:
    """Which network, and constructor options that differ from its authors'."""

    name: str = "esdnet"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class DataConfig:
    """Which dataset, where it lies, how it is read."""

    name: str = "embedded-heavy"
    root: str | None = None  # the folder that holds the dataset, or one above it
    workers: int = 0  # loader processes; the decoded cache makes none necessary for small runs
    cache: str | None = None  # folder of the decoded cache; None: ~/.cache/esdnet-benchmark
    accept_problems: bool = False  # train on although names have no partner or training files are tested


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
    constant until `start`, then to 0 at the end. Each after `warmup` units of linear warm-up.
    """

    name: str = "cosine"
    unit: str = "epoch"
    warmup: float = 0
    final_lr: float = 1e-7
    milestones: list[float] = field(default_factory=list)
    every: float = 0
    gamma: float = 1.0
    start: float = 0


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


@dataclass
class TrainerConfig:
    """What it runs on; passed to the Lightning Trainer."""

    accelerator: str = "auto"
    devices: str = "1"
    nodes: int = 1
    strategy: str = "auto"
    threads: int | None = None  # CPU threads; None: torch's default
    checkpoint_every: int = 500  # steps between saves of last.ckpt
    log_every: int = 50  # steps


@dataclass
class EvaluationConfig:
    """How the trained network is tested."""

    tile: str = "authors"  # "authors": the catalogue's tiling; "whole"; or a number of pixels
    overlap: int = 8
    batch: int | None = None  # pictures or tiles at once; None: chosen by size and device
    save_images: bool = False


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


def _preset(group: str, name: str, model: str) -> DictConfig:
    if group == "recipe" and name == "authors":
        path = PRESETS / "recipe" / "authors" / f"{model}.yaml"
        if not path.is_file():
            raise UserError(
                f"recipe=authors: no published recipe is on file for model '{model}'; use recipe=paper"
            )
    else:
        path = PRESETS / group / f"{name}.yaml"
        if not path.is_file():
            names = presets(group) + (["authors"] if group == "recipe" else [])
            raise unknown(group, name, names)
    loaded = OmegaConf.load(path)
    assert isinstance(loaded, DictConfig)
    loaded["name"] = name
    return loaded


def _split(words: Iterable[str]) -> list[tuple[str, Any]]:
    pairs = []
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise UserError(f"'{word}': settings are written key=value, for example recipe=paper or seed=1")
        try:
            pairs.append((key.lstrip("+"), OmegaConf.from_dotlist([f"v={value}"]).v if value else None))
        except Exception as error:
            raise UserError(
                f"'{word}': the value is not valid YAML ({str(error).splitlines()[0]})"
            ) from error
    return pairs


def _leaves(cls: type, prefix: str = "") -> list[str]:
    names = []
    for f in dataclasses.fields(cls):
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(default):
            names += _leaves(type(default), f"{prefix}{f.name}.")
        else:
            names.append(prefix + f.name)
    return names


def resolve(words: Iterable[str] = (), base: RunConfig | None = None) -> RunConfig:
    """The configuration that a list of `key=value` words asks for.

    `model=NAME`, `data=NAME` and `recipe=NAME` choose; `model.OPTION=…` sets a constructor option;
    `recipe.optimizer.lr=…` and the like change one value. Later words win.

    Raises:
        UserError: an unknown key or name (the nearest is given), a wrong type or an impossible value.
    """
    pairs = _split(words)
    chosen = {k: v for k, v in pairs if k in ("model", "data", "recipe")}
    base = base or RunConfig()
    model = str(chosen.get("model", base.model.name))
    entry = catalog.network(model)
    config = OmegaConf.structured(base)
    try:
        if "recipe" in chosen:
            config.recipe = OmegaConf.structured(RecipeConfig)
            config.recipe = OmegaConf.merge(config.recipe, _preset("recipe", str(chosen["recipe"]), model))
        config.model.name = model
        if "data" in chosen:
            config.data.name = str(chosen["data"])
        for key, value in pairs:
            if key in chosen:
                continue
            if key.startswith("model.") and key != "model.name":
                catalog.check_options(entry, {key.removeprefix("model."): value})
                config.model.options[key.removeprefix("model.")] = value
                continue
            if key not in _KEYS:
                raise unknown("setting", key, [*_KEYS, "model", "data", "recipe", "model.OPTION"])
            # devices=2 and tile=80 are text to the schema, numbers to YAML
            as_text = isinstance(OmegaConf.select(config, key), str) and isinstance(value, (int, float))
            OmegaConf.update(config, key, str(value) if as_text else value)
        result = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None)
        raise UserError(f"{where}: " * bool(where) + str(error).splitlines()[0]) from error
    assert isinstance(result, RunConfig)
    _check(result, entry)
    return result


_KEYS = [k for k in _leaves(RunConfig) if k not in ("model.name", "model.options")]


def _choice(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in tuple(allowed):
        raise unknown(key, value, allowed)


def _check(config: RunConfig, entry: catalog.Network) -> None:
    recipe = config.recipe
    _choice("data", config.data.name, catalog.datasets())
    _choice("recipe.loss", recipe.loss, LOSSES)
    _choice("recipe.augmentation", recipe.augmentation, AUGMENTATIONS)
    _choice("recipe.schedule.name", recipe.schedule.name, SCHEDULES)
    _choice("recipe.schedule.unit", recipe.schedule.unit, ("epoch", "step"))
    _choice("recipe.optimizer.name", recipe.optimizer.name, OPTIMIZERS)
    _choice("recipe.precision", recipe.precision, PRECISIONS)
    _choice("recipe.select", recipe.select, ("best", "last"))
    _choice("logger", config.logger, LOGGERS)
    for key, value in (
        ("recipe.batch", recipe.batch),
        ("recipe.patch", recipe.patch),
        ("recipe.steps", recipe.steps),
        ("recipe.epochs", recipe.epochs),
        ("recipe.steps_per_epoch", recipe.steps_per_epoch),
        ("recipe.validate_every", recipe.validate_every),
        ("recipe.optimizer.lr", recipe.optimizer.lr),
        ("trainer.checkpoint_every", config.trainer.checkpoint_every),
        ("evaluation.batch", config.evaluation.batch),
    ):
        if value is not None and value <= 0:
            raise UserError(f"{key}={value}: must be greater than 0")
    if recipe.steps is None and recipe.epochs is None:
        raise UserError(
            "recipe.epochs and recipe.steps are both empty: give one, for example recipe.epochs=1000"
        )
    if not 0 <= recipe.validation < 1:
        raise UserError(
            f"recipe.validation={recipe.validation}: a share of the training images, from 0 to below 1"
        )
    if recipe.select == "best" and not recipe.validation:
        raise UserError(
            "recipe.select=best needs held-out images: set recipe.validation (0.05) or recipe.select=last"
        )
    if recipe.ema is not None and not 0 < recipe.ema < 1:
        raise UserError(f"recipe.ema={recipe.ema}: a decay between 0 and 1, for example 0.999")
    least = max(entry.minimum_size, entry.size_multiple)
    if recipe.patch < least or recipe.patch % entry.size_multiple:
        nearest = max(least, round(recipe.patch / entry.size_multiple) * entry.size_multiple)
        raise UserError(
            f"recipe.patch={recipe.patch}: {entry.title} trains on patches whose side is a multiple of "
            f"{entry.size_multiple} and at least {least}, for example {nearest}"
        )
    if config.evaluation.tile not in ("authors", "whole"):
        if not config.evaluation.tile.isdigit():
            raise UserError(
                f"evaluation.tile={config.evaluation.tile}: 'authors', 'whole' or a number of pixels"
            )
        if int(config.evaluation.tile) <= config.evaluation.overlap:
            raise UserError(
                f"evaluation.tile={config.evaluation.tile}: must be larger than evaluation.overlap"
            )


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
    found |= {f"model.{name}": value for name, value in _plain(model_options(config)).items()}
    found |= {"data": config.data.name, "recipe": config.recipe.name}
    plain = to_dict(config)
    for key in _KEYS:
        if key not in ("data.name", "recipe.name"):
            found[key] = functools.reduce(lambda part, name: part[name], key.split("."), plain)
    return found


def from_dict(data: Mapping[str, Any]) -> RunConfig:
    """The configuration that `to_dict` made plain."""
    result = OmegaConf.to_object(
        OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.create(dict(data)))
    )
    assert isinstance(result, RunConfig)
    return result


def identity(config: RunConfig) -> str:
    """A hash of all that the result depends on: the same for the same question, on any machine."""
    return _hash(config, _IDENTITY)


def training_identity(config: RunConfig) -> str:
    """A hash of all that the trained weights depend on: runs that differ in how they are tested share it."""
    return _hash(config, [key for key in _IDENTITY if not key.startswith("evaluation.")])


def _hash(config: RunConfig, keys: Iterable[str]) -> str:
    plain = to_dict(config)
    relevant: dict[str, Any] = {}
    for key in keys:
        value: Any = plain
        for part in key.split("."):
            value = value[part]
        relevant[key] = value
    relevant["model"] = {"name": config.model.name, "options": _own_options(config)}
    if config.data.name == "folder":
        relevant["data.root"] = str(Path(config.data.root or ".").resolve())
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:12]


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
    return f"{config.model.name}-{config.data.name}-seed{config.seed}-{identity(config)}"
