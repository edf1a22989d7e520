"""Tables of costs into Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError
from benchmark.files import write_text
from benchmark.text.escapes import csv_text, in_latex, in_markdown
from benchmark.text.markup import latex_rows, markdown_rows

if TYPE_CHECKING:
    import pandas as pd


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
    return str(value)


def markdown(frame: pd.DataFrame, digits: int = 5) -> str:
    """A table in Markdown; numbers to so many significant digits."""
    head = [in_markdown(str(c)) for c in frame.columns]
    numeric = [frame[c].dtype.kind in "if" for c in frame.columns]
    rows = [
        [in_markdown(_cell(v, digits)) for v in record]
        for record in frame.astype(object).itertuples(index=False)
    ]
    return "\n".join(markdown_rows(head, rows, numeric)) + "\n"


def latex(frame: pd.DataFrame, digits: int = 5) -> str:
    """A table for the booktabs package."""
    numeric = [frame[c].dtype.kind in "if" for c in frame.columns]
    rows = [
        [in_latex(_cell(v, digits)) for v in record]
        for record in frame.astype(object).itertuples(index=False)
    ]
    return "\n".join(latex_rows([in_latex(str(c)) for c in frame.columns], rows, numeric)) + "\n"


def write(frame: pd.DataFrame, path: str | Path, preface: str = "") -> Path:
    """Write a table in the form that the file's ending asks for: .md, .csv, .tex or .json.

    Args:
        frame: The table.
        path: Written under a temporary name first, so that a broken run leaves no half file.
        preface: Goes before the table in Markdown, and as a comment in LaTeX.

    Raises:
        UserError: another ending.
        WorkError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".md":
        text = (preface.rstrip() + "\n\n" if preface else "") + markdown(frame)
    elif path.suffix == ".csv":
        text = csv_text(frame)
    elif path.suffix == ".tex":
        text = "".join(f"% {line}\n" for line in preface.splitlines()) + latex(frame)
    elif path.suffix == ".json":
        text = json.dumps(json.loads(frame.to_json(orient="records")), indent=2, ensure_ascii=False) + "\n"
    else:
        raise UserError(f"{path}: a table is written as .md, .csv, .tex or .json")
    write_text(path, text)
    return path
