"""What a run is made of: every setting with its type, its bounds, its choices and what it is for.

A `RunSpec` is made by `benchmark.spec.resolve` and handed down as it is. What follows from its settings (the network's
options, the tiling, its identity, its folder) are properties of it, so that nothing below asks a recipe's file or the
command line again. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from benchmark import catalog
from benchmark.spec import identities

SEEDS = 2**32
_MOST = 10**12  # more is a slip of the keyboard, which would end in want of memory, or in no end

Count = Annotated[int, Field(gt=0, le=_MOST)]
Processes = Annotated[int, Field(gt=0, le=4096)]
Pixels = Annotated[int, Field(gt=0, le=16384)]
AtOnce = Annotated[int, Field(gt=0, le=65536)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Loss = Literal[  # benchmark.training has them; named here so that a wrong one is refused before torch is imported
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
    "own",
]


LoggerName = Literal["csv", "wandb", "tensorboard", "mlflow"]


def _several(value: Any) -> Any:
    """Names of loggers as a list; records of earlier versions have one name."""
    return value.split(",") if isinstance(value, str) else value


@dataclass(frozen=True, config=_STRICT)
class ModelSpec:
    """Which network, and constructor options that differ from its authors'."""

    name: str = Field(default="esdnet", description="of the network: derain models lists them")
    options: dict[str, Any] = Field(
        default_factory=dict, description="constructor options of the network: derain models NAME lists them"
    )


@dataclass(frozen=True, config=_STRICT)
class DataSpec:
    """Which dataset, where it lies, how it is read."""

    name: str = Field(
        default="embedded", description="of the dataset: derain data list; or folder, photographs"
    )
    root: str | None = Field(default=None, description="the folder that holds the dataset, or one above it")
    workers: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="loader processes; the decoded cache makes none necessary for small runs",
    )
    cache: str | None = Field(
        default=None,
        description="folder of the decoded cache; null: DERAIN_CACHE, or this user's cache folder",
    )
    exclude: list[str] = Field(default_factory=list, description="names of clean photographs not to train on")
    rain: list[str] = Field(
        default_factory=list,
        description="data=photographs: regimes alone, in equal parts; empty: all kinds of rain",
    )
    accept_problems: bool = Field(
        default=False, description="train on although the audit finds faults; the record lists them"
    )


@dataclass(frozen=True, config=_STRICT)
class OptimizerSpec:
    """The optimiser of a recipe."""

    name: Literal["adam", "adamw"] = Field(default="adam", description="of the optimiser")
    lr: Positive = Field(default=1e-3, description="learning rate")
    betas: list[float] = Field(default_factory=lambda: [0.9, 0.999], description="decays of the two moments")
    eps: Positive = Field(default=1e-8, description="added to the denominator")
    weight_decay: NotNegative = Field(
        default=0.0, description="decoupled for adamw, in the gradient for adam"
    )


@dataclass(frozen=True, config=_STRICT)
class ScheduleSpec:
    """The learning rate over time. Lengths count `unit`s.

    cosine: from lr to final_lr; step: × gamma every `every`; multistep: × gamma at each of `milestones`; linear:
    constant until `start`, then to 0 at the end. Each after `warmup` units of linear warm-up: 1, 2, … of warmup + 1
    parts of lr. With `first` it is as the authors' schedulers count: `first` (0 or 1) is where theirs stands in the
    first unit, the warm-up's parts are of `warmup`, and the unit after it still has lr.
    """

    name: Literal["cosine", "step", "multistep", "linear", "constant"] = Field(
        default="cosine", description="the course of the learning rate"
    )
    unit: Literal["epoch", "step"] = Field(default="epoch", description="what lengths count")
    warmup: NotNegative = Field(default=0.0, description="units of linear warm-up")
    final_lr: NotNegative = Field(default=1e-7, description="cosine: the rate at the end")
    milestones: list[float] = Field(default_factory=list, description="multistep: units, rising")
    every: NotNegative = Field(default=0.0, description="step: units between two steps")
    gamma: Positive = Field(default=1.0, description="step, multistep: factor of a step")
    start: NotNegative = Field(default=0.0, description="linear: the unit from which on the rate falls")
    first: int | None = Field(
        default=None, description="where the authors' scheduler stands in the first unit"
    )


@dataclass(frozen=True, config=_STRICT)
class RecipeSpec:
    """How a network is trained. The defaults are section 4.1 of the ESDNet paper."""

    name: str = Field(default="paper", description="of the recipe, and of the folder of its runs")
    loss: Loss = Field(
        default="ssim",
        description="what is made small; own: what the network declares (networks from outside)",
    )
    optimizer: OptimizerSpec = Field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec)
    epochs: Count | None = Field(
        default=1000, description="passes over the training images; null: steps counts"
    )
    steps: Count | None = Field(default=None, description="optimiser steps; if given, epochs is not used")
    steps_per_epoch: Count | None = Field(
        default=None, description="null: one crop of each training image an epoch"
    )
    batch: AtOnce = Field(default=12, description="patches a step, over all processes")
    patch: Pixels = Field(default=64, description="side of the square training patches, in pixels")
    augmentation: Literal["none", "horizontal", "flips", "dihedral"] = Field(
        default="none",
        description="how patches are turned: not, left and right, both ways, one of eight ways",
    )
    gradient_clip: Positive | None = Field(default=None, description="the largest norm of the gradient")
    ema: float | None = Field(
        default=None,
        description="decay of an exponential moving average of the weights, which is then tested",
    )
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true"] = Field(
        default="32-true", description="of the arithmetic"
    )
    validation: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="share of the training images, at most 100, held out to choose the checkpoint",
    )
    validate_every: Count = Field(default=1000, description="steps between two validations")
    select: Literal["best", "last"] = Field(
        default="best", description="the checkpoint that is tested: the best on held-out images, or the last"
    )
    embedded: bool = Field(default=False, description="train the catalogue's small variant")
    start_from: str | None = Field(
        default=None, description="weights of the same network to go on from; null: its initialisation"
    )


