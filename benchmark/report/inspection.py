"""The drawing of `derain inspect`: what Figure 2 of the paper shows, for any layer and time step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.report.style import (
    CLEAN,
    FORMS,
    OTHER,
    RAINY,
    WIDTH,
    Label,
    at_ends,
    beside,
    drawing,
    heading,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Patch:
    """A patch and what a layer did when the network saw it.

    Attributes:
        title: "rainy", "clean".
        picture: (H, W, 3) in [0, 1].
        rates: share of the channels that fire, (T, h, w).
        potentials: mean membrane potential over channels, (T, h, w), if the neurons tell.
    """

    title: str
    picture: Array
    rates: Array
    potentials: Array | None


_PARTS = {  # of the networks' module names, with the level or number that follows
    "encoder": "encoder level {}",
    "decoder": "decoder level {}",
    "bottleneck": "bottleneck",
    "down": "down-sampling {}",
    "up": "up-sampling {}",
    "join": "skip connection {}",
    "unit": "unit {}",
    "visual": "visual neurons",
    "block": "residual block",
}
_LISTS = {"residual": "convolution unit {}", "activations": "neurons {}", "units": "unit {}"}
_UNSAID = ("activation", "neuron")


def known_as(layer: str) -> str:
    """A layer of neurons in words: `encoder1.0.residual.1.activation` is encoder level 1, block 1, convolution unit 2.

    What is not known is left as it is.
    """
    words, counted = [], "block {}"
    for part in layer.split("."):
        name, number = re.fullmatch(r"(.*?)(\d*)", part).groups()  # type: ignore[union-attr]
        if not name:
            words.append(counted.format(int(number) + 1))
            counted = "block {}"
        elif part in _LISTS:
            counted = _LISTS[part]
        elif part not in _UNSAID:
            words.append(_PARTS[name].format(number) if name in _PARTS else part)
    return ", ".join(words) or layer


def draw(
    patches: Sequence[Patch],
    folder: Path,
    name: str,
    title: str,
    threshold: float | None = None,
    forms: Sequence[str] = FORMS,
) -> list[Path]:
    """Draw patches above one another, time from left to right, and beneath them the means side by side.

        rainy    pixels     potential  t=1 … T      histogram of pixel values
                 (value)    spike rate t=1 … T      potential and rate by step
        clean    …

    Args:
        patches: two, with the same number of time steps.
        folder: where to write.
        name: of the files.
        title: above all.
        threshold: drawn into the potentials' means.
        forms: of the files.

    Returns:
        The files.
    """
    steps = len(patches[0].rates)
    with_membrane = all(p.potentials is not None for p in patches)
    each = 2 if with_membrane else 1
    limits = _limits(patches) if with_membrane else (0.0, 1.0)
    top = max(float(p.rates.max()) for p in patches) or 1.0
    side = min(1.5, (WIDTH - 0.8) / (steps + 1))
    maps = side * each * len(patches) + 0.6
    with drawing(min(WIDTH, max(5.6, side * (steps + 1) + 0.8)), maps + 1.9) as figure:
        parts = figure.add_gridspec(2, 1, height_ratios=[maps, 1.7])
        grid = parts[0].subgridspec(each * len(patches), steps + 1)
        for number, patch in enumerate(patches):
            row, rate_row = each * number, each * number + each - 1
            _picture(figure.add_subplot(grid[row, 0]), patch.picture, f"{patch.title}: pixels")
            if patch.potentials is not None and with_membrane:
                luma = patch.picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
                _picture(figure.add_subplot(grid[rate_row, 0]), luma, f"{patch.title}: luma", "gray")
                _maps(figure, grid, row, patch.potentials, "membrane", "coolwarm", limits)
            _maps(figure, grid, rate_row, patch.rates, "spike rate", "magma", (0, top))
        heading(figure, title)
        _means(figure, parts[1], patches, threshold, with_membrane)
        return save(figure, folder, name, forms)


def _limits(patches: Sequence[Patch]) -> tuple[float, float]:
    """The same colours for all patches, symmetric about 0; the outermost percent is left to saturate."""
    values = np.concatenate([p.potentials.ravel() for p in patches if p.potentials is not None])
    most = float(np.percentile(np.abs(values), 99)) or 1.0
    return -most, most


def _maps(
    figure: Figure, grid: Any, row: int, maps: Array, what: str, colours: str, limits: tuple[float, float]
) -> None:
    """One map a time step, and the scale of all of them at the right."""
    every = [figure.add_subplot(grid[row, t + 1]) for t in range(len(maps))]
    for t, (axes, values) in enumerate(zip(every, maps, strict=True)):
        image = _picture(axes, values, f"{what}, t = {t + 1}", colours, limits)
    figure.colorbar(image, ax=every, shrink=0.85, pad=0.02)


def _picture(
    axes: Axes, values: Array, title: str, colours: str | None = None, limits: tuple[float, float] = (0, 1)
) -> Any:
    axes.set_title(title, fontsize=7)
    axes.set_axis_off()
    return axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")


def _means(
    figure: Figure, below: Any, patches: Sequence[Patch], threshold: float | None, with_membrane: bool
) -> None:
    """How often which pixel value occurs, and means over the patch by time step."""
    grid = below.subgridspec(1, 3 if with_membrane else 2)
    pixels = figure.add_subplot(grid[0, 0])
    steps = np.arange(1, len(patches[0].rates) + 1)
    rate = figure.add_subplot(grid[0, -1], xlabel="time step", ylabel="spike rate (%)", xticks=steps)
    ends: dict[Axes, list[Label]] = {rate: []}
    if with_membrane:
        membrane = figure.add_subplot(grid[0, 1], xlabel="time step", ylabel="mean membrane", xticks=steps)
        ends[membrane] = []
        if threshold is not None:
            membrane.axhline(threshold, color=OTHER.colour, linestyle="--")
            ends[membrane].append(Label("threshold", steps[-1], threshold, OTHER.ink))
    peaks, lines = [], []
    for patch, own in zip(patches, (RAINY, CLEAN), strict=True):
        counts, edges = np.histogram(patch.picture, bins=32, range=(0, 1))
        percent = 100 * counts / counts.sum()
        pixels.stairs(percent, edges, color=own.colour, linewidth=1.2)
        most = int(percent.argmax())
        middles = (edges[:-1] + edges[1:]) / 2
        peaks.append(Label(patch.title, middles[most], percent[most], own.ink))
        lines.append([middles, percent])
        drawn = {rate: 100 * patch.rates.mean((1, 2))}
        if with_membrane and patch.potentials is not None:
            drawn[membrane] = patch.potentials.mean((1, 2))
        for axes, values in drawn.items():
            axes.plot(steps, values, f"{own.marker}-", color=own.colour)
            ends[axes].append(Label(patch.title, steps[-1], values[-1], own.ink))
    pixels.margins(y=0.2)
    pixels.set(xlabel="pixel value", ylabel="pixels (%)")
    at_ends(list(ends.items()))
    beside(pixels, peaks, lines)


__all__ = ["Patch", "draw", "known_as"]
