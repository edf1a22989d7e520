"""What the statistics say of records: marks in a table's cells, the sentences beneath it, and the table of ranks.

All comparisons of a table are one family (`Family`): its columns are looked at together, and in each the networks are
compared with the best, which is found by looking, so that all pairs count, or with a row that is named beforehand.
A column in which one comparison is withheld (`benchmark.report.intervals`) has no marks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.data.specs import dataset_spec, result_key, scene_of
from benchmark.means import counted
from benchmark.report.intervals import (
    LEVEL,
    Estimate,
    Moments,
    Part,
    by_scene,
    estimate,
    holm,
    moments,
    rank_range,
)
from benchmark.text.table import BEST, TIED, Cell, Column, Row, Table

Record = Mapping[str, Any]
Array = NDArray[np.float64]

FEW_SEEDS = 5
"""Embedded tables of fewer seeds have no marks, ranks or printed figures: they show that the suite works."""


@dataclass(frozen=True)
class Scores:
    """A network's score on every picture of a test set (or of several), for every seed.

    Attributes:
        seeds: of its runs; None for weights that nobody trained here, which are as they are.
        images: their names.
        values: (seeds, images), (1, images) without seeds; what is not finite is left out of comparisons, for all
            networks alike.
    """

    seeds: tuple[int, ...] | None
    images: tuple[str, ...]
    values: Array

    def under(self, seeds: Sequence[int] | None) -> Array:
        """The values of some of its seeds; where it has none, the same for each."""
        if seeds is None:
            return self.values
        if self.seeds is None:
            return np.repeat(self.values, len(seeds), axis=0)
        return self.values[[self.seeds.index(s) for s in seeds]]


@dataclass(frozen=True)
class Compared:
    """The networks of a column beside each other, on the pictures that all have.

    Attributes:
        scores: network: its scores, on the same pictures.
        scenes: of each picture.
        weights: of each picture in the mean, with sum 1.
        left_out: how many pictures are not compared, because some network lacks them or has an infinite score there.
        told_by: what the scenes were known by, in words; empty where the records say them.
    """

    scores: Mapping[str, Scores]
    scenes: tuple[str, ...] = ()
    weights: Array = field(default_factory=lambda: np.zeros(0))
    left_out: int = 0
    told_by: tuple[str, ...] = ()

    @property
    def means(self) -> dict[str, float]:
        """The mean of each network over its seeds and the pictures."""
        return {name: float(s.values.mean(axis=0) @ self.weights) for name, s in self.scores.items()}

    def pairs(self, reference: str | None = None) -> dict[tuple[str, str], Estimate]:
        """The differences first − second of all pairs, or of those with one row, over the seeds that both have.

        Pairs without a common seed are as those of one.
        """
        wanted = [p for p in itertools.combinations(self.scores, 2) if reference is None or reference in p]
        alike: dict[tuple[int, ...] | None, list[tuple[str, str]]] = {}
        for one, two in wanted:
            a, b = self.scores[one].seeds, self.scores[two].seeds
            seeds = a if b is None else b if a is None else tuple(s for s in a if s in b)
            alike.setdefault(seeds, []).append((one, two))
        found: dict[tuple[str, str], Estimate] = {}
        for seeds, some in alike.items():
            if seeds == ():
                none = estimate(Moments(np.array(math.nan), ()), 1, None)
                found |= {pair: dataclasses.replace(none, withheld="no seed in common") for pair in some}
                continue
            apart = np.stack(
                [self.scores[one].under(seeds) - self.scores[two].under(seeds) for one, two in some]
            )
            cells, weights = by_scene(apart, self.scenes, self.weights)
            together = moments(cells, weights, seeds is not None)
            counts = (None if seeds is None else len(seeds), len(weights))
            found |= {pair: estimate(_one(together, i), *counts) for i, pair in enumerate(some)}
        return {pair: found[pair] for pair in wanted}


def _one(many: Moments, index: int) -> Moments:
    def part(p: Part) -> Part:
        return Part(p.variance[index], p.df)

    rest = None if many.residual is None else part(many.residual)
    return Moments(many.mean[index], tuple(map(part, many.parts)), rest)


def results_on(record: Record, dataset: str) -> Mapping[str, Any]:
    """What a record has of a test set; empty where it was not tested on it."""
    found: Mapping[str, Any] = record["results"].get(result_key(dataset), {})
    return found


def scores(records: Sequence[Record], dataset: str, column: str) -> Scores | None:
    """A network's scores from its records, on the images that all seeds have; None where the records have no images."""
    runs: dict[int, dict[str, float]] = {}
    for record in records:
        rows = results_on(record, dataset).get("images")
        if rows:
            with contextlib.suppress(KeyError):
                runs[int(record["config"]["seed"])] = {
                    row["name"]: counted(column, row[column]) for row in rows
                }
    seeds = tuple(sorted(runs))
    images = tuple(sorted(set.intersection(*(set(runs[s]) for s in seeds)))) if seeds else ()
    if not images:
        return None
    given = all(record.get("row") for record in records)
    return Scores(
        None if given and len(seeds) == 1 else seeds,
        images,
        np.array([[runs[s][i] for i in images] for s in seeds], dtype=float),
    )


