"""How costs grow with the image, and what one forward takes on the machine at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from benchmark import catalog
from benchmark.cost.compare import load_target
from benchmark.cost.counter import measure_cost
from benchmark.cost.pictures import Images
from benchmark.cost.result import Cost
from benchmark.errors import first_line
from benchmark.resident import forget_peak, resident

if TYPE_CHECKING:
    import pandas as pd


def scalability(
    names: Sequence[str] = (),
    sizes: Sequence[int] = (256, 512, 720),
    images: Images = None,
    time_limit: float | None = 300.0,
    build: Callable[[str], tuple[nn.Module, str]] | None = None,
    printed: Mapping[str, Mapping[str, float]] | None = None,
    progress: Callable[[str], None] | None = None,
    timed: Callable[[str, int, float], Run] | None = None,
) -> pd.DataFrame:
    """How operations, energy, latency and memory grow with the image (Table 1 of SpikeRain's supplement).

    Operations are exact at every size. Rates are measured at the first size and carried over, layer by layer,
    to the others. Latency and peak memory are those of one forward of an untrained network in a process of
    its own on this machine; a size that takes longer than `time_limit`, or more memory than there is, leaves
    them empty and says so.

    Args:
        names: Networks; none means all.
        sizes: Heights and widths in pixels, the smallest first.
        images: For the rates, see `measure_cost`.
        time_limit: Seconds for one size of one network; None measures neither latency nor memory.
        build: See `measure_networks`.
        printed: SpikeRain's printed table by input size, with `flops_g` and `energy_mj`.
        progress: Told what is being done.
        timed: Times a forward of a network at a size within a limit; None is `run_once`
            (`benchmark.run.costs.KeptForwards` goes on where it was cut).
    """
    import pandas as pd

    timed = timed or run_once
    rows = []
    for name in names or list(catalog.networks()):
        entry = catalog.network(name)
        model = build(name)[0] if build is not None else load_target(name)
        reference: Cost | None = None
        late = False
        for size in sorted(sizes):
            if progress is not None:
                progress(f"{entry.title} at {size} x {size}")
            if reference is None and entry.family == "Spiking":
                cost = measure_cost(model, size, images=images)
                reference = cost
            else:
                cost = measure_cost(model, size, shapes_only=True, rates=reference)
            full, seen = cost.under("full"), cost.under("paper")
            row: dict[str, Any] = {
                "network": entry.title,
                "size": size,
                "macs_g": full.macs / 1e9,
                "accumulates_g": full.accumulates / 1e9,
                "operations_g": full.operations / 1e9,
                "sops_g": full.sops / 1e9,
                "flops_thop_g": seen.macs / 1e9,
                "energy_full_mj": full.energy_uj / 1e3,
                "energy_45nm_mj": cost.under("45nm").energy_uj / 1e3,
                "energy_paper_mj": seen.energy_uj / 1e3,
            }
            if printed is not None:
                paper = printed.get(str(size), {}) if name == "spikerain" else {}
                row["flops_printed_g"] = paper.get("flops_g")
                row["energy_printed_mj"] = paper.get("energy_mj")
            if time_limit is not None:
                run = _TOO_LATE if late else timed(name, size, time_limit)
                late = late or run.seconds is None
                row["latency_s"], row["peak_memory_gb"] = run.seconds, run.gigabytes
                row["note"] = run.note
            rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Run:
    """One timed forward: seconds and peak memory above what was there before, or why there are none."""

    seconds: float | None
    gigabytes: float | None
    note: str = ""


_TOO_LATE = Run(None, None, "the size before took too long")


def run_once(target: str, size: int, time_limit: float = 300.0) -> Run:
    """Latency and peak memory of one forward, in a process of its own so that a peak is this network's
    alone."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_forward, args=(target, size, theirs), daemon=True)
    process.start()
    theirs.close()
    answer: Any = None
    if ours.poll(time_limit):
        try:
            answer = ours.recv()
        except EOFError:
            answer = "ended without an answer: out of memory?"
    else:
        answer = f"longer than {time_limit:g} s"
    process.kill()
    process.join()
    return answer if isinstance(answer, Run) else Run(None, None, str(answer))


def _forward(target: str, size: int, answer: Any) -> None:
    import torch

    try:
        model = load_target(target).eval()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model.to(device)
        with torch.inference_mode():
            # kernels are chosen and threads started before the clock runs
            model(torch.rand(1, 3, 64, 64, device=device))
            image = torch.rand(1, 3, size, size, device=device)
            before = _held(device)
            started = time.perf_counter()
            model(image)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        memory = (_peak(device) - before) / 1e9
        name = (
            torch.cuda.get_device_name()
            if device.type == "cuda"
            else f"CPU, {torch.get_num_threads()} threads"
        )
        answer.send(Run(seconds, memory, name))
    except Exception as error:
        answer.send(f"{type(error).__name__}: {first_line(error)}")


def _held(device: Any) -> int:
    """Bytes held now, on the device or by the process; `_peak` counts from here."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    forget_peak()
    return resident()[0]


def _peak(device: Any) -> int:
    """The most bytes held since."""
    import torch

    return torch.cuda.max_memory_allocated() if device.type == "cuda" else resident()[1]
