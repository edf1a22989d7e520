"""Dead leaves: pictures without a photograph, to learn restoration from.

Opaque shapes fall one on another until nothing is left uncovered (J. Serra's model; A. Lee, D. Mumford, J. Huang,
IJCV 41, 2001: with radii distributed as r^-3 the result has the scale invariance, edges and occlusions of photographs;
R. Achddou, Y. Gousseau, S. Ladjal, SSVM 2021: networks trained on such pictures alone restore photographs). Here a leaf
is an ellipse or a rectangle, of one of a few colours that a picture has, with a slope of brightness over it and
sometimes a fine grating, so that not every straight line is rain.

Drawn at twice the size and averaged down. As in `benchmark.data.rain`, only IEEE-exact operations and PCG64's raw
stream go in: the same pictures on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmark.data.rain import Floats, Picture, Range, Uniform

_LEAST: Range = (4.0, 28.0)  # the smallest radius of a picture, at twice the size: busy ones, calm ones
_MOST = 200.0
_COLOURS = 7
_MOST_LEAVES = 4000


def dead_leaves(shape: tuple[int, int], seed: int) -> Picture:
    """A picture of dead leaves, uint8 (H, W, 3).

    Args:
        shape: height and width in pixels.
        seed: the same seed gives the same picture.
    """
    height, width = 2 * shape[0], 2 * shape[1]
    draw = Uniform(0x6C656176, seed)
    palette = _palette(draw)
    least = draw.one(_LEAST)
    picture = np.empty((height, width, 3))
    picture[:] = palette[0]
    bare = np.ones((height, width), dtype=bool)
    left = height * width
    # the uppermost leaf first: what is covered is never drawn
    for leaf in draw(_MOST_LEAVES * 12).reshape(_MOST_LEAVES, 12):
        left -= _lay(picture, bare, leaf, palette, least)
        if left <= height * width // 500:
            break
    # added in this order: a sum of NumPy's may have another on another machine
    rows = picture[::2] + picture[1::2]
    halved = (rows[:, ::2] + rows[:, 1::2]) / 4
    return np.clip(halved + 0.5, 0, 255).astype(np.uint8)


def _palette(draw: Uniform) -> Floats:
    """Colours of a picture: brightness of any kind, tints near each other, as light gives them. (COLOURS, 3)."""
    light = draw.one((0.6, 1.1))
    cast = draw(3) * 0.5
    colours = np.empty((_COLOURS, 3))
    for row in colours:
        row[:] = light * 230 * draw.one((0.05, 1.0)) * (0.75 + cast * draw.one((-0.6, 1.0)) + 0.25 * draw(3))
    return np.clip(colours, 0, 255)


def _lay(picture: Floats, bare: NDArray[np.bool_], leaf: Floats, palette: Floats, least: float) -> int:
    """Draw a leaf of a radius from `least` on where nothing lies yet; returns how many pixels it covered."""
    height, width = bare.shape
    low, high = 1 / (least * least), 1 / (_MOST * _MOST)
    radius = 1 / np.sqrt(low + (high - low) * leaf[0])  # density r^-3
    y, x = leaf[1] * (height + 2 * radius) - radius, leaf[2] * (width + 2 * radius) - radius
    # a direction without sine or cosine: (1 − t², 2t) / (1 + t²)
    t = 2 * leaf[3] - 1
    across, along = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    thin = 1 + 7 * leaf[4] * leaf[4] * leaf[4]  # how many times as long as wide
    top, bottom = max(0, int(y - radius)), min(height, int(y + radius) + 2)
    start, stop = max(0, int(x - radius)), min(width, int(x + radius) + 2)
    if top >= bottom or start >= stop or not bare[top:bottom, start:stop].any():
        return 0
    rows = (np.arange(top, bottom) - y)[:, None]
    columns = (np.arange(start, stop) - x)[None, :]
    u, v = (across * columns + along * rows) / radius, (across * rows - along * columns) / radius * thin
    square = leaf[5] < 0.25
    inside = (np.maximum(np.abs(u), np.abs(v)) <= 0.7) if square else (u * u + v * v <= 1)
    inside &= bare[top:bottom, start:stop]
    count = int(np.count_nonzero(inside))
    if not count:
        return 0
    shade = 1 + (leaf[6] - 0.5) * u[inside] + (leaf[7] - 0.5) * 0.6 * v[inside]
    if leaf[8] < 0.3:  # a grating: a triangular wave
        phase = v[inside] * radius / (thin * (3 + 12 * leaf[9]))
        wave = np.abs(phase - np.floor(phase) - 0.5) * 4 - 1
        shade = shade + (0.05 + 0.3 * leaf[10]) * wave
    colour = palette[int(leaf[11] * _COLOURS)]
    picture[top:bottom, start:stop][inside] = shade[:, None] * colour
    bare[top:bottom, start:stop][inside] = False
    return count
