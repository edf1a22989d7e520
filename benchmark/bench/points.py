"""One training step of one network at one size, measured in a process of its own.

The process ends with its memory: the next point starts from nothing, and one that does not fit says so and stops
nothing else. Run as a program it takes a `Point` as JSON and prints what it measured as JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmark.bench.case import NotMeasured
from benchmark.bench.power import Power
from benchmark.resident import forget_peak, keep_freed_memory, resident

Measured = dict[str, Any]

_CONVOLUTIONS = ("convolution", "conv2d", "conv3d", "conv_transpose", "conv3x3")


@dataclass(frozen=True)
class Point:
    """What is trained for a few steps.

    Attributes:
        model: a network's name.
        options: constructor options that differ from its defaults.
        batch: crops a step.
        patch: side of a crop, pixels.
        device: "cpu" or "cuda".
        threads: of torch.
        least: steps that are timed at least, after one that is not.
        seconds: of timing after which no further step is begun.
        details: also count operations and energy, and profile one step.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 12
    patch: int = 64
    device: str = "cpu"
    threads: int = 1
    least: int = 2
    seconds: float = 10.0
    details: bool = False


def measure_point(point: Point) -> Measured:
    """Measure a point in a new process.

    Returns:
        "steps", the seconds of each timed step; "seconds", their median; "processor", the mean of their processor
        seconds, all threads together; "peak", bytes (above the imports on a CPU,
        PyTorch's allocations on a GPU); "watts", None where the device does not say; with `details` also "macs" and
        "energy_uj" of one forward of the batch and "convolutions", their share of a step's time.

    Raises:
        NotMeasured: the process failed; its last line says why.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.bench.points", json.dumps(asdict(point))],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise NotMeasured(last[:200]) from None
    return {**found, "seconds": statistics.median(found["steps"])}


def _measured(point: Point) -> Measured:
    import torch

    from benchmark.models import create_model
    from benchmark.spec import resolve
    from benchmark.training.module import Restoration

    keep_freed_memory()
    torch.set_num_threads(point.threads)
    torch.manual_seed(0)
    forget_peak()
    before, _ = resident()
    recipe = resolve([f"model={point.model}", "recipe=paper"]).recipe
    network = create_model(point.model, **point.options).to(point.device).train()
    module = Restoration(network, recipe, total_steps=1000, steps_per_epoch=100, description={})
    optimizer = module.configure_optimizers()["optimizer"]
    target = torch.rand(point.batch, 3, point.patch, point.patch, device=point.device)
    rainy = (target + 0.2 * (torch.rand_like(target) > 0.9)).clamp_(0, 1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        module.loss([module.network(rainy).float()], rainy, target).backward()
        optimizer.step()
        if point.device == "cuda":
            torch.cuda.synchronize()

    step()
    steps: list[float] = []
    used = time.process_time()
    with Power(point.device) as power:
        while len(steps) < point.least or sum(steps) < point.seconds:
            begin = time.perf_counter()
            step()
            steps.append(time.perf_counter() - begin)
    used = (time.process_time() - used) / len(steps)
    peak = torch.cuda.max_memory_allocated() if point.device == "cuda" else resident()[1] - before
    found = {"steps": steps, "processor": used, "peak": peak, "watts": power.watts}
    if point.details:
        found |= {"convolutions": _share_of_convolutions(step, point.device), **_counted(network, point)}
    return found


def _counted(network: Any, point: Point) -> Measured:
    from benchmark.cost import measure_cost

    cost = measure_cost(network.eval(), point.patch, "full")
    return {
        "macs": point.batch * (cost.macs + cost.accumulates),
        "energy_uj": point.batch * cost.energy_uj,
    }


def _share_of_convolutions(step: Callable[[], None], device: str) -> float:
    from torch.profiler import ProfilerActivity, profile

    cuda = device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        step()
    total = convolutions = 0.0
    for event in profiler.key_averages():
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        total += own
        if any(word in event.key.lower() for word in _CONVOLUTIONS):
            convolutions += own
    return convolutions / total if total else 0.0


if __name__ == "__main__":
    print(json.dumps(_measured(Point(**json.loads(sys.argv[1])))))
