"""A package from outside registers a network; it is listed, trained and tabulated like ours."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark import catalog, create_model
from benchmark.cli import main
from benchmark.data.images import write_image

MODULE = '''
from torch import nn
from benchmark.catalog import Network


class Shift(nn.Module):
    """Adds a learned colour to the rainy image."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, channels, 1)

    def forward(self, rainy):
        assert rainy.shape[-1] % 16 == 0
        return rainy + self.mix(rainy)


ENTRY = Network(
    name="shift", title="Shift (ours)", target="derain_shift:Shift", family="CNN", year=2026, venue="nowhere",
    citation="@misc{shift}", code="me/shift@0", licence="MIT", weights="none released", size_multiple=16,
)
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed by pip from a wheel."""
    folder = tmp_path_factory.mktemp("plugin")
    wheel = folder / "derain_shift-1.0-py3-none-any.whl"
    info = "derain_shift-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("derain_shift.py", MODULE)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: derain-shift\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/entry_points.txt", "[derain.networks]\nshift = derain_shift:ENTRY\n")
        archive.writestr(f"{info}/RECORD", "")
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(folder / "site")]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, capture_output=True)
    return folder / "site"


@pytest.fixture
def with_package(derain: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`derain` where the packages of a folder are installed."""
    return lambda site, *words: derain.run(*words, env={**os.environ, "PYTHONPATH": str(site)})


def test_a_network_from_outside_is_a_row_of_table_1(site: Path, tmp_path: Path, with_package: Any) -> None:
    assert "Shift (ours)" in with_package(site, "models").stdout
    words = [
        "recipe.steps=1",
        "recipe.batch=1",
        "recipe.patch=16",
        "--models",
        "shift",
        "--runs",
        str(tmp_path),
    ]
    done = with_package(site, "table", "1", *words)
    assert done.returncode == 0, done.stderr
    (row,) = [
        line for line in (tmp_path / "tables/embedded/table1.md").read_text().splitlines() if "Shift" in line
    ]
    assert "<sup>" not in row, "every cell of the row is measured"
    assert row.rstrip(" |").endswith("0.001"), "12 parameters, 9 × 65,536 multiply-accumulates"
    wrong = with_package(site, "config", "model=shift", "model.chanels=4")
    assert wrong.returncode == 2 and "did you mean 'channels'" in wrong.stderr


def test_without_the_package_the_name_is_unknown(tmp_path: Path, with_package: Any) -> None:
    assert "unknown model 'shift'" in with_package(tmp_path, "models", "shift").stderr


def _package(folder: Path, name: str, group: str, code: str) -> None:
    module = name.replace("-", "_")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nentry = {module}:ENTRY\n")


DATASET = """
from benchmark.data.specs import Dataset
ENTRY = Dataset(name={name!r}, title="Mine", about="of my own", published={{"train": 2, "test": 2}}, root={root!r})
"""

BROKEN = {
    "derain-missing": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "derain-exits": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "derain-raises": ("raise ValueError('one\\ntwo')", "ValueError: one"),
    "derain-empty": ("", "AttributeError"),
    "derain-kind": ("ENTRY = 3", "is a int, not a benchmark."),
}


METRIC = """
from benchmark.metrics.measures import Metric

def make(file):
    return lambda restored, target: (restored - target).abs().mean((1, 2, 3))

ENTRY = Metric({name!r}, "MAE", True, make, packages=("derain_mae",))
"""


