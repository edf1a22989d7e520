"""Datasets: reading, pairing, rendering, caching and checking them.

The names below are imported when they are used, so that `import benchmark.data` is cheap and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.data.audit import check, render
    from benchmark.data.datamodule import RainDataModule
    from benchmark.data.datasets import PairedImages, open_pairs, open_photographs
    from benchmark.data.images import image_size, read_image, read_metadata, write_image
    from benchmark.data.specs import DATASETS, Dataset, dataset_spec

_HOMES = {
    "DATASETS": "specs",
    "Dataset": "specs",
    "dataset_spec": "specs",
    "read_image": "images",
    "write_image": "images",
    "read_metadata": "images",
    "image_size": "images",
    "open_pairs": "datasets",
    "open_photographs": "datasets",
    "PairedImages": "datasets",
    "RainDataModule": "datamodule",
    "check": "audit",
    "render": "audit",
}

__all__ = [
    "DATASETS",
    "Dataset",
    "PairedImages",
    "RainDataModule",
    "check",
    "dataset_spec",
    "image_size",
    "open_pairs",
    "open_photographs",
    "read_image",
    "read_metadata",
    "render",
    "write_image",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
