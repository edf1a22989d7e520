"""What a run will take: from runs like it that are done on this machine, else from a step measured here."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError, WorkError, first_line
from benchmark.files import write_json
from benchmark.reading import json_of
from benchmark.resident import keep_freed_memory
from benchmark.run.records import machine, read_record
from benchmark.spec import RunSpec
from benchmark.sweep.plan import Planned

_FILE = "steptimes.json"
_ENOUGH = 10.0  # seconds that measuring one network may take, the step that passes them included
_STEPS = 5


@dataclass(frozen=True)
class Forecast:
    """What a run is expected to take.

    Attributes:
        seconds: of work; None if it is not known.
        memory_gb: of the GPU, at most during a step; None without one.
        source: where the figure is from: "records", "measured", or why there is none.
    """

    seconds: float | None = None
    memory_gb: float | None = None
    source: str = ""


class Forecaster:
    """Forecasts for the runs of a plan.

    Args:
        folder: of the runs, where measured step times are kept.
        runs: of the plan; those that are done tell of the others.
        done: names of those that are.
        threads: CPU threads that each run will have.
    """

    def __init__(self, folder: Path, runs: Iterable[Planned], done: Iterable[str], threads: int) -> None:
        self.threads = threads
        self._keys: dict[tuple[int, ...], tuple[str, str]] = {}
        self.path = folder / _FILE
        self.measured: dict[str, dict[str, Any]] = _kept(self.path)
        self.taken: dict[str, list[float]] = defaultdict(list)
        finished = set(done)
        seen: dict[str, int] = defaultdict(int)
        for run in runs:
            kind, _ = self._known(run.spec)
            if run.name in finished and seen[kind] < 5:  # so many tell enough
                seen[kind] += 1
                record = read_record(run.folder)
                if record is not None and record.get("machine") == machine():
                    took = record["training"]["seconds"] + record.get("test_seconds", 0.0)
                    self.taken[kind].append(float(took))

    def forecast(self, run: Planned, measure: Callable[[str], None] | None = None) -> Forecast:
        """What a run will take.

        Args:
            run: of the plan.
            measure: told the name of a network before a step of it is measured; None: nothing is measured.
        """
        kind, key = self._known(run.spec)
        before = self.taken.get(kind)
        if before:
            return Forecast(statistics.median(before), source="records")
        if key not in self.measured:
            if measure is None:
                return Forecast(source="not measured")
            measure(run.spec.model.name)
            try:
                self.measured[key] = measure_step(run.spec, self.threads)
                write_json(self.path, {"format": 1, "steps": self.measured})
            except (UserError, WorkError, RuntimeError, MemoryError) as error:
                self.measured[key] = {"failed": first_line(error)}
        found = self.measured[key]
        if "failed" in found:
            return Forecast(source=f"a step failed: {found['failed']}")
        steps = step_count(run.spec)
        if steps is None:
            return Forecast(memory_gb=found["memory_gb"], source="the data are not there")
        return Forecast(found["seconds"] * steps, found["memory_gb"], "measured")

    def _known(self, config: RunSpec) -> tuple[str, str]:
        """What runs of about the same duration have in common, and the key of the time of their step."""
        parts = (config.model, config.data, config.recipe, config.trainer)
        place = tuple(map(id, parts))  # runs that differ in the seed share them
        if place not in self._keys:
            key = step_key(config, self.threads)
            self._keys[place] = (f"{key} {config.data.name} {step_count(config)}", key)
        return self._keys[place]


def step_key(config: RunSpec, threads: int) -> str:
    """What the time of a step depends on: machine, threads, network, batch, patch, precision, loss."""
    recipe = config.recipe
    told = [
        machine(),
        config.trainer.threads or threads,
        config.trainer.accelerator,
        config.model.name,
        config.options,
        [recipe.batch, recipe.patch, recipe.precision, recipe.loss, recipe.optimizer.name],
    ]
    text = json.dumps(told, sort_keys=True, default=list)
    return f"{config.model.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


_counts: dict[tuple[str, str | None], int | None] = {}


def step_count(config: RunSpec) -> int | None:
    """Optimiser steps of a run; None where the data would have to be counted and are not there."""
    recipe = config.recipe
    if recipe.steps is not None:
        return recipe.steps
    epochs = recipe.epochs or 1
    if recipe.steps_per_epoch is not None:
        return epochs * recipe.steps_per_epoch
    place = (config.data.name, config.data.root)
    if place not in _counts:
        _counts[place] = _images(config)
    images = _counts[place]
    if images is None:
        return None
    held_out = min(round(recipe.validation * images), 100) if recipe.select == "best" else 0
    return epochs * max(1, (images - held_out) // recipe.batch)


def _images(config: RunSpec) -> int | None:
    from benchmark.data.layouts import list_pairs

    spec = dataset_spec(dataset_spec(config.data.name).training)
    if spec.embedded:
        return spec.published.get("train")
    try:
        return len(list_pairs(spec, config.data.root, "train", strict=False))
    except UserError:
        return spec.published.get("train")


def measure_step(config: RunSpec, threads: int) -> dict[str, Any]:
    """Time training steps of a run's network on random crops of the recipe's size.

    Returns:
        "seconds" of a step, the median; "memory_gb" at most on a GPU, else None; "steps" that were timed.
    """
    import torch

    from benchmark.models import create_model
    from benchmark.training.module import Restoration

    keep_freed_memory()
    recipe = config.recipe
    gpu = torch.cuda.is_available() and config.trainer.accelerator in ("auto", "gpu", "cuda")
    device = torch.device("cuda" if gpu else "cpu")
    torch.set_num_threads(config.trainer.threads or threads)
    torch.manual_seed(0)
    network: Any = create_model(config.model.name, **config.options).to(device).train()
    module = Restoration(network, recipe, 1000, 100, {})
    optimizer = module.configure_optimizers()["optimizer"]
    rainy = torch.rand(recipe.batch, 3, recipe.patch, recipe.patch, device=device)
    target = torch.rand_like(rainy)
    half = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(recipe.precision)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    began = time.monotonic()
    while len(times) < _STEPS + 1 and (len(times) < 2 or time.monotonic() - began < _ENOUGH):
        at = time.perf_counter()
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            outputs = network.training_outputs(rainy) if module.all_outputs else [network(rainy)]
        loss = module.loss([o.float() for o in outputs], rainy, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - at)
        if time.monotonic() - began > _ENOUGH:
            break
    timed = times[1:] or times  # the first one also builds what the others use again
    memory = round(torch.cuda.max_memory_allocated() / 1e9, 2) if gpu else None
    return {
        "seconds": statistics.median(timed),
        "memory_gb": memory,
        "steps": len(timed),
        "machine": machine(),
    }


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    try:
        told = json_of(path.read_text(encoding="utf-8"))
        return dict(told["steps"])
    except (OSError, ValueError, KeyError):
        return {}
