"""Memory accesses and addressing, by the model of Lemaire et al. (ICONIP 2022, arXiv 2210.13107).

Every layer has memories of its own beside it, for what comes in, for its weights and for its neurons' potentials; what
an access costs depends on their size. A layer that real values enter reads an input and a weight for each product; a
layer that spikes enter takes each spike from a queue, and for each output that the spike can reach reads a weight, and
reads and writes a potential. Each update of a neuron reads and writes its potential too.

Accesses are of words of 32 bits. The authors published no code; where the paper leaves a choice it is made as
SpikingJelly 2.0 makes it (`estimate_lemaire_energy`), and on networks of convolutions, linear layers and IF or LIF
neurons the energies are the same. Beyond what it takes:

| layer | counted as |
| --- | --- |
| transposed convolution | a convolution; a spike reaches its whole kernel |
| batch norm, tdBN | folded into the layer before: a bias, one addition and one read of a parameter an output |
| other norms | a multiply-accumulate, a read of the element and of a parameter, and a write, an element |
| product of two tensors, attention | a linear layer whose weights are the second operand |
| interpolation | four multiply-accumulates and reads, and a write, an element |
| pooling | an addition and a read an element |
| other element-wise work outside neurons | an addition, a read and a write an element |

This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WORD = 4
"""Bytes of an access."""

KINDS = ("input", "parameters", "potentials")


@dataclass(frozen=True)
class Accesses:
    """What one layer does for one image, in operations and words; sizes of its memories are in bytes.

    Attributes:
        adds, multiplies: of the arithmetic.
        address_adds, address_multiplies: of finding the place of what is read.
        inputs, parameters, potentials: words read (and, of potentials, written) in the memories of those sizes.
        outputs: words written to the memory of the inputs of the next layer, of the size `output_bytes`.
        queued: spikes taken from a queue or put into one.
        by_spikes: all of it grows with the number of spikes; else none of it does.
    """

    adds: float = 0
    multiplies: float = 0
    address_adds: float = 0
    address_multiplies: float = 0
    inputs: float = 0
    parameters: float = 0
    potentials: float = 0
    outputs: float = 0
    queued: float = 0
    input_bytes: float = 0
    parameter_bytes: float = 0
    potential_bytes: float = 0
    output_bytes: float = 0
    by_spikes: bool = False


@dataclass(frozen=True)
class MemoryModel:
    """Prices of Lemaire's model; the defaults are its own (45 nm, 32-bit integers).

    Attributes:
        add, multiply: picojoules of an operation.
        points: (size in bytes, picojoules of an access to a word), between which the price is linear; above the last
            it is the last one's.
        queue: words that a queue of spikes holds.
        input, parameters, potentials: sizes of these memories in bytes on a chip; None: each layer has as much as it
            needs, as in the paper.
    """

    add: float = 0.1
    multiply: float = 3.1
    points: tuple[tuple[float, float], ...] = ((8192, 10.0), (32768, 20.0), (1048576, 100.0))
    queue: int = 1000
    input: float | None = None
    parameters: float | None = None
    potentials: float | None = None

    def access(self, size: float) -> float:
        """Picojoules of one access to a memory of so many bytes."""
        before = (0.0, 0.0)
        for point in self.points:
            if size <= point[0]:
                return before[1] + (point[1] - before[1]) * (size - before[0]) / (point[0] - before[0])
            before = point
        return before[1]

    def parts_pj(self, done: Accesses) -> Mapping[str, float]:
        """Picojoules of a layer: operations, addressing, memories of inputs and outputs, weights, potentials."""

        def price(own: float | None, needed: float) -> float:
            return self.access(needed if own is None else own)

        fused = self.add  # of a multiply-accumulate: `multiplies` come with an addition each
        return {
            "operations": done.adds * self.add + done.multiplies * (self.multiply + fused),
            "addressing": done.address_adds * self.add + done.address_multiplies * (self.multiply + fused),
            "inputs and outputs": done.inputs * price(self.input, done.input_bytes)
            + done.outputs * price(self.input, done.output_bytes)
            + done.queued * self.access(self.queue * WORD),
            "weights": done.parameters * price(self.parameters, done.parameter_bytes),
            "potentials": done.potentials * price(self.potentials, done.potential_bytes),
        }


def product(
    macs: float,
    accumulates: float,
    spikes: float,
    given: float,
    made: float,
    bias: float,
    reach: tuple[float, float],
    kernel: float,
    sizes: Mapping[str, float],
    written: bool,
) -> tuple[Accesses, Accesses]:
    """The accesses of a convolution, a linear layer or another product: apart from spikes, and by them.

    Args:
        macs, accumulates: of real-valued and of binary input, dense.
        spikes: that came in.
        given, made: elements that came in, and went out.
        bias: of these the ones that have a bias added.
        reach: accumulates of a spike, and weights that it reads.
        kernel: places of the kernel times output channels; 0: not a convolution.
        sizes: bytes of the memories, by the names of `Accesses`.
        written: whether what real values give is written out, as where no neuron follows anywhere.
    """
    real = macs / (macs + accumulates) if macs + accumulates else 0.0
    operations, accesses = reach
    memories: Any = dict(sizes)
    apart = Accesses(
        adds=bias,
        multiplies=macs,
        address_adds=real * (given + made) + (kernel if real else 0),
        inputs=(macs if kernel else real * given),
        parameters=macs + bias,
        outputs=real * made if written else 0,
        **memories,
    )
    driven = Accesses(
        adds=spikes * operations,
        address_adds=spikes * accesses,
        address_multiplies=2 * spikes if kernel else 0,
        parameters=spikes * accesses,
        potentials=2 * spikes * accesses,
        queued=spikes,
        by_spikes=True,
        **memories,
    )
    return apart, driven


def neuron(
    updates: float, emitted: float, leaking: bool, potential_bytes: float
) -> tuple[Accesses, Accesses]:
    """Of neurons: potentials read and written at every update, the leak; and by spikes, the reset and the sending."""
    apart = Accesses(
        multiplies=updates if leaking else 0, potentials=2 * updates, potential_bytes=potential_bytes
    )
    return apart, Accesses(adds=emitted, queued=emitted, by_spikes=True)


def other(
    norm: float,
    foldable: bool,
    parameters: float,
    elementwise: float,
    pool: float,
    resample: float,
    size: float,
) -> Accesses:
    """The accesses of what is neither product nor neuron, from the counts of elements; `size` is of the data."""
    folded, unfolded = (norm, 0.0) if foldable else (0.0, norm)
    return Accesses(
        adds=folded + elementwise + pool,
        multiplies=unfolded + 4 * resample,
        inputs=unfolded + elementwise + pool + 4 * resample,
        parameters=folded + unfolded,
        outputs=unfolded + elementwise + resample,
        input_bytes=size,
        output_bytes=size,
        parameter_bytes=parameters * WORD,
    )


def together(parts: tuple[Accesses, ...], model: MemoryModel) -> Mapping[str, float]:
    """Picojoules of several, by part."""
    sums: dict[str, float] = {}
    for done in parts:
        for part, energy in model.parts_pj(done).items():
            sums[part] = sums.get(part, 0.0) + energy
    return sums


__all__ = ["KINDS", "WORD", "Accesses", "MemoryModel", "neuron", "other", "product", "together"]
