"""Spiking networks, of this repository and of others: where spikes flow is found, and T steps are T steps."""

from __future__ import annotations

import pytest
import snntorch
import torch
from torch import Tensor, nn

from benchmark.cost import measure_cost


class Stepped(nn.Module):
    """A plain snnTorch network, stepped in Python, that records what its neurons did."""

    def __init__(self, steps: int = 6) -> None:
        super().__init__()
        self.steps = steps
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.lif1 = snntorch.Leaky(beta=0.8, threshold=0.3)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(4 * 16, 20)
        self.lif2 = snntorch.Synaptic(alpha=0.7, beta=0.8, threshold=0.2)
        self.fc2 = nn.Linear(20, 5)
        self.lif3 = snntorch.Leaky(beta=0.8, threshold=0.1)
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen = []
        mem1, (syn2, mem2), mem3 = self.lif1.reset_mem(), self.lif2.reset_mem(), self.lif3.reset_mem()
        out = []
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(3 * self.conv(x), mem1)
            pooled = self.pool(spk1)
            spk2, syn2, mem2 = self.lif2(3 * self.fc1(pooled.flatten(1)), syn2, mem2)
            spk3, mem3 = self.lif3(3 * self.fc2(spk2), mem3)
            self.seen.append((spk1, pooled, spk2))
            out.append(spk3)
        return torch.stack(out).mean(0)


def row(cost, name):
    return next(r for r in cost.rows if r.name == name)


def test_a_network_of_plain_snntorch() -> None:
    network = Stepped()
    cost = measure_cost(network, 8)
    pooled = int(sum(p.sum() for _, p, _ in network.seen))
    hidden = int(sum(s.sum() for _, _, s in network.seen))
    first = int(sum(s.sum() for s, _, _ in network.seen))
    assert pooled and hidden and first

    assert row(cost, "conv").input == "real"
    assert cost.macs == row(cost, "conv").macs == 6 * 64 * 3 * 4 * 9
    assert cost.accumulates == 6 * (64 * 20 + 20 * 5)
    assert row(cost, "fc1").sops == pooled * 20
    assert row(cost, "fc2").sops == hidden * 5
    assert cost.sops == pooled * 20 + hidden * 5
    assert cost.spikes == pooled + hidden
    assert [row(cost, n).T for n in ("conv", "fc1", "fc2", "lif1")] == [6] * 4
    assert row(cost, "lif1").updates == 6 * 4 * 64
    assert row(cost, "lif1").emitted == first
    assert cost.updates == 6 * (256 + 20 + 5)
    assert cost.energy_uj == pytest.approx(cost.macs * 4.6e-6 + cost.sops * 0.9e-6)
    assert cost.under("45nm").energy_uj == pytest.approx(cost.macs * 4.6e-6 + cost.sops * 0.9e-6)
    assert cost.under("paper-text").energy_uj == pytest.approx(
        cost.macs * 12.5e-6 + cost.sops * 0.077e-6 + cost.updates * 3.7e-6
    )
    assert not cost.uncounted


def test_stepping_and_folding_time_into_the_batch_are_the_same() -> None:
    from esdnet.neurons import LeakySequence

    conv1, conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.neuron, self.conv2 = conv1, LeakySequence(), conv2

        def forward(self, x: Tensor) -> Tensor:
            frames = self.conv1(x.expand(5, *x.shape).flatten(0, 1)).unflatten(0, (5, -1))
            return self.conv2(self.neuron(frames).flatten(0, 1))

    class Looped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = conv1, conv2
            self.neuron = snntorch.Leaky(beta=0.5, threshold=0.15, reset_mechanism="zero")

        def forward(self, x: Tensor) -> Tensor:
            mem = self.neuron.reset_mem()
            total = torch.zeros(())
            for _ in range(5):
                spk, mem = self.neuron(self.conv1(x), mem)
                total = total + self.conv2(spk)
            return total

    folded, looped = measure_cost(Folded(), 12), measure_cost(Looped(), 12)
    assert folded.macs == looped.macs == 5 * 144 * 108
    assert folded.accumulates == looped.accumulates == 5 * 144 * 72
    assert folded.updates == looped.updates == 5 * 144 * 4
    assert row(folded, "conv2").T == row(looped, "conv2").T == 5
    assert folded.sops > 0
    assert folded.sops == pytest.approx(looped.sops, rel=0.02)  # one fires at the threshold, one above it


def test_neurons_that_nobody_declared_are_found_by_what_they_do() -> None:
    class Threshold(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x > 0.1).to(x.dtype)

    network = nn.Sequential(nn.Conv2d(3, 4, 1), Threshold(), nn.Conv2d(4, 2, 1))
    nn.init.constant_(network[0].bias, 0.1)
    cost = measure_cost(network, 16)
    assert (row(cost, "1").updates, row(cost, "1").calls) == (4 * 256, 1)
    assert row(cost, "1").elementwise == 0
    assert row(cost, "2").input == "binary"
    assert cost.sops == row(cost, "1").emitted * 2 > 0


