"""Restoring pictures and videos of any size, whole or in tiles, within the memory there is.

The names below are imported when they are used: this package alone imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from benchmark.restoration.restoring import restore_files as restore_files
    from benchmark.restoration.tiling import restore as restore

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"tiling": ["restore"], "restoring": ["restore_files"]}
)
