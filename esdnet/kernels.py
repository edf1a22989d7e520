"""Spiking neurons over a whole time sequence: one pass forward, one backward.

`leaky_spikes` and `integer_spikes` are what neurons.py calls. Each is a single autograd node for all T
steps. The first is a registered operator, `torch.ops.esdnet.leaky_spikes`, so that compilers, exporters, counters and
profilers see one operation and none of them changes what is computed. It keeps nothing but its own input for the
backward pass, which integrates the membrane a second time; the second keeps one bit of information (a byte) an element.
The autograd graph of a stepped neuron keeps several tensors of the input's size for every step.

On a CPU with a C compiler the first runs in native.py, on a GPU in gpu.py; what is here is the definition, and serves
everywhere else.
Which of them runs depends on the machine and the tensor's type alone, so that a training repeated or resumed there
gives the same weights. The spikes are the same bits in both, the gradients within rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esdnet import gpu, layout, native


def _sigmoid_slope(distance: Tensor, alpha: float) -> Tensor:
    """α σ(αd) (1 − σ(αd)): eq. 5 of the ESDNet paper, with α = 4 there."""
    gate = distance.mul_(alpha).sigmoid_()
    return gate.addcmul_(gate, gate, value=-1).mul_(alpha)


def _atan_slope(distance: Tensor, alpha: float) -> Tensor:
    """α/2 / (1 + (π α d / 2)²), the arc tangent of Fang et al. (ICCV 2021)."""
    return distance.mul_(torch.pi / 2 * alpha).square_().add_(1).reciprocal_().mul_(alpha / 2)


def _fast_sigmoid_slope(distance: Tensor, alpha: float) -> Tensor:
    """1 / (1 + α |d|)², the fast sigmoid of Zenke and Ganguli (2018)."""
    return distance.abs_().mul_(alpha).add_(1).square_().reciprocal_()


SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": _sigmoid_slope,
    "atan": _atan_slope,
    "fast_sigmoid": _fast_sigmoid_slope,
}
"""Slopes that stand in for the derivative of the step: functions of (membrane − threshold), in place."""

RESETS = native.RESETS


class _Step(torch.autograd.Function):
    """1 where the input is at least 0, in the input's dtype; backward, the slope of a surrogate."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, surrogate: str, alpha: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.options = surrogate, alpha
        return distance.ge(0).to(distance.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (distance,) = ctx.saved_tensors
        surrogate, alpha = ctx.options
        return SURROGATES[surrogate](distance.clone(), alpha).mul_(grads[0]), None, None


def step(distance: Tensor, surrogate: str = "sigmoid", alpha: float = 4.0) -> Tensor:
    """Spikes of one step from (membrane − threshold), of any shape."""
    return _Step.apply(distance, surrogate, alpha)


def membrane(current: Tensor, beta: Tensor, threshold: Tensor, reset: str) -> Tensor:
    """Membrane potential h at each step, before the reset, of the shape of `current`: (T, N, ...).

    The operations and their order are those of snntorch.Leaky, so that the rounding is the same in every
    dtype:

        zero:      h_t = β (1 − s_{t−1}) h_{t−1} + x_t
        subtract:  h_t = β h_{t−1} + x_t − s_{t−1} θ
        none:      h_t = β h_{t−1} + x_t
    """
    potential = layout.empty(current, layout.is_channels_last(current))
    for t, arriving in enumerate(current):
        now = potential[t]
        if t == 0:
            now.copy_(arriving)
            continue
        before = potential[t - 1]
        if reset == "zero":
            torch.ge(before, threshold, out=now)
            now.neg_().add_(1).mul_(before).mul_(beta).add_(arriving)
        else:
            torch.mul(before, beta, out=now).add_(arriving)
            if reset == "subtract":
                now.sub_(before.ge(threshold).to(now.dtype).mul_(threshold))
    return potential


def _written_out(current: Tensor, beta: Tensor, threshold: Tensor, reset: str) -> Tensor:
    """Spikes of `membrane`, the same bits, by operations that make new tensors.

    Exporters write a step in place as a scatter into all steps: onnxruntime took ten times as long for ESDNet.
    """
    spikes: list[Tensor] = []
    before = current[0]
    for t, now in enumerate(current.unbind()):
        if t and reset == "zero":
            now = (1 - spikes[-1]) * before * beta + now
        elif t:
            now = before * beta + now
            if reset == "subtract":
                now = now - spikes[-1] * threshold
        before = now
        spikes.append(now.ge(threshold).to(now.dtype))
    return torch.stack(spikes)


def _fused(current: Tensor) -> ModuleType | None:
    """The module with `forward` and `backward` for that tensor, if there is one on this machine."""
    return next((module for module in (native, gpu) if module.usable(current)), None)


@torch.library.custom_op("esdnet::leaky_spikes", mutates_args=())
def _leaky_spikes(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    reset: str,
    surrogate: str,
    alpha: float,
    detach_reset: bool,
) -> Tensor:
    fused = _fused(current)
    if fused is not None:
        return fused.forward(current, beta, threshold, reset)
    return membrane(current, beta, threshold, reset).ge_(threshold)


@_leaky_spikes.register_fake
def _(current: Tensor, *others: Any) -> Tensor:
    return layout.empty(current, layout.is_channels_last(current))


@torch.library.custom_op("esdnet::leaky_spikes_backward", mutates_args=())
def _leaky_spikes_backward(
    gradient: Tensor,
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    reset: str,
    surrogate: str,
    alpha: float,
    detach_reset: bool,
    wants_beta: bool,
    wants_threshold: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `current`, and of `beta` and `threshold` where they are wanted, else nothing in their place."""
    backward = getattr(_fused(current), "backward", _stepped_backward)
    wants = wants_beta, wants_threshold
    found, *constants = backward(
        current, gradient, beta, threshold, reset, surrogate, alpha, detach_reset, *wants
    )
    to_beta, to_threshold = (
        current.new_empty(0) if sums is None else sums.sum_to_size(wanted.shape).to(wanted.dtype)
        for sums, wanted in zip(constants, (beta, threshold), strict=True)
    )
    return found, to_beta, to_threshold


@_leaky_spikes_backward.register_fake
def _(
    gradient: Tensor, current: Tensor, beta: Tensor, threshold: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    wants_beta, wants_threshold = options[-2:]
    return (
        layout.empty(current, layout.is_channels_last(current)),
        beta.new_empty(beta.shape) if wants_beta else current.new_empty(0),
        threshold.new_empty(threshold.shape) if wants_threshold else current.new_empty(0),
    )


def _stepped_backward(
    current: Tensor,
    gradient: Tensor,
    beta: Tensor,
    threshold: Tensor,
    reset: str,
    surrogate: str,
    alpha: float,
    detach_reset: bool,
    wants_beta: bool,
    wants_threshold: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """In torch's operations, as `native.backward`; the constants' are of one step's shape."""
    # g_t is the gradient of h_t, σ' the surrogate's slope and e_t the gradient of s_t: its own, and unless
    # detached what comes through the reset of the next step.
    #   zero:      g_t = e_t σ'_t + β g_{t+1} (1 − s_t)    e_t = ∂s_t − β g_{t+1} h_t
    #   subtract:  g_t = e_t σ'_t + β g_{t+1}              e_t = ∂s_t − θ g_{t+1}
    #   none:      g_t = e_t σ'_t + β g_{t+1}              e_t = ∂s_t
    potential = membrane(current, beta, threshold, reset)
    slope = SURROGATES[surrogate](potential - threshold, alpha)
    out = torch.empty_like(slope)
    to_beta, to_threshold = torch.zeros_like(slope[0]), torch.zeros_like(slope[0])
    last = len(current) - 1
    for t in range(last, -1, -1):
        now, spike_gradient = out[t], gradient[t]
        if t == last:
            torch.mul(spike_gradient, slope[t], out=now)
            if wants_threshold:
                to_threshold -= now
            continue
        later, carried = out[t + 1], out[t + 1] * beta
        if not detach_reset and reset == "zero":
            spike_gradient = torch.addcmul(spike_gradient, carried, potential[t], value=-1)
        elif not detach_reset and reset == "subtract":
            spike_gradient = spike_gradient - later * threshold
        torch.mul(spike_gradient, slope[t], out=now)
        if wants_threshold:
            to_threshold -= now
            if reset == "subtract":
                to_threshold -= later * potential[t].ge(threshold)
        if wants_beta:
            left = potential[t] * potential[t].lt(threshold) if reset == "zero" else potential[t]
            to_beta.addcmul_(later, left)
        if reset == "zero":
            carried.mul_(potential[t].lt(threshold))
        now.add_(carried)
    return out, to_beta if wants_beta else None, to_threshold if wants_threshold else None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.options = inputs[3:]


def _leaky_spikes_differentiated(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[1:3]
    found = _leaky_spikes_backward(gradient, *ctx.saved_tensors, *ctx.options, *wanted)
    return (
        found[0],
        *(sums if want else None for sums, want in zip(found[1:], wanted, strict=True)),
        *[None] * 4,
    )


_leaky_spikes.register_autograd(_leaky_spikes_differentiated, setup_context=_keep)


def leaky_spikes(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    reset: str = "zero",
    surrogate: str = "sigmoid",
    alpha: float = 4.0,
    detach_reset: bool = False,
) -> Tensor:
    """Spikes (0 and 1) of leaky integrate-and-fire neurons that start at rest.

    Args:
        current: (T, N, ...), any floating dtype.
        beta: decay a step, in [0, 1]; one value, or a shape that broadcasts with one step of `current`.
        threshold: a neuron fires where its membrane is at least this; shaped like `beta`.
        reset: see `membrane`.
        surrogate: slope of the backward pass, a name in `SURROGATES`, with its parameter `alpha`.
        detach_reset: whether the backward pass takes the reset as a constant.

    Returns:
        (T, N, ...), dtype of `current`. Gradients flow to `current`, and to `beta` and `threshold` if they
        ask.
    """
    beta, threshold = beta.to(current.dtype), threshold.to(current.dtype)
    if native.is_portable():
        return _written_out(current, beta, threshold, reset)
    return _leaky_spikes(current, beta, threshold, reset, surrogate, alpha, detach_reset)


def stepped_spikes(
    current: Tensor,
    beta: Tensor,
    threshold: Tensor,
    reset: str,
    fire: Callable[[Tensor], Tensor],
    detach_reset: bool = False,
) -> tuple[Tensor, Tensor]:
    """`leaky_spikes` by any firing function, with the membranes before each reset; autograd differentiates both.

    Args:
        current: (T, N, ...), any floating dtype.
        beta, threshold, reset, detach_reset: as for `leaky_spikes`.
        fire: from the membrane's distance to the threshold to spikes, with a gradient of its own, such as
            snnTorch's `surrogate.atan()`.

    Returns:
        Spikes and membranes, (T, N, ...), dtype of `current`.
    """
    beta, threshold = beta.to(current.dtype), threshold.to(current.dtype)
    spikes: list[Tensor] = []
    membranes: list[Tensor] = []
    for t, arriving in enumerate(current):
        now = arriving
        if t:
            fired = spikes[-1].detach() if detach_reset else spikes[-1]
            before = membranes[-1]
            if reset == "zero":
                before = before * (1 - fired)
            now = beta * before + arriving
            if reset == "subtract":
                now = now - fired * threshold
        membranes.append(now)
        spikes.append(fire(now - threshold).to(current.dtype))
    return torch.stack(spikes), torch.stack(membranes)


class _IntegerSpikes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, beta: float, levels: int) -> Tensor:
        spikes = torch.empty_like(current)
        inside = torch.empty_like(current, dtype=torch.bool)
        potential = torch.empty_like(spikes[0])
        for t, arriving in enumerate(current):
            if t == 0:
                potential.copy_(arriving)
            else:
                potential.sub_(spikes[t - 1]).mul_(beta).add_(arriving)
            torch.clamp(potential, 0, levels, out=spikes[t])
            torch.eq(spikes[t], potential, out=inside[t])  # not clamped, the ends included
            spikes[t].round_().div_(levels)
        ctx.save_for_backward(inside)
        ctx.options = beta, levels
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        beta, levels = ctx.options
        gradient = grads[0] * inside
        gradient.div_(levels)
        for t in range(len(gradient) - 2, -1, -1):
            gradient[t].add_(gradient[t + 1], alpha=beta)
        return gradient, None, None


def integer_spikes(current: Tensor, beta: float, levels: int) -> Tensor:
    """Spikes 0, 1/D, …, 1 (D = `levels`) of the normalised integer neuron of VLIF, from (T, N, ...).

        m_t = β (m_{t−1} − s_{t−1}) + x_t        s_t = round(clamp(m_t, 0, D)) / D

    Halves round to even. The gradient of s_t is 1/D where 0 ≤ m_t ≤ D, and none goes through the reset.
    """
    if not native.is_portable():
        return _IntegerSpikes.apply(current, beta, levels)
    spikes: list[Tensor] = []
    potential = current[0]
    for t, arriving in enumerate(current.unbind()):
        potential = (potential - spikes[-1]) * beta + arriving if t else arriving
        spikes.append(potential.clamp(0, levels).round() / levels)
    return torch.stack(spikes)


def _mean_of_steps(frames: Tensor) -> Tensor:
    return functools.reduce(torch.add, frames.unbind()) / len(frames)


_mean_over_time = torch.library.custom_op("esdnet::mean_over_time", _mean_of_steps, mutates_args=())


@_mean_over_time.register_fake
def _(frames: Tensor) -> Tensor:
    return torch.empty_like(frames[0])


def _keep_steps(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.steps = len(inputs[0])


def _mean_over_time_differentiated(ctx: Any, gradient: Tensor) -> Tensor:
    return torch.stack([gradient / ctx.steps] * ctx.steps)


_mean_over_time.register_autograd(_mean_over_time_differentiated, setup_context=_keep_steps)


def mean_over_time(frames: Tensor) -> Tensor:
    """(T, N, ...) to (N, ...), a twentieth of the time of torch's mean over the first axis of channels-last frames."""
    return (_mean_of_steps if native.is_portable() else _mean_over_time)(frames)
