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
    from benchmark.evaluation import metaiqa as metaiqa
    from benchmark.evaluation import piqe as piqe
    from benchmark.evaluation import psnr_y as psnr_y
    from benchmark.evaluation import restore as restore
    from benchmark.evaluation import ssim_y as ssim_y
    from benchmark.lightning import ESDNetModule as ESDNetModule
    from benchmark.lightning import RestorationModule as RestorationModule
    from benchmark.models import create_model as create_model
    from benchmark.models import list_models as list_models

__version__ = "0.1.0"

_HOME = {
    "create_model": "benchmark.models",
    "list_models": "benchmark.models",
    "load_checkpoint": "benchmark.checkpoints",
    "measure_cost": "benchmark.cost",
    "psnr_y": "benchmark.evaluation",
    "ssim_y": "benchmark.evaluation",
    "piqe": "benchmark.evaluation",
    "metaiqa": "benchmark.evaluation",
    "restore": "benchmark.evaluation",
    "RainDataModule": "benchmark.data",
    "RestorationModule": "benchmark.lightning",
    "ESDNetModule": "benchmark.lightning",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")
