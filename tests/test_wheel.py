"""The wheel: all that the suite reads at run time is in it, and it works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("benchmark", "baselines", "esdnet", "ablations")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_file_of_the_packages_is_in_it(unpacked: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z", *PACKAGES], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout")
    files = [name for name in listed.stdout.split("\0") if name and not name.startswith("benchmark/bench/")]
    assert not (unpacked / "benchmark" / "bench").exists(), "what compares speeds is for a checkout"
    assert {Path(f).suffix for f in files} >= {
        ".py",
        ".c",
        ".yaml",
        ".html",
        ".css",
        ".js",
        ".json",
        ".safetensors",
    }
    assert [f for f in files if not (unpacked / f).is_file()] == []
    assert [
        f for f in files if (ROOT / f).is_file() and (unpacked / f).read_bytes() != (ROOT / f).read_bytes()
    ] == []


@pytest.mark.parametrize(
    "words", [["models", "nafnet"], ["config", "model=esdnet", "recipe=general"], ["--help"]]
)
def test_it_says_the_same_away_from_the_checkout(unpacked: Path, words: list[str], tmp_path: Path) -> None:
    said = []
    for place in (unpacked, ROOT):
        code = "import sys; from benchmark.cli import main; print(__import__('benchmark').__file__, file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; sys.exit(main())", *words],
            env={**os.environ, "PYTHONPATH": str(place)}, cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith(str(place))
        said.append(done.stdout)
    assert said[0] == said[1] and said[0]


def test_the_bench_is_said_to_be_of_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from benchmark.cli import main; sys.exit(main())", "bench", "--list"],
        env={**os.environ, "PYTHONPATH": str(unpacked)}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "run it in a checkout" in done.stderr and done.stderr.count("\n") == 1
