"""The drawing of `derain inspect`: what Figure 2 of the paper shows, for any layer and time step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def draw(patches: Sequence[Patch], path: Path, title: str, threshold: float | None = None) -> None:
    """Draw patches above one another, time from left to right, and beneath them the means side by side.

        rainy    pixels     potential  t=1 … T      histogram of pixel values
                 (value)    spike rate t=1 … T      potential and rate by step
        clean    …

    Args:
        patches: with the same number of time steps.
        path: of the drawing; its ending says whether PNG or PDF.
        title: above all.
        threshold: drawn into the potentials' means.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from benchmark.files import atomic

    steps = len(patches[0].rates)
    with_membrane = all(p.potentials is not None for p in patches)
    each = 2 if with_membrane else 1
    figure = Figure(
        figsize=(1.9 * (steps + 1) + 0.6, 1.9 * (each * len(patches) + 1.3)), layout="constrained"
    )
    grid = figure.add_gridspec(
        each * len(patches) + 1, steps + 1, height_ratios=[1] * each * len(patches) + [1.3]
    )
    limits = _limits(patches) if with_membrane else (0.0, 1.0)
    top = max(float(p.rates.max()) for p in patches) or 1.0
    for number, patch in enumerate(patches):
        row = each * number
        _picture(figure.add_subplot(grid[row, 0]), patch.picture, f"{patch.title}: pixels")
        rate_row = row + each - 1
        if with_membrane:
            assert patch.potentials is not None
            values = patch.picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
            axes = figure.add_subplot(grid[rate_row, 0])
            image = _picture(axes, values, f"{patch.title}: pixel value", "gray", (0, 1))
            figure.colorbar(image, ax=axes, shrink=0.8)
            for t, potential in enumerate(patch.potentials):
                axes = figure.add_subplot(grid[row, t + 1])
                image = _picture(axes, potential, f"membrane, t = {t + 1}", "coolwarm", limits)
            figure.colorbar(image, ax=axes, shrink=0.8)
        for t, rate in enumerate(patch.rates):
            axes = figure.add_subplot(grid[rate_row, t + 1])
            image = _picture(axes, rate, f"spike rate, t = {t + 1}", "magma", (0, top))
        figure.colorbar(image, ax=axes, shrink=0.8)
    below = grid[-1, :].subgridspec(1, 3 if with_membrane else 2)
    _means(figure, below, patches, threshold if with_membrane else None, with_membrane)
    figure.suptitle(title, fontsize="medium")
    # no date: the same patches give the same file
    undated: dict[str, Any] = {".png": {"Software": None}, ".svg": {"Date": None}}
    metadata = undated.get(path.suffix, {"CreationDate": None, "ModDate": None})
    with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "derain"}), atomic(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=130, metadata=metadata)


def _limits(patches: Sequence[Patch]) -> tuple[float, float]:
    """The same colours for all patches, symmetric about 0; the outermost percent is left to saturate."""
    values = np.concatenate([p.potentials.ravel() for p in patches if p.potentials is not None])
    most = float(np.percentile(np.abs(values), 99)) or 1.0
    return -most, most


def _picture(
    axes: Axes, values: Array, title: str, colours: str | None = None, limits: tuple[float, float] = (0, 1)
) -> Any:
    axes.set_title(title, fontsize="x-small")
    axes.set_axis_off()
    return axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")


def _means(
    figure: Any, grid: Any, patches: Sequence[Patch], threshold: float | None, with_membrane: bool
) -> None:
    pixels = figure.add_subplot(grid[0, 0])
    for patch in patches:
        pixels.hist(patch.picture.ravel(), bins=32, range=(0, 1), histtype="step", label=patch.title)
    pixels.set_xlabel("pixel value", fontsize="x-small")
    pixels.set_ylabel("pixels", fontsize="x-small")
    steps = np.arange(1, len(patches[0].rates) + 1)
    rate = figure.add_subplot(grid[0, -1])
    for patch in patches:
        rate.plot(
            steps, 100 * patch.rates.mean((1, 2)), "o-", label=f"{patch.title}: {patch.rates.mean():.1%}"
        )
    rate.set_ylabel("spike rate (%)", fontsize="x-small")
    every = [pixels, rate]
    if with_membrane:
        membrane = figure.add_subplot(grid[0, 1])
        for patch in patches:
            assert patch.potentials is not None
            membrane.plot(steps, patch.potentials.mean((1, 2)), "o-", label=patch.title)
        if threshold is not None:
            membrane.axhline(threshold, color="0.6", linestyle="--", label="threshold")
        membrane.set_ylabel("mean membrane potential", fontsize="x-small")
        every.append(membrane)
    for axes in every:
        axes.tick_params(labelsize="x-small")
        axes.legend(fontsize="x-small")
        if axes is not pixels:
            axes.set_xticks(steps)
            axes.set_xlabel("time step", fontsize="x-small")


__all__ = ["Patch", "draw"]
