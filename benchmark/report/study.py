"""What `derain study` keeps, and what follows from it by arithmetic: S1, S2, S3 of results/study/protocol.md.

The primary outcome is PSNR-Y on `PRIMARY`; its differences have intervals over scenes and seeds
(`benchmark.report.intervals`). The tables are in `studytables`, the claims in `hypotheses`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark import catalog
from benchmark.errors import UserError
from benchmark.reading import json_of, text_of
from benchmark.report.intervals import Estimate, mean_interval

PRIMARY = "scenes-heavy"

Array = NDArray[np.float64]
Run = Mapping[str, Any]
"""A run as it is kept: rows, model, seed, steps, rate, scores by test set, cost, provenance."""


@dataclass(frozen=True)
class Scores:
    """A row's scores on one test set: (seeds, pictures), with the seeds and names of the pictures."""

    seeds: tuple[int, ...]
    pictures: tuple[str, ...]
    values: Array


@dataclass(frozen=True)
class Study:
    """All kept runs, and the test sets' pictures by name of the set."""

    runs: Sequence[Run]
    sets: Mapping[str, Mapping[str, Any]]

    def of(self, study: str, row: str) -> list[Run]:
        """The runs of a row, by seed."""
        return sorted((r for r in self.runs if [study, row] in r["rows"]), key=lambda r: r["seed"])

    def rows(self, *parts: str) -> list[tuple[str, str]]:
        """Part and row of all runs of some parts, in the order of the runs."""
        return list(dict.fromkeys((p, row) for run in self.runs for p, row in run["rows"] if p in parts))

    def scores(self, study: str, row: str, test_set: str = PRIMARY, metric: str = "psnr") -> Scores | None:
        """What a row scored; None where no run of it was tested there."""
        runs = [r for r in self.of(study, row) if test_set in r["scores"]]
        if not runs:
            return None
        pictures = tuple(self.sets[test_set]["pictures"])
        values = np.array([r["scores"][test_set][metric] for r in runs], dtype=float)
        return Scores(tuple(r["seed"] for r in runs), pictures, values)

    def contrast(self, weights: Mapping[tuple[str, str], float], metric: str = "psnr") -> Estimate | None:
        """A weighted sum of rows on the primary set, over the seeds that all have."""
        found = {key: self.scores(*key, metric=metric) for key in weights}
        present = {key: scores for key, scores in found.items() if scores is not None}
        if len(present) < len(weights):
            return None
        common = sorted(set.intersection(*(set(s.seeds) for s in present.values())))
        if not common:
            return None
        total = sum(
            weights[key] * s.values[[s.seeds.index(seed) for seed in common]] for key, s in present.items()
        )
        return mean_interval(total, next(iter(present.values())).pictures, common)


