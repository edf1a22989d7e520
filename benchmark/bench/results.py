"""Results of the bench on disk: one JSON a machine, and the same as Markdown.

A row of the JSON is a case beside one peer: what was compared (case, what, device, quantity, unit, work, peer,
peer_work), "ours" and "theirs" in seconds a call or bytes (median, low, high), "ratio" (the same and each round's),
"processor_ratio" (the same of processor time, where there is one),
"asked" and "reached", "difference" of the results beside the "agreement" asked for, "rounds", "load" (the system's
load averages before and after), "profile", and "reason" where it was not measured. Rows measured again replace the
older ones; each says when and at which commit it was taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.files import write_json, write_text
from benchmark.reading import json_of
from benchmark.text.markup import markdown_rows
from benchmark.text.words import several

FORMAT = 1

Row = dict[str, Any]
Data = dict[str, Any]

_MOST_SPREAD = 1.5  # highest of the rounds' ratios to the lowest, above which the table says so
_BUSY = 1.5  # load average, beyond the bench's own threads, above which other programs were running


def machine_name(machine: dict[str, Any]) -> str:
    """What a machine's files are called: its accelerator, else its processor and cores.

    >>> machine_name({"processor": "AMD EPYC", "cores": 2})
    'amd-epyc-2-cores'
    """
    name = machine.get("accelerator") or f"{machine['processor']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def read(path: Path) -> Data | None:
    """A results file; None where there is none.

    Raises:
        UserError: it is not one.
    """
    try:
        data = json_of(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable results file ({error}); remove it to measure again"
        ) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{path}: not a results file of this version (format {FORMAT}); remove it")
    return data


def merge(old: Iterable[Row], new: Iterable[Row], order: Sequence[str]) -> list[Row]:
    """Rows measured now in place of those of the same case, in the order of the cases."""
    fresh = list(new)
    again = {row["case"] for row in fresh}
    kept = [row for row in old if row["case"] not in again and row["case"] in order]
    return sorted([*kept, *fresh], key=lambda row: order.index(row["case"]))


def save(folder: Path, name: str, rows: Sequence[Row], provenance: Data) -> list[Path]:
    """Write NAME.json and NAME.md; returns their paths."""
    data = {"format": FORMAT, "provenance": provenance, "rows": list(rows)}
    paths = [folder / f"{name}.json", folder / f"{name}.md"]
    write_json(paths[0], data)
    write_text(paths[1], markdown(data))
    return paths


def by_machine(folder: Path, pattern: str) -> Iterator[tuple[str, Data]]:
    """(description of the machine, contents) of all results files of a kind."""
    for path in sorted(folder.glob(pattern)):
        data = read(path)
        if data is not None:
            yield describe(data["provenance"]), data


def describe(provenance: Data) -> str:
    """A machine in words."""
    machine = provenance["machine"]
    words = [machine.get("accelerator"), machine["processor"], f"{machine['cores']} cores"]
    if "memory_gib" in machine:
        words.append(f"{machine['memory_gib']:g} GiB")
    return ", ".join(word for word in words if word)


def duration(value: float) -> str:
    """Seconds with a unit that fits and three digits.

    >>> duration(0.00123), duration(12.34)
    ('1.23 ms', '12.3 s')
    """
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1 or unit == "µs":
            return f"{_digits(value * factor)} {unit}"
    raise AssertionError


def size_of(value: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def amount(row: Row, side: str) -> str:
    """One side of a row: its time, rate or memory."""
    if row[side] is None:
        return ""
    value = row[side]["median"]
    if row["quantity"] == "memory":
        return size_of(value)
    if row["unit"] == "s":
        return duration(value)
    return f"{_digits(row['work' if side == 'ours' else 'peer_work'] / value)} {row['unit']}"


def ratio(row: Row) -> str:
    """The ratio with its spread."""
    if row["ratio"] is None:
        return ""
    median, low, high = (_digits(row["ratio"][k]) for k in ("median", "low", "high"))
    return f"{median}×" if row["rounds"] < 2 else f"{median}× ({low} to {high})"


def processor_ratio(row: Row) -> str:
    """The ratio of processor times."""
    return f"{_digits(row['processor_ratio']['median'])}×" if row["processor_ratio"] else ""


def asked(row: Row) -> str:
    """What is asked for."""
    if row["asked"] is None:
        return ""
    if row["peer"] is None:
        return f"≤ {row['asked']:g} s"
    return f"{'≤' if row['quantity'] == 'memory' else '≥'} {row['asked']:g}×"


def reached(row: Row) -> str:
    """Whether it is reached; or why nothing was measured."""
    if row["reason"] is not None:
        return f"not measured: {row['reason']}"
    said = {True: "yes", False: "no", None: ""}[row["reached"]]
    if row["difference"] is not None and row["difference"] > row["agreement"]:
        said += f"; results differ by {row['difference']:.2g}, asked is at most {row['agreement']:.2g}"
    return said


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader should know of the circumstances: load, wide spreads, results that agree."""
    measured = [r for r in rows if r["reason"] is None]
    found = []
    loads = [r["load"]["before"][0] for r in measured if r["load"] and r["load"]["before"]]
    if loads and max(loads) > _BUSY:  # nothing of ours runs before a case
        found.append(
            f"Other programs were running: the one-minute load average before the cases was {min(loads):g} to "
            f"{max(loads):g}. Both sides of a ratio ran in the same minutes; times by themselves say little."
        )
    wide = [
        r["case"]
        for r in measured
        if r["ratio"] and r["ratio"]["low"] and r["ratio"]["high"] / r["ratio"]["low"] > _MOST_SPREAD
    ]
    if wide:
        found.append(
            f"The rounds' ratios differ by more than {_MOST_SPREAD} times in: {', '.join(dict.fromkeys(wide))}."
        )
    compared = [r for r in measured if r["difference"] is not None]
    if compared:
        found.append(
            "Results of both sides were compared in the same run: "
            + "; ".join(f"{r['case']} beside {r['peer']}: {r['difference']:.2g}" for r in compared)
            + "."
        )
    return found


