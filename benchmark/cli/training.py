"""`derain train` and `derain config`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import Stop, UserError, stop_signals
from benchmark.launch import require_loggers
from benchmark.text import output
from benchmark.text.progress import bar

if TYPE_CHECKING:
    from benchmark.spec import RunSpec


def config(options: Namespace) -> int:
    """`derain config`."""
    from benchmark.reading import written
    from benchmark.spec import resolve, settings_of, sources

    if getattr(options, "schema", False):  # `derain train --dry-run` shows what this does
        from benchmark.spec.resolve import schema

        found = schema()
        output.give(found, None, lambda: print(json.dumps(found, indent=1, ensure_ascii=False)))
        return 0
    of_file = _words_of_file(options)
    resolved = resolve([*of_file, *options.settings])
    values, where = settings_of(resolved), sources(options.settings, resolved, of_file, options.file)
    values |= {k: os.environ[w.split()[1]] for k, w in where.items() if w.startswith("environment ")}
    words = {key: f"{key}={written(value)}" for key, value in values.items()}
    width = max(map(len, words.values()))
    rows = [{"setting": key, "value": written(value), "from": where[key]} for key, value in values.items()]

    def show() -> None:
        print(f"# identity {resolved.identity}")
        for key, word in words.items():
            print(f"{word:<{width}}  # {where[key]}")

    output.give({"identity": resolved.identity, "settings": rows}, output.frame_of(rows), show)
    return 0


def _words_of_file(options: Namespace) -> list[str]:
    from benchmark.spec import words_of_file

    return words_of_file(options.file) if options.file is not None else []


def train(options: Namespace) -> int:
    """`derain train`."""
    from benchmark.spec import resolve

    resolved = resolve([*_words_of_file(options), *options.settings])
    from benchmark.run.records import RECORD, find_record

    if options.dry_run:
        folder = resolved.folder
        begun = (folder / "checkpoints" / "last.ckpt").is_file()
        state = "is done in" if find_record(resolved) else "would go on in" if begun else "would be done in"
        output.give(
            {"run": state, "folder": str(folder)}, None, lambda: print(f"# this run {state} {folder}")
        )
        return config(options)
    _require_root(resolved)
    require_loggers(resolved)
    from benchmark.run.execute import execute

    with _stopping(), _training_bar() as (progress, log):
        record = execute(resolved, progress, log=log)
    place = resolved.folder / RECORD
    means = {dataset: result["mean"] for dataset, result in record["results"].items()}

    def show() -> None:
        for dataset, mean in means.items():
            print(
                f"{dataset}: PSNR-Y {mean['psnr_esdnet']:.2f} dB (rainy {mean['rainy_psnr_esdnet']:.2f}), "
                f"SSIM-Y {mean['ssim_esdnet']:.4f} (rainy {mean['rainy_ssim_esdnet']:.4f}), {mean['n']} images"
            )

    rows = [{"dataset": d, **{k: v for k, v in m.items() if k != "infinite"}} for d, m in means.items()]
    output.give(
        {"results": means, "missing": record["missing"], "record": str(place)}, output.frame_of(rows), show
    )
    for dataset, reason in record["missing"].items():
        output.remark(f"{dataset}: not tested: {reason}")
    output.remark(f"record: {place}")
    return 0


def _require_root(resolved: RunSpec) -> None:
    """Refuse a dataset that is to be brought and is not, before anything slow is imported."""
    from benchmark.data.specs import dataset_spec

    spec = dataset_spec(resolved.data.name)
    root = spec.root or resolved.data.root
    if spec.embedded:
        return
    if root is None:
        raise UserError(f"data={resolved.data.name} needs the folder that it is in or below: data.root=/data")
    if not Path(root).is_dir():
        raise UserError(f"data.root={root}: no such folder")


@contextmanager
def _stopping() -> Iterator[None]:
    """A signal to stop is an exception outside the training too, whose own handlers save first."""

    def stop(signum: int, frame: Any) -> None:
        raise Stop(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, stop) for s in stop_signals() if s != signal.SIGINT}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def _training_bar() -> Iterator[tuple[Callable[[int, int], None], Callable[[Mapping[str, float]], None]]]:
    """A bar over the steps of a training, with the loss as it was last logged and the time left; plain lines every
    tenth where there is no terminal.

    Yields:
        (what is told of the steps done and in all, what is told of the figures that are logged).
    """
    with bar("train", None, sys.stderr.isatty()) as step_bar:
        told = {"loss": ""}

        def progress(step: int, steps: int) -> None:
            step_bar.update(done=step, total=steps)
            if not step_bar.on_terminal and (step == steps or step % max(1, steps // 10) == 0):
                print(f"step {step} of {steps}{told['loss']}", file=sys.stderr, flush=True)

        def log(figures: Mapping[str, float]) -> None:
            if "train/loss" in figures:
                told["loss"] = f", loss {figures['train/loss']:.4g}"
                step_bar.update(note=told["loss"].removeprefix(", "))

        yield progress, log
