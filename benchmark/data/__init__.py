"""Datasets: reading, pairing, rendering, caching and checking them.

The names below are imported when they are used, so that `import benchmark.data` is cheap and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from benchmark.data.audit import check as check
    from benchmark.data.audit import render as render
    from benchmark.data.datamodule import RainDataModule as RainDataModule
    from benchmark.data.datasets import PairedImages as PairedImages
    from benchmark.data.datasets import open_pairs as open_pairs
    from benchmark.data.datasets import open_photographs as open_photographs
    from benchmark.data.images import image_size as image_size
    from benchmark.data.images import read_image as read_image
    from benchmark.data.images import read_metadata as read_metadata
    from benchmark.data.images import write_image as write_image
    from benchmark.data.specs import DATASETS as DATASETS
    from benchmark.data.specs import Dataset as Dataset
    from benchmark.data.specs import dataset_spec as dataset_spec

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "audit": ["check", "render"],
        "datamodule": ["RainDataModule"],
        "datasets": ["PairedImages", "open_pairs", "open_photographs"],
        "images": ["image_size", "read_image", "read_metadata", "write_image"],
        "specs": ["DATASETS", "Dataset", "dataset_spec"],
    },
)
