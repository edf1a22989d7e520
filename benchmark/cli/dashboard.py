"""The W&B workspace: the paper's tables, PSNR against energy, spike rates, training and pictures as panels.

What runs log, and under which names, is `benchmark.run.tracking`; this only arranges it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark import catalog
from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError, WorkError
from benchmark.report.paper import printed
from benchmark.run import tracking
from benchmark.sweep.plan import table_datasets

TITLES = {
    "table1": "Table 1, networks",
    "table2": "Table 2, pictures without a clean counterpart",
    "table3": "Table 3, residual blocks",
    "table4": "Table 4, time steps",
    "table5": "Table 5, components",
}
_PICTURES = 3


def dashboard(project: str | None, entity: str | None, tables: Path, embedded: bool, dry_run: bool) -> int:
    """Build the workspace and save it at W&B, or print it.

    Args:
        project: of W&B; None: where runs are logged to.
        entity: user or team of W&B; None: the key's own.
        tables: folder of the tables that this suite has made; the printed ones stand in where there are none.
        embedded: whether to show the embedded test sets instead of the published ones.
        dry_run: print the workspace as JSON, and send nothing.

    Raises:
        UserError: wandb-workspaces is not installed, or there is no key.
        WorkError: W&B did not take it.
    """
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise UserError("derain dashboard needs wandb-workspaces: pip install wandb-workspaces") from None
    if not dry_run and not tracking.has_key():
        raise UserError("no key for W&B: set WANDB_API_KEY, or log in with: wandb login (or see --dry-run)")
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
                for i, (name, panels) in enumerate(sections(tables, embedded))
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


def sections(tables: Path, embedded: bool) -> Iterator[tuple[str, list[Any]]]:
    """The sections: name and panels."""
    import wandb_workspaces.reports.v2 as panels

    datasets = table_datasets(embedded)
    for table, title in TITLES.items():
        yield title, [panels.MarkdownPanel(markdown=_text(table, tables)), *_bars(table, datasets)]
    yield (
        "PSNR against energy",
        [
            panels.ScatterPlot(
                title=f"{dataset_spec(dataset).title}: PSNR-Y against energy ({counted})",
                x=panels.SummaryMetric(energy),
                y=panels.SummaryMetric(tracking.on_test(dataset, "psnr_y")),
                log_x=True,
            )
            for dataset in datasets
            for counted, energy in (("full", tracking.ENERGY), ("paper", tracking.ENERGY_PAPER))
        ],
    )
    yield (
        "Spike rates",
        [
            panels.LinePlot(
                title="share of neurons that fire, by level",
                x=tracking.STEP,
                metric_regex=f"{tracking.SPIKE_RATES}.*",
            )
        ],
    )
    yield (
        "Training",
        [
            panels.LinePlot(title=name, x=tracking.STEP, y=[name])
            for name in (tracking.LOSS, *tracking.VALIDATION, tracking.LEARNING_RATE)
        ],
    )
    yield (
        "Pictures",
        [
            panels.MediaBrowser(
                title=f"{dataset_spec(dataset).title}: rainy, restored, target",
                media_keys=[f"{tracking.PICTURES}{dataset}/{i + 1}" for i in range(_PICTURES)],
            )
            for dataset in datasets
        ],
    )


def _bars(table: str, datasets: list[str]) -> list[Any]:
    """Bar plots of a table's scores: by network, or by what its study varies."""
    import wandb_workspaces.reports.v2 as panels

    if table == "table1":
        by, tested = "model", datasets
    elif table in catalog.studies():
        by, tested = tracking.VARIANT, [d for d in datasets if dataset_spec(d).columns == "rain200h"]
    else:
        return []
    return [
        panels.BarPlot(
            title=f"{dataset_spec(dataset).title}: {shown}, by {by}",
            metrics=[tracking.on_test(dataset, metric)],
            groupby=by,
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for dataset in tested
        for metric, shown in (("psnr_y", "PSNR-Y"), ("ssim_y", "SSIM-Y"))
    ]


def _text(table: str, folder: Path) -> str:
    """A table as this suite has made it, else as the paper printed it, in Markdown."""
    made = folder / f"{table}.md"
    if made.is_file():
        return made.read_text(encoding="utf-8")
    rows = printed(table)
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    lines = [
        f"{TITLES[table]}: the printed figures; none are measured yet.",
        "",
        "| | " + " | ".join(columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    lines += [
        f"| {name} | " + " | ".join(str(row.get(c, "")) for c in columns) + " |" for name, row in rows.items()
    ]
    return "\n".join(lines) + "\n"
