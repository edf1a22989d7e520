"""Rain drawn over clean photographs, the same on every machine for the same seed.

A rain layer r is grey, uint8, and made of streaks: thin trapezoids along the direction in which the drops
fall. Every streak has a length, a width, a slope and a strength; a box blur along its direction (the drop's
motion during the exposure) and one across it (defocus, at least a pixel) turn the rectangle into

    along:   ____/‾‾‾‾‾‾‾‾\\____      ramps as long as the motion blur
    across:  __/‾‾\\__                ramps as wide as the softness

which is exact, so no image is ever convolved. Streaks of one depth layer share sizes and direction; near
layers are long, wide, bright and sparse, far ones short, thin, faint and dense. Layers add up.

`additive` composition is how Rain200L and Rain200H are made, measured pixel by pixel: input =
min(255, target + r), the same r for all three channels. `screen` brightens with a tint and lays a veil over
the scene, as distant rain does.

Only IEEE-exact operations (+ − × ÷ √, comparisons, integer sums) and PCG64's raw stream, which NumPy keeps
stable, go into r: no sine, no Gaussian deviate, no floating-point sum whose order could differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import unknown

Floats = NDArray[np.float64]
Grey = NDArray[np.uint8]
Picture = NDArray[np.uint8]

Range = tuple[float, float]

_FIXED = 256  # strengths are summed as integers, in 1/256 of a grey level
_ROWS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Layer:
    """One depth of rain; sizes in pixels.

    Ranges are drawn from uniformly, a streak at a time unless said otherwise.
    """

    cover: Range  # sum of the streaks' areas over the picture's area, drawn once a picture
    length: Range
    width: Range
    strength: Range  # grey levels of the streak's plateau
    skew: float = 1.0  # strength = lo + (hi − lo)·u^skew: above 1, faint streaks are the rule
    gain: Range = (1.0, 1.0)  # factor on the strengths, drawn once a picture
    turn: Range = (0.0, 0.0)  # degrees off the picture's direction, drawn once a picture
    spread: float = 2.0  # degrees, ± around the layer's direction
    motion: float = 8.0  # length of the motion blur
    softness: float = 1.5  # width of the defocus blur, at least 1
    ceiling: float = (
        255.0  # grey levels; where streaks of this layer overlap they do not get brighter than this
    )


@dataclass(frozen=True)
class Regime:
    """A kind of rain: one or more densities, each a stack of depth layers, and the direction it falls in."""

    name: str
    about: str
    psnr_y: float  # dB, mean over the rainy pictures that it is calibrated to
    densities: Mapping[str, tuple[Layer, ...]]
    angle: Range = (-30.0, 30.0)  # degrees from the vertical, drawn once a picture


class Uniform:
    """Uniform numbers in [0, 1) from PCG64's raw stream."""

    def __init__(self, *words: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(words))

    def __call__(self, n: int) -> Floats:
        """The next n numbers."""
        return np.asarray((self._bits.random_raw(n) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)

    def one(self, bounds: Range) -> float:
        """The next number, between the bounds."""
        low, high = bounds
        return low + (high - low) * float(self(1)[0])


def _slope(degrees: float) -> float:
    # rounded, so that a last bit of the C library's tangent cannot show
    return round(math.tan(math.radians(max(-75.0, min(75.0, degrees)))), 9)


def draw_streaks(shape: tuple[int, int], layer: Layer, angle: float, uniform: Uniform) -> NDArray[np.int64]:
    """One depth layer over (H, W) as integers in 1/256 grey level, before the ceiling."""
    height, width = shape
    cover, gain = uniform.one(layer.cover), uniform.one(layer.gain)
    centre = angle + uniform.one(layer.turn)
    slope_low, slope_high = _slope(centre - layer.spread), _slope(centre + layer.spread)
    # a larger field, so that streaks reach in from outside and borders are as rainy as the middle
    reach = layer.length[1] + layer.motion
    lean = max(abs(slope_low), abs(slope_high))
    stretch = math.sqrt(1 + lean * lean)
    margin_y, margin_x = reach / 2, reach / 2 * min(lean, 1.0) + (layer.width[1] + layer.softness) * stretch
    field = (height + 2 * margin_y) * (width + 2 * margin_x)
    area = (layer.length[0] + layer.length[1]) / 2 * (layer.width[0] + layer.width[1]) / 2
    count = int(cover * field / area + 0.5)
    total = np.zeros(height * width, dtype=np.int64)
    mean_rows = (layer.length[0] + layer.length[1]) / 2 + layer.motion
    at_once = max(1, int(_ROWS_AT_ONCE / mean_rows))
    for first in range(0, count, at_once):
        n = min(at_once, count - first)
        y = uniform(n) * (height + 2 * margin_y) - margin_y
        x = uniform(n) * (width + 2 * margin_x) - margin_x
        length = layer.length[0] + (layer.length[1] - layer.length[0]) * uniform(n)
        across = layer.width[0] + (layer.width[1] - layer.width[0]) * uniform(n)
        slope = slope_low + (slope_high - slope_low) * uniform(n)
        strength = layer.strength[0] + (layer.strength[1] - layer.strength[0]) * _power(
            uniform(n), layer.skew
        )
        _splat(total, shape, layer, y, x, length, across, slope, strength * gain)
    return total.reshape(height, width)


def _power(u: Floats, exponent: float) -> Floats:
    """u to the power of a multiple of ½, by exact operations."""
    result = np.ones_like(u)
    for _ in range(int(exponent)):
        result = result * u
    return result * np.sqrt(u) if exponent % 1 else result


def _splat(
    total: NDArray[np.int64],
    shape: tuple[int, int],
    layer: Layer,
    y: Floats,
    x: Floats,
    length: Floats,
    across: Floats,
    slope: Floats,
    strength: Floats,
) -> None:
    """Add streaks with centres (y, x) to the flat picture `total`."""
    height, width = shape
    soft, motion = max(layer.softness, 1.0), max(layer.motion, 1.0)
    stretch = np.sqrt(1 + slope * slope)
    half = (length + motion) / 2 / stretch  # in rows
    top = np.maximum(np.ceil(y - half), 0).astype(np.int64)
    bottom = np.minimum(np.floor(y + half), height - 1).astype(np.int64)
    rows = np.maximum(bottom - top + 1, 0)
    streak = np.repeat(np.arange(len(y)), rows)
    if not len(streak):
        return
    row = np.arange(len(streak)) - np.repeat(np.cumsum(rows) - rows, rows) + top[streak]
    below = row - y[streak]
    middle = x[streak] + slope[streak] * below
    along = (length + motion)[streak] / 2 - np.abs(below) * stretch[streak]
    value = strength[streak] * np.clip(along, 0, np.minimum(length, motion)[streak]) / motion
    reach = (across + soft) / 2
    cap = np.minimum(across, soft)[streak]
    edge, thin = reach[streak], 1 / stretch[streak]
    left = np.ceil(middle - (reach * stretch)[streak])
    size = height * width
    for tap in range(int(np.max(2 * reach * stretch)) + 1):
        column = left + tap
        profile = np.clip(edge - np.abs(column - middle) * thin, 0, cap) / soft
        amount = np.floor(value * profile * _FIXED + 0.5)
        inside = (column >= 0) & (column < width) & (amount > 0)
        place = row[inside] * width + column[inside].astype(np.int64)
        # integers below 2^53: their sum in floating point is exact in any order
        total += np.bincount(place, weights=amount[inside], minlength=size).astype(np.int64)


def rain_layer(shape: tuple[int, int], regime: str | Regime, seed: int, density: str | None = None) -> Grey:
    """The rain r over a picture of `shape` (H, W): uint8, 0 where it does not rain.

    Args:
        shape: height and width in pixels; streak sizes are in pixels, whatever the picture's size.
        regime: a name of `REGIMES`, or one of your own.
        seed: the same seed gives the same rain.
        density: one of the regime's; None: drawn with the seed.

    Raises:
        UserError: no such regime or density.
    """
    regime = get_regime(regime)
    uniform = Uniform(0x7261696E, seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
    names = list(regime.densities)
    drawn = names[int(uniform(1)[0] * len(names))]
    if density is not None and density not in regime.densities:
        raise unknown(f"density of the rain '{regime.name}'", density, names)
    angle = uniform.one(regime.angle)
    total = np.zeros(shape, dtype=np.int64)
    for layer in regime.densities[density or drawn]:
        streaks = draw_streaks(shape, layer, angle, uniform)
        total += np.minimum(streaks, int(layer.ceiling * _FIXED))
    return np.minimum((total + _FIXED // 2) // _FIXED, 255).astype(np.uint8)


def additive(target: Picture, rain: Grey) -> Picture:
    """min(255, target + r) for uint8 (H, W, 3) and (H, W): how Rain200L and Rain200H are made."""
    return np.minimum(target.astype(np.uint16) + rain[..., None], 255).astype(np.uint8)


def screen(
    target: Picture,
    rain: Grey,
    tint: tuple[int, int, int] = (235, 240, 255),
    veil: float = 0.08,
    air: tuple[int, int, int] = (200, 205, 210),
) -> Picture:
    """Rain as light of colour `tint` screened over the scene, then a veil of colour `air` over everything.

    Args:
        target: uint8 (H, W, 3).
        rain: uint8 (H, W).
        tint: colour of the streaks; white gives the same r to all channels.
        veil: share of the air's colour in the result, 0 to 1.
        air: colour of the veil.
    """
    scene = target.astype(np.int64)
    streaks = rain[..., None].astype(np.int64) * np.array(tint) // 255
    lit = scene + streaks - (scene * streaks + 127) // 255
    share = int(veil * 256 + 0.5)
    return np.clip((lit * (256 - share) + np.array(air) * share + 128) // 256, 0, 255).astype(np.uint8)


def rain_over(target: Picture, regime: str | Regime, seed: int, density: str | None = None) -> Picture:
    """The rainy picture of a clean one, by additive composition; arguments as `rain_layer`."""
    return additive(target, rain_layer((target.shape[0], target.shape[1]), regime, seed, density))


def get_regime(name: str | Regime) -> Regime:
    """The regime of that name.

    Raises:
        UserError: no such regime; the nearest name is given.
    """
    if isinstance(name, Regime):
        return name
    try:
        return REGIMES[name]
    except KeyError:
        raise unknown("rain", name, REGIMES) from None


# Sizes and strengths follow the layers (input − target) of Rain200L, all 200 of its test pictures, Rain200H and
# Rain12: autocorrelation along the streaks and across, histogram, share of wet pixels, mean PSNR-Y over BSDS500
# photographs. tests/benchmark/data/test_rain.py holds them.
def _light(cover: float, strength: float, length: float, fineness: float) -> tuple[Layer, Layer, Layer]:
    """Bright streaks of all lengths, short dashes between, long faint ones behind; arguments scale all three."""
    return (
        Layer(
            cover=(0.03 * cover, 0.16 * cover),
            length=(11 * length, 100 * length),
            width=(1.2 * fineness, 2.7 * fineness),
            strength=(11 * strength, 136 * strength),
            skew=4.0,
            gain=(0.75, 1.3),
            spread=0.5,
            motion=4 * length,
            softness=2.0 * fineness,
        ),
        Layer(
            cover=(0.045 * cover, 0.075 * cover),
            length=(3.5 * length, 18 * length),
            width=(0.9 * fineness, 2.4 * fineness),
            strength=(4 * strength, 48 * strength),
            skew=0.5,
            spread=0.5,
            motion=5 * length,
            softness=1.0,
        ),
        Layer(
            cover=(0.03 * cover, 0.075 * cover),
            length=(8 * length, 130 * length),
            width=(1.7 * fineness, 2.6 * fineness),
            strength=(strength, 13 * strength),
            spread=0.5,
            motion=18 * length,
            softness=1.0,
        ),
    )


def _heavy(cover: Range, turn: Range) -> Layer:
    return Layer(
        cover=cover,
        length=(25, 90),
        width=(1.5, 3.0),
        strength=(35, 85),
        gain=(0.48, 0.97),
        turn=turn,
        spread=4.0,
        motion=6,
        softness=1.2,
        ceiling=120,
    )


def _fine(cover: float, strength: float) -> tuple[Layer, Layer]:
    """Thin, even streaks as a picture editor's noise and motion blur make them, over a few near ones."""
    return (
        Layer(
            cover=(0.3 * cover, 0.5 * cover),
            length=(12, 36),
            width=(1.0, 1.6),
            strength=(5 * strength, 60 * strength),
            spread=1.0,
            motion=14,
            ceiling=160,
        ),
        Layer(
            cover=(0.03 * cover, 0.06 * cover),
            length=(30, 80),
            width=(1.6, 3.0),
            strength=(10 * strength, 110 * strength),
            skew=2.0,
            spread=1.5,
            motion=24,
        ),
    )


_REGIMES = (
    Regime(
        name="light",
        about="one direction, dashes and streaks of all lengths, dark gaps between: Rain200L",
        psnr_y=26.9,
        densities={"light": _light(cover=1.0, strength=0.97, length=1.0, fineness=1.0)},
    ),
    Regime(
        name="heavy",
        about="dense streaks from several directions: Rain200H",
        psnr_y=13.1,
        densities={
            "heavy": (
                _heavy((0.3, 1.0), (0, 0)),
                _heavy((0.05, 0.75), (-20, -5)),
                _heavy((0.05, 0.75), (5, 20)),
            )
        },
        angle=(-15.0, 15.0),
    ),
    Regime(
        name="mixed",
        about="fine streaks of one direction in three densities: Rain1200",
        psnr_y=23.6,
        densities={"light": _fine(0.5, 0.85), "medium": _fine(0.9, 0.9), "heavy": _fine(1.5, 1.0)},
        angle=(-40.0, 40.0),
    ),
    Regime(
        name="twelve",
        about="short, thin, faint streaks: Rain12",
        psnr_y=29.0,
        densities={"light": _light(cover=1.15, strength=0.62, length=0.4, fineness=0.7)},
        angle=(-20.0, 20.0),
    ),
)

REGIMES: Mapping[str, Regime] = MappingProxyType({regime.name: regime for regime in _REGIMES})
"""All regimes by name."""
