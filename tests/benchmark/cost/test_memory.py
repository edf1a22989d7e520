"""The convention `lemaire`: equal to SpikingJelly's figures where both count, and what it counts beyond them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark import measure_cost
from benchmark.cost.conventions import CONVENTIONS, load_convention
from benchmark.cost.memory import Accesses, MemoryModel
from benchmark.errors import UserError

THEIRS = importlib.util.find_spec("spikingjelly") is not None


class LIFNode(nn.Module):
    """SpikingJelly's: v += (x − v) / 2, or + x without a leak; a spike at v ≥ 0.1 and back to 0."""

    is_spiking_neuron = True
    leak = True

    def reset(self) -> None:
        self.v: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = self.v + (x - self.v) / 2 if self.leak else self.v + x
        spikes = (self.v >= 0.1).to(x)
        self.v = self.v * (1 - spikes)
        return spikes


class IFNode(LIFNode):
    leak = False


class Steps(nn.Module):
    """A body that sees the same picture T times."""

    def __init__(self, body: nn.Module, steps: int) -> None:
        super().__init__()
        self.body, self.steps = body, steps

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.steps):
            out = self.body(x)
        return out


Nodes = dict[str, Callable[[], nn.Module]]


def convolutions(node: Nodes) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        node["lif"](),
        nn.Conv2d(8, 8, 5, stride=3, padding=1, groups=2, bias=False),
        node["lif"](),
        nn.Conv2d(8, 4, 3, stride=2, padding=1),
        node["if"](),
    )


def linear(node: Nodes) -> nn.Module:
    return nn.Sequential(nn.Linear(20, 30), node["lif"](), nn.Linear(30, 5, bias=False), node["if"]())


def without_spikes(node: Nodes) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 6, 3, stride=2, padding=1, bias=False))


CASES: dict[str, tuple[Callable[[Nodes], nn.Module], tuple[int, ...], int, float]] = {
    # picojoules by spikingjelly 2.0.0's estimate_lemaire_energy
    "convolutions": (convolutions, (1, 3, 17, 16), 1, 933191.204),
    "convolutions, T = 3": (convolutions, (1, 3, 17, 16), 3, 2972864.73),
    "linear, T = 3": (linear, (1, 20), 3, 12584.541),
    "without spikes": (without_spikes, (1, 3, 64, 60), 1, 610637047),
}


def network(make: Callable[[Nodes], nn.Module], steps: int, node: Nodes) -> nn.Module:
    made = Steps(make(node), steps).eval()
    for parameter in made.parameters():  # the same for every version of torch
        values = torch.arange(parameter.numel(), dtype=torch.float64)
        parameter.data = (0.3 * torch.sin(2.1 * values)).float().view(parameter.shape)
    return made


def picture(shape: tuple[int, ...]) -> Tensor:
    values = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(1.3 * values).abs().float().view(shape)


@pytest.mark.parametrize("case", CASES)
def test_energies_are_spikingjellys(case: str) -> None:
    make, shape, steps, expected = CASES[case]
    body = network(make, steps, {"lif": LIFNode, "if": IFNode})
    found = measure_cost(body, images=picture(shape), convention="lemaire").energy_uj * 1e6
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("make", [convolutions, without_spikes])
def test_accesses_are_those_of_one_picture(make: Callable[[Nodes], nn.Module]) -> None:
    body, one = network(make, 1, {"lif": LIFNode, "if": IFNode}), picture((1, 3, 17, 16))
    alone = measure_cost(body, images=one, convention="lemaire")
    thrice = measure_cost(body, images=one.expand(3, -1, -1, -1), convention="lemaire")
    assert [r.accesses for r in thrice.rows] == [r.accesses for r in alone.rows]
    assert thrice.energy_uj == pytest.approx(alone.energy_uj)


@pytest.mark.skipif(
    not THEIRS, reason="spikingjelly is not installed: pip install thop spikingjelly neurobench"
)
@pytest.mark.parametrize("case", CASES)
def test_the_figures_kept_here_are_what_spikingjelly_says(case: str) -> None:
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.op_counter.analytical_energy import estimate_lemaire_energy

    make, shape, steps, expected = CASES[case]
    nodes: Nodes = {
        "lif": lambda: neuron.LIFNode(v_threshold=0.1),
        "if": lambda: neuron.IFNode(v_threshold=0.1),
    }
    theirs = network(make, steps, nodes)
    assert estimate_lemaire_energy(theirs, picture(shape)).total_pj == pytest.approx(expected, rel=1e-6)
    ours = measure_cost(network(make, steps, nodes), images=picture(shape), convention="lemaire")
    assert ours.energy_uj * 1e6 == pytest.approx(expected, rel=1e-6)


