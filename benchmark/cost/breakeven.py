"""At which spike rate a spiking network costs as much as networks without spikes.

A spiking network's energy is a line over its rate: what real values and neurons take, and so much a spike. Where that
line meets the energy of another network is the break-even; below it the spiking network costs less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from benchmark import catalog
from benchmark.cost.compare import Measured
from benchmark.cost.conventions import CONVENTIONS, Convention
from benchmark.cost.counter import is_neuron, measure_cost
from benchmark.cost.result import Cost

if TYPE_CHECKING:
    import pandas as pd


def counterpart(name: str, size: int = 256) -> Cost:
    """The same network without spikes: one time step, ReLU for every neuron. On shapes alone."""
    from benchmark.models import create_model

    model = create_model(name, time_steps=1)
    for module in list(model.modules()):
        for part, child in list(module.named_children()):
            if is_neuron(child):
                setattr(module, part, nn.ReLU())
    return measure_cost(model, size, shapes_only=True)


def bits(time_steps: int) -> int:
    """Bits that tell T + 1 numbers of spikes apart: ⌈log₂(T + 1)⌉."""
    return math.ceil(math.log2(time_steps + 1))


def with_few_bits(without: Cost, spiking: Cost, convention: Convention, count: int) -> float:
    """Energy in µJ of the counterpart, where what were spikes are activations of so many bits, an addition each.

    Layers that real values enter in the spiking network stay as they are.
    """
    real = {row.name for row in spiking.rows if row.macs and not row.accumulates}
    if convention.memory is not None:
        addition = convention.memory.add
        few = replace(convention, memory=replace(convention.memory, multiply=(count - 1) * addition))
    else:
        addition = convention.picojoules.get("sop", 0.0)
        few = replace(convention, picojoules={**convention.picojoules, "mac": count * addition})
    return sum(
        (convention if row.name in real else few).energy_uj(row.counts(), row.accesses)
        for row in without.rows
    )


def rate_where(cost: Cost, energy_uj: float) -> float | None:
    """The mean spike rate at which it takes that energy; None where it takes more without any spike."""
    silent, full = cost.energy_at_uj(0.0), cost.energy_at_uj(1.0)
    return (energy_uj - silent) / (full - silent) if energy_uj >= silent else None


@dataclass(frozen=True)
class Line:
    """A spiking network in the picture: energy in µJ without spikes and with all, and where it was measured."""

    title: str
    silent: float
    full: float
    points: tuple[tuple[str, float, float], ...]  # weights, rate, energy


def break_even(
    measured: Sequence[Measured], against: str = "nafnet", names: Sequence[str] = ("45nm", "lemaire", "full")
) -> pd.DataFrame:
    """A row for each spiking network's weights and convention, break-even rates in per cent.

    Args:
        measured: of the catalogue's full spiking networks, and of the one of `against`.
        against: the ordinary network that all are compared with.
        names: conventions.
    """
    import pandas as pd

    other = next(one.cost for one in measured if one.name == against)
    without: dict[str, Cost] = {}
    rows = []
    for one in measured:
        if not one.cost.spiking or not one.cost.rate:
            continue
        size = one.cost.size[-1]
        ann = without.setdefault(one.name, counterpart(one.name, size))
        steps = one.cost.time_steps or 1
        for name in names:
            seen, chosen = one.cost.under(name), CONVENTIONS[name]
            energies = {
                "counterpart": ann.under(name).energy_uj,
                against: other.under(name).energy_uj,
                "few_bits": with_few_bits(ann, one.cost, chosen, bits(steps)),
            }
            row: dict[str, Any] = {
                "network": catalog.network(one.name).title,
                "weights": one.weights,
                "convention": name,
                "T": steps,
                "bits": bits(steps),
                "measured_percent": 100 * (seen.rate or 0.0),
                "energy_uj": seen.energy_uj,
                "energy_silent_uj": seen.energy_at_uj(0.0),
            }
            for key, energy in energies.items():
                meets = rate_where(seen, energy)
                row[f"{key}_uj"] = energy
                row[f"{key}_percent"] = None if meets is None else 100 * meets
            rows.append(row)
    return pd.DataFrame(rows)


def lines(table: pd.DataFrame, convention: str) -> list[Line]:
    """The spiking networks of the picture, one line each, by its first weights, and all its points.

    Args:
        table: from `break_even`.
        convention: one of the table's.
    """
    found: dict[str, Line] = {}
    for row in table[table.convention == convention].to_dict("records"):
        title, rate, energy, silent = (
            row["network"],
            row["measured_percent"] / 100,
            row["energy_uj"],
            row["energy_silent_uj"],
        )
        first = found.get(title, Line(title, silent, silent + (energy - silent) / rate, ()))
        found[title] = replace(first, points=(*first.points, (row["weights"], rate, energy)))
    return list(found.values())


__all__ = ["Line", "bits", "break_even", "counterpart", "lines", "rate_where", "with_few_bits"]
