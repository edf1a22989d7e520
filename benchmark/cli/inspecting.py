"""The work of `derain inspect`: from a network and a picture to the drawing, from a dataset to the rates."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog
from benchmark.cli.loading import loaded
from benchmark.errors import UserError
from benchmark.report.style import FORMS
from benchmark.text import output
from benchmark.text.terminal import Head, Line, grid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from benchmark.cost.inspection import Activity, Rates

_SIZE = 80  # px of a patch, unless the network's own tiles say otherwise


def inspect(options: Namespace) -> int:
    """`derain inspect`."""
    if not (options.image or options.data or options.layers):
        raise UserError("nothing to inspect: give --image PICTURE, --data DATASET or --layers")
    from benchmark.files import require_output
    from benchmark.text.output import is_output

    inputs = (options.image, options.clean, options.checkpoint)
    if options.image:
        require_output("--out", options.out, None, inputs)
    if is_output(options.csv):
        require_output("--csv", options.csv, ".csv", inputs)
    network, _, tile, _ = loaded(options)
    if options.layers:
        return list_layers(network)
    if options.image:
        patch = _patch(options.patch) if options.patch else None
        draw_image(network, options.image, options.clean, options.layer, patch, tile, options.out)
    if options.data:
        measure_dataset(network, options.model, options.data, tile, options.above, options.limit)
    if options.checkpoint is None:
        output.remark("no --checkpoint: the weights are random ones, as training starts with")
    return 0


def _patch(text: str) -> tuple[int, int, int]:
    try:
        left, top, size = (int(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"--patch {text}: LEFT,TOP,SIZE in pixels, such as 120,40,80") from None
    if min(left, top) < 0 or size < 16:
        raise UserError(f"--patch {text}: LEFT and TOP of at least 0, SIZE of at least 16")
    return left, top, size


def list_layers(network: nn.Module) -> int:
    """Print the names of the layers of neurons, in order."""
    from benchmark.cost.inspection import neurons

    names = list(neurons(network))
    rows = [{"layer": name} for name in names]
    output.give({"names": names}, output.frame_of(rows), lambda: print("\n".join(names)))
    return 0


def draw_image(
    network: nn.Module,
    rainy_path: Path,
    clean_path: Path | None,
    layer: str | None,
    patch: tuple[int, int, int] | None,
    tile: int | None,
    out: Path,
) -> None:
    """Draw what a layer does in a patch of a rainy picture and in the same patch without rain.

    Args:
        network: a spiking one, in evaluation mode.
        rainy_path: the picture.
        clean_path: the same picture without rain; None takes the network's own result.
        layer: name of the neurons; None for the first.
        patch: left, top, size; None: where the two differ most, or the middle.
        tile: size of a patch that is not given.
        out: the drawing, PNG or PDF.

    Raises:
        UserError: unreadable or differently sized pictures, a patch outside, no such layer, another kind of file.
    """
    import torch

    from benchmark.cost.inspection import wettest

    if out.suffix not in (".png", ".pdf"):
        raise UserError(f"--out {out}: the drawing is a .png or a .pdf")
    rainy = _read(rainy_path)
    clean = _read(clean_path) if clean_path is not None else None
    height, width = rainy.shape[-2:]
    if clean is not None and clean.shape != rainy.shape:
        raise UserError(
            f"{clean_path} is {clean.shape[-1]}×{clean.shape[-2]}, {rainy_path} is {width}×{height}: "
            "they must be the same picture without and with rain"
        )
    if patch is None:
        size = min(tile or _SIZE, height, width)
        if clean is not None:
            patch = (*wettest((rainy - clean).abs().mean(0).numpy(), size), size)
        else:
            patch = ((width - size) // 2, (height - size) // 2, size)
    left, top, size = patch
    if left + size > width or top + size > height:
        raise UserError(f"--patch {left},{top},{size}: reaches beyond the picture of {width}×{height}")

    def cut(picture: Tensor) -> Tensor:
        return picture[:, top : top + size, left : left + size]

    wet = cut(rainy)
    if clean is None:
        with torch.no_grad():
            device = next(network.parameters()).device
            dry, title = network(wet[None].to(device))[0].clamp(0, 1).cpu(), "restored"
    else:
        dry, title = cut(clean), "clean"
    where = f"{rainy_path.name}, {size} × {size} px at ({left}, {top})"
    patches = [("rainy", wet), (title, dry)]
    form = out.suffix[1:]
    done = draw_patches(network, patches, layer, where, out.parent, out.stem, [form])[0]
    rows: list[dict[str, Any]] = [
        {
            "layer": seen.layer,
            "patch": of,
            "left": left,
            "top": top,
            "size": size,
            "rate": float(seen.rates.mean()),
            **{f"rate_{t}": float(rate) for t, rate in enumerate(seen.rates.mean((1, 2)), 1)},
        }
        for of, seen in done
    ]

    def show() -> None:
        for of, seen in done:
            steps = ", ".join(f"{r:.1%}" for r in seen.rates.mean((1, 2)))
            print(f"{of:<9} spike rate {seen.rates.mean():.1%} in {seen.layer} (by step: {steps})")

    output.give({"patches": rows}, output.frame_of(rows), show)
    output.remark(f"drawn to {out}")


def draw_patches(
    network: nn.Module,
    patches: Sequence[tuple[str, Tensor]],
    layer: str | None,
    where: str,
    folder: Path,
    name: str,
    forms: Sequence[str] = FORMS,
) -> tuple[list[tuple[str, Activity]], list[Path]]:
    """Draw what a layer does in patches, as Figure 2 of the paper does.

    Args:
        network: a spiking one, in evaluation mode.
        patches: titles, and (3, H, W) in [0, 1].
        layer: name of the neurons; None for the first.
        where: the patches are, for the heading.
        folder, name: of the drawing's files.
        forms: of the files.

    Returns:
        What it did, by the patch's title; the files.
    """
    from benchmark.cost.inspection import activity
    from benchmark.report.inspection import Patch, draw, known_as

    done = [(title, activity(network, picture, layer)) for title, picture in patches]
    drawn = [
        Patch(title, picture.permute(1, 2, 0).numpy(), seen.rates, seen.potentials)
        for (title, picture), (_, seen) in zip(patches, done, strict=True)
    ]
    first = done[0][1]
    said = known_as(first.layer)
    title = f"{where}\n{said[0].upper()}{said[1:]}"
    return done, draw(drawn, folder, name, title, first.threshold, forms)


def measure_dataset(
    network: nn.Module,
    model: str,
    data: str,
    tile: int | None,
    above: int,
    limit: int | None,
) -> None:
    """Print spike rates on rain and on background over a dataset, by part of the network.

    Raises:
        UserError: no such dataset, or no rain or no background in it.
    """
    from benchmark.cost.inspection import rain_rates, together
    from benchmark.data import DATASETS, open_pairs
    from benchmark.run.records import shared_provenance, without_folders

    embedded = data in DATASETS and DATASETS[data].embedded
    if data in DATASETS and not embedded and not Path(data).exists():
        raise UserError(f"--data {data}: give the folder that it lies in")
    pairs = open_pairs(data, None, "test") if embedded else open_pairs("folder", data, "test")
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: at least 1")
    chosen = [pairs[i] for i in range(min(len(pairs), limit or len(pairs)))]
    rates, share, of_pairs = rain_rates(network, chosen, tile, catalog.network(model).size_multiple, above)
    if not 0 < share < 1:
        nothing = "no rain" if share == 0 else "no background"
        raise UserError(
            f"{data}: {nothing} in it where rain is a difference above {above} of 255; try another --above"
        )
    output.remark(
        f"{data}: {len(chosen)} pairs, {f'windows of {tile} px' if tile else 'whole pictures'}; rain is a difference "
        f"above {above} of 255, {share:.1%} of the pixels"
    )
    places: dict[str, list[Rates]] = {}
    for rate in rates:
        places.setdefault(rate.layer.partition(".")[0], []).append(rate)
    whole = together(rates, "all")
    lines = [_line(together(parts, place), len(parts)) for place, parts in places.items()]
    lines.append(_line(whole, len(rates)))
    rows = _rows([*rates, whole])
    heads = [Head(title) for title in ("on rain", "background", "ratio", "layers")]
    scenes = pairs.groups[: len(chosen)]
    differences = {
        "background": _difference(of_pairs[:, 0] - of_pairs[:, 1], scenes),
        "without_rain": _difference(of_pairs[:, 0] - of_pairs[:, 2], scenes),
    }
    found = {
        "data": without_folders(data),
        "tile": tile,
        "above": above,
        "share_of_rain": share,
        "layers": rows,
        "pairs": [
            dict(zip(("rain", "background", "without_rain"), pair, strict=True)) for pair in of_pairs.tolist()
        ],
        "rain_less": differences,
        **shared_provenance(),
    }
    more = sum(r.rain > r.background for r in rates)

    def show() -> None:
        grid("", heads, lines)
        print(f"{more} of {len(rates)} layers fire more on rain than on the background")
        print(f"rain less background, by picture: {_told(differences['background'])}")
        print(f"rain less the same places without it: {_told(differences['without_rain'])}")

    output.give(found, output.frame_of(rows), show)


def _difference(values: NDArray[np.float64], scenes: Sequence[str]) -> dict[str, Any] | None:
    """A mean over pictures in percentage points, with its interval over scenes; None where no picture has both."""
    from benchmark.report.intervals import mean_interval

    there = values == values  # NaN: no such place
    own = [scene for scene, has in zip(scenes, there, strict=True) if has]
    if not own:
        return None
    found = mean_interval(100 * values[there], own)
    return {
        "points": found.mean,
        "low": found.low,
        "high": found.high,
        "pictures": len(own),
        "scenes": found.scenes,
        "withheld": found.withheld,
    }


def _told(found: dict[str, Any] | None) -> str:
    if found is None:
        return "no picture has both"
    low, high = found["low"], found["high"]
    bounds = found["withheld"] if low is None else f"95 % interval {low:+.2f} to {high:+.2f}"
    several = "" if found["scenes"] == found["pictures"] else f" of {found['scenes']} scenes"
    return f"{found['points']:+.2f} points ({found['pictures']} pictures{several}; {bounds})"


def _line(rate: Rates, layers: int) -> Line:
    ratio = f"{rate.rain / rate.background:.2f}" if rate.background else "–"
    return Line(rate.layer, [f"{rate.rain:.2%}", f"{rate.background:.2%}", ratio, str(layers)])


def _rows(rates: list[Rates]) -> list[dict[str, Any]]:
    rows = []
    for rate in rates:
        row: dict[str, Any] = {"layer": rate.layer, "rain": rate.rain, "background": rate.background}
        if rate.layer != "all":
            for t, (rain, background) in enumerate(zip(*rate.by_step, strict=True), 1):
                row |= {f"rain_{t}": rain, f"background_{t}": background}
        rows.append(row)
    return rows


def _read(path: Path) -> Tensor:
    import torch

    from benchmark.data import read_image

    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return torch.from_numpy(read_image(path)).permute(2, 0, 1).float().div_(255)
