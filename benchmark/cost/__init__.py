"""What a network costs: parameters, operations and energy, counted exactly and under named conventions.

Importing this package imports no torch; the names below bring it in when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.cost.conventions import CONVENTIONS as CONVENTIONS
    from benchmark.cost.conventions import Convention as Convention
    from benchmark.cost.conventions import convention as convention
    from benchmark.cost.counter import measure_cost as measure_cost
    from benchmark.cost.result import Cost as Cost
    from benchmark.cost.result import Layer as Layer

_HOME = {
    "CONVENTIONS": "benchmark.cost.conventions",
    "Convention": "benchmark.cost.conventions",
    "convention": "benchmark.cost.conventions",
    "Cost": "benchmark.cost.result",
    "Layer": "benchmark.cost.result",
    "measure_cost": "benchmark.cost.counter",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'benchmark.cost' has no attribute {name!r}")
