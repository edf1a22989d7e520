"""The renderer: composition, repeatability, looks, speed, and its calibration to the published sets."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.data.embedded import render_split
from benchmark.data.images import read_image
from benchmark.data.rain import (
    REGIMES,
    Layer,
    Regime,
    Uniform,
    _splat,
    additive,
    draw_streaks,
    rain_layer,
    rain_over,
    screen,
)
from benchmark.data.specs import DATASETS
from benchmark.errors import UserError

TOLERANCE = {"light": 1.5, "heavy": 1.5, "mixed": 1.5, "twelve": 2.0}  # dB, of a set's mean


def psnr_y(rainy: np.ndarray, clean: np.ndarray) -> float:
    error = (rainy.astype(float) - clean) @ (np.array([65.481, 128.553, 24.966]) / 255)
    return 10 * np.log10(255**2 / np.mean(error**2))


@given(seed=st.integers(0, 2**63), height=st.integers(1, 60), width=st.integers(1, 60), data=st.data())
@settings(max_examples=40, deadline=None)
def test_rain_is_grey_and_adds_up(seed: int, height: int, width: int, data: st.DataObject) -> None:
    regime = data.draw(st.sampled_from(sorted(REGIMES)))
    clean = np.random.default_rng(seed % 1000).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rain = rain_layer((height, width), regime, seed)
    assert rain.shape == (height, width) and rain.dtype == np.uint8
    rainy = rain_over(clean, regime, seed)
    np.testing.assert_array_equal(rainy, np.minimum(255, clean.astype(int) + rain[..., None]))


def test_the_same_seed_gives_the_same_rain_and_another_does_not() -> None:
    for name in REGIMES:
        one = rain_layer((64, 80), name, 7)
        np.testing.assert_array_equal(one, rain_layer((64, 80), name, 7))
        assert not np.array_equal(one, rain_layer((64, 80), name, 8))


def test_rain_is_the_same_on_every_machine() -> None:
    layers = b"".join(rain_layer((96, 128), name, 11).tobytes() for name in REGIMES)
    assert hashlib.sha256(layers).hexdigest()[:20] == GOLDEN


@pytest.mark.parametrize(("name", "low", "high"), [("light", 0.18, 0.54), ("heavy", 0.52, 0.985)])
def test_as_many_pixels_are_wet_as_in_the_published_sets(name: str, low: float, high: float) -> None:
    wet = [float((rain_layer((321, 481), name, seed) > 0).mean()) for seed in range(12)]
    assert low <= min(wet) and max(wet) <= high
    if name == "light":
        assert abs(np.mean(wet) - 0.36) < 0.03


@pytest.mark.parametrize(
    "dataset", [n for n, spec in DATASETS.items() if spec.embedded and "test" in spec.splits]
)
def test_embedded_test_sets_are_as_rainy_as_the_published_ones(dataset: str) -> None:
    regime = REGIMES[DATASETS[dataset].regime or ""]
    rendered = render_split(dataset, "test")
    mean = np.mean([psnr_y(r, t) for r, t in zip(rendered.rainy, rendered.target, strict=True)])
    assert abs(mean - regime.psnr_y) <= TOLERANCE[regime.name]
    published = {"light": 26.9, "heavy": 13.1, "mixed": 23.6, "twelve": 29.0}
    assert regime.psnr_y == published[regime.name]


@pytest.mark.parametrize("name", sorted(REGIMES))
def test_dead_leaves_are_as_rainy_as_photographs(name: str) -> None:
    rendered = render_split("embedded", "train")
    pairs = zip(rendered.names, rendered.rainy, rendered.target, strict=True)
    mean = np.mean([psnr_y(r, t) for n, r, t in pairs if n.endswith(f"-{name}")])
    assert abs(mean - REGIMES[name].psnr_y) <= TOLERANCE[name]


@pytest.mark.parametrize("name", sorted(REGIMES))
def test_calibration_holds_for_other_photographs(shared: Path, name: str) -> None:
    regime = REGIMES[name]
    densities = list(regime.densities)
    values = []
    for i, path in enumerate(sorted((shared / "data/clean/bsds500/train").glob("*.jpg"))[::5]):
        clean = read_image(path)
        values.append(psnr_y(rain_over(clean, regime, i, densities[i % len(densities)]), clean))
    assert abs(np.mean(values) - regime.psnr_y) <= TOLERANCE[name] / 2


ALONG, ACROSS = (2, 4, 8, 16, 32), (1, 2, 3)

# of the rain layers (input − target): autocorrelation along the streaks at lags ALONG rows, across at ACROSS columns,
# percentiles 75, 90, 95, 99 and the mean share of wet pixels
LAYERS = {
    # all 200 test pictures of Rain200L
    "light": ((0.92, 0.83, 0.67, 0.49, 0.29), (0.65, 0.24, 0.08), (3.8, 19.4, 35.5, 70.3), 0.349),
    # the twelve of Rain12
    "twelve": ((0.80, 0.64, 0.41, 0.20, 0.08), (0.48, 0.09, 0.05), (5.9, 14.9, 22.2, 40.1), 0.416),
}


def autocorrelations(layer: np.ndarray) -> tuple[list[float], list[float]]:
    """Along: the greatest over the horizontal shifts that a streak within 45° of the vertical can have."""
    (height, width), signal = layer.shape, layer - layer.mean()
    spectrum = np.fft.rfft2(signal, (2 * height, 2 * width))
    found = np.fft.irfft2(np.abs(spectrum) ** 2, (2 * height, 2 * width)) / (signal**2).sum()

    def at(y: int, x: int) -> float:
        return float(found[y, x]) * height * width / ((height - y) * (width - abs(x)))

    return [max(at(lag, x) for x in range(-lag, lag + 1)) for lag in ALONG], [at(0, lag) for lag in ACROSS]


def described(layers: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    lags = [autocorrelations(layer.astype(float)) for layer in layers]
    percentiles = np.mean([np.percentile(layer, [75, 90, 95, 99]) for layer in layers], axis=0)
    wet = float(np.mean([(layer > 0).mean() for layer in layers]))
    return np.mean([a for a, _ in lags], axis=0), np.mean([b for _, b in lags], axis=0), percentiles, wet


def layer_of(pair: Path) -> np.ndarray:
    clean = pair.parent.parent / "target" / pair.name
    return (read_image(pair).astype(int) - read_image(clean)).max(axis=2)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_streaks_are_as_long_wide_and_bright_as_the_published_ones(name: str) -> None:
    along, across, percentiles, wet = described([rain_layer((321, 481), name, s) for s in range(16)])
    real = LAYERS[name]
    np.testing.assert_allclose(along, real[0], atol=0.08)
    np.testing.assert_allclose(across, real[1], atol=0.08)
    np.testing.assert_allclose(percentiles, real[2], rtol=0.25, atol=1.5)
    assert abs(wet - real[3]) < 0.04


def test_the_published_layers_are_as_described(shared: Path) -> None:
    """Rain12 whole; of Rain200L the three pairs whose targets are there, which slant and are drier than most."""
    pairs = sorted((shared / "data/rain_pairs/rain12/input").glob("*.png"))
    if not pairs:
        pytest.skip("Rain12 is not there")
    for found, noted, tolerance in zip(
        described([layer_of(pair) for pair in pairs]),
        LAYERS["twelve"],
        (0.006, 0.006, 0.06, 0.001),
        strict=True,
    ):
        np.testing.assert_allclose(found, noted, atol=tolerance)
    folder = shared / "data/rain_pairs/rain200l_test3/input"
    along, across, percentiles, wet = described([layer_of(folder / f"{n}.png") for n in (1, 2, 3)])
    np.testing.assert_allclose(along, LAYERS["light"][0], atol=0.08)
    np.testing.assert_allclose(across, LAYERS["light"][1], atol=0.08)
    np.testing.assert_allclose(percentiles, LAYERS["light"][2], rtol=0.25)
    assert abs(wet - LAYERS["light"][3]) < 0.04


def test_densities_are_ordered() -> None:
    clean = np.full((200, 300, 3), 90, np.uint8)
    means = [
        np.mean([psnr_y(rain_over(clean, "mixed", s, d), clean) for s in range(4)])
        for d in ("light", "medium", "heavy")
    ]
    assert means[0] - 2 > means[1] > means[2] + 2


STREAK = Layer(cover=(0.05, 0.05), length=(30, 30), width=(2, 2), strength=(100, 100), spread=0, motion=6)


def orientation(layer: np.ndarray) -> float:
    """Degrees from the vertical of the streaks, by the structure tensor."""
    gy, gx = np.gradient(layer.astype(float))
    angle = 0.5 * np.arctan2(2 * (gx * gy).sum(), (gx**2).sum() - (gy**2).sum())
    return float(-np.degrees(angle))


@pytest.mark.parametrize("angle", [-50.0, -20.0, 0.0, 35.0])
def test_streaks_lie_along_their_angle(angle: float) -> None:
    thick = replace(STREAK, width=(4, 4), softness=4)  # thin ones are too jagged for gradients
    layer = draw_streaks((200, 200), thick, angle, Uniform(1))
    assert abs(orientation(layer) - angle) < 5


def one_streak(length: float, width: float, strength: float, motion: float) -> np.ndarray:
    """A field with a single vertical streak in its middle, in grey levels."""
    total = np.zeros(120 * 120, dtype=np.int64)
    values = [np.array([v]) for v in (60.3, 59.6, length, width, 0.0, strength)]
    _splat(total, (120, 120), replace(STREAK, motion=motion), *values)
    return total.reshape(120, 120) / 256


def test_length_width_and_strength_are_what_is_asked_for() -> None:
    for length, width, strength, motion in [(30, 2.0, 100, 6), (50, 3.0, 60, 20), (20, 1.5, 80, 10)]:
        drawn = one_streak(length, width, strength, motion)
        # trapezoids keep their area, whatever the blurs
        np.testing.assert_allclose(drawn.sum(), length * width * strength, rtol=0.1)
        assert drawn.max() <= strength + 0.01
        rows = np.flatnonzero(drawn.max(axis=1))
        assert abs(len(rows) - (length + motion)) <= 2


def test_motion_blur_ramps_the_ends() -> None:
    def profile(motion: float) -> np.ndarray:
        values = one_streak(40, 3, 100, motion).max(axis=1)
        return values[values > 0]

    sharp, blurred = profile(1), profile(30)
    assert (sharp > 0.9 * sharp.max()).mean() > 0.9
    assert (blurred > 0.9 * blurred.max()).mean() < 0.4


def test_borders_are_as_rainy_as_the_middle() -> None:
    mean = np.mean([rain_layer((120, 160), "heavy", s).astype(float) for s in range(30)], axis=0)
    edges = [mean[:8].mean(), mean[-8:].mean(), mean[:, :8].mean(), mean[:, -8:].mean()]
    assert np.abs(np.array(edges) / mean[40:80, 50:110].mean() - 1).max() < 0.15


def test_a_ceiling_limits_overlap() -> None:
    layer = replace(STREAK, cover=(3.0, 3.0), ceiling=120)
    regime = Regime("own", "", 0, {"one": (layer,)})
    assert rain_layer((80, 80), regime, 1).max() == 120


def test_screen_tints_and_veils() -> None:
    clean = np.full((40, 40, 3), 100, np.uint8)
    rain = np.zeros((40, 40), np.uint8)
    rain[:, 20] = 200
    out = screen(clean, rain, tint=(200, 220, 255), veil=0.0)
    np.testing.assert_array_equal(out[:, :20], clean[:, :20])
    assert out[0, 20, 0] < out[0, 20, 1] < out[0, 20, 2] < 255
    white = screen(clean, rain, tint=(255, 255, 255), veil=0.0)
    assert white[0, 20].tolist() == [round(255 - (255 - 100) * (255 - 200) / 255)] * 3
    np.testing.assert_array_equal(
        screen(clean, rain, veil=1.0, air=(1, 2, 3)), np.broadcast_to([1, 2, 3], (40, 40, 3))
    )
    hazy = screen(clean, np.zeros_like(rain), veil=0.5, air=(200, 200, 200))
    assert (hazy == 150).all()


def test_unknown_rain_and_density_name_the_nearest() -> None:
    with pytest.raises(UserError, match="heavy"):
        rain_layer((8, 8), "heavvy", 0)
    with pytest.raises(UserError, match="medium"):
        rain_layer((8, 8), "mixed", 0, density="medum")


def test_a_layer_takes_well_under_a_third_of_a_second() -> None:
    times = []
    for seed in range(3):
        start = time.perf_counter()
        rain_layer((427, 640), "heavy", seed)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_additive_saturates() -> None:
    clean = np.array([[[250, 100, 0]]], np.uint8)
    assert additive(clean, np.array([[20]], np.uint8)).tolist() == [[[255, 120, 20]]]


GOLDEN = "a1e59226ae9b67c2bfee"
