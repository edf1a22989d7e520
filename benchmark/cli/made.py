"""`derain figures`, `report`, `ship`, `sweep`, `dashboard`, `sync`: what is made of runs; `bench` and `completion`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from benchmark.cli.loading import listed
from benchmark.errors import UserError


def figures(options: Namespace) -> int:
    """`derain figures`."""
    from benchmark.cli.showing import make_figures

    if options.dry_run:
        return _dry_show(options, "figures")
    return make_figures(options.runs, options.recipe, listed(options.models), options.out)


def report(options: Namespace) -> int:
    """`derain report`."""
    from benchmark.cli.reporting import make_report

    if options.dry_run:
        return _dry_show(options, "report")
    return make_report(options.runs, options.recipe, listed(options.models), options.out)


def _dry_show(options: Namespace, what: str) -> int:
    from benchmark.cli.showing import find

    found = find(options.runs, options.recipe, listed(options.models))
    folder = options.out or Path(options.runs) / what / options.recipe
    print(f"the {what} of {len(found.every)} runs ({', '.join(found.rows)}) would be written to {folder}")
    return 0


def ship(options: Namespace) -> int:
    """`derain ship`."""
    from benchmark import shipped
    from benchmark.cli.shipping import Sets, draw_again, sets_of
    from benchmark.cli.shipping import ship as measure

    if options.page:
        if options.set or options.clean or options.rainy or options.first:
            raise UserError("--page measures nothing: leave out --set, --clean, --rainy and --first")
        print(draw_again(options.run, options.name, options.out or shipped.FOLDER, options.docs))
        return 0
    paired = sets_of(options.set)
    for flag, path in (("--clean", options.clean), ("--rainy", options.rainy)):
        if path is not None and not path.is_dir():
            raise UserError(f"{flag} {path}: no such folder")
    from benchmark.resident import keep_freed_memory

    keep_freed_memory()
    sets = Sets(paired, options.clean, options.rainy, options.limit)
    print(
        measure(options.run, options.name, sets, options.out or shipped.FOLDER, options.docs, options.first)
    )
    return 0


def sweep(options: Namespace) -> int:
    """`derain sweep`."""
    from benchmark.sweep.agents import save_plan, start, sweeps

    if options.name is not None and options.save_plan is not None:
        return save_plan(options.name, options.save_plan)
    if options.save_plan is not None:
        raise UserError("derain sweep --save-plan: which sweep? derain sweep lists them")
    if options.name is None:
        print("\n".join(f"{name:<8} {path}" for name, path in sweeps().items()))
        return 0
    return start(options.name)


def dashboard(options: Namespace) -> int:
    """`derain dashboard`."""
    from benchmark.cli.dashboard import dashboard as build

    return build(options.project, options.entity, Path(options.runs), options.recipe, options.dry_run)


def sync(options: Namespace) -> int:
    """`derain sync`."""
    from benchmark.run.tracking import sync as send

    return send(options.runs, options.dry_run)


def bench(options: Namespace) -> int:
    """`derain bench`, which the wheel does not have."""
    try:
        from benchmark.bench.run import bench as measure
    except ModuleNotFoundError as error:
        if error.name != "benchmark.bench":
            raise
        raise UserError(
            "derain bench is of the repository, not of the installed suite: run it in a checkout (make bench)"
        ) from None
    return measure(options)


def completion(options: Namespace) -> int:
    """`derain completion`."""
    from benchmark.cli import build_parser
    from benchmark.cli.completion import script

    print(script(build_parser(), options.shell))
    return 0