def parts(layer: nn.Module, x: Tensor) -> dict[str, float]:
    return {
        k: v * 1e6
        for k, v in measure_cost(layer.eval(), images=x, convention="lemaire").energy_parts_uj.items()
    }


def test_prices_of_memories_are_on_lines_between_the_points() -> None:
    model = MemoryModel()
    assert [model.access(n) for n in (0, 4096, 8192, 20480, 32768, 1 << 20, 1 << 30)] == [
        0, 5, 10, 15, 20, 100, 100,
    ]  # fmt: skip
    done = Accesses(inputs=2, parameters=3, potentials=5, input_bytes=1 << 20, parameter_bytes=8192)
    assert model.parts_pj(done)["inputs and outputs"] == 200 and model.parts_pj(done)["weights"] == 30
    small = MemoryModel(input=8192)
    assert small.parts_pj(done)["inputs and outputs"] == 20


def test_a_batch_norm_is_a_bias_of_the_layer_before_it() -> None:
    x = torch.rand(1, 3, 8, 8)
    folded = parts(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)), x)
    biased = parts(nn.Conv2d(3, 4, 3, padding=1, bias=True), x)
    assert folded["operations"] == pytest.approx(biased["operations"])
    assert folded["inputs and outputs"] == pytest.approx(biased["inputs and outputs"])
    layer = parts(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(1, 4)), x)
    assert layer["operations"] - biased["operations"] == pytest.approx(4 * 64 * 3.2)


def test_attention_and_interpolation_are_counted() -> None:
    class Attend(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(1, 2)

    found = parts(Attend(), torch.rand(1, 6, 10))
    assert found["operations"] == pytest.approx(6 * 6 * 10 * 3.2)
    assert found["weights"] == pytest.approx(360 * MemoryModel().access(60 * 4))
    up = parts(nn.Upsample(scale_factor=2, mode="bilinear"), torch.rand(1, 2, 4, 4))
    assert up["operations"] == pytest.approx(2 * 64 * 4 * 3.2)


def test_shapes_alone_with_rates_say_the_same() -> None:
    body = network(convolutions, 2, {"lif": LIFNode, "if": IFNode})
    seen = measure_cost(body, images=picture((1, 3, 24, 24)), convention="lemaire")
    again = measure_cost(
        body, images=picture((1, 3, 24, 24)), convention="lemaire", shapes_only=True, rates=seen
    )
    assert again.energy_uj == pytest.approx(seen.energy_uj, rel=1e-6)


def test_a_network_that_folds_its_steps_costs_as_one_that_loops() -> None:
    from esdnet import LeakySequence

    class Folded(nn.Module):
        time_steps = 3

        def __init__(self, loop: bool) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
            self.neuron, self.loop = LeakySequence(threshold=0.3), loop
            values = torch.arange(self.conv.weight.numel())
            self.conv.weight.data = torch.sin(2.1 * values).view(self.conv.weight.shape)

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.neuron(x.expand(3, *x.shape))
            if self.loop:
                return torch.stack([self.conv(s) for s in spikes]).mean(0)
            return self.conv(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2]).mean(0)

    x = torch.rand(1, 2, 40, 40)
    folded, loop = (measure_cost(Folded(way), images=x, convention="lemaire") for way in (False, True))
    for part in ("potentials", "weights", "addressing"):
        assert folded.energy_parts_uj[part] == pytest.approx(loop.energy_parts_uj[part])


def test_a_convention_of_ones_own_can_have_memories(tmp_path: Path) -> None:
    path = tmp_path / "chip.yaml"
    path.write_text("memory: {queue: 64, potentials: 65536, points: [[1024, 1], [65536, 8]]}\n")
    own = load_convention(path)
    assert own.memory == MemoryModel(queue=64, potentials=65536, points=((1024, 1), (65536, 8)))
    cost = measure_cost(nn.Conv2d(3, 4, 3), 16, own)
    assert 0 < cost.energy_uj != cost.under("lemaire").energy_uj


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("memory: 3", "mapping"),
        ("memory: {qeue: 3}", "did you mean 'queue'"),
        ("memory: {queue: -3}", "at least 0"),
        ("memory: {add: x}", "number"),
        ("memory: {points: [[8, 1], [8, 2]]}", "larger"),
        ("memory: {points: 3}", "larger"),
        ("memory: {add: 1}\npicojoules: 3", "picojoules"),
        ("name: x", "picojoules"),
    ],
)
def test_mistakes_in_it_are_one_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "chip.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        load_convention(path)


def test_45nm_is_the_default_and_full_says_where_its_prices_are_from() -> None:
    assert measure_cost(nn.Conv2d(3, 4, 3), 16).convention.name == "45nm"
    assert "two chips" in CONVENTIONS["full"].source
