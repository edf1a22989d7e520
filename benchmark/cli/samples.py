"""The photographs that `derain demo` and the cards of shipped weights show."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """A photograph that a package ships and that nobody trained on, with rain over it or (None) without."""

    name: str
    scene: str
    title: str
    regime: str | None
    seed: int
    credit: str

    @functools.cached_property
    def clean(self) -> Picture:
        """uint8 (H, W, 3)."""
        from benchmark.data.embedded import photograph

        return photograph(self.scene)

    @functools.cached_property
    def rainy(self) -> Picture:
        """uint8 (H, W, 3)."""
        from benchmark.data.rain import rain_over

        return self.clean if self.regime is None else rain_over(self.clean, self.regime, self.seed)


_ROCKET = "rocket: SpaceX, public domain; ships with scikit-image"
_COFFEE = "coffee: Rachel Michetti, CC0; ships with scikit-image"
_CHINA = "china: danielbuechele, CC BY 2.0; ships with scikit-learn; here with rendered rain over it"
SAMPLES = (
    Sample("rocket.png", "rocket", "rocket, light rain", "light", 11, _ROCKET),
    Sample("china.png", "china", "temple, fine rain", "mixed", 12, _CHINA),
    Sample("coffee.png", "coffee", "coffee, heavy rain", "heavy", 13, _COFFEE),
    Sample("no-rain.png", "china", "temple, no rain: to stay as it is", None, 0, _CHINA),
)
