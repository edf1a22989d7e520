"""The study's tables, as pure functions of the runs that `derain study` keeps: S1, S2, S3 of results/study/protocol.md.

The primary outcome is PSNR-Y on `PRIMARY`; its differences have intervals over scenes and seeds
(`benchmark.report.intervals`), corrected by Holm within a table. What a claim came to follows from them by the rules
of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark import catalog
from benchmark.report.figures import Difference
from benchmark.report.intervals import LEVEL, Estimate, holm, mean_interval
from benchmark.text.table import BEST, TIED, Cell, Column, Row, Table

PRIMARY = "scenes-heavy"
COMPARABLE = 0.5
"""dB: an interval within ± this supports that two are comparable."""
LOST = 0.3
"""dB: what ESDNet-S may lose (H9)."""
SHARE = 1 / 8
"""Of the whole network's energy: what ESDNet-S may need (H8)."""

Array = NDArray[np.float64]
Run = Mapping[str, Any]
"""A run as it is kept: rows, model, seed, steps, rate, scores by test set, cost, provenance."""

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decided"


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


def networks_table(study: Study, seeds: int, notes: Sequence[str] = ()) -> Table:
    """S1: every network on the primary set, and its difference to ESDNet."""
    names = [n for n in catalog.networks() if study.of("networks", n)]
    rows, said = _compared(
        study, "networks", {n: catalog.network(n).title for n in names}, ("networks", "esdnet"), seeds
    )
    for name, row in zip(names, rows, strict=True):
        row.cells["rate"] = Cell(study.of("networks", name)[0]["rate"])
    return Table("networks", "S1: fourteen networks of 2 GMAC", [*_COMPARED, _RATE], rows, [*notes, *said])


def differences(table: Table) -> list[Difference]:
    """What a table has to say about differences, for its figure."""
    found = []
    families = {entry.title: entry.family for entry in catalog.networks().values()}
    for row in table.rows:
        cell, p = row.cells["difference"], row.cells["p"].value
        if cell.value is not None:
            low, high = cell.interval or (None, None)
            family = families.get(row.label, "CNN" if row.label.startswith("ANN") else "Spiking")
            found.append(Difference(row.label, family, cell.value, low, high, p is not None and p < 0.05))
    return found


def sets_table(study: Study, seeds: int, notes: Sequence[str] = ()) -> Table:
    """S1 on every test set: means, and standard deviations over seeds."""
    columns, rows = [], []
    names = [n for n in catalog.networks() if study.of("networks", n)]
    for test_set in study.sets:
        columns.append(Column(f"{test_set}_psnr", f"{test_set}\nPSNR-Y", 2, difference=False))
        columns.append(Column(f"{test_set}_ssim", "SSIM-Y", 4, difference=False))
    cells = {
        f"{name}_{metric}": Cell(float(np.mean(told[metric])))
        for name, told in study.sets.items()
        for metric in ("psnr", "ssim")
    }
    rows.append(Row("Input", cells))
    for name in names:
        row = Row(catalog.network(name).title)
        for test_set in study.sets:
            for metric in ("psnr", "ssim"):
                scores = study.scores("networks", name, test_set, metric)
                row.cells[f"{test_set}_{metric}"] = _mean(scores, seeds)
        rows.append(row)
    return Table("networks_sets", "S1 on every test set", columns, rows, notes)


def ablation(study: Study, name: str, seeds: int, notes: Sequence[str] = ()) -> Table:
    """S2: the rows of an ablation study, and their differences to the whole ESDNet."""
    declared = catalog.study(name)
    labels = {v.name: v.label for v in declared.variants if study.of(name, v.name)}
    whole = next((row for row in labels if ["table3", "SRB"] in study.of(name, row)[0]["rows"]), None)
    rows, said = _compared(study, name, labels, None if whole is None else (name, whole), seeds)
    return Table(name, f"S2: {declared.title}", _COMPARED, rows, [*notes, *said])


def matched_table(study: Study, of: tuple[str, str], seeds: int, notes: Sequence[str] = ()) -> Table:
    """S2 at equal energy: rows of the ablations at other widths, and their differences to the whole ESDNet (`of`)."""
    labels = {}
    for key in _rows_of(study, "matched"):
        name, _, row = key.partition("/")
        labels[key] = f"{_label(name, row)}, dim {study.of('matched', key)[0]['options']['dim']}"
    rows, said = _compared(study, "matched", labels, of, seeds)
    rows = [Row(_label(*of), _cells(study, *of, seeds)), *rows]
    return Table("matched", "S2 at the energy of the whole ESDNet", _COMPARED, rows, [*notes, *said])


