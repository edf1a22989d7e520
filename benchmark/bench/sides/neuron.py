"""The leaky integrate-and-fire neuron over a whole sequence: this suite's, snnTorch's and SpikingJelly's.

β = 0.5, θ = 0.15, hard reset, sigmoid slope with α = 4, gradients through the reset: ESDNet's neuron.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmark.bench.case import Body, NotMeasured, Setting
from esdnet.neurons import LeakySequence, surrogate_step

_SHAPES = {
    "cpu": (4, 4, 48, 64, 64),
    "cuda": (4, 16, 96, 128, 128),
}  # the second is larger than a GPU's cache


def _current(setting: Setting) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (0.3 * torch.randn(_SHAPES[setting.device], generator=generator)).to(setting.device)


def _forward(setting: Setting, spikes: Callable[[Tensor], Tensor]) -> Body:
    current = _current(setting)

    def call() -> Tensor:
        with torch.no_grad():
            return spikes(current)

    return call


def _training(setting: Setting, spikes: Callable[[Tensor], Tensor]) -> Body:
    current = _current(setting).requires_grad_()
    gradient = torch.linspace(-1, 1, current.numel(), device=current.device).view(current.shape)

    def call() -> Tensor | None:
        current.grad = None
        spikes(current).backward(gradient)
        return current.grad

    return call


def forward(setting: Setting) -> Body:
    """This suite."""
    return _forward(setting, LeakySequence().to(setting.device))


def training(setting: Setting) -> Body:
    """This suite, forward and backward."""
    return _training(setting, LeakySequence().to(setting.device))


def _stepped(setting: Setting) -> Callable[[Tensor], Tensor]:
    import snntorch

    # snnTorch keeps gradients from flowing through the reset; this is that of the loop as its users write it
    neuron = snntorch.Leaky(0.5, 0.15, surrogate_step(), reset_mechanism="zero").to(setting.device)

    def spikes(current: Tensor) -> Tensor:
        membrane = torch.zeros_like(current[0])
        fired = []
        for arriving in current:
            spike, membrane = neuron(arriving, membrane)
            fired.append(spike)
        return torch.stack(fired)

    return spikes


def snntorch_forward(setting: Setting) -> Body:
    """snntorch.Leaky, called once a step."""
    return _forward(setting, _stepped(setting))


def snntorch_training(setting: Setting) -> Body:
    """The same, forward and backward."""
    return _training(setting, _stepped(setting))


def _jelly(setting: Setting, backend: str | None = None) -> Callable[[Tensor], Tensor]:
    from spikingjelly.activation_based import functional, surrogate
    from spikingjelly.activation_based.neuron import LIFNode

    options = {"tau": 2.0, "decay_input": False, "v_threshold": 0.15, "v_reset": 0.0, "step_mode": "m"}
    if "backend" in inspect.signature(LIFNode.__init__).parameters:
        options["backend"] = backend or ("triton" if setting.device == "cuda" else "torch")
    elif backend is not None:
        raise NotMeasured(f"this SpikingJelly has no {backend} back-end: pip install 'spikingjelly<2'")
    neuron: nn.Module = LIFNode(surrogate_function=surrogate.Sigmoid(alpha=4.0), **options)
    neuron.to(setting.device)

    def spikes(current: Tensor) -> Tensor:
        functional.reset_net(neuron)
        return neuron(current)

    return spikes


def spikingjelly_forward(setting: Setting) -> Body:
    """SpikingJelly in multi-step mode: plain torch on a CPU, on a GPU the kernels that it chooses (2.x: Triton)."""
    return _forward(setting, _jelly(setting))


def spikingjelly_training(setting: Setting) -> Body:
    """The same, forward and backward."""
    return _training(setting, _jelly(setting))


def cupy_forward(setting: Setting) -> Body:
    """SpikingJelly before 2.0 with its CuPy kernels."""
    return _forward(setting, _jelly(setting, "cupy"))


def cupy_training(setting: Setting) -> Body:
    """The same, forward and backward."""
    return _training(setting, _jelly(setting, "cupy"))


def _copied(setting: Setting, elements: float) -> Body:
    """A copy on the device that reads and writes so many elements in all."""
    count = int(elements * torch.Size(_SHAPES[setting.device]).numel() / 2)
    source = torch.rand(count, device=setting.device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def copy_forward(setting: Setting) -> Body:
    """A copy of what a forward must move: the input read, the spikes written."""
    return _copied(setting, 2)


def copy_training(setting: Setting) -> Body:
    """A copy of what forward and backward must move: that, and input and gradient read, gradient written."""
    return _copied(setting, 5)
