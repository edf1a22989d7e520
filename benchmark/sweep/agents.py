"""W&B agents: the sweeps in `benchmark/sweeps/`, whose every run is a `derain train` that leaves the same record."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmark.errors import UserError, unknown
from benchmark.reading import path as expanded
from benchmark.reading import read_yaml
from benchmark.run.tracking import has_key, project

FOLDER = Path(__file__).resolve().parents[1] / "sweeps"


def sweeps() -> dict[str, Path]:
    """The sweeps that are shipped, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def start(name_or_path: str) -> int:
    """Register a sweep at W&B, which prints how to start agents; returns the exit status.

    Raises:
        UserError: no such sweep, no YAML that is read here, or no key.
    """
    path = (
        Path(expanded(name_or_path))
        if name_or_path.endswith((".yaml", ".yml"))
        else sweeps().get(name_or_path)
    )
    if path is None:
        raise unknown("sweep", name_or_path, sweeps())
    read_yaml(path, references=True)
    if not has_key():
        raise UserError(
            f"no key for W&B: set WANDB_API_KEY, or log in with: wandb login; then: wandb sweep {path}"
        )
    command = [sys.executable, "-m", "wandb", "sweep", "--project", project(), str(path)]
    return int(bool(subprocess.run(command, check=False).returncode))
