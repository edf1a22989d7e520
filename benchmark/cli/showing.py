"""Figures, from the records and weights of the runs that have been done; nothing is trained."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark import catalog
from benchmark.cli.gallery import (
    Picture,
    Run,
    find_failures,
    find_runs,
    network_of,
    restored_tests,
    test_pictures,
)
from benchmark.data.specs import DATASETS, dataset_spec
from benchmark.errors import UserError, WorkError
from benchmark.files import require_writable
from benchmark.means import counted
from benchmark.report import crops
from benchmark.report import figures as draw
from benchmark.report.paper import printed
from benchmark.report.rows import INPUT
from benchmark.run.costs import counted_costs, full_costs
from benchmark.run.current import require_current
from benchmark.run.records import Record
from benchmark.sweep.plan import table_datasets
from benchmark.sweep.rows import FOLDER as RELEASED
from benchmark.text import output

COMPARED = 2  # test pictures of each set that comparisons show


@dataclass
class Shown:
    """What there is to show of one recipe.

    Attributes:
        recipe: its name.
        runs: trained by it.
        failures: of runs that have no record.
        given: records of rows that nobody trained here, tested on sets as the recipe's are.
        by_set: for each test set the runs and given rows that were tested on it.
    """

    recipe: str
    runs: list[Run]
    failures: list[Record]
    given: list[Run] = field(default_factory=list)
    by_set: dict[str, list[Run]] = field(default_factory=dict)

    @property
    def every(self) -> list[Run]:
        """The runs in the catalogue's order, then the given rows."""
        return [*self.runs, *self.given]

    @property
    def rows(self) -> list[str]:
        """The rows as tables know them."""
        return list(dict.fromkeys(r.row for r in self.every))

    @property
    def networks(self) -> list[str]:
        """The networks of all rows."""
        return list(dict.fromkeys(r.network for r in self.every if r.network is not None))


def find(runs: str | Path, recipe: str, models: Sequence[str] = ()) -> Shown:
    """The runs of a recipe that tables show: full networks without options of the user's, the lowest seed of each.

    With them the rows that nobody trained here (below `runs`/released) on embedded or on published sets, as the recipe
    tests on.

    Raises:
        UserError: there are none.
    """
    for name in models:
        catalog.network(name)
    folder = Path(runs) / recipe
    every = [r for r in find_runs(folder) if not models or r.model in models]
    embedded = any(r.record["config"]["recipe"].get("embedded") for r in every) or recipe == "embedded"
    given = _given(Path(runs), embedded, models)
    if not every and not given:
        raise UserError(f"{folder}: no runs are done; do some first, for example with: make table1")
    for run in [*every, *given]:
        require_current(run.record, run.folder)
    found = Shown(recipe, every, find_failures(folder), given)
    plain = [r for r in every if not r.record["config"]["model"]["options"]]
    # ablations vary one network: what they leave is not a second network of the figures
    for run in [*sorted(plain or every, key=lambda r: r.record["config"]["seed"]), *given]:
        for dataset in run.record["results"].keys() & DATASETS.keys():
            if run.record.get("row") and bool(DATASETS[dataset].embedded) != embedded:
                continue
            there = found.by_set.setdefault(dataset, [])
            if all(other.row != run.row for other in there):
                there.append(run)
    order = {name: i for i, name in enumerate(found.rows)}
    for there in found.by_set.values():
        there.sort(key=lambda r: order[r.row])
    sets = [*table_datasets(embedded=False), *table_datasets(embedded=True)]
    found.by_set = dict(
        sorted(found.by_set.items(), key=lambda item: sets.index(item[0]) if item[0] in sets else len(sets))
    )
    return found


def _given(runs: Path, embedded: bool, models: Sequence[str]) -> list[Run]:
    """Rows that nobody trained here, tested on embedded sets or on others; of a file that has changed, the newest."""
    found = [
        run
        for run in find_runs(runs / RELEASED)
        if run.record.get("row")
        and (not models or run.network in models)
        and any(DATASETS[d].embedded == embedded for d in run.record["results"].keys() & DATASETS.keys())
    ]
    newest: dict[tuple[str, Any], Run] = {}
    for run in sorted(found, key=lambda r: str(r.record.get("date", ""))):
        newest[run.row, run.record["row"].get("file")] = run
    return sorted(newest.values(), key=lambda r: r.folder.name)


def make_figures(runs: str, recipe: str, models: Sequence[str], out: Path | None) -> int:
    """Draw every figure that the runs allow; returns the exit status (1 if one could not be drawn).

    Args:
        runs: folder of the runs.
        recipe: whose runs.
        models: names of networks; empty for all.
        out: folder of the figures; None: below `runs`.
    """
    found = find(runs, recipe, models)
    folder = out or Path(runs) / "figures" / recipe
    require_writable(folder)
    paths, problems = figures(found, Path(runs), folder)
    output.wrote(paths)
    for problem in problems:
        print(f"derain: {problem}", file=sys.stderr)
    return 1 if problems else 0