def saving_table(study: Study, of: tuple[str, str], seeds: int, notes: Sequence[str] = ()) -> Table:
    """ESDNet-S at other time steps and widths: differences to the whole ESDNet (`of`), share of its energy."""
    labels = {row: row for row in _rows_of(study, "energy") if not _of_s1(row)}
    rows, said = _compared(study, "energy", labels, of, seeds)
    rows = [Row(_label(*of), _cells(study, *of, seeds)), *rows]
    for part, row in zip([of, *(("energy", label) for label in labels)], rows, strict=True):
        runs = study.of(*part)
        row.cells["parameters_k"] = Cell(runs[0]["parameters"] / 1e3 if runs else None)
        for convention, ratio in shares(study, part, of).items():
            row.cells[f"share_{convention}"] = Cell(None if ratio is None else 100 * ratio)
    lost = []
    for label in labels:
        estimate = study.contrast({("energy", label): 1.0, of: -1.0})
        lost.append(f"{label}: {no_further_below(estimate, LOST)}")
    said.append(
        f"Whether the 95 % interval lies above −{LOST} dB (supported) or below it: {'; '.join(lost)}."
    )
    columns = [
        *_COMPARED,
        Column("parameters_k", "Parameters\n(k)", 1, difference=False),
        *(Column(f"share_{c}", f"Of ESDNet's\nenergy, {c} (%)", 1, difference=False) for c in ENERGIES),
    ]
    return Table("saving", "ESDNet-S beside the whole ESDNet", columns, rows, [*notes, *said])


def _rows_of(study: Study, part: str) -> list[str]:
    """The rows of a part, in the order of the runs."""
    return list(dict.fromkeys(row for run in study.runs for p, row in run["rows"] if p == part))


def _of_s1(row: str) -> bool:
    """Whether a row of the part `energy` is a network of S1 at some width, not one in the ablations' setting."""
    return row.partition("@")[0] in catalog.networks()


def lengths_table(study: Study, notes: Sequence[str] = ()) -> Table:
    """S3: PSNR-Y on the primary set against steps, one seed."""
    curves = length_curves(study)
    steps = sorted({s for curve in curves.values() for s in curve})
    columns = [Column(str(s), f"{s:,} steps", 2, difference=False) for s in steps]
    rows = [
        Row(catalog.network(name).title, {str(s): Cell(curve[s]) for s in curve})
        for name, curve in curves.items()
    ]
    return Table("lengths", "S3: PSNR-Y on scenes-heavy against training steps, seed 0", columns, rows, notes)


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


ENERGIES = {"45nm": "energy_uj", "lemaire": "energy_lemaire_uj"}
"""Conventions of the figures of quality against energy, and where a kept run has the energy."""


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
    rows = dict.fromkeys(
        (p, row) for run in study.runs for p, row in run["rows"] if p in ("networks", "energy")
    )
    for part, row in rows:
        runs, scores = study.of(part, row), study.scores(part, row)
        energies = [(run.get("cost") or {}).get(ENERGIES[convention]) for run in runs]
        known = [e for e in energies if e is not None]
        # rows of the ablations' network were trained for fewer steps
        if scores is None or not known or (part == "energy" and not _of_s1(row)):
            continue
        name, _, width = row.partition("@")
        entry = catalog.network(name)
        label = f"{entry.title}, {width.replace('@', '·')}" if width else entry.title
        score = mean_interval(scores.values, scores.pictures, scores.seeds)
        found.append(AtEnergy(label, entry.family, float(np.mean(known)), score))
    found.sort(key=lambda one: one.energy_uj)
    best = -np.inf
    for place, one in enumerate(found):
        if one.score.mean > best:
            found[place], best = replace(one, front=True), one.score.mean
    return found


