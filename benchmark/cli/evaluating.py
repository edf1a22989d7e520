"""`derain evaluate`: pairs restored by a checkpoint and measured."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from benchmark.cli.loading import asked, listed, loaded
from benchmark.errors import DiskFull, UserError, printable
from benchmark.means import identical_note
from benchmark.text import output


def evaluate(options: Namespace) -> int:
    """`derain evaluate`."""
    if options.dry_run:
        return _dry_evaluate(options)
    asked(options)  # a mistake in the words is answered before the pictures are looked at
    _require_outputs(options)
    if _row_of(options) is not None:
        return _recorded(options)
    from benchmark.data import open_pairs
    from benchmark.metrics.fidelity import CONVENTIONS, least_side
    from benchmark.metrics.measures import opened
    from benchmark.run.evaluate import evaluate as measure
    from benchmark.run.evaluate import summary

    measures, about = opened(listed(options.metrics))
    least = max([least_side(), *(m.metric.least for m in measures)])
    pairs = open_pairs("folder", options.data, "test", least=least)
    from benchmark.resident import keep_freed_memory

    keep_freed_memory()
    network, device, tile, overlap = loaded(options)
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
        **({"trained_on": listed(options.trained_on)} if options.trained_on else {}),
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
    metrics = listed(options.metrics)
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


def _dry_evaluate(options: Namespace) -> int:
    from benchmark.data.layouts import list_pairs
    from benchmark.data.specs import dataset_spec
    from benchmark.metrics.measures import asked as asked_metric

    _, _, tile, overlap = asked(options)
    for word in listed(options.metrics):
        asked_metric(word)
    _require_outputs(options)
    _row_of(options)
    pairs = list_pairs(dataset_spec("folder"), options.data, "test")
    found = {"pairs": len(pairs), "tile": tile, "overlap": overlap if tile else None}
    how = f"in tiles of {tile}, overlap {overlap}" if tile else "whole"
    output.give(found, None, lambda: print(f"{len(pairs)} pairs would be measured, {how}"))
    for what, path in (("one row an image", options.csv), ("the restored pictures", options.save)):
        if path:
            output.remark(f"{what} would be written to {printable(path)}")
    return 0
