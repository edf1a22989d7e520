"""Records: one JSON file a run, the only thing that tables, figures and reports are drawn from."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from benchmark.catalog import network
from benchmark.errors import UserError
from benchmark.files import home, write_json
from benchmark.means import mean_of
from benchmark.sources import code_digest
from benchmark.spec import RunSpec, differences

FORMAT = 1
RECORD = "record.json"
FAILURE = "failure.json"
_PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "snntorch",
    "torchmetrics",
    "pyiqa",
    "numpy",
    "pillow",
    "scikit-image",
    "scikit-learn",
    "derain",
)

Record = dict[str, Any]


def read_record(folder: Path, filename: str = RECORD) -> Record | None:
    """The record (or the failure) in a run's folder; None where there is none.

    Raises:
        UserError: the file is not a record of this suite.
    """
    path = f"{folder}/{filename}"
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (tables read ten thousand)
            record = orjson.loads(file.read())
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise UserError(f"{folder}: a file stands where a folder of runs is needed; give another") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable record ({error}); remove it to run again") from error
    made = record.get("format") if isinstance(record, dict) else None
    if isinstance(made, int) and made > FORMAT:
        raise UserError(
            f"{path}: made by a later version of this suite (format {made}, this one reads {FORMAT}): use that one, or "
            "move the file away to run again"
        )
    if made != FORMAT:
        raise UserError(f"{path}: not a record of this version (format {FORMAT}); remove it to run again")
    wrong = _wrong(record) if filename == RECORD else None
    if wrong:
        raise UserError(f"{path}: {wrong}; move it away to run again")
    return record


_PARTS = {"identity": str, "name": str, "config": dict, "results": dict}


def _wrong(record: Record) -> str | None:
    """What says that a run's record is not as it was written; None if nothing does. Means become today's."""
    missing = [key for key, kind in _PARTS.items() if not isinstance(record.get(key), kind)]
    if missing:
        return f"not a whole record (no {' and no '.join(missing)})"
    for dataset, result in record["results"].items():
        mean, images = (result.get(k) if isinstance(result, dict) else None for k in ("mean", "images"))
        if not isinstance(mean, dict) or not isinstance(images, list):
            return f"not a whole record (no mean or no images of {dataset})"
        if mean.get("n") != len(images):
            return f"changed by hand: {dataset} has {len(images)} images, and says {mean.get('n')}"
        for column, told in mean.items():
            if column == "n" or not (isinstance(told, (int, float)) or told in ("inf", "-inf")):
                continue
            values: list[Any] = [image.get(column) if isinstance(image, dict) else None for image in images]
            if None in values or not values:
                return f"changed by hand: an image of {dataset} has no {column}"
            try:
                true = mean_of(column, values)
            except (TypeError, ValueError):
                return f"changed by hand: {column} of an image of {dataset} is no number"
            if _same(told, true):
                continue
            if not _same(told, _without_infinite(values)):
                return f"changed by hand: {column} of {dataset} is {told}, the mean of its images {true}"
            mean[column] = true
    return None


def _same(told: float | str, true: float) -> bool:
    return math.isclose(float(told), true, rel_tol=_ROUNDING, abs_tol=_ROUNDING)


def _without_infinite(values: Iterable[float | str]) -> float:
    """The mean as records had it before `benchmark.means`; such records are read by today's."""
    finite = [v for v in map(float, values) if math.isfinite(v)]
    return math.fsum(finite) / len(finite) if finite else math.inf


_ROUNDING = 1e-6


def find_record(config: RunSpec) -> Record | None:
    """The record of a run, if it has been done."""
    record = read_record(config.folder)
    if record is not None and record["identity"] != config.identity:
        told = "; ".join(differences(record.get("config", {}), config))
        raise UserError(
            f"{config.folder / RECORD}: is of configuration {record['identity']}, not {config.identity}"
            + f" ({told})" * bool(told)
        )
    return record


def write_record(folder: Path, record: Record, filename: str = RECORD) -> Path:
    """Write a record in one piece; returns its path."""
    path = folder / filename
    write_json(path, {"format": FORMAT, **record})
    return path


def provenance(model: str | None = None) -> Record:
    """What made a result: command, commit, code, machine, versions, date. No host name, no home folder.

    Args:
        model: the network that it is about; the code of one from outside is its package's too.
    """
    return {
        "command": command_line(),
        "commit": commit(),
        "code": code_digest(network(model).target if model else ""),
        "machine": machine(),
        "versions": versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def shared_provenance() -> Record:
    """The same for what is passed on: the command without the folders of this machine."""
    told = provenance()
    return {**told, "command": without_folders(told["command"])}


def without_folders(command: str) -> str:
    """A command with the last name of each absolute path: where somebody keeps things is nobody's business."""
    return re.sub(r"(?<![\w./])/(?:[^\s/'\"]+/)+(?=[^\s/'\"])", "", command)


def without_home(text: str) -> str:
    """The text with the home folder written as ~, whatever stands behind it but more of a name."""
    place = str(home() or "")
    return re.sub(re.escape(place) + r"(?![\w-]|\.\w)", "~", text) if place not in ("", "/") else text


def without_places(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a metric tells of itself, the home folder in its texts written as ~."""
    return {key: without_home(value) if isinstance(value, str) else value for key, value in told.items()}


_typed: list[str] = []


def command_line() -> str:
    """The command as the user typed it, in a run's own process too."""
    words = _typed or sys.argv
    name = Path(words[0]).name
    return without_home(shlex.join(["derain" if name == "__main__.py" else name, *words[1:]]))


def typed(words: Iterable[str]) -> None:
    """Tell a run's process the command that its driver was given."""
    _typed[:] = words


def _changed(status: str) -> bool:
    """Whether `git status --porcelain` names more than results, which a command before may have written.

    >>> _changed(" M results/real/table1.md"), _changed(" M results/paper/table1.csv"), _changed("M  esdnet/blocks.py")
    (False, True, True)
    """
    paths = [line[3:].strip('"') for line in status.splitlines()]
    return not all(
        p.startswith("results/") and not p.startswith("results/paper/") and not p.endswith(".py")
        for p in paths
    )


@cache
def commit() -> str | None:
    """The commit of this suite's checkout, "+" behind it if code or data changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        ).stdout

    try:
        changed = _changed(git("status", "--porcelain", "--untracked-files=no"))
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def versions() -> dict[str, str]:
    """Versions of what a number depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def machine() -> dict[str, Any]:
    """Processor, cores, memory, system and accelerator; nothing that names the host."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    found: dict[str, Any] = {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    with contextlib.suppress(ValueError, OSError):
        found["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def in_words(machine: Mapping[str, Any]) -> str:
    """A machine of a record: its accelerator, or its processor and cores."""
    return machine.get("accelerator") or f"{machine['processor']} with {machine['cores']} cores"