def energy_table(study: Study, notes: Sequence[str] = ()) -> Table:
    """Quality against energy: a row for each network and width, by energy under the first convention."""
    fronts = {c: {one.label: one for one in at_energies(study, c)} for c in ENERGIES}
    columns = [Column("psnr", f"PSNR-Y\n{PRIMARY}", 2, difference=False)]
    columns += [Column(c, f"Energy, {c}\n(µJ)", 0, difference=False) for c in ENERGIES]
    rows = []
    for label in dict.fromkeys(label for front in fronts.values() for label in front):
        one = next(front[label] for front in fronts.values() if label in front)
        score = one.score
        interval = None if score.low is None or score.high is None else (score.low, score.high)
        cells = {"psnr": Cell(score.mean, interval=interval)}
        for convention, front in fronts.items():
            if label in front:
                mark = BEST if front[label].front else ""
                cells[convention] = Cell(front[label].energy_uj, mark=mark)
            else:
                cells[convention] = Cell(reason="not counted")
        rows.append(Row(label, cells))
    about = "Bold energies: no network of less has a higher mean. In brackets the 95 % interval over scenes and seeds."
    return Table("energy", "Quality against energy", columns, rows, [*notes, about])


_COMPARED = (
    Column("psnr", "PSNR-Y\nscenes-heavy", 2, difference=False),
    Column("ssim", "SSIM-Y\nscenes-heavy", 4, difference=False),
    Column("difference", "PSNR-Y less\nESDNet's", 2, difference=False),
    Column("p", "p (Holm)", 3, difference=False),
    Column("operations_g", "Operations\n(G)", 2, difference=False),
    Column("macs_g", "of them MACs\n(G)", 2, difference=False),
    Column("spikes", "Spike rate\n(%)", 1, difference=False),
    Column("energy_uj", "Energy, 45nm\n(µJ)", 0, difference=False),
)
_RATE = Column("rate", "Rate\nchosen", 3, difference=False)
_RULE = (
    "Means over seeds and scenes ± standard deviation over seeds. The difference is paired by seed and scene; in "
    "brackets its 95 % interval, beside it p after Holm's correction for the comparisons of this table. Bold: told to "
    "be above ESDNet; ≈: not told from it. Operations, spike rates and energy are of one 256 × 256 picture, of the "
    "networks as they were trained."
)


def _compared(
    study: Study, part: str, labels: Mapping[str, str], reference: tuple[str, str] | None, seeds: int
) -> tuple[list[Row], list[str]]:
    """Rows beside the one that they are compared with, and what is to be said under them."""
    found = {
        name: study.contrast({(part, name): 1.0, reference: -1.0})
        for name in labels
        if reference is not None and (part, name) != reference
    }
    usable = {n: e for n, e in found.items() if e is not None and e.bound_p is not None}
    corrected = dict(zip(usable, holm([e.bound_p or 0.0 for e in usable.values()]), strict=True))
    rows = []
    for name, label in labels.items():
        cells = _cells(study, part, name, seeds)
        estimate = found.get(name)
        if (part, name) == reference:
            cells["difference"] = cells["p"] = Cell(reason="the network that the others are compared with")
        elif estimate is None:
            cells["difference"] = cells["p"] = Cell(reason="no seed that both have")
        else:
            p = corrected.get(name)
            interval = None if estimate.low is None else (estimate.low, estimate.high or 0.0)
            told = p is not None and p < 0.05
            mark = "" if p is None else BEST if told and estimate.mean > 0 else "" if told else TIED
            cells["difference"] = Cell(estimate.mean, interval=interval, mark=mark)
            cells["p"] = Cell(p, reason=estimate.withheld)
        rows.append(Row(label, cells))
    least = [r for e in usable.values() if (r := e.resolution((1 - LEVEL) / len(usable))) is not None]
    said = [_RULE]
    if least:
        said.append(
            f"Resolution, the smallest difference that could have been told ({1 - LEVEL:.0%} over {len(usable)} "
            f"comparisons): PSNR-Y {float(np.median(least)):.2f} dB (median; {min(least):.2f} to {max(least):.2f})."
        )
    rainy = study.sets[PRIMARY]
    given = (float(np.mean(rainy[metric])) for metric in ("psnr", "ssim"))
    return rows, [*said, "The rainy input: PSNR-Y {:.2f} dB, SSIM-Y {:.4f}.".format(*given)]


def _label(study: str, row: str) -> str:
    return next(v.label for v in catalog.study(study).variants if v.name == row)