def test_a_metric_from_outside(tmp_path: Path) -> None:
    _package(tmp_path, "derain-mae", "derain.metrics", METRIC.format(name="mae"))
    _package(tmp_path, "derain-rainy", "derain.metrics", METRIC.format(name="rainy_mae"))
    for package, (code, _) in BROKEN.items():
        _package(tmp_path, package, "derain.metrics", code)
    code = (
        "import torch; from benchmark.metrics import measures\n"
        "(ready,), told = measures.opened(['mae'])\n"
        "print(ready(torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)), told)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.startswith("[1.0] {'mae': {'title': 'MAE', 'lower_better': True"), done.stderr
    assert "'source': 'derain_mae 1.0'" in done.stdout
    assert len(done.stderr.splitlines()) == 1 + len(BROKEN)
    assert "another column is called 'rainy_mae'" in done.stderr


@pytest.mark.parametrize("group", ["derain.networks", "derain.datasets"])
def test_a_package_that_cannot_be_used_is_a_line_and_the_rest_works(
    tmp_path: Path, group: str, with_package: Any
) -> None:
    for package, (code, _) in BROKEN.items():
        _package(tmp_path, package, group, code)
    done = with_package(tmp_path, *(["models"] if group == "derain.networks" else ["data", "list"]))
    assert done.returncode == 0
    assert ("PReNet" if group == "derain.networks" else "rain200h") in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == len(BROKEN), done.stderr
    for package, (_, why) in BROKEN.items():
        (line,) = [told for told in lines if f"package {package} is left out ({group}: " in told]
        assert why in line


def _pictures(folder: Path) -> None:
    """A data set of two pairs to train on and two to test."""
    for split in ("train", "test"):
        for side in ("input", "target"):
            for i in (1, 2):
                generator = np.random.default_rng([i, side == "target", split == "test"])
                write_image(
                    folder / split / side / f"{i}.png", generator.integers(0, 256, (24, 32, 3), np.uint8)
                )


def test_a_dataset_from_outside(tmp_path: Path, with_package: Any) -> None:
    _pictures(tmp_path / "pictures")
    site = tmp_path / "site"
    _package(
        site, "derain-mine", "derain.datasets", DATASET.format(name="mine", root=str(tmp_path / "pictures"))
    )
    for package, name in (("derain-taken", "rain200h"), ("derain-strange", "a/b@c")):
        _package(site, package, "derain.datasets", DATASET.format(name=name, root=None))
    listed = with_package(site, "data", "list", "mine")
    assert listed.stdout.startswith("Mine: of my own") and "(read" not in listed.stdout
    assert "package derain-taken is left out" in with_package(site, "data", "list").stderr
    assert "'a/b@c' is no name" in with_package(site, "data", "list").stderr
    words = [
        "model=prenet",
        "data=mine",
        "recipe=embedded",
        "recipe.steps=1",
        "recipe.batch=1",
        "recipe.patch=16",
    ]
    done = with_package(
        site, "train", *words, "logger=csv", f"out={tmp_path / 'runs'}", f"data.cache={tmp_path / 'cache'}"
    )
    assert done.returncode == 0 and "mine: PSNR-Y" in done.stdout, done.stderr


FAILING = """
import torch
from torch import nn
from benchmark.catalog import Network


class Negative(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return -x
    @staticmethod
    def backward(ctx, g): raise KeyError("no such gradient")


class Failing(nn.Module):
    def __init__(self, way: str = "none") -> None:
        super().__init__()
        self.way, self.mix = way, nn.Identity() if way == "no parameters" else nn.Conv2d(3, 3, 1)

    def forward(self, rainy):
        made = self.mix(rainy)
        match self.way:
            case "raises": raise ValueError("a bad shape\\nof two lines")
            case "exits": raise SystemExit("bye")
            case "raises in a test":
                if not self.training: raise IndexError("in a test")
            case "nothing": return None
            case "two": return made, made
            case "narrow": return made[..., 1:]
            case "whole numbers": return made.int()
            case "detached": return made.detach()
            case "backward": return Negative.apply(made)
        return made


ENTRY = Network(
    name="failing", title="Failing", target="derain_failing:Failing", family="CNN", year=2026, venue="nowhere",
    citation="@misc{failing}", code="me/failing@0", licence="MIT", weights="none released",
)
"""
WAYS = {
    "raises": "its forward failed: ValueError: a bad shape (derain_failing.py, line 22)",
    "exits": "its forward failed: SystemExit: bye (derain_failing.py, line 23)",
    "nothing": "its forward made something of the type NoneType, not the restored (1, 3, 16, 16)",
    "two": "its forward made something of the type tuple, not the restored (1, 3, 16, 16)",
    "narrow": "its forward made (1, 3, 16, 15), not the restored (1, 3, 16, 16)",
    "whole numbers": "its forward made torch.int32, not a floating-point type",
    "detached": "its forward made a result without gradients: nothing can be trained",
    "backward": "its backward failed: KeyError: 'no such gradient' (derain_failing.py, line 11)",
    "raises in a test": "its forward failed: IndexError: in a test (derain_failing.py, line 25)",
    "no parameters": "it has no parameters that can be trained",
}


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network `failing` from outside, in this process."""
    (tmp_path / "derain_failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "derain_failing", raising=False)
    import derain_failing  # type: ignore[import-not-found]

    monkeypatch.setattr(catalog, "networks", lambda: {"failing": derain_failing.ENTRY})


@pytest.mark.parametrize("way", WAYS)
def test_code_from_outside_that_fails_is_a_line_and_the_traceback_is_kept(
    tmp_path: Path, failing: None, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    """In a training, and in the test after it."""
    _pictures(tmp_path / "pictures")
    words = [
        f"data.root={tmp_path / 'pictures'}",
        "recipe=embedded",
        "recipe.steps=1",
        "recipe.batch=1",
        "recipe.patch=16",
    ]
    words += ["data=folder", "logger=csv", "trainer.accelerator=cpu", f"data.cache={tmp_path / 'cache'}"]
    status = main(["train", "model=failing", f"model.way={way}", *words, f"out={tmp_path / 'runs'}"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("derain: ")]
    assert lines == [f"derain: model 'failing': {WAYS[way]}"]
    assert status == (2 if way == "no parameters" else 1)
    (path,) = (tmp_path / "runs").rglob("failure.json")
    failure = json.loads(path.read_text())
    assert failure["state"] == "failed" and failure["reason"] == lines[0].removeprefix("derain: ")
    assert bool(failure["traceback"]) == ("failed:" in WAYS[way]), "where something was raised"


def test_code_from_outside_that_works_is_left_alone(failing: None) -> None:
    """Without gradients, with frozen parameters, copied, in whatever mode."""
    rainy = torch.rand(1, 3, 16, 20)
    with torch.inference_mode():
        assert create_model("failing", way="detached")(rainy).shape == rainy.shape
    frozen = copy.deepcopy(create_model("failing")).requires_grad_(False)
    assert frozen(rainy).shape == rainy.shape
    assert create_model("failing", way="no parameters").train()(rainy).equal(rainy)