@dataclass(frozen=True, config=_STRICT)
class TrainerSpec:
    """What it runs on; passed to the Lightning Trainer."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = Field(
        default="auto", description="what it runs on"
    )
    devices: str = Field(default="1", description="auto, -1 for all, how many, or which, as in 0,1")
    nodes: Processes = Field(default=1, description="machines")
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = Field(
        default="auto", description="how several processes share a training"
    )
    threads: Processes | None = Field(default=None, description="CPU threads; null: torch's default")
    checkpoint_every: Count = Field(default=500, description="steps between saves of last.ckpt")
    accept_changed_code: bool = Field(
        default=False, description="go on with a training that other code began"
    )
    log_every: Count | None = Field(
        default=None,
        description="steps between two logged figures; null: 50, fewer where a run has less than 2500 steps",
    )
    log_weights: bool = Field(
        default=False,
        description="give the finished run's weights to the logger, wandb or mlflow, as an artifact",
    )


@dataclass(frozen=True, config=_STRICT)
class EvaluationSpec:
    """How the trained network is tested."""

    tile: str = Field(
        default="authors", description="authors: the catalogue's tiling; whole; or a number of pixels"
    )
    overlap: int = Field(default=8, ge=0, le=16384, description="pixels that tiles share")
    batch: AtOnce | None = Field(
        default=None, description="pictures or tiles at once; null: chosen by size and device"
    )
    save_images: bool = Field(default=False, description="keep the restored test pictures")
    also: list[str] = Field(
        default_factory=list, description="further test sets: names below data.root, or folders"
    )
    metrics: list[str] = Field(
        default_factory=list, description="further metrics: NAME, or NAME:FILE with its weights"
    )


def _wandb() -> list[LoggerName]:
    return ["wandb"]


@dataclass(frozen=True, config=_STRICT)
class RunSpec:
    """One run: one network, one dataset, one recipe, one seed. Made by `benchmark.spec.resolve`."""

    model: ModelSpec = Field(default_factory=ModelSpec)
    data: DataSpec = Field(default_factory=DataSpec)
    recipe: RecipeSpec = Field(default_factory=RecipeSpec)
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)
    trainer: TrainerSpec = Field(default_factory=TrainerSpec)
    seed: int = Field(default=0, ge=0, lt=SEEDS, description="of initial weights, crops and rain")
    logger: Annotated[list[LoggerName], BeforeValidator(_several)] = Field(
        default_factory=_wandb,
        min_length=1,
        description="where figures go while it trains, one or several; csv: metrics.csv in its folder, always written",
    )
    out: str = Field(default="runs", min_length=1, description="folder of the runs, for example runs")

    @property
    def network(self) -> catalog.Network:
        """The catalogue's entry."""
        return catalog.network(self.model.name)

    @cached_property
    def options(self) -> dict[str, Any]:
        """All constructor options of the network: the embedded variant's, if the recipe says so, then the user's."""
        return {**(self.network.embedded if self.recipe.embedded else {}), **self.model.options}

    @cached_property
    def tiling(self) -> tuple[int | None, int]:
        """The tile size (None: whole image) and overlap, in pixels, that the run is tested with."""
        tile, overlap = self.evaluation.tile, self.evaluation.overlap
        if tile == "authors":
            return self.network.tile or (None, overlap)
        return (None if tile == "whole" else int(tile)), overlap

    @property
    def question(self) -> dict[str, Any]:
        """All that the result depends on, as plain data; with what its files hold now, where it names any."""
        kept = self.__dict__.get("_question")
        if kept is None:
            kept = identities.question(self)
            if not (self.recipe.start_from or self.evaluation.metrics):
                self.__dict__["_question"] = kept
        return kept

    @property
    def identity(self) -> str:
        """A hash of that: the same for the same question, on any machine."""
        return identities.digest(self.question)

    @property
    def training_identity(self) -> str:
        """A hash of all that the trained weights depend on: runs that differ in how they are tested share it."""
        return identities.training(self)

    @property
    def name(self) -> str:
        """The folder name of the run: readable, and unique by its identity."""
        return f"{self.model.name}-{self.data.name}-seed{self.seed}-{self.identity}"

    @property
    def folder(self) -> Path:
        """Where it keeps its checkpoints, logs and record."""
        return Path(self.out) / self.recipe.name / self.name

    def with_seed(self, seed: int) -> RunSpec:
        """The same with another seed; what was found out about its question is not found out again."""
        other = dataclasses.replace(self, seed=seed)
        asked = self.question
        if "_question" in self.__dict__:
            other.__dict__["_question"] = {**asked, "seed": seed}
        return other

    def plain(self) -> dict[str, Any]:
        """The settings as plain data, as records keep them."""
        return dataclasses.asdict(self)


def leaves(spec: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a specification, by its dotted name, with its value."""
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value
