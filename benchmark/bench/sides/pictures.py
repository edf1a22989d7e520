"""Pictures of the size of Rain200's, 481×321, that are there without a download."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.data.images import write_image

Picture = NDArray[np.uint8]

HEIGHT, WIDTH = 321, 481


@cache
def _photographs() -> tuple[Picture, ...]:
    from skimage import data

    found = []
    for photograph in (data.astronaut(), data.chelsea(), data.coffee()):
        rows, columns = (-(-n // m) for n, m in zip((HEIGHT, WIDTH), photograph.shape, strict=False))
        found.append(np.tile(photograph, (max(rows, 1), max(columns, 1), 1))[:HEIGHT, :WIDTH])
    return tuple(np.ascontiguousarray(p) for p in found)


def clean_and_rainy(count: int) -> list[tuple[Picture, Picture]]:
    """(rainy, clean) pairs: photographs, shifted so that no two are the same, under streaks of noise."""
    pairs = []
    for i in range(count):
        clean = np.roll(_photographs()[i % 3], 7 * i, axis=1)
        noise = np.random.default_rng(i).integers(0, 60, (HEIGHT // 8 + 1, WIDTH, 1))
        streaks = np.repeat(noise * (noise > 45), 8, axis=0)[:HEIGHT]
        pairs.append((np.clip(clean.astype(np.int64) + streaks, 0, 255).astype(np.uint8), clean))
    return pairs


def pngs(scratch: Path, count: int) -> list[tuple[Path, Path]]:
    """So many pairs as PNG files, input/ and target/ below `scratch`; (rainy, clean), written once."""
    folders = [scratch / f"pairs-{count}" / side for side in ("input", "target")]
    names = [f"{i + 1}.png" for i in range(count)]
    if not (folders[1] / names[-1]).is_file():
        for name, pair in zip(names, clean_and_rainy(count), strict=True):
            for folder, picture in zip(folders, pair, strict=True):
                write_image(folder / name, picture)
    return [(folders[0] / name, folders[1] / name) for name in names]
