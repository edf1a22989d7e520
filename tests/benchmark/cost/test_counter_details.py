"""What the counter says at its edges: one step, one pixel, many images, compiled code, states that forwards leave."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from benchmark.cost import measure_cost
from benchmark.errors import UserError


def row(cost, name):
    return next(r for r in cost.rows if r.name == name)


class Fires(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.5).to(x.dtype)


def test_a_picture_may_be_one_pixel_and_not_less() -> None:
    assert measure_cost(nn.Conv2d(3, 4, 1), 1).macs == 12
    assert measure_cost(nn.Conv2d(3, 4, 1), (1, 5)).macs == 60
    with pytest.raises(UserError, match="size must be at least 1"):
        measure_cost(nn.Conv2d(3, 4, 1), (0, 5))


def test_lazy_layers_get_their_shapes_on_shapes_alone_too() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 1), nn.LazyConv2d(2, 1))
    assert measure_cost(network, 8, shapes_only=True).macs == 64 * (12 + 8)


def test_calls_without_a_rule_are_those_of_one_picture() -> None:
    class Fourier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = torch.fft.fft2(x).real
            return x

    images = torch.rand(4, 3, 8, 8)
    for count in (1, 4):
        (told,) = measure_cost(Fourier(), images=images[:count]).uncounted
        assert told.calls == 3, count


def test_the_rate_of_two_spiking_operands_is_what_the_accumulates_are_thinned_by() -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fires = Fires()

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.fires(x[:, 0]), self.fires(x[:, 1])
            return a @ b

    images = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    cost = measure_cost(Pairs(), images=images)
    (product,) = (r for r in cost.rows if r.accumulates)
    a, b = (images > 0.5).double()[0]
    assert product.accumulates == 6**3 and product.sops == int((a @ b).sum())
    assert product.rate == pytest.approx(float((a @ b).sum()) / 6**3)


def test_what_is_not_of_the_declared_steps_is_done_once() -> None:
    class Mixed(nn.Module):
        time_steps = 4

        def __init__(self) -> None:
            super().__init__()
            self.fires, self.steps, self.last = Fires(), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            frames = self.fires(x.expand(4, *x.shape)).flatten(0, 1)
            return self.last(self.steps(frames).unflatten(0, (4, -1)).mean(0))

    cost = measure_cost(Mixed(), 8)
    assert (row(cost, "steps").T, row(cost, "last").T) == (4, 1)
    assert row(cost, "last").macs == 64 * 6


def test_what_an_ordinary_network_does_again_is_no_time_step() -> None:
    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = x + self.stage(x)
            return x

    stage = row(measure_cost(Stages(), 8), "stage")
    assert (stage.calls, stage.T) == (3, 1)


def test_one_step_is_not_said_to_be_several_equal_ones() -> None:
    class Once(nn.Module):
        def __init__(self, steps: int) -> None:
            super().__init__()
            self.embed, self.rest = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            self.embed.time_invariant_repeats = self.steps = steps

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(self.embed(x).expand(self.steps, -1, 4, -1, -1).flatten(0, 1))

    assert row(measure_cost(Once(1), 6), "embed").note == ""
    assert "computed once for 2 equal" in row(measure_cost(Once(2), 6), "embed").note


def test_what_a_forward_adds_to_neurons_is_gone_after_it() -> None:
    class Keeps(nn.Module):
        is_spiking_neuron = True

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.register_buffer("last", x)
            self.seen, self.calls = self.seen + 1, 1
            return (self.conv(x) > 0.5).to(x.dtype)

    network = Keeps()
    measure_cost(network, 8)
    assert set(dict(network.named_buffers())) == {"seen"} and float(network.seen) == 0
    assert not hasattr(network, "calls")


def test_compiled_parts_run_as_they_were_written() -> None:
    def refuses(module: object, examples: object) -> object:
        raise AssertionError("compiled, where its operations cannot be seen")

    conv = nn.Conv2d(3, 4, 1)
    network = nn.Sequential(nn.Identity(), torch.compile(conv, backend=refuses))
    assert "torch._dynamo" in sys.modules
    assert measure_cost(network, 8).macs == 64 * 12
