"""`derain doctor`: what this machine offers, tried and not assumed; and what `-v` says at the end of a command."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, WorkError, printable
from benchmark.text import output
from benchmark.text.words import several

FINE, LESS, BAD = "fine", "less", "fault"
_GIB = 2**30

# what an optional package gives
_EXTRAS = {
    "av": "videos",
    "pillow_heif": "HEIC photographs",
    "onnxruntime": "export to ONNX",
    "jsonargparse": "LightningCLI",
    "wandb_workspaces": "derain dashboard",
    "ray": "executor=ray",
    "submitit": "executor=slurm",
    "spikingjelly": "derain bench beside it",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what, how it is (`FINE`, `LESS`: it works without, `BAD`), and what was seen."""

    what: str
    state: str
    seen: str


def doctor(options: Namespace) -> int:
    """Look at everything; returns 1 where a fault was found."""
    found = list(findings(Path(options.runs)))
    rows = [{"what": f.what, "state": f.state, "seen": f.seen} for f in found]
    output.give({"findings": rows}, output.frame_of(rows), lambda: _show(found))
    return 1 if any(f.state == BAD for f in found) else 0


def _show(found: list[Finding]) -> None:
    wide = max(len(f.what) for f in found)
    for finding in found:
        print(f"{finding.state:<6} {finding.what:<{wide}}  {printable(finding.seen)}")
    faults = sum(f.state == BAD for f in found)
    print(f"{faults} fault{'s' * (faults != 1)}" if faults else "no fault found")


def findings(runs: Path) -> Iterator[Finding]:
    """What is looked at, in turn.

    Args:
        runs: folder of the runs, which is to be written to.
    """
    yield from _versions()
    yield from _kernels()
    yield from _machine()
    yield _wandb()
    yield from _folders(runs)


def _versions() -> Iterator[Finding]:
    from benchmark import __version__
    from benchmark.run.records import commit, versions

    at = commit()
    yield Finding("derain", FINE, __version__ + (f", commit {at}" if at else ", installed"))
    for name, version in versions().items():
        if name == "derain":
            continue
        yield Finding(name, FINE, version)
    for module, what in _EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        yield Finding(module, FINE if there else LESS, what if there else f"not installed: no {what}")


def _kernels() -> Iterator[Finding]:
    """Each compiled file is compiled, or taken from where it is kept, as a network would."""
    from benchmark.metrics.fidelity import compiled_metrics as metrics
    from esdnet import attention, native, winograd

    if os.environ.get("DERAIN_NATIVE") == "0":
        yield Finding("kernels", LESS, "DERAIN_NATIVE=0: torch's operations serve")
        return
    compiler = native.compiler()
    yield Finding(
        "compiler",
        FINE if compiler else LESS,
        compiler or "none (cc, gcc, clang or $CC): torch's operations serve, ESDNet is slower",
    )
    for name, make in (
        ("neurons", lambda: native.library(_float())),
        ("convolutions", winograd.library),
        ("attention", attention.library),
        ("metrics", metrics),
    ):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            made = make() is not None
        reason = "; ".join(str(w.message) for w in said) or (
            "compiled" if made else "torch's operations serve"
        )
        yield Finding(f"kernel {name}", FINE if made and not said else LESS, reason)


def _float() -> Any:
    import torch

    return torch.float32


def _machine() -> Iterator[Finding]:
    import torch

    from benchmark.cgroup import cores
    from benchmark.restoration.memory import free_memory
    from benchmark.run.records import machine

    known = machine()
    yield Finding("processor", FINE, f"{known['processor']}, {cores()} of {known['cores']} cores usable")
    free, all_of_it = free_memory() / _GIB, known.get("memory_gib")
    of = f" of {all_of_it} GiB" if all_of_it else " GiB"
    yield Finding("memory", FINE if free >= 4 else LESS, f"{free:.1f}{of} free")
    if not torch.cuda.is_available():
        yield Finding("GPU", LESS, "none that torch can use: everything runs on the processor")
    for i in range(torch.cuda.device_count()):
        there, whole = (n / _GIB for n in torch.cuda.mem_get_info(i))
        yield Finding(
            f"GPU {i}", FINE, f"{torch.cuda.get_device_name(i)}, {there:.1f} of {whole:.1f} GiB free"
        )


