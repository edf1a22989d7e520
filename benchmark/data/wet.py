"""Rainy pictures made of clean photographs while a network trains: no rain is ever seen twice.

One draw makes a pair out of a photograph:

    window, turned, perhaps smaller ─ tone ─ haze ─ noise ─┬──────── JPEG ─► target
                                                           └─ rain ─ JPEG ─► rainy

What the camera and the air do (tone, haze, noise, compression) is in both pictures: a network that learns from
them takes rain away and leaves the rest of the photograph as it is. A share of the pairs has no rain at all.

Most of the rain is that of the regimes of `benchmark.data.rain` (which stand for Rain200L, Rain200H, Rain1200 and
Rain12), added in grey, the heavy kind most often, as it is the hardest; the rest is drawn afresh for every picture:
one to three depths, directions and densities of their own, near streaks out of focus, screened over the scene in a
tint as real rain is.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.datasets import PairedImages, RandomCrops
from benchmark.data.rain import REGIMES, Layer, Range, Regime, Uniform, additive, rain_layer, screen

Picture = NDArray[np.uint8]

# shares of the pairs; what is left over is rain drawn afresh
KINDS = (("none", 0.1), ("light", 0.12), ("heavy", 0.4), ("mixed", 0.08), ("twelve", 0.05), ("fresh", 0.25))
_SMALLER, _SMALLEST = 0.4, 0.55  # share of windows that are shrunk, and the smallest scale
_TONE, _NIGHT, _HAZE, _NOISE, _JPEG = 0.3, 0.08, 0.15, 0.25, 0.25


def wet_pair(
    photograph: Picture, seed: tuple[int, ...], side: int | None = None, rain: Sequence[str] = ()
) -> tuple[Picture, Picture]:
    """A rainy picture and its target, uint8 (H, W, 3), out of a clean photograph.

    Args:
        photograph: uint8 (H, W, 3).
        seed: what is drawn follows from it alone.
        side: of the square window that is cut out, in pixels; None: the whole photograph as it lies.
        rain: regimes that alone fall, in equal parts, over the photograph as the camera left it; empty: all kinds.
    """
    draw = Uniform(0x776574, *seed)
    scene = photograph if side is None else _window(photograph, side, draw)
    if rain:
        drops = rain_layer(scene.shape[:2], rain[int(draw.one((0, len(rain))))], int(draw.one((0, 2**48))))
        return additive(scene, drops), scene
    scene = _camera(scene, draw)
    kind = _kind(draw.one((0, 1)))
    rain_seed = int(draw.one((0, 2**48)))
    rainy = scene
    if kind in REGIMES:
        rainy = additive(scene, rain_layer(scene.shape[:2], kind, rain_seed))
    elif kind == "fresh":
        regime = _fresh_regime(draw)
        drops = rain_layer(scene.shape[:2], regime, rain_seed)
        if draw.one((0, 1)) < 0.25:
            rainy = additive(scene, drops)
        else:
            tint = tuple(int(draw.one((200, 256))) for _ in range(3))
            rainy = screen(scene, drops, tint=(tint[0], tint[1], tint[2]), veil=0.0)
    if draw.one((0, 1)) < _JPEG:
        quality = int(draw.one((55, 96)))
        rainy, scene = _jpeg(rainy, quality), _jpeg(scene, quality)
    return rainy, scene


def _kind(u: float) -> str:
    for name, share in KINDS[:-1]:
        if u < share:
            return name
        u -= share
    return KINDS[-1][0]


def _window(photograph: Picture, side: int, draw: Uniform) -> Picture:
    """A square of the photograph, turned and mirrored, perhaps a larger one made smaller: (side, side, 3)."""
    height, width = photograph.shape[:2]
    most = min(height, width)
    if most < side:
        tall, wide = max(side - height, 0), max(side - width, 0)
        photograph = np.pad(photograph, ((0, tall), (0, wide), (0, 0)), mode="reflect")
        height, width = photograph.shape[:2]
    cut = side
    if draw.one((0, 1)) < _SMALLER:
        cut = min(int(side / draw.one((_SMALLEST, 1.0))), max(most, side))
    top, left = int(draw.one((0, height - cut + 1))), int(draw.one((0, width - cut + 1)))
    window = photograph[top : top + cut, left : left + cut]
    if cut != side:
        window = np.asarray(Image.fromarray(window).resize((side, side), Image.Resampling.BICUBIC))
    turn = int(draw.one((0, 8)))
    if turn & 4:
        window = window.transpose(1, 0, 2)
    return np.ascontiguousarray(window[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1])


def _camera(scene: Picture, draw: Uniform) -> Picture:
    """Another exposure and colour, night, haze that thickens in one direction, noise: each in a share of pictures."""
    u = draw(4)
    if not (u < (_TONE, _NIGHT, _HAZE, _NOISE)).any():
        return scene
    light = scene.astype(np.float32) / 255
    if u[0] < _TONE:
        gains = np.array([draw.one((0.9, 1.1)) for _ in range(3)], dtype=np.float32)
        light = np.clip(light * gains, 0, 1) ** np.float32(draw.one((0.7, 1.4)))
    if u[1] < _NIGHT:
        light = light ** np.float32(draw.one((1.3, 2.2))) * np.float32(draw.one((0.4, 0.8)))
    if u[2] < _HAZE:
        air = np.array([draw.one((0.65, 0.9))] * 3, dtype=np.float32) + np.float32(draw.one((0, 0.06)))
        near, far = draw.one((0, 0.15)), draw.one((0.1, 0.5))
        share = np.linspace(far, near, scene.shape[0], dtype=np.float32)[:, None, None]
        light = light * (1 - share) + np.minimum(air, 1) * share
    if u[3] < _NOISE:
        # shot and read noise, of a bell's shape as the sum of four uniform numbers has it
        bell = (draw(4 * scene.size).reshape(4, *scene.shape).sum(axis=0) - 2) * math.sqrt(3)
        read, shot = draw.one((0.002, 0.012)), draw.one((0.0, 0.02))
        light = light + bell.astype(np.float32) * np.sqrt(read**2 + shot**2 * np.clip(light, 0, 1))
    return np.clip(light * 255 + 0.5, 0, 255).astype(np.uint8)


def _span(draw: Uniform, low: Range, ratio: Range) -> Range:
    start = draw.one(low)
    return (start, start * draw.one(ratio))


def _fresh_regime(draw: Uniform) -> Regime:
    """Rain of one to three depths that no regime has."""
    depths = 1 + int(draw.one((0, 3)))
    heaviness = draw.one((0, 1)) ** 2
    layers = []
    for depth in range(depths):
        near = draw.one((0, 1)) if depths == 1 else depth / (depths - 1)
        size = 0.6 + 1.4 * near
        blurred = near > 0.5 and draw.one((0, 1)) < 0.35
        cover = (0.04 + 0.7 * heaviness) * draw.one((0.5, 1.5)) / (1 + near)
        layers.append(
            Layer(
                cover=(cover * 0.7, cover),
                length=_span(draw, (6 * size, 30 * size), (1.2, 3.0)),
                width=_span(draw, (1.0, 1.2 * size + 0.4), (1.1, 2.0)),
                strength=_span(draw, (5, 40), (1.5, 5.0)),
                skew=0.5 * int(draw.one((1, 6))),
                turn=(-4, 4) if draw.one((0, 1)) < 0.75 else (-25, 25),
                spread=draw.one((0.5, 6)),
                motion=draw.one((3, 10 * size + 6)),
                softness=draw.one((2.5, 7)) if blurred else draw.one((1, 2.2)),
                ceiling=draw.one((90, 230)),
            )
        )
    return Regime("fresh", "", 0.0, {"fresh": tuple(layers)}, angle=(-45.0, 45.0))


def _jpeg(picture: Picture, quality: int) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


class WetCrops(RandomCrops):
    """Rainy crops of clean photographs, numbered by draw as `RandomCrops` are: draw n follows from (seed, n) alone.

    `recipe.augmentation` has no say: a window is always turned one of eight ways. `rain`: as in `wet_pair`.
    """

    def __init__(
        self, images: PairedImages, patch: int, augmentation: str, seed: int, rain: Sequence[str] = ()
    ) -> None:
        super().__init__(images, patch, augmentation, seed)
        self.rain = tuple(rain)

    def _crop(self, index: int, draw: int) -> tuple[Picture, Picture]:
        return wet_pair(self.images.arrays(index)[1], (self.seed, draw), self.patch, self.rain)


class WetPictures:
    """Whole held-out photographs with one rain each, the same for every network and seed: what training is judged by.

    A `benchmark.data.datasets.Source`. `rain`: as in `wet_pair`.
    """

    def __init__(self, photographs: PairedImages, rain: Sequence[str] = ()) -> None:
        self.rain = tuple(rain)
        self.names = tuple(photographs.names)
        self.groups = tuple(photographs.groups)
        self._photographs = photographs

    def pair(self, index: int) -> tuple[Picture, Picture]:
        """Rainy and clean, uint8 (H, W, 3)."""
        name = hashlib.sha256(self.names[index].encode()).digest()
        seed = (int.from_bytes(name[:4], "big"),)
        return wet_pair(self._photographs.arrays(index)[1], seed, rain=self.rain)

    @property
    def digest(self) -> str:
        """That of the photographs."""
        return self._photographs.source.digest