def _cells(study: Study, part: str, name: str, seeds: int) -> dict[str, Cell]:
    """A row's scores and costs."""
    cells = {m: _mean(study.scores(part, name, PRIMARY, m), seeds) for m in ("psnr", "ssim")}
    return cells | _costs(study.of(part, name))


def _mean(scores: Scores | None, wanted: int) -> Cell:
    if scores is None:
        return Cell(reason="not tested")
    by_seed = scores.values.mean(axis=1)
    spread = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None
    return Cell(float(by_seed.mean()), deviation=spread, n=len(by_seed), wanted=wanted)


def _costs(runs: Iterable[Run]) -> dict[str, Cell]:
    costs = [r["cost"] for r in runs if r.get("cost")]
    if not costs:
        return {}
    cells = {}
    for key, name, scale in (
        ("operations_g", "operations", 1e9),
        ("macs_g", "macs", 1e9),
        ("spikes", "rate", 1e-2),
        ("energy_uj", "energy_uj", 1.0),
    ):
        values = [c[name] / scale for c in costs if c.get(name) is not None]
        cells[key] = Cell(float(np.mean(values))) if values else Cell(reason="no spikes")
    return cells


def verdict(estimate: Estimate | None, p: float | None) -> str:
    """Of a claim that something is above something: by the sign of what is told from zero."""
    if estimate is None or p is None or p >= 0.05:
        return UNDECIDED
    return SUPPORTED if estimate.mean > 0 else CONTRADICTED


def comparable(estimate: Estimate | None) -> str:
    """Of a claim that two are alike: whether the interval lies within ± `COMPARABLE`, or outside."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return UNDECIDED
    if estimate.low > -COMPARABLE and estimate.high < COMPARABLE:
        return SUPPORTED
    return CONTRADICTED if estimate.low > COMPARABLE or estimate.high < -COMPARABLE else UNDECIDED


def no_further_below(estimate: Estimate | None, lost: float) -> str:
    """Of a claim that something is at most so much below: whether the interval lies above that, or below."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return UNDECIDED
    return SUPPORTED if estimate.low > -lost else CONTRADICTED if estimate.high < -lost else UNDECIDED


@dataclass(frozen=True)
class Claim:
    """A hypothesis of the protocol: what is above what, or alike, or at most `lost` below."""

    key: str
    words: str
    weights: Mapping[tuple[str, str], float]
    metric: str = "psnr"
    alike: bool = False
    lost: float | None = None

    @property
    def by_interval(self) -> bool:
        """Whether its interval decides, and not a p."""
        return self.alike or self.lost is not None

    def verdict(self, estimate: Estimate | None, p: float | None) -> str:
        """What it came to; `p` is corrected for the comparisons of the hypothesis."""
        if self.alike:
            return comparable(estimate)
        if self.lost is not None:
            return no_further_below(estimate, self.lost)
        return verdict(estimate, p)


def claims() -> list[Claim]:
    """H1 to H7 and H9 of results/study/protocol.md: those about scores."""
    found: list[Claim] = []
    for name, entry in catalog.networks().items():
        if _claimed(entry) and entry.family != "Spiking":
            pair = {("networks", "esdnet"): 1.0, ("networks", name): -1.0}
            found.append(Claim("H1", f"ESDNet is comparable to {entry.title}", pair, alike=True))
    spiking = [n for n, e in catalog.networks().items() if _claimed(e) and e.family == "Spiking"]
    others = [n for n, e in catalog.networks().items() if _claimed(e) and e.family != "Spiking"]
    family = {("networks", n): -1 / len(spiking) for n in spiking}
    family |= {("networks", n): 1 / len(others) for n in others}
    found.append(Claim("H2", "networks that do not spike are above those that do", family))
    found += [
        Claim("H3", "VLIF is above ESDNet", _above("networks", "vlif", "esdnet")),
        Claim("H3", "SpikeRain is above ESDNet", _above("networks", "spikerain", "esdnet")),
        Claim("H4", "SRB is above SEW-ResNet", _above("table3", "SRB", "SEW-ResNet")),
        Claim("H4", "SEW-ResNet is above MS-ResNet", _above("table3", "SEW-ResNet", "MS-ResNet")),
        Claim("H4", "SRB is comparable to ANN-ResNet", _above("table3", "SRB", "ANN-ResNet"), alike=True),
        *(Claim("H5", f"T = {b} is above T = {a}", _above("table4", b, a)) for a, b in ("12", "24", "46")),
        Claim("H6", "tdBN is above BN", _above("table5", "b", "a")),
        Claim("H6", "MAU helps", _above("table5", "e", "b")),
        Claim("H6", "FRB helps", _above("table5", "d", "b")),
        *(Claim("H6", f"the whole is above ({row})", _above("table5", "f", row)) for row in "abcde"),
        Claim("H7", "1 − SSIM is above L1 in SSIM-Y", _above("loss", "1 − SSIM", "L1"), "ssim"),
        Claim("H7", "1 − SSIM is above L1 in PSNR-Y", _above("loss", "1 − SSIM", "L1")),
        Claim("H9", f"ESDNet-S loses at most {LOST} dB", _above("table3", "ESDNet-S", "SRB"), lost=LOST),
    ]
    return found


