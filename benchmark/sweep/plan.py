"""Plans: the runs that a table needs, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmark import catalog
from benchmark.data.specs import COLUMNS, DATASETS, column_key, dataset_spec, result_key, test_sets
from benchmark.errors import UserError
from benchmark.reading import written
from benchmark.spec import SEEDS, RunSpec, resolve


@dataclass(frozen=True)
class Planned:
    """A run of a plan.

    Attributes:
        spec: the run.
        words: the settings that make it, apart from those that all runs of its plan have.
        label: how progress calls it, such as "esdnet embedded-heavy seed 0" or "table3 SEW-ResNet seed 0".
        rows: of ablation tables that show it, as (study, row).
    """

    spec: RunSpec
    words: tuple[str, ...]
    label: str
    rows: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> str:
        """Of the run."""
        return self.spec.identity

    @property
    def training(self) -> str:
        """The identity of its training: runs that differ in the test alone share it."""
        return self.spec.training_identity

    @property
    def name(self) -> str:
        """The run's name: readable, and unique."""
        return self.spec.name

    @property
    def folder(self) -> Path:
        """Where it keeps its checkpoints, logs and record."""
        return self.spec.folder


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
        self._known: dict[tuple[str, ...], RunSpec] = {}

    def plan(
        self, words: Sequence[str], seed: int, label: str = "", rows: Iterable[tuple[str, str]] = ()
    ) -> Planned:
        """The run of some words and a seed.

        Raises:
            UserError: a word is wrong, or the seed.
        """
        if not 0 <= seed < SEEDS:
            raise UserError(f"seed={seed}: from 0 to {SEEDS - 1}")
        key = tuple(words)
        if key not in self._known:
            self._known[key] = resolve([*self.common, *key, *self.last])
        spec = self._known[key].with_seed(seed)
        return Planned(
            spec=spec,
            words=(*key, f"seed={seed}"),
            label=f"{label or f'{spec.model.name} {spec.data.name}'} seed {seed}",
            rows=tuple(rows),
        )


NONE = "none"  # instead of networks' names: a table of rows alone that nobody trained here

_OPTIONS = {"seed": "--seeds", "model": "--models", "data": "--data", "recipe": "--recipe", "out": "--runs"}


def _no_options(words: Iterable[str]) -> None:
    """Refuse settings that a table has options for."""
    for word in words:
        if (key := word.partition("=")[0]) in _OPTIONS:
            raise UserError(f"'{word}': for a table this is given by {_OPTIONS[key]}")


def table_datasets(embedded: bool) -> list[str]:
    """The datasets that stand for the columns of Table 1: the published ones, or the embedded ones."""
    by_column = {d.columns: d.name for d in DATASETS.values() if d.embedded == embedded and d.columns}
    return [by_column[c] for c in COLUMNS]


