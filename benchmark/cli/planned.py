"""`derain table`, `ablations`, `run` and `study`: what is asked of a plan of runs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli.loading import listed
from benchmark.errors import UserError
from benchmark.text import output

if TYPE_CHECKING:
    from benchmark.cli.tables import Request


def table(options: Namespace) -> int:
    """`derain table`."""
    from benchmark import catalog
    from benchmark.cli.tables import make_ablations, make_table1, make_table2
    from benchmark.errors import unknown

    which, values = options.number, listed(options.values)
    request = _request(options, options.settings, listed(options.models), listed(options.datasets))
    if request.full_costs and which == "2":
        raise UserError("--full-costs is for Tables 1 and 3 to 5; Table 2 has no costs")
    if which in ("1", "2"):
        if values:
            raise UserError("--values is for a study over one setting, such as derain table 4 --values 1,3,8")
        if request.datasets and which == "2":
            raise UserError("--datasets is for Table 1; Table 2 has one: photographs=FOLDER gives others")
        return make_table1(request) if which == "1" else make_table2(request)
    if request.released is not None:
        raise UserError("--released is for Tables 1 and 2; an ablation varies a network that it trains")
    if not which.endswith((".yaml", ".yml")) and which not in ("3", "4", "5", *catalog.studies()):
        raise unknown("table", which, ["1", "2", "3", "4", "5", *catalog.studies()])
    if request.datasets:
        raise UserError("--datasets is for Table 1; an ablation is made on Rain200H alone")
    from benchmark.reading import like

    return make_ablations([which], request, [like(None, v) for v in values])


def ablations(options: Namespace) -> int:
    """`derain ablations`."""
    from benchmark import catalog
    from benchmark.cli.tables import make_ablations

    if options.list:
        studies = [catalog.study(name) for name in catalog.studies()]
        rows = [
            {"name": s.name, "title": s.title, "model": s.model, "rows": [v.label for v in s.variants]}
            for s in studies
        ]
        flat = [
            {**row, "rows": " | ".join(v.label for v in s.variants)}
            for row, s in zip(rows, studies, strict=True)
        ]

        def show() -> None:
            for s in studies:
                print(f"{s.name:<12} {s.title}: {', '.join(v.label for v in s.variants)}")

        output.give({"studies": rows}, output.frame_of(flat), show)
        return 0
    settings = [word for word in options.settings if "=" in word]
    names = [word for word in options.settings if "=" not in word]
    return make_ablations(names or ["table3", "table4", "table5"], _request(options, settings))


def run(options: Namespace) -> int:
    """`derain run`."""
    from benchmark.cli.tables import make_plan

    request = _request(options, options.settings)
    if request.settings:
        raise UserError(
            f"'{request.settings[0]}': settings of runs stand in the plan; executor.… can be given here"
        )
    return make_plan(options.plan_file, request)


def study(options: Namespace) -> int:
    """`derain study`."""
    from dataclasses import replace

    from benchmark.cli.drawing import draw
    from benchmark.cli.study import PARTS, declared, make_study
    from benchmark.errors import unknown

    parts = listed(options.parts)
    for part in parts:
        if part not in PARTS:
            raise unknown("part of the study", part, PARTS)
    seeds = None if options.seeds is None else _seeds(options.seeds)
    folder = options.out or Path(options.runs) / "study-results"
    places = [word for word in options.settings if "=" not in word]
    if len(places) > 1:
        raise UserError(f"derain study: one folder of photographs, not {' and '.join(places)}")
    if not places:
        if not options.draw:
            raise UserError(
                "derain study PHOTOGRAPHS: the folder of BSDS500; or --draw --out FOLDER of a study"
            )
        output.wrote(draw(folder, declared()))
        return 0
    from benchmark.reading import path

    settings = [word for word in options.settings if "=" in word]
    request = replace(_request(options, settings), out=folder)
    return make_study(Path(path(places[0])), request, options.real, parts, seeds, options.draw)


def _request(
    options: Namespace, settings: list[str], models: Sequence[str] = (), datasets: Sequence[str] = ()
) -> Request:
    from benchmark.cli.tables import Request
    from benchmark.run.states import retried
    from benchmark.sweep.executors import take_settings

    executor, others = take_settings(settings, options.workers)
    saved = options.command in ("run", "study")
    return Request(
        root=None if saved else options.data,
        recipe=None if saved else options.recipe,
        models=models,
        seeds=(0,) if saved else _seeds(options.seeds),
        settings=others,
        executor=executor,
        retry=retried(options.retry),
        datasets=datasets,
        runs=options.runs,
        out=options.out,
        plan_only=options.plan or options.dry_run,
        measure=not options.dry_run,
        save_plan=None if saved else options.save_plan,
        released=getattr(options, "released", None),
        full_costs=getattr(options, "full_costs", False),
    )


_MOST_SEEDS = 10_000


def _seeds(text: str) -> list[int]:
    from benchmark.reading import whole
    from benchmark.spec import SEEDS

    first, dots, last = text.partition("..")
    try:
        if dots:
            ends = whole(first), whole(last)
            if ends[1] - ends[0] >= _MOST_SEEDS:
                raise UserError(f"--seeds {text}: at most {_MOST_SEEDS} seeds")
            seeds = list(range(ends[0], ends[1] + 1))
        else:
            seeds = [whole(word) for word in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {text}: different whole numbers, such as 0, 0,1,2 or 0..4")
    if not all(0 <= seed < SEEDS for seed in seeds):
        raise UserError(f"--seeds {text}: from 0 to {SEEDS - 1}")
    return seeds
