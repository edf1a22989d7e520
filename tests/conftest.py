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
    path = Path(os.environ.get("ESDNET_SHARED", ROOT.parent / "shared"))
    if not (path / "parity" / "parity.py").is_file():
        pytest.skip(f"no reference folder at {path} (set ESDNET_SHARED)")
    return path


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
