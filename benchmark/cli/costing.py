"""`derain cost`: a network's cost on the screen and in files, the corrected Table 1, the scalability table."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog
from benchmark.errors import UserError, unknown
from benchmark.files import require_output, require_place, require_writable, write_json
from benchmark.reading import path as expanded
from benchmark.report.paper import printed
from benchmark.run.costs import KeptForwards
from benchmark.run.records import in_words, read_record, shared_provenance
from benchmark.text import output
from benchmark.text.terminal import Head, Line, grid
from benchmark.text.words import commit_in_words

if TYPE_CHECKING:
    import pandas as pd

    from benchmark.cost import Cost
    from benchmark.cost.compare import Measured

_FOLDER = Path("runs") / "tables" / "cost"
_SCREEN = {  # columns of the table of layers that fit a screen
    "name": "layer",
    "kind": "kind",
    "input": "input",
    "T": "T",
    "macs": "MACs",
    "accumulates": "A",
    "rate": "s",
    "sops": "SOPs",
    "energy_uj": "energy (µJ)",
    "share": "share",
}


def cost(options: Namespace) -> int:
    """Do what `derain cost` was asked; returns the exit status."""
    if options.networks:
        return _networks(options)
    if options.scalability:
        return _scalability(options)
    if not options.model:
        raise UserError("derain cost needs --model NAME or module:Class (or --networks, or --scalability)")
    from benchmark.cost import measure_cost
    from benchmark.cost.compare import by_convention
    from benchmark.cost.conventions import convention
    from benchmark.cost.writing import write

    conventions = [convention(name) for name in options.convention]
    _require_outputs(options)
    model = _model(options)
    measured = measure_cost(model, options.size, conventions[0], options.images, limit=options.limit)
    weights = f"weights of {options.checkpoint}" if options.checkpoint else "untrained weights"
    output.remark(
        f"{options.model} at {options.size}×{options.size}; spike rates on {measured.images}, {weights}"
    )
    if options.per_layer:
        table = measured.sorted(options.sort) if options.sort else measured.layers
        _give(table, table[list(_SCREEN)].rename(columns=_SCREEN))
    else:
        table = by_convention(measured, conventions)
        _give(table)
    output.give({"neurobench": measured.neurobench(model)}, None, lambda: None)
    output.remark(*_remarks(measured, options.model))
    for path in (options.json, options.latex):
        if path is not None and path != output.STDOUT:
            output.wrote([write(table, path)])
    if options.plot is not None:
        _plot(measured, options.plot)
    return 0


def _require_outputs(options: Namespace) -> None:
    """Refuse what cannot be written before anything is counted.

    Raises:
        UserError: another ending, a place that cannot be written to, or a file where --plot needs a folder.
    """
    for form, suffix in (("json", ".json"), ("latex", ".tex")):
        path = getattr(options, form)
        if path is not None and path != output.STDOUT:
            require_output(f"--{form}", path, suffix, [options.checkpoint])
    if options.plot is not None:
        if options.plot.exists() and not options.plot.is_dir():
            raise UserError(f"--plot {options.plot}: is a file; give a folder")
        require_place("--plot", options.plot)


def _model(options: Namespace) -> Any:
    from benchmark.checkpoints import load_checkpoint, options_in, read_checkpoint
    from benchmark.cost.compare import load_target
    from benchmark.spec import resolve

    given: dict[str, Any] = {}
    if options.model.endswith(".py"):
        raise UserError(f"--model {options.model}: say which of its networks: {options.model}:Class")
    if ":" not in options.model:
        given = dict(resolve([f"model={options.model}", *(f"model.{w}" for w in options.set)]).model.options)
    elif options.set:
        raise UserError(
            "--set is for networks of the catalogue; give module:function for another configuration"
        )
    if options.checkpoint is None:
        import torch

        torch.manual_seed(0)
        return load_target(options.model, **given)
    checkpoint, source = read_checkpoint(options.checkpoint), f"checkpoint {options.checkpoint}"
    if ":" not in options.model:
        given = {**options_in(catalog.network(options.model), checkpoint, source), **given}
    model = load_target(options.model, **given)
    load_checkpoint(model, checkpoint, source)
    return model


def _remarks(measured: Cost, name: str) -> list[str]:
    from benchmark.cost.compare import tiles

    lines = [f"note: {note}" for note in measured.notes]
    tile = entry.tile if (entry := catalog.networks().get(name)) is not None else None
    height, width = measured.size[-2:] if len(measured.size) > 1 else (0, 0)
    if tile is not None and min(height, width) >= tile[0]:
        count = tiles(height, width, *tile)
        share = count * tile[0] ** 2 / (height * width)
        lines.append(
            f"test: of the whole picture at once; the published test makes {count} tiles of {tile[0]} of it "
            f"(overlap {tile[1]}), {share:.2f} times the pixels"
        )
    if measured.executed != measured.operations and measured.convention.counter != "thop":
        lines.append(
            f"executed: {measured.executed / 1e9:.3f} G; a frame that repeats over time is computed once here"
        )
    return lines + [
        f"not counted: {missed.operation}, {missed.calls} calls, first in {missed.where}"
        for missed in measured.uncounted
    ]


def _show(table: pd.DataFrame) -> None:
    heads = [Head(str(c), figures=table[c].dtype.kind not in "OUST") for c in table.columns[1:]]
    lines = [Line(_text(row[0]), [_text(v) for v in row[1:]]) for row in table.itertuples(index=False)]
    grid(str(table.columns[0]), heads, lines)


def _give(table: pd.DataFrame, shown: pd.DataFrame | None = None) -> None:
    def records() -> list[dict[str, Any]]:
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        return [{str(k): v for k, v in row.items()} for row in rows]

    output.give({"rows": records()}, lambda: table, lambda: _show(table if shown is None else shown))


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4f}" if abs(value) < 100 else f"{value:,.1f}"
    return f"{int(value):,}" if isinstance(value, (int, float)) else str(value)


def _plot(measured: Cost, folder: Path) -> None:
    from benchmark.report import costs

    require_writable(folder)
    drawn = costs.shares(measured, folder, "energy-shares")
    if measured.accumulates:
        drawn += costs.rates(measured, folder, "spike-rates")
    output.wrote(drawn)


def _networks(options: Namespace) -> int:
    from benchmark.cost.compare import make_tables, measure_networks, with_kept_rates

    folder = options.out or _FOLDER
    names = _named(options)
    given = _given_weights(options.weights, names)
    require_writable(folder)
    measured = []
    for position, name in enumerate(names, start=1):
        for path in [None, *given.get(name, [])]:
            shown = f"{name}, {path}" if path else name
            print(f"[{position}/{len(names)}] {shown}", file=sys.stderr, flush=True)
            if path is not None and path.suffix == ".csv":
                weights = re.sub(rf"^layers-{name}-?", "", path.stem).replace("-on-", " on ", 1)
                weights = re.sub(r"^(\d+)-steps", r"\1 steps", weights) or path.stem
                measured.append(with_kept_rates(name, path, options.size, weights))
                continue
            build = partial(_trained, path=path) if path else None
            measured += measure_networks([name], options.size, options.images, build, options.limit)
    paths = make_tables(folder, measured, printed("table1"))
    paths += _break_even(folder, measured)
    write_json(folder / "provenance.json", shared_provenance())
    import pandas as pd

    _give(pd.read_csv(folder / "table1.csv"))
    output.wrote([*paths, folder / "provenance.json"])
    return 0


def _break_even(folder: Path, measured: Sequence[Measured], against: str = "nafnet") -> list[Path]:
    """Tables and pictures of the spike rates at which the spiking networks cost as much as others."""
    from benchmark.cost import breakeven
    from benchmark.cost.writing import write

    if all(one.name != against for one in measured) or not any(
        one.cost.spiking and one.cost.rate for one in measured
    ):
        return []
    about = (
        "Mean spike rate, in per cent of the inputs of the layers that spikes drive, at which a spiking network takes "
        "as much energy as: its counterpart (the same layers once, ReLU for neurons); NAFNet, at whatever score; and "
        "the counterpart with activations of so many bits, an addition each. A dash: it takes more without any "
        "spike. Above 100: at any rate less."
    )
    table = breakeven.break_even(measured, against)
    paths = [write(table, folder / f"breakeven.{form}", about) for form in ("md", "csv", "tex")]
    return paths + _drawn_break_even(folder, table, against)


def _drawn_break_even(folder: Path, table: pd.DataFrame, against: str) -> list[Path]:
    from benchmark.cost import breakeven
    from benchmark.report import costs

    other = catalog.network(against)
    paths = []
    for convention in ("45nm", "lemaire"):
        level = float(table[table.convention == convention][f"{against}_uj"].iloc[0])
        lines = breakeven.lines(table, convention)
        name = f"energy-rate-{convention}"
        paths += costs.against_rate(lines, level, (other.title, other.family), convention, folder, name)
    return paths


def _given_weights(words: Sequence[str], names: Sequence[str]) -> dict[str, list[Path]]:
    """`NAME=FILE` words by network: checkpoints, or tables of layers whose rates are taken."""
    found: dict[str, list[Path]] = {}
    for word in words:
        name, sign, path = word.partition("=")
        path = expanded(path)
        if not sign or not Path(path).is_file():
            raise UserError(
                f"--weights {word}: give NAME=FILE, a network and a checkpoint (or a table of layers, .csv) that exists"
            )
        if name not in names:
            raise unknown("network", name, names)
        found.setdefault(name, []).append(Path(path))
    return found


def _trained(name: str, path: Path) -> tuple[Any, str]:
    """The full network with a checkpoint's weights, and in words what these are."""
    from benchmark.checkpoints import load_checkpoint
    from benchmark.models import create_model

    model = create_model(name)
    load_checkpoint(model, path)
    record = read_record(path.parent)
    if record is None:
        return model, path.name
    return model, f"{record['training']['steps']} steps on {record['config']['data']['name']}"


