"""Which code made a result: a digest of the files that figures depend on, checkout or not."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
# networks, what feeds and trains them, what measures them; not how results are planned, drawn or told
_DECISIVE = (
    "esdnet",
    "baselines",
    "ablations",
    "benchmark/data",
    "benchmark/training",
    "benchmark/evaluation",
    "benchmark/models.py",
)


@cache
def code_digest() -> str:
    """Twelve digits that change with the code of the networks, the data, the training and the evaluation."""
    digest = hashlib.sha256()
    for place in _DECISIVE:
        path = _ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(_ROOT).as_posix()}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
