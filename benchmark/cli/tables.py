"""From a command to a table: plan the runs, do them, count the costs, draw the table from the records."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog
from benchmark.cli import released as given_rows
from benchmark.cli.planning import show_plan
from benchmark.cli.released import Asked, Measured
from benchmark.errors import UserError, WorkError
from benchmark.files import require_writable
from benchmark.launch import require_loggers
from benchmark.report import ablations as drawn
from benchmark.report.released import released_table
from benchmark.report.rows import Given
from benchmark.report.tables import measured_by, ranks, table1
from benchmark.run.costs import counted_costs, full_costs, trained_costs
from benchmark.run.current import require_current
from benchmark.run.records import (
    FAILURE,
    Record,
    command_line,
    find_record,
    in_words,
    read_record,
    without_folders,
)
from benchmark.run.states import BROKEN, DONE, State, state_of
from benchmark.spec import RunSpec, resolve
from benchmark.sweep import plan as plans
from benchmark.sweep import planfile
from benchmark.sweep import rows as rowsfile
from benchmark.sweep.driver import drive
from benchmark.sweep.executors import ExecutorConfig, open_executor
from benchmark.sweep.progress import Display
from benchmark.text import output
from benchmark.text.table import Table, write
from benchmark.text.words import commit_in_words

if TYPE_CHECKING:
    from ablations import Study, Variant

EMBEDDED = (
    "Embedded benchmark: small variants of the networks, trained briefly on rain over dead leaves, tested on "
    "thirteen shipped photographs. It shows that the suite works and orders nothing."
)
EMBEDDED_NOTE = (
    f"{EMBEDDED} From five seeds on the paper's figures, of full networks on the published sets, stand beside them for "
    "orientation, not for comparison."
)
PAPER_NOTE = (
    "Beside a measured figure, where the paper has one: the figure it printed, and measured minus printed."
)


@dataclass(frozen=True)
class Request:
    """What a table is made from.

    Attributes:
        root: folder of the published datasets; None for the embedded ones.
        recipe: name of a recipe; None: embedded without `root`, else the paper's.
        models: networks of Table 1; empty for all.
        seeds: one run each.
        settings: `key=value` words for all runs.
        executor: what does the runs; its `workers` are the runs at a time.
        retry: states of earlier attempts to try again.
        datasets: test sets of Table 1, as `chosen_datasets` takes them; empty for all.
        runs: folder of the runs.
        out: folder of the tables; None: below `runs`.
        plan_only: print what would be run, and stop.
        measure: with `plan_only`, measure the steps that are not known.
        save_plan: a file to write the plan to, instead of running it.
        released: a file of rows that nobody trained here.
        full_costs: tables have the costs of the full networks, also where variants were trained.
    """

    root: str | None = None
    recipe: str | None = None
    models: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    settings: Sequence[str] = ()
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    retry: tuple[str, ...] = ()
    datasets: Sequence[str] = ()
    runs: str = "runs"
    out: Path | None = None
    plan_only: bool = False
    measure: bool = True
    save_plan: Path | None = None
    released: Path | None = None
    full_costs: bool = False

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
        return [*(["logger=csv"] if self.root is None else []), *self.settings]

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
    request = replace(request, datasets=plans.chosen_datasets(request.datasets, request.root))
    request = replace(request, settings=[_metrics(word) for word in request.settings])
    plan = plans.table1(
        request.recipe_name,
        request.root,
        request.models,
        request.seeds,
        request.words,
        request.runs,
        request.datasets,
    )
    return _make(request, _heading(request, ["1"]), plan)


def _metrics(word: str) -> str:
    """`metrics=lpips:FILE,ntire:FILE` as the setting of the runs."""
    key, sign, value = word.partition("=")
    named = [name.strip() for name in value.split(",")]
    return f"evaluation.metrics={json.dumps(named)}" if key == "metrics" and sign else word


def make_table2(request: Request) -> int:
    """Do what Table 2 needs, print and write it; returns the exit status (1 if a run or a photograph failed)."""
    from benchmark.cli import realrain

    options, words = realrain.take_options(request.words)
    photographs = realrain.open_photographs(options.photographs, request.root)
    plan = realrain.plan(
        request.recipe_name, request.root, request.models, request.seeds, words, request.runs
    )
    heading = replace(_heading(request, ["2"]), settings=words)
    heading = replace(heading, options=[w for w in request.words if w not in words])
    return max(_make(request, heading, plan), int(bool(photographs.left_out)))


def _asked(request: Request, heading: planfile.Heading) -> Asked | None:
    """The rows that nobody trained here, and what is to be measured of them.

    Raises:
        UserError: the file is wrong, or a row is called as a network is.
    """
    if heading.released is None:
        return None
    path = Path(heading.released)
    rows = rowsfile.load(path, request.root)
    rowsfile.require_different(
        [*(n.title for n in catalog.networks().values()), *(r.name for r in rows)], path
    )
    datasets = plans.chosen_datasets(heading.datasets or (), request.root) if "1" in heading.tables else []
    photographs = [rowsfile.PHOTOGRAPHS] if "2" in heading.tables else []
    config = resolve([w for w in heading.settings or [] if w.startswith("evaluation.metrics=")])
    return Asked(rows, [*datasets, *photographs], request.root, Path(request.runs), config.evaluation.metrics)


def _given(asked: Asked | None, measured: Measured, folder: Path) -> list[Given]:
    """The rows that nobody trained here, as tables take them."""
    return [_as_given(row, asked, measured, folder) for row in asked.rows] if asked is not None else []


def _as_given(row: rowsfile.Row, asked: Asked, measured: Measured, folder: Path) -> Given:
    trained_on: dict[str, tuple[str, ...]] = {}
    reasons: dict[str, str] = {}
    for dataset in asked.datasets:
        entry = row.entry_for(dataset)
        if entry is not None:
            trained_on[dataset] = entry.trained_on
        reasons[dataset] = (
            asked.absent.get(dataset) or measured.failures.get(row.name) or f"nothing of {row.name} is for it"
        )
    network = row.entries[0].model
    runs = measured.runs.get(row.name, [])
    cost = None
    if network is not None and runs:
        cost = counted_costs(network, runs[0].record["model_options"], folder)["full"]
    return Given(row.name, row.kind, network, trained_on, reasons, cost)


def make_ablations(studies: Sequence[str], request: Request, values: Sequence[Any] = ()) -> int:
    """Do what ablation studies need, print and write their tables; returns the exit status (1 if a run failed).

    Args:
        studies: names, or paths of YAML files.
        request: what they are made from.
        values: of the one setting that a study goes over, instead of its own.
    """
    if request.models:
        raise UserError("--models is for Tables 1 and 2; an ablation varies one network (model: in its YAML)")
    runs: list[plans.Planned] = []
    for study in _studies(studies, values):
        runs += plans.rows(
            study.name,
            study.model,
            {v.name: v.settings for v in study.variants},
            request.recipe_name,
            request.root,
            request.seeds,
            study.base,
            request.words,
            request.runs,
        )
    heading = replace(_heading(request, studies), values=list(values) or None)
    return _make(request, heading, plans.Plan(plans.unique(runs)))


def make_plan(path: Path, request: Request) -> int:
    """Do a saved plan, print and write its tables; returns the exit status (1 if a run failed)."""
    heading, plan = planfile.load(path, request.runs)
    for table in heading.tables:
        if table not in ("1", "2"):
            catalog.study(table)
    request = replace(request, root=heading.data, recipe=heading.recipe, settings=heading.settings or [])
    return _make(request, heading, plan)


def _heading(request: Request, tables: Sequence[str]) -> planfile.Heading:
    return planfile.Heading(
        tables=list(tables),
        data=request.root,
        recipe=request.recipe_name,
        datasets=list(request.datasets),
        settings=request.words,
        released=str(request.released.absolute()) if request.released is not None else None,
        full_costs=request.full_costs,
    )


def _studies(names: Sequence[str], values: Sequence[Any] | None) -> list[Study]:
    studies = [catalog.study(name) for name in names]
    if not values:
        return studies
    try:
        return [study.with_values(values) for study in studies]
    except ValueError as error:
        raise UserError(f"--values {','.join(map(str, values))}: {error}") from None


def _draw(
    request: Request, heading: planfile.Heading, plan: plans.Plan, asked: Asked | None, measured: Measured
) -> list[Path]:
    """Print and write every table of a plan; returns the files."""
    paths: list[Path] = []
    for table in heading.tables:
        if table == "1":
            paths += _draw_table1(request, heading, plan, asked, measured)
        elif table == "2":
            paths += _draw_table2(request, heading, plan, asked, measured)
        else:
            (study,) = _studies([table], heading.values)
            paths += _draw_study(study, request, heading, plan)
    return paths


def _draw_table1(
    request: Request, heading: planfile.Heading, plan: plans.Plan, asked: Asked | None, measured: Measured
) -> list[Path]:
    records, failures = _found(plan.runs)
    given = _given(asked, measured, Path(request.runs) / "costs")
    if asked is not None:
        records += measured.records(asked)
    names = list(dict.fromkeys(r.spec.model.name for r in plan.runs))
    datasets = plans.chosen_datasets(heading.datasets or (), request.root)
    costs, variants = _costs(plan.runs, heading.full_costs, Path(request.runs) / "costs")
    paths: list[Path] = []
    tables: list[Table] = []
    # others print theirs by every convention: given rows are measured by all
    for convention in ("esdnet", "matlab", *(("statistic", "float") if given else ())):
        name = "table1" if convention == "esdnet" else f"table1_{convention}"
        tables.append(
            table1(
                name,
                datasets,
                records,
                models=names,
                seeds=_seeds(plan.runs),
                failures=failures,
                absent=plan.absent,
                costs=costs,
                variants=variants,
                convention=convention,
                metrics=measured_by(records) if name == "table1" else {},
                given=given,
                notes=[request.note, *made_by(records)],
            )
        )
        paths += write(tables[-1], request.folder)
    kind = [EMBEDDED] if request.root is None else []
    places = ranks(
        "table1_ranks", datasets, records, models=names, given=given, notes=[*kind, *made_by(records)]
    )
    output.tables([tables[0], *([places] if places is not None else [])])
    if places is None:  # what an earlier command ranked is not of these runs
        for suffix in (".md", ".csv", ".tex", ".json"):
            (request.folder / f"table1_ranks{suffix}").unlink(missing_ok=True)
    else:
        paths += write(places, request.folder)
    if given:
        paths += write(released_table("released", datasets, records, given, made_by(records)), request.folder)
    return paths


def _costs(
    runs: Sequence[plans.Planned], of_full: bool, folder: Path
) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """What the trained networks cost, and which of them are not the full ones; with `of_full`, the full ones'."""
    options = {r.spec.model.name: r.spec.options for r in runs}
    variants = {name for name, own in options.items() if own and not of_full}
    costs = full_costs([name for name in options if name not in variants], folder)
    costs |= {name: counted_costs(name, options[name], folder)["full"] for name in variants}
    return costs, variants


