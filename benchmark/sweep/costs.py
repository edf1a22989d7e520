"""What the full networks cost, counted once and kept beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.sweep.records import provenance, read_record, write_record

COST = "cost.json"


def full_costs(models: Sequence[str], folder: Path, size: int = 256) -> dict[str, dict[str, Any]]:
    """Parameters and dense operations of the full networks at `size`², by name.

    Counted on shapes alone (`benchmark.measure_cost(..., shapes_only=True)`): no weights and no pictures are needed.
    A count is kept in `folder` and used again by the same version of this suite.
    """
    costs: dict[str, dict[str, Any]] = {}
    for name in models:
        place = folder / f"{name}-{size}"
        kept = read_record(place, COST)
        made_by = provenance()
        if kept is None or kept["commit"] != made_by["commit"] or kept["versions"] != made_by["versions"]:
            from benchmark.cost import measure_cost
            from benchmark.models import create_model

            counted = measure_cost(create_model(name), size, shapes_only=True)
            kept = {"model": name, "cost": counted.summary(), **made_by}
            write_record(place, kept, COST)
        costs[name] = kept["cost"]
    return costs