def _claimed(entry: catalog.Network) -> bool:
    return entry.is_ours() and entry.published


def _above(part: str, one: str, other: str) -> dict[tuple[str, str], float]:
    return {(part, one): 1.0, (part, other): -1.0}


def savings(study: Study) -> list[tuple[str, float | None, int]]:
    """H8: words, the share of the whole ESDNet's energy that ESDNet-S needs, of means over the seeds that both have."""
    own, whole = ("table3", "ESDNet-S"), ("table3", "SRB")
    seeds = {run["seed"] for run in study.of(*own)} & {run["seed"] for run in study.of(*whole)}
    return [
        (
            f"ESDNet-S needs at most an eighth of ESDNet's energy, {convention}",
            ratio,
            len(seeds) if ratio else 0,
        )
        for convention, ratio in shares(study, own, whole).items()
    ]


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


def _savings_rows(study: Study) -> list[Row]:
    rows = []
    for words, ratio, seeds in savings(study):
        met = UNDECIDED if ratio is None else SUPPORTED if ratio <= SHARE else CONTRADICTED
        said = "" if ratio is None else f" (1/{1 / ratio:.1f})"
        why = Cell(reason="of energies: counted, not estimated")
        cells = {"difference": why, "p": why, "least": why, "seeds": Cell(float(seeds))}
        rows.append(Row(f"H8: {words}{said} — {met}", cells))
    return rows


def claims_table(study: Study, notes: Sequence[str] = ()) -> tuple[Table, list[str]]:
    """What each hypothesis came to: difference, interval, p after Holm within the hypothesis; and the verdicts."""
    every = claims()
    found = [study.contrast(c.weights, c.metric) for c in every]
    verdicts, rows = [], []
    for key in dict.fromkeys(c.key for c in every):
        if key == "H9":
            rows += _savings_rows(study)
        own = [(c, e) for c, e in zip(every, found, strict=True) if c.key == key]
        tested = [e.bound_p for c, e in own if not c.by_interval and e is not None and e.bound_p is not None]
        corrected = iter(holm([p for p in tested if p is not None]))
        for claim, estimate in own:
            p = None
            if not claim.by_interval and estimate is not None and estimate.bound_p is not None:
                p = next(corrected)
            verdicts.append(claim.verdict(estimate, p))
            cells: dict[str, Cell] = {}
            if estimate is not None:
                interval = None if estimate.low is None else (estimate.low, estimate.high or 0.0)
                cells["difference"] = Cell(estimate.mean, interval=interval)
                reason = "judged by its interval" if claim.by_interval else estimate.withheld
                least = None if p is None else estimate.resolution((1 - LEVEL) / len(tested))
                cells["p"], cells["least"] = Cell(p, reason=reason), Cell(least, reason=reason)
                cells["seeds"] = Cell(float(estimate.seeds or 0))
            rows.append(Row(f"{key}: {claim.words} — {verdicts[-1]}", cells))
    columns = (
        Column("difference", "Difference\n(dB; SSIM where named)", 3, difference=False),
        Column("p", "p (Holm)", 3, difference=False),
        Column("least", "Smallest\ntold", 3, difference=False),
        Column("seeds", "Seeds", 0, difference=False),
    )
    return Table("claims", "What the hypotheses came to", columns, rows, notes), verdicts