def _draw_table2(
    request: Request, heading: planfile.Heading, plan: plans.Plan, asked: Asked | None, measured: Measured
) -> list[Path]:
    from benchmark.cli import realrain
    from benchmark.cli.gallery import Run

    options, _ = realrain.take_options(heading.options or ())
    photographs = realrain.open_photographs(options.photographs, request.root, options.duplicates == "once")
    records, failures = _found(plan.runs)
    given = _given(asked, measured, Path(request.runs) / "costs")
    runs = [Run(p.folder, r) for p in plan.runs if (r := _record(p)) is not None]
    for row in asked.rows if asked is not None else ():
        entry = row.entry_for(rowsfile.PHOTOGRAPHS)
        if entry is not None:
            runs += [r for r in measured.runs.get(row.name, []) if r.record["identity"] == entry.identity]
    table = realrain.draw(
        options,
        photographs,
        runs,
        list(dict.fromkeys(p.spec.model.name for p in plan.runs)),
        Path(request.runs) / "realrain",
        failures,
        given,
        [
            realrain.note(options, request.root),
            *made_by([*records, *(r.record for r in runs if r.record.get("row"))]),
        ],
    )
    output.tables([table])
    return write(table, request.folder)


def _seeds(runs: Sequence[plans.Planned]) -> int:
    return len({r.spec.seed for r in runs})


