"""Text from outside (names of networks, files, reasons) inside Markdown, LaTeX and CSV, where it stays text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.files import write_text

if TYPE_CHECKING:
    import pandas as pd

_MARKDOWN = {"|": "\\|", "<": "&lt;", "[": "\\["}
_LATEX = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "[": "{[}",  # after a line break it would begin an option
    "^": "\\textasciicircum{}",
    "~": "\\textasciitilde{}",
    "&": "\\&",
    "%": "\\%",
    "_": "\\_",
    "#": "\\#",
    "$": "\\$",
    "±": "$\\pm$",
    "−": "$-$",
    "∞": "$\\infty$",
    "×": "$\\times$",
    "≈": "$\\approx$",
}
_FORMULA = tuple("=+-@\t\n")


def one_line(text: str) -> str:
    """The text without line breaks: a comment that ends early would let the rest of it be obeyed."""
    return " ".join(text.split())


def in_markdown(text: str) -> str:
    """The text for a Markdown table: no cell, tag or link begins or ends in it."""
    return "".join(_MARKDOWN.get(c, c) for c in one_line(text))


def in_latex(text: str) -> str:
    """The text for LaTeX: no command in it is obeyed."""
    return "".join(_LATEX.get(c, c) for c in one_line(text))


def csv_text(frame: pd.DataFrame) -> str:
    """A data frame as CSV; before text that a spreadsheet would take for a formula stands an apostrophe.

    Text alone: a number below zero stays a number.
    """
    return frame.map(_no_formula).rename(columns=_no_formula).to_csv(index=False, lineterminator="\n")


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a data frame as `csv_text`, in one piece."""
    write_text(path, csv_text(frame))


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")  # outside quotes it would end the row
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