def compare(
    own: Mapping[str, Sequence[Record]], dataset: str, column: str, scenes: Scenes | None = None
) -> Compared:
    """Networks (or variants) beside each other on one test set.

    Args:
        own: each one's records, trained on what `dataset` is tested after.
        dataset: the test set.
        column: of its images' rows.
        scenes: of the table's test sets; None: found from these records.
    """
    found = {name: s for name, r in own.items() if (s := scores(r, dataset, column)) is not None}
    scenes = scenes or Scenes(itertools.chain.from_iterable(own.values()), [dataset])
    images = {i for s in found.values() for i in s.images}
    return beside(found, {i: scenes.of(dataset, i) for i in images}, scenes.told_by(dataset))


def beside(found: Mapping[str, Scores], scenes: Mapping[str, str], told_by: Sequence[str] = ()) -> Compared:
    """Scores on the pictures that all have, and that have a finite score of all.

    Args:
        found: by network.
        scenes: of each picture.
        told_by: as `Compared` has it.
    """
    if not found:
        return Compared({})
    every = set().union(*(s.images for s in found.values()))
    common = sorted(set.intersection(*(set(s.images) for s in found.values())))
    values = {}
    for name, s in found.items():
        at = {image: i for i, image in enumerate(s.images)}
        values[name] = s.values[:, [at[i] for i in common]]
    finite = np.ones(len(common), dtype=bool)
    for v in values.values():
        finite &= np.isfinite(v).all(axis=0)
    count = int(finite.sum())
    if count == 0:
        return Compared({}, left_out=len(every))
    names = tuple(n for n, f in zip(common, finite, strict=True) if f)
    return Compared(
        {name: Scores(s.seeds, names, values[name][:, finite]) for name, s in found.items()},
        tuple(scenes[n] for n in names),
        np.full(count, 1 / count),
        len(every) - count,
        tuple(told_by),
    )


