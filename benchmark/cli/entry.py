"""What each `derain` command does. Every function takes the parsed options and returns the exit status."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import DiskFull, Stop, UserError, printable, stop_signals
from benchmark.launch import require_loggers
from benchmark.means import identical_note

if TYPE_CHECKING:
    from torch import nn

    from benchmark import catalog
    from benchmark.cli.tables import Request
    from benchmark.restoration.videos import Encoding
    from benchmark.shipped import Shipped
    from benchmark.spec import RunSpec


def models(options: Namespace) -> int:
    """`derain models`."""
    from benchmark import catalog
    from benchmark.report import models as pages
    from benchmark.text import output

    entries = [catalog.network(options.name)] if options.name else list(catalog.networks().values())

    def show() -> None:
        if options.bibtex:
            print("\n\n".join(e.citation for e in entries))
        elif options.name:
            print(pages.details(entries[0]))
        elif options.markdown:
            print(pages.markdown(entries), end="")
        else:
            pages.show(entries)

    found = pages.listed(entries)
    output.give(found, output.frame_of(found["networks"]), show)
    return 0


def data(options: Namespace) -> int:
    """`derain data check`, `derain data import` and `derain data render`."""
    from benchmark import data as datasets

    if options.action == "import":
        return _import(options)
    if options.action == "list":
        return _list_datasets(options.name)
    if options.action == "render":
        count = datasets.render(
            options.clean, options.out, regime=options.regime, seed=options.seed, dry_run=options.dry_run
        )
        done = "would be written" if options.dry_run else "written"
        out = printable(options.out)
        print(f"{count} pairs {done} to {out}/input and {out}/target")
        return 0
    report = datasets.check(options.path)
    print("\n".join(report.lines()))
    return 1 if report.problems else 0


def _list_datasets(name: str | None) -> int:
    from benchmark.data.specs import DATASETS, OURS, READ, dataset_spec

    if name is None:
        for entry in DATASETS.values():
            print(f"{entry.name:<15} {entry.about}")
        return 0
    entry = dataset_spec(name)
    counts = ", ".join(f"{split} {count:,}" for split, count in entry.published.items())
    unknown = "not stated"
    print(f"{entry.title}: {entry.about}")
    for key, value in (
        ("layout", entry.layout or unknown),
        ("splits", ", ".join(entry.splits)),
        ("counts", "; ".join(part for part in (counts, entry.counts) if part) or unknown),
        ("model", f"trained on {entry.training}"),
        ("overlaps", entry.overlaps or "none known"),
        ("terms", entry.terms or unknown),
        ("where", entry.where + f" (read {READ})" * (name in OURS) if entry.where else unknown),
    ):
        print(f"  {key:<9} {value}")
    return 0


def _import(options: Namespace) -> int:
    from benchmark.data.archives import Limits, import_archive

    limits = Limits(int(options.max_size * 2**30), options.max_files, options.max_ratio)
    found = import_archive(options.archive, options.out, limits, dry_run=options.dry_run)
    done = "would be unpacked" if options.dry_run else "unpacked"
    print(f"{found.files} files, {found.size / 2**20:.1f} MiB, {done} to {printable(options.out)}")
    if found.report is None:
        print("\n".join(f"  {printable(folder)}: {count} files" for folder, count in found.folders.items()))
        return 0
    print("\n".join(found.report.lines()))
    return 1 if found.report.problems else 0


def config(options: Namespace) -> int:
    """`derain config`."""
    from benchmark.reading import written
    from benchmark.spec import resolve, settings_of, sources

    if getattr(options, "schema", False):  # `derain train --dry-run` shows what this does
        from benchmark.spec.resolve import schema

        print(json.dumps(schema(), indent=1, ensure_ascii=False))
        return 0
    of_file = _words_of_file(options)
    resolved = resolve([*of_file, *options.settings])
    values, where = settings_of(resolved), sources(options.settings, resolved, of_file, options.file)
    values |= {k: os.environ[w.split()[1]] for k, w in where.items() if w.startswith("environment ")}
    words = {key: f"{key}={written(value)}" for key, value in values.items()}
    width = max(map(len, words.values()))
    print(f"# identity {resolved.identity}")
    for key, word in words.items():
        print(f"{word:<{width}}  # {where[key]}")
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
        print(f"# this run {state} {folder}")
        return config(options)
    _require_root(resolved)
    require_loggers(resolved)
    from benchmark.run.execute import execute

    with _stopping(), _training_bar() as (progress, log):
        record = execute(resolved, progress, log=log)
    from benchmark.text import output

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
        print(f"{dataset}: not tested: {reason}")
    print(f"record: {place}")
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
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("train"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("train", total=None, loss="")
        told = {"loss": ""}

        def progress(step: int, steps: int) -> None:
            bar.update(task, completed=step, total=steps)
            if not console.is_terminal and (step == steps or step % max(1, steps // 10) == 0):
                print(f"step {step} of {steps}{told['loss']}", file=sys.stderr, flush=True)

        def log(figures: Mapping[str, float]) -> None:
            if "train/loss" in figures:
                told["loss"] = f", loss {figures['train/loss']:.4g}"
                bar.update(task, loss=told["loss"].removeprefix(", "))

        yield progress, log


def evaluate(options: Namespace) -> int:
    """`derain evaluate`."""
    if options.dry_run:
        return _dry_evaluate(options)
    _asked(options)  # a mistake in the words is answered before the pictures are looked at
    _require_outputs(options)
    if _row_of(options) is not None:
        return _recorded(options)
    from benchmark.data import open_pairs
    from benchmark.metrics.fidelity import CONVENTIONS, least_side
    from benchmark.metrics.measures import opened
    from benchmark.run.evaluate import evaluate as measure
    from benchmark.run.evaluate import summary

    measures, about = opened(_listed(options.metrics))
    least = max([least_side(), *(m.metric.least for m in measures)])
    pairs = open_pairs("folder", options.data, "test", least=least)
    from benchmark.resident import keep_freed_memory

    keep_freed_memory()
    network, device, tile, overlap = _loaded(options)
    try:
        rows = measure(
            network, pairs, tile=tile, overlap=overlap, device=device, save=options.save, measures=measures
        )
    except DiskFull as full:  # what was saved would be in the way
        raise full if options.overwrite else full.then("run it again with --overwrite") from None
    _give_means(rows, summary(rows), about, (tile, overlap), CONVENTIONS)
    return 0


def _row_of(options: Namespace) -> dict[str, Any] | None:
    """With --record, the row that the weights would be of a file of rows; None without.

    Raises:
        UserError: an option that does not go with another.
    """
    if options.record is None:
        for word, value in (("--as", options.dataset), ("--trained-on", options.trained_on)):
            if value is not None:
                raise UserError(f"{word} is for --record RUNS, which keeps a record")
        return None
    for word, given in (
        ("--save", options.save is not None),
        ("--overlap", options.overlap is not None),
        ("--device", options.device != "auto"),
    ):
        if given:
            raise UserError(
                f"{word}: with --record pictures are restored and kept as tables do; leave it out"
            )
    if options.checkpoint.is_dir():
        raise UserError(
            f"--record: {options.checkpoint} is the folder of a run, which has a record of its own"
        )
    from benchmark import catalog
    from benchmark.reading import yaml_of

    pairs = [(key, value) for key, _, value in (word.partition("=") for word in options.set)]
    return {
        "name": f"{catalog.network(options.model).title}, {options.checkpoint.name}",
        "model": options.model,
        "tile": options.tile,
        "weights": str(options.checkpoint.absolute()),
        **({"options": {k: yaml_of(v) for k, v in pairs}} if options.set else {}),
        **({"trained_on": _listed(options.trained_on)} if options.trained_on else {}),
    }


def _recorded(options: Namespace) -> int:
    """`derain evaluate --record`: measured as a row of tables is, which finds the record."""
    from benchmark.cli.released import record_of_weights
    from benchmark.metrics.fidelity import CONVENTIONS
    from benchmark.metrics.measures import opened
    from benchmark.resident import keep_freed_memory

    keep_freed_memory()
    told = _row_of(options)
    assert told is not None
    metrics = _listed(options.metrics)
    path, record, key = record_of_weights(told, str(options.data), options.dataset, options.record, metrics)
    result = record["results"][key]
    tiling = (result["tile"], result["overlap"])
    _give_means(result["images"], result["mean"], opened(metrics)[1], tiling, CONVENTIONS)
    print(
        f"wrote {printable(path)}; as a row of derain table 1 --released FILE --runs {options.record}:",
        file=sys.stderr,
    )
    print(f"- {json.dumps(told, ensure_ascii=False)}", file=sys.stderr)
    return 0


def _give_means(
    rows: Sequence[dict[str, Any]],
    mean: dict[str, Any],
    about: dict[str, Any],
    tiling: tuple[int | None, int],
    conventions: Iterable[str],
) -> None:
    from benchmark.text import output

    tile, overlap = tiling
    how = f"tiles of {tile}, overlap {overlap}" if tile else "whole images"
    output.give(
        {"n": mean["n"], "how": how, "mean": mean, "metrics": about, "images": rows},
        output.frame_of(rows),
        partial(_show_means, mean, about, how, list(conventions)),
    )


def _show_means(mean: dict[str, Any], about: dict[str, Any], how: str, conventions: Sequence[str]) -> None:
    from benchmark.text.terminal import Head, Line, grid

    print(f"{mean['n']} images, {how}")
    digits_of = {"psnr": 3, "ssim": 4}
    heads = [Head(f"{m.upper()}-Y", side) for side in ("restored", "rainy") for m in digits_of]
    lines = [
        Line(
            name,
            [f"{mean[f'{side}{m}_{name}']:.{d}f}" for side in ("", "rainy_") for m, d in digits_of.items()],
        )
        for name in conventions
    ]
    grid("convention", heads, lines)
    for name, told in about.items():
        if "reason" in told:
            print(f"{name}: not measured: {told['reason']}")
            continue
        better = "lower" if told["lower_better"] else "higher"
        digits = told["digits"]
        print(
            f"{name}: {mean[name]:.{digits}f}, rainy {mean[f'rainy_{name}']:.{digits}f} ({better} is better; "
            f"{told['source']})"
        )
    if mean["infinite"]:
        print(identical_note(mean["infinite"]))


_COLUMNS = "name,width,height,"  # what a table of `derain evaluate` begins with


def _require_outputs(options: Namespace) -> None:
    """Refuse to write over the data set, the checkpoint, or what this command did not write.

    Raises:
        UserError: --csv is another kind of file; a picture of --save is there already, or is one of the data set.
    """
    from benchmark.files import real, require_table
    from benchmark.text.output import is_output

    if is_output(options.csv):
        require_table(options.csv, "derain evaluate", _COLUMNS, inputs=[options.checkpoint])
    if options.save is None:
        return
    from benchmark.data.layouts import list_pairs
    from benchmark.data.specs import dataset_spec
    from benchmark.run.evaluate import png_path

    pairs = list_pairs(dataset_spec("folder"), options.data, "test")
    inputs = {real(path) for pair in pairs for path in (pair.rainy, pair.clean)}
    for pair in pairs:
        path = png_path(options.save, pair.name)
        if real(path) in inputs:
            raise UserError(f"--save {options.save}: {path} is of the data set and would be overwritten")
        if path.exists() and not options.overwrite:
            raise UserError(f"{path} exists already: give another --save, or --overwrite to replace it")


def score(options: Namespace) -> int:
    """`derain score`."""
    from benchmark.cli.scoring import score as measure

    return measure(options)


def _dry_evaluate(options: Namespace) -> int:
    from benchmark.data.layouts import list_pairs
    from benchmark.data.specs import dataset_spec
    from benchmark.metrics.measures import asked

    _, _, tile, overlap = _asked(options)
    for word in _listed(options.metrics):
        asked(word)
    _require_outputs(options)
    _row_of(options)
    pairs = list_pairs(dataset_spec("folder"), options.data, "test")
    print(
        f"{len(pairs)} pairs would be measured, {f'in tiles of {tile}, overlap {overlap}' if tile else 'whole'}"
    )
    for what, path in (("one row an image", options.csv), ("the restored pictures", options.save)):
        if path:
            print(f"{what} would be written to {printable(path)}")
    return 0


def restore(options: Namespace) -> int:
    """`derain restore`."""
    automatic, ship = options.tile == "auto", None
    if automatic:
        if options.overlap is not None:
            raise UserError(
                "--overlap is for --tile PIXELS and --tile authors; tiles of --tile auto share 64"
            )
        options.tile = "whole"
    encoding = _encoding(options)
    if options.overwrite and options.only_missing:
        raise UserError("--overwrite replaces what is there, --only-missing leaves it: give one of them")
    if options.checkpoint is None:
        ship = _shipped(options)
        options.model, options.checkpoint = ship.network, ship.path
    if options.dry_run:
        return _dry_restore(options, ship)
    from benchmark.resident import keep_freed_memory

    keep_freed_memory()
    network, device, tile, overlap = _loaded(options) if ship is None else _loaded_shipped(options, ship)
    from benchmark.restoration import restore_files

    outcome = restore_files(
        network,
        options.inputs,
        options.out,
        tile="auto" if automatic else tile,
        overlap=overlap,
        device=device,
        overwrite=options.overwrite,
        only_missing=options.only_missing,
        compare=options.compare,
        encoding=encoding,
        by=_by(options, ship),
    )
    for path in outcome.written[:_LISTED] if options.out is None else []:
        print(printable(path))
    more = outcome.written[_LISTED:] if options.out is None else []
    count = f"{len(outcome.written)} restored" + (f" to {printable(options.out)}" if options.out else "")
    print(f"{count} ({len(more)} more than these)" if more else count)
    for path, used in outcome.tiled.items():
        print(
            f"{printable(path)}: in tiles of {used}, as the whole did not fit into memory (--tile whole insists)"
        )
    if outcome.passed_over:
        print(f"passed over, by name neither picture nor video: {_some(outcome.passed_over)}")
    for path, words in outcome.remarks:
        print(f"{printable(path)}: {words}")
    for path, reason in [*outcome.lost, *outcome.failed]:
        told = printable(path)
        print(f"derain: {reason if told in reason else f'{told}: {reason}'}", file=sys.stderr)
    if ship is not None:
        print("\n".join(ship.in_words(bool(outcome.tiled))))
    return 1 if outcome.failed or outcome.lost else 0


def _encoding(options: Namespace) -> Encoding:
    """How videos are written."""
    from benchmark.restoration.videos import QUALITY, Encoding

    if options.quality is not None and options.lossless:
        raise UserError("--quality is for H.264, --lossless writes FFV1: give one of them")
    if options.quality is not None and not 0 <= options.quality <= 51:
        raise UserError(f"--quality {options.quality}: from 0 (no loss) to 51 (worst)")
    return Encoding(options.lossless, QUALITY if options.quality is None else options.quality)


_LISTED = 20


def _some(paths: Sequence[Path], most: int = 3) -> str:
    """The first few of them, and how many more there are."""
    names = ", ".join(printable(path) for path in paths[:most])
    return f"{names} and {len(paths) - most} more" if len(paths) > most else names


def _by(options: Namespace, ship: Shipped | None) -> str:
    """The network's name, which results beside their inputs have in theirs; none by what is taken unasked."""
    from benchmark import shipped

    return "" if ship is not None and ship == shipped.default() else str(options.model)


