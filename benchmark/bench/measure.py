"""Taking the times: the sides of a case in turn, round after round, on the same machine in the same minute.

Other programs come and go, so a time by itself says little and the ratio of two times that were taken one right
after the other says more. Each round measures every side once, every second round in the reverse order; the
table shows the median of the rounds' ratios with the smallest and the largest. The processor time that this process
used is kept too: its ratio hardly depends on other programs, but knows nothing of work that is shared by cores.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmark.bench.case import Body, Case, NotMeasured, Peer, Setting, load, missing
from benchmark.bench.memory import peak_memory
from benchmark.bench.results import load_average
from benchmark.errors import first_line

Row = dict[str, Any]
"""One line of the table: a case beside one of its peers. `results.py` says what is in it."""

_SOURCES = {
    "spikingjelly": "pip install spikingjelly",
    "cupy": "pip install cupy-cuda12x",
    "cv2": "pip install opencv-python-headless",
    "triton": "it comes with PyTorch for CUDA",
}


def seconds(call: Body, number: int, device: str) -> tuple[float, float]:
    """Seconds a call and seconds of processor time, over `number` of them; on a GPU until it has finished."""
    _wait(device)
    begin, used = time.perf_counter(), time.process_time()
    for _ in range(number):
        call()
    _wait(device)
    return (time.perf_counter() - begin) / number, (time.process_time() - used) / number


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def why_not(case: Case, packages: tuple[str, ...] = (), slow: bool = False) -> str | None:
    """Why a case, or a peer that needs some packages, cannot be measured here; None: it can."""
    if case.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "no GPU on this machine"
    elif case.slow and not slow:
        return "many minutes a call on a CPU: --slow measures it"
    for name in missing(packages):
        return f"{name} is not installed: {_SOURCES.get(name, f'pip install {name}')}"
    return None


def measure(
    case: Case,
    setting: Setting,
    rounds: int = 5,
    least: float = 0.2,
    slow: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Measure a case beside all its peers.

    Args:
        case: what to measure.
        setting: where.
        rounds: how many; fewer where a case takes longer than it should (`Case.seconds`), never below two. A slow case
            has one, its warm-up.
        least: seconds that one measurement should take; quick calls are repeated to fill them.
        slow: measure cases that take many minutes too.
        progress: told what is going on.

    Returns:
        A row for each peer (one where there is none), and another where memory is asked for.
    """
    reason = why_not(case, slow=slow)
    if reason is not None:
        return [_row(case, peer, reason=reason) for peer in case.peers or (None,)]
    remembered = []
    if case.memory is not None:  # first: what this process will hold must not be missing then
        progress(f"{case.name}: memory")
        remembered = [
            _memory(case, peer, setting) for peer in case.peers if why_not(case, peer.needs, slow) is None
        ]
    before = load_average()
    progress(f"{case.name}: prepared")
    try:
        ours, result, first = _ready(case.ours, case, setting)
    except NotMeasured as error:
        return [_row(case, peer, reason=str(error)) for peer in case.peers or (None,)]
    sides = {"": (ours, first)}
    rows: dict[str, Row] = {}
    for peer in case.peers:
        rows[peer.name] = _row(case, peer, reason=why_not(case, peer.needs, slow))
        if rows[peer.name]["reason"] is None:
            try:
                call, theirs, first = _ready(peer.side, case, setting)
            except NotMeasured as error:
                rows[peer.name]["reason"] = str(error)
                continue
            except (RuntimeError, ImportError, OSError, AssertionError) as error:
                rows[peer.name]["reason"] = f"failed: {first_line(error)[:200]}"
                continue
            rows[peer.name]["difference"] = (
                _difference(result, theirs) if peer.agreement is not None else None
            )
            sides[peer.name] = call, first
    taken = {name: [first[0]] if case.slow else [] for name, (_, first) in sides.items()}
    used = {name: [first[1]] if case.slow else [] for name, (_, first) in sides.items()}
    begin = time.monotonic()
    for turn in range(0 if case.slow else rounds):
        if turn >= 2 and time.monotonic() - begin > case.seconds:
            break
        progress(f"{case.name}: round {turn + 1}")
        for name in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            call, first = sides[name]
            wall, processor = seconds(call, _number(first[0], least), case.device)
            taken[name].append(wall)
            used[name].append(processor)
    load_averages = {"before": before, "after": load_average()}
    if not case.peers:
        rows[""] = _row(case, None)
    for peer in case.peers:
        if peer.name in sides:
            _fill(rows[peer.name], case, peer, taken[""], taken[peer.name])
            if case.device == "cpu" and min(used[""]) > 0:
                rows[peer.name]["processor_ratio"] = spread(_ratios(case, peer, used[""], used[peer.name]))
    for row in rows.values():
        if row["reason"] is None:
            row |= {"ours": spread(taken[""]), "rounds": len(taken[""]), "load": load_averages}
            if case.limit is not None:
                row["reached"] = row["ours"]["median"] <= case.limit
    return [*rows.values(), *remembered]


