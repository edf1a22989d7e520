"""The fuzz targets in small: the seeds, single bytes of them changed, and some names and configurations.

By hand and in large: `make fuzz N=100000`; figures in docs/reliability.md.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings


def _beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


targets, strategies = _beside("targets"), _beside("strategies")


def _mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    if rng.random() < 0.3:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed) or b"\0"


@pytest.mark.parametrize(("name", "each"), [("image", 20), ("checkpoint", 20), ("archive", 10)])
def test_bytes(name: str, each: int, tmp_path: Path) -> None:
    target, seeds = targets.BYTES[name]
    rng = random.Random(0)
    for data in seeds():
        target(tmp_path, data)
        for _ in range(each):
            target(tmp_path, _mutated(data, rng))
    target(tmp_path, b"s")


@settings(max_examples=5)
@given(strategies.inputs("pairing"))
def test_pairing(drawn: list[object]) -> None:
    for names in drawn:
        targets.pairing(Path(), names)


@settings(max_examples=2)
@given(strategies.inputs("configuration"))
def test_configurations(drawn: list[object]) -> None:
    for words in drawn:
        targets.configuration(Path(), words)


def test_a_finding_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.data import images

    def broken(path: Path) -> None:
        raise ZeroDivisionError("not the user's")

    monkeypatch.setattr(images, "read_image", broken)
    with pytest.raises(targets.Finding, match="ZeroDivisionError"):
        targets.image(tmp_path, b"x")