def _dry_restore(options: Namespace, ship: Shipped | None) -> int:
    from benchmark.restoration.restoring import planned

    _asked(options)
    for source, destination in planned(options.inputs, options.out, _encoding(options), _by(options, ship)):
        there = "" if not destination.exists() else ", which would be replaced"
        if there and options.only_missing:
            continue
        if there and not options.overwrite:
            raise UserError(
                f"{destination} exists already: give another output folder, --overwrite or --only-missing"
            )
        print(f"{printable(source)} would be restored to {printable(destination)}{there}")
    return 0


def _shipped(options: Namespace) -> Shipped:
    """The weights to restore by where no checkpoint is given: those that ship."""
    from benchmark import catalog, shipped

    if options.set:
        raise UserError(f"--set {options.set[0]}: the weights that ship have their own options; leave it out")
    if options.model is None:
        return shipped.default()
    return shipped.for_network(catalog.network(options.model).name)


def _loaded_shipped(options: Namespace, ship: Shipped) -> tuple[nn.Module, Any, int | None, int]:
    _, _, tile, overlap = _asked(options)
    from benchmark.models import create_model

    device = device_named(options.device)
    return create_model(ship.network, pretrained=ship.weights).to(device), device, tile, overlap


def inspect(options: Namespace) -> int:
    """`derain inspect`."""
    if not (options.image or options.data or options.layers):
        raise UserError("nothing to inspect: give --image PICTURE, --data DATASET or --layers")
    from benchmark.cli.inspecting import draw_image, list_layers, measure_dataset
    from benchmark.files import require_output
    from benchmark.text.output import is_output

    inputs = (options.image, options.clean, options.checkpoint)
    if options.image:
        require_output("--out", options.out, None, inputs)
    if is_output(options.csv):
        require_output("--csv", options.csv, ".csv", inputs)
    network, _, tile, _ = _loaded(options)
    if options.checkpoint is None:
        print("no --checkpoint: the weights are random ones, as training starts with")
    if options.layers:
        return list_layers(network)
    if options.image:
        patch = _patch(options.patch) if options.patch else None
        draw_image(network, options.image, options.clean, options.layer, patch, tile, options.out)
    if options.data:
        measure_dataset(network, options.model, options.data, tile, options.above, options.limit)
    return 0