class Scenes:
    """The scene of every picture of some test sets.

    Pictures are of one scene where records say so, or where they have the same clean pixels, in different sets too.
    Records from before they said either are read by what the names tell (`benchmark.data.specs.scene_of`); else each
    picture is taken for a scene.

    Args:
        records: of runs.
        datasets: the test sets.
    """

    def __init__(self, records: Iterable[Record], datasets: Iterable[str]) -> None:
        self._parent: dict[str, str] = {}
        self._said: dict[
            str, dict[str, bool]
        ] = {}  # dataset: picture: whether a record says its clean pixels
        datasets = list(datasets)
        for record in records:
            for dataset in datasets:
                spec = dataset_spec(dataset)
                said = self._said.setdefault(dataset, {})
                for row in results_on(record, dataset).get("images") or ():
                    name, clean = row["name"], row.get("clean")
                    if said.get(name) or (name in said and not clean):
                        continue
                    said[name] = bool(clean)
                    for link in (row.get("scene") or scene_of(spec, name), clean):
                        if link:
                            self._parent[self._root(str(link))] = self._root(f"{dataset}/{name}")

    def _root(self, node: str) -> str:
        parent = self._parent
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def of(self, dataset: str, name: str) -> str:
        """The scene of a picture: the same text for pictures of the same scene."""
        return self._root(f"{dataset}/{name}")

    def told_by(self, dataset: str) -> tuple[str, ...]:
        """A sentence, if records do not say the scenes of a set."""
        spec = dataset_spec(dataset)
        without = [name for name, said in self._said.get(dataset, {}).items() if not said]
        if not without:
            return ()
        by_name = all(scene_of(spec, name) for name in without)
        how = "the names of the pictures tell them" if by_name else "every picture is taken for one"
        return (f"{spec.title}: the records are from before they said the scenes; {how}.",)


def average(sets: Sequence[Compared]) -> Compared:
    """The mean over test sets, of those networks and seeds that are in all of them; scenes that sets share are one."""
    names = [n for n in sets[0].scores if all(n in s.scores for s in sets)] if sets else []
    if not names:
        return Compared({})
    found = {}
    images = tuple(f"{i}:{n}" for i, s in enumerate(sets) for n in next(iter(s.scores.values())).images)
    for name in names:
        own = [s.scores[name] for s in sets]
        seeds = own[0].seeds
        if seeds is not None:
            seeds = tuple(x for x in seeds if all(s.seeds is None or x in s.seeds for s in own))
            if not seeds:
                continue
        found[name] = Scores(seeds, images, np.concatenate([s.under(seeds) for s in own], axis=1))
    return Compared(
        found,
        tuple(itertools.chain.from_iterable(s.scenes for s in sets)),
        np.concatenate([s.weights / len(sets) for s in sets]),
        sum(s.left_out for s in sets),
        tuple(dict.fromkeys(itertools.chain.from_iterable(s.told_by for s in sets))),
    )


class Family:
    """All comparisons of a table, corrected for their number together.

    Args:
        columns: by key, in the table's order.
        reference: the row that all are compared with; None for the best of each column.
        metrics: of each column, by key; resolutions are told for each metric.
    """

    def __init__(
        self,
        columns: Mapping[str, Compared],
        reference: str | None = None,
        metrics: Mapping[str, str] | None = None,
    ) -> None:
        self.columns = {key: c for key, c in columns.items() if len(c.scores) > 1}
        self.reference = reference
        self._metrics = metrics or {}
        self.pairs = {
            key: c.pairs(reference if reference in c.scores else None) for key, c in self.columns.items()
        }
        every = [(key, pair) for key, pairs in self.pairs.items() for pair in pairs]
        adjusted = holm([_p(self.pairs[key][pair]) for key, pair in every])
        self._told: dict[str, dict[frozenset[str], bool]] = {key: {} for key in self.pairs}
        for (key, pair), p in zip(every, adjusted, strict=True):
            self._told[key][frozenset(pair)] = p < 1 - LEVEL
        self.count = len(every)

    def withheld(self, key: str) -> str:
        """Why a column has no marks; empty where it may have them."""
        reasons = [e.withheld for e in self.pairs.get(key, {}).values() if e.withheld]
        return reasons[0] if reasons else ""

    @property
    def marks(self) -> bool:
        """Whether any column may have marks."""
        return any(not self.withheld(key) for key in self.columns)

    def told(self, key: str) -> Mapping[frozenset[str], bool]:
        """Whether the two of each pair of a column are told apart."""
        return self._told.get(key, {})

    def resolutions(self) -> dict[str, tuple[float, float]]:
        """For each metric the median and the largest, over comparisons, of the least difference that would be told."""
        found: dict[str, list[float]] = {}
        for key, pairs in self.pairs.items():
            for e in pairs.values():
                least = e.resolution((1 - LEVEL) / self.count)
                if least is not None:
                    found.setdefault(self._metrics.get(key, key), []).append(least)
        return {metric: (statistics.median(some), max(some)) for metric, some in found.items()}

    def given_weights(self) -> dict[str, tuple[float, float]]:
        """The same for these very weights, over scenes alone; of columns in which some network has one seed."""
        fixed = {}
        for key, c in self.columns.items():
            means = {n: s.values.mean(axis=0, keepdims=True) for n, s in c.scores.items()}
            own = {n: Scores(None, c.scores[n].images, v) for n, v in means.items()}
            fixed[key] = dataclasses.replace(c, scores=own)
        return Family(fixed, self.reference, self._metrics).resolutions()


