"""One training, one evaluation and one accounting for every network of the deraining tables.

The public interface; importing this package imports no torch, the names below bring it in when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.checkpoints import load_checkpoint as load_checkpoint
    from benchmark.cost import measure_cost as measure_cost
    from benchmark.data import RainDataModule as RainDataModule
    from benchmark.lightning import ESDNetModule as ESDNetModule
    from benchmark.lightning import RestorationModule as RestorationModule
    from benchmark.metrics import metaiqa as metaiqa
    from benchmark.metrics import piqe as piqe
    from benchmark.metrics import psnr_y as psnr_y
    from benchmark.metrics import ssim_y as ssim_y
    from benchmark.models import create_model as create_model
    from benchmark.models import list_models as list_models
    from benchmark.restoration import restore as restore

__version__ = "0.1.0"

_HOME = {
    "create_model": "benchmark.models",
    "list_models": "benchmark.models",
    "load_checkpoint": "benchmark.checkpoints",
    "measure_cost": "benchmark.cost",
    "psnr_y": "benchmark.metrics",
    "ssim_y": "benchmark.metrics",
    "piqe": "benchmark.metrics",
    "metaiqa": "benchmark.metrics",
    "restore": "benchmark.restoration",
    "RainDataModule": "benchmark.data",
    "RestorationModule": "benchmark.lightning",
    "ESDNetModule": "benchmark.lightning",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")
