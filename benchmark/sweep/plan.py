"""Plans: the runs that a table needs, as data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmark import catalog
from benchmark.config import RunConfig, digest, name_of, question, resolve
from benchmark.data.specs import DATASETS, dataset_spec
from benchmark.errors import UserError, unknown

REGIMES = ("rain12", "rain200l", "rain200h", "rain1200")  # the columns of the paper's Table 1, in its order


@dataclass(frozen=True)
class Planned:
    """A run of a plan.

    Attributes:
        config: resolved.
        words: the settings that make it, apart from those that all runs of its plan have.
        identity: of the configuration.
        training: the identity of its training: runs that differ in the test alone share it.
        label: how progress calls it, such as "esdnet embedded-heavy seed 0" or "table3 SEW-ResNet seed 0".
        rows: of ablation tables that show it, as (study, row).
    """

    config: RunConfig
    words: tuple[str, ...]
    identity: str
    training: str
    label: str
    rows: tuple[tuple[str, str], ...] = ()

    @cached_property
    def name(self) -> str:
        """The run's name: readable, and unique."""
        return name_of(self.config, self.identity)

    @cached_property
    def folder(self) -> Path:
        """Where it keeps its checkpoints, logs and record."""
        return Path(self.config.out) / self.config.recipe.name / self.name


@dataclass(frozen=True)
class Plan:
    """The runs of a table, in the order in which they start, and what cannot be run with the reason."""

    runs: tuple[Planned, ...]
    absent: Mapping[str, str] = field(default_factory=dict)  # dataset: reason


class Planner:
    """Makes planned runs of words; what runs of different seeds share is resolved once.

    Args:
        common: words of all runs, which come first.
        last: words of all runs, which come last and win.
    """

    def __init__(self, common: Sequence[str], last: Sequence[str] = ()) -> None:
        self.common, self.last = tuple(common), tuple(last)
        self._known: dict[tuple[str, ...], tuple[RunConfig, dict[str, Any]]] = {}

    def plan(
        self, words: Sequence[str], seed: int, label: str = "", rows: Iterable[tuple[str, str]] = ()
    ) -> Planned:
        """The run of some words and a seed.

        Raises:
            UserError: a word is wrong.
        """
        key = tuple(words)
        if key not in self._known:
            config = resolve([*self.common, *key, *self.last])
            self._known[key] = (config, question(config))
        config, asked = self._known[key]
        asked = {**asked, "seed": seed}
        training = {k: v for k, v in asked.items() if not k.startswith("evaluation.")}
        return Planned(
            config=dataclasses.replace(config, seed=seed),
            words=(*key, f"seed={seed}"),
            identity=digest(asked),
            training=digest(training),
            label=f"{label or f'{config.model.name} {config.data.name}'} seed {seed}",
            rows=tuple(rows),
        )


_OPTIONS = {"seed": "--seeds", "model": "--models", "data": "--data", "recipe": "--recipe", "out": "--runs"}


def _no_options(words: Iterable[str]) -> None:
    """Refuse settings that a table has options for."""
    for word in words:
        if (key := word.partition("=")[0]) in _OPTIONS:
            raise UserError(f"'{word}': for a table this is given by {_OPTIONS[key]}")


def table_datasets(embedded: bool) -> list[str]:
    """The datasets that stand for the columns of Table 1: the published ones, or the embedded ones."""
    by_column = {d.columns: d.name for d in DATASETS.values() if d.embedded == embedded and d.columns}
    return [by_column[c] for c in REGIMES]


def table1(
    recipe: str,
    root: str | None,
    models: Sequence[str] = (),
    seeds: Iterable[int] = (0,),
    words: Sequence[str] = (),
    out: str = "runs",
    datasets: Sequence[str] = (),
) -> Plan:
    """The runs of Table 1: every network on every training set.

    Args:
        recipe: name of a recipe.
        root: folder that holds the published datasets; None for the embedded ones.
        models: names of networks; empty for all.
        seeds: one run each.
        words: further `key=value` settings, the same for all runs.
        out: folder of the runs.
        datasets: test sets; empty for all of the table.

    Raises:
        UserError: an unknown name, or none of the datasets is below `root`.
    """
    _no_options(words)
    names = _networks(models)
    absent: dict[str, str] = {}
    trained_on: list[str] = []
    for name in chosen_datasets(datasets, embedded=root is None):
        training_set = dataset_spec(name).training
        try:
            if root is not None:
                _look(name, root)
                _look(training_set, root)
        except UserError as error:
            absent[name] = str(error)
            continue
        if training_set not in trained_on:
            trained_on.append(training_set)
    if not trained_on:
        reasons = "; ".join(absent.values())
        raise UserError(f"no dataset of Table 1 below {root}: {reasons}")
    planner = Planner(common(recipe, root, out), words)
    runs = tuple(
        planner.plan([f"model={model}", f"data={data}"], seed)
        for seed in seeds
        for data in trained_on
        for model in names
    )
    return Plan(runs, absent)


