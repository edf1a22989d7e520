"""Named conventions: what counts as an operation, and at how many picojoules.

A convention never changes what was measured; it says which of the counts are added up and what each costs.
Five are built in, a user's own is a small YAML file:

    name: my-chip
    title: My accelerator
    source: data sheet, page 3
    picojoules: {mac: 2.1, sop: 0.4, update: 0.8, elementwise: 0.05}

or, with memories (`benchmark.cost.memory.MemoryModel` says what each is; what is absent is Lemaire's):

    memory: {add: 0.1, multiply: 3.1, points: [[8192, 10], [32768, 20]], queue: 1000, potentials: 65536}

This module imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from benchmark.cost.memory import Accesses, MemoryModel, together
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
        memory: Prices of memories, addresses and their arithmetic; None: they are free.
    """

    name: str
    title: str
    source: str
    picojoules: Mapping[str, float] = field(default_factory=dict)
    counter: Literal["full", "thop"] = "full"
    operations: str = "MAC"
    memory: MemoryModel | None = None

    def energy_uj(self, counts: Mapping[str, float], accesses: tuple[Accesses, ...] = ()) -> float:
        """Energy of so many operations of each kind, and of accesses to memories if it prices them, in microjoules."""
        return sum(self.parts_uj(counts, accesses).values())

    def parts_uj(
        self, counts: Mapping[str, float], accesses: tuple[Accesses, ...] = ()
    ) -> Mapping[str, float]:
        """The same by kind of work, and by part of the memories."""
        parts = {kind: price * counts.get(kind, 0) * 1e-6 for kind, price in self.picojoules.items()}
        if self.memory is not None:
            parts |= {part: energy * 1e-6 for part, energy in together(accesses, self.memory).items()}
        return parts


# Constants: section 4.2 of the ESDNet paper gives 12.5 pJ a FLOP, 77 fJ a SOP and 3.7 pJ a sign; its energy
# columns hold the first term alone. The first is of an FPGA, the second of an analogue neuron's synapse. 4.6 and
# 0.9 pJ are the usual 45 nm figures for 32-bit floating point (Horowitz, ISSCC 2014).
CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        c.name: c
        for c in (
            Convention(
                "45nm",
                "45 nm",
                "32-bit floating point in 45 nm: 4.6 pJ a MAC, 0.9 pJ an addition (Horowitz, ISSCC 2014)",
                {"mac": 4.6, "sop": 0.9},
            ),
            Convention(
                "lemaire",
                "45 nm with memory",
                "memory accesses, addressing and 32-bit integers in 45 nm (Lemaire et al., ICONIP 2022)",
                memory=MemoryModel(),
            ),
            Convention(
                "full",
                "every MAC and SOP",
                "section 4.2's constants, of two chips (an FPGA's operation, an analogue synapse), on complete counts",
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
        )
    }
)
"""The built-in conventions by name; the first is the default."""

DEFAULT = next(iter(CONVENTIONS))


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
    allowed = ("name", "title", "source", "picojoules", "memory", "counter", "operations")
    for key in content:
        if key not in allowed:
            raise unknown(f"field of convention {path}", str(key), allowed)
    memory = _memory(path, content["memory"]) if content.get("memory") is not None else None
    prices = content.get("picojoules", {} if memory else None)
    if memory and not prices and isinstance(prices, dict):
        pass  # memories alone have a price
    elif not isinstance(prices, dict) or not prices:
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
        memory=memory,
    )


def _memory(path: Path, content: Any) -> MemoryModel:
    if not isinstance(content, dict):
        raise UserError(f"{path}: memory is a mapping, as in {{add: 0.1, queue: 1000}}, not {content!r}")
    allowed = [f.name for f in dataclasses.fields(MemoryModel)]
    given: dict[str, Any] = {}
    for key, value in content.items():
        if key not in allowed:
            raise unknown(f"field of memory in {path}", str(key), allowed)
        if key == "points":
            sizes = [p[0] for p in value] if _pairs(value) else []
            if not sizes or sizes != sorted(set(sizes)) or sizes[0] <= 0:
                raise UserError(
                    f"{path}: memory.points must be pairs of bytes and picojoules, larger and larger, as in "
                    "[[8192, 10], [32768, 20]]"
                )
            given[key] = tuple((float(size), float(price)) for size, price in value)
        elif _price(value) and (key != "queue" or value == int(value)):
            given[key] = value
        else:
            raise UserError(f"{path}: memory.{key} is {value!r}: it must be a number of at least 0")
    return MemoryModel(**given)


def _price(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value < float("inf")


def _pairs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(p, list) and len(p) == 2 and all(map(_price, p)) for p in value
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
        prices = (
            ", ".join(f"{price:g} pJ per {kind}" for kind, price in c.picojoules.items())
            or "by size of memory"
        )
        lines.append(f"{c.name}: {c.title}; {c.operations}; {prices} ({c.source})")
    return "\n".join(lines)
