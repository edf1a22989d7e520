"""The embedded sets: disjoint, repeatable, quick, nothing downloaded."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from benchmark.data import embedded
from benchmark.data.audit import difference_hash
from benchmark.data.embedded import SCENES, photograph, render_split
from benchmark.data.rain import REGIMES, additive, rain_layer
from benchmark.data.specs import DATASETS
from benchmark.errors import UserError

EMBEDDED = [n for n, spec in DATASETS.items() if spec.embedded]


def test_a_scene_is_tested_on_once_and_never_trained_on() -> None:
    scenes = [window.scene for window in embedded._TEST]
    assert sorted(scenes) == sorted(SCENES), "one window of each photograph: no two pictures share a scene"
    for name in EMBEDDED:
        if "test" in DATASETS[name].splits:
            assert list(render_split(name, "test").groups) == scenes
    train = render_split("embedded", "train")
    assert set(Counter(train.groups).values()) == {len(REGIMES)}
    hashes = [difference_hash(t) for t in train.target[:: len(REGIMES)]]
    for target in render_split("embedded-light", "test").target:
        assert min(int((difference_hash(target) != other).sum()) for other in hashes) > 40


@pytest.mark.parametrize("name", EMBEDDED)
def test_counts_sizes_and_composition(name: str) -> None:
    spec = DATASETS[name]
    for split in spec.splits:
        rendered = render_split(name, split)
        assert len(rendered.names) == len(set(rendered.names)) == spec.published[split]
        for rainy, target in zip(rendered.rainy, rendered.target, strict=True):
            assert rainy.shape == target.shape and 160 <= min(rainy.shape[:2]) <= max(rainy.shape[:2]) <= 256
            difference = rainy.astype(int) - target
            rain = difference.max(axis=2)
            assert rain.min() >= 0
            np.testing.assert_array_equal(rainy, np.minimum(255, target.astype(int) + rain[..., None]))


def test_no_rain_is_used_twice() -> None:
    layers = set()
    for name in EMBEDDED:
        for split in DATASETS[name].splits:
            rendered = render_split(name, split)
            for rainy, target in zip(rendered.rainy, rendered.target, strict=True):
                layers.add((rainy.astype(int) - target).tobytes())
    assert len(layers) == sum(sum(DATASETS[n].published.values()) for n in EMBEDDED)


def test_every_density_is_met() -> None:
    met = Counter(n.split("-")[2] for n in render_split("embedded-mixed", "test").names)
    assert len(met) == 3 and min(met.values()) >= 4
    trained = {n.split("-")[0] for n in render_split("embedded", "train").names}
    assert len(trained) == 24


@pytest.mark.parametrize("name", EMBEDDED)
def test_pixels_are_those_of_every_other_machine(name: str) -> None:
    found = []
    for split in DATASETS[name].splits:
        rendered = render_split(name, split)
        digest = hashlib.sha256()
        for rainy, target in zip(rendered.rainy, rendered.target, strict=True):
            digest.update(rainy.tobytes() + target.tobytes())
        found.append(digest.hexdigest()[:16])
    assert found == GOLDEN[name]


def test_rendering_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the embedded sets asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    photograph.cache_clear()
    for name in ("embedded", "embedded-12"):
        assert render_split.__wrapped__(name, DATASETS[name].splits[0]).rainy


def test_rendering_imports_neither_torch_nor_the_packages_that_ship_the_photographs() -> None:
    code = (
        "import sys; from benchmark.data.embedded import render_split; render_split('embedded-12', 'test');"
        "print([m for m in ('torch', 'skimage', 'sklearn', 'pytorch_lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_is_cheap_to_import() -> None:
    code = "import sys, benchmark.data; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_photograph_that_is_no_longer_shipped_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCENES, "chelsea", ("skimage", "data/gone.png"))
    photograph.cache_clear()
    with pytest.raises(UserError, match=r"scikit-image does not ship data/gone\.png"):
        photograph("chelsea")
    photograph.cache_clear()


def test_pictures_cannot_be_changed_by_their_users() -> None:
    rendered = render_split("embedded-12", "test")
    with pytest.raises(ValueError, match="read-only"):
        rendered.rainy[0][0, 0, 0] = 1


def test_rain_of_one_split_is_not_that_of_another() -> None:
    assert not np.array_equal(rain_layer((50, 50), "light", 1), rain_layer((50, 50), "twelve", 1))
    assert additive(np.zeros((1, 1, 3), np.uint8), np.array([[7]], np.uint8)).tolist() == [[[7, 7, 7]]]


GOLDEN: dict[str, list[str]] = {
    "embedded": ["4b56f613f4fe1fd8"],
    "embedded-12": ["e91bf179c6e3210f"],
    "embedded-light": ["0c895d13167b86c9"],
    "embedded-heavy": ["f8098e2e56132981"],
    "embedded-mixed": ["172dea7b733a2660"],
}