def _ready(side: str, case: Case, setting: Setting) -> tuple[Body, object, tuple[float, float]]:
    """A side after its warm-up, what its last call gave, and how long that took, as `seconds` says it."""
    call = load(side)(setting)
    given: list[object] = []
    for _ in range(case.warmup):
        took = seconds(lambda: given.append(call()), 1, case.device)
    return call, given[-1], took


def _number(first: float, least: float) -> int:
    return max(1, min(100_000, math.ceil(least / max(first, 1e-7))))


def _difference(ours: object, theirs: object) -> float:
    """The largest difference between two results, over as many values as both have."""
    import torch

    a, b = (torch.as_tensor(x).detach().double().cpu() for x in (ours, theirs))
    if a.ndim and a.shape != b.shape:
        a, b = a[: len(b)], b[: len(a)]
    return float((a - b).abs().max())


def _row(case: Case, peer: Peer | None, quantity: str = "time", reason: str | None = None) -> Row:
    return {
        "case": case.name,
        "what": case.what,
        "device": case.device,
        "quantity": quantity,
        "unit": case.unit,
        "work": case.work,
        "peer": peer.name if peer else None,
        "peer_work": peer.work if peer else None,
        "ours": None,
        "theirs": None,
        "ratio": None,
        "processor_ratio": None,
        "asked": peer.asked if peer else case.limit,
        "reached": None,
        "difference": None,
        "agreement": peer.agreement if peer else None,
        "rounds": 0,
        "load": None,
        "profile": None,
        "reason": reason,
    }


def _fill(row: Row, case: Case, peer: Peer, ours: list[float], theirs: list[float]) -> None:
    ratios = _ratios(case, peer, ours, theirs)
    row["theirs"] = spread(theirs)
    row["ratio"] = {**spread(ratios), "each": [round(x, 4) for x in ratios]}
    if peer.asked is not None:
        row["reached"] = row["ratio"]["median"] >= peer.asked


def _ratios(case: Case, peer: Peer, ours: list[float], theirs: list[float]) -> list[float]:
    return [case.work / peer.work * b / a for a, b in zip(ours, theirs, strict=True)]


def _memory(case: Case, peer: Peer, setting: Setting) -> Row:
    assert case.memory is not None
    row = _row(case, peer, "memory")
    row["asked"] = case.memory if math.isfinite(case.memory) else None
    row["unit"], row["work"], row["peer_work"], row["agreement"] = "bytes", 1.0, 1.0, None
    try:
        a, b = peak_memory(case.ours, setting), peak_memory(peer.side, setting)
    except NotMeasured as error:
        row["reason"] = str(error)
        return row
    row |= {"ours": spread([a]), "theirs": spread([b]), "rounds": 1}
    row["ratio"] = {**spread([a / b]), "each": [round(a / b, 4)]}
    if row["asked"] is not None:
        row["reached"] = a / b <= case.memory
    return row
