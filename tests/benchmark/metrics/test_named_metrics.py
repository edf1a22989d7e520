"""pyiqa's other metrics by name: never fetched, never unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.errors import UserError
from benchmark.metrics import named


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pyiqa's folder of weights, empty."""
    from pyiqa.utils import download_util

    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path))
    named.named_metric.cache_clear()
    yield tmp_path
    named.named_metric.cache_clear()


def test_a_metric_without_weights() -> None:
    metric = named.named_metric("entropy")
    scores = metric(torch.rand(3, 3, 40, 50))
    assert scores.shape == (3,) and scores.dtype == torch.float64 and bool((scores > 6).all())
    assert metric(torch.full((1, 3, 40, 50), 0.5)).item() < 1


def test_nothing_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    connect = socket.socket.connect
    with pytest.raises(UserError, match=r"niqe_modelparameters\.mat, which is not fetched: put it into"):
        named.named_metric("niqe")
    with pytest.raises(UserError, match="metric topiq_nr cannot be made"):
        named.named_metric("topiq_nr")  # its backbone comes from another place
    assert list(cache.iterdir()) == []
    assert socket.socket.connect is connect and torch.load.__name__ == "load"


def test_weights_that_the_user_has(cache: Path) -> None:
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    savemat(
        cache / "niqe_modelparameters.mat",
        {"mu_prisparam": rng.normal(size=(1, 36)), "cov_prisparam": np.eye(36)},
    )
    metric = named.named_metric("niqe")
    assert metric.lower_better and metric(torch.rand(1, 3, 200, 200)).item() > 0


def test_pickled_code_is_not_run(cache: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (cache / "sprung",))

    torch.save({"params": Trap()}, cache / "CNNIQA_koniq10k-e6f14c91.pth")
    with pytest.raises(UserError, match="metric cnniqa cannot be made"):
        named.named_metric("cnniqa")
    assert not (cache / "sprung").exists()


def test_names() -> None:
    assert {"niqe", "brisque", "musiq"} < set(named.names()) and not {"piqe", "fid", "psnr"} & set(
        named.names()
    )
    with pytest.raises(UserError, match="did you mean 'niqe'"):
        named.lower_better("niqqe")