def _wandb() -> Finding:
    from benchmark.run.tracking import has_key, mode, unreachable

    try:
        asked = mode()
    except UserError as error:
        return Finding("W&B", BAD, str(error))
    if asked in ("disabled", "offline"):
        return Finding("W&B", LESS, f"WANDB_MODE={asked}")
    if importlib.util.find_spec("wandb") is None:
        return Finding("W&B", LESS, "not installed: runs go on without")
    if not has_key():
        return Finding("W&B", LESS, "no key: runs log offline, derain sync sends them (wandb login)")
    why = unreachable()
    return Finding(
        "W&B", LESS if why else FINE, f"key, but no server: {why}" if why else "key, and a server answers"
    )


def _folders(runs: Path) -> Iterator[Finding]:
    from benchmark.data.cache import cache_folder
    from benchmark.files import require_writable
    from esdnet import owned

    try:
        cache: Path | None = cache_folder()
    except UserError as error:
        yield Finding("cache of pictures", BAD, str(error))
        cache = None
    for what, folder in (("cache of pictures", cache), ("runs", runs.absolute())):
        if folder is None:
            continue
        there = folder
        while not there.exists():
            there = there.parent
        try:
            require_writable(there)
            yield Finding(what, FINE, f"{folder}, {shutil.disk_usage(there).free / _GIB:.1f} GiB free")
        except (UserError, WorkError, OSError) as error:
            yield Finding(what, BAD, str(error))
    kept = owned.own_folder("native")
    yield Finding(
        "kept kernels",
        FINE if kept else LESS,
        str(
            kept
            or "no folder of this user's own: compiled anew in every process (DERAIN_CACHE names another)"
        ),
    )


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Say on the standard error, when a command ends, what it took and what it ran on."""
    began = time.monotonic()
    try:
        yield
    finally:
        said = [f"took {time.monotonic() - began:.1f} s"]
        peak, others = _peak()
        if peak:
            said.append(f"at most {peak / _GIB:.2f} GiB of memory")
        if others > _SMALL:
            said.append(f"at most {others / _GIB:.2f} GiB in a process that it started")
        torch = sys.modules.get("torch")
        if torch is not None:
            where = "a GPU seen" if torch.cuda.is_available() else "no GPU"
            said.append(f"torch {torch.__version__}, {several(torch.get_num_threads(), 'thread')}, {where}")
            said.append(_kernels_used())
        print("derain: " + "; ".join(said), file=sys.stderr)


_SMALL = 2**27  # bytes: a compiler, git
_KERNELS = {
    "native.c": "neurons",
    "winograd.c": "convolutions",
    "attention.c": "attention",
    "metrics.c": "metrics",
}


def _kernels_used() -> str:
    """Which compiled kernels this process asked for, in words."""
    native = sys.modules.get("esdnet.native")
    asked = {} if native is None else native.asked
    served = [_KERNELS.get(file, file) for file, there in asked.items() if there]
    missing = [_KERNELS.get(file, file) for file, there in asked.items() if not there]
    parts = [f"kernels: {', '.join(served)}"] if served else []
    parts += [f"torch's operations instead of the kernels for {', '.join(missing)}"] if missing else []
    return "; ".join(parts) or "no kernels asked for"


def _peak() -> tuple[int, int]:
    """Bytes of main memory that this process held at most, and the largest of those it started; 0: not known."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0, 0
    unit = 1 if sys.platform == "darwin" else 1024
    own, others = (
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own * unit, others * unit
