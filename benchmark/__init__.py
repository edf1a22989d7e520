"""One training, one evaluation and one accounting for every network of the deraining tables.

The public interface; importing this package imports no torch, the names below bring it in when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from benchmark.checkpoints import load_checkpoint as load_checkpoint
    from benchmark.cost import measure_cost as measure_cost
    from benchmark.data import RainDataModule as RainDataModule
    from benchmark.lightning import ESDNetModule as ESDNetModule
    from benchmark.lightning import RestorationModule as RestorationModule
    from benchmark.lightning_cli import DerainCLI as DerainCLI
    from benchmark.metrics import metaiqa as metaiqa
    from benchmark.metrics import piqe as piqe
    from benchmark.metrics import psnr_y as psnr_y
    from benchmark.metrics import ssim_y as ssim_y
    from benchmark.models import create_model as create_model
    from benchmark.models import list_models as list_models
    from benchmark.restoration import restore as restore

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoints": ["load_checkpoint"],
        "cost": ["measure_cost"],
        "data": ["RainDataModule"],
        "lightning": ["ESDNetModule", "RestorationModule"],
        "lightning_cli": ["DerainCLI"],
        "metrics": ["metaiqa", "piqe", "psnr_y", "ssim_y"],
        "models": ["create_model", "list_models"],
        "restoration": ["restore"],
    },
)
__all__ += ["__version__"]
