"""Pairs made of clean photographs: what is in both pictures, what in one, and that they follow from the draw alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import RainDataModule, open_pairs, wet, write_image
from benchmark.data.wet import KINDS, wet_pair
from benchmark.errors import UserError
from benchmark.spec import resolve


def photograph(height: int = 90, width: int = 120, seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [100 + 60 * np.sin(y / (5 + c) + seed) * np.cos(x / (9 - c)) for c in range(3)]
    return np.clip(np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        write_image(tmp_path / "photographs" / f"{i}.png", photograph(seed=i))
    return tmp_path / "photographs"


@pytest.mark.parametrize("side", [None, 16, 64, 150])
def test_a_pair_follows_from_its_seed(side: int | None) -> None:
    clean = photograph()
    first, again, other = (
        wet_pair(clean, (1, 2), side),
        wet_pair(clean, (1, 2), side),
        wet_pair(clean, (1, 3), side),
    )
    for a, b, c in zip(first, again, other, strict=True):
        assert a.dtype == np.uint8 and a.shape == (clean.shape if side is None else (side, side, 3))
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def test_rain_adds_light_and_nothing_else_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wet, "_JPEG", 0.0)
    clean = photograph()
    dry = 0
    for n in range(200):
        rainy, target = wet_pair(clean, (5, n), 48)
        assert (rainy >= target).all()
        dry += bool((rainy == target).all())
    assert 8 <= dry <= 45  # a share of 0.1, and rain that missed the window


def test_pictures_without_rain_are_equal_after_compression_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wet, "_JPEG", 1.0)
    monkeypatch.setattr(wet, "_kind", lambda u: "none")
    for n in range(20):
        rainy, target = wet_pair(photograph(), (n,), 48)
        np.testing.assert_array_equal(rainy, target)


def test_every_kind_comes_by_its_share() -> None:
    assert sum(share for _, share in KINDS) == pytest.approx(1)
    counts = Counter(wet._kind(u) for u in np.linspace(0, 1, 2000, endpoint=False))
    for name, share in KINDS:
        assert counts[name] / 2000 == pytest.approx(share, abs=0.002)


def test_crops_rain_afresh_and_held_out_pictures_stay(folder: Path, tmp_path: Path) -> None:
    def module(seed: int) -> RainDataModule:
        data = RainDataModule(
            "photographs", folder, patch=32, batch=2, validation=0.2, seed=seed, cache=tmp_path / "cache"
        )
        data.setup("fit")
        return data

    data, other = module(0), module(1)
    crops, held, held_by_other = data.crops, data.held_out, other.held_out
    assert crops is not None and held is not None and held_by_other is not None
    count = len(crops)
    assert count == 5 and len(held) == 1
    same = [crops[n] for n in range(count) if crops[n]["name"] == crops[0]["name"]]
    later = [crops[n] for n in range(count, 2 * count) if crops[n]["name"] == same[0]["name"]]
    assert (same[0]["rainy"] != later[0]["rainy"]).any()
    np.testing.assert_array_equal(held[0]["rainy"], held_by_other[0]["rainy"])
    assert not set(held.names) & set(data.train_images.names)
    # a batch is its draws, in whatever order they were asked for
    np.testing.assert_array_equal(crops.__getitems__([7, 8])["rainy"][1], crops[8]["rainy"])


def test_photographs_left_out(folder: Path, tmp_path: Path) -> None:
    pairs = open_pairs("photographs", folder, "train", cache=tmp_path, cached=True, exclude=["2", "4"])
    assert pairs.names == ["0", "1", "3", "5"]
    with pytest.raises(UserError, match="exclude '7'"):
        open_pairs("photographs", folder, "train", exclude=["7"])
    with pytest.raises(UserError, match=r"data\.root"):
        open_pairs("photographs", None, "train")
    words = ["data=photographs", f"data.root={folder}", "recipe=general"]
    assert resolve(words).identity != resolve([*words, "data.exclude=[a]"]).identity
    assert resolve(words).identity != resolve([*words[:1], f"data.root={tmp_path}", words[2]]).identity


def test_regimes_alone_fall_over_the_photograph_as_it_is(folder: Path, tmp_path: Path) -> None:
    clean = photograph()
    rainy, target = wet_pair(clean, (3, 1), rain=["heavy", "light"])
    np.testing.assert_array_equal(target, clean)
    layer = rainy.astype(int) - target
    assert layer.min() >= 0 and layer.max() > 0
    assert (layer[(rainy < 255).all(axis=-1)].std(axis=-1) == 0).all(), "one grey layer for all channels"
    wet_share = [
        np.mean([(np.subtract(*wet_pair(clean, (n,), 64, rain)) > 0).mean() for n in range(30)])
        for rain in (["light"], ["heavy"], ["heavy", "light"])
    ]
    assert wet_share[0] < wet_share[2] < wet_share[1]
    data = RainDataModule(
        "photographs", folder, patch=32, batch=2, validation=0.2, cache=tmp_path / "cache", rain=["light"]
    )
    data.setup("fit")
    assert data.crops is not None and data.held_out is not None
    assert (
        data.held_out.arrays(0)[1]
        == open_pairs("photographs", folder, "train").arrays(int(data.held_out.names[0]))[1]
    ).all()


def test_data_rain_is_a_setting_of_photographs_alone(folder: Path) -> None:
    words = ["data=photographs", f"data.root={folder}", "recipe=general"]
    assert resolve(words).identity != resolve([*words, "data.rain=[heavy]"]).identity
    assert (
        resolve([*words, "data.rain=[heavy,light]"]).identity
        == resolve([*words, "data.rain=[light,heavy]"]).identity
    )
    for rain, told in (("[hevy]", "heavy"), ("[heavy,heavy]", "twice")):
        with pytest.raises(UserError, match=told):
            resolve([*words, f"data.rain={rain}"])
    with pytest.raises(UserError, match="rain of its own"):
        resolve(["data=embedded-heavy", "data.rain=[heavy]"])
