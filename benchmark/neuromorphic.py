"""Spiking networks as NIR graphs, for neuromorphic tools and chips (Pedersen et al., Nature Communications 2024).

NIR has convolutions, leaky integrate-and-fire neurons and sums where edges meet. It has no transposed convolution, no
interpolation, no concatenation and no product of features. What it can say of `esdnet.blocks.EncoderDecoder` is the
encoder: from the rainy image, a constant current at every step, to what its three levels hand on. Norms are folded into
the convolutions before them. `docs/neuromorphic.md` says what becomes of the rest.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.errors import UserError, printable
from benchmark.exported import KEY
from benchmark.files import atomic
from esdnet.blocks import (
    ConvNorm,
    ConvSpike,
    EncoderDecoder,
    PostActivationBlock,
    SpikeConv,
    SpikingResidualBlock,
)
from esdnet.neurons import LeakySequence, SequenceNeuron

STEP = 1e-4
"""Seconds of a time step: what readers of NIR take one of theirs for."""

_LEVELS = (("encoder1",), ("down1", "encoder2"), ("down2", "encoder3", "bottleneck"))
_Sources = tuple[str, ...]


class _Graph:
    """Nodes and edges, as the walk through a network finds them. A value is the sum of what its sources give."""

    def __init__(self, nir: Any, title: str) -> None:
        self.nir, self.title = nir, title
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: Any, sources: _Sources) -> _Sources:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return (name,)

    def cannot(self, name: str, why: str) -> UserError:
        return UserError(f"{self.title} is no NIR graph: {name} {why}")

    def convolve(
        self, name: str, conv: nn.Conv2d, norm: nn.Module | None, size: tuple[int, int], sources: _Sources
    ) -> tuple[_Sources, tuple[int, int]]:
        weight = conv.weight.detach().double()
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
        if norm is not None:
            if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
                raise self.cannot(
                    name, f"has a {type(norm).__name__}, which does not fold into a convolution"
                )
            assert norm.running_mean is not None
            scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
            weight = weight * scale[:, None, None, None]
            bias = norm.bias.detach().double() + (bias - norm.running_mean.double()) * scale
        node = self.nir.Conv2d(
            input_shape=size,
            weight=weight.float().numpy(),
            stride=tuple(conv.stride),
            padding=conv.padding if isinstance(conv.padding, str) else tuple(conv.padding),
            dilation=tuple(conv.dilation),
            groups=conv.groups,
            bias=bias.float().numpy(),
        )
        _, height, width = (int(n) for n in node.output_type["output"])
        return self.add(name, node, sources), (height, width)

    def fire(self, name: str, neuron: nn.Module, shape: tuple[int, ...], sources: _Sources) -> _Sources:
        if not isinstance(neuron, LeakySequence):
            kind = "gives graded spikes" if isinstance(neuron, SequenceNeuron) else "is no spiking neuron"
            raise self.cannot(name, f"({type(neuron).__name__}) {kind}, for which there is no primitive")
        if neuron.reset_mechanism != "zero":
            raise self.cannot(
                name, f"resets by {neuron.reset_mechanism!r}; the LIF of NIR resets to a potential"
            )
        beta = neuron.beta.detach().clamp(0, 1).double()
        if bool((beta == 1).any()):
            raise self.cannot(name, "does not leak (beta 1), which the LIF of NIR must")
        # (1 - beta) / STEP · tau = 1 makes one Euler step of the ODE eq. 2's; r undoes the decay of the input
        gain = torch.ones_like(beta) if neuron.decay_input else 1 / (1 - beta)
        # NIR fires above the threshold, the authors at it: the float before it is the same rule
        threshold = torch.nextafter(neuron.threshold.detach().float(), torch.tensor(-torch.inf))

        def each(value: Tensor | float) -> np.ndarray[Any, Any]:
            return np.array(torch.as_tensor(value).float().expand(shape).numpy())

        node = self.nir.LIF(
            tau=each(STEP / (1 - beta)),
            r=each(gain),
            v_leak=each(neuron.v_reset),
            v_threshold=each(threshold),
            v_reset=each(neuron.v_reset),
        )
        return self.add(name, node, sources)


@dataclass
class _Walk:
    """Where the walk through an encoder is: what flows there, and its size."""

    graph: _Graph
    sources: _Sources
    channels: int
    size: tuple[int, int]

    def conv(self, name: str, module: ConvNorm) -> None:
        self.sources, self.size = self.graph.convolve(
            f"{name}.conv", module.conv, module.norm, self.size, self.sources
        )
        self.channels = module.conv.out_channels

    def neuron(self, name: str, module: nn.Module) -> None:
        self.sources = self.graph.fire(name, module, (self.channels, *self.size), self.sources)

    def unit(self, name: str, module: nn.Module) -> None:
        """One of the parts that stages consist of."""
        if isinstance(module, nn.Sequential):
            for key, part in module.named_children():
                self.unit(f"{name}.{key}", part)
        elif isinstance(module, SpikeConv) and module.upscale == 1:
            self.neuron(f"{name}.activation", module.activation)
            self.conv(name, module)
        elif isinstance(module, ConvSpike):
            self.conv(name, module)
            self.neuron(f"{name}.activation", module.activation)
        elif isinstance(module, PostActivationBlock):
            before = self.sources
            self.unit(f"{name}.residual", module.residual)
            self.sources = before + self.sources
        elif isinstance(module, SpikingResidualBlock):
            if module.attention is not None:
                raise self.graph.cannot(
                    f"{name}.attention", "multiplies features by each other, for which there is no primitive"
                )
            before = self.sources
            self.unit(f"{name}.residual", module.residual)
            made = before + self.sources
            if module.shortcut is not None:
                self.sources = before
                self.conv(f"{name}.shortcut", module.shortcut)
                made += self.sources
            self.sources = made
        elif isinstance(module, SequenceNeuron):
            self.neuron(name, module)
        else:
            raise self.graph.cannot(name, f"is a {type(module).__name__}, for which there is no primitive")


def encoder_graph(network: nn.Module, size: tuple[int, int], about: Mapping[str, Any]) -> Any:
    """The encoder of a network as a graph of NIR.

    Args:
        network: at test time (`eval`), with attention-free blocks: ESDNet-S, or ESDNet with block "ms", "sew" or
            without attention.
        size: height and width of the picture, multiples of four.
        about: goes into the graph's metadata as JSON, key `derain`; `title` is used in messages.

    Returns:
        A `nir.NIRGraph` with the Input `rainy` (3, H, W), a constant current in [0, 1] for all T steps, and the Output
        `level3` (C, H / 4, W / 4), the current that goes up from the lowest level, at each step. Nodes have the names
        of the network's modules. NIR's readers take one Output: which nodes' sums are the currents of all three
        levels is in the metadata (`levels`).

    Raises:
        UserError: nir is not installed; a layer, named, that has no primitive.
    """
    try:
        import nir
    except ImportError:
        raise UserError("NIR needs nir and nirtorch: pip install nir nirtorch") from None
    graph = _Graph(nir, str(about["title"]))
    if not isinstance(network, EncoderDecoder):
        if not any(isinstance(m, SequenceNeuron) for m in network.modules()):
            raise UserError(
                f"{graph.title} is no NIR graph: it has no spiking neuron; --format onnx takes it"
            )
        raise UserError(f"{graph.title} is no NIR graph: it has no encoder of ESDNet's skeleton")
    rainy = graph.add("rainy", nir.Input(input_type={"input": np.array([3, *size])}), ())
    first, size = graph.convolve("embedding", network.embedding, None, size, rainy)
    walk = _Walk(graph, first, network.embedding.out_channels, size)
    levels = {}
    for level, stages in enumerate(_LEVELS, start=1):
        for name in stages:
            walk.unit(name, getattr(network, name))
        levels[f"level{level}"] = walk.sources
    output = nir.Output(output_type={"output": np.array([walk.channels, *walk.size])})
    graph.add("level3", output, walk.sources)
    told = {**about, "time_steps": network.time_steps, "seconds_per_step": STEP, "levels": levels}
    return nir.NIRGraph(graph.nodes, graph.edges, metadata={KEY: json.dumps(told)})


def write_nir(graph: Any, path: Path) -> None:
    """Write a graph as HDF5, whole or not at all."""
    import nir

    with atomic(path) as temporary:
        nir.write(str(temporary), graph)


def differing_spikes(network: nn.Module, path: Path, image: Tensor) -> tuple[int, int]:
    """Run a written graph by snnTorch's reader beside the network.

    Args:
        network: what the file was made of.
        path: the file.
        image: one picture (1, 3, H, W) of the file's size.

    Returns:
        How many spikes (a neuron at a step) differ, and of how many. Some may: folded norms round otherwise, and a
        potential at the threshold falls to the other side.

    Raises:
        UserError: snnTorch's reader cannot take the graph (a resting potential that is not 0), or nirtorch is missing.
    """
    import nir

    try:
        from snntorch.import_nir import import_from_nir
    except ImportError:
        raise UserError("snnTorch's reader needs nirtorch: pip install nir nirtorch") from None
    graph = nir.read(str(path))
    with _quiet():
        try:
            reader = import_from_nir(graph)
        except AssertionError as error:
            raise UserError(f"{printable(path)}: snnTorch's reader does not take it ({error})") from None
    neurons = [name for name, node in graph.nodes.items() if isinstance(node, nir.LIF)]
    theirs: dict[str, list[Tensor]] = {name: [] for name in neurons}
    ours: dict[str, Tensor] = {}
    known = dict(network.named_modules())
    read = {name.replace(".", "_"): module for name, module in reader.named_modules()}
    handles = [
        known[n].register_forward_hook(lambda *seen, n=n: ours.__setitem__(n, seen[-1])) for n in neurons
    ]
    handles += [
        read[n.replace(".", "_")].register_forward_hook(lambda *seen, n=n: theirs[n].append(seen[-1]))
        for n in neurons
    ]
    try:
        with torch.no_grad(), _quiet():
            network(image)
            state: Any = None
            for _ in range(int(json.loads(graph.metadata[KEY])["time_steps"])):
                *_, state = reader(image, state)
    finally:
        for handle in handles:
            handle.remove()
    differ = sum(int((torch.stack(theirs[n]) != ours[n]).sum()) for n in neurons)
    return differ, sum(ours[n].numel() for n in neurons)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the readers print for their developers."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
