"""Break-even rates, tests in tiles, and rates of kept tables of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from benchmark import create_model, measure_cost
from benchmark.cost import breakeven
from benchmark.cost.compare import Measured, tiles
from benchmark.cost.conventions import CONVENTIONS
from benchmark.cost.result import Cost, kept_rates
from benchmark.cost.writing import write
from benchmark.errors import UserError
from benchmark.report import costs
from benchmark.restoration.tiling import tile_starts

SMALL: dict[str, Any] = {
    "dim": 4,
    "encoder_blocks": [1, 0, 0],
    "bottleneck_blocks": 0,
    "decoder_blocks": [0, 1],
    "time_steps": 2,
}


@pytest.fixture(scope="module")
def spiking() -> Cost:
    torch.manual_seed(0)
    return measure_cost(create_model("esdnet-s", **SMALL), 32)


@pytest.mark.parametrize("convention", ["45nm", "lemaire", "full"])
def test_energy_is_a_line_over_the_rate(spiking: Cost, convention: str) -> None:
    seen = spiking.under(convention)
    assert seen.energy_at_uj(seen.rate or 0) == pytest.approx(seen.energy_uj)
    assert seen.energy_at_uj(0) < seen.energy_uj < seen.energy_at_uj(1)
    where = breakeven.rate_where(seen, seen.energy_at_uj(0.37))
    assert where == pytest.approx(0.37)
    assert breakeven.rate_where(seen, 0.99 * seen.energy_at_uj(0)) is None
    if convention == "45nm":
        assert seen.energy_at_uj(1) == pytest.approx(seen.macs * 4.6e-6 + seen.accumulates * 0.9e-6)


def test_a_counterpart_has_the_same_layers_once_and_no_neuron(
    monkeypatch: pytest.MonkeyPatch, spiking: Cost
) -> None:
    import benchmark.models

    made = benchmark.models.create_model
    monkeypatch.setattr(benchmark.models, "create_model", lambda name, **own: made(name, **{**SMALL, **own}))
    ann = breakeven.counterpart("esdnet-s", 32)
    assert not ann.spiking and ann.accumulates == 0
    assert ann.macs == spiking.macs + spiking.accumulates / 2
    nafnet = measure_cost(made("nafnet", width=4), 32, shapes_only=True)
    table = breakeven.break_even([Measured("esdnet-s", spiking), Measured("nafnet", nafnet)])
    row = table[table.convention == "45nm"].iloc[0]
    assert row.counterpart_percent == pytest.approx(
        100 * (ann.macs - spiking.macs) * 4.6 / (spiking.accumulates * 0.9)
    )
    # two bits at T = 2: two additions for each product once, against one a spike and step
    assert row.bits == 2 and row.few_bits_percent == pytest.approx(100)
    assert row.measured_percent == pytest.approx(100 * (spiking.rate or 0))


@pytest.mark.parametrize(("steps", "expected"), [(1, 1), (2, 2), (3, 2), (4, 3), (6, 3), (7, 3), (8, 4)])
def test_bits_tell_counts_of_spikes_apart(steps: int, expected: int) -> None:
    assert breakeven.bits(steps) == expected


def test_tiles_are_those_of_the_test() -> None:
    for height, width in ((256, 256), (321, 481), (80, 80), (100, 152)):
        expected = len(tile_starts(height, 80, 8)) * len(tile_starts(width, 80, 8))
        assert tiles(height, width, 80, 8) == expected
    assert tiles(256, 256, 80, 8) * 6400 / 65536 == 1.5625
    assert tiles(321, 481, 80, 8) * 6400 / (321 * 481) == pytest.approx(1.4508, abs=1e-4)


def test_a_kept_table_of_layers_gives_its_rates(spiking: Cost, tmp_path: Path) -> None:
    path = write(spiking.layers, tmp_path / "layers.csv")
    torch.manual_seed(0)
    again = measure_cost(create_model("esdnet-s", **SMALL), 32, shapes_only=True, rates=kept_rates(path))
    assert again.sops == pytest.approx(spiking.sops) and again.macs == spiking.macs
    assert again.under("lemaire").energy_uj == pytest.approx(spiking.under("lemaire").energy_uj)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not a table of layers"):
        kept_rates(tmp_path / "other.csv")


def test_the_picture_has_a_line_and_its_points(
    spiking: Cost, tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = measure_cost(create_model("nafnet", width=4), 32, shapes_only=True)
    monkeypatch.setattr(breakeven, "counterpart", lambda name, size: ann)
    measured = [
        Measured("esdnet-s", spiking),
        Measured("esdnet-s", spiking, "again"),
        Measured("nafnet", ann),
    ]
    lines = breakeven.lines(breakeven.break_even(measured), "45nm")
    assert len(lines) == 1 and [p[0] for p in lines[0].points] == ["untrained", "again"]
    seen = spiking.under("45nm")
    assert lines[0].full == pytest.approx(seen.energy_at_uj(1.0))
    costs.against_rate(lines, 1e9, ("NAFNet", "CNN"), "45nm", tmp_path, "f")
    (first, *points, level) = drawn[0].axes[0].get_lines()
    along = dict(zip(first.get_xdata(), first.get_ydata(), strict=True))
    middle = (lines[0].silent + lines[0].full) / 2e3
    assert [along[r] for r in (0, 50, 100)] == pytest.approx(
        [lines[0].silent / 1e3, middle, lines[0].full / 1e3]
    )
    assert len(points) == 2, "above every rate there is no circle"
    assert points[0].get_xdata()[0] == pytest.approx(100 * (spiking.rate or 0))
    assert level.get_ydata()[0] == 1e6


def test_the_convention_of_few_bits_prices_a_bit_as_an_addition() -> None:
    layer = measure_cost(nn.Conv2d(3, 4, 3), 16, shapes_only=True)
    for bits in (1, 3):
        energy = breakeven.with_few_bits(layer, Cost(layer.convention, ()), CONVENTIONS["45nm"], bits)
        assert energy == pytest.approx(layer.macs * bits * 0.9e-6)


def test_few_bits_with_memory_take_an_addition_less_as_one_is_counted_already() -> None:
    """Under lemaire a multiply-accumulate is a multiplication and an addition: of b bits, b additions in all."""
    convention = CONVENTIONS["lemaire"]
    assert convention.memory is not None
    layer = measure_cost(nn.Conv2d(3, 4, 3), 16, shapes_only=True)
    none = Cost(layer.convention, ())
    one, three = (breakeven.with_few_bits(layer, none, convention, bits) for bits in (1, 3))
    assert three - one == pytest.approx(layer.macs * 2 * convention.memory.add * 1e-6)
    whole = breakeven.with_few_bits(layer, layer, convention, 1)
    assert whole - one == pytest.approx(layer.macs * convention.memory.multiply * 1e-6)
