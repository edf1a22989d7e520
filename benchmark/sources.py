"""Which code made a result: a digest of the files that figures depend on, checkout or not."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
# networks, what feeds and trains them, what measures them; not how results are planned, drawn or told
_DECISIVE = (
    "esdnet",
    "baselines",
    "ablations",
    "benchmark/spec/recipes",
    "benchmark/data",
    "benchmark/training",
    "benchmark/metrics",
    "benchmark/restoration",
    "benchmark/run/evaluate.py",
    "benchmark/models.py",
    "benchmark/means.py",
)
_COUNTING = (*_DECISIVE, "benchmark/cost", "benchmark/catalog.py")
_OURS = ("esdnet", "baselines", "ablations", "benchmark")
_KINDS = (".py", ".c", ".h", ".yaml", ".yml")
_KINDS_OUTSIDE = (*_KINDS, ".cpp", ".cu", ".cuh", ".json", ".so", ".toml")


@cache
def code_digest(target: str = "") -> str:
    """Twelve digits that change with the code of the networks, the data, the training and the evaluation.

    Code is Python, C and YAML.

    Args:
        target: of the network that it is about, "package.module:Class". For one from outside, "+" and twelve digits of
            its package's files follow.
    """
    return _digest(_DECISIVE, target)


@cache
def counting_digest(target: str = "") -> str:
    """As `code_digest`, for what a network costs: with the counting and the catalogue."""
    return _digest(_COUNTING, target)


def _digest(places: tuple[str, ...], target: str) -> str:
    ours = ((f.relative_to(_ROOT).as_posix(), f) for place in places for f in _files(_ROOT / place, _KINDS))
    theirs = list(_outside(target))
    return "+".join([_of_files(ours), *([_of_files(theirs)] if theirs else [])])


def _of_files(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _files(path: Path, kinds: tuple[str, ...]) -> list[Path]:
    return (
        sorted(p for p in path.rglob("*") if p.suffix in kinds and p.is_file()) if path.is_dir() else [path]
    )


def _outside(target: str) -> Iterator[tuple[str, Path]]:
    """The files of the package that a network from outside comes from, and their names in it."""
    top = target.partition(":")[0].partition(".")[0]
    if not top or top in _OURS:
        return
    spec = importlib.util.find_spec(top)
    if spec is None:
        return
    for folder in spec.submodule_search_locations or ():
        for file in _files(Path(folder), _KINDS_OUTSIDE):
            yield file.relative_to(folder).as_posix(), file
    if spec.submodule_search_locations is None and spec.origin and Path(spec.origin).is_file():
        yield Path(spec.origin).name, Path(spec.origin)
