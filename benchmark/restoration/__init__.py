"""Restoring pictures and videos of any size, whole or in tiles, within the memory there is.

The names below are imported when they are used: this package alone imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.restoration.restoring import restore_files as restore_files
    from benchmark.restoration.tiling import restore as restore

_HOME = {"restore": "tiling", "restore_files": "restoring"}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"benchmark.restoration.{_HOME[name]}"), name)
    raise AttributeError(f"module 'benchmark.restoration' has no attribute {name!r}")
