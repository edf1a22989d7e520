"""Plans as files: YAML or JSON that can be read, edited, shared and run.

    # derain run plan.yaml
    format: 1
    tables: ["1"]                     # drawn when the runs have ended; studies by name or by the path of their YAML
    values: null                      # of a study over one setting, where they are not its own
    data: null                        # folder of the published datasets; null: the embedded ones
    recipe: embedded
    datasets: []                      # columns of Table 1; empty: all
    settings: [logger=csv]            # of every run
    runs:
    - model=prenet data=embedded-light seed=0
    - {row: table3/SRB, run: "model=esdnet data=embedded-heavy model.time_steps=4 seed=0"}

Runs are words as on the command line. A run can be left out, added or changed; what is done already is known by what
it is, not by its place in a file.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, unknown
from benchmark.files import write_text
from benchmark.sweep.plan import Plan, Planned, Planner, common, unique

FORMAT = 1


@dataclass(frozen=True)
class Heading:
    """What a plan is for, and what its runs have in common; as in the file."""

    tables: list[str]
    data: str | None
    recipe: str
    values: list[Any] | None = None
    datasets: list[str] | None = None
    settings: list[str] | None = None
    options: list[str] | None = None  # Table 2's own settings (photographs=…)


def save(path: Path, heading: Heading, runs: Sequence[Planned], made_by: str = "") -> None:
    """Write a plan.

    Raises:
        UserError, WorkError: the file is neither YAML nor JSON by its name, or cannot be written.
    """
    rows = [_entry(run) for run in runs]
    if path.suffix == ".json":
        told = {"format": FORMAT, **asdict(heading), "runs": rows}
        text = json.dumps(told, indent=1, ensure_ascii=False)
    elif path.suffix in (".yaml", ".yml"):
        head = "".join(f"{key}: {_yaml(value)}\n" for key, value in asdict(heading).items())
        lines = "".join(f"- {_yaml(row)}\n" for row in rows)
        text = (
            f"# {made_by}\n" * bool(made_by)
            + f"# To do it: derain run {path}\nformat: {FORMAT}\n{head}runs:\n{lines}"
        )
    else:
        raise UserError(f"{path}: a plan is a .yaml or a .json file")
    write_text(path, text)


def _yaml(value: Any) -> str:
    """JSON, which is YAML too; plain where that is safe."""
    if isinstance(value, str) and value and all(c.isalnum() or c in " =._/-" for c in value) and "=" in value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _entry(run: Planned) -> str | dict[str, Any]:
    words = shlex.join(run.words)
    if not run.rows:
        return words
    rows = [f"{study}/{row}" for study, row in run.rows]
    return {"row": rows[0] if len(rows) == 1 else rows, "run": words}


def load(path: Path, out: str) -> tuple[Heading, Plan]:
    """The plan in a file.

    Args:
        path: of the file.
        out: folder of the runs.

    Raises:
        UserError: no such file, not a plan, or a setting in it is wrong; says which run.
    """
    told = _read(path)
    names = [f.name for f in fields(Heading)]
    for key in told:
        if key not in ("format", "runs", *names):
            raise unknown(f"key of a plan ({path})", str(key), ["format", "runs", *names])
    if told.get("format") != FORMAT:
        raise UserError(f"{path}: not a plan of this version (format: {FORMAT})")
    heading = Heading(
        tables=[str(t) for t in _list(told, "tables", path)],
        data=None if told.get("data") is None else str(told["data"]),
        recipe=str(told.get("recipe") or ("embedded" if told.get("data") is None else "paper")),
        values=_list(told, "values", path) or None,
        datasets=[str(d) for d in _list(told, "datasets", path)],
        settings=[str(s) for s in _list(told, "settings", path)],
        options=[str(o) for o in _list(told, "options", path)],
    )
    entries = _list(told, "runs", path)
    if not entries:
        raise UserError(f"{path}: runs is a list of runs, such as 'model=prenet data=embedded-light seed=0'")
    planner = Planner([*common(heading.recipe, heading.data, out), *(heading.settings or [])])
    return heading, Plan(unique(_planned(e, i, planner, path) for i, e in enumerate(entries, 1)))


def _planned(entry: Any, number: int, planner: Planner, path: Path) -> Planned:
    rows: list[Any] = []
    if isinstance(entry, Mapping):
        strange = [key for key in entry if key not in ("row", "run")]
        if strange or "run" not in entry:
            raise UserError(
                f"{path}: run {number}: has 'run' (its settings) and perhaps 'row', not {dict(entry)}"
            )
        given = entry.get("row") or []
        rows = given if isinstance(given, list) else [given]
        entry = entry["run"]
    try:
        words = shlex.split(entry) if isinstance(entry, str) else [str(w) for w in entry]
        seeds = [w.removeprefix("seed=") for w in words if w.startswith("seed=")]
        others = [w for w in words if not w.startswith("seed=")]
        seed = int(seeds[-1]) if seeds else 0
        pairs = [(study, row) for study, _, row in (str(r).partition("/") for r in rows)]
        label = " ".join(pairs[0]) if pairs else ""
        return planner.plan(others, seed, label, pairs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: run {number}: {entry!r} is not a list of settings ({error})") from None
    except UserError as error:
        raise UserError(f"{path}: run {number}: {error}") from None


def _list(told: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    value = told.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UserError(f"{path}: {key} is a list, not {value!r}")
    return value


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten thousand runs: ten times as fast
        told = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; derain table 1 --save-plan {path} makes one") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable plan ({' '.join(str(error).split())})") from None
    if not isinstance(told, dict):
        raise UserError(f"{path}: not a plan")
    return told
