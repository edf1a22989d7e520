"""The page docs/adding.md, done as it stands there: its files, its commands."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.data.images import write_image

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r'^``` \{ \.(\w+)(?: title="([^"]+)")? \}\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adding")
    page = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    for _, title, text in _BLOCK.findall(page):
        if title:
            (folder / title).parent.mkdir(parents=True, exist_ok=True)
            (folder / title).write_text(text, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "derain_mine-1.0.dist-info"  # as pip would leave it
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for side in ("input", "target"):
            for i in (1, 2):
                picture = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                write_image(folder / "data" / "mine" / split / side / f"{i}.png", picture)
    return folder


def test_every_command_of_the_page_does_what_it_says(place: Path, derain: Any) -> None:
    page = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    lines = [
        line for kind, _, text in _BLOCK.findall(page) if kind == "console" for line in text.splitlines()
    ]
    assert len(lines) == 10
    path = os.pathsep.join([str(place), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}

    everything = ""
    for words in [line.split()[1:] for line in lines if line.startswith("derain ")]:
        done = derain.run(*words, cwd=place, env=environment)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        everything += done.stdout + done.stderr
    assert (
        "nowhere yet" in everything and "recipe.loss=own" in everything and "# recipe of small" in everything
    )
    table = (place / "runs/tables/embedded/table1.md").read_text()
    assert "| Small |" in table and "MAE ↓" in table and "<sup>" not in table
    study = (place / "runs/tables/embedded/width.md").read_text()
    assert "| narrow |" in study and "| wide |" in study
    (others,) = [line.split()[1:] for line in lines if not line.startswith("derain ")]
    done = derain.run(*others, cwd=place, env=environment)
    assert done.returncode == 0 and done.stdout.endswith(" done\n"), done.stderr
