"""Restoring pictures of any size and measuring them: one evaluator for tables, command line and dashboard.

The names below are imported when they are used: this package alone imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.evaluation.evaluate import measure_pictures as measure_pictures
    from benchmark.evaluation.evaluate import summary as summary
    from benchmark.evaluation.meters import PSNRY as PSNRY
    from benchmark.evaluation.meters import SSIMY as SSIMY
    from benchmark.evaluation.metrics import CONVENTIONS as CONVENTIONS
    from benchmark.evaluation.metrics import psnr_y as psnr_y
    from benchmark.evaluation.metrics import ssim_y as ssim_y
    from benchmark.evaluation.noreference import metaiqa as metaiqa
    from benchmark.evaluation.noreference import piqe as piqe
    from benchmark.evaluation.restoring import restore_files as restore_files
    from benchmark.evaluation.tiling import restore as restore

_HOME = {
    "CONVENTIONS": "metrics",
    "psnr_y": "metrics",
    "ssim_y": "metrics",
    "PSNRY": "meters",
    "SSIMY": "meters",
    "restore": "tiling",
    "summary": "evaluate",
    "measure_pictures": "evaluate",
    "piqe": "noreference",
    "metaiqa": "noreference",
    "restore_files": "restoring",
}

# `evaluate` is the module here; the function is benchmark.evaluation.evaluate.evaluate
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"benchmark.evaluation.{_HOME[name]}"), name)
    raise AttributeError(f"module 'benchmark.evaluation' has no attribute {name!r}")
