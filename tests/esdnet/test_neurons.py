"""The neurons against snnTorch's own stepped over time, and against autograd."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
import snntorch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snntorch import SpikingNeuron
from torch import Tensor, nn

from esdnet import IntegerSequence, LeakySequence, native, surrogate_step

RESETS = ("zero", "subtract", "none")
SURROGATES = ("sigmoid", "atan", "fast_sigmoid")


@pytest.fixture(params=["compiled", "torch"], autouse=True, scope="module")
def _either_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test once with the compiled neuron, where there is a compiler, and once with torch's operations."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(native, "library", lambda dtype: None)
        elif native.library(torch.float32) is None:
            pytest.skip("no C compiler")
        yield


def stepped(neuron: snntorch.Leaky, current: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and membranes of an snnTorch neuron stepped by hand."""
    membrane = torch.zeros_like(current[0])
    spikes, membranes = [], []
    for now in current:
        spike, membrane = neuron(now, membrane)
        spikes.append(spike)
        membranes.append(membrane)
    return torch.stack(spikes), torch.stack(membranes)


def plain(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    reset: str,
    fire: Callable[[Tensor], Tensor],
    detach: bool,
) -> Tensor:
    """The neuron's equations, for autograd to differentiate."""
    h = current[0]
    spikes = [fire(h - threshold)]
    for now in current[1:]:
        s = spikes[-1].detach() if detach else spikes[-1]
        if reset == "zero":
            h = beta * ((1 - s) * h) + now
        elif reset == "subtract":
            h = beta * h + now - s * threshold
        else:
            h = beta * h + now
        spikes.append(fire(h - threshold))
    return torch.stack(spikes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reset", RESETS)
def test_spikes_are_snntorchs_bit_for_bit(dtype: torch.dtype, reset: str) -> None:
    for beta, threshold in ((0.5, 0.15), (0.9, 1.0), (1 / 3, 0.7), (1.0, 0.05), (0.0, 0.3)):
        for scale in (0.1, 1.0, 3e4):
            current = (torch.randn(6, 2, 3, 8, 9) * scale).to(dtype)
            reference = snntorch.Leaky(
                beta=beta, threshold=threshold, spike_grad=surrogate_step(), reset_mechanism=reset
            )
            spikes, membranes = stepped(reference, current)
            neuron = LeakySequence(beta, threshold, reset)
            ours = neuron(current)
            assert ours.dtype == dtype
            assert torch.equal(ours, spikes), (beta, threshold, scale)
            assert torch.equal(neuron.membrane(current).nan_to_num(), membranes.nan_to_num())


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-100, 100, width=16), min_size=6, max_size=24),
    beta=st.floats(0, 1, width=32),
    threshold=st.floats(2**-10, 4, width=32),
    reset=st.sampled_from(RESETS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_spikes_are_snntorchs_for_any_numbers(
    values: list[float], beta: float, threshold: float, reset: str, dtype: torch.dtype
) -> None:
    current = torch.tensor(values).to(dtype).unsqueeze(1)
    reference = snntorch.Leaky(
        beta=beta, threshold=threshold, spike_grad=surrogate_step(), reset_mechanism=reset
    )
    SpikingNeuron.instances.remove(reference)
    assert torch.equal(LeakySequence(beta, threshold, reset)(current), stepped(reference, current)[0])


def test_it_fires_at_the_threshold_and_not_only_above() -> None:
    current = torch.tensor([0.5, 0.4999]).view(1, 2)
    assert LeakySequence(threshold=0.5)(current).tolist() == [[1.0, 0.0]]


def test_hand_made_sequence() -> None:
    # fires at once, starts from zero again, and fires when half of what is left and the input reach the threshold
    current = torch.tensor([0.125, 0.0625, 0.0625, 0.125]).view(4, 1)
    neuron = LeakySequence(threshold=0.125)
    assert neuron(current).flatten().tolist() == [1, 0, 0, 1]
    assert neuron.membrane(current).flatten().tolist() == [0.125, 0.0625, 0.09375, 0.171875]


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("reset", RESETS)
def test_gradients_are_autograds(reset: str, surrogate: str, detach: bool) -> None:
    for shape in ((), (3, 1, 1)):
        current = torch.randn(5, 2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
        weights = torch.randn(5, 2, 3, 4, 4, dtype=torch.float64)
        beta, threshold = torch.rand(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
        neuron = LeakySequence(beta, threshold, reset, surrogate, 3.0, True, True, detach)
        ours = torch.autograd.grad(
            (neuron(current) * weights).sum(), [current, neuron.beta, neuron.threshold]
        )
        beta, threshold = beta.clone().requires_grad_(), threshold.clone().requires_grad_()
        spikes = plain(current, beta, threshold, reset, surrogate_step(surrogate, 3.0), detach)
        theirs = torch.autograd.grad((spikes * weights).sum(), [current, beta, threshold])
        for got, expected in zip(ours, theirs, strict=True):
            assert got.shape == expected.shape
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reset", RESETS)
def test_gradients_with_a_detached_reset_are_those_of_stepped_snntorch(reset: str) -> None:
    current = torch.randn(5, 40, requires_grad=True)
    weights = torch.randn(5, 40)
    reference = snntorch.Leaky(
        beta=0.7,
        threshold=0.4,
        spike_grad=surrogate_step("atan", 2.0),
        reset_mechanism=reset,
        learn_beta=True,
        learn_threshold=True,
    )
    neuron = LeakySequence(0.7, 0.4, reset, "atan", 2.0, True, True, detach_reset=True)
    theirs = torch.autograd.grad(
        (stepped(reference, current)[0] * weights).sum(), [current, reference.beta, reference.threshold]
    )
    ours = torch.autograd.grad((neuron(current) * weights).sum(), [current, neuron.beta, neuron.threshold])
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_the_reset_carries_gradient_unless_detached() -> None:
    current = torch.randn(4, 100, requires_grad=True)
    through, cut = LeakySequence(), LeakySequence(detach_reset=True)
    a = torch.autograd.grad(through(current).sum(), current)[0]
    b = torch.autograd.grad(cut(current).sum(), current)[0]
    assert not torch.allclose(a, b)


@pytest.mark.parametrize(
    ("name", "slope"),
    [
        ("sigmoid", lambda x: 4 * torch.sigmoid(4 * x) * (1 - torch.sigmoid(4 * x))),
        ("atan", lambda x: 2 / (1 + (torch.pi / 2 * 4 * x) ** 2)),
        ("fast_sigmoid", lambda x: 1 / (1 + 4 * x.abs()) ** 2),
    ],
)
def test_slopes_of_the_surrogates(name: str, slope: Callable[[Tensor], Tensor]) -> None:
    distance = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    spikes = surrogate_step(name, 4.0)(distance)
    (gradient,) = torch.autograd.grad(spikes.sum(), distance)
    torch.testing.assert_close(gradient, slope(distance.detach()))


def test_beta_is_used_within_zero_and_one() -> None:
    current = torch.randn(6, 50)
    assert torch.equal(LeakySequence(beta=1.7)(current), LeakySequence(beta=1.0)(current))


def test_frames_that_are_one_image_repeated_need_no_copy() -> None:
    image = torch.randn(2, 3, 5, 5, requires_grad=True)
    repeated = image.expand(4, *image.shape)
    neuron = LeakySequence()
    assert torch.equal(neuron(repeated), neuron(repeated.contiguous()))
    (gradient,) = torch.autograd.grad(neuron(repeated).sum(), image)
    (expected,) = torch.autograd.grad(neuron(repeated.contiguous()).sum(), image)
    assert torch.equal(gradient, expected)


def test_nothing_is_kept_between_calls() -> None:
    neuron, first, second = LeakySequence(), torch.rand(4, 2, 3), torch.rand(4, 2, 3)
    alone = neuron(second)
    neuron(first)
    assert torch.equal(neuron(second), alone)


def test_snntorch_does_not_hold_the_neurons_of_the_process() -> None:
    before = list(SpikingNeuron.instances)
    neurons = nn.ModuleList([LeakySequence(), IntegerSequence()])
    assert len(SpikingNeuron.instances) == len(before)
    assert not any(n is kept for n in neurons for kept in SpikingNeuron.instances)


def test_memory_does_not_grow_with_forwards() -> None:
    neuron, current = LeakySequence(), torch.rand(4, 2, 3, requires_grad=True)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    neuron(current).sum().backward()
    before = tensors()
    for _ in range(1000):
        neuron(current)
    assert tensors() <= before


def test_memory_does_not_grow_with_constructions() -> None:
    def neurons() -> int:
        gc.collect()
        return sum(issubclass(type(o), SpikingNeuron) for o in gc.get_objects())

    before = neurons()
    for _ in range(100):
        LeakySequence(), IntegerSequence()
    assert neurons() == before


def test_only_what_is_learned_is_in_the_state_dict() -> None:
    assert list(LeakySequence().state_dict()) == []
    assert list(IntegerSequence().state_dict()) == []
    assert list(LeakySequence(learn_beta=True, learn_threshold=True).state_dict()) == ["threshold", "beta"]


def test_it_is_a_leaky_and_moves_with_its_module() -> None:
    neuron = LeakySequence()
    assert isinstance(neuron, snntorch.Leaky)
    assert neuron.double().threshold.dtype == torch.float64


@pytest.mark.parametrize("options", [{"surrogate": "step"}, {"reset_mechanism": "soft"}])
def test_unknown_options_are_refused_by_name(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        LeakySequence(**options)  # type: ignore[arg-type]


def test_integer_spikes_are_the_definition() -> None:
    current = torch.randn(8, 3, 5, 5) * 4
    expected, membrane = [], torch.zeros_like(current[0])
    spike = torch.zeros_like(membrane)
    for t, now in enumerate(current):
        membrane = now if t == 0 else 0.25 * (membrane - spike) + now
        spike = membrane.clamp(0, 4).round() / 4
        expected.append(spike)
    assert torch.equal(IntegerSequence()(current), torch.stack(expected))
    assert set(IntegerSequence()(current).unique().tolist()) == {0, 0.25, 0.5, 0.75, 1}


def test_integer_gradient_is_a_quarter_inside_and_leaks_back() -> None:
    # membranes: 1 (inside), 0.25 (1 − 0.25) + 5 = 5.1875 (outside), 0.25 (5.1875 − 1) + 1 = 2.046875 (inside)
    current = torch.tensor([1.0, 5.0, 1.0]).view(3, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(IntegerSequence()(current).sum(), current)
    assert gradient.flatten().tolist() == [0.25 + 0.25**2 * 0.25, 0.25 * 0.25, 0.25]
    ends = torch.tensor([[0.0, 4.0, -1e-3, 4.001]]).requires_grad_()
    (gradient,) = torch.autograd.grad(IntegerSequence()(ends).sum(), ends)
    assert gradient.flatten().tolist() == [0.25, 0.25, 0, 0]
