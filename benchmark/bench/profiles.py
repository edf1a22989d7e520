"""Where the time goes in a call: what explains a ratio that is not reached."""

from __future__ import annotations

import cProfile
import io
import pstats

from benchmark.bench.case import Body
from benchmark.run.records import without_home

_ROWS = 20


def of_operators(call: Body, device: str) -> str:
    """The operators of one call that take the most time, with the shapes of their inputs."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities, record_shapes=True) as profiler:
        call()
    order = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    averages = profiler.key_averages(group_by_input_shape=True)
    return str(
        averages.table(sort_by=order, row_limit=_ROWS, max_shapes_column_width=60, max_name_column_width=45)
    )


def of_functions(call: Body) -> str:
    """The Python functions of one call in which the most time passes."""
    profiler = cProfile.Profile()
    profiler.runcall(call)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(_ROWS)
    return without_home(text.getvalue())
