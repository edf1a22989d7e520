"""The frames of tables in Markdown and LaTeX: what all that the suite writes is put together by.

Cells come as they shall stand, escaped by `benchmark.text.escapes` where they are somebody's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_rows(
    head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool] = ()
) -> list[str]:
    """A table's lines in Markdown; columns of numbers are set to the right.

    Args:
        head: of the columns.
        rows: as many cells each.
        numeric: whether a column is of numbers; empty: none is.
    """
    right = numeric or [False] * len(head)
    marks = ["---:" if n else "---" for n in right]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]


def latex_rows(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool]) -> list[str]:
    """A tabular's lines for the booktabs package; arguments as for `markdown_rows`."""
    columns = "".join("r" if n else "l" for n in numeric)
    lines = [f"{' & '.join(cells)} \\\\" for cells in (head, *rows)]
    return [
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        lines[0],
        "\\midrule",
        *lines[1:],
        "\\bottomrule",
        "\\end{tabular}",
    ]
