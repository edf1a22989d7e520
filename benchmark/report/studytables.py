"""The study's tables, as pure functions of what `derain study` keeps.

Differences are corrected by Holm within a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmark import catalog
from benchmark.report.figures import Difference
from benchmark.report.hypotheses import LOST, no_further_below
from benchmark.report.intervals import LEVEL, holm
from benchmark.report.study import (
    AGAINST,
    ENERGIES,
    PRIMARY,
    Run,
    Scores,
    Study,
    at_energies,
    at_equal_score,
    length_curves,
    of_s1,
    shares,
)
from benchmark.text.table import BEST, TIED, Cell, Column, Row, Table


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
            family = families.get(row.label, "CNN" if row.cells["spikes"].value is None else "Spiking")
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
    for _, key in study.rows("matched"):
        name, _, row = key.partition("/")
        labels[key] = f"{_label(name, row)}, dim {study.of('matched', key)[0]['options']['dim']}"
    rows, said = _compared(study, "matched", labels, of, seeds)
    rows = [Row(_label(*of), _cells(study, *of, seeds) | _of_the_reference()), *rows]
    return Table("matched", "S2 at the energy of the whole ESDNet", _COMPARED, rows, [*notes, *said])


def saving_table(study: Study, of: tuple[str, str], seeds: int, notes: Sequence[str] = ()) -> Table:
    """ESDNet-S at other time steps and widths: differences to the whole ESDNet (`of`), share of its energy."""
    labels = {row: row for _, row in study.rows("energy") if not of_s1(row)}
    rows, said = _compared(study, "energy", labels, of, seeds)
    rows = [Row(_label(*of), _cells(study, *of, seeds) | _of_the_reference()), *rows]
    for part, row in zip([of, *(("energy", label) for label in labels)], rows, strict=True):
        runs = study.of(*part)
        row.cells["parameters_k"] = Cell(runs[0]["parameters"] / 1e3 if runs else None)
        for convention, ratio in shares(study, part, of).items():
            row.cells[f"share_{convention}"] = Cell(None if ratio is None else 100 * ratio)
    lost = [f"{row.label}: {no_further_below(row.cells['difference'].interval, LOST)}" for row in rows[1:]]
    said.append(
        f"Whether the 95 % interval lies above −{LOST} dB (supported) or below it: {'; '.join(lost)}."
    )
    columns = [
        *_COMPARED,
        Column("parameters_k", "Parameters\n(k)", 1, difference=False),
        *(Column(f"share_{c}", f"Of ESDNet's\nenergy, {c} (%)", 1, difference=False) for c in ENERGIES),
    ]
    return Table("saving", "ESDNet-S beside the whole ESDNet", columns, rows, [*notes, *said])


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


def energy_table(study: Study, notes: Sequence[str] = ()) -> Table:
    """Quality against energy: a row for each network and width, by energy under the first convention."""
    fronts = {c: {one.label: one for one in at_energies(study, c)} for c in ENERGIES}
    columns = [Column("psnr", f"PSNR-Y\n{PRIMARY}", 2, difference=False)]
    columns += [Column(c, f"Energy, {c}\n(µJ)", 0, difference=False) for c in ENERGIES]
    rows = []
    for label in dict.fromkeys(label for front in fronts.values() for label in front):
        one = next(front[label] for front in fronts.values() if label in front)
        score = one.score
        cells = {"psnr": Cell(score.mean, interval=score.interval)}
        for convention, front in fronts.items():
            if label in front:
                mark = BEST if front[label].front else ""
                cells[convention] = Cell(front[label].energy_uj, mark=mark)
            else:
                cells[convention] = Cell(reason="not counted")
        rows.append(Row(label, cells))
    about = "Bold energies: no network of less has a higher mean. In brackets the 95 % interval over scenes and seeds."
    return Table("energy", "Quality against energy", columns, rows, [*notes, about])


def equal_score_table(
    study: Study, silent: Mapping[str, Mapping[str, float]], notes: Sequence[str] = ()
) -> Table:
    """Spiking networks beside NAFNet of the width that scores as high: energies, and the spike rate where they meet.

    Args:
        study: what is kept.
        silent: by convention and row, the energy in µJ without any spike.
        notes: what made it.
    """
    title = catalog.network(AGAINST).title
    columns = [
        Column("psnr", f"PSNR-Y\n{PRIMARY}", 2, difference=False),
        Column("width", f"{title}\nabove it: width", 0, difference=False),
        Column("less", "PSNR-Y less\nthat one's", 2, difference=False),
        Column("rate", "Spike rate\n(%)", 1, difference=False),
    ]
    rows: dict[str, Row] = {}
    bounded = []
    for convention in ENERGIES:
        columns += [
            Column(f"{convention}_uj", f"Energy,\n{convention} (µJ)", 0, difference=False),
            Column(f"{convention}_against_uj", f"{title}'s at\nthis score", 0, difference=False),
            Column(f"{convention}_ratio", "Ratio", 2, difference=False),
            Column(f"{convention}_meets", "Alike at\na rate of (%)", 1, difference=False),
        ]
        for one in at_equal_score(study, convention, silent[convention]):
            row = rows.setdefault(one.label, Row(one.label))
            unreached = f"{title} scored as high at no width"
            row.cells.update(
                psnr=Cell(one.psnr),
                rate=Cell(100 * one.rate),
                width=Cell(one.width, reason=unreached),
                less=Cell(one.less.mean, interval=one.less.interval)
                if one.less
                else Cell(None, reason=unreached),
            )
            row.cells[f"{convention}_uj"] = Cell(one.energy_uj)
            there = one.against_uj is not None
            row.cells[f"{convention}_against_uj"] = Cell(one.against_uj, reason=unreached)
            row.cells[f"{convention}_ratio"] = Cell(
                one.energy_uj / one.against_uj if one.against_uj else None,
                interval=one.ends,
                reason=unreached,
            )
            row.cells[f"{convention}_meets"] = Cell(
                None if one.meets is None else 100 * one.meets,
                reason="more without any spike" if there else unreached,
            )
            if one.bounded and one.label not in bounded:
                bounded.append(one.label)
    about = [
        f"{title}'s energy at a score lies between those of its widths, the logarithm taken as linear in the score; "
        f"beside it PSNR-Y less that of the cheapest {title} whose mean is at least as high. In "
        "brackets the 95 % interval of the difference, and the least and the greatest ratio of a seed by itself, "
        "between which that of the means need not lie. A rate above 100 % is one that no network reaches. A "
        "description, without a test.",
    ]
    if bounded:
        which = "any of these" if len(bounded) == len(rows) else "; ".join(bounded)
        about.append(
            f"{title} scores higher at each of its widths than {which}: there its energy is that of its narrowest "
            "width, and what it needs is less."
        )
    name = f"Spiking networks beside {title} at the same score"
    return Table("equal-score", name, columns, list(rows.values()), [*notes, *about])


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
    "be above ESDNet; ≈: not told from it; neither is set below five seeds. Operations, spike rates and energy are of "
    "one 256 × 256 picture, of the networks as they were trained, at the mean spike rates of the middle 256 × 256 of "
    "the first eight test pictures."
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
            cells |= _of_the_reference()
        elif estimate is None:
            cells["difference"] = cells["p"] = Cell(reason="no seed that both have")
        else:
            p = corrected.get(name)
            told = p is not None and p < 0.05
            marked = p is not None and not estimate.withheld
            mark = (BEST if estimate.mean > 0 else "") if told else TIED
            cells["difference"] = Cell(estimate.mean, interval=estimate.interval, mark=mark if marked else "")
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


def _of_the_reference() -> dict[str, Cell]:
    return {key: Cell(reason="the network that the others are compared with") for key in ("difference", "p")}


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