def _p(e: Estimate) -> float:
    p = e.bound_p
    return 1.0 if p is None or e.withheld else p


def marked(
    cells: Mapping[str, Cell],
    family: Family,
    key: str,
    reference: str | None = None,
    lower_better: bool = False,
) -> dict[str, Cell]:
    """The cells of a column, the best marked, and those that cannot be told from it; unmarked where that is withheld.

    Args:
        cells: by network.
        family: of the table.
        key: of the column in it.
        reference: with which to compare instead of the best.
        lower_better: whether the lowest is the best, instead of the highest.
    """
    values = {n: c.value for n, c in cells.items() if c.value is not None and math.isfinite(c.value)}
    if len(values) < 2 or key not in family.columns or family.withheld(key):
        return dict(cells)
    best = (min if lower_better else max)(values, key=lambda n: values[n])
    told = family.told(key)
    beside_it = reference or best
    result = {}
    for name, cell in cells.items():
        pair = frozenset((name, beside_it))
        tied = name != beside_it and name in values and not told.get(pair, True)
        marks = [*([BEST] if name == best else []), *([TIED] if tied else [])]
        result[name] = dataclasses.replace(cell, mark=" ".join(marks))
    return result


def sentences(family: Family, digits: Mapping[str, int], reference: str = "the best") -> list[str]:
    """What the marks mean, why there are none, and what differences could have been told; nothing without comparisons.

    Args:
        family: of the table.
        digits: behind the point, by metric.
        reference: what the networks are compared with, in words.
    """
    if not family.columns:
        return []
    said = []
    counted = f"{family.count:,} comparisons of this table"
    pairs = "" if family.reference else "; the best is found by looking, so that every pair counts"
    if family.marks:
        said.append(
            f"Bold: the best of a column. ≈: not to be told from {reference} at {LEVEL:.0%}, scenes and seeds drawn "
            f"anew, by Holm's correction over the {counted}{pairs} (`benchmark/report/intervals.py`)."
        )
    reasons: dict[str, int] = {}
    for key in family.columns:
        if why := family.withheld(key):
            reasons[why] = reasons.get(why, 0) + 1
    if reasons:
        of = "" if not family.marks else f" in {sum(reasons.values())} of {len(family.columns)} columns"
        said.append(f"No marks{of}: {'; '.join(reasons)}. Nothing here says which is better.")
    said += _resolution(family, digits)
    scenes = sorted({len(set(c.scenes)) for c in family.columns.values()})
    pictures = sorted({len(c.scenes) for c in family.columns.values()})
    said.append(
        f"The unit is the scene, pictures of one photograph being drawn together: {_range(pictures)} pictures of "
        f"{_range(scenes)} scenes a column."
    )
    said += dict.fromkeys(itertools.chain.from_iterable(c.told_by for c in family.columns.values()))
    left_out = max(c.left_out for c in family.columns.values())
    if left_out:
        said.append(f"Pictures without a finite score of every network are not compared (up to {left_out}).")
    return said