def load_average() -> list[float]:
    """The system's load averages over 1, 5 and 15 minutes; none where it has none."""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else []


def circumstances(rows: Sequence[Row]) -> str:
    """When rows were taken, at which commits, with how many threads, and how busy the machine was."""
    taken = [row["taken"] for row in rows]
    made = sorted({(t["date"][:10], t["commit"] or "no commit", t["threads"]) for t in taken})
    text = "; ".join(f"{date} at {commit}, {several(threads, 'thread')}" for date, commit, threads in made)
    loads = [x for t in taken for when in ("before", "after") for x in t["load"][when][:1]]
    if not loads:
        return f"{text}."
    busy = max(loads) > _BUSY + max(t["threads"] for t in taken)
    return f"{text}. One-minute load average {min(loads):g} to {max(loads):g}" + (
        ": other programs were running, and the times are longer for it." if busy else "."
    )


def markdown(data: Data) -> str:
    """The table of a results file."""
    rows, provenance = data["rows"], data["provenance"]
    head = ["case", "beside", "ours", "peer's", "ratio", "of processor time", "asked", "reached"]
    body = []
    for row in rows:
        last = reached(row)
        if row["profile"]:
            last += f" ([profile]({row['profile']}))"
        name = row["case"] + (" (memory)" if row["quantity"] == "memory" else "")
        body.append(
            [
                name,
                row["peer"] or "",
                amount(row, "ours"),
                amount(row, "theirs"),
                ratio(row),
                processor_ratio(row),
                asked(row),
                last,
            ]
        )
    taken = sorted({(r["taken"]["date"][:10], r["taken"]["commit"]) for r in rows if r.get("taken")})
    what = {row["case"]: row["what"] for row in rows}
    versions = ", ".join(f"{k} {v}" for k, v in provenance["versions"].items())
    lines = [
        f"# Bench: {describe(provenance)}",
        "",
        f"`{provenance['command']}`, {several(provenance['threads'], 'thread')}; "
        + "; ".join(f"{date} at {commit or 'no commit'}" for date, commit in taken)
        + f". {versions}.",
        "",
        "The ratio is the peer's time for the same work over ours (of memory: ours over the peer's): median of the",
        "rounds, lowest and highest in brackets. The ratio of the processor times that the two used hardly depends on",
        "other programs, and does not see what several cores share.",
        "",
        *table(head, body),
        "",
        *(f"- {note}" for note in notes(rows)),
        "",
        "What is done:",
        "",
        *(f"- `{case}`: {text}" for case, text in what.items()),
    ]
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return markdown_rows(head, [[cell.replace("|", "\\|") for cell in row] for row in body])
