"""What a plan looks like before it is run."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmark.run.states import BROKEN, DONE, RUNNING, state_of
from benchmark.sweep.executors import ExecutorConfig
from benchmark.sweep.executors.local import LocalExecutor
from benchmark.sweep.forecast import Forecast, Forecaster
from benchmark.sweep.plan import Plan
from benchmark.text import output
from benchmark.text.words import duration

_SHOWN = 60  # characters of a reason


def show_plan(
    plan: Plan, executor: ExecutorConfig, folder: Path, retry: tuple[str, ...] = (), measure: bool = True
) -> None:
    """Print a plan's runs, their states and what they will take.

    Args:
        plan: the runs.
        executor: what would do them.
        folder: of the runs, where measured step times are kept.
        retry: states of earlier attempts that would be tried again.
        measure: a step of every network whose is not known; the time is kept in `folder`.
    """
    states = {run.name: state_of(run) for run in plan.runs}
    local = LocalExecutor(executor) if executor.name == "local" else None
    threads = local.threads if local else executor.cpus or 1
    forecaster = Forecaster(folder, plan.runs, (n for n, s in states.items() if s.name == DONE), threads)

    def measuring(network: str) -> None:
        print(f"measuring a step of {network} …", file=sys.stderr, flush=True)

    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    seconds, unknown, to_do = 0.0, 0, 0
    memory: float | None = None
    wide = max(len(run.label) for run in plan.runs)
    for run in plan.runs:
        state = states[run.name]
        counts[state.name] += 1
        expected, forecast = "", None
        if state.name != DONE and state.name != RUNNING and (state.name not in BROKEN or state.name in retry):
            to_do += 1
            forecast = forecaster.forecast(run, measuring if measure else None)
            expected = _expected(forecast)
            if forecast.seconds is None:
                unknown += 1
            else:
                seconds += forecast.seconds
            if forecast.memory_gb is not None:
                memory = max(memory or 0.0, forecast.memory_gb)
        rows.append(
            {
                "state": state.name,
                "run": run.label,
                "seconds": forecast and forecast.seconds,
                "gigabytes": forecast and forecast.memory_gb,
                "source": forecast.source if forecast else "",
                "reason": state.reason,
            }
        )
        reason = f"  ({state.reason[:_SHOWN]})" if state.reason else ""
        lines.append(f"{state.name:<13} {run.label:<{wide}}  {expected}{reason}".rstrip())
    lines += [f"left out {dataset}: {reason}" for dataset, reason in plan.absent.items()]
    every = f"{len(plan.runs)} run{'s' * (len(plan.runs) != 1)}"
    lines.append(f"{every}: {', '.join(f'{n} {name}' for name, n in counts.items())}; {to_do} to do")
    if to_do:
        lines.append(_total(seconds, unknown, memory, executor, local))
    broken = [name.replace(" ", "-") for name in BROKEN if counts[name] and name not in retry]
    if broken:
        lines.append(f"not tried again by itself: --retry {','.join(broken)}")
    output.give(
        {"runs": rows, "absent": dict(plan.absent)}, output.frame_of(rows), lambda: print("\n".join(lines))
    )


def _expected(forecast: Forecast) -> str:
    if forecast.seconds is None:
        return forecast.source
    memory = f", {forecast.memory_gb:.1f} GB" if forecast.memory_gb is not None else ""
    how = "as runs like it took" if forecast.source == "records" else "training, by a step measured here"
    return f"{duration(forecast.seconds)}{memory} ({how})"


def _total(
    seconds: float, unknown: int, memory: float | None, executor: ExecutorConfig, local: LocalExecutor | None
) -> str:
    where = f", {duration(seconds / local.places)} with {local.where}" if local else ""
    if executor.workers and not local:
        where = f", {duration(seconds / executor.workers)} with {executor.workers} at a time as fast as here"
    beside = f"; {unknown} runs are not counted" if unknown else ""
    on_gpu = f"; at most {memory:.1f} GB of GPU memory a run" if memory is not None else ""
    if not seconds:
        return f"how long is not known{beside}{on_gpu}" if unknown else f"less than a second of work{on_gpu}"
    return f"about {duration(seconds)} of work{where}{beside}{on_gpu}"
