"""Named conventions: what counts as an operation, and at how many picojoules.

A convention never changes what was measured; it says which of the counts are added up and what each costs.
Four are built in, a user's own is a small YAML file:

    name: my-chip
    title: My accelerator
    source: data sheet, page 3
    picojoules: {mac: 2.1, sop: 0.4, update: 0.8, elementwise: 0.05}

This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from benchmark.errors import UserError, unknown
from benchmark.reading import path as expanded
from benchmark.reading import read_yaml

COUNTS: Mapping[str, str] = MappingProxyType(
    {
        "mac": "a multiply-accumulate with a real-valued input (what the paper calls a FLOP)",
        "accumulate": "an accumulate with a binary input, counted densely, spike or not",
        "sop": "a synaptic operation: an accumulate that a spike triggers",
        "update": "a membrane updated and compared with its threshold (the paper's Sign)",
        "elementwise": "an element written by an element-wise operation",
        "norm": "an element normalised",
        "pool": "an element read by a pooling or a reduction",
        "resample": "an element written by an interpolation",
    }
)
"""The kinds of work that a convention can put a price on."""


@dataclass(frozen=True)
class Convention:
    """A named way of counting operations and energy.

    Attributes:
        name: What `--convention` takes.
        title: What a table's heading says.
        source: Where the prices come from.
        picojoules: Price of one of each kind of work in `COUNTS`; what is absent is free.
        counter: `full` adds up everything that was measured; `thop` sees only what thop 0.1.1 would have
            seen, its faults included.
        operations: What the operations column holds, so that MAC and FLOP are never mistaken for one another.
    """

    name: str
    title: str
    source: str
    picojoules: Mapping[str, float] = field(default_factory=dict)
    counter: Literal["full", "thop"] = "full"
    operations: str = "MAC"

    def energy_uj(self, counts: Mapping[str, float]) -> float:
        """Energy of so many operations of each kind, in microjoules."""
        return sum(price * counts.get(kind, 0) for kind, price in self.picojoules.items()) * 1e-6


# Constants: section 4.2 of the ESDNet paper gives 12.5 pJ a FLOP, 77 fJ a SOP and 3.7 pJ a sign; its energy
# columns hold the first term alone. 4.6 and 0.9 pJ are the usual 45 nm figures for 32-bit floating point
# (Horowitz, ISSCC 2014).
CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        c.name: c
        for c in (
            Convention(
                "full",
                "every MAC and SOP",
                "section 4.2's constants for a FLOP and a SOP, on complete counts",
                {"mac": 12.5, "sop": 0.077},
            ),
            Convention(
                "paper",
                "as printed (thop)",
                "the printed columns: thop's count times 12.5 pJ",
                {"mac": 12.5},
                counter="thop",
                operations="thop's FLOP (1 MAC = 1 FLOP)",
            ),
            Convention(
                "paper-text",
                "as section 4.2 says",
                "section 4.2's three constants, the third for each membrane compared with its threshold",
                {"mac": 12.5, "sop": 0.077, "update": 3.7},
            ),
            Convention(
                "45nm",
                "45 nm",
                "32-bit floating point in 45 nm: 4.6 pJ a MAC, 0.9 pJ an addition (Horowitz, ISSCC 2014)",
                {"mac": 4.6, "sop": 0.9},
            ),
        )
    }
)
"""The built-in conventions by name; the first is the default."""


def convention(given: str | Path | Convention) -> Convention:
    """A convention by name, from a YAML file, or as it is.

    Raises:
        UserError: no such convention and no such file, or the file is not a convention.
    """
    if isinstance(given, Convention):
        return given
    if str(given) in CONVENTIONS:
        return CONVENTIONS[str(given)]
    if str(given).endswith((".yaml", ".yml")):
        return load_convention(Path(expanded(str(given))))
    raise unknown("convention", str(given), CONVENTIONS)


def load_convention(path: Path) -> Convention:
    """Read a convention from a YAML file.

    Raises:
        UserError: the file is missing or not YAML, a field or a kind of work does not exist, a price is not a
            number of at least 0.
    """
    content = _read(path)
    allowed = ("name", "title", "source", "picojoules", "counter", "operations")
    for key in content:
        if key not in allowed:
            raise unknown(f"field of convention {path}", str(key), allowed)
    prices = content.get("picojoules")
    if not isinstance(prices, dict) or not prices:
        raise UserError(f"{path}: picojoules must map kinds of work to numbers, as in {{mac: 4.6, sop: 0.9}}")
    for kind, price in prices.items():
        if kind not in COUNTS:
            raise unknown(f"kind of work in {path}", str(kind), COUNTS)
        if isinstance(price, bool) or not isinstance(price, int | float) or not price >= 0:
            raise UserError(f"{path}: picojoules.{kind} is {price!r}: it must be a number of at least 0")
    counter = content.get("counter", "full")
    if counter not in ("full", "thop"):
        raise unknown(f"counter in {path}", str(counter), ("full", "thop"))
    name = str(content.get("name", path.stem))
    return Convention(
        name=name,
        title=str(content.get("title", name)),
        source=str(content.get("source", path)),
        picojoules={str(k): float(v) for k, v in prices.items()},
        counter=counter,
        operations=str(content.get("operations", "MAC" if counter == "full" else "thop's FLOP")),
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path}: no such convention file")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: a convention is a mapping with picojoules, not a {type(content).__name__}")
    return content


def describe(names: Iterable[str] = CONVENTIONS) -> str:
    """What each convention counts, a line each."""
    lines = []
    for name in names:
        c = convention(name)
        prices = ", ".join(f"{price:g} pJ per {kind}" for kind, price in c.picojoules.items())
        lines.append(f"{c.name}: {c.title}; {c.operations}; {prices} ({c.source})")
    return "\n".join(lines)