def _patch(text: str) -> tuple[int, int, int]:
    try:
        left, top, size = (int(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"--patch {text}: LEFT,TOP,SIZE in pixels, such as 120,40,80") from None
    if min(left, top) < 0 or size < 16:
        raise UserError(f"--patch {text}: LEFT and TOP of at least 0, SIZE of at least 16")
    return left, top, size


def _asked(options: Namespace) -> tuple[catalog.Network, RunSpec, int | None, int]:
    """The catalogue's entry, the configuration and the tiling that the options ask for, the checkpoint being there."""
    from benchmark import catalog
    from benchmark.spec import resolve

    options.model = options.model or _described(options.checkpoint)  # which is read once
    entry = catalog.network(options.model)
    words = [
        f"model={entry.name}",
        *(f"model.{word}" for word in options.set),
        f"evaluation.tile={options.tile}",
    ]
    if options.overlap is not None:
        words.append(f"evaluation.overlap={options.overlap}")
    resolved = resolve(words)
    tile, overlap = resolved.tiling
    if options.overlap is not None:
        overlap = options.overlap
    if options.checkpoint is not None and not options.checkpoint.exists():
        raise UserError(f"checkpoint {options.checkpoint}: no such file")
    return entry, resolved, tile, overlap


def _described(checkpoint: Path | None) -> str:
    """The name of the network that a checkpoint says it is of."""
    if checkpoint is None:
        raise UserError(
            "give --model NAME (derain models lists them), or a --checkpoint that says what it is of"
        )
    from benchmark.checkpoints import described

    told = described(checkpoint)
    if told is None:
        raise UserError(
            f"checkpoint {checkpoint} does not say of which network it is: give --model (derain models lists them)"
        )
    return told[0]


def _loaded(options: Namespace) -> tuple[nn.Module, Any, int | None, int]:
    """The network with its weights, on its device, and the tiling that the options ask for."""
    entry, resolved, tile, overlap = _asked(options)

    import torch

    from benchmark.checkpoints import open_network
    from benchmark.models import create_model

    device = device_named(options.device)
    if options.checkpoint is None:
        torch.manual_seed(0)
        network = create_model(entry.name, **resolved.model.options)
    else:
        network = open_network(options.checkpoint, entry.name, resolved.model.options).network
    return network.eval().to(device), device, tile, overlap


def device_named(name: str) -> Any:
    """The torch device that --device says.

    Raises:
        UserError: no such device, or there is no GPU.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: no such device; one of auto, cpu, cuda, cuda:0") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: there is no usable GPU here; use --device cpu")
    return device


def demo(options: Namespace) -> int:
    """`derain demo`."""
    from benchmark.cli.demo import demo as show

    return show(options)


def ship(options: Namespace) -> int:
    """`derain ship`."""
    from benchmark import shipped
    from benchmark.cli.shipping import Sets, draw_again, sets_of
    from benchmark.cli.shipping import ship as measure

    if options.page:
        if options.set or options.clean or options.rainy or options.first:
            raise UserError("--page measures nothing: leave out --set, --clean, --rainy and --first")
        print(draw_again(options.run, options.name, options.out or shipped.FOLDER, options.docs))
        return 0
    paired = sets_of(options.set)
    for flag, path in (("--clean", options.clean), ("--rainy", options.rainy)):
        if path is not None and not path.is_dir():
            raise UserError(f"{flag} {path}: no such folder")
    from benchmark.resident import keep_freed_memory

    keep_freed_memory()
    sets = Sets(paired, options.clean, options.rainy, options.limit)
    print(
        measure(options.run, options.name, sets, options.out or shipped.FOLDER, options.docs, options.first)
    )
    return 0


def cost(options: Namespace) -> int:
    """`derain cost`."""
    from benchmark.cli.costing import cost as count

    return count(options)


def bench(options: Namespace) -> int:
    """`derain bench`."""
    from benchmark.bench.run import bench as measure

    return measure(options)


def table(options: Namespace) -> int:
    """`derain table`."""
    from benchmark import catalog
    from benchmark.cli.tables import make_ablations, make_table1, make_table2
    from benchmark.errors import unknown

    which, values = options.number, _listed(options.values)
    request = _request(options, options.settings, _listed(options.models), _listed(options.datasets))
    if request.full_costs and which == "2":
        raise UserError("--full-costs is for Tables 1 and 3 to 5; Table 2 has no costs")
    if which in ("1", "2"):
        if values:
            raise UserError("--values is for a study over one setting, such as derain table 4 --values 1,3,8")
        if request.datasets and which == "2":
            raise UserError("--datasets is for Table 1; Table 2 has one: photographs=FOLDER gives others")
        return make_table1(request) if which == "1" else make_table2(request)
    if request.released is not None:
        raise UserError("--released is for Tables 1 and 2; an ablation varies a network that it trains")
    if not which.endswith((".yaml", ".yml")) and which not in ("3", "4", "5", *catalog.studies()):
        raise unknown("table", which, ["1", "2", "3", "4", "5", *catalog.studies()])
    if request.datasets:
        raise UserError("--datasets is for Table 1; an ablation is made on Rain200H alone")
    from benchmark.reading import like

    return make_ablations([which], request, [like(None, v) for v in values])


def ablations(options: Namespace) -> int:
    """`derain ablations`."""
    from benchmark import catalog
    from benchmark.cli.tables import make_ablations

    if options.list:
        for name in catalog.studies():
            study = catalog.study(name)
            print(f"{name:<12} {study.title}: {', '.join(v.label for v in study.variants)}")
        return 0
    settings = [word for word in options.settings if "=" in word]
    names = [word for word in options.settings if "=" not in word]
    return make_ablations(names or ["table3", "table4", "table5"], _request(options, settings))


def run(options: Namespace) -> int:
    """`derain run`."""
    from benchmark.cli.tables import make_plan

    request = _request(options, options.settings)
    if request.settings:
        raise UserError(
            f"'{request.settings[0]}': settings of runs stand in the plan; executor.… can be given here"
        )
    return make_plan(options.plan_file, request)


def study(options: Namespace) -> int:
    """`derain study`."""
    from dataclasses import replace

    from benchmark.cli.study import PARTS, draw, make_study
    from benchmark.errors import unknown

    parts = _listed(options.parts)
    for part in parts:
        if part not in PARTS:
            raise unknown("part of the study", part, PARTS)
    seeds = None if options.seeds is None else _seeds(options.seeds)
    folder = options.out or Path(options.runs) / "study-results"
    places = [word for word in options.settings if "=" not in word]
    if len(places) > 1:
        raise UserError(f"derain study: one folder of photographs, not {' and '.join(places)}")
    if not places:
        if not options.draw:
            raise UserError(
                "derain study PHOTOGRAPHS: the folder of BSDS500; or --draw --out FOLDER of a study"
            )
        print("\n".join(f"wrote {path}" for path in draw(folder)))
        return 0
    from benchmark.reading import path

    settings = [word for word in options.settings if "=" in word]
    request = replace(_request(options, settings), out=folder)
    return make_study(Path(path(places[0])), request, options.real, parts, seeds, options.draw)


def _request(
    options: Namespace, settings: list[str], models: Sequence[str] = (), datasets: Sequence[str] = ()
) -> Request:
    from benchmark.cli.tables import Request
    from benchmark.run.states import retried
    from benchmark.sweep.executors import take_settings

    executor, others = take_settings(settings, options.workers)
    saved = options.command in ("run", "study")
    return Request(
        root=None if saved else options.data,
        recipe=None if saved else options.recipe,
        models=models,
        seeds=(0,) if saved else _seeds(options.seeds),
        settings=others,
        executor=executor,
        retry=retried(options.retry),
        datasets=datasets,
        runs=options.runs,
        out=options.out,
        plan_only=options.plan or options.dry_run,
        measure=not options.dry_run,
        save_plan=None if saved else options.save_plan,
        released=getattr(options, "released", None),
        full_costs=getattr(options, "full_costs", False),
    )


def figures(options: Namespace) -> int:
    """`derain figures`."""
    from benchmark.cli.showing import make_figures

    if options.dry_run:
        return _dry_show(options, "figures")
    return make_figures(options.runs, options.recipe, _listed(options.models), options.out)


def report(options: Namespace) -> int:
    """`derain report`."""
    from benchmark.cli.reporting import make_report

    if options.dry_run:
        return _dry_show(options, "report")
    return make_report(options.runs, options.recipe, _listed(options.models), options.out)


def _dry_show(options: Namespace, what: str) -> int:
    from benchmark.cli.showing import find

    found = find(options.runs, options.recipe, _listed(options.models))
    folder = options.out or Path(options.runs) / what / options.recipe
    print(f"the {what} of {len(found.every)} runs ({', '.join(found.rows)}) would be written to {folder}")
    return 0


def sweep(options: Namespace) -> int:
    """`derain sweep`."""
    from benchmark.sweep.agents import start, sweeps

    if options.name is None:
        print("\n".join(f"{name:<8} {path}" for name, path in sweeps().items()))
        return 0
    return start(options.name)


def dashboard(options: Namespace) -> int:
    """`derain dashboard`."""
    from benchmark.cli.dashboard import dashboard as build

    tables = Path(options.runs) / "tables" / options.recipe
    embedded = options.recipe == "embedded"
    return build(options.project, options.entity, tables, embedded, options.dry_run)


def sync(options: Namespace) -> int:
    """`derain sync`."""
    from benchmark.run.tracking import sync as send

    return send(options.runs, options.dry_run)


def export(options: Namespace) -> int:
    """`derain export`."""
    from benchmark.cli.exporting import export as write

    return write(options)


def doctor(options: Namespace) -> int:
    """`derain doctor`."""
    from benchmark.cli.doctor import doctor as look

    return look(options)


def completion(options: Namespace) -> int:
    """`derain completion`."""
    from benchmark.cli import build_parser
    from benchmark.cli.completion import script

    print(script(build_parser(), options.shell))
    return 0


def _listed(text: str | None) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()] if text else []


_MOST_SEEDS = 10_000


def _seeds(text: str) -> list[int]:
    from benchmark.reading import whole
    from benchmark.spec import SEEDS

    first, dots, last = text.partition("..")
    try:
        if dots:
            ends = whole(first), whole(last)
            if ends[1] - ends[0] >= _MOST_SEEDS:
                raise UserError(f"--seeds {text}: at most {_MOST_SEEDS} seeds")
            seeds = list(range(ends[0], ends[1] + 1))
        else:
            seeds = [whole(word) for word in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {text}: different whole numbers, such as 0, 0,1,2 or 0..4")
    if not all(0 <= seed < SEEDS for seed in seeds):
        raise UserError(f"--seeds {text}: from 0 to {SEEDS - 1}")
    return seeds