def table2(
    recipe: str,
    root: str | None,
    data: str,
    models: Sequence[str] = (),
    seeds: Iterable[int] = (0,),
    words: Sequence[str] = (),
    out: str = "runs",
) -> Plan:
    """The runs of Table 2: every network on one training set; arguments as for `table1`."""
    _no_options(words)
    planner = Planner(common(recipe, root, out), words)
    return Plan(
        tuple(
            planner.plan([f"model={model}", f"data={data}"], seed)
            for seed in seeds
            for model in _networks(models)
        )
    )


def chosen_datasets(names: Sequence[str], embedded: bool) -> list[str]:
    """The datasets of Table 1, or those of them that are named, in the table's order.

    Raises:
        UserError: one is not of the table.
    """
    every = table_datasets(embedded)
    for name in names:
        if name not in every:
            raise unknown("dataset of Table 1", name, every)
    return [d for d in every if not names or d in names]


def common(recipe: str, root: str | None, out: str) -> list[str]:
    """The words that all runs of a plan have."""
    return [f"recipe={recipe}", f"out={out}", *([f"data.root={root}"] if root is not None else [])]


def _networks(models: Sequence[str]) -> list[str]:
    return [catalog.network(m).name for m in models] or list(catalog.networks())


def rows(
    study: str,
    model: str,
    settings: Mapping[str, Mapping[str, Any]],
    recipe: str,
    root: str | None,
    seeds: Iterable[int] = (0,),
    base: Mapping[str, Any] = MappingProxyType({}),
    words: Sequence[str] = (),
    out: str = "runs",
) -> list[Planned]:
    """The runs of an ablation table: variants of one network on Rain200H, or the embedded heavy rain.

    Args:
        study: its name.
        model: the network that is varied.
        settings: for each row, what makes its variant.
        recipe: name of a recipe.
        root: folder that holds Rain200H; None for the embedded set.
        seeds: one run each.
        base: settings of all rows.
        words: the user's `key=value` settings for all rows; they win over `base`.
        out: folder of the runs.

    Returns:
        A run for each row and seed, each with its row. Rows of the same question have runs of the same identity.

    Raises:
        UserError: an unknown name or setting, a setting of the user's that the rows themselves vary, or the dataset
            is not below `root`.
    """
    _no_options(words)
    varied = {key for own in settings.values() for key in own}
    for word in words:
        if word.partition("=")[0] in varied:
            raise UserError(f"'{word}': the rows of this table differ in it; leave it out")
    dataset = next(
        d.name for d in DATASETS.values() if d.columns == "rain200h" and d.embedded == (root is None)
    )
    if root is not None:
        _look(dataset, root)
    planner = Planner(common(recipe, root, out), words)
    asked = {word.partition("=")[0] for word in words}
    before = [f"model={model}", f"data={dataset}", *_words({k: v for k, v in base.items() if k not in asked})]
    return [
        planner.plan([*before, *_words(own)], seed, f"{study} {row}", [(study, row)])
        for row, own in settings.items()
        for seed in seeds
    ]


def _words(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]


def unique(runs: Iterable[Planned]) -> tuple[Planned, ...]:
    """The runs, each once: those of the same identity are one, with the rows of all."""
    found: dict[str, Planned] = {}
    for run in runs:
        first = found.get(run.name)
        if first is None:
            found[run.name] = run
        elif new := tuple(row for row in run.rows if row not in first.rows):
            others = len(first.rows) + len(new) - 1
            label = f"{first.label.partition(' (+')[0]} (+{others})"
            found[run.name] = dataclasses.replace(first, rows=(*first.rows, *new), label=label)
    return tuple(found.values())


def _look(name: str, root: str) -> None:
    from benchmark.data.layouts import find_split

    if not Path(root).is_dir():
        raise UserError(f"DATA={root}: no such folder")
    for split in dataset_spec(name).splits:
        find_split(dataset_spec(name), root, split)
