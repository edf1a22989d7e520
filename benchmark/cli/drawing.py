"""The study's tables and figures, from what `derain study` keeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark import catalog
from benchmark.cli.tables import made_by
from benchmark.cost.counter import measure_cost
from benchmark.models import create_model
from benchmark.report import figures, hypotheses
from benchmark.report import studytables as made
from benchmark.report.study import ENERGIES, PRIMARY, S1, Study, at_energies, length_curves, of_s1, read_study
from benchmark.text import output
from benchmark.text.table import write

if TYPE_CHECKING:
    from benchmark.cli.study import Declared


def draw(folder: Path, asked: Declared) -> list[Path]:
    """The study's tables and figure, from what is kept in a folder; returns the files.

    Raises:
        UserError: nothing is kept there, or what is does not fit together (`read_study`).
    """
    study = read_study(folder)
    blocks = [("energy", row) for row in asked.energy["blocks"]]
    order = [("matched", row) for row in asked.matched["dims"]] + blocks
    place = {row: number for number, row in enumerate(order)}
    kept = sorted(study.runs, key=lambda run: max(place.get(tuple(row), -1) for row in run["rows"]))
    study = Study(kept, study.sets)
    part, _, row = asked.matched["of"].partition("/")
    whole = (part, row)

    def by(*wanted: str | tuple[str, str]) -> list[str]:
        """What made the runs of some parts, or of single rows; of all, if none is named."""
        runs = [
            run
            for run in kept
            if not wanted or any(p in wanted or (p, row) in wanted for p, row in run["rows"])
        ]
        return made_by(
            [{**r, "config": {"model": {"name": r["model"]}, "recipe": {"name": "study"}}} for r in runs]
        )

    seeds = len(asked.networks["seeds"])
    tables = []
    if study.rows("networks"):
        tables += [make(study, seeds, by("networks")) for make in (made.networks_table, made.sets_table)]
    for name in asked.ablations["studies"]:
        if study.rows(name):
            tables.append(made.ablation(study, name, len(asked.ablations["seeds"]), by(name)))
    if study.rows("matched"):
        tables.append(made.matched_table(study, whole, len(asked.matched["seeds"]), by("matched", whole)))
    curves = length_curves(study)
    paths: list[Path] = []
    forest = {t.title.partition(": ")[2]: t for t in tables if t.name in asked.ablations["studies"]}
    for name, groups in {
        "differences": {title: made.differences(table) for title, table in forest.items()},
        "differences-networks": {t.title: made.differences(t) for t in tables if t.name == "networks"},
    }.items():
        if any(groups.values()):
            what = f"PSNR-Y on {PRIMARY} less that of the whole ESDNet"
            paths += figures.differences(groups, folder, name, what)
    if curves:
        tables.append(made.lengths_table(study, by("lengths", *(("networks", n) for n in curves))))
        shown = [figures.Lengths(e.title, e.family, curves[n]) for n in curves for e in [catalog.network(n)]]
        paths += figures.lengths(shown, folder, "lengths", PRIMARY)
    if study.rows("energy"):
        saving = made.saving_table(study, whole, len(asked.energy["seeds"]), by(whole, *blocks))
        tables += [saving] if len(saving.rows) > 1 else []
        widths = [row for row in study.rows(*S1) if of_s1(row[1])]
        tables.append(made.energy_table(study, by(*widths)))
        equal = made.equal_score_table(study, _silent(study), by(*widths))
        tables += [equal] if equal.rows else []
        for convention in ENERGIES:
            points = [
                figures.Quality(
                    p.label, p.family, p.energy_uj, p.score.mean, p.score.low, p.score.high, p.front
                )
                for p in at_energies(study, convention)
            ]
            if points:
                name = f"quality-energy-{convention}"
                paths += figures.quality(points, folder, name, convention, PRIMARY)
    tables.append(hypotheses.claims_table(study, by())[0])
    output.tables(tables)
    for table in tables:
        paths += write(table, folder)
    return paths


def _silent(study: Study) -> dict[str, dict[str, float]]:
    """By convention and row, what the spiking networks of S1 take without any spike, in µJ for a 256² picture."""
    found: dict[str, dict[str, float]] = {convention: {} for convention in ENERGIES}
    for part, row in study.rows(*S1):
        name, run = row.partition("@")[0], study.of(part, row)[0]
        if name in catalog.networks() and (run.get("cost") or {}).get("rate") is not None:
            cost = measure_cost(create_model(name, **run["options"]), 256)
            for convention, by_row in found.items():
                by_row[row] = cost.under(convention).energy_at_uj(0.0)
    return found