def figures(found: Shown, runs: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """Draw every figure; returns the files, and what could not be drawn with the reason."""
    paths: list[Path] = []
    problems: list[str] = []

    def attempt(name: str, work: Any, *arguments: Any) -> None:
        try:
            paths.extend(work(*arguments))
        except (UserError, WorkError) as error:
            problems.append(f"{name} is not drawn: {error}")

    attempt("figure 1", _complexity, found, runs, folder)
    attempt("figure 2", _activity, found, folder)
    for dataset, there in found.by_set.items():
        attempt(f"the comparison on {dataset}", _comparisons, dataset, there, folder)
        paths += _distribution(dataset, there, folder)
    paths += _curves(found, folder)
    return paths, problems


def complexities(found: Shown, runs: Path) -> dict[str, list[draw.Point]]:
    """The points of Figure 1: as printed; the printed PSNR over true costs; and this suite's own runs.

    The PSNR is Rain200L's, as in the paper; of the runs that of the set that stands for it.
    """
    paper = printed("table1")
    known = [n for n in catalog.networks().values() if n.paper_row in paper]
    full = full_costs([n.name for n in known], runs / "costs")
    points: dict[str, list[draw.Point]] = {"printed": [], "counted": [], "measured": []}
    for network in known:
        row = paper[network.paper_row or ""]
        title = network.title.replace(" (rebuilt)", "")
        psnr = row["rain200l_psnr"]
        points["printed"].append(draw.Point(title, network.family, row["params_m"], row["flops_g"], psnr))
        cost = full[network.name]
        points["counted"].append(
            draw.Point(title, network.family, cost["params"] / 1e6, cost["operations"] / 1e9, psnr)
        )
    dataset = stand_in(found.by_set)
    for run in found.by_set.get(dataset or "", ()):
        if run.network is None:
            continue
        options = run.record["model_options"] if run.record.get("row") else run.config.options
        cost = counted_costs(run.network, options, runs / "costs")["full"]
        points["measured"].append(
            draw.Point(
                run.title,
                _family(run),
                cost["params"] / 1e6,
                cost["operations"] / 1e9,
                float(run.record["results"][dataset]["mean"]["psnr_esdnet"]),
            )
        )
    return points


def _complexity(found: Shown, runs: Path, folder: Path) -> list[Path]:
    """Figure 1 three times."""
    points = complexities(found, runs)
    dataset = stand_in(found.by_set)
    where = "Rain200L, as printed"
    most = max(p.operations_g for p in [*points["printed"], *points["counted"]])
    paths = draw.complexity(
        points["printed"],
        folder,
        "figure1_printed",
        "As printed: parameters and FLOPs of the paper's Table 1",
        where,
    )
    paths += draw.complexity(
        points["counted"],
        folder,
        "figure1_counted",
        "Parameters and operations as counted (of spiking networks: all time steps, dense)",
        where,
        most,
    )
    if points["measured"] and dataset:
        paths += draw.complexity(
            points["measured"],
            folder,
            "figure1_measured",
            f"Parameters and operations of the networks as trained here, recipe {found.recipe}"
            + " (†, §: not trained by it)" * any(r.weights or r.network for r in found.given),
            dataset_spec(dataset).title,
        )
    return paths


def stand_in(sets: Iterable[str]) -> str | None:
    """Of the sets the one that stands in Rain200L's column, which Figure 1 shows; else the first of a column."""
    of_columns = [d for d in sets if dataset_spec(d).columns]
    return next(
        (d for d in of_columns if dataset_spec(d).columns == "rain200l"), next(iter(of_columns), None)
    )


def _family(run: Run) -> str:
    return "" if run.network is None else catalog.network(run.network).family


def _activity(found: Shown, folder: Path) -> list[Path]:
    """Figure 2 of every spiking network: the first neurons, in the wettest patch of its set with most rain."""
    from benchmark.cli.inspecting import draw_patches
    from benchmark.cost.inspection import wettest
    from benchmark.data.datasets import to_tensor

    paths: list[Path] = []
    for name in found.rows:
        of = [r for r in found.every if r.row == name]
        if of[0].network is None or catalog.network(of[0].network).family != "Spiking":
            continue
        tested = [(d, r) for d, there in found.by_set.items() for r in there if r.row == name and r.weights]
        if not tested:
            raise UserError(f"no run of {name} has its weights")
        dataset, run = min(tested, key=lambda of: of[1].record["results"][of[0]]["mean"]["rainy_psnr_esdnet"])
        ((picture, pair),) = test_pictures(dataset, run.record["config"]["data"]["root"], 1).items()
        rainy, clean = (to_tensor(p) for p in pair)
        size = min(run.config.tiling[0] or 80, *rainy.shape[-2:])
        left, top = wettest((rainy - clean).abs().mean(0).numpy(), size)
        patches = [
            (title, whole[:, top : top + size, left : left + size])
            for title, whole in (("rainy", rainy), ("clean", clean))
        ]
        where = f"{run.title}, {dataset_spec(dataset).title}, {picture}"
        paths += draw_patches(
            network_of(run, "cpu"), patches, None, where, folder, f"figure2_{file_of(run)}"
        )[1]
    return paths


def file_of(run: Run) -> str:
    """What files of one row's figures are called by."""
    return str(run.record["name"]) if run.record.get("row") else run.model


def comparison_panels(
    dataset: str, there: Sequence[Run], name: str, pair: tuple[Picture, Picture], restored: dict[str, Picture]
) -> list[crops.Panel]:
    """Rainy, every network's, target; with PSNR-Y and SSIM-Y from the records, the highest PSNR-Y as the best."""
    rows = {r.title: _row(r, dataset, name) for r in there}
    first = next(iter(rows.values()))
    panels = [crops.Panel(INPUT, pair[0], _caption(first, "rainy_"))]
    scores = {title: float(rows[title].get("psnr_esdnet", "nan")) for title in restored}
    best = max((s for s in scores.values() if s == s), default=None)
    panels += [
        crops.Panel(title, picture, _caption(rows[title], ""), scores[title] == best)
        for title, picture in restored.items()
    ]
    return [*panels, crops.Panel("Target", pair[1], "PSNR-Y (dB) / SSIM-Y")]


def _row(run: Run, dataset: str, name: str) -> dict[str, Any]:
    return next((i for i in run.record["results"][dataset]["images"] if i["name"] == name), {})


def _caption(row: dict[str, Any], prefix: str) -> str:
    psnr, ssim = row.get(f"{prefix}psnr_esdnet"), row.get(f"{prefix}ssim_esdnet")
    return f"{float(psnr):.2f} / {float(ssim):.4f}" if psnr is not None and ssim is not None else ""


def restored_of(
    dataset: str, there: Iterable[Run], pairs: dict[str, tuple[Picture, Picture]]
) -> dict[str, dict[str, Picture]]:
    """Pictures restored by the runs that have their weights, or kept: {name of the picture: {row's title: pixels}}."""
    from benchmark.data.images import read_image

    made: dict[str, dict[str, Picture]] = {name: {} for name in pairs}
    for run in there:
        try:
            paths = restored_tests(run, dataset, pairs)
        except (
            UserError,
            WorkError,
        ) as error:  # weights of an older network: the others are still to be seen
            print(f"derain: {run.title} is in no picture of {dataset}: {error}", file=sys.stderr)
            continue
        for name, path in paths.items():
            made[name][run.title] = read_image(path)
    return made


def _comparisons(dataset: str, there: Sequence[Run], folder: Path) -> list[Path]:
    pairs = test_pictures(dataset, there[0].record["config"]["data"]["root"], COMPARED)
    paths: list[Path] = []
    for name, restored in restored_of(dataset, there, pairs).items():
        if not restored:
            raise UserError("none of the runs has its weights")
        panels = comparison_panels(dataset, there, name, pairs[name], restored)
        title = f"{dataset_spec(dataset).title}, {name}"
        paths += crops.comparison(panels, folder, f"comparison_{dataset}_{name}", title)
    return paths


def image_scores(dataset: str, there: Sequence[Run]) -> tuple[list[draw.Scores], list[float]]:
    """PSNR-Y in dB of every test image as it counts in means: each run's, and the rainy input's."""
    rows = [
        draw.Scores(
            r.title,
            _family(r),
            [counted("psnr_esdnet", i["psnr_esdnet"]) for i in r.record["results"][dataset]["images"]],
        )
        for r in there
    ]
    column = "rainy_psnr_esdnet"
    rainy = [counted(column, i[column]) for i in there[0].record["results"][dataset]["images"]]
    return rows, rainy


def _distribution(dataset: str, there: Sequence[Run], folder: Path) -> list[Path]:
    rows, rainy = image_scores(dataset, there)
    title = f"{dataset_spec(dataset).title}: every test image ({len(rainy)})"
    return draw.distributions(rows, rainy, folder, f"distribution_{dataset}", title)


def trainings(found: Shown) -> dict[str, list[draw.Training]]:
    """What the runs have logged, by the set that they were trained on."""
    trained: dict[str, list[Run]] = {}
    for there in found.by_set.values():
        for run in there:
            of_set = trained.setdefault(str(run.record["config"]["data"]["name"]), [])
            if run not in of_set:
                of_set.append(run)
    of_runs = {
        dataset: [
            draw.Training(r.title, _family(r), loss, logged(r.folder, "validation/psnr_y"))
            for r in runs
            if (loss := logged(r.folder, "train/loss"))
        ]
        for dataset, runs in trained.items()
    }
    return {dataset: some for dataset, some in of_runs.items() if some}


def _curves(found: Shown, folder: Path) -> list[Path]:
    paths: list[Path] = []
    for dataset, some in trainings(found).items():
        title = f"{dataset_spec(dataset).title}, recipe {found.recipe}"
        paths += draw.curves(some, folder, f"curves_{dataset}", title)
    return paths


def logged(folder: Path, column: str) -> list[tuple[float, float]]:
    """What a training logged, by step: (step, value); empty where there is nothing."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r.get(column)]
    return [(float(r["step"]), float(r[column])) for r in rows]
