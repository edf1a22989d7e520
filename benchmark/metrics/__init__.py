"""Measures of restored pictures: against their targets, without them, and other packages'.

The names below are imported when they are used: this package alone imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from benchmark.metrics.fidelity import CONVENTIONS as CONVENTIONS
    from benchmark.metrics.fidelity import psnr_y as psnr_y
    from benchmark.metrics.fidelity import ssim_y as ssim_y
    from benchmark.metrics.meters import PSNRY as PSNRY
    from benchmark.metrics.meters import SSIMY as SSIMY
    from benchmark.metrics.noreference import metaiqa as metaiqa
    from benchmark.metrics.noreference import piqe as piqe

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fidelity": ["CONVENTIONS", "psnr_y", "ssim_y"],
        "meters": ["PSNRY", "SSIMY"],
        "noreference": ["metaiqa", "piqe"],
    },
)
