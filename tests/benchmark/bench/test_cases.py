"""The declared cases: every side exists, and the peers compute what we compute."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.bench.case import Setting, load
from benchmark.bench.cases import CASES, STUDIES, choose
from benchmark.bench.scaling import LABELS
from benchmark.bench.sides import pictures
from benchmark.cli import main
from benchmark.errors import UserError


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("cpu", 1, tmp_path)


def test_names_are_unique_and_every_side_exists() -> None:
    assert len({c.name for c in CASES}) == len(CASES)
    for case in CASES:
        for side in (case.ours, *(p.side for p in case.peers)):
            assert callable(load(side)), side
        assert case.peers or case.limit is not None


def test_choosing() -> None:
    cases, studies = choose([])
    studies_of_all = studies
    assert tuple(cases) == CASES and list(studies) == list(STUDIES)
    cases, studies = choose(["neuron/forward", "metrics"])
    assert {c.name.split("/")[0] for c in cases} == {"neuron", "metrics"} and not studies
    assert choose(["scaling/T"]) == ([], {"scaling": ["T"]})
    assert (
        set(choose(["scaling"])[1]["scaling"]) == set(LABELS) and "mprnet" in studies_of_all["reproduction"]
    )
    with pytest.raises(UserError, match="did you mean 'neuron/forward'"):
        choose(["neuron/forwrad"])


def test_listing_and_wrong_words_need_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    code = "from benchmark.cli import main; import sys; a = main(['bench', '--list'])"
    code += "; b = main(['bench', '--only', 'x']); assert (a, b) == (0, 2) and 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    assert main(["bench", "--rounds", "1"]) == 2
    assert "--rounds: 1: at least 2" in capsys.readouterr().err


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "HEIGHT", 40)
    monkeypatch.setattr(pictures, "WIDTH", 56)
    monkeypatch.setattr(pictures, "_photographs", pictures._photographs.__wrapped__)
    metrics = importlib.import_module("benchmark.bench.sides.metrics")
    for name, value in {"_FILES": 3, "_AUTHORS_FILES": 2, "_DECODED": 2}.items():
        monkeypatch.setattr(metrics, name, value)


def _first(side: str, setting: Setting) -> torch.Tensor:
    result = load(f"sides.{side}")(setting)()
    assert isinstance(result, torch.Tensor)
    return result


@pytest.mark.parametrize("threads", [1, 2])
def test_the_metrics_of_all_sides_agree(few: None, tmp_path: Path, threads: int) -> None:
    pytest.importorskip("cv2")
    setting = Setting("cpu", threads, tmp_path)
    ours = _first("metrics:decoded", setting)
    assert ours.shape == (2, 2) and bool((ours[:, 0] > 10).all())
    torch.testing.assert_close(_first("metrics:authors_decoded", setting), ours, atol=1e-9, rtol=0)
    torch.testing.assert_close(_first("metrics:skimage_decoded", setting), ours, atol=1e-9, rtol=0)
    files = _first("metrics:files", setting)
    assert files.shape == (3, 2)
    torch.testing.assert_close(files[:2], ours, atol=0, rtol=0)
    torch.testing.assert_close(_first("metrics:authors_files", setting), files[:2], atol=1e-9, rtol=0)


def test_the_losses_agree(setting: Setting) -> None:
    torch.testing.assert_close(_first("metrics:authors_loss", setting), _first("metrics:loss", setting))
    # another border: near, not equal
    assert _first("metrics:torchmetrics_loss", setting).item() == pytest.approx(
        _first("metrics:loss", setting).item(), abs=0.02
    )


def test_the_crops_are_of_the_same_pictures(
    setting: Setting, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = importlib.import_module("benchmark.bench.sides.data")
    monkeypatch.setattr(data, "_PAIRS", 12)
    monkeypatch.setattr(data, "_PATCH", 24)
    monkeypatch.setattr(data, "_CALLS", 2)
    ours, theirs = _first("data:crops", setting), _first("data:authors_crops", setting)
    assert ours.shape == theirs.shape == (12, 3, 24, 24) and ours.dtype == theirs.dtype
    whole = [rainy for rainy, _ in pictures.clean_and_rainy(12)]
    for batch in (ours, theirs):
        crop = (batch[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert any(
            (np.lib.stride_tricks.sliding_window_view(w, (24, 24, 3))[:, :, 0] == crop).all((2, 3, 4)).any()
            for w in whole
        )
    data.build(setting)()
    assert not list(setting.scratch.glob("built-*"))
    data.decode(setting)()


def test_the_neurons_agree(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    neuron = importlib.import_module("benchmark.bench.sides.neuron")
    monkeypatch.setattr(neuron, "_SHAPES", {"cpu": (4, 2, 3, 8, 8)})
    spikes = _first("neuron:forward", setting)
    assert 0.05 < spikes.mean() < 0.6
    assert torch.equal(_first("neuron:snntorch_forward", setting), spikes)
    assert _first("neuron:copy_training", setting).numel() == 5 * spikes.numel() // 2
    pytest.importorskip("spikingjelly")
    assert torch.equal(_first("neuron:spikingjelly_forward", setting), spikes)
    gradient = _first("neuron:training", setting)
    torch.testing.assert_close(_first("neuron:spikingjelly_training", setting), gradient, atol=1e-6, rtol=0)


def test_a_network_trains_and_restores_on_both_sides(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("spikingjelly")
    esdnet = importlib.import_module("benchmark.bench.sides.esdnet")
    made = esdnet.create_model

    def small(name: str) -> torch.nn.Module:
        return made(name, dim=16, encoder_blocks=[1, 1, 1], bottleneck_blocks=1, decoder_blocks=[1, 1])

    monkeypatch.setattr(esdnet, "create_model", small)
    monkeypatch.setattr(esdnet, "_BATCH", 2)
    monkeypatch.setattr(esdnet, "_PATCH", 32)
    monkeypatch.setattr(esdnet, "_SIZES", {"256": (96, 104)})
    ours, theirs = esdnet.step(setting), esdnet.peer_step(setting)
    assert ours().item() == pytest.approx(theirs().item(), abs=1e-4)
    after = ours().item()
    assert after == pytest.approx(theirs().item(), abs=1e-3)
    restored = _first("esdnet:restore_256", setting)
    torch.testing.assert_close(_first("esdnet:peer_restore_256", setting), restored, atol=1 / 255, rtol=0)