def _resolution(family: Family, digits: Mapping[str, int]) -> list[str]:
    def told(found: Mapping[str, tuple[float, float]]) -> str:
        return "; ".join(
            f"{metric} {_small(middle, digits.get(metric, 2))} (median; {_small(most, digits.get(metric, 2))} at most)"
            for metric, (middle, most) in found.items()
        )

    corrected = f"{LEVEL:.0%}, corrected for {family.count:,} comparisons"
    found = family.resolutions()
    if found:
        return [
            f"Resolution, the smallest difference that could have been told ({corrected}): {told(found)}."
        ]
    given = family.given_weights()
    if not given:
        return ["Resolution: none; no difference, however large, could have been told."]
    return [
        "Resolution: with one seed no difference of networks could have been told; one of these very weights, on other "
        f"scenes, from ({corrected}) {told(given)} on."
    ]


def _small(value: float, digits: int) -> str:
    """Rounded upwards: what is printed could have been told."""
    return f"{math.ceil(value * 10**digits - 1e-9) / 10**digits:.{digits}f}"


def _range(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def seeds_note(seeds: int) -> list[str]:
    """How several seeds are shown."""
    if seeds < 2:
        return []
    return [
        f"Mean ± sample standard deviation over {seeds} seeds; where some are missing, how many there are."
    ]


def rank_table(
    name: str,
    title: str,
    sets: Mapping[str, Sequence[Compared]],
    labels: Mapping[str, str],
    notes: Sequence[str] = (),
) -> Table | None:
    """Mean ranks over test sets, and what the comparisons leave of them; None where no rank may be told.

    Args:
        name: of the files it is written to.
        title: for people.
        sets: for each metric ("PSNR-Y"), the networks on every test set.
        labels: each network's, in the order of the rows.
        notes: printed with the table.
    """
    family = Family(
        {f"{metric} {i}": c for metric, some in sets.items() for i, c in enumerate(some)},
        metrics={f"{metric} {i}": metric for metric, some in sets.items() for i in range(len(some))},
    )
    if not family.columns or any(family.withheld(key) for key in family.columns):
        return None
    columns = []
    rows: dict[str, dict[str, Cell]] = {n: {} for n in labels}
    for metric, some in sets.items():
        rank = f"{metric.partition('-')[0].lower()}_rank"
        columns.append(Column(rank, f"Mean rank\n{metric}", 2))
        found = _ranks(family, metric, some)
        top = min((mean for mean, _, _ in found.values()), default=0.0)
        for network, cells in rows.items():
            if network not in found:
                cells[rank] = Cell(reason="not measured on all test sets")
                continue
            mean, low, high = found[network]
            mark = BEST if mean == top and len(found) > 1 else ""
            cells[rank] = Cell(mean, mark=mark, interval=(low, high))
    ranked = [
        "In brackets: the mean over test sets of the lowest and of the highest rank that the comparisons leave, at "
        f"{LEVEL:.0%} for all networks and sets together (Holm over {family.count:,} pairs, scenes and seeds drawn "
        "anew). Ranks are among the networks that were measured on all test sets, 1 the best."
    ]
    return Table(
        name, title, columns, [Row(labels[n], cells) for n, cells in rows.items()], [*ranked, *notes]
    )


def _ranks(family: Family, metric: str, sets: Sequence[Compared]) -> dict[str, tuple[float, float, float]]:
    """Mean rank over sets with the lowest and the highest, of every network that is on all."""
    names = set.intersection(*(set(s.scores) for s in sets)) if sets else set()
    found: dict[str, list[tuple[float, int, int]]] = {n: [] for n in names}
    for i, one in enumerate(sets):
        means = {n: m for n, m in one.means.items() if n in names}
        for n in names:
            above = sum((m > means[n]) + 0.5 * (m == means[n]) for m in means.values())
            found[n].append((above + 0.5, *rank_range(n, means, family.told(f"{metric} {i}"))))
    return {
        n: (statistics.fmean(a), statistics.fmean(b), statistics.fmean(c))
        for n, places in found.items()
        for a, b, c in [tuple(zip(*places, strict=True))]
    }
