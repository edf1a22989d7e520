"""What the neurons of a spiking network do in rain: membranes and spikes of a layer, and rates in rain and out of it.

The paper's premise (its Figure 2) is that rain makes neurons fire more than the background does. `activity` shows
it for a picture, `rain_rates` measures it over pairs whose rain is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.cost.counter import is_neuron
from benchmark.errors import UserError, WorkError, unknown

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Activity:
    """What one layer of neurons did while the network saw one picture.

    Attributes:
        layer: its name in the network.
        spikes: (T, C, h, w), 0 and 1, or levels in [0, 1] for graded neurons.
        membrane: (T, C, h, w), the potential before the reset; None for neurons that do not tell.
        threshold: at which they fire, where there is one for all.
    """

    layer: str
    spikes: Array
    membrane: Array | None
    threshold: float | None

    @property
    def rates(self) -> Array:
        """Share of the channels that fire, (T, h, w)."""
        return (self.spikes != 0).mean(1, dtype=np.float32)

    @property
    def potentials(self) -> Array | None:
        """Mean membrane potential over channels, (T, h, w)."""
        return None if self.membrane is None else self.membrane.mean(1)


@dataclass(frozen=True)
class Rates:
    """How often a layer fires, on rain and on background, by time step.

    Where a layer is coarser than the picture a neuron belongs to rain by the share of its area that is rain.

    Attributes:
        layer: its name in the network.
        spikes: on rain and on background, each (T,): neurons that fired, summed over pictures and positions.
        neurons: on rain and on background: how many there were at each step.
    """

    layer: str
    spikes: tuple[NDArray[np.float64], NDArray[np.float64]]
    neurons: tuple[float, float]

    @property
    def by_step(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rates on rain and on background at each step; NaN where there is none."""
        with np.errstate(invalid="ignore"):
            rain, background = (
                s / n if n else s * np.nan for s, n in zip(self.spikes, self.neurons, strict=True)
            )
        return rain, background

    @property
    def rain(self) -> float:
        """Rate on rain, mean over time."""
        return float(self.by_step[0].mean())

    @property
    def background(self) -> float:
        """Rate on background, mean over time."""
        return float(self.by_step[1].mean())


class InRain(NamedTuple):
    """What `rain_rates` finds.

    Attributes:
        layers: rates by layer, in the order of the network.
        share: of the pixels that are rain.
        pairs: (pairs, 3), rates of all neurons of a pair together: on rain, on the background of the same picture, and
            where the rain was in the picture without it; NaN where a pair has no such place.
    """

    layers: list[Rates]
    share: float
    pairs: NDArray[np.float64]


def together(rates: Iterable[Rates], layer: str) -> Rates:
    """Several layers as one, each neuron counting the same."""
    parts = list(rates)
    spikes, neurons = [], []
    for side in (0, 1):
        # time steps together: layers may differ in their number of steps
        spikes.append(np.array([sum(p.spikes[side].sum() for p in parts)]))
        neurons.append(sum(p.neurons[side] * len(p.spikes[side]) for p in parts))
    return Rates(layer, (spikes[0], spikes[1]), (neurons[0], neurons[1]))


