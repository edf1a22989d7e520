"""The W&B workspace: the paper's tables, PSNR against energy, spike rates, training and pictures as panels.

What runs log, and under which names, is `benchmark.run.tracking`; this only arranges it. What there are panels for is
read from the records of the runs that are done: of what was not measured there is none.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import catalog
from benchmark.cli.gallery import Run, find_runs
from benchmark.data.specs import COLUMNS, DATASETS
from benchmark.errors import UserError, WorkError
from benchmark.report.paper import printed
from benchmark.run import tracking
from benchmark.spec import settings_of
from benchmark.sweep.plan import table_datasets
from benchmark.text.markup import markdown_rows

TITLES = {
    "table1": "Table 1, networks",
    "table2": "Table 2, pictures without a clean counterpart",
    "table3": "Table 3, residual blocks",
    "table4": "Table 4, time steps",
    "table5": "Table 5, components",
}
_PICTURES = 3
_STEP = "Training step"
_METRICS = (("psnr_y", "PSNR-Y (dB)"), ("ssim_y", "SSIM-Y"))
_TRAINING = (  # what is logged, what it is called, and whether on a logarithmic axis
    (tracking.LOSS, "Training loss", False),
    (tracking.VALIDATION[0], "PSNR-Y on held-out training images (dB)", False),
    (tracking.VALIDATION[1], "SSIM-Y on held-out training images", False),
    (tracking.LEARNING_RATE, "Learning rate", True),
)
_VARIED = {"table3": "Residual block", "table4": "Time steps", "table5": "Components"}
_PRINTED = {  # columns of the printed tables
    **{f"{c}_psnr": f"{DATASETS[c].title} PSNR-Y (dB)" for c in COLUMNS},
    **{f"{c}_ssim": f"{DATASETS[c].title} SSIM-Y" for c in COLUMNS},
    "average_psnr": "Average PSNR-Y (dB)",
    "average_ssim": "Average SSIM-Y",
    "psnr": "Rain200H PSNR-Y (dB)",
    "ssim": "Rain200H SSIM-Y",
    "params_m": "Parameters (M)",
    "flops_g": "FLOPs (G)",
    "energy_uj": "Energy (µJ)",
    "bn": "BN",
    "tdbn": "tdBN",
    "mau": "MAU",
    "frb": "FRB",
}


@dataclass(frozen=True)
class Measured:
    """What the runs of a recipe have measured.

    Attributes:
        datasets: test sets, those of Table 1 first, with how many pictures of them a run shows.
        tables: names of the tables that have rows of their own, or were drawn.
        spiking: whether a spiking network is among them.
        levels: of spiking networks, whose spike rates a run logged (`encoder1`), by the name of each.
        validated: whether a checkpoint was chosen on held-out images.
    """

    datasets: dict[str, int]
    tables: list[str]
    spiking: bool
    levels: list[str]
    validated: bool

    @staticmethod
    def of(runs: list[Run], tables: Path, embedded: bool) -> Measured:
        """What these runs have measured; `tables` is the folder of the tables that were drawn."""
        results = [item for run in runs for item in run.record["results"].items()]
        tested = {name: min(_PICTURES, result["mean"]["n"]) for name, result in results}
        order, known = table_datasets(embedded), catalog.networks()
        return Measured(
            datasets={
                name: tested[name] for name in [*order, *sorted(tested.keys() - {*order})] if name in tested
            },
            tables=[
                table
                for table in TITLES
                if (tables / f"{table}.md").is_file()
                or table == "table1"
                or (table in catalog.studies() and len(_rows(table, runs)) > 1)
            ],
            spiking=any(known[run.model].family == "Spiking" for run in runs if run.model in known),
            levels=sorted({level for run in runs for level in _levels(run)}),
            validated=any(run.record["training"].get("validation_psnr_y") is not None for run in runs),
        )


def _levels(run: Run) -> list[str]:
    """The levels whose spike rates a run logged, by the columns of its metrics.csv; none where it has none."""
    try:
        with (run.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error):
        return []
    start = tracking.SPIKE_RATES
    return [name.removeprefix(start) for name in columns if name.startswith(start) and name != start]


def _rows(table: str, runs: list[Run]) -> set[str]:
    """The rows of a study that runs have; every study has the whole network, so that one is not yet any of it."""
    study = catalog.study(table)
    found = set()
    for run in runs:
        settings = settings_of(run.config) if run.model == study.model else {}
        for variant in study.variants:
            if settings and all(settings.get(k) == v for k, v in {**study.base, **variant.settings}.items()):
                found.add(variant.name)
    return found


def dashboard(project: str | None, entity: str | None, runs: Path, recipe: str, dry_run: bool) -> int:
    """Build the workspace and save it at W&B, or print it.

    Args:
        project: of W&B; None: where runs are logged to.
        entity: user or team of W&B; None: the key's own.
        runs: folder of the runs, which say what was measured, and of their tables; a printed one stands in for one that
            was not drawn.
        recipe: whose runs.
        dry_run: print the workspace as JSON, and send nothing.

    Raises:
        UserError: wandb-workspaces is not installed, there is no key, or no run is done.
        WorkError: W&B did not take it.
    """
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise UserError("derain dashboard needs wandb-workspaces: pip install wandb-workspaces") from None
    if not dry_run and not tracking.has_key():
        raise UserError("no key for W&B: set WANDB_API_KEY, or log in with: wandb login (or see --dry-run)")
    done = find_runs(runs / recipe)
    if not done:
        raise UserError(
            f"{runs / recipe}: no run is done, and a workspace shows what was measured; do some first, as with: "
            "make table1"
        )
    embedded = any(run.record["config"]["recipe"].get("embedded") for run in done)
    tables = runs / "tables" / recipe
    measured = Measured.of(done, tables, embedded)
    try:
        if entity is None and not dry_run:
            import wandb

            entity = wandb.Api().default_entity
        workspace = ws.Workspace(
            entity=entity or "",
            project=project or tracking.project(),
            name="ESDNet benchmark" + (" (embedded)" if embedded else ""),
            sections=[
                ws.Section(name=name, panels=panels, is_open=i == 0)
                for i, (name, panels) in enumerate(sections(measured, tables))
            ],
        )
        if dry_run:
            model: Any = workspace._to_model()
            print(json.dumps(model.model_dump(mode="json", by_alias=True, exclude_none=True), indent=1))
            return 0
        workspace.save()
    except Exception as error:  # of the network, the server's and the package's own kinds
        raise WorkError(f"W&B did not take the workspace: {error}") from None
    print(f"workspace: {workspace.url}")
    return 0


def sections(measured: Measured, tables: Path) -> Iterator[tuple[str, list[Any]]]:
    """The sections: name and panels."""
    import wandb_workspaces.reports.v2 as panels

    for table in measured.tables:
        text = panels.MarkdownPanel(markdown=_text(table, tables))
        yield TITLES[table], [text, *_bars(table, list(measured.datasets))]
    yield (
        "PSNR against energy",
        [
            panels.ScatterPlot(  # whose axes have the names of what is logged, and no others
                title=f"{_title(dataset)}: PSNR-Y (dB, upwards) against energy of 256 × 256 pixels (µJ, "
                f"logarithmic), {counted}",
                x=panels.SummaryMetric(energy),
                y=panels.SummaryMetric(tracking.on_test(dataset, "psnr_y")),
                log_x=True,
            )
            for dataset in measured.datasets
            for counted, energy in (
                ("every operation counted", tracking.ENERGY),
                ("counted as in the paper", tracking.ENERGY_PAPER),
            )
        ],
    )
    if measured.spiking:
        yield (
            "Spike rates",
            [
                panels.LinePlot(
                    title="Share of neurons that fire in a time step, by level of the network",
                    x=tracking.STEP,
                    title_x=_STEP,
                    title_y="Spike rate (0 to 1)",
                    metric_regex=f"{tracking.SPIKE_RATES}.*",
                ),
                *(
                    panels.LinePlot(  # of one run at a time: W&B draws the histograms of a run as a map over the steps
                        title=f"How the spike rates of the channels of {level} are distributed (one run at a time)",
                        x=tracking.STEP,
                        y=[f"{tracking.SPIKE_HISTOGRAMS}{level}"],
                        title_x=_STEP,
                        title_y="Spike rate (0 to 1)",
                    )
                    for level in measured.levels
                ),
            ],
        )
    yield (
        "Training",
        [
            panels.LinePlot(title=title, x=tracking.STEP, y=[name], title_x=_STEP, title_y=title, log_y=log)
            for name, title, log in _TRAINING
            if measured.validated or name not in tracking.VALIDATION
        ],
    )
    yield (
        "Pictures",
        [
            panels.MediaBrowser(
                title=f"{_title(dataset)}: rainy, restored, target",
                media_keys=[f"{tracking.PICTURES}{dataset}/{i + 1}" for i in range(pictures)],
            )
            for dataset, pictures in measured.datasets.items()
        ],
    )
    yield "Scores", [panels.WeavePanelSummaryTable(table_name=tracking.SCORES)]


def _bars(table: str, datasets: list[str]) -> list[Any]:
    """Bar plots of a table's scores: by network, or by what its study varies."""
    import wandb_workspaces.reports.v2 as panels

    if table == "table1":
        by, named, tested = "model", "Network", datasets
    elif table in _VARIED:
        tested = [d for d in datasets if d in DATASETS and DATASETS[d].columns == "rain200h"]
        by, named = tracking.VARIANT, _VARIED[table]
    else:
        return []
    return [
        panels.BarPlot(
            title=f"{_title(dataset)}: {shown}, mean and deviation of the seeds",
            metrics=[tracking.on_test(dataset, metric)],
            groupby=by,
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            title_x=shown,
            title_y=named,
        )
        for dataset in tested
        for metric, shown in _METRICS
    ]


def _text(table: str, folder: Path) -> str:
    """A table as this suite has made it, else as the paper printed it, in Markdown."""
    made = folder / f"{table}.md"
    if made.is_file():
        return made.read_text(encoding="utf-8")
    rows = printed(table)
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    if table in _VARIED and columns[0] not in _PRINTED:  # the values of what is varied, which name the rows
        columns = columns[1:]
    lines = [
        f"{TITLES[table]}: the paper's figures; `derain table {table[-1]}` draws those measured here.",
        "",
        *markdown_rows(
            [_VARIED.get(table, "Network"), *(_PRINTED[c] for c in columns)],
            [[name, *(_figure(c, row.get(c)) for c in columns)] for name, row in rows.items()],
            [False] + [True] * len(columns),
        ),
    ]
    return "\n".join(lines) + "\n"


def _figure(column: str, value: float | None) -> str:
    """As many digits as the paper has, without an exponent."""
    if value is None:
        return ""
    digits = {"psnr": ".2f", "ssim": ".4f", "uj": ",.0f"}.get(column.rpartition("_")[2], "g")
    return f"{value:{digits}}"


def _title(dataset: str) -> str:
    return DATASETS[dataset].title if dataset in DATASETS else dataset
