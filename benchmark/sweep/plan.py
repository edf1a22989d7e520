"""Plans: the runs that a table needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import catalog
from benchmark.config import RunConfig, resolve
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


def _look(name: str, root: str) -> None:
    from benchmark.data.layouts import find_split

    if not Path(root).is_dir():
        raise UserError(f"DATA={root}: no such folder")
    for split in dataset_spec(name).splits:
        find_split(dataset_spec(name), root, split)
