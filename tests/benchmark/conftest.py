"""Small weights that stand for those that ship."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from benchmark import create_model, shipped
from benchmark.files import file_digest, write_json

OPTIONS: dict[str, dict[str, Any]] = {
    "nafnet": {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
    "esdnet": {
        "dim": 4,
        "encoder_blocks": [1, 1, 1],
        "bottleneck_blocks": 0,
        "decoder_blocks": [1, 1],
        "time_steps": 2,
    },
}


def _ship(folder: Path, name: str) -> None:
    torch.manual_seed(3)
    path = folder / f"{name}-general.safetensors"
    model = create_model(name, **OPTIONS[name])
    save_file(model.state_dict(), path, {"format": "pt"})
    card = {
        "network": name,
        "weights": "general",
        "title": name.upper(),
        "options": OPTIONS[name],
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": path.stat().st_size,
        "sha256": file_digest(path),
        "scores": {"Rain12": {"title": "Rain12", "psnr_esdnet": 34.1, "rainy_psnr_esdnet": 30.1}},
        "clean": {"psnr_esdnet": 41.5},
        "seconds_per_megapixel": {"seconds": 5.5, "threads": 2, "cores": 2},
        "cost": {"spike_rate": 0.139 if name == "esdnet" else None},
        "measured": {"machine": {"processor": "a machine"}},
        "terms": "for <research> & education",
        "limits": ["see through fog"],
    }
    write_json(path.with_suffix(".json"), card)


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of two shipped weights, and the folder that the command is given in."""
    (tmp_path / "weights").mkdir()
    for name in OPTIONS:
        _ship(tmp_path / "weights", name)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    shipped.shipped.cache_clear()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    shipped.shipped.cache_clear()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is written."""
    found: list[Figure] = []
    write = Figure.savefig

    def savefig(self: Figure, *arguments: Any, **more: Any) -> None:
        if self not in found:
            found.append(self)
        write(self, *arguments, **more)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return found