def _draw_study(study: Study, request: Request, heading: planfile.Heading, plan: plans.Plan) -> list[Path]:
    variants = []
    shown = [r for r in plan.runs if any(name == study.name for name, _ in r.rows)]
    of_full = heading.full_costs or not any(r.spec.recipe.embedded for r in shown)
    for variant in study.variants:
        runs = [r for r in shown if (study.name, variant.name) in r.rows]
        if not runs:  # taken out of the plan
            continue
        records, failures = _found(runs)
        full, counted = _counted(variant, runs[0].spec, of_full, Path(request.runs) / "costs")
        variants.append(
            drawn.Variant(
                variant.name,
                variant.label,
                records=records,
                failures=failures,
                trained=[cost for r in runs if _record(r) and (cost := _trained(r)) is not None],
                full=full,
                counted=counted,
                value=variant.value,
            )
        )
    if not variants:
        raise UserError(f"the plan has no run of a row of {study.name}; rows are written {study.name}/ROW")
    every = [r for v in variants for r in v.records]
    table = drawn.ablation_table(
        study.name,
        study.title,
        shown[0].spec.data.name,
        variants,
        paper=study.paper,
        paper_row=catalog.network(study.model).paper_row,
        seeds=_seeds(shown),
        of_variants=not of_full,
        notes=[*study.notes, *([request.note] if study.paper else []), *made_by(every)],
    )
    output.tables([table])
    return [*write(table, request.folder), *drawn.plots(table, variants, study.symbol, request.folder)]