def neurons(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of spiking neurons of a network, by name.

    Raises:
        UserError: it has none.
    """
    found = {name: m for name, m in model.named_modules() if name and is_neuron(m)}
    if not found:
        raise UserError(
            f"{type(model).__name__} has no spiking neurons to look at; esdnet, spikerain and vlif have"
        )
    return found


def activity(model: nn.Module, picture: Tensor, layer: str | None = None) -> Activity:
    """What a layer does while the network sees a picture.

    Args:
        model: a spiking network, in evaluation mode.
        picture: (3, H, W) in [0, 1]; sides that the network takes.
        layer: its name; None for the first.

    Raises:
        UserError: no such layer (the nearest is given), or no spiking network.
    """
    known = neurons(model)
    layer = layer or next(iter(known))
    if layer not in known:
        raise unknown("layer", layer, known)
    seen: list[Activity] = []

    def look(name: str, neuron: nn.Module, current: Tensor, spikes: Tensor) -> None:
        membrane = getattr(neuron, "membrane", None)
        threshold = getattr(neuron, "threshold", None)
        seen.append(
            Activity(
                name,
                _first(spikes),
                _first(membrane(current)) if callable(membrane) else None,
                float(threshold) if isinstance(threshold, Tensor) and threshold.numel() == 1 else None,
            )
        )

    with _watching({layer: known[layer]}, look):
        _forward(model, picture)
    if not seen:
        raise WorkError(f"layer '{layer}' did not run")
    return seen[0]


def rain_rates(
    model: nn.Module,
    pairs: Iterable[Mapping[str, Any]],
    tile: int | None = None,
    multiple: int = 1,
    above: int = 0,
    limit: int | None = None,
) -> InRain:
    """Spike rates on rain and on background, and in the same places without rain, over pairs whose rain is known.

    A pixel is rain where any channel of the rainy picture differs from the target.

    Args:
        model: a spiking network, in evaluation mode.
        pairs: mappings with "rainy" and "target", (3, H, W) in [0, 1].
        tile: side of the windows that the network sees, side by side and full ones only; None for whole pictures.
        multiple: of the sides, where pictures are whole.
        above: a pixel is rain where the difference is larger than this, in 8-bit levels.
        limit: at most so many pairs.

    Raises:
        UserError: no pairs, or no spiking network.
    """
    known = neurons(model)
    spikes: dict[str, list[Tensor]] = {}
    count: dict[str, list[float]] = {}
    rain_pixels = pixels = 0
    of_pairs: list[list[list[float]]] = []  # of each pair, on each of the three: spikes and neurons

    def look(name: str, neuron: nn.Module, current: Tensor, fired: Tensor) -> None:
        if fired.ndim != 5:
            raise WorkError(f"layer '{name}': spikes must be (T, N, C, H, W), not {tuple(fired.shape)}")
        channels = fired.shape[2]
        at = (fired != 0).sum((1, 2)).double()  # (T, h, w)
        rain = F.adaptive_avg_pool2d(mask[None, None], (at.shape[-2], at.shape[-1]))[0, 0].double()
        spikes.setdefault(name, [torch.zeros(len(at), dtype=torch.float64) for _ in range(2)])
        count.setdefault(name, [0.0, 0.0])
        for side, weight in enumerate((rain, 1 - rain)) if wet else ((2, rain),):
            fired_there, there = (at * weight).sum((1, 2)).cpu(), channels * float(weight.sum())
            of_pairs[-1][side][0] += float(fired_there.sum())
            of_pairs[-1][side][1] += len(at) * there
            if wet:
                spikes[name][side] += fired_there
                count[name][side] += there

    with _watching(known, look):
        for pair in islice(pairs, limit):
            rainy, target = pair["rainy"], pair["target"]
            difference = (rainy - target).abs().amax(0) * 255
            of_pairs.append([[0.0, 0.0] for _ in range(3)])
            for rows, columns in _windows(rainy.shape[-2], rainy.shape[-1], tile, multiple):
                mask = (difference[rows, columns] > above + 0.5).float().to(_device(model))
                wet = True
                _forward(model, rainy[:, rows, columns])
                wet = False
                _forward(model, target[:, rows, columns])
                rain_pixels += int(mask.sum())
                pixels += mask.numel()
    if not pixels:
        raise UserError("nothing to measure: there are no pairs")
    rates = [
        Rates(name, (s[0].numpy(), s[1].numpy()), (count[name][0], count[name][1]))
        for name in known
        if (s := spikes.get(name)) is not None
    ]
    sums = np.array(of_pairs)
    with np.errstate(invalid="ignore"):
        return InRain(rates, rain_pixels / pixels, sums[..., 0] / sums[..., 1])


def wettest(difference: Array, size: int) -> tuple[int, int]:
    """Left and top of the window of `size` pixels where two pictures, (H, W) of absolute differences, differ most."""
    # summed-area table: the sum of every window in one go
    table = np.pad(difference.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = table[size:, size:] - table[:-size, size:] - table[size:, :-size] + table[:-size, :-size]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(left), int(top)


def _windows(height: int, width: int, tile: int | None, multiple: int) -> Iterator[tuple[slice, slice]]:
    if tile is None or min(height, width) < tile:
        yield slice(0, height - height % multiple), slice(0, width - width % multiple)
        return
    for top in range(0, height - tile + 1, tile):
        for left in range(0, width - tile + 1, tile):
            yield slice(top, top + tile), slice(left, left + tile)


@contextlib.contextmanager
def _watching(
    layers: Mapping[str, nn.Module], look: Callable[[str, nn.Module, Tensor, Tensor], None]
) -> Iterator[None]:
    def hook(name: str) -> Callable[..., None]:
        def see(module: nn.Module, args: tuple[Any, ...], spikes: Tensor) -> None:
            look(name, module, args[0].detach(), spikes.detach())

        return see

    handles = [module.register_forward_hook(hook(name)) for name, module in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _forward(model: nn.Module, picture: Tensor) -> Tensor:
    return model(picture[None].to(_device(model)))[0]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _first(frames: Tensor) -> Array:
    """The frames of the first picture, (T, N, …) to (T, …)."""
    return frames[:, 0].float().cpu().numpy()


__all__ = ["Activity", "InRain", "Rates", "activity", "neurons", "rain_rates", "together", "wettest"]
