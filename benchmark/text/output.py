"""Where a command's figures go: for people, or as JSON or CSV alone on the standard output; and its remarks."""

from __future__ import annotations

import dataclasses
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError, printable

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.text.table import Table

STDOUT = Path("-")
_TABLE = ("method,", "state,run,")
_BEGINNINGS = {  # what the tables of commands begin with, by which one is known again
    "models": ("name,network,",),
    "score": ("name,width,height,",),
    "evaluate": ("name,width,height,",),
    "inspect": ("layer",),
    "bench": ("case,",),
    "ablations": ("name,title,", *_TABLE),
    "train": ("dataset,", "setting,"),
    "config": ("setting,",),
    "cost": ("convention,", "name,", "network,"),
    "data": ("folder,", "name,title,", "files,", "pairs,"),
    "restore": ("input,",),
    "export": ("file,",),
    **dict.fromkeys(("table", "run", "study"), _TABLE),
}


@dataclass
class _Figures:
    """What a command has given out."""

    machine: bool  # whether the standard output is for JSON or CSV alone
    quiet: bool = False  # whether nothing beside the figures is wanted
    values: dict[str, Any] = field(default_factory=dict)
    rows: Callable[[], pd.DataFrame] | None = None


_figures: ContextVar[_Figures | None] = ContextVar("figures", default=None)


@contextmanager
def output(options: Namespace) -> Iterator[None]:
    """While a command works: its figures to where --json and --csv say, its words to the standard error then.

    Raises:
        UserError: both are to be on the standard output, or --csv is no name of a table.
    """
    as_json = getattr(options, "json", None) in (True, STDOUT)
    csv = getattr(options, "csv", None)
    if as_json and csv == STDOUT:
        raise UserError(
            "--json and --csv - both ask for the standard output: give one of them, or --csv FILE"
        )
    if csv is not None and csv != STDOUT:
        from benchmark.files import require_table

        require_table(csv, f"derain {options.command}", *_BEGINNINGS.get(options.command, ()))
    found = _Figures(as_json or csv == STDOUT, getattr(options, "quiet", False))
    token = _figures.set(found)
    stdout = sys.stdout
    try:
        if found.machine:
            with redirect_stdout(sys.stderr):
                yield
        else:
            yield
    finally:
        _figures.reset(token)
    _write(found, as_json, csv, stdout)


def _write(found: _Figures, as_json: bool, csv: Path | None, stdout: Any) -> None:
    if csv is not None and found.rows is not None:
        from benchmark.files import write_text
        from benchmark.text.escapes import csv_text

        text = csv_text(found.rows())
        if csv == STDOUT:
            stdout.write(text)
        else:
            write_text(csv, text)
            if not found.quiet:
                print(f"wrote {printable(csv)}", file=sys.stderr if found.machine else stdout)
    if as_json:
        from benchmark.files import plain

        stdout.write(json.dumps(plain(_finite(found.values)), indent=1, ensure_ascii=False) + "\n")


def _finite(data: Any) -> Any:
    """Without NaN, which is no JSON: null."""
    if isinstance(data, dict):
        return {k: _finite(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(v) for v in data]
    return None if isinstance(data, float) and data != data else data


def give(values: dict[str, Any], rows: Callable[[], pd.DataFrame] | None, show: Callable[[], None]) -> None:
    """A command's figures, by name for --json, as rows for --csv (the first that are given), or shown to people."""
    found = _figures.get()
    if found is not None:
        found.values |= values
        found.rows = found.rows or rows
        if found.machine:
            return
    show()


def remark(*lines: str) -> None:
    """Lines beside the figures, for people: on the standard output; where that is for JSON or CSV, on the error.

    With --quiet they are not wanted.
    """
    found = _figures.get()
    if found is None or not found.quiet:
        for line in lines:
            print(line, flush=True)


def wrote(paths: Iterable[Path]) -> None:
    """Remark on the files that were written."""
    remark(*(f"wrote {printable(path)}" for path in paths))


def tables(shown: Sequence[Table]) -> None:
    """Tables of figures, the main one first: that is the one of --csv. With --quiet without the notes beneath them."""
    from benchmark.text.table import frame
    from benchmark.text.terminal import show

    found = _figures.get()
    before = found.values.get("tables", []) if found is not None else []

    def print_all() -> None:
        for table in shown:
            show(dataclasses.replace(table, notes=()) if found is not None and found.quiet else table)

    as_data = [dataclasses.asdict(table) for table in shown]
    give({"tables": [*before, *as_data]}, (lambda: frame(shown[0])) if shown else None, print_all)


def frame_of(rows: Sequence[dict[str, Any]]) -> Callable[[], pd.DataFrame]:
    """Rows as what `give` takes, made when they are asked for."""

    def make() -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(list(rows))

    return make


def is_output(path: Path | None) -> bool:
    """Whether --csv names a file, which is not to be written over blindly."""
    return path is not None and path != STDOUT


__all__ = ["STDOUT", "frame_of", "give", "is_output", "output", "remark", "tables", "wrote"]