def _counted(
    variant: Variant, config: RunSpec, of_full: bool, folder: Path
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What the network costs, and under `paper` what the network costs whose FLOPs were printed."""
    options = config.model.options if of_full else config.options
    as_printed = {k.removeprefix("model."): v for k, v in variant.counted.items()} if of_full else {}
    try:
        full = counted_costs(config.model.name, options, folder)
        printed = counted_costs(config.model.name, {**options, **as_printed}, folder) if as_printed else full
    except (UserError, WorkError) as error:
        print(f"{variant.name}: costs are not counted: {error}", file=sys.stderr)
        return None, None
    return full["full"], printed["paper"]


def _trained(run: plans.Planned) -> dict[str, Any] | None:
    try:
        costs = trained_costs(run.spec)
    except (UserError, WorkError) as error:
        print(f"{run.label}: its cost is not counted: {error}", file=sys.stderr)
        return None
    return {**costs["full"], "energy_45nm_uj": costs["45nm"]["energy_uj"]} if costs else None


def _make(request: Request, heading: planfile.Heading, plan: plans.Plan) -> int:
    """The way of every table: the plan's runs, then what is drawn from their records."""
    if not plan.runs and heading.released is None:
        raise UserError("--models none: leaves no row; --released FILE names rows that nobody trained here")
    asked = _asked(request, heading)
    if asked is not None:
        given_rows.require(asked)
    if request.save_plan is not None:
        planfile.save(request.save_plan, heading, plan.runs, f"Made by: {command_line()}")
        rows = f" and {len(asked.rows)} rows that nobody trained here" if asked is not None else ""
        output.remark(
            f"wrote {request.save_plan}: {len(plan.runs)} runs{rows}; to do it: derain run {request.save_plan}"
        )
        return 0
    for run in plan.runs:
        if (record := read_record(run.folder)) is not None:
            require_current(record, run.folder)
    if request.plan_only:
        if plan.runs:
            show_plan(plan, request.executor, Path(request.runs), request.retry, request.measure)
        if asked is not None:
            output.remark(*given_rows.in_words(asked))
        return 0
    require_writable(request.folder)
    states = do(plan, request)
    measured = given_rows.do(asked) if asked is not None else Measured()
    output.wrote(_draw(request, heading, plan, asked, measured))
    return max(_report(plan, states), int(bool(measured.failures)))


def _report(plan: plans.Plan, states: Mapping[str, State]) -> int:
    """Say which runs ended without a record, and what to do about it; returns the exit status."""
    bad = [(run, states[run.name]) for run in plan.runs if states[run.name].name != DONE]
    for run, state in bad:
        print(f"{run.label}: {state}")
        if state.traceback:
            print("\n".join(f"    {line}" for line in state.traceback[-4:]))
        if (log := run.folder / "log.txt").exists():
            print(f"    {log}")
    broken = sorted({state.name.replace(" ", "-") for _, state in bad if state.name in BROKEN})
    if broken:
        print(
            f"{len(bad)} of {len(plan.runs)} runs have no record; --retry {','.join(broken)} tries them again"
        )
    return 1 if bad else 0


def _record(run: plans.Planned) -> Record | None:
    record = read_record(run.folder)
    if record is not None and record["identity"] != run.identity:
        return find_record(run.spec)  # says what differs
    return record


def _found(runs: Iterable[plans.Planned]) -> tuple[list[Record], list[Record]]:
    """The records of runs, and the failures of those that have none."""
    records, failures = [], []
    gc.disable()  # ten thousand records are millions of objects, none of them garbage
    try:
        for run in runs:
            record = _record(run)
            if record is not None:
                records.append(record)
            elif (failure := read_record(run.folder, FAILURE)) is not None:
                failures.append(failure)
        gc.freeze()
    finally:
        gc.enable()
    return records, failures


def do(plan: plans.Plan, request: Request) -> dict[str, State]:
    """Do a plan's runs, shown as they go; returns how each ended, by its name."""
    states = {run.name: state_of(run) for run in plan.runs}
    if all(state.name == DONE for state in states.values()):
        return states
    ended = {n for n, s in states.items() if s.name == DONE or s.name in set(BROKEN) - set(request.retry)}
    left = [run for run in plan.runs if run.name not in ended]
    if ended and left:
        print(f"{len(ended)} of {len(plan.runs)} runs ended earlier", file=sys.stderr)
    if request.executor.name == "local":
        for run in left:
            require_loggers(run.spec)
    executor = open_executor(request.executor, Path(request.runs))
    with Display(left, executor.where) as display:
        return drive(plan.runs, executor, display.notify, request.retry)


def made_by(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What made the figures: command, commit, recipe, machine, versions, dates; a warning where commits are mixed."""
    if not records:
        return []

    def all_of(find: Callable[[Mapping[str, Any]], str]) -> str:
        return ", ".join(sorted({find(r) for r in records}))

    recipes = ", ".join(sorted({r["config"]["recipe"]["name"] for r in records} - {given_rows.UNKNOWN}))
    made = (
        f"Made by `{all_of(lambda r: without_folders(r['command']))}`, "
        f"commit {all_of(lambda r: commit_in_words(r['commit']))}, "
        f"{recipes and f'recipe {recipes}, '}on {all_of(lambda r: in_words(r['machine']))}, "
        f"torch {all_of(lambda r: r['versions']['torch'])}, {all_of(lambda r: r['date'][:10])}."
    )
    # digests too: a commit says nothing of changes since, and other code may have begun a training
    codes = {
        (r["config"]["model"]["name"], c)
        for r in records
        for c in (*r.get("training", {}).get("code", []), r.get("code"))
        if c
    }
    # behind "+" is the code of a network from outside, for that one alone
    ours = {c.partition("+")[0] for _, c in codes}
    mixed = (
        len({r["commit"] for r in records}) > 1 or len(ours) > 1 or len(codes) > len({n for n, _ in codes})
    )
    return [
        made,
        *(["Mixed commits: the rows were not all made by the same code."] if mixed else []),
        *held_out(records),
    ]


def held_out(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many training pairs chose the checkpoint instead of training it; the paper does not say that it kept any."""
    shares: dict[str, None] = {}
    for record in records:
        data = {} if record.get("row") else record.get("training", {}).get("data", {})
        if data.get("held_out"):
            count = data["held_out"]
            shares[f"{count} of {data['images'] + count} pairs of {data['trained_on']}"] = None
    if not shares:
        return []
    return [
        f"Held out of the training to choose the checkpoint by: {', '.join(shares)}. The papers do not say that they "
        "held any out; `recipe.select=last` trains on all and tests the last checkpoint."
    ]
