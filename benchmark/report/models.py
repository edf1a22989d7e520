"""The catalogue as a page: list, details, Markdown."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from benchmark.catalog import Network
from benchmark.report.paper import printed, results
from benchmark.shipped import Shipped, shipped
from benchmark.text.escapes import in_markdown
from benchmark.text.markup import markdown_rows
from benchmark.text.terminal import Head, Line, grid
from benchmark.text.words import several

HEADERS = (
    "name",
    "network",
    "family",
    "year",
    "parameters (M)",
    "GMAC at 256²",
    "released weights",
    "licence of the code",
    "citation",
)

_NUMBERS = {*HEADERS[4:6], "MB", "parameters"}


@cache
def _counted() -> dict[str, dict[str, float]]:
    """True parameters (M) and dense operations (G) of the full networks, by title: the corrected Table 1."""
    with results("cost/table1.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["network"]: {
                "params_m": float(row["params_true_m"]),
                "operations_g": float(row["operations_g"]),
            }
            for row in csv.DictReader(file)
        }


def _cells(entry: Network) -> tuple[str, ...]:
    counted = _counted().get(entry.title)
    return (
        entry.name,
        entry.title,
        entry.family,
        str(entry.year),
        f"{counted['params_m']:.3f}" if counted else "",
        f"{counted['operations_g']:.3f}" if counted else "",
        _released(entry),
        entry.licence,
        _citation(entry),
    )


def _released(entry: Network) -> str:
    """Whether its authors' weights can be had, and fit."""
    words = entry.weights
    if words.startswith("none"):
        return "not by its authors" if "by others" in words else "no"
    if "do not fit" in words:
        return "do not fit"
    return "not for rain" if "none for deraining" in words else "yes"


def _citation(entry: Network) -> str:
    """Short form: first author, or a name in braces of its own whole, venue and year."""
    authors = re.search(r"author\s*=\s*\{((?:[^{}]|\{[^{}]*\})*)\}", entry.citation)
    if authors is None:
        return _place(entry)
    names = re.split(r"\s+and\s+", authors[1].strip())
    whole = re.fullmatch(r"\{([^{}]*)\}", names[0])
    first = whole[1] if whole else names[0].partition(",")[0]
    return f"{first}{' et al.' * (len(names) > 1)}, {_place(entry)}"


def _place(entry: Network) -> str:
    """Venue and year, the year alone of what was not published."""
    return f"{entry.venue} {entry.year}" if entry.venue.strip("–- ") else str(entry.year)


SHIPPED_HEADERS = (
    "weights that ship",
    "MB",
    "parameters",
    "trained",
    "scores, PSNR-Y",
    "s a megapixel",
    "licence",
)


def _shipped_cells(entry: Shipped) -> tuple[str, ...]:
    card = entry.card
    training, speed = card["training"], card["seconds_per_megapixel"]
    return (
        entry.name,
        f"{card['bytes'] / 1e6:.2f}",
        f"{card['parameters']:,}",
        f"{sum((t['hours'] for t in card['before']), training['hours']):.1f} h on {training['data']['images']} "
        f"photographs ({training['data']['dataset']})",
        "; ".join(
            f"{title} {mean['psnr_esdnet']:.2f} (rainy {mean['rainy_psnr_esdnet']:.2f})"
            for title, mean in card["scores"].items()
        ),
        f"{speed['seconds']} ({several(speed['threads'], 'thread')})",
        card["licence"],
    )


def _tables(entries: Sequence[Network]) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """The networks, and the weights that ship for them: headers and rows of each."""
    names = {entry.name for entry in entries}
    ships = [_shipped_cells(entry) for entry in shipped().values() if entry.network in names]
    return [(HEADERS, [*map(_cells, entries)]), *([(SHIPPED_HEADERS, ships)] if ships else [])]


def markdown(entries: Sequence[Network]) -> str:
    """The list, and the weights that ship, as Markdown tables."""
    pages = []
    for headers, rows in _tables(entries):
        lines = markdown_rows(
            [in_markdown(h) for h in headers], [[in_markdown(cell) for cell in row] for row in rows]
        )
        pages.append("\n".join(lines) + "\n")
    return "\n".join(pages)


def show(entries: Sequence[Network]) -> None:
    """The list, and the weights that ship, in the terminal."""
    for i, (headers, rows) in enumerate(_tables(entries)):
        if i:
            print()
        heads = [Head(header, figures=header in _NUMBERS) for header in headers[1:]]
        grid(headers[0], heads, [Line(row[0], row[1:]) for row in rows])


def listed(entries: Sequence[Network]) -> dict[str, list[dict[str, Any]]]:
    """The list, and the weights that ship, as data; figures are numbers, None where there is none."""
    names = {entry.name for entry in entries}
    networks = []
    for entry in entries:
        row: dict[str, Any] = dict(zip(HEADERS, _cells(entry), strict=True))
        counted = _counted().get(entry.title, {})
        row[HEADERS[3]] = entry.year
        row[HEADERS[4]], row[HEADERS[5]] = counted.get("params_m"), counted.get("operations_g")
        networks.append(row)
    ships = [
        {"name": s.name, "network": s.network, **s.card} for s in shipped().values() if s.network in names
    ]
    return {"networks": networks, "weights": ships}


def details(entry: Network) -> str:
    """All that the catalogue knows of one network."""
    options = ", ".join(f"{k}={'required' if v is ... else v}" for k, v in entry.options().items())
    lines = [
        f"{entry.title} ({entry.family}, {_place(entry)})",
        f"  code       {entry.code}, licence: {entry.licence}",
        f"  weights    {entry.weights}",
        f"  input      at least {entry.minimum_size} px a side, padded to multiples of {entry.size_multiple}",
        f"  test       {f'tiles of {entry.tile[0]}, overlap {entry.tile[1]}' if entry.tile else 'whole images'}",
        f"  options    {options}",
        f"  embedded   {', '.join(f'{k}={v}' for k, v in entry.embedded.items())}",
    ]
    counted = _counted().get(entry.title)
    if counted:
        lines.append(
            f"  cost       {counted['params_m']:.6f} M parameters, {counted['operations_g']:.3f} GMAC at 256×256"
        )
    paper = printed("table1").get(entry.paper_row or "")
    lines += [
        f"  ships      {' · '.join(_shipped_cells(ship))}"
        for ship in shipped().values()
        if ship.network == entry.name
    ]
    if paper:
        lines.append(
            f"  printed    {paper['params_m']} M parameters, {paper['flops_g']} G (ESDNet paper, Table 1)"
        )
    return "\n".join([*lines, "", entry.citation])
