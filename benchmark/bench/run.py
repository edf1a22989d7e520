"""`derain bench`: chooses, measures, shows, and writes after every case, so that a kill loses one."""

from __future__ import annotations

import math
import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.bench import results
from benchmark.bench.case import Case, Setting, load
from benchmark.bench.cases import CASES, STUDIES, choose, parts
from benchmark.files import require_writable, write_json, write_text
from benchmark.resident import keep_freed_memory
from benchmark.text import output
from benchmark.text.progress import bar
from benchmark.text.terminal import Head, Line, grid

Progress = Callable[[str], None]

_FOLDER, _QUICK_FOLDER = Path("results") / "bench", Path("runs") / "bench"
_PEERS = ("spikingjelly", "triton", "cupy-cuda12x", "opencv-python-headless")


def bench(options: Namespace) -> int:
    """Do what `derain bench` was asked; returns the exit status."""
    cases, studies = choose(w.strip() for w in (options.only or "").split(",") if w.strip())
    if options.list:
        _list(cases, studies)
        return 0
    threads = options.threads or _cores()
    folder = options.out or (_QUICK_FOLDER if options.quick else _FOLDER)
    require_writable(folder)
    keep_freed_memory()  # as runs do; both sides of a case are measured in this process
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that measure memory and steps

    import torch

    torch.set_num_threads(threads)
    provenance = _provenance(threads)
    name = results.machine_name(provenance["machine"])
    with _bar(len(cases) + len(studies)) as (progress, advance):
        if cases:
            rows = _cases(cases, threads, options, folder, name, provenance, progress, advance)
            progress("")
            output.give({"rows": rows}, output.frame_of(list(map(_flat, rows))), partial(_show, rows))
        for study, chosen in studies.items():
            _study(study, chosen, folder, name, threads, options.quick, provenance, progress)
            advance()
    return 0


def _cores() -> int:
    from benchmark.cgroup import cores

    return cores()


def _provenance(threads: int) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    from benchmark.run.records import shared_provenance

    found = shared_provenance()
    peers = {}
    for package in _PEERS:
        try:
            peers[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, "versions": {**found["versions"], **peers}, "threads": threads}


def _list(cases: Sequence[Case], studies: Iterable[str]) -> None:
    rows = [{"case": c.name, "device": c.device, "what": c.what} for c in cases]
    rows += [{"case": name, "device": "", "what": STUDIES[name]} for name in studies]
    output.give({"cases": rows}, output.frame_of(rows), lambda: _show_list(cases, studies))


def _show_list(cases: Sequence[Case], studies: Iterable[str]) -> None:
    for case in cases:
        wanted = [f"{p.name}{f' ≥ {p.asked:g}×' if p.asked is not None else ''}" for p in case.peers]
        if case.limit is not None:
            wanted.append(f"≤ {case.limit:g} s")
        if case.memory is not None and math.isfinite(case.memory):
            wanted.append(f"memory ≤ {case.memory:g}×")
        print(f"{case.name:<24}{case.device:<6}{case.what}: {', '.join(wanted)}")
    for study in studies:
        print(f"{study:<24}{'':<6}{STUDIES[study]}")


def _cases(
    cases: Sequence[Case],
    threads: int,
    options: Namespace,
    folder: Path,
    name: str,
    provenance: dict[str, Any],
    progress: Progress,
    advance: Callable[[], None],
) -> list[results.Row]:
    from benchmark.bench.measure import measure
    from benchmark.bench.memory import release

    order = [case.name for case in CASES]
    rounds, least = (2, 0.05) if options.quick else (5, 0.2)
    old = results.read(folder / f"{name}.json")
    rows: list[results.Row] = old["rows"] if old else []
    found: list[results.Row] = []
    taken = {"date": provenance["date"], "commit": provenance["commit"], "threads": threads}
    with tempfile.TemporaryDirectory(prefix="derain-bench-", ignore_cleanup_errors=True) as scratch:
        for case in cases:
            setting = Setting(case.device, threads, Path(scratch))
            new = measure(case, setting, options.rounds or rounds, least, options.slow, progress)
            missed = [row for row in new if row["reached"] is False]
            if options.profile and missed:
                progress(f"{case.name}: profile")
                path = _profile(case, setting, folder, name)
                for row in missed:
                    row["profile"] = path
            found += [{**row, "taken": taken} for row in new]
            rows = results.merge(rows, [r for r in found if r["case"] == case.name], order)
            results.save(folder, name, rows, provenance)
            release()
            advance()
    progress(f"wrote {folder / name}.json and .md")
    return found


