"""The emulation of thop, against thop itself where it is installed, and against what the papers printed."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.cost import measure_cost
from esdnet import ESDNet

ESDNET = 7_320_375_128
BASE = 6_970_935_648


def counted(**options) -> tuple[float, int]:
    cost = measure_cost(ESDNet(**options), 256, "paper", shapes_only=True)
    return cost.macs, cost.params


# printed value, what gives it, thop on the authors' network with that change
TABLES_3_AND_4 = [
    ("7.320", {}, ESDNET),
    ("7.490", {"time_steps": 6}, 7_490_244_660),
    ("7.150", {"time_steps": 2, "temporal_reduction": 2}, 7_150_505_596),
    ("7.023", {"time_steps": 1, "attention": ["channel", "spatial"]}, 7_023_103_392),
    ("6.970", {"block": "ms"}, BASE),
    ("83.453", {"block": "ann", "refinement": False}, 83_453_018_112),
]


@pytest.mark.parametrize(("printed", "options", "count"), TABLES_3_AND_4)
def test_tables_3_and_4_as_printed(printed, options, count) -> None:
    macs, _ = counted(**options)
    assert macs == count
    assert (
        f"{math.floor(macs / 1e6) / 1e3:.3f}" == printed
    )  # cut, not rounded, as all the printed figures are


def test_the_printed_energy_is_the_printed_operations_times_12_5_pj() -> None:
    cost = measure_cost(ESDNet(), 256, "paper", shapes_only=True)
    assert cost.energy_uj == pytest.approx(9.150e4, rel=1e-4)
    assert cost.params == 165_911


def test_sew_resnet_stays_unexplained() -> None:
    macs, _ = counted(block="sew")
    assert macs == BASE  # printed 6.998
    assert 0.027e9 < 6.998e9 - macs < 0.0281e9


def test_the_arithmetic_of_esdnets_count() -> None:
    pixels, frames = 256 * 256, 4
    refinement = (82_944 + 2 * 10_368) * pixels + 2 * 96 * 12 + (pixels + 1) * 96
    output = 2_592 * pixels
    assert refinement + output == BASE
    elements = 4 * 48 * pixels + 6 * 96 * pixels // 4 + 10 * 192 * pixels // 16 + 2 * 96 * pixels
    pools = 2 * frames * elements + 22 * frames + sum((4 * 48, 6 * 96, 10 * 192, 2 * 96))
    spatial = 18 * (6 * pixels + 6 * pixels // 4 + 10 * pixels // 16)
    assert BASE + pools + spatial + 113_248 == ESDNET


def shared_prelu() -> nn.Module:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            act = nn.PReLU()
            self.a = nn.Sequential(nn.Conv2d(3, 4, 3), act)
            self.b = nn.Sequential(nn.Conv2d(4, 4, 1), act)
            self.c = nn.Sequential(nn.Conv2d(4, 4, 1), act)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x)))

    return Shared()


def test_a_shared_module_in_three_places_counts_nine_times() -> None:
    network = shared_prelu()
    full, paper = measure_cost(network, 10), measure_cost(network, 10, "paper")
    elements = 3 * 4 * 64
    assert full.macs == 64 * (108 + 16 + 16)
    assert paper.macs == full.macs + 9 * elements
    assert paper.params == full.params + 2


class SpikingConv(nn.Conv2d):
    """A subclass, as SpikingJelly's are: thop does not know it."""


class Odd(nn.Module):
    """One of each of thop's rules, and of what it cannot see."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 3, 2, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.norm, self.bare = nn.BatchNorm2d(6), nn.InstanceNorm2d(6)
        self.act, self.leaky = nn.PReLU(6), nn.LeakyReLU()
        self.spiking = SpikingConv(6, 6, 3, padding=1)
        self.pool, self.squeeze = nn.AvgPool2d(2), nn.AdaptiveAvgPool2d((2, 3))
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear")
        self.fc, self.layer_norm, self.softmax = nn.Linear(24, 5), nn.LayerNorm(5), nn.Softmax(dim=-1)
        self.seen_not, self.never = nn.Parameter(torch.ones(3, 6, 1, 1)), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.leaky(self.act(self.bare(self.norm(self.up(self.grouped(self.embed(x)))))))
        x = F.conv2d(self.spiking(x), self.seen_not)
        x = self.enlarge(self.squeeze(self.pool(x)))  # (N, 3, 4, 6)
        return self.softmax(self.layer_norm(self.fc(x.mean(1).flatten(1))))


@pytest.mark.parametrize("make", [shared_prelu, Odd])
def test_the_emulation_is_thop(make) -> None:
    profile = pytest.importorskip("thop", reason="thop is an optional extra").profile
    network, x = make().eval(), torch.rand(1, 3, 16, 16)
    macs, params = profile(copy.deepcopy(network), inputs=(x,), verbose=False)
    paper = measure_cost(network, images=x, convention="paper")
    assert (paper.macs, paper.params) == (macs, params)


def test_the_authors_counts_from_this_suites_networks(shared) -> None:
    """Every figure thop gives on the authors' code, to the digit, parameters too."""
    from benchmark.catalog import networks
    from benchmark.models import create_model

    checked = []
    for file in sorted(shared.glob("parity/*/card.json")):
        card = json.loads(file.read_text())
        if card["model"] not in networks():
            continue
        size = 259 if file.parent.name == "drt-w7" else 256  # a multiple of its window, where thop was run
        network = create_model(card["model"], **card["overrides"])
        paper = measure_cost(network, size, "paper", shapes_only=True)
        assert paper.macs == card["thop_256"]["macs"], file.parent.name
        assert paper.params == card["thop_256"]["params"], file.parent.name
        full = paper.under("full")
        assert full.params == card["params"], file.parent.name
        if card["macs_256"]:
            assert full.operations == card["macs_256"], file.parent.name
        assert not full.uncounted, file.parent.name
        checked.append(file.parent.name)
    assert "esdnet" in checked
