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
    - model=prenet data=embedded seed=0
    - {row: table3/SRB, run: "model=esdnet data=embedded-heavy model.time_steps=4 seed=0"}

Runs are words as on the command line; a value in double quotes is that of a JSON string. A run can be left out, added
or changed; what is done already is known by what it is, not by its place in a file. Where files are written is not
for a plan to say: `out=` is refused, and `data.cache=` left to whoever does it.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, unknown
from benchmark.files import write_text
from benchmark.reading import path as expanded
from benchmark.reading import plain_of, whole, written
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
    released: str | None = None  # file of rows that nobody trained here (`benchmark.sweep.rows`)
    full_costs: bool = False  # the full networks', beside the scores of variants


def save(path: Path, heading: Heading, runs: Sequence[Planned], made_by: str = "") -> None:
    """Write a plan.

    Raises:
        UserError, WorkError: the file is neither YAML nor JSON by its name, a name in it is not UTF-8, or it cannot be
            written.
    """
    rows = [_entry(run) for run in runs]
    settings = [_as_in_file(w) for w in heading.settings or [] if not w.startswith("data.cache=")]
    heading = replace(heading, settings=settings)
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
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{path}: a plan is UTF-8, and a name in this one is not") from None
    write_text(path, text)


def _yaml(value: Any) -> str:
    """JSON, which is YAML too; plain where that is safe."""
    if isinstance(value, str) and value and all(c.isalnum() or c in " =._/-" for c in value) and "=" in value:
        return value
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else f"\\U{ord(c):08x}" for c in text)


def _entry(run: Planned) -> str | dict[str, Any]:
    words = shlex.join(map(_as_in_file, run.words))
    if not run.rows:
        return words
    rows = [f"{study}/{row}" for study, row in run.rows]
    return {"row": rows[0] if len(rows) == 1 else rows, "run": words}


def _as_in_file(word: str) -> str:
    """A word whose value would be taken for a JSON string, as one."""
    key, sign, value = word.partition("=")
    return f"{key}={json.dumps(value, ensure_ascii=False)}" if sign and _quoted(value) else word


def _of_file(word: str, path: Path) -> str:
    key, sign, value = word.partition("=")
    if key.lstrip("+") == "out":
        raise UserError(
            f"{path}: '{word}': a plan does not say where runs are kept; derain run … --runs FOLDER does"
        )
    if not sign or not _quoted(value):
        return word
    try:
        return f"{key}={json.loads(value)}"
    except ValueError:
        return word


def _quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] == '"'


def load(path: Path, out: str, cache: str | None = None) -> tuple[Heading, Plan]:
    """The plan in a file.

    Args:
        path: of the file.
        out: folder of the runs.
        cache: of decoded pictures, on this machine.

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
    left_out: list[str] = []
    heading = Heading(
        tables=[expanded(written(t)) for t in _list(told, "tables", path)],
        data=None if told.get("data") is None else expanded(str(told["data"])),
        recipe=str(told.get("recipe") or ("embedded" if told.get("data") is None else "paper")),
        values=_list(told, "values", path) or None,
        datasets=[str(d) for d in _list(told, "datasets", path)],
        settings=_words(_list(told, "settings", path), path, left_out),
        options=[_of_file(str(o), path) for o in _list(told, "options", path)],
        released=None if told.get("released") is None else expanded(str(told["released"])),
        full_costs=_flag(told, "full_costs", path),
    )
    entries = _list(told, "runs", path)
    if not entries and heading.released is None:
        raise UserError(f"{path}: runs is a list of runs, such as 'model=prenet data=embedded seed=0'")
    last = [] if cache is None else [f"data.cache={cache}"]
    planner = Planner([*common(heading.recipe, heading.data, out), *(heading.settings or [])], last)
    runs = unique(_planned(e, i, planner, path, left_out) for i, e in enumerate(entries, 1))
    if left_out:
        told_once = f"{path}: {left_out[0]} is left out; derain run … data.cache=FOLDER says where it is here"
        print(f"derain: {told_once}", file=sys.stderr)
    return heading, Plan(runs)


def _words(given: Iterable[Any], path: Path, left_out: list[str]) -> list[str]:
    """Settings as on the command line, without the cache of the machine that the plan was made on."""
    words = [_of_file(str(word), path) for word in given]
    left_out += [word for word in words if word.startswith("data.cache=")]
    return [word for word in words if not word.startswith("data.cache=")]


def _planned(entry: Any, number: int, planner: Planner, path: Path, left_out: list[str]) -> Planned:
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
        words = _words(shlex.split(entry) if isinstance(entry, str) else entry, path, left_out)
        seeds = [w.removeprefix("seed=") for w in words if w.startswith("seed=")]
        others = [w for w in words if not w.startswith("seed=")]
        seed = whole(seeds[-1]) if seeds else 0
        pairs = [(study, row) for study, _, row in (str(r).partition("/") for r in rows)]
        label = " ".join(pairs[0]) if pairs else ""
        return planner.plan(others, seed, label, pairs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: run {number}: {entry!r} is not a list of settings ({error})") from None
    except UserError as error:
        raise UserError(f"{path}: run {number}: {error}") from None


def _flag(told: Mapping[str, Any], key: str, path: Path) -> bool:
    value = told.get(key, False)
    if not isinstance(value, bool):
        raise UserError(f"{path}: {key} is true or false, not {value!r}")
    return value


def _list(told: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    value = told.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UserError(f"{path}: {key} is a list, not {value!r}")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        told = plain_of(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; derain table 1 --save-plan {path} makes one") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable plan ({' '.join(str(error).split())})") from None
    if not isinstance(told, dict):
        raise UserError(f"{path}: not a plan")
    return told