def _profile(case: Case, setting: Setting, folder: Path, name: str) -> str:
    from benchmark.bench import profiles

    # on one thread where the side has a pool: a profiler sees the thread that it is started in
    ours = load(case.ours)(replace(setting, threads=1))
    ours()
    text = (
        profiles.of_functions(ours) if case.profiler == "python" else profiles.of_operators(ours, case.device)
    )
    relative = f"profiles/{name}/{case.name.replace('/', '-')}.txt"
    write_text(folder / relative, f"{case.name}: {case.what}\n\n{text}")
    return relative


def _flat(row: results.Row) -> dict[str, Any]:
    """A row for CSV: nested figures by dotted names."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{k}": v for k, v in value.items()}
        else:
            flat[key] = value
    return flat


def _show(rows: Sequence[results.Row]) -> None:
    figures = ("ours", "peer's")
    heads = [
        Head(h, figures=h in figures)
        for h in ("beside", *figures, "ratio", "of CPU time", "asked", "reached")
    ]
    lines = [
        Line(
            row["case"] + (" (memory)" if row["quantity"] == "memory" else ""),
            [
                row["peer"] or "",
                results.amount(row, "ours"),
                results.amount(row, "theirs"),
                results.ratio(row),
                results.processor_ratio(row),
                results.asked(row),
                results.reached(row) + (f" ({row['profile']})" if row["profile"] else ""),
            ],
            {True: "green", False: "red", None: "dim" if row["reason"] else ""}[row["reached"]],
        )
        for row in rows
    ]
    grid("case", heads, lines)
    output.remark(*results.notes(rows))
    open_rows = [row for row in rows if row["reached"] is False and not row["profile"]]
    if open_rows:
        output.remark("What was asked for and not reached is explained by a profile: derain bench --profile")


def _study(
    study: str,
    chosen: Sequence[str],
    folder: Path,
    name: str,
    threads: int,
    quick: bool,
    provenance: dict[str, Any],
    progress: Progress,
) -> None:
    """Measure the parts of a study that are chosen, one by one; what was measured before of the others stays."""
    from benchmark.bench import reproduction, scaling

    device, path = _device(), folder / f"{study}-{name}.json"
    old = results.read(path)
    key = "network" if study == "reproduction" else "axis"
    order, rows = parts(study), (old["rows"] if old else [])
    for part in chosen:
        before = results.load_average()
        if study == "reproduction":
            new = reproduction.measure([part], device, threads, 1.0 if quick else 30.0, progress)
        else:
            new = scaling.measure([part], device, threads, 0.5 if quick else 3.0, quick, progress)
        taken = {
            "date": provenance["date"],
            "commit": provenance["commit"],
            "threads": threads,
            "load": {"before": before, "after": results.load_average()},
        }
        kept = [row for row in rows if row[key] != part and row[key] in order]
        rows = sorted([*kept, *({**row, "taken": taken} for row in new)], key=lambda r: order.index(r[key]))
        data = {"format": results.FORMAT, "device": device, "provenance": provenance, "rows": rows}
        write_json(path, data)
        written = (
            [reproduction.write(folder)] if study == "reproduction" else scaling.write(folder, name, data)
        )
    for drawn in written:
        progress(f"wrote {drawn}")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def _bar(total: int) -> Iterator[tuple[Progress, Callable[[], None]]]:
    """What is going on, on standard error: a bar on a terminal, lines elsewhere."""
    import sys

    with bar("", total, sys.stderr.isatty()) as step:

        def progress(line: str) -> None:
            step.update(note=line)
            if line and (not step.on_terminal or line.startswith("wrote ")):
                print(line, file=sys.stderr, flush=True)

        yield progress, step.advance
