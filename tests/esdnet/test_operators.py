"""The registered operators: torch's own checks of them, and the same bits whoever looks on."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.library import opcheck
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from esdnet import ESDNet, kernels, native, winograd

OURS = torch.ops.esdnet


def channels_last(*shape: int) -> Tensor:
    images = torch.randn(shape).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return images.unflatten(0, shape[:2])


def learned(*shape: int) -> Tensor:
    return torch.randn(shape).requires_grad_()


def calls() -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every operator with what it may be given."""
    frames, half = channels_last(4, 2, 48, 6, 5), torch.tensor(0.5)
    for current in (torch.randn(3, 2, 5), frames.clone().requires_grad_(), frames[:1].expand(frames.shape)):
        for reset, surrogate in zip(kernels.RESETS, kernels.SURROGATES, strict=True):
            options = (reset, surrogate, 4.0, False)
            yield OURS.leaky_spikes, (current, half, torch.tensor(0.15), *options)
        yield (
            OURS.leaky_spikes_backward,
            (
                torch.randn(current.shape),
                current.detach(),
                half,
                half,
                "zero",
                "atan",
                2.0,
                True,
                False,
                False,
            ),
        )
    beta = torch.rand(5).requires_grad_()
    yield OURS.leaky_spikes, (learned(3, 2, 5), beta, beta, "subtract", "sigmoid", 4.0, False)
    yield OURS.mean_over_time, (frames.clone().requires_grad_(),)
    images, weight = learned(2, 48, 6, 5), learned(64, 48, 3, 3)
    yield OURS.conv3x3, (images, weight, learned(64))
    yield OURS.conv3x3, (images, learned(5, 48, 3, 3), None)
    fixed = (images.detach(), weight.detach(), torch.randn(64), torch.randn(64))
    yield OURS.conv3x3_affine, fixed
    yield OURS.conv3x3_affine_onto, (torch.randn(2, 64, 6, 5), *fixed)
    yield OURS.conv3x3_backward, (torch.randn(2, 64, 6, 5), *fixed[:2], True, True)
    yield OURS.conv_of_voxels, (learned(4, 8, 1, 1, 1), learned(3, 8, 1, 1, 1))
    weights, marks = torch.rand(4, 2, 48), torch.rand(2, 1, 6, 5)
    each, maps = torch.randn(4, 2, 48), torch.randn(2, 6, 5)
    if native.compiled("attention.c", "-ffp-contract=fast") is not None:
        yield OURS.attention_pool, (frames,)
        yield OURS.attention_map, (frames, weights)
        yield OURS.attention_gate, (frames, weights, marks, None)
        yield OURS.attention_gate, (frames, weights, marks, channels_last(4, 2, 48, 6, 5))
        yield OURS.attention_gate_backward, (frames, weights, marks, frames, each)
        yield OURS.attention_map_backward, (frames, weights, maps, maps, maps)
        yield OURS.attention_finish, (frames, weights, marks, frames, maps, maps, maps, each, each, each)


