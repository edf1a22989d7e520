"""The embedded datasets: rain over photographs that scikit-image and scikit-learn ship, and over dead leaves.

Tested is on a window of each of thirteen photographs, one a scene, at its own size or halved (2×2 means); trained on
dead leaves (`benchmark.data.leaves`), which show none of them. Nothing is downloaded and nothing random remains:
windows, renderings and seeds are fixed, so that every machine has the same pixels (up to the JPEG decoder for three
of the photographs).
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.data.images import read_image
from benchmark.data.leaves import dead_leaves
from benchmark.data.rain import REGIMES, Regime, get_regime, rain_over
from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError

Picture = NDArray[np.uint8]

SCENES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "brick": ("skimage", "data/brick.png"),
    "camera": ("skimage", "data/camera.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "coins": ("skimage", "data/coins.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
}
"""Photograph -> the package that ships it, and where."""


@dataclass(frozen=True)
class Window:
    """A part of a photograph: rows and columns after dividing both sides by `reduce`."""

    scene: str
    reduce: int
    top: int
    left: int
    height: int
    width: int


_TEST = (
    Window("astronaut", 2, 0, 0, 256, 256),
    Window("china", 2, 0, 20, 208, 240),
    Window("brick", 2, 0, 0, 208, 208),
    Window("chelsea", 1, 60, 90, 224, 240),
    Window("coffee", 2, 0, 30, 192, 240),
    Window("camera", 2, 0, 0, 240, 240),
    Window("flower", 2, 0, 40, 208, 240),
    Window("gravel", 2, 0, 40, 208, 208),
    Window("motorcycle", 2, 0, 60, 240, 256),
    Window("rocket", 2, 0, 40, 208, 240),
    Window("coins", 1, 40, 80, 224, 224),
    Window("grass", 2, 40, 40, 208, 208),
    Window("tissue", 2, 0, 0, 240, 240),
)
_LEAVES = 24  # pictures, each under the rain of every regime
_SIDE = 176

_SEEDS = {"train": 1_000_000, "test": 2_000_000}


@dataclass(frozen=True)
class Rendered:
    """An embedded split in memory; `groups` are scenes: what is held out of a training, and a unit of statistics."""

    names: tuple[str, ...]
    groups: tuple[str, ...]
    rainy: tuple[Picture, ...]
    target: tuple[Picture, ...]


@functools.lru_cache(maxsize=4)
def photograph(scene: str) -> Picture:
    """A shipped photograph, uint8 (H, W, 3); grey ones repeated into three channels.

    Raises:
        UserError: the package does not ship it (any more).
    """
    package, path = SCENES[scene]
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / path).is_file():
            array = read_image(Path(folder) / path)
            array.flags.writeable = False
            return array
    name = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
    raise UserError(f"the installed {name} does not ship {path}; install the version of constraints.txt")


def cut(window: Window) -> Picture:
    """The pixels of a window, uint8 (height, width, 3)."""
    array = photograph(window.scene)
    k = window.reduce
    if k > 1:
        rows, columns = array.shape[0] // k, array.shape[1] // k
        blocks = array[: rows * k, : columns * k].reshape(rows, k, columns, k, 3).astype(np.uint32)
        array = ((blocks.sum(axis=(1, 3)) + k * k // 2) // (k * k)).astype(np.uint8)
    part = array[window.top : window.top + window.height, window.left : window.left + window.width]
    if part.shape[:2] != (window.height, window.width):
        raise UserError(
            f"the installed photograph '{window.scene}' has another size than the one this suite knows"
        )
    return np.ascontiguousarray(part)


@functools.lru_cache(maxsize=8)
def render_split(name: str, split: str) -> Rendered:
    """A split of an embedded dataset, rendered (a second or so) and kept for the life of the process.

    Raises:
        UserError: the dataset is unknown or has no such split.
    """
    spec = dataset_spec(name)
    if not spec.embedded:
        raise UserError(f"dataset '{spec.name}' is not an embedded one")
    if split not in spec.splits:
        has = ", ".join(spec.splits)
        raise UserError(
            f"dataset '{spec.name}' has no split '{split}' ({has}); its model trains on '{spec.training}'"
        )
    return _photographs(get_regime(spec.regime or "")) if split == "test" else _leaves()


def _photographs(regime: Regime) -> Rendered:
    pairs = []
    for index, window in enumerate(_TEST):
        density = list(regime.densities)[index % len(regime.densities)]
        label = f"{index + 1:02d}-{window.scene}" + (f"-{density}" if len(regime.densities) > 1 else "")
        pairs.append((label, window.scene, *_pair(cut(window), regime, "test", index, density)))
    return _rendered(pairs)


def _leaves() -> Rendered:
    """Every picture under every regime."""
    pairs = []
    for index in range(_LEAVES):
        clean = dead_leaves((_SIDE, _SIDE), index)
        for regime in REGIMES.values():
            density = list(regime.densities)[index % len(regime.densities)]
            label = f"{index + 1:02d}-leaves-{regime.name}"
            pairs.append((label, f"leaves-{index + 1:02d}", *_pair(clean, regime, "train", index, density)))
    return _rendered(pairs)


def _pair(clean: Picture, regime: Regime, split: str, index: int, density: str) -> tuple[Picture, Picture]:
    # a regime's own offset, so that two regimes do not share directions and places of streaks
    seed = _SEEDS[split] + 10_000 * sum(map(ord, regime.name)) + index
    wet = rain_over(clean, regime, seed, density)
    wet.flags.writeable = clean.flags.writeable = False
    return wet, clean


def _rendered(pairs: list[tuple[str, str, Picture, Picture]]) -> Rendered:
    names, groups, rainy, target = zip(*pairs, strict=True)
    return Rendered(names, groups, rainy, target)
