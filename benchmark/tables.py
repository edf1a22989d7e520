"""From a command to a table: plan the runs, do them, count the costs, draw the table from the records."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog
from benchmark.config import RunConfig, run_name
from benchmark.errors import UserError, WorkError
from benchmark.files import require_writable
from benchmark.report import ablations as drawn
from benchmark.report.table import Table, show, write
from benchmark.report.tables import ranks, table1
from benchmark.sweep import plan as plans
from benchmark.sweep.costs import counted_costs, full_costs, trained_costs
from benchmark.sweep.local import Outcome, run_all
from benchmark.sweep.progress import Display
from benchmark.sweep.records import FAILURE, Record, find_record, read_record, run_folder

if TYPE_CHECKING:
    from ablations import Study, Variant

EMBEDDED = (
    "Embedded benchmark: small variants of the networks, trained for seconds on rain rendered over a few shipped "
    "photographs. It shows that the suite works and orders nothing."
)
EMBEDDED_NOTE = (
    f"{EMBEDDED} The paper's figures, of full networks on the published sets, stand in brackets for orientation (with "
    "the difference), not for comparison. The parameter and operation columns are those of the full networks."
)
PAPER_NOTE = "In brackets: the figure printed in the paper, and measured minus printed."


@dataclass(frozen=True)
class Request:
    """What a table is made from.

    Attributes:
        root: folder of the published datasets; None for the embedded ones.
        recipe: name of a recipe; None: embedded without `root`, else the paper's.
        models: networks of Table 1; empty for all.
        seeds: one run each.
        settings: `key=value` words for all runs.
        workers: runs at a time; None: by the machine.
        runs: folder of the runs.
        out: folder of the tables; None: below `runs`.
        plan_only: print what would be run, and stop.
    """

    root: str | None = None
    recipe: str | None = None
    models: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    settings: Sequence[str] = ()
    workers: int | None = None
    runs: str = "runs"
    out: Path | None = None
    plan_only: bool = False

    @property
    def recipe_name(self) -> str:
        """The recipe, the default resolved.

        Raises:
            UserError: the embedded one with published datasets.
        """
        if self.root is not None and self.recipe == "embedded":
            raise UserError(
                "--recipe embedded is for the embedded datasets; with --data use paper, authors or released-code"
            )
        return self.recipe or ("embedded" if self.root is None else "paper")

    @property
    def words(self) -> list[str]:
        """The settings of all runs; those on embedded data are not sent to W&B unless asked."""
        return [*(["logger=csv", "trainer.log_every=10"] if self.root is None else []), *self.settings]

    @property
    def folder(self) -> Path:
        """Where the tables are written."""
        return self.out or Path(self.runs) / "tables" / self.recipe_name

    @property
    def note(self) -> str:
        """What the figures in brackets are."""
        return EMBEDDED_NOTE if self.root is None else PAPER_NOTE


def make_table1(request: Request) -> int:
    """Do what Table 1 needs, print and write it; returns the exit status (1 if a run failed)."""
    plan = plans.table1(
        request.recipe_name, request.root, request.models, request.seeds, request.words, request.runs
    )
    names = list(dict.fromkeys(c.model.name for c in plan.runs))
    datasets = plans.table_datasets(embedded=request.root is None)

    def draw() -> list[Path]:
        records, failures = _found(plan.runs)
        costs = full_costs(names, Path(request.runs) / "costs")
        paths: list[Path] = []
        tables: list[Table] = []
        for name, convention in (("table1", "esdnet"), ("table1_matlab", "matlab")):
            tables.append(
                table1(
                    name,
                    datasets,
                    records,
                    models=names,
                    seeds=len(request.seeds),
                    failures=failures,
                    absent=plan.absent,
                    costs=costs,
                    convention=convention,
                    notes=[request.note, *made_by(records)],
                )
            )
            paths += write(tables[-1], request.folder)
        kind = [EMBEDDED] if request.root is None else []
        places = ranks("table1_ranks", datasets, records, models=names, notes=[*kind, *made_by(records)])
        show(tables[0])
        show(places)
        return [*paths, *write(places, request.folder)]

    return _make(request, plan, draw)


def make_table2(request: Request) -> int:
    """Do what Table 2 needs, print and write it; returns the exit status (1 if a run or a photograph failed)."""
    from benchmark import realrain
    from benchmark.gallery import Run

    options, words = realrain.take_options(request.words)
    photographs = realrain.open_photographs(options.photographs, request.root)
    plan = realrain.plan(
        request.recipe_name, request.root, request.models, request.seeds, words, request.runs
    )

    def draw() -> list[Path]:
        records, failures = _found(plan.runs)
        table = realrain.draw(
            options,
            photographs,
            [Run(run_folder(c), r) for c in plan.runs if (r := find_record(c)) is not None],
            list(dict.fromkeys(c.model.name for c in plan.runs)),
            Path(request.runs) / "realrain",
            failures,
            [realrain.note(options, request.root), *made_by(records)],
        )
        show(table)
        return write(table, request.folder)

    return max(_make(request, plan, draw), int(bool(photographs.left_out)))


def make_ablations(studies: Sequence[Study], request: Request) -> int:
    """Do what ablation studies need, print and write their tables; returns the exit status (1 if a run failed)."""
    if request.models:
        raise UserError("--models is for Table 1; an ablation varies one network (model: in its YAML)")
    rows = {
        study.name: plans.rows(
            study.model,
            {v.name: v.settings for v in study.variants},
            request.recipe_name,
            request.root,
            request.seeds,
            study.base,
            request.words,
            request.runs,
        )
        for study in studies
    }
    runs = plans.unique(c for study in rows.values() for row in study.values() for c in row)

    def draw() -> list[Path]:
        paths: list[Path] = []
        for study in studies:
            paths += _draw_study(study, rows[study.name], request)
        return paths

    return _make(request, plans.Plan(runs, {}), draw)


def _draw_study(study: Study, rows: dict[str, tuple[RunConfig, ...]], request: Request) -> list[Path]:
    variants = []
    for variant in study.variants:
        runs = rows[variant.name]
        records, failures = _found(runs)
        full, counted = _counted(variant, runs[0], request)
        variants.append(
            drawn.Variant(
                variant.name,
                variant.label,
                records=records,
                failures=failures,
                trained=[cost for c in runs if find_record(c) and (cost := _trained(c)) is not None],
                full=full,
                counted=counted,
                value=variant.value,
            )
        )
    every = [r for v in variants for r in v.records]
    first = rows[study.variants[0].name][0]
    table = drawn.ablation_table(
        study.name,
        study.title,
        first.data.name,
        variants,
        paper=study.paper,
        paper_row=catalog.network(study.model).paper_row,
        seeds=len(request.seeds),
        notes=[*study.notes, *([request.note] if study.paper else []), *made_by(every)],
    )
    show(table)
    return [*write(table, request.folder), *drawn.plots(table, variants, study.symbol, request.folder)]


def _counted(
    variant: Variant, config: RunConfig, request: Request
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What the full network costs, and under `paper` what the network costs whose FLOPs were printed."""
    options = config.model.options
    as_printed = {k.removeprefix("model."): v for k, v in variant.counted.items()}
    folder = Path(request.runs) / "costs"
    try:
        full = counted_costs(config.model.name, options, folder)
        printed = counted_costs(config.model.name, {**options, **as_printed}, folder) if as_printed else full
    except (UserError, WorkError) as error:
        print(f"{variant.name}: costs are not counted: {error}", file=sys.stderr)
        return None, None
    return full["full"], printed["paper"]


