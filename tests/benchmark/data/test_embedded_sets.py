"""The embedded sets: disjoint, repeatable, quick, nothing downloaded."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmark.data import embedded
from benchmark.data.audit import difference_hash
from benchmark.data.embedded import SCENES, photograph, render_split
from benchmark.data.rain import additive, rain_layer
from benchmark.data.specs import DATASETS
from benchmark.errors import UserError

EMBEDDED = [n for n, spec in DATASETS.items() if spec.embedded]


def test_training_and_test_photographs_are_disjoint() -> None:
    scenes = {
        split: {w.scene for w in windows}
        for split, windows in (("train", embedded._TRAIN), ("test", embedded._TEST))
    }
    for split, used in scenes.items():
        assert {SCENES[s][2] for s in used} == {split}
    files = {split: {SCENES[s][:2] for s in used} for split, used in scenes.items()}
    assert not files["train"] & files["test"]
    # the two eyes of the stereo pair are one scene
    assert SCENES["motorcycle-left"][2] == SCENES["motorcycle-right"][2]
    train = [difference_hash(t) for t in render_split("embedded-light", "train").target[:21]]
    for target in render_split("embedded-light", "test").target:
        assert min(int((difference_hash(target) != other).sum()) for other in train) > 40


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


def test_every_test_scene_meets_every_density() -> None:
    rendered = render_split("embedded-mixed", "test")
    met = {(n.split("-")[1], n.split("-")[2]) for n in rendered.names}
    assert len(met) == 9


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


def test_rendering_is_quick_and_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the embedded sets asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    start = time.perf_counter()
    photograph.cache_clear()
    render_split.__wrapped__("embedded-heavy", "train")
    assert time.perf_counter() - start < 5


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
    monkeypatch.setitem(SCENES, "chelsea", ("skimage", "data/gone.png", "train"))
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
    "embedded-12": ["e8c8d78f253b2266"],
    "embedded-light": ["678aca36116234be", "a1b0cd1628989e23"],
    "embedded-heavy": ["38c062314d8718a8", "90b9d18bf1cc6cbb"],
    "embedded-mixed": ["ef12293e4bd9ef86", "090f99c427535150"],
}
