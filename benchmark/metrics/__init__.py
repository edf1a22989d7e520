"""Measures of restored pictures: against their targets, without them, and other packages'.

The names below are imported when they are used: this package alone imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.metrics.fidelity import CONVENTIONS as CONVENTIONS
    from benchmark.metrics.fidelity import psnr_y as psnr_y
    from benchmark.metrics.fidelity import ssim_y as ssim_y
    from benchmark.metrics.meters import PSNRY as PSNRY
    from benchmark.metrics.meters import SSIMY as SSIMY
    from benchmark.metrics.noreference import metaiqa as metaiqa
    from benchmark.metrics.noreference import piqe as piqe

_HOME = {
    "CONVENTIONS": "fidelity",
    "psnr_y": "fidelity",
    "ssim_y": "fidelity",
    "PSNRY": "meters",
    "SSIMY": "meters",
    "piqe": "noreference",
    "metaiqa": "noreference",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"benchmark.metrics.{_HOME[name]}"), name)
    raise AttributeError(f"module 'benchmark.metrics' has no attribute {name!r}")
