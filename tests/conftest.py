"""What every test may use."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# the tests share the cores among processes: threads of one would only wait for those of another
os.environ.setdefault("OMP_NUM_THREADS", "1")

# the same examples every time: a change is to blame for a failure; HYPOTHESIS_PROFILE=explore tries others
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of outside references (fixtures, metric values, real pictures); absent on a user's machine."""
    path = Path(os.environ.get("DERAIN_SHARED", ROOT.parent / "shared"))
    if not (path / "parity" / "parity.py").is_file():
        pytest.skip(f"no reference folder at {path} (set DERAIN_SHARED)")
    return path


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    """A data set of two pairs of 30×24 pixels, input/ and target/, in the folder "set" of the test's."""
    from PIL import Image

    folder = tmp_path / "set"
    for side in ("input", "target"):
        (folder / side).mkdir(parents=True)
        for i in range(2):
            pixels = np.random.default_rng(i).integers(0, 256, (24, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / side / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
