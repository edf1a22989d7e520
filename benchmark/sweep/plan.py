"""Plans: the runs that a table needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmark import catalog
from benchmark.config import RunConfig, resolve, run_name, training_identity
from benchmark.data.specs import DATASETS, dataset_spec
from benchmark.errors import UserError

REGIMES = ("rain12", "rain200l", "rain200h", "rain1200")  # the columns of the paper's Table 1, in its order


@dataclass(frozen=True)
class Plan:
    """The runs of a table, in the order in which they start, and what cannot be run with the reason."""

    runs: tuple[RunConfig, ...]
    absent: dict[str, str]  # dataset: reason


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
) -> Plan:
    """The runs of Table 1: every network on every training set.

    Args:
        recipe: name of a recipe.
        root: folder that holds the published datasets; None for the embedded ones.
        models: names of networks; empty for all.
        seeds: one run each.
        words: further `key=value` settings, the same for all runs.
        out: folder of the runs.

    Raises:
        UserError: an unknown name, or none of the datasets is below `root`.
    """
    names = [catalog.network(m).name for m in models] or list(catalog.networks())
    absent: dict[str, str] = {}
    trained_on: list[str] = []
    for name in table_datasets(embedded=root is None):
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
    runs = []
    for seed in seeds:
        for data in trained_on:
            for model in names:
                own = [f"model={model}", f"data={data}", f"recipe={recipe}", f"seed={seed}", f"out={out}"]
                if root is not None:
                    own.append(f"data.root={root}")
                runs.append(resolve([*own, *words]))
    return Plan(tuple(runs), absent)


def rows(
    model: str,
    settings: Mapping[str, Mapping[str, Any]],
    recipe: str,
    root: str | None,
    seeds: Iterable[int] = (0,),
    base: Mapping[str, Any] = MappingProxyType({}),
    words: Sequence[str] = (),
    out: str = "runs",
) -> dict[str, tuple[RunConfig, ...]]:
    """The runs of each row of an ablation table: variants of one network on Rain200H, or the embedded heavy rain.

    Args:
        model: the network that is varied.
        settings: for each row, what makes its variant.
        recipe: name of a recipe.
        root: folder that holds Rain200H; None for the embedded set.
        seeds: one run each.
        base: settings of all rows.
        words: the user's `key=value` settings for all rows; they win over `base`.
        out: folder of the runs.

    Returns:
        Row: its runs, one for each seed. Rows of the same question have runs of the same identity.

    Raises:
        UserError: an unknown name or setting, a setting of the user's that the rows themselves vary, or the dataset
            is not below `root`.
    """
    varied = {key for own in settings.values() for key in own}
    for word in words:
        if word.partition("=")[0] in varied:
            raise UserError(f"'{word}': the rows of this table differ in it; leave it out")
    dataset = next(
        d.name for d in DATASETS.values() if d.columns == "rain200h" and d.embedded == (root is None)
    )
    common = [f"model={model}", f"data={dataset}", f"recipe={recipe}", f"out={out}"]
    if root is not None:
        _look(dataset, root)
        common.append(f"data.root={root}")
    common += [*_words(base), *words]
    return {
        row: tuple(resolve([*common, f"seed={seed}", *_words(own)]) for seed in seeds)
        for row, own in settings.items()
    }


def _words(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]


def unique(runs: Iterable[RunConfig]) -> tuple[RunConfig, ...]:
    """The runs, each once: those of the same identity are one."""
    return tuple({run_name(c): c for c in runs}.values())


def waves(runs: Sequence[RunConfig]) -> list[tuple[RunConfig, ...]]:
    """The runs in two groups: those that train, then those that only test what an earlier one has trained."""
    first = {training_identity(c): c for c in reversed(runs)}
    trained = [c for c in runs if first[training_identity(c)] is c]
    tested = [c for c in runs if first[training_identity(c)] is not c]
    return [tuple(group) for group in (trained, tested) if group]


def _look(name: str, root: str) -> None:
    from benchmark.data.layouts import find_split

    if not Path(root).is_dir():
        raise UserError(f"DATA={root}: no such folder")
    for split in dataset_spec(name).splits:
        find_split(dataset_spec(name), root, split)