def table1(
    recipe: str,
    root: str | None,
    models: Sequence[str] = (),
    seeds: Iterable[int] = (0,),
    words: Sequence[str] = (),
    out: str = "runs",
    datasets: Sequence[str] = (),
) -> Plan:
    """The runs of Table 1: every network on every training set, or none where `models` is ["none"].

    Args:
        recipe: name of a recipe.
        root: folder that holds the published datasets; None for the embedded ones.
        models: names of networks; empty for all.
        seeds: one run each.
        words: further `key=value` settings, the same for all runs.
        out: folder of the runs.
        datasets: test sets, as `chosen_datasets` takes them; empty for all of the table.

    Raises:
        UserError: an unknown name, or none of the datasets is below `root`.
    """
    _no_options(words)
    names = _networks(models)
    absent: dict[str, str] = {}
    tested: dict[
        tuple[str, ...], list[str]
    ] = {}  # the words of a training set: test sets that are not its own
    for name in chosen_datasets(datasets, root) if names else ():
        spec = dataset_spec(name)
        by_itself = result_key(name) == "folder"
        try:
            if not spec.embedded:
                _look(name, root, ["test"])
            if not by_itself and not dataset_spec(spec.training).embedded:
                _look(spec.training, root)
        except UserError as error:
            absent[name] = str(error)
            continue
        training = ("data=folder", f"data.root={spec.root}") if by_itself else (f"data={spec.training}",)
        also = tested.setdefault(training, [])
        if not by_itself and spec.name not in test_sets(spec.training):
            also.append(name.removesuffix(f"@{spec.training}"))
    if names and not tested:
        reasons = "; ".join(dict.fromkeys(absent.values()))
        raise UserError(f"no dataset of Table 1 below {root}: {reasons}")
    planner = Planner(common(recipe, root, out), words)
    runs = tuple(
        planner.plan(
            [f"model={model}", *training, *([f"evaluation.also={written(also)}"] * bool(also))], seed
        )
        for seed in seeds
        for training, also in tested.items()
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


def chosen_datasets(names: Sequence[str], root: str | None) -> list[str]:
    """The datasets of Table 1, or those that are named: the table's own in its order, then others.

    A folder of pairs that has no training set of its own is tested with the model that Rain12 is tested with, unless
    it says another ("./mine@rain200h").

    Args:
        names: as `dataset_spec` takes them; empty for all of the table.
        root: folder that holds the published datasets; None for the embedded ones.

    Raises:
        UserError: one can be no column, or two would be the same.
    """
    every = table_datasets(embedded=root is None)
    if not names:
        return every
    found: dict[str, str] = {}
    for name in names:
        word = _column(name, root, dataset_spec(every[0]).training)
        if column_key(word) in found:
            raise UserError(
                f"--datasets: {found[column_key(word)]} and {word} are both called {column_key(word)}"
            )
        found[column_key(word)] = word
    return sorted(found.values(), key=lambda word: every.index(word) if word in every else len(every))


def _column(name: str, root: str | None, default: str) -> str:
    """A column's dataset with what its model is trained on, where that is not what its entry says.

    Raises:
        UserError: it can be no column.
    """
    spec = dataset_spec(name)
    if not spec.paired or spec.rendered:
        raise UserError(
            f"--datasets {name}: has no clean pictures of its own to compare with"
            + "; derain table 2 scores photographs" * (not spec.paired)
        )
    if name.partition("@")[0] == "folder":
        raise UserError(f"--datasets {name}: name the folder itself, such as /data/mine or ./mine")
    trained_on = dataset_spec(spec.training) if spec.training in DATASETS else spec
    if root is None and spec.root is None and not spec.embedded:
        raise UserError(f"--datasets {name}: needs --data FOLDER, the folder that it lies in or below")
    if root is not None and (spec.embedded or trained_on.embedded):
        raise UserError(f"--datasets {name}: embedded sets are columns of the table without --data")
    if trained_on.rendered or not trained_on.paired or trained_on.name == "folder":
        raise UserError(f"--datasets {name}: {spec.training} cannot be trained on for a table")
    if "train" not in trained_on.splits:
        raise UserError(
            f"--datasets {name}: {trained_on.name} has no training pictures; its model trains on {trained_on.training}"
        )
    if root is None and not trained_on.embedded and trained_on is not spec:
        raise UserError(f"--datasets {name}: training on {spec.training} needs --data FOLDER")
    if spec.root is None or spec.name in DATASETS:
        return name
    folder = Path(spec.root).absolute()
    if not folder.is_dir():
        raise UserError(f"--datasets {name}: no such folder")
    if spec.trains_on is not None:
        return f"{folder}@{spec.trains_on}"
    from benchmark.data.layouts import find

    splits = {found.split for found in find(folder, judge=False)}
    return str(folder) if {"train", "test"} <= splits else f"{folder}@{default}"


def common(recipe: str, root: str | None, out: str) -> list[str]:
    """The words that all runs of a plan have."""
    return [f"recipe={recipe}", f"out={out}", *([f"data.root={root}"] if root is not None else [])]


def _networks(models: Sequence[str]) -> list[str]:
    if list(models) == [NONE]:
        return []
    if models:
        return [catalog.network(m).name for m in models]
    return [name for name, entry in catalog.networks().items() if entry.published]


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
    before = [
        f"model={model}",
        f"data={dataset}",
        *words_of({k: v for k, v in base.items() if k not in asked}),
    ]
    return [
        planner.plan([*before, *words_of(own)], seed, f"{study} {row}", [(study, row)])
        for row, own in settings.items()
        for seed in seeds
    ]


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of the command line."""
    return [f"{key}={written(value)}" for key, value in settings.items()]


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
    return _told_apart(tuple(found.values()))


def _told_apart(runs: tuple[Planned, ...]) -> tuple[Planned, ...]:
    """The runs, those of one label with the words in theirs that not all of them have."""
    alike: dict[str, list[set[str]]] = {}
    for run in runs:
        alike.setdefault(run.label, []).append(set(run.words))
    shared = {label: set.intersection(*words) for label, words in alike.items()}
    found = []
    for run in runs:
        own = [word for word in run.words if word not in shared[run.label]]
        found.append(dataclasses.replace(run, label=" ".join([run.label, *own])))
    return tuple(found)


def _look(name: str, root: str | None, splits: Sequence[str] = ()) -> None:
    from benchmark.data.layouts import find_split

    if root is not None and not Path(root).is_dir():
        raise UserError(f"--data {root}: no such folder")
    for split in splits or dataset_spec(name).splits:
        find_split(dataset_spec(name), root, split)
