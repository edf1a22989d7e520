"""A cost in NeuroBench's terms: equal to NeuroBench's and SpikingJelly's counters where they see the same."""

from __future__ import annotations

import importlib.util
import json

import pytest
import snntorch
import torch
from torch import Tensor, nn

from benchmark import measure_cost
from benchmark.cli import main


class Spiking(nn.Module):
    """Convolutions and a linear layer of spikes, four steps of one picture."""

    time_steps = 4

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.lif1 = snntorch.Leaky(beta=0.5, threshold=0.3)
        self.conv2 = (
            nn.ConvTranspose2d(6, 5, 4, 2, 1)
            if transposed
            else nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=False)
        )
        self.lif2 = snntorch.Leaky(beta=0.5, threshold=0.2)
        self.out = nn.Linear(5, 2)
        for parameter in self.parameters():
            values = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.data = (0.3 * torch.sin(2.1 * values) + 0.05).float().view(parameter.shape)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.lif1.init_leaky(), self.lif2.init_leaky()
        total: Tensor | float = 0.0
        for _ in range(self.time_steps):
            spikes, first = self.lif1(self.conv1(x), first)
            spikes, second = self.lif2(self.conv2(spikes), second)
            total = total + self.out(spikes.permute(0, 2, 3, 1))
        return total if isinstance(total, Tensor) else x


def picture() -> Tensor:
    x = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return x * (x > 0.3)  # zeros are no effective operation


def by_definition(model: Spiking, x: Tensor) -> dict[str, float]:
    """The same sums from the inputs of each layer, by convolving where they are not zero with ones."""
    sums = {"Effective_MACs": 0.0, "Effective_ACs": 0.0, "Dense": 0.0}

    def hook(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        seen = given[0].double()
        ones = torch.ones_like(layer.weight).double()  # type: ignore[arg-type]

        def reached(inputs: Tensor) -> float:
            if isinstance(layer, nn.Linear):
                return float(nn.functional.linear(inputs, ones).sum())
            where = nn.functional.conv2d(inputs, ones, None, layer.stride, layer.padding)  # type: ignore[arg-type]
            return float(where.sum())

        spiking = bool(((seen == 0) | (seen == 1)).all())
        sums["Effective_ACs" if spiking else "Effective_MACs"] += reached((seen != 0).double())
        sums["Dense"] += reached(torch.ones_like(seen))

    handles = [m.register_forward_hook(hook) for m in (model.conv1, model.conv2, model.out)]
    with torch.no_grad():
        model.eval()(x)
    for handle in handles:
        handle.remove()
    return sums


def test_synaptic_operations_are_what_neurobench_defines() -> None:
    model = Spiking()
    terms = measure_cost(model, images=picture()).neurobench(model)
    parameters = sum(p.numel() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    assert terms["footprint"] == 4 * parameters + buffers
    expected = by_definition(model, picture())
    assert terms["synaptic_operations"] == pytest.approx(expected)
    assert 0 < expected["Effective_ACs"] < expected["Dense"] and expected["Effective_MACs"] > 0
    assert terms["membrane_updates"] == 4 * (6 * 144 + 5 * 36)
    assert 0 < terms["activation_sparsity"] < 1 and terms["connection_sparsity"] == 0
    model.conv2.weight.data[0] = 0
    weights = sum(m.weight.numel() for m in (model.conv1, model.conv2, model.out))
    assert measure_cost(model, images=picture()).neurobench(model)["connection_sparsity"] == pytest.approx(
        6 * 9 / weights
    )


def test_zeros_of_the_padding_are_the_difference_to_dense_operations() -> None:
    layer = nn.Conv2d(2, 3, 3, padding=1)
    cost = measure_cost(layer, images=torch.rand(1, 2, 10, 10) + 0.1)
    inside = cost.neurobench(layer)["synaptic_operations"]["Dense"]
    border = 2 * 3 * (9 * 100 - 28 * 28)  # 28 taps a side stay inside
    assert cost.operations - inside == border
    up = nn.ConvTranspose2d(2, 3, 2, 2)
    cost = measure_cost(up, images=torch.rand(1, 2, 10, 10) + 0.1)
    assert cost.neurobench(up)["synaptic_operations"]["Dense"] == cost.operations == 2 * 3 * 4 * 100


@pytest.mark.skipif(
    importlib.util.find_spec("neurobench") is None,
    reason="neurobench is not installed: pip install thop spikingjelly neurobench",
)
@pytest.mark.parametrize("transposed", [False, True])
def test_neurobench_says_the_same(transposed: bool) -> None:
    from neurobench.metrics.utils.layers import single_layer_MACs

    model = Spiking(transposed).eval()
    cost = measure_cost(model, images=picture())
    ours = cost.neurobench(model)["synaptic_operations"]
    theirs = {"Effective_MACs": 0, "Effective_ACs": 0, "Dense": 0}

    for layer in (model.conv1, model.conv2, model.out):
        inputs: list[Tensor] = []
        keep = layer.register_forward_hook(lambda m, given, made, kept=inputs: kept.append(given[0]))
        with torch.no_grad():
            model(picture())
        keep.remove()
        for seen in inputs:
            operations, spiking = single_layer_MACs(seen, layer)
            theirs["Effective_ACs" if spiking else "Effective_MACs"] += operations
            theirs["Dense"] += single_layer_MACs(seen, layer, total=True)[0]
    if transposed:  # which it does not know
        missing = sum(row.inside for row in cost.rows if row.name == "conv2")
        assert missing and ours["Dense"] - theirs["Dense"] == missing
    else:
        assert ours == theirs


@pytest.mark.skipif(
    importlib.util.find_spec("spikingjelly") is None,
    reason="spikingjelly is not installed: pip install thop spikingjelly neurobench",
)
def test_spikingjelly_counts_the_same_events() -> None:
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

    model, counter = Spiking().eval(), SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        model(picture())
    driven = [r for r in measure_cost(model, images=picture()).rows if r.accumulates]
    assert counter.get_total() == sum(row.events or 0 for row in driven)


def test_the_command_gives_them_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cost", "--model", "esdnet-s", "--set", "dim=4", "encoder_blocks=[1,0,0]", "bottleneck_blocks=0"]
    words += ["decoder_blocks=[0,1]", "time_steps=2", "--size", "32", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)["neurobench"]
    assert set(told) == {
        "footprint", "connection_sparsity", "activation_sparsity", "synaptic_operations", "membrane_updates",
    }  # fmt: skip
    assert told["synaptic_operations"]["Effective_MACs"] > 0
