"""Names of files and words of a configuration: near to right ones, and far from them.

Built from a seed that hypothesis draws, a hundred inputs to a seed: drawing every letter through hypothesis takes
longer than what is tested.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import strategies as st

from benchmark import catalog
from benchmark.spec.resolve import KEYS, choices

AT_ONCE = 100

_PARTS = [
    "rain",
    "norain",
    "rainy",
    "clean",
    "gt",
    "GT",
    "input",
    "target",
    "in",
    "x2",
    "X2",
    "1",
    "01",
    "2",
    "10",
]
_BETWEEN = ["-", "_", " ", "", "."]
_ENDINGS = [".png", ".PNG", ".jpg", "", ".tar.gz", ".é"]
_LETTERS = "ab01=.[]{}:,'\"\\/-+!&*#%$@~^|<>?\t\n\0 éß雨\U0001f327\u202e\udc80Ⅷ²"
_MODEL = ["model", "data", "recipe", "model.dim", "model.time_steps", "model.encoder_blocks"]
_ODD = [
    "paper",
    "embedded",
    "authors",
    "released-code",
    "null",
    "",
    "true",
    "[1,2]",
    "[",
    "{a: 1}",
    "${seed}",
    "'",
    "&a *a",
]
_ODD += [
    "${oc.env:HOME}",
    "!!python/object/apply:os.system [x]",
    "1e999",
    "-1",
    "0",
    "nan",
    "0x10",
    "1_000",
    "[[[[",
    "???",
]


def _text(rng: random.Random, most: int) -> str:
    return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(0, most)))


def _name(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return _text(rng, 12)
    parts = [rng.choice(_PARTS) for _ in range(rng.randint(1, 4))]
    return rng.choice(_BETWEEN).join(parts) + rng.choice(_ENDINGS)


def name_lists(rng: random.Random) -> tuple[list[str], list[str]]:
    """Rainy names and clean ones."""
    return [_name(rng) for _ in range(rng.randint(0, 6))], [_name(rng) for _ in range(rng.randint(0, 6))]


def _word(rng: random.Random) -> str:
    if rng.random() < 0.05:
        return _text(rng, 10)
    key = (
        rng.choice(KEYS)
        if rng.random() < 0.7
        else rng.choice([*_MODEL, _text(rng, 6), rng.choice(KEYS)[:-1]])
    )
    names = [*catalog.networks(), *(value for key in KEYS for value in choices(key))]
    number = rng.choice(
        [str(rng.randint(-3, 200)), repr(rng.uniform(-2, 2)), str(rng.randint(-(2**70), 2**70))]
    )
    return f"{key}={rng.choice([number, rng.choice(names), rng.choice(_ODD), _text(rng, 8)])}"


def settings(rng: random.Random) -> list[str]:
    """Words of a command line."""
    return [_word(rng) for _ in range(rng.randint(0, 4))]


DRAWN: dict[str, Callable[[random.Random], object]] = {"pairing": name_lists, "configuration": settings}


def inputs(kind: str) -> st.SearchStrategy[list[object]]:
    """A hundred inputs of a kind."""

    def build(seed: int) -> list[object]:
        rng = random.Random(seed)
        return [DRAWN[kind](rng) for _ in range(AT_ONCE)]

    return st.integers(0, 2**63).map(build)
