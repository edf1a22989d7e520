"""What is said of the report's figures: beneath each, and to those who do not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.cli.showing import Shown, complexities, file_of, image_scores, stand_in, trainings
from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError, WorkError
from benchmark.report import evidence, seen
from benchmark.report.paper import results
from benchmark.report.parts import Drawn
from benchmark.report.rows import INPUT
from benchmark.text.table import Table


def drawn(paths: Sequence[Path], found: Shown, runs: Path) -> dict[str, Drawn]:
    """The figures of these runs, by the name of their files."""
    points: dict[str, list[tuple[str, float, float, float]]] = {}
    if any(p.stem.startswith("figure1") for p in paths):
        try:
            points = {
                kind: [(p.label, p.params_m, p.operations_g, p.psnr) for p in some]
                for kind, some in complexities(found, runs).items()
            }
        except (UserError, WorkError):  # said when they were drawn
            points = {}
    stands = stand_in(found.by_set)
    measured_on = "no set" if stands is None else dataset_spec(stands).title
    if stands and dataset_spec(stands).embedded:
        measured_on += ", which stands for Rain200L"
    logged = trainings(found)
    made = {}
    for path in paths:
        kind, _, rest = path.stem.partition("_")
        if kind == "figure1":
            said = {
                "printed": "Figure 1 as the paper printed it: Rain200L.",
                "counted": "Figure 1 with the printed PSNR, and parameters and operations as this suite counts them.",
                "measured": f"Figure 1 as measured here, recipe {found.recipe}, on {measured_on}.",
            }[rest]
            told = seen.scatter(points.get(rest, []))
        elif kind == "figure2":
            title = next(r.title for r in found.every if file_of(r) == rest)
            said = f"Figure 2 for {title}: pixels, membrane and spike rate of a patch with and without rain."
            told = (
                "Maps of one layer by time step, above of the rainy patch, below of the clean one; beneath them, "
                "with and without rain, how often which pixel value occurs, and the mean membrane and spike rate "
                "by time step."
            )
        elif kind == "distribution":
            title = dataset_spec(rest).title
            said = f"{title}: PSNR-Y of every test image."
            told = _of_images(found, rest)
        elif kind == "curves":
            some = logged.get(rest, [])
            said = f"{rest}: training loss by step, a panel a network" + (
                ", and PSNR-Y of the images that were held out."
                if any(t.validation for t in some)
                else "; no images were held out, so that there is no validation."
            )
            told = seen.of_losses({t.label: t.loss for t in some})
        else:
            said, told = f"{rest.replace('_', ', ', 1)}.", ""
        made[path.stem] = Drawn(path, said, told)
    return made


def _of_images(found: Shown, dataset: str) -> str:
    """The means of the networks, and how far single pictures reach."""
    rows, rainy = image_scores(dataset, found.by_set[dataset])
    means = {r.label: sum(r.psnr) / len(r.psnr) for r in rows} | {INPUT: sum(rainy) / len(rainy)}
    every = [v for r in rows for v in r.psnr]
    return f"Means: {seen.ranking(means)} Single restored images: {seen.reach(every, ' dB')}."


def of_tables(number: int, paths: Sequence[Path], tables: Sequence[Table]) -> list[Drawn]:
    """Tables 3 to 5 as figures."""
    said = f"Table {number} drawn: PSNR-Y against energy."
    by_name = {t.name: t for t in tables}
    return [Drawn(path, said, _of_ablation(by_name.get(path.stem))) for path in paths]


def _of_ablation(table: Table | None) -> str:
    if table is None:
        return ""
    keys = ("trained_energy_45nm_uj", "trained_energy_uj")
    return seen.against_energy(table, "psnr", keys, "as trained, 45nm")


def pictures(folder: str, pattern: str) -> list[Path]:
    """Figures that are kept with the suite."""
    return sorted(results(folder).glob(f"{pattern}.png"))


def quality(study: Mapping[str, Table]) -> list[Drawn]:
    """The study's score against energy."""
    made = []
    for path in pictures("study", "quality-energy-*"):
        convention = path.stem.rpartition("-")[2]
        said = (
            f"The study: PSNR-Y on scenes-heavy against the energy of a 256 × 256 picture, convention {convention}. "
            "A number behind a name is the width of a variant (of SpikeRain width and growth); without one it is the "
            "variant of 2 GMAC, of ESDNet-S its own size. An interval that reaches the frame goes on beyond it; the "
            "table has it whole."
        )
        table = study.get("energy")
        told = seen.against_energy(table, "psnr", (convention,), convention) if table else ""
        made.append(Drawn(path, said, told))
    return made


_FOREST = {
    "differences": "The ablations: PSNR-Y on scenes-heavy less that of the whole ESDNet, with 95 % intervals; filled "
    "where told from 0.",
    "differences-networks": "The fourteen networks: PSNR-Y on scenes-heavy less that of ESDNet, with 95 % intervals; "
    "filled where told from 0.",
}


def differences(study: Mapping[str, Table]) -> list[Drawn]:
    """The study's differences, and its scores by steps."""
    of = {"differences": ("table3", "table4", "table5", "loss"), "differences-networks": ("networks",)}
    made = []
    for path in pictures("study", "differences*"):
        tables = [study[name] for name in of.get(path.stem, ()) if name in study]
        said = _FOREST.get(path.stem, f"The study: {path.stem}.")
        made.append(Drawn(path, said, seen.of_differences(tables)))
    for path in pictures("study", "lengths"):
        said = "PSNR-Y on scenes-heavy by training steps, one seed."
        told = seen.of_lengths(study["lengths"]) if "lengths" in study else ""
        made.append(Drawn(path, said, told))
    return made


def balance() -> list[Drawn]:
    """Energy by spike rate."""
    made = []
    for path in pictures("cost", "energy-rate-*"):
        convention = path.stem.rpartition("-")[2]
        said = (
            f"Energy of a 256 × 256 picture by spike rate, convention {convention}: where a spiking network's line "
            "is above another's it takes more."
        )
        told = seen.of_balance(evidence.breakeven(), convention)
        made.append(Drawn(path, said, told))
    return made
