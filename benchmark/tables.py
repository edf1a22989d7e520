"""From a command to a table: plan the runs, do them, count the costs, draw the table from the records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark import catalog
from benchmark.config import run_name
from benchmark.errors import UserError
from benchmark.files import require_writable
from benchmark.report.table import Table, show, write
from benchmark.report.tables import table1
from benchmark.sweep import plan as plans
from benchmark.sweep.costs import full_costs
from benchmark.sweep.local import Outcome, run_all
from benchmark.sweep.progress import Display
from benchmark.sweep.records import FAILURE, find_record, read_record, run_folder

EMBEDDED_NOTE = (
    "Embedded benchmark: small variants of the networks, trained for seconds on rain rendered over a few shipped "
    "photographs. It shows that the suite works and orders nothing: the paper's figures, of full networks on the "
    "published sets, stand in brackets for orientation (with the difference), not for comparison. The parameter and "
    "operation columns are those of the full networks."
)
PAPER_NOTE = "In brackets: the figure printed in the paper, and measured minus printed."


def make_table1(
    root: str | None,
    recipe: str,
    models: Sequence[str],
    seeds: Sequence[int],
    settings: Sequence[str],
    workers: int | None,
    runs: str,
    out: Path | None,
    plan_only: bool,
) -> int:
    """Do what Table 1 needs, print and write it; returns the exit status (1 if a run failed)."""
    if root is not None and recipe == "embedded":
        raise UserError(
            "--recipe embedded is for the embedded datasets; with --data use paper, authors or released-code"
        )
    if root is None and recipe != "embedded":
        settings = ["logger=csv", *settings]
    quiet = ["logger=csv"] if recipe == "embedded" else []
    plan = plans.table1(recipe, root, models, seeds, [*quiet, *settings], runs)
    if plan_only:
        _print_plan(plan)
        return 0
    folder = out or Path(runs) / "tables" / recipe
    require_writable(folder)
    names = list(dict.fromkeys(c.model.name for c in plan.runs))
    outcomes = _do(plan, workers)
    failures = [
        f
        for c in plan.runs
        if find_record(c) is None and (f := read_record(run_folder(c), FAILURE)) is not None
    ]
    records = [r for c in plan.runs if (r := find_record(c)) is not None]
    costs = full_costs(names, Path(runs) / "costs")
    datasets = plans.table_datasets(embedded=root is None)
    notes = [EMBEDDED_NOTE if root is None else PAPER_NOTE, *_commits(records)]
    paths: list[Path] = []
    tables: list[Table] = []
    for name, convention in (("table1", "esdnet"), ("table1_matlab", "matlab")):
        tables.append(
            table1(
                name,
                datasets,
                records,
                models=names,
                seeds=len(seeds),
                failures=failures,
                absent=plan.absent,
                costs=costs,
                convention=convention,
                notes=notes,
            )
        )
        paths += write(tables[-1], folder)
    show(tables[0])
    print("\n".join(f"wrote {p}" for p in paths))
    bad = [o for o in outcomes if o.state != "done"]
    for outcome in bad:
        print(f"{run_name(outcome.config)}: {outcome.state}: {outcome.reason}")
    return 1 if bad else 0


def _do(plan: plans.Plan, workers: int | None) -> list[Outcome]:
    to_do = [c for c in plan.runs if find_record(c) is None]
    if workers is None:
        import shutil

        on_gpu = shutil.which("nvidia-smi") is not None
        workers = 1 if on_gpu else min(8, max(1, (os.cpu_count() or 1)))
    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1")
    with Display(len(to_do)) as display:
        return run_all(plan.runs, workers, display.notify)


def _commits(records: Sequence[dict[str, Any]]) -> list[str]:
    commits = sorted({str(r["commit"]) for r in records})
    return [f"Mixed commits: the rows were made by {', '.join(commits)}."] if len(commits) > 1 else []


def _print_plan(plan: plans.Plan) -> None:
    for config in plan.runs:
        failed = read_record(run_folder(config), FAILURE)
        done = find_record(config) is not None
        state = "done" if done else f"{failed['state']}: {failed['reason']}" if failed else "to do"
        print(f"{state:<8} {run_name(config)}")
    for dataset, reason in plan.absent.items():
        print(f"left out {dataset}: {reason}")
    left = sum(find_record(c) is None for c in plan.runs)
    print(f"{len(plan.runs)} runs, {left} to do; networks: {', '.join(dict.fromkeys(_titles(plan)))}")


def _titles(plan: plans.Plan) -> list[str]:
    return [catalog.network(c.model.name).title for c in plan.runs]
