"""Spiking neurons that take a whole time sequence and keep nothing between two calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import snntorch
import torch
from snntorch import SpikingNeuron
from torch import Tensor

from esdnet import kernels


def surrogate_step(name: str = "sigmoid", alpha: float = 4.0) -> Callable[[Tensor], Tensor]:
    """The firing function of one step, to be given to `snntorch.Leaky(spike_grad=...)`.

    It fires at the threshold, not only above it, as the authors' code does, and keeps the dtype of its input;
    snnTorch's own functions fire above the threshold and answer in float32.
    """
    return functools.partial(kernels.step, surrogate=name, alpha=alpha)


class SequenceNeuron(snntorch.Leaky):
    """A `snntorch.Leaky` whose forward takes all T steps, (T, N, ...), and answers with their spikes.

    Three things that snnTorch does are undone here. Its neurons remember the membrane of the last call:
    these start at rest each time, so that a forward is a pure function of its input. It keeps every neuron
    of the process in a list, hence in memory: these leave it. And it writes constants into the state_dict:
    here only what is learned goes there, as in the authors' checkpoints.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        SpikingNeuron.instances.remove(self)
        for name, value in list(self.named_buffers(recurse=False)):
            delattr(self, name)
            self.register_buffer(name, value, persistent=False)


_REFUSED = {
    "init_hidden": "this neuron takes all steps in one call and keeps no membrane between two",
    "reset_delay": "a reset comes a step after its spike, as snnTorch's own default has it",
    "inhibition": "each neuron fires for itself",
    "state_quant": "membranes are not quantised",
    "surrogate_disable": "detach the spikes, or call it under torch.no_grad",
    "graded_spikes_factor": "spikes are 0 and 1",
    "learn_graded_spikes_factor": "spikes are 0 and 1",
}


def _refuse(options: Mapping[str, object]) -> None:
    """Refuse options of `snntorch.Leaky` that this neuron has not, unless they are as snnTorch has them by itself."""
    defaults = inspect.signature(snntorch.Leaky).parameters
    for name, value in options.items():
        if name not in _REFUSED:
            raise TypeError(f"LeakySequence has no option {name!r}")
        if name not in defaults or value != defaults[name].default:
            raise ValueError(f"{name}: {_REFUSED[name]}; leave it out")


