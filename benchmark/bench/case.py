"""What a case of the bench is: two or more ways to the same result, and the ratio that is asked of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Body = Callable[[], object]
"""One call of what is measured; its result, where it has one, is compared between the sides."""


class NotMeasured(Exception):  # noqa: N818
    """Why a side cannot be measured on this machine: one line that goes into the table."""


@dataclass(frozen=True)
class Setting:
    """Where and how a side is to work.

    Attributes:
        device: "cpu" or "cuda".
        threads: of torch and of the libraries that the peers use.
        scratch: a folder for the files that a side needs; sides that are given the same one share them.
    """

    device: str
    threads: int
    scratch: Path


@dataclass(frozen=True)
class Peer:
    """Somebody else's way to the same result.

    Attributes:
        name: how the table calls it.
        side: "module:function" below `benchmark.bench`, `Setting` to `Body`.
        asked: the least (peer's time / our time) for the same work; None: measured for information.
        needs: packages without which it cannot be measured.
        work: what one call of it does, in the case's unit of work.
        agreement: the largest difference allowed between its result and ours; None: they are not comparable.
    """

    name: str
    side: str
    asked: float | None = None
    needs: tuple[str, ...] = ()
    work: float = 1.0
    agreement: float | None = None


@dataclass(frozen=True)
class Case:
    """Something that is to be fast.

    Attributes:
        name: "group/what", unique.
        what: one line: what is done, at which size.
        ours: our side, as `Peer.side`.
        peers: what it is compared with.
        device: "cpu" or "cuda".
        unit: "s", the time of one call, or what is done a second, such as "crops/s".
        work: what one call of our side does, in units of work; 1 where the unit is "s".
        limit: the most seconds that one call of ours may take; None: only ratios are asked for.
        memory: the most (our peak memory / the peer's) asked for; None: not measured; infinite: for information.
        seconds: of measuring after which no further round is begun; two rounds are always made.
        warmup: calls before anything is timed; what the last of them gives is compared.
        slow: many minutes a call on a CPU; left out unless asked for, and then called once.
        profiler: what explains a ratio that is not reached: "torch" (operators) or "python" (functions).
    """

    name: str
    what: str
    ours: str
    peers: tuple[Peer, ...] = ()
    device: str = "cpu"
    unit: str = "s"
    work: float = 1.0
    limit: float | None = None
    memory: float | None = None
    seconds: float = 60.0
    warmup: int = 2
    slow: bool = False
    profiler: str = "torch"


def load(side: str) -> Callable[[Setting], Body]:
    """The function that a case names "module:function"."""
    module, _, name = side.partition(":")
    return getattr(importlib.import_module(f"benchmark.bench.{module}"), name)


def missing(packages: tuple[str, ...]) -> list[str]:
    """Those of some packages that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]
