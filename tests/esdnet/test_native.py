"""The compiled neuron against the same in torch's operations, and what happens where it cannot be compiled."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esdnet import LeakySequence, kernels, native

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture
def compiled() -> None:
    if native.library(torch.float32) is None:
        pytest.skip("no C compiler")


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What was compiled is looked for anew, before and after."""
    native.compiled.cache_clear()
    yield
    native.compiled.cache_clear()


def both(
    monkeypatch: pytest.MonkeyPatch, neuron: LeakySequence, current: Tensor, weights: Tensor
) -> list[list[Tensor]]:
    """Spikes, then the gradients of current, beta and threshold: compiled and not."""
    results = []
    for library in (native.library, lambda dtype: None):
        monkeypatch.setattr(native, "library", library)
        leaf = current.detach().requires_grad_()
        spikes = neuron(leaf)
        asked = [leaf, *neuron.parameters()]
        results.append([spikes.detach(), *torch.autograd.grad(spikes, asked, weights)])
    return results


@pytest.mark.parametrize("reset", kernels.RESETS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.usefixtures("compiled")
def test_spikes_are_the_same_bits(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, reset: str) -> None:
    for shape in ((1, 1, 1), (4, 2, 3, 16, 16), (5, 1, 7, 9, 11), (23, 65), (3, 64), (2, 40_001)):
        for scale in (0.1, 3.0, 3e4):
            current = (torch.randn(shape) * scale).to(dtype)
            neuron = LeakySequence(0.7, 0.3, reset)
            with monkeypatch.context() as patch:
                ours = neuron(current)
                patch.setattr(native, "library", lambda _: None)
                assert torch.equal(ours, neuron(current)), (shape, scale)


@pytest.mark.parametrize("surrogate", kernels.SURROGATES)
@pytest.mark.parametrize("reset", kernels.RESETS)
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.usefixtures("compiled")
def test_gradients_are_the_same_within_rounding(
    monkeypatch: pytest.MonkeyPatch, surrogate: str, reset: str, detach: bool
) -> None:
    for shape in ((), (5, 1, 1), (2, 5, 6, 7)):
        beta, threshold = torch.rand(shape), torch.rand(shape)
        current, weights = torch.randn(4, 2, 5, 6, 7), torch.randn(4, 2, 5, 6, 7)
        neuron = LeakySequence(beta, threshold, reset, surrogate, 4.0, True, True, detach)
        with monkeypatch.context() as patch:
            ours, plain = both(patch, neuron, current, weights)
        assert torch.equal(ours[0], plain[0])
        torch.testing.assert_close(ours[1], plain[1], rtol=1e-5, atol=1e-6)
        for got, expected in zip(ours[2:], plain[2:], strict=True):
            assert got.shape == expected.shape == torch.Size(shape)
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("compiled")
def test_half_precision_gradients_round_once(dtype: torch.dtype) -> None:
    current, weights = torch.randn(4, 999).to(dtype), torch.randn(4, 999).to(dtype)
    neuron = LeakySequence(beta=0.5, threshold=0.25)  # exact in either type, and so are the membranes' spikes
    leaf = current.clone().requires_grad_()
    spikes = neuron(leaf)
    (gradient,) = torch.autograd.grad(spikes, leaf, weights)
    assert gradient.dtype == dtype
    wide = current.double().requires_grad_()
    there = neuron(wide)
    same = (spikes == there).all(
        0
    )  # a membrane rounded to 16 bits can lie on the other side of the threshold
    assert same.float().mean() > 0.9
    (expected,) = torch.autograd.grad(there, wide, weights.double())
    rounding = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(gradient.double()[:, same], expected[:, same], rtol=rounding, atol=rounding)


@pytest.mark.parametrize(
    "arranged",
    [
        lambda x: x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2]),
        lambda x: x.transpose(3, 4).contiguous().transpose(3, 4),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: x[:1].expand(x.shape),
        lambda x: torch.cat([x, x], 2)[:, :, :5],
    ],
    ids=["channels last", "transposed", "batch first", "one image repeated", "a part"],
)
@pytest.mark.usefixtures("compiled")
def test_any_order_of_memory(arranged: Callable[[Tensor], Tensor]) -> None:
    current = arranged(torch.randn(4, 2, 5, 6, 7))
    beta, threshold = torch.rand(5, 1, 1), torch.rand(5, 1, 1)
    for neuron in (LeakySequence(), LeakySequence(beta, threshold, learn_beta=True, learn_threshold=True)):
        results = []
        for x in (current, current.contiguous()):
            leaf = x.detach().requires_grad_()
            spikes = neuron(leaf)
            gradients = torch.autograd.grad(spikes, [leaf, *neuron.parameters()], arranged(current))
            results.append([spikes, *gradients])
        for got, expected in zip(*results, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])


@pytest.mark.usefixtures("compiled")
def test_channels_last_stays_so() -> None:
    images = torch.randn(8, 5, 6, 7).contiguous(memory_format=torch.channels_last)
    spikes = LeakySequence()(images.unflatten(0, (4, 2)))
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("compiled")
def test_threads_change_no_bit() -> None:
    neuron = LeakySequence(learn_beta=True, learn_threshold=True)
    current, weights = torch.randn(4, 3, 41, 47, 5), torch.randn(4, 3, 41, 47, 5)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            leaf = current.clone().requires_grad_()
            spikes = neuron(leaf)
            results.append([spikes, torch.autograd.grad(spikes, leaf, weights)[0]])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("shape", [(4, 0, 3, 8, 8), (4, 2, 0)])
def test_empty_sequences(shape: tuple[int, ...]) -> None:
    current = torch.zeros(shape, requires_grad=True)
    LeakySequence()(current).sum().backward()
    assert current.grad is not None and current.grad.shape == shape


@pytest.mark.usefixtures("forgotten")
def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERAIN_NATIVE", "0")
    assert native.library(torch.float32) is None
    assert LeakySequence()(torch.ones(2, 3)).tolist() == [[1.0] * 3] * 2


@pytest.mark.usefixtures("forgotten")
def test_no_compiler_is_no_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.library(torch.float32) is None
        assert LeakySequence()(torch.ones(2, 3)).tolist() == [[1.0] * 3] * 2


@pytest.mark.usefixtures("forgotten")
def test_a_compiler_that_fails_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho no such processor >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("DERAIN_CACHE", str(tmp_path))
    with pytest.warns(UserWarning, match="no such processor"):
        assert native.library(torch.float32) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LeakySequence()(torch.ones(2, 3)).tolist() == [[1.0] * 3] * 2


@pytest.mark.usefixtures("compiled", "forgotten")
def test_it_is_compiled_once_for_all_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DERAIN_CACHE", str(tmp_path))
    assert native.library(torch.float32) is not None
    (folder,) = tmp_path.iterdir()
    (made,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    native.compiled.cache_clear()  # as in another process
    monkeypatch.setattr(native, "_build", None)
    assert native.library(torch.float32) is not None
    assert list(folder.iterdir()) == [made]
