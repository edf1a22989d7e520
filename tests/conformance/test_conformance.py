"""`make conformance`: what it says of code that computes the same, of code that does not, and of none."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent

# a folder like the authors', whose network is ours: with another output, another weight, or as it is
THEIRS = """
import torch
from baselines.prenet import PReNet as Network

class PReNet(Network):
    def __init__(self, iterations, use_GPU):
        super().__init__()
        {construct}
    def forward(self, x):
        return super().forward(x) {change}, []
"""


@pytest.fixture
def conformance(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance", HERE / "conformance.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "conformance", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("construct", "change", "status", "told"),
    [
        ("pass", "", 0, "keys equal  agrees"),
        ("pass", "* 1.01", 1, "9.9e-03       168,963  keys equal  DIFFERS"),
        ("self.more = torch.nn.Parameter(torch.zeros(3))", "", 1, "their weights do not load: "),
        (
            "raise OSError('no kernels')",
            "",
            1,
            "not compared: prenet: their code failed: OSError: no kernels",
        ),
    ],
)
def test_a_network_is_compared(
    conformance: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    construct: str,
    change: str,
    status: int,
    told: str,
) -> None:
    (tmp_path / "PReNet").mkdir()
    (tmp_path / "PReNet" / "networks.py").write_text(THEIRS.format(construct=construct, change=change))
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent.parent))
    monkeypatch.setattr(sys, "argv", ["conformance.py", str(tmp_path), "--only", "prenet"])
    assert conformance.main() == status
    out = capsys.readouterr().out
    assert told in out
    assert f"{1 - status} of 1 networks agree" in out


def test_what_cannot_be_had_is_named(
    conformance: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["conformance.py", str(tmp_path), "--only", "esdnet,sfnet"])
    assert conformance.main() == 1
    out = capsys.readouterr().out
    assert f"not compared: esdnet: no folder ESDNet in {tmp_path}" in out and "not compared: sfnet: " in out
    monkeypatch.setattr(
        conformance,
        "_git",
        lambda *words: conformance.subprocess.CompletedProcess(words, 128, "", "fatal: no\n"),
    )
    monkeypatch.setattr(sys, "argv", ["conformance.py", "--only", "sfnet"])
    assert conformance.main() == 1
    assert "sfnet: c-yn/SFNet@b2d3c69 cannot be had: fatal: no" in capsys.readouterr().out
    for words in (["--only", "smartassign"], [str(tmp_path / "none")]):
        monkeypatch.setattr(sys, "argv", ["conformance.py", *words])
        with pytest.raises(SystemExit) as ended:
            conformance.main()
        assert ended.value.code == 2


def test_every_network_with_public_code_has_what_it_takes(conformance: ModuleType) -> None:
    pinned = json.loads((HERE / "starts.json").read_text())["networks"]
    assert set(conformance.GAINS) == set(pinned)
