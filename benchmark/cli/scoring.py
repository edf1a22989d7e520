"""`derain score`: restored pictures against their targets, whoever restored them."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.data.images import image_size, list_images, not_kept
from benchmark.data.layouts import pair
from benchmark.errors import UserError, WorkError, printable
from benchmark.means import identical_note
from benchmark.text import output

if TYPE_CHECKING:
    from argparse import Namespace

COLUMNS = "name,width,height,"  # what a table of this command begins with


def score(options: Namespace) -> int:
    """Measure a folder of restored pictures (or one picture) against the targets of the same names.

    Returns:
        0; 1 where a picture of either side could not be measured: it is named, and the means say "n of N".

    Raises:
        UserError: no pictures, or no name of one side fits one of the other.
    """
    for flag, path in (("RESTORED", options.restored), ("TARGET", options.target)):
        if not path.exists():
            raise UserError(f"{flag} {path}: no such file or folder")
    if output.is_output(options.csv):
        from benchmark.files import require_table

        require_table(options.csv, "derain score", COLUMNS)
    pairs, faults = _pairs(options.restored, options.target)
    rows = []
    from benchmark.metrics.fidelity import CONVENTIONS, least_side
    from benchmark.run.evaluate import measure_pictures, summary

    measurable = []
    for restored, target in pairs:
        try:
            size, wanted = image_size(restored)[::-1], image_size(target)[::-1]
            told = [f"{path.name}: {remark}" for path in (restored, target) for remark in not_kept(path)]
        except (UserError, WorkError) as error:
            faults.append(str(error))
            continue
        if size != wanted:
            faults.append(f"{restored}: {size[0]}×{size[1]}, but its target is {wanted[0]}×{wanted[1]}")
        elif min(size) < least_side():
            faults.append(f"{restored}: {size[0]}×{size[1]}; the metrics need {least_side()} on each side")
        else:
            measurable.append((restored, target, size))
            for remark in told:
                print(f"derain: {printable(remark)}", file=sys.stderr)
    for restored, target, size in measurable:
        try:
            (values,) = measure_pictures([(restored, target)], tuple(CONVENTIONS), workers=1)
        except (UserError, WorkError) as error:
            faults.append(str(error))
            continue
        rows.append({"name": restored.name, "width": size[0], "height": size[1], **values})
    for fault in faults:
        print(f"derain: {printable(fault)}", file=sys.stderr)
    if not rows:
        raise UserError(f"{options.restored}: no picture could be measured against {options.target}")
    of = len(rows) + len(faults)
    mean = summary(rows)
    output.give(
        {"n": len(rows), "of": of, "mean": mean, "images": rows, "faults": faults},
        output.frame_of(rows),
        partial(_print, mean, len(rows), of, list(CONVENTIONS)),
    )
    return 1 if faults else 0


def _pairs(restored: Path, target: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """(restored, target) files, and a line for each that has no partner."""
    if restored.is_file() or target.is_file():
        if restored.is_dir() or target.is_dir():
            raise UserError(f"{restored}, {target}: two folders, or two pictures")
        return [(restored, target)], []
    sides = [{path.name: path for path in list_images(folder)} for folder in (restored, target)]
    for folder, pictures in zip((restored, target), sides, strict=True):
        if not pictures:
            raise UserError(f"{folder}: no pictures directly in it")
    found = pair(*sides)
    if not found.pairs:
        raise UserError(
            f"{restored}: no name fits one in {target} (they begin {min(sides[0])} and {min(sides[1])})"
        )
    faults = [f"{restored / name}: no target of that name in {target}" for name in found.unpaired_rainy]
    faults += [f"{target / name}: not among the restored pictures" for name in found.unpaired_clean]
    faults += [f"{', '.join(a)} fit {', '.join(b)}: not measured" for a, b in found.ambiguous]
    return [(sides[0][a], sides[1][b]) for a, b in found.pairs], faults


def _print(mean: dict[str, Any], n: int, of: int, conventions: list[str]) -> None:
    print(f"{n} pictures" if n == of else f"{n} of {of} pictures: the means are of these alone")
    from benchmark.text.terminal import Head, Line, grid

    lines = [Line(c, [f"{mean[f'psnr_{c}']:.3f}", f"{mean[f'ssim_{c}']:.4f}"]) for c in conventions]
    grid("convention", [Head("PSNR-Y"), Head("SSIM-Y")], lines)
    if mean["infinite"]:
        print(identical_note(mean["infinite"]))