def _trained(config: RunConfig) -> dict[str, Any] | None:
    try:
        costs = trained_costs(config)
    except (UserError, WorkError) as error:
        print(f"{run_name(config)}: its cost is not counted: {error}", file=sys.stderr)
        return None
    return costs["full"] if costs else None


def _make(request: Request, plan: plans.Plan, draw: Callable[[], list[Path]]) -> int:
    """The way of every table: the plan's runs, then what is drawn from their records."""
    if request.plan_only:
        print_plan(plan)
        return 0
    require_writable(request.folder)
    outcomes = do(plan, request.workers)
    print("\n".join(f"wrote {p}" for p in draw()))
    bad = [o for o in outcomes if o.state != "done"]
    for outcome in bad:
        print(f"{run_name(outcome.config)}: {outcome.state}: {outcome.reason}")
    return 1 if bad else 0


def _found(runs: Iterable[RunConfig]) -> tuple[list[Record], list[Record]]:
    """The records of runs, and the failures of those that have none."""
    records, failures = [], []
    for config in runs:
        record = find_record(config)
        if record is not None:
            records.append(record)
        elif (failure := read_record(run_folder(config), FAILURE)) is not None:
            failures.append(failure)
    return records, failures


def do(plan: plans.Plan, workers: int | None) -> list[Outcome]:
    """Do a plan's runs, shown as they go; those that are done already are not done again.

    Args:
        plan: the runs.
        workers: how many at a time; None: one with a GPU, else as many as there are cores, at most 8.
    """
    to_do = [c for c in plan.runs if find_record(c) is None]
    if workers is None:
        import shutil

        on_gpu = shutil.which("nvidia-smi") is not None
        workers = 1 if on_gpu else min(8, max(1, (os.cpu_count() or 1)))
    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1")
    with Display(len(to_do)) as display:
        # runs that differ in the test alone wait for the one that trains
        return [o for wave in plans.waves(plan.runs) for o in run_all(wave, workers, display.notify)]


def made_by(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What made the figures: command, commit, recipe, machine, versions, dates; a warning where commits are mixed."""
    if not records:
        return []

    def all_of(find: Callable[[Mapping[str, Any]], str]) -> str:
        return ", ".join(sorted({find(r) for r in records}))

    def machine(record: Mapping[str, Any]) -> str:
        m = record["machine"]
        return m.get("accelerator") or f"{m['processor']} with {m['cores']} cores"

    made = (
        f"Made by `{all_of(lambda r: r['command'])}`, commit {all_of(lambda r: str(r['commit']))}, recipe "
        f"{all_of(lambda r: r['config']['recipe']['name'])}, on {all_of(machine)}, "
        f"torch {all_of(lambda r: r['versions']['torch'])}, {all_of(lambda r: r['date'][:10])}."
    )
    # digests too: a commit says nothing of changes since, and other code may have begun a training
    codes = {c for r in records for c in (*r.get("training", {}).get("code", []), r.get("code")) if c}
    mixed = len({r["commit"] for r in records}) > 1 or len(codes) > 1
    return [made, *(["Mixed commits: the rows were not all made by the same code."] if mixed else [])]


def print_plan(plan: plans.Plan) -> None:
    """Print a plan's runs and whether they are done."""
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
