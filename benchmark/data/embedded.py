"""The embedded datasets: rain rendered over photographs that scikit-image and scikit-learn ship.

Nothing is downloaded and nothing random remains: windows, renderings and seeds are fixed, so that every
machine has the same pixels (up to the JPEG decoder for three of the photographs). Training and test
photographs are disjoint. A picture is a window of a photograph, at its own size or halved (2×2 means).
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.data.images import read_image
from benchmark.data.rain import get_regime, rain_over
from benchmark.data.specs import Dataset, dataset_spec
from benchmark.errors import UserError

Picture = NDArray[np.uint8]

SCENES = {
    "astronaut": ("skimage", "data/astronaut.png", "train"),
    "chelsea": ("skimage", "data/chelsea.png", "train"),
    "flower": ("sklearn", "datasets/images/flower.jpg", "train"),
    "motorcycle-left": ("skimage", "data/motorcycle_left.png", "train"),
    "motorcycle-right": ("skimage", "data/motorcycle_right.png", "train"),
    "tissue": ("skimage", "data/ihc.png", "train"),
    "camera": ("skimage", "data/camera.png", "train"),
    "coins": ("skimage", "data/coins.png", "train"),
    "grass": ("skimage", "data/grass.png", "train"),
    "brick": ("skimage", "data/brick.png", "train"),
    "gravel": ("skimage", "data/gravel.png", "train"),
    "china": ("sklearn", "datasets/images/china.jpg", "test"),
    "coffee": ("skimage", "data/coffee.png", "test"),
    "rocket": ("skimage", "data/rocket.jpg", "test"),
}
"""Photograph -> the package that ships it, where, and the only split that may use it."""


@dataclass(frozen=True)
class Window:
    """A part of a photograph: rows and columns after dividing both sides by `reduce`."""

    scene: str
    reduce: int
    top: int
    left: int
    height: int
    width: int


_TRAIN = (
    Window("astronaut", 2, 0, 0, 256, 256),
    Window("astronaut", 1, 0, 120, 224, 224),
    Window("astronaut", 1, 250, 60, 224, 224),
    Window("chelsea", 1, 20, 60, 224, 224),
    Window("chelsea", 1, 60, 210, 224, 224),
    Window("flower", 2, 0, 40, 208, 240),
    Window("flower", 1, 120, 170, 224, 224),
    Window("flower", 1, 0, 0, 224, 224),
    Window("motorcycle-left", 2, 0, 60, 240, 256),
    Window("motorcycle-left", 1, 150, 80, 224, 224),
    Window("motorcycle-left", 1, 40, 480, 224, 224),
    Window("motorcycle-right", 2, 0, 110, 240, 256),
    Window("motorcycle-right", 1, 250, 300, 224, 224),
    Window("motorcycle-right", 1, 200, 500, 224, 224),
    Window("tissue", 1, 0, 0, 224, 224),
    Window("camera", 2, 0, 0, 256, 256),
    Window("camera", 1, 80, 120, 224, 224),
    Window("coins", 1, 40, 80, 224, 224),
    Window("grass", 1, 100, 100, 192, 192),
    Window("brick", 1, 0, 200, 192, 192),
    Window("gravel", 1, 200, 50, 192, 192),
)
_TEST = (
    Window("china", 2, 0, 20, 208, 240),
    Window("coffee", 2, 0, 30, 192, 240),
    Window("rocket", 2, 0, 40, 208, 240),
    Window("china", 1, 150, 170, 192, 224),
    Window("coffee", 1, 60, 190, 192, 192),
    Window("rocket", 1, 215, 220, 208, 224),
    Window("china", 1, 200, 400, 192, 224),
    Window("coffee", 1, 200, 10, 176, 208),
    Window("rocket", 1, 100, 0, 192, 160),
)

_SEEDS = {"train": 1_000_000, "test": 2_000_000}


@dataclass(frozen=True)
class Rendered:
    """An embedded split in memory; `groups` are scenes, which a validation share must not cut through."""

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
    package, path, _ = SCENES[scene]
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
    count = _count(spec, split)
    regime = get_regime(spec.regime or "")
    densities = list(regime.densities)
    windows = _TRAIN if split == "train" else _TEST
    names, groups, rainy, target = [], [], [], []
    for index in range(count):
        window = windows[index % len(windows)]
        clean = cut(window)
        clean.flags.writeable = False
        # a regime's own offset, so that two regimes do not share directions and places of streaks
        seed = _SEEDS[split] + 10_000 * sum(map(ord, regime.name)) + index
        # shifted from row to row, so that no scene meets one density alone
        density = densities[(index + index // len(densities)) % len(densities)]
        wet = rain_over(clean, regime, seed, density)
        wet.flags.writeable = False
        label = f"{index + 1:03d}-{window.scene}" + (f"-{density}" if len(densities) > 1 else "")
        names.append(label)
        groups.append(window.scene.partition("-")[0])
        rainy.append(wet)
        target.append(clean)
    return Rendered(tuple(names), tuple(groups), tuple(rainy), tuple(target))


def _count(spec: Dataset, split: str) -> int:
    if not spec.embedded:
        raise UserError(f"dataset '{spec.name}' is not an embedded one")
    if split not in spec.published:
        has = ", ".join(spec.splits)
        raise UserError(
            f"dataset '{spec.name}' has no split '{split}' ({has}); its model trains on '{spec.training}'"
        )
    return spec.published[split]