def read_kept(path: Path) -> Any:
    """What a file that the study keeps says.

    Raises:
        UserError: it is not there, or is no JSON.
    """
    try:
        return json_of(text_of(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read ({reason}); bring it back as it was kept") from None


def read_study(folder: Path) -> Study:
    """The runs in `folder/runs`, by name, and the pictures of their test sets in `folder/sets.json`.

    Raises:
        UserError: no runs are kept there, a file is broken, a run has not one score for each picture of a test set, or
            a test set of one name is not the same one to two runs.
    """
    kept = {path: read_kept(path) for path in sorted((folder / "runs").glob("*.json"))}
    if not kept:
        raise UserError(f"{folder}: no runs are kept there; derain study PHOTOGRAPHS does and keeps them")
    sets = read_kept(folder / "sets.json")
    digests: dict[str, tuple[Path, str]] = {}
    for path, run in kept.items():
        for name, scores in run["scores"].items():
            if name not in sets:
                raise UserError(f"{path}: was tested on '{name}', which {folder / 'sets.json'} does not have")
            count = len(sets[name]["pictures"])
            for metric, values in scores.items():
                if len(values) != count:
                    raise UserError(
                        f"{path}: {len(values)} values of {metric} on '{name}', whose pictures in "
                        f"{folder / 'sets.json'} are {count}"
                    )
        for name, digest in (run.get("data") or {}).get("test", {}).items():
            first, known = digests.setdefault(name, (path, digest))
            if digest != known:
                raise UserError(
                    f"{path}: its test set '{name}' ({digest}) is not that of {first} ({known}): their scores "
                    "cannot be compared; move one away"
                )
    return Study(list(kept.values()), sets)


def length_curves(study: Study) -> dict[str, dict[int, float]]:
    """Network: steps: mean PSNR-Y on the primary set; the steps of S1 among them."""
    curves: dict[str, dict[int, float]] = {}
    for run in study.runs:
        asked = [row for part, row in run["rows"] if part == "lengths"]
        if asked:
            curves.setdefault(run["model"], {})
    for run in study.runs:
        part = {part for part, _ in run["rows"]}
        if run["model"] in curves and run["seed"] == 0 and part & {"lengths", "networks"}:
            curves[run["model"]][run["steps"]] = float(np.mean(run["scores"][PRIMARY]["psnr"]))
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


S1 = ("networks", "energy")
"""Those whose rows are S1's networks, at one width or another."""
ENERGIES = {"45nm": "energy_uj", "lemaire": "energy_lemaire_uj"}
"""Conventions of the figures of quality against energy, and where a kept run has the energy."""


def shares(study: Study, own: tuple[str, str], whole: tuple[str, str]) -> dict[str, float | None]:
    """By convention, a row's energy as a share of another's: means over the seeds that both have."""
    found: dict[str, float | None] = {}
    for convention, key in ENERGIES.items():
        one, other = (
            {run["seed"]: float((run.get("cost") or {}).get(key) or 0) for run in study.of(*row)}
            for row in (own, whole)
        )
        seeds = [seed for seed in one if one[seed] and other.get(seed)]
        found[convention] = sum(one[s] for s in seeds) / sum(other[s] for s in seeds) if seeds else None
    return found


def of_s1(row: str) -> bool:
    """Whether a row of the part `energy` is a network of S1 at some width, not one in the ablations' setting."""
    return row.partition("@")[0] in catalog.networks()


def _with_width(row: str) -> str:
    """What a row of S1, or one of its other widths, is called."""
    name, _, width = row.partition("@")
    title = catalog.network(name).title
    return f"{title}, {width.replace('@', '·')}" if width else title


@dataclass(frozen=True)
class AtEnergy:
    """A network of one width: its mean score on the primary set, and its mean energy over seeds in µJ."""

    label: str
    family: str
    energy_uj: float
    score: Estimate
    front: bool = False


def at_energies(study: Study, convention: str) -> list[AtEnergy]:
    """S1's networks and their other widths by energy; those are on the front that no other of less energy beats."""
    found = []
    for part, row in study.rows(*S1):
        scores, told = study.scores(part, row), _by_seed(study, (part, row), convention)
        # rows of the ablations' network were trained for fewer steps
        if scores is None or not told or (part == "energy" and not of_s1(row)):
            continue
        score = mean_interval(scores.values, scores.pictures, scores.seeds)
        family = catalog.network(row.partition("@")[0]).family
        found.append(AtEnergy(_with_width(row), family, _mean_point(told)[1], score))
    found.sort(key=lambda one: one.energy_uj)
    best = -np.inf
    for place, one in enumerate(found):
        if one.score.mean > best:
            found[place], best = replace(one, front=True), one.score.mean
    return found


AGAINST = "nafnet"
"""The network without spikes that others are compared with at equal score."""


@dataclass(frozen=True)
class AtScore:
    """What a spiking network costs beside `AGAINST` of the width that scores as high.

    Attributes:
        label: the network's, with its width.
        psnr: dB, mean on the primary set.
        energy_uj: its own, mean over seeds.
        against_uj: of `AGAINST` at the same score; None where no width of it scored so high.
        bounded: whether `AGAINST` scores higher at each width, so that `against_uj` is that of its cheapest, a bound.
        ends: least and greatest `energy_uj / against_uj` of a seed; None with fewer than two seeds.
        rate: its spike rate, of 1, mean over seeds.
        meets: the spike rate at which both cost the same; None where it costs more without any spike.
        width: of the cheapest `AGAINST` whose mean is at least as high; None where none is.
        less: PSNR-Y less that of this one, in dB; None where there is none, or no common seed.
    """

    label: str
    psnr: float
    energy_uj: float
    against_uj: float | None
    bounded: bool
    ends: tuple[float, float] | None
    rate: float
    meets: float | None
    width: int | None
    less: Estimate | None


def at_equal_score(study: Study, convention: str, silent: Mapping[str, float]) -> list[AtScore]:
    """Every spiking network of S1 at every width, against `AGAINST` at the same score; by energy.

    Between two widths the logarithm of the energy of `AGAINST` is taken as linear in its score. Of the seeds that all
    its widths have.

    Args:
        study: what is kept.
        convention: one of `ENERGIES`.
        silent: energy in µJ without any spike, by row; rows that are not in it are left out.
    """
    rows = {part: _by_seed(study, part, convention) for part in study.rows(*S1)}
    widths = [part for part, told in rows.items() if part[1].partition("@")[0] == AGAINST and told]
    seeds = set.intersection(*(set(rows[part]) for part in widths)) if widths else set()
    rows = {part: {s: at for s, at in told.items() if s in seeds} for part, told in rows.items()}
    others = [rows[part] for part in widths if seeds]
    means = [_mean_point(told) for told in others]
    by_energy = sorted(zip(means, widths, strict=False), key=lambda at: at[0][1])
    found = []
    for part, told in rows.items():
        row = part[1]
        if row not in silent or not told:
            continue
        psnr, energy = _mean_point(told)
        against, bounded = _energy_at(means, psnr)
        by_seed = [
            (own, _energy_at([other[seed] for other in others if seed in other], score)[0])
            for seed, (score, own) in told.items()
        ]
        ratios = [own / other for own, other in by_seed if other is not None]
        rate = float(np.mean([run["cost"]["rate"] for run in study.of(*part) if run["seed"] in seeds]))
        meets = None
        if against is not None and against >= silent[row]:
            meets = rate * (against - silent[row]) / (energy - silent[row])
        ends = (min(ratios), max(ratios)) if len(ratios) > 1 else None
        above = next((part for (score, _), part in by_energy if score >= psnr), None)
        width = study.of(*above)[0]["options"]["width"] if above else None
        less = study.contrast({part: 1.0, above: -1.0}) if above else None
        found.append(
            AtScore(_with_width(row), psnr, energy, against, bounded, ends, rate, meets, width, less)
        )
    return sorted(found, key=lambda one: one.energy_uj)


def _by_seed(study: Study, part: tuple[str, str], convention: str) -> dict[int, tuple[float, float]]:
    """By seed, a row's mean score on the primary set and its energy."""
    key = ENERGIES[convention]
    return {
        run["seed"]: (float(np.mean(run["scores"][PRIMARY]["psnr"])), float(run["cost"][key]))
        for run in study.of(*part)
        if PRIMARY in run["scores"] and (run.get("cost") or {}).get(key)
    }


def _mean_point(by_seed: Mapping[int, tuple[float, float]]) -> tuple[float, float]:
    score, energy = np.mean(list(by_seed.values()), axis=0)
    return float(score), float(energy)


def _energy_at(points: Sequence[tuple[float, float]], score: float) -> tuple[float | None, bool]:
    """Energy at a score between points (score, energy), and whether it is that of the cheapest, which scores higher."""
    rising: list[tuple[float, float]] = []
    for psnr, energy in sorted(points, key=lambda p: p[1]):
        if not rising or psnr > rising[-1][0]:
            rising.append((psnr, energy))
    if not rising or score > rising[-1][0]:
        return None, False
    scores, energies = zip(*rising, strict=True)
    return float(np.exp(np.interp(score, scores, np.log(energies)))), bool(score < scores[0])
