"""Text and JSON in one piece, and the early check that a folder can be written to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.data.files import atomic


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file in one piece."""
    with atomic(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data as JSON in one piece; infinite numbers become the strings "inf" and "-inf".

    Raises:
        ValueError: there is a NaN in it.
    """
    write_text(path, json.dumps(_finite(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(k): _finite(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(v) for v in data]
    if isinstance(data, float) and data in (float("inf"), float("-inf")):
        return "inf" if data > 0 else "-inf"
    return data


def require_writable(folder: str | Path) -> None:
    """Refuse early to work towards a folder that cannot be written to.

    Raises:
        UserError: it cannot be made or written to.
    """
    probe = Path(folder) / ".derain-probe"
    with atomic(probe) as temporary:
        temporary.write_bytes(b"x")
    probe.unlink(missing_ok=True)
