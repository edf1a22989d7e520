"""Which files the digest of the code sees."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmark import sources


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "esdnet/native.c",
        "esdnet/triton_lif.py",
        "baselines/prenet/__init__.py",
        "ablations/table3.yaml",
        "baselines/prenet/recipe.yaml",
        "benchmark/spec/recipes/paper.yaml",
        "benchmark/data/rain.py",
        "benchmark/training/train.py",
        "benchmark/metrics/metrics.c",
        "benchmark/means.py",
        "benchmark/restoration/tiling.py",
        "benchmark/run/evaluate.py",
        "benchmark/models.py",
        "benchmark/catalog.py",
        "benchmark/cost/counter.py",
        "benchmark/report/page.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(sources, "_ROOT", tmp_path)
    return tmp_path


def _digest(target: str = "") -> str:
    return sources._digest(sources._DECISIVE, target)


@pytest.mark.parametrize(
    ("file", "seen", "counted"),
    [
        ("esdnet/native.c", True, True),
        ("esdnet/triton_lif.py", True, True),
        ("benchmark/metrics/metrics.c", True, True),
        ("baselines/prenet/recipe.yaml", True, True),
        ("benchmark/spec/recipes/paper.yaml", True, True),
        ("ablations/table3.yaml", True, True),
        ("benchmark/cost/counter.py", False, True),
        ("benchmark/catalog.py", False, True),
        ("benchmark/report/page.py", False, False),
    ],
)
def test_what_a_figure_depends_on_changes_the_digest(
    root: Path, file: str, seen: bool, counted: bool
) -> None:
    before = _digest(), sources._digest(sources._COUNTING, "")
    (root / file).write_text("2")
    assert (_digest() != before[0]) == seen
    assert (sources._digest(sources._COUNTING, "") != before[1]) == counted


def test_every_file_that_is_compiled_here_is_seen() -> None:
    seen = {f for place in sources._DECISIVE for f in sources._files(sources._ROOT / place, sources._KINDS)}
    here = {f for top in sources._OURS for f in (sources._ROOT / top).rglob("*.c")}
    assert here and here <= seen


@pytest.mark.parametrize("package", [True, False], ids=["a package", "a module"])
def test_a_network_from_outside_brings_its_own_code(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, package: bool
) -> None:
    site = tmp_path_factory.mktemp("site")
    name = "derain_outside_package" if package else "derain_outside_module"
    file = site / name / "inner" / "kernel.cu" if package else site / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    if package:
        (site / name / "__init__.py").write_text("")
    file.write_text("1")
    monkeypatch.syspath_prepend(str(site))
    ours, theirs = _digest("baselines.prenet:PReNet"), _digest(f"{name}:Net")
    assert ours == _digest() != theirs
    file.write_text("2")
    assert _digest(f"{name}:Net") != theirs, "its update is other code"
    assert _digest("baselines.prenet:PReNet") == ours, "but no matter for ours"
    sys.modules.pop(name, None)
