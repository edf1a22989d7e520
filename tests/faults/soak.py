"""Many small runs while processes are killed at random: nothing may be lost, done twice or left half.

    python tests/faults/soak.py --runs 500

A driver (as every sweep's) works through the runs. Every few seconds one of its runs, or the driver itself, is
sent SIGKILL, SIGTERM or SIGINT; a driver that is gone is started again, until all runs have their records. Then it is
looked whether every run has one whole record, whether a record was ever written again, whether anything was left
behind (processes, temporary files), and whether runs that were interrupted have the weights, bit for bit, of the same
runs left alone. Bounded by `--minutes`; prints figures, ends with status 1 if anything is wrong. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.data.images import write_image
from benchmark.run.records import RECORD, find_record
from benchmark.spec import RunSpec, resolve

MARK = "DERAIN_SOAK"  # in the environment of every process of a soak
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def _data(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for i in range(count):
            clean = rng.integers(0, 200, (32, 32, 3), dtype=np.uint8)
            write_image(folder / split / "target" / f"{i}.png", clean)
            write_image(folder / split / "input" / f"{i}.png", clean + 40)
    return folder


def _words(place: Path, out: str) -> list[str]:
    words = [
        "model=prenet",
        "model.stages=1",
        "model.channels=4",
        "model.residual_blocks=1",
        "recipe=embedded",
    ]
    words += ["data=folder", f"data.root={place / 'set'}", f"data.cache={place / 'cache'}", "recipe.steps=6"]
    words += [
        "recipe.batch=1",
        "recipe.patch=16",
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.threads=1",
    ]
    words += [
        "trainer.checkpoint_every=1",
        "trainer.log_every=1",
        "evaluation.tile=whole",
        f"out={place / out}",
    ]
    return words


def configurations(place: Path, runs: int, out: str = "runs") -> list[RunSpec]:
    """The smallest network there is, six steps, a checkpoint at every one; a seed each."""
    base = resolve(_words(place, out))
    return [replace(base, seed=seed) for seed in range(runs)]


def _drive(place: Path, runs: int, workers: int) -> None:
    from benchmark.sweep.driver import drive
    from benchmark.sweep.executors import ExecutorConfig
    from benchmark.sweep.executors.local import LocalExecutor
    from benchmark.sweep.plan import Planner

    words = _words(place, "runs")
    left = [s for s, c in enumerate(configurations(place, runs)) if find_record(c) is None]
    drive(
        [Planner([]).plan(words, seed=seed) for seed in left], LocalExecutor(ExecutorConfig(workers=workers))
    )


def _processes(mark: str) -> dict[int, str]:
    """The living processes of this soak and their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def soak(place: Path, runs: int, workers: int, minutes: float, pause: float, seed: int) -> int:
    """Do the soak; returns the number of things that are wrong, one of them that it did not end in time."""
    rng, mark = random.Random(seed), secrets.token_hex(8)
    _data(place / "set")
    configs = configurations(place, runs)
    environment = {**os.environ, MARK: mark}
    command = [
        sys.executable,
        __file__,
        "--drive",
        str(place),
        "--runs",
        str(runs),
        "--workers",
        str(workers),
    ]
    kills: dict[str, int] = {}
    interrupted: set[int] = set()
    written: dict[Path, int] = {}
    wrong: list[str] = []
    began = time.monotonic()
    driver: subprocess.Popen[bytes] | None = None
    while time.monotonic() - began < 60 * minutes:
        for config in configs:
            record = config.folder / RECORD
            with contextlib.suppress(OSError):
                if written.setdefault(record, record.stat().st_mtime_ns) != record.stat().st_mtime_ns:
                    wrong.append(f"{record} was written again")
        if len(written) == runs:
            break
        if driver is None or driver.poll() is not None:
            driver = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        time.sleep(min(rng.expovariate(1 / pause), 5 * pause))
        alive = _processes(mark)
        workers_alive = [pid for pid, line in alive.items() if "forkserver" in line]
        at_driver = rng.random() < 0.15
        if (
            not workers_alive and not at_driver
        ):  # it is starting: killed each time then, it would never get on
            continue
        target = driver.pid if at_driver else rng.choice(workers_alive)
        signum = rng.choice(SIGNALS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(target, signum)
            what = f"{'driver' if target == driver.pid else 'run'} {signum.name}"
            kills[what] = kills.get(what, 0) + 1
            interrupted |= {c.seed for c in configs if (c.folder / "checkpoints").is_dir() and not _done(c)}
    seconds = time.monotonic() - began
    if driver is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=120)
    deadline = time.monotonic() + 120
    while _processes(mark) and time.monotonic() < deadline:
        time.sleep(1)
    orphans = _processes(mark)
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    wrong += [f"process {pid} was left: {line[:100]}" for pid, line in orphans.items()]
    wrong += _looked_at(place, configs, interrupted, set(written), rng)
    print(
        f"{len(written)} of {runs} runs done in {seconds / 60:.1f} min; {sum(kills.values())} signals "
        f"({', '.join(f'{k}: {v}' for k, v in sorted(kills.items()))}); {len(interrupted)} runs were under way "
        f"when one came; {len(wrong)} things wrong"
    )
    print("\n".join(wrong))
    return len(wrong) + (len(written) < runs)


def _done(config: RunSpec) -> bool:
    return (config.folder / RECORD).is_file()


def _looked_at(
    place: Path, configs: list[RunSpec], interrupted: set[int], seen: set[Path], rng: random.Random
) -> list[str]:
    from safetensors.numpy import load_file

    from benchmark.run.execute import execute

    wrong = []
    for config in configs:
        folder = config.folder
        try:
            record = find_record(config)
        except Exception as error:
            wrong.append(f"{folder}: {error}")
            continue
        if record is None:
            if folder / RECORD in seen:
                wrong.append(f"{folder}: its record is lost")
            continue
        if len(record["results"]["folder"]["images"]) != 2 or record["training"]["steps"] != 6:
            wrong.append(f"{folder}: not the whole of it")
        wrong += [f"{folder}/metrics.csv: {what}" for what in _logged(folder / "metrics.csv")]
        if any((folder / "checkpoints").glob(".derain-*.tmp")):
            wrong.append(f"{folder}: something half is left")
    for config in rng.sample(
        [c for c in configs if c.seed in interrupted and _done(c)], min(5, len(interrupted))
    ):
        alone = configurations(place, config.seed + 1, out="alone")[config.seed]
        execute(alone)
        here, there = (load_file(c.folder / "weights.safetensors") for c in (config, alone))
        if any(not np.array_equal(here[k], there[k]) for k in there):
            wrong.append(f"{config.folder}: other weights than without interruption")
    return wrong


def _logged(path: Path) -> list[str]:
    """What is wrong with a log. A SIGKILL between a step's checkpoint and its row takes that row, and no other."""
    try:
        with path.open() as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return ["is lost"]
    if any(None in row or None in row.values() for row in rows):
        return ["torn lines"]
    steps = [int(row["step"]) for row in rows]
    return [f"has steps {steps}"] if steps != sorted(set(steps)) or len(steps) < 3 else []


def main() -> int:
    """Soak, or (from a soak) drive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--pause", type=float, default=5, help="mean seconds between signals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        _drive(options.drive, options.runs, options.workers)
        return 0
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        return min(
            1, soak(Path(place), options.runs, options.workers, options.minutes, options.pause, options.seed)
        )


if __name__ == "__main__":
    sys.exit(main())