def test_torch_finds_nothing_wrong_with_any() -> None:
    seen = set()
    for operator, arguments in calls():
        opcheck(operator.default, arguments)
        seen.add(operator)
    registered = {
        name.removeprefix("esdnet::").split(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("esdnet::")
    }
    if native.compiled("attention.c", "-ffp-contract=fast") is not None:
        assert {operator.__name__ for operator in seen} == registered


def network(**options: Any) -> ESDNet:
    """One whose convolutions, attention and neurons are all computed by operators."""
    made = ESDNet(32, (1, 0, 0), 0, (0, 1), 2, norm="tdbn", **options)
    for norm in (m for m in made.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    return made


class Looking(TorchDispatchMode):
    """Sees every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


class Listening(TorchFunctionMode):
    """Sees every function."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def hooks(model: nn.Module) -> Iterator[None]:
    """On every module, all that there are."""
    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(lambda *a: None))
        handles.append(module.register_forward_hook(lambda *a: None))
    yield
    for handle in handles:
        handle.remove()


@contextlib.contextmanager
def hooks_of_all(model: nn.Module) -> Iterator[None]:
    """On every module of the process."""
    handle = nn.modules.module.register_module_forward_hook(lambda *a: None)
    yield
    handle.remove()


WATCHERS: dict[str, Callable[[nn.Module], Any]] = {
    "a dispatch mode": lambda model: Looking(),
    "a function mode": lambda model: Listening(),
    "a counter": lambda model: FlopCounterMode(display=False),
    "a profiler": lambda model: torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
    "hooks": hooks,
    "hooks of all": hooks_of_all,
}


def results(model: ESDNet, rainy: Tensor, forward: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """What it makes of a picture, and the gradients when it is trained."""
    if not model.training:
        with torch.no_grad():
            return [forward(rainy)]
    made = forward(rainy)
    model.zero_grad()
    made.square().sum().backward()
    return [made.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("training", [False, True], ids=["test", "training"])
@pytest.mark.parametrize("watcher", WATCHERS)
def test_nobody_who_watches_changes_a_bit(watcher: str, training: bool) -> None:
    model, rainy = network().train(training), torch.rand(1, 3, 16, 20)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    expected = results(model, rainy, model)
    with WATCHERS[watcher](model):
        seen = results(model, rainy, model)
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))


def test_a_hook_sees_and_may_change_what_is_computed() -> None:
    model, rainy = network().eval(), torch.rand(1, 3, 16, 20)
    seen: dict[str, Tensor] = {}
    unit = model.encoder1[0].shortcut  # type: ignore[union-attr, index]
    handles = [
        unit.conv.register_forward_hook(lambda m, a, out: seen.update(conv=out)),  # type: ignore[union-attr, operator]
        unit.norm.register_forward_hook(lambda m, a, out: seen.update(norm=out)),  # type: ignore[union-attr, operator]
    ]
    with torch.no_grad():
        before = model(rainy)
        scale, shift = winograd.fixed_map(unit.norm)  # type: ignore[union-attr]
        assert torch.equal(seen["norm"], winograd.affine(seen["conv"], scale, shift))
        handles[0].remove()
        unit.conv.register_forward_hook(lambda m, a, out: out + 1)  # type: ignore[union-attr, operator]
        assert not torch.equal(model(rainy), before)


def test_a_profiler_names_the_operators() -> None:
    model = network().eval()
    with torch.no_grad(), Looking() as looking:
        model(torch.rand(1, 3, 16, 20))
    if winograd.fits(nn.Conv2d(48, 48, 3, padding=1)):
        assert {"esdnet.conv3x3_affine.default", "esdnet.attention_gate.default"} <= looking.seen
    assert {"esdnet.leaky_spikes.default", "esdnet.mean_over_time.default"} <= looking.seen


@pytest.mark.parametrize("training", [False, True], ids=["test", "training"])
def test_a_compiled_network_has_the_same_bits(training: bool) -> None:
    torch.compiler.reset()
    model, rainy = network().train(training), torch.rand(1, 3, 16, 20)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    expected = results(model, rainy, model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=not training)
    seen = results(model, rainy, compiled)
    assert torch.equal(seen[0], expected[0])
    for got, due in zip(seen[1:], expected[1:], strict=True):
        torch.testing.assert_close(got, due, rtol=1e-4, atol=1e-5 * due.abs().max().item())


def test_an_exported_network_has_the_operators_and_the_same_bits() -> None:
    model, rainy = network().eval(), torch.rand(1, 3, 16, 20)
    with torch.no_grad():
        expected = model(rainy)
        program = torch.export.export(model, (rainy,))
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        again = torch.export.load(file).module()
        assert torch.equal(again(rainy), expected)
    assert any("esdnet.leaky_spikes" in str(node.target) for node in program.graph.nodes)


def test_a_portable_network_has_torchs_operations_alone() -> None:
    model, rainy = network().eval(), torch.rand(1, 3, 16, 20)
    with torch.no_grad(), native.portable():
        program = torch.export.export(model, (rainy,))
        with Looking() as looking:
            torch.testing.assert_close(model(rainy), program.module()(rainy))
    assert not any("esdnet" in str(node.target) for node in program.graph.nodes)
    assert not any(name.startswith("esdnet") for name in looking.seen)
    assert not native.is_portable()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reset", kernels.RESETS)
def test_portable_neurons_are_the_same_bits(reset: str, dtype: torch.dtype) -> None:
    current = (3 * torch.randn(5, 2, 7, 6, 5)).to(dtype)
    for beta, threshold in ((torch.tensor(0.5), torch.tensor(0.15)), torch.rand(2, 7, 1, 1)):
        spikes = kernels.leaky_spikes(current, beta, threshold, reset)
        with native.portable():
            again = kernels.leaky_spikes(current, beta, threshold, reset)
        assert torch.equal(again, spikes) and again.dtype == dtype and 0 < spikes.float().mean() < 1
    graded, mean = kernels.integer_spikes(current, 0.25, 4), kernels.mean_over_time(current)
    with native.portable():
        assert torch.equal(kernels.integer_spikes(current, 0.25, 4), graded)
        assert torch.equal(kernels.mean_over_time(current), mean)


def test_operators_serve_where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    images, weight, bias = learned(2, 48, 6, 5), learned(64, 48, 3, 3), learned(64)
    scale, shift = torch.randn(64), torch.randn(64)
    plain = F.conv2d(images, weight, bias, padding=1)
    expected = [plain, *torch.autograd.grad(plain.square().sum(), [images, weight, bias])]
    monkeypatch.setattr(native, "compiled", lambda *a: None)
    made = OURS.conv3x3(images, weight, bias)
    for got, due in zip(
        [made, *torch.autograd.grad(made.square().sum(), [images, weight, bias])], expected, strict=True
    ):
        torch.testing.assert_close(got, due, rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        there = winograd.affine(F.conv2d(images, weight, padding=1), scale, shift)
        torch.testing.assert_close(OURS.conv3x3_affine(images, weight, scale, shift), there)
        base = torch.randn(2, 64, 6, 5)
        onto = base.clone()
        OURS.conv3x3_affine_onto(onto, images, weight, scale, shift)
        torch.testing.assert_close(onto, base + there)