def test_silent_neurons_are_still_neurons() -> None:
    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(12, 8), nn.Linear(8, 3)
            self.lif = snntorch.Leaky(beta=0.5, threshold=1e9)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.lif(self.a(x), self.lif.reset_mem())[0])

    cost = measure_cost(Silent(), images=torch.rand(1, 12))
    layer = row(cost, "b")
    assert (layer.input, layer.accumulates, layer.sops, layer.rate) == ("binary", 24, 0, 0.0)
    assert cost.macs == 96


def test_graded_spikes_of_snntorch_are_not_binary() -> None:
    class Graded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 40), nn.Linear(40, 3)
            self.lif = snntorch.Leaky(beta=0.5, threshold=0.05, graded_spikes_factor=2.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.lif(self.a(x), self.lif.reset_mem())[0])

    cost = measure_cost(Graded(), images=torch.rand(1, 64))
    assert row(cost, "b").input == "graded"
    assert cost.accumulates == 0
    assert row(cost, "lif").emitted > 0


def test_several_level_neurons_are_graded() -> None:
    from esdnet.neurons import IntegerSequence

    class Integer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.conv = IntegerSequence(), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.neuron((6 * x).expand(4, *x.shape)).flatten(0, 1))

    cost = measure_cost(Integer(), 16)
    assert row(cost, "conv").input == "graded"
    assert "0, 0.25, 0.5, 0.75, 1" in row(cost, "neuron").note
    assert (cost.macs, cost.accumulates) == (4 * 256 * 6, 0)


def test_each_image_starts_at_rest_and_the_state_is_kept_for_its_owner() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(12, 30), nn.Linear(30, 3)
            self.lif = snntorch.Leaky(beta=1.0, threshold=0.6, init_hidden=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.lif(self.a(x)))

    network = Stateful()
    x = torch.rand(1, 12)
    network(x)
    held = network.lif.mem.clone()
    once = measure_cost(network, images=x)
    assert torch.equal(network.lif.mem, held)
    thrice = measure_cost(network, images=x.expand(3, 12))
    assert thrice.sops == once.sops
    other = snntorch.Leaky(beta=1.0, init_hidden=True)
    other(torch.ones(2))
    kept = other.mem.clone()
    measure_cost(network, images=x)
    assert torch.equal(other.mem, kept)


def test_a_recurrent_neurons_connection_is_driven_by_spikes() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 10)
            self.lif = snntorch.RLeaky(beta=0.9, threshold=0.1, linear_features=10)

        def forward(self, x: Tensor) -> Tensor:
            spk, mem = self.lif.reset_mem()
            for _ in range(4):
                spk, mem = self.lif(self.fc(x), spk, mem)
            return spk

    cost = measure_cost(Recurrent(), images=torch.rand(1, 12))
    recurrent = row(cost, "lif.recurrent")
    # the first step has no spikes to send back yet, and is spike-driven all the same
    assert (recurrent.input, recurrent.accumulates, recurrent.macs) == ("binary", 400, 0)
    assert recurrent.sops == recurrent.spikes * 10
    assert row(cost, "lif").updates == 40


def test_rates_carry_over_to_another_size() -> None:
    from esdnet import ESDNet

    network = ESDNet(
        dim=16, encoder_blocks=[1, 1, 1], bottleneck_blocks=1, decoder_blocks=[1, 1], time_steps=2
    )
    small = measure_cost(network, 32)
    large = measure_cost(network, 64, shapes_only=True, rates=small)
    assert small.sops > 0
    assert large.accumulates == 4 * small.accumulates
    assert large.rate == pytest.approx(small.rate)
    assert large.updates == 4 * small.updates
    real = measure_cost(network, 64)
    assert (large.macs, large.accumulates) == (real.macs, real.accumulates)


def test_esdnet_to_the_digit() -> None:
    """332,792,856,576 driven by spikes and 159,516,984,160 real at 256 x 256, seen on a run at 64 x 64."""
    from esdnet import ESDNet

    network = ESDNet()
    small = measure_cost(network, 64)
    fixed = 113_248 + 2_304  # attention's and refinement's MLPs, which do not grow with the image
    assert small.accumulates == 332_792_856_576 // 16
    assert small.macs == (159_516_984_160 - fixed) // 16 + fixed
    assert small.params == 12_811_463
    assert not small.uncounted
    whole = measure_cost(network, 256, shapes_only=True, rates=small)
    assert (whole.accumulates, whole.macs) == (332_792_856_576, 159_516_984_160)
    assert whole.executed == 492_309_840_736 - 254_803_968
    assert {r.T for r in whole.rows if r.name.endswith("residual.0.conv")} == {4}


def test_a_recurrent_neurons_cell_goes_through_as_many_steps_as_its_network() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.neuron = nn.Linear(6, 4), snntorch.SLSTM(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            synaptic, membrane = self.neuron.init_slstm()
            for _ in range(3):
                spikes, synaptic, membrane = self.neuron(self.linear(x), synaptic, membrane)
            return spikes

    cost = measure_cost(Recurrent(), images=torch.rand(1, 6))
    assert {r.name: r.T for r in cost.rows} == {"linear": 3, "neuron.lstm_cell": 3, "neuron": 3}
    assert cost.macs == 3 * (24 + 4 * 5 * (4 + 5))
