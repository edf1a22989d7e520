"""What a network costs: parameters, operations and energy, counted exactly and under named conventions.

Importing this package imports no torch; the names below bring it in when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from benchmark.cost.conventions import CONVENTIONS as CONVENTIONS
    from benchmark.cost.conventions import Convention as Convention
    from benchmark.cost.conventions import convention as convention
    from benchmark.cost.counter import measure_cost as measure_cost
    from benchmark.cost.result import Cost as Cost
    from benchmark.cost.result import Layer as Layer

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "conventions": ["CONVENTIONS", "Convention", "convention"],
        "counter": ["measure_cost"],
        "result": ["Cost", "Layer"],
    },
)
