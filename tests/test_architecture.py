"""Who imports whom, and what answers without importing torch."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("esdnet", "baselines", "ablations", "benchmark")

# folder or file: the parts of this repository that it must not import
_OURS_BELOW = ("baselines", "ablations", "esdnet")


def _never(*parts: str) -> tuple[str, ...]:
    return tuple(f"benchmark.{part}" for part in (*parts, "cli", "bench"))


FORBIDDEN = {
    "esdnet": ("baselines", "ablations", "benchmark"),
    "baselines": ("ablations", "benchmark"),
    "ablations": ("baselines", "benchmark"),
    "benchmark/spec": (*_never("training", "restoration", "cost", "run", "sweep", "report"), "torch"),
    "benchmark/data": (
        *_never("spec", "metrics", "training", "restoration", "cost", "run", "sweep", "report"),
        *_OURS_BELOW,
    ),
    "benchmark/metrics": (
        *_never("training", "restoration", "cost", "run", "sweep", "report"),
        "baselines",
        "ablations",
    ),
    "benchmark/restoration": (
        *_never("training", "cost", "run", "sweep", "report"),
        "baselines",
        "ablations",
    ),
    "benchmark/training": (*_never("run", "sweep", "report"), "baselines", "ablations"),
    "benchmark/cost": (*_never("training", "run", "sweep", "report"), "baselines", "ablations"),
    "benchmark/run": (*_never("sweep", "report"), "baselines", "ablations"),
    "benchmark/sweep": (*_never("report"), "baselines", "ablations"),
    "benchmark/report": (
        *_never("training", "run", "sweep"),
        "torch",
        "pytorch_lightning",
        "baselines",
        "esdnet",
    ),
    "benchmark/text": (*_never("training", "restoration", "cost", "run", "sweep", "report"), "torch"),
}


# a published loss is made of the distances that all trainings have
EXCEPTED = {"loss.py": "benchmark.training.distances"}


PARTS = (
    "spec",
    "data",
    "metrics",
    "restoration",
    "training",
    "cost",
    "run",
    "sweep",
    "report",
    "text",
    "bench",
)


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("place", FORBIDDEN)
def test_the_arrows_hold(place: str) -> None:
    files = sorted((ROOT / place).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in _imports(path)
        if any(name == f or name.startswith(f + ".") for f in FORBIDDEN[place])
        if not (place == "baselines" and name.startswith(EXCEPTED.get(path.name, "-")))
    ]
    assert not wrong


@pytest.mark.parametrize("part", PARTS)
def test_no_part_knows_the_commands(part: str) -> None:
    files = sorted((ROOT / "benchmark" / part).rglob("*.py"))
    assert files
    assert not [path for path in files if any(n.startswith("benchmark.cli") for n in _imports(path))]


def test_only_the_command_line_knows_the_bench() -> None:
    knowing = {
        str(path.relative_to(ROOT))
        for part in OURS
        for path in (ROOT / part).rglob("*.py")
        if ROOT / "benchmark" / "bench" not in path.parents
        if any(name.startswith("benchmark.bench") for name in _imports(path))
    }
    assert knowing == {"benchmark/cli/made.py"}


def test_esdnet_stands_alone_with_torch_and_snntorch() -> None:
    allowed = set(sys.stdlib_module_names) | {
        "torch",
        "snntorch",
        "esdnet",
        "triton",
    }  # the last comes with torch for GPUs
    wrong = {
        n
        for path in (ROOT / "esdnet").rglob("*.py")
        for n in _imports(path)
        if n.split(".")[0] not in allowed
    }
    assert not wrong


@pytest.mark.parametrize(
    "code",
    [
        "from benchmark.cli import main; main(['--help'])",
        "from benchmark.cli import main; assert main(['train', 'model=esdnt']) == 2",
        "from benchmark.cli import main; assert main(['config', 'model=prenet', 'recipe=authors']) == 0",
        "from benchmark.cli import main; assert main(['train', 'model.dim=0']) == 2",
        "from benchmark.cli import main; assert main(['train', 'recipe.optimizer.lr=nan']) == 2",
        "from benchmark.cli import main; assert main(['train', 'data=rain200h']) == 2",
        "from benchmark.cli import main; assert main(['table', '1', 'model.dimm=3']) == 2",
        "from benchmark.cli import main; assert main(['models']) == 0",
        "from benchmark.cli import main; assert main(['bench', '--list']) == 0",
        "import benchmark.catalog, benchmark.spec, benchmark.data, benchmark.cost, benchmark.metrics",
    ],
)
def test_answers_without_torch(code: str) -> None:
    ending = (
        "\nimport sys; heavy = {'torch', 'torchvision', 'pyiqa', 'wandb', 'matplotlib', 'pytorch_lightning'}"
    )
    ending += " & set(sys.modules)\nassert not heavy, heavy"
    wrapped = f"try:\n    {code}\nexcept SystemExit: pass{ending}"
    done = subprocess.run([sys.executable, "-c", wrapped], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_what_the_owner_named_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = (
        "pytorch-lightning",
        "torch",
        "snntorch",
        "torchmetrics",
        "pyiqa",
        "wandb",
        "omegaconf",
        "pandas",
    )
    listed = " ".join(project["dependencies"])
    assert all(name in listed for name in named)
    assert "!=2.6.2" in listed and "!=2.6.3" in listed


def test_every_make_target_is_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = text.split(".PHONY:")[1].splitlines()[0].split()
    helped = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert all(f"  {target} " in helped for target in targets)


def _made(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-n", *words], capture_output=True, text=True, cwd=ROOT, check=False)


def test_settings_reach_the_tables_that_they_are_of() -> None:
    words = "SET=photographs=F piqe=reference metrics=niqe recipe.steps=2"
    lines = _made("report", words).stdout.splitlines()
    first, second = (next(line for line in lines if f" table {n} " in line).split() for n in (1, 2))
    assert first[-2:] == ["metrics=niqe", "recipe.steps=2"] and "photographs=F" not in first
    assert second[-4:] == ["photographs=F", "piqe=reference", "metrics=niqe", "recipe.steps=2"]
    for target in ("table1", "ablations", "table3", "table4", "table5"):
        assert "recipe.steps=2" in _made(target, "SET=recipe.steps=2").stdout, target


def test_columns_of_table_1_are_not_dropped_by_table_2() -> None:
    refused = _made("table2", "DATASETS=rain12")
    assert refused.returncode != 0 and "photographs=FOLDER" in refused.stderr
    assert "--datasets" in _made("report", "DATASETS=rain12").stdout, "of Table 1"
