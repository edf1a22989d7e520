"""What makes two runs the same: all that the result depends on, and hashes of it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog
from benchmark.data.specs import DATASETS, dataset_spec
from benchmark.files import file_digest, real

if TYPE_CHECKING:
    from benchmark.spec.schema import RunSpec

# the rest (where files lie, how often to log) may change without making another run
_ASKED = (
    "model",
    "data.name",
    "data.accept_problems",
    "recipe",
    "evaluation.tile",
    "evaluation.overlap",
    "seed",
)


def digest(asked: Mapping[str, Any]) -> str:
    """The hash that identifies a question."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def question(spec: RunSpec) -> dict[str, Any]:
    """All that a run's result depends on, as plain data; `digest` of it is the identity."""
    asked: dict[str, Any] = {}
    for key in _ASKED:
        value: Any = functools.reduce(getattr, key.split("."), spec)
        asked[key] = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
    if spec.recipe.schedule.first is None:  # of a later version: left alone it does not make another run
        del asked["recipe"]["schedule"]["first"]
    start = asked["recipe"].pop("start_from")
    if start is not None:
        asked["recipe"]["start_from"] = file_digest(Path(start))
    asked["model"] = {"name": spec.model.name, "options": _own_options(spec)}
    if spec.data.exclude:
        asked["data.exclude"] = sorted(spec.data.exclude)
    if spec.data.rain:
        asked["data.rain"] = sorted(spec.data.rain)
    if spec.evaluation.also:
        asked["evaluation.also"] = sorted(_placed(name) for name in spec.evaluation.also)
    if spec.evaluation.metrics:
        from benchmark.metrics import measures

        asked["evaluation.metrics"] = sorted(measures.question(word) for word in spec.evaluation.metrics)
    if spec.data.name in ("folder", "photographs"):
        asked["data.root"] = str(real(Path(spec.data.root or ".")))
    return asked


def training(spec: RunSpec) -> str:
    """A hash of all that the trained weights depend on: runs that differ in how they are tested share it.

    But for the tiles, where the checkpoint is chosen by pictures restored in them.
    """
    asked = {key: value for key, value in spec.question.items() if not key.startswith("evaluation.")}
    tile, overlap = spec.tiling
    if spec.recipe.select == "best" and tile is not None:
        asked["chosen_in_tiles"] = [tile, overlap]
    return digest(asked)


def differences(other: Mapping[str, Any], spec: RunSpec) -> list[str]:
    """In what that matters to the result another run's settings (plain data) differ: "seed 4 there, 12 here"."""
    there, here = _leaves_of(other), _leaves_of(spec.plain())
    return [
        f"{key} {there.get(key, 'not set')} there, {here.get(key, 'not set')} here"
        for key in sorted(there.keys() | here.keys())
        if any(key == part or key.startswith(f"{part}.") for part in _ASKED)
        and there.get(key) != here.get(key)
    ]


def _leaves_of(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in listed(data).items():
        inner = _leaves_of(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        found.update(inner)
    return found


def _placed(name: str) -> str:
    """A test set's name, the folder it is in written out."""
    spec = dataset_spec(name)
    return name if spec.root is None or spec.name in DATASETS else str(real(Path(spec.root)))


def _own_options(spec: RunSpec) -> dict[str, Any]:
    """Options that differ from the constructor's defaults: saying a default does not make another network."""
    defaults = listed(default_options(spec.model.name))
    return {k: v for k, v in listed(spec.options).items() if k not in defaults or v != defaults[k]}


@functools.cache
def default_options(model: str) -> dict[str, Any]:
    """A network's constructor options and their defaults; not to be changed."""
    return catalog.network(model).options()


def listed(value: Any) -> Any:
    """Tuples as lists, so that an option written either way is the same run."""
    if isinstance(value, Mapping):
        return {k: listed(v) for k, v in value.items()}
    return [listed(v) for v in value] if isinstance(value, (list, tuple)) else value