class LeakySequence(SequenceNeuron):
    """Leaky integrate-and-fire over a sequence (ESDNet, eq. 2 and 5).

        h_t = β u_{t−1} + x_t,  u_0 = 0        membrane before the reset
        s_t = 1 if h_t ≥ θ else 0              spike
        u_t = (1 − s_t) h_t                    hard reset to zero (others: `esdnet.kernels.membrane`)

    The spikes are those of `snntorch.Leaky(beta, threshold, spike_grad=surrogate_step(surrogate, alpha),
    reset_mechanism=...)` stepped over time, bit for bit. The defaults are the released code's: β = 0.5 (its
    τ = 2, input not decayed), θ = 0.15, sigmoid with α = 4, gradients through the reset; the paper gives α
    alone.

    Eq. 2 as it is printed decays the input too, and rests and resets at V_reset: with `decay_input`

        h_t = u_{t−1} + (x_t − (u_{t−1} − V_reset)) / τ,  1/τ = 1 − β,  u_0 = V_reset

    Args:
        beta: decay of the membrane a step, used within [0, 1]; a number, or a tensor that broadcasts with a
            step.
        threshold: likewise.
        reset_mechanism: "zero", "subtract" or "none".
        surrogate: "sigmoid", "atan" or "fast_sigmoid", with the parameter `alpha`.
        learn_beta, learn_threshold: make it a parameter.
        detach_reset: keep gradients from flowing through the reset (snnTorch's own way).
        decay_input: multiply the input by 1 − β, as eq. 2 is printed.
        v_reset: the potential of rest, and what "zero" resets to.
        spike_grad: a firing function of the membrane's distance to the threshold with a gradient of its own,
            such as `snntorch.surrogate.atan()`, instead of `surrogate` and `alpha`. It is stepped in
            torch's operations: slower, with more memory, and as it says at the threshold itself.
        output: answer with (spikes, membranes before the reset), both (T, N, ...).
        of_snntorch: further options of `snntorch.Leaky`, refused where they ask for something: nothing is kept
            between two calls, a reset comes a step after its spike, and neurons know nothing of each other.

    Raises:
        ValueError: no such surrogate or reset mechanism, a `spike_grad` that is no function, or an option of
            snnTorch's that this neuron has not.
    """

    def __init__(
        self,
        beta: float | Tensor = 0.5,
        threshold: float | Tensor = 0.15,
        reset_mechanism: str = "zero",
        surrogate: str = "sigmoid",
        alpha: float = 4.0,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        detach_reset: bool = False,
        decay_input: bool = False,
        v_reset: float = 0.0,
        spike_grad: Callable[[Tensor], Tensor] | None = None,
        output: bool = False,
        **of_snntorch: object,
    ) -> None:
        _refuse(of_snntorch)
        if spike_grad is not None and not callable(spike_grad):
            raise ValueError(
                f"spike_grad must be a function, such as snntorch.surrogate.atan(), not {spike_grad!r}; names go into "
                "surrogate"
            )
        if surrogate not in kernels.SURROGATES:
            raise ValueError(f"surrogate must be one of {', '.join(kernels.SURROGATES)}, not {surrogate!r}")
        if reset_mechanism not in kernels.RESETS:
            raise ValueError(
                f"reset_mechanism must be one of {', '.join(kernels.RESETS)}, not {reset_mechanism!r}"
            )
        super().__init__(
            beta=beta if isinstance(beta, Tensor) else float(beta),
            threshold=threshold if isinstance(threshold, Tensor) else float(threshold),
            spike_grad=spike_grad or surrogate_step(surrogate, alpha),
            output=output,
            learn_beta=learn_beta,
            learn_threshold=learn_threshold,
            reset_mechanism=reset_mechanism,
        )
        self.surrogate, self.alpha, self.detach_reset = surrogate, float(alpha), detach_reset
        self.decay_input, self.v_reset = decay_input, float(v_reset)
        self._learns_beta, self._stepped = learn_beta, spike_grad is not None or output
        if not learn_beta:
            self.register_buffer("beta", self.beta.clamp(0, 1), persistent=False)

    def _decay(self) -> Tensor:
        return self.beta.clamp(0, 1) if self._learns_beta else self.beta

    def _as_stepped(self, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Current, decay and threshold of the same neuron that rests at 0 and does not decay its input."""
        beta, threshold = self._decay(), self.threshold
        if self.decay_input:
            current = current * (1 - beta).to(current.dtype)
        return current, beta, threshold - self.v_reset if self.v_reset else threshold

    def forward(self, current: Tensor) -> Any:
        """Spikes, 0 and 1 in the dtype of `current`, of the same shape (T, N, ...); see `output` too."""
        current, beta, threshold = self._as_stepped(current)
        if self._stepped:
            spikes, membranes = kernels.stepped_spikes(
                current, beta, threshold, self.reset_mechanism, self.spike_grad, self.detach_reset
            )
            return (spikes, membranes + self.v_reset) if self.output else spikes
        return kernels.leaky_spikes(
            current,
            beta,
            threshold,
            self.reset_mechanism,
            self.surrogate,
            self.alpha,
            self.detach_reset,
        )

    @torch.no_grad()
    def membrane(self, current: Tensor) -> Tensor:
        """Membrane potential h_t at each step, before the reset, for the same input as `forward`.

        No recording is needed to look inside a network: a forward hook has the input, and this is a
        function of it.
        """
        current, beta, threshold = self._as_stepped(current)
        potential = kernels.membrane(
            current, beta.to(current.dtype), threshold.to(current.dtype), self.reset_mechanism
        )
        return potential.add_(self.v_reset) if self.v_reset else potential

    def extra_repr(self) -> str:
        """What `print(network)` shows."""
        learned = [n for n, _ in self.named_parameters(recurse=False)]
        return (
            f"beta={self.beta.tolist()}, threshold={self.threshold.tolist()}, reset={self.reset_mechanism}, "
            + (
                f"surrogate={self.surrogate}({self.alpha:g})"
                if not self._stepped
                else "spike_grad given, or output"
            )
            + (", input decayed" if self.decay_input else "")
            + (f", rests at {self.v_reset:g}" if self.v_reset else "")
            + (", reset detached" if self.detach_reset else "")
            + (f", learned: {', '.join(learned)}" if learned else "")
        )


class IntegerSequence(SequenceNeuron):
    """The normalised integer neuron (NI-LIF) of VLIF over a sequence: D + 1 levels, not spike or none.

        m_t = β (m_{t−1} − s_{t−1}) + x_t        s_t = round(clamp(m_t, 0, D)) / D

    The reset takes away the normalised spike s, not D·s, and gets no gradient, as in the released code. The
    gradient of the quantiser is 1/D for 0 ≤ m_t ≤ D.
    """

    def __init__(self, beta: float = 0.25, levels: int = 4) -> None:
        super().__init__(beta=float(beta), reset_mechanism="subtract")
        self.levels = levels
        self._decay = float(beta)

    def forward(self, current: Tensor) -> Tensor:
        """Graded spikes in [0, 1], of the shape (T, N, ...) of `current`."""
        return kernels.integer_spikes(current, self._decay, self.levels)

    def extra_repr(self) -> str:
        """What `print(network)` shows."""
        return f"beta={self._decay:g}, levels={self.levels}"