def _scalability(options: Namespace) -> int:
    from benchmark.cost.scaling import scalability
    from benchmark.cost.writing import write
    from benchmark.report import costs

    folder = options.out or _FOLDER
    require_writable(folder)
    kept = KeptForwards(folder)
    table = scalability(
        _named(options),
        images=options.images,
        time_limit=options.time_limit,
        printed=printed("spikerain_table1"),
        progress=lambda line: print(line, file=sys.stderr, flush=True),
        timed=kept,
    )
    _give(table)
    made = shared_provenance()
    preface = (
        "Full networks, untrained; one picture. Energy is under the conventions `full`, `45nm` and `paper`, with rates "
        "measured at the first size. Latency and peak memory (above what was held before) are those of one forward on "
        "the whole picture, in a process of its own.\n\n"
        f"Made by `{made['command']}`, commit {commit_in_words(made['commit'])}, on {in_words(made['machine'])}, "
        f"torch {made['versions']['torch']}, {made['date'][:10]}."
    )
    output.wrote(write(table, folder / f"scalability{suffix}", preface) for suffix in (".md", ".csv", ".tex"))
    families = {n.title: n.family for n in catalog.networks().values()}
    output.wrote(costs.growth(table, families, folder, "scalability"))
    write_json(folder / "scalability-provenance.json", made)
    kept.forget()
    return 0


def _named(options: Namespace) -> list[str]:
    names = options.model.split(",") if options.model else list(catalog.networks())
    return [catalog.network(name).name for name in names]
