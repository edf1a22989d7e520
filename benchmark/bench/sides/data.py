"""Training crops: the decoded cache, and the authors' loader that decodes both pictures for each crop."""

from __future__ import annotations

import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import torch
from torch import Tensor

from benchmark.bench.case import Body, Setting
from benchmark.bench.sides.pictures import pngs
from benchmark.cgroup import cores
from benchmark.data.cache import open_cache, read_pair
from benchmark.data.datasets import PairedImages, RandomCrops
from benchmark.data.layouts import Pair
from benchmark.data.specs import dataset_spec

_PAIRS, _PATCH, _BATCH, _CALLS = 96, 64, 12, 100


def _pairs(setting: Setting) -> list[Pair]:
    return [Pair(rainy.stem, rainy, clean) for rainy, clean in pngs(setting.scratch, _PAIRS)]


def _crops(setting: Setting) -> RandomCrops:
    cached = open_cache("bench", _pairs(setting), setting.scratch / "cache", progress=False)
    return RandomCrops(PairedImages(cached, dataset_spec("folder"), "train"), _PATCH)


def crops(setting: Setting) -> Body:
    """This suite: 100 batches of 12 from the cache, in one process."""
    loader, step = _crops(setting), count()

    def call() -> Tensor:
        for s in (next(step) for _ in range(_CALLS)):
            batch = loader.__getitems__(range(s * _BATCH, (s + 1) * _BATCH))
        return batch["rainy"]

    return call


def one_batch(setting: Setting) -> Body:
    """This suite: one batch of 12, in one process."""
    loader, step = _crops(setting), count()

    def call() -> Tensor:
        s = next(step)
        return loader.__getitems__(range(s * _BATCH, (s + 1) * _BATCH))["rainy"]

    return call


def authors_crops(setting: Setting) -> Body:
    """As the authors' loader: both PNGs decoded and made float32 for one crop of each, 12 crops to a batch."""
    from skimage import io

    pairs, step = pngs(setting.scratch, _PAIRS), count()
    places = np.random.default_rng(0)

    def one(index: int) -> tuple[Tensor, Tensor]:
        rainy, clean = (io.imread(path).astype(np.float32) / 255 for path in pairs[index % _PAIRS])
        top, left = (int(places.integers(0, n - _PATCH)) for n in rainy.shape[:2])
        window = (slice(top, top + _PATCH), slice(left, left + _PATCH))
        a, b = (torch.from_numpy(p[window].transpose(2, 0, 1).copy()) for p in (rainy, clean))
        return a, b

    def call() -> Tensor:
        s = next(step)
        chosen = [one(i) for i in range(s * _BATCH, (s + 1) * _BATCH)]
        return torch.stack([rainy for rainy, _ in chosen])

    return call


def build(setting: Setting) -> Body:
    """The cache, built from nothing."""
    pairs = _pairs(setting)

    def call() -> None:
        folder = setting.scratch / f"built-{secrets.token_hex(4)}"
        open_cache("bench", pairs, folder, progress=False)
        shutil.rmtree(folder)

    return call


def decode(setting: Setting) -> Body:
    """The pictures of the same pairs read and decoded, on all cores, and thrown away."""
    return _decoding(setting, cores())


def decode_on_one_core(setting: Setting) -> Body:
    """The same on one."""
    return _decoding(setting, 1)


def _decoding(setting: Setting, workers: int) -> Body:
    pairs = _pairs(setting)
    pool = ThreadPoolExecutor(workers)

    def call() -> None:
        for _ in pool.map(read_pair, pairs):
            pass

    return call
