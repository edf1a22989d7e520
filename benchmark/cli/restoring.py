"""`derain restore`: pictures and videos, by the weights that ship or by others."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cli.loading import asked, device_named, loaded
from benchmark.errors import UserError, printable
from benchmark.text import output

if TYPE_CHECKING:
    from torch import nn

    from benchmark.restoration.restoring import Outcome
    from benchmark.restoration.videos import Encoding
    from benchmark.shipped import Shipped


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
    network, device, tile, overlap = loaded(options) if ship is None else _loaded_shipped(options, ship)
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
    _give(options, outcome, ship)
    for path, used in outcome.tiled.items():
        what = "the whole" if automatic else f"tiles of {tile}"
        insists = " (--tile whole insists)" if automatic else ""
        output.remark(f"{printable(path)}: in tiles of {used}, as {what} did not fit into memory{insists}")
    if outcome.passed_over:
        output.remark(f"passed over, by name neither picture nor video: {_some(outcome.passed_over)}")
    for path, words in outcome.remarks:
        output.remark(f"{printable(path)}: {words}")
    for path, reason in [*outcome.lost, *outcome.failed]:
        told = printable(path)
        print(f"derain: {reason if told in reason else f'{told}: {reason}'}", file=sys.stderr)
    if ship is not None and outcome.done:
        output.remark(*ship.in_words(automatic and bool(outcome.tiled)))
    return 1 if outcome.failed or outcome.lost else 0


def _give(options: Namespace, outcome: Outcome, ship: Shipped | None) -> None:
    """What was restored: names and how many for people, as data with sizes in pixels and bytes, and seconds."""
    rows = [
        {
            "input": str(one.source),
            "output": str(one.destination),
            "width": one.width,
            "height": one.height,
            "frames": one.frames,
            "tile": one.tile,
            "seconds": round(one.seconds, 3),
            "bytes": one.destination.stat().st_size,
        }
        for one in outcome.done
    ]
    found = {
        "network": options.model if ship is None else ship.network,
        "weights": str(options.checkpoint) if ship is None else ship.name,
        "restored": rows,
        "failed": _told(outcome.failed),
        "lost": _told(outcome.lost),
        "remarks": _told(outcome.remarks),
        "passed_over": [str(path) for path in outcome.passed_over],
    }

    def show() -> None:
        for path in outcome.written[:_LISTED] if options.out is None else []:
            print(printable(path))
        more = outcome.written[_LISTED:] if options.out is None else []
        count = f"{len(outcome.written)} restored" + (f" to {printable(options.out)}" if options.out else "")
        print(f"{count} ({len(more)} more than these)" if more else count)

    output.give(found, output.frame_of(rows), show)


def _told(lines: Sequence[tuple[Path, str]]) -> list[dict[str, str]]:
    return [{"input": str(path), "reason": words} for path, words in lines]


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
    from benchmark.restoration.places import planned

    asked(options)
    rows, lines = [], []
    for source, destination in planned(options.inputs, options.out, _encoding(options), _by(options, ship)):
        there = "" if not destination.exists() else ", which would be replaced"
        if there and options.only_missing:
            continue
        if there and not options.overwrite:
            raise UserError(
                f"{destination} exists already: give another output folder, --overwrite or --only-missing"
            )
        rows.append({"input": str(source), "output": str(destination), "replaced": bool(there)})
        lines.append(f"{printable(source)} would be restored to {printable(destination)}{there}")
    output.give({"planned": rows}, output.frame_of(rows), lambda: print("\n".join(lines)))
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
    _, _, tile, overlap = asked(options)
    from benchmark.models import create_model

    device = device_named(options.device)
    return create_model(ship.network, pretrained=ship.weights).to(device), device, tile, overlap
