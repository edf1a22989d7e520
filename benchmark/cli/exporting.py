"""`derain export`: a network with its weights as a file for other programs, compared with what it was made of."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog
from benchmark.errors import UserError, WorkError, printable, unknown
from benchmark.text import output

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.exported import Difference

_SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "nir": ".nir"}
_SIZE = 256
_ANY = "any"
_FLIPPED = 1e-3  # of all spikes may differ: one that does at the threshold brings others after it
_OTHER = (
    0.5  # of the values on noise: a spike that flips moves a part of a picture, another network all of it
)
_PHOTOGRAPH = ("embedded-heavy", "chelsea")


def export(options: Namespace) -> int:
    """Do what `derain export` was asked; returns the exit status.

    Raises:
        UserError: no such format or network, a size that it cannot have, a name with another ending.
        WorkError: the network cannot be written so, or the file does not do what the network does.
    """
    from benchmark.files import require_output
    from benchmark.spec import resolve

    if options.format not in _SUFFIXES:
        raise unknown("format", options.format, _SUFFIXES)
    require_output("-o", options.out, _SUFFIXES[options.format], [options.checkpoint])
    if options.out.exists() and not options.overwrite:
        raise UserError(f"{options.out} exists already: give another name, or --overwrite to replace it")
    if options.model is None and options.checkpoint is None:
        raise UserError(
            "give --model NAME (derain models lists them), or a --checkpoint that says what it is of"
        )
    if options.model is not None:
        entry = catalog.network(options.model)
        given: dict[str, Any] = dict(
            resolve([f"model={entry.name}", *(f"model.{word}" for word in options.set)]).model.options
        )
    elif options.set:
        raise UserError("--set: give --model too")
    else:
        given = {}
    any_size = options.size == _ANY
    if any_size and options.format == "nir":
        raise UserError("--size any: a NIR graph has one size, such as --size 64")
    size = _size(options.size) if options.size and not any_size else None
    network, entry, made, weights = _network(options, given)
    tile, overlap = entry.tile or (None, None)
    size = size or ((tile, tile) if tile else (_SIZE, _SIZE))
    if not any_size:
        _require_size(entry, size)
    if weights is None:
        output.remark("no --checkpoint, and no weights of it ship: random ones, as training starts with")
    return _write(options, network, entry, made, None if any_size else size, (tile, overlap), weights)


def _network(
    options: Namespace, given: dict[str, Any]
) -> tuple[nn.Module, catalog.Network, dict[str, Any], str | None]:
    """The network, its catalogue entry, its options, and in words whose weights these are (None: nobody's)."""
    import torch

    from benchmark import shipped
    from benchmark.models import create_model, open_network

    if options.checkpoint is not None:
        opened = open_network(options.checkpoint, options.model, given or None)
        return opened.network.eval(), catalog.network(opened.name), opened.options, options.checkpoint.name
    entry = catalog.network(options.model)
    ship = next((s for s in shipped.shipped().values() if s.network == entry.name), None)
    if ship is not None and not given:
        network = create_model(entry.name, pretrained=ship.weights)
        return network, entry, dict(ship.card["options"]), ship.name
    torch.manual_seed(0)
    return create_model(entry.name, **given).eval(), entry, given, None


def _size(text: str) -> tuple[int, int]:
    words = text.lower().replace("×", "x").split("x")
    if len(words) in (1, 2) and all(w.isdecimal() for w in words):
        height, width = int(words[0]), int(words[-1])
        if 0 < height <= 16384 and 0 < width <= 16384:
            return height, width
    raise UserError(f"--size {text}: pixels, such as 256, or HEIGHTxWIDTH, such as 256x384, or any")


def _require_size(entry: catalog.Network, size: tuple[int, int]) -> None:
    multiple, least = entry.size_multiple, entry.minimum_size
    if min(size) < least or any(n % multiple for n in size):
        right = [max(multiple * -(-n // multiple), multiple * -(-least // multiple)) for n in size]
        raise UserError(
            f"--size {size[0]}x{size[1]}: {entry.title} needs multiples of {multiple} of at least {least} pixels; "
            f"--size {right[0]}x{right[1]} is the next"
        )


def _write(
    options: Namespace,
    network: nn.Module,
    entry: catalog.Network,
    made: dict[str, Any],
    size: tuple[int, int] | None,
    tiling: tuple[int | None, int | None],
    weights: str | None,
) -> int:
    import torch

    from benchmark.exported import READERS, TOLERANCE, TRANSLATORS, WithoutKernels, difference
    from benchmark.files import atomic
    from benchmark.run.records import commit, versions

    # some options set it: levels, windows
    multiple = int(getattr(network, "multiple", entry.size_multiple))
    about = {
        "name": entry.name,
        "title": entry.title,
        "options": {k: list(v) if isinstance(v, tuple) else v for k, v in made.items()},
        "weights": weights,
        "size": None if size is None else list(size),
        "multiple": multiple,
        "range": [0.0, 1.0],
        "layout": "1, 3 (RGB), height, width; float32",
        "tile": tiling[0],
        "overlap": tiling[1],
        "commit": commit(),
        "torch": versions().get("torch"),
    }
    unit = multiple * -(-entry.minimum_size // multiple)
    traced, tried = (size, size) if size is not None else ((3 * unit, 4 * unit), (5 * unit, 2 * unit))
    generator = torch.Generator().manual_seed(0)
    example, other = (torch.rand(1, 3, *sides, generator=generator) for sides in (traced, tried))
    if options.format == "nir":
        return _write_nir(options, network, about, example)
    output.remark(f"translating {entry.title}: {_sides(size, multiple)}")
    save = TRANSLATORS[options.format](network, example, about)
    with atomic(options.out) as temporary:  # which has its name once it was tried
        save(temporary, about)
        found: dict[str, Difference] = {}
        try:
            exported = READERS[options.format](temporary)
        except UserError as error:
            untried = str(error).replace(str(temporary), str(options.out))
        else:
            untried = ""
            output.remark("trying it against the network on a picture of noise and on a rainy photograph")
            photograph = _tiles(size, multiple)
            plain = WithoutKernels(network)
            found["noise"] = difference(plain, exported, other)
            if entry.family != "Spiking" or found["noise"].share > _OTHER:
                _require_same(options.out, found["noise"])
            if photograph is not None:
                found["photograph"] = difference(plain, exported, photograph)
                if entry.family == "Spiking":  # no other has kernels
                    found["kernels"] = difference(network, plain, photograph)
            save(temporary, {**about, "tried": {"tolerance": TOLERANCE, **_figures(found)}})
    _tell(options.out, size, multiple)

    def show() -> None:
        if untried:
            print(f"not tried: {untried}")
            return
        plainly = " in torch's own operations" if "kernels" in found else ""
        print(f"on a picture of noise it differs from the network{plainly} by {_apart(found['noise'])}")
        if "photograph" in found:
            print(f"on a rainy photograph by {_apart(found['photograph'])}")
        if "kernels" in found:
            print(
                f"there this machine's kernels take the network itself from those by {_apart(found['kernels'])}"
            )

    rows = [
        {"compared": what, **figures, "tolerance": TOLERANCE} for what, figures in _figures(found).items()
    ]
    outcome = {"tolerance": TOLERANCE, **_figures(found)} if found else None
    _give(options, about, {"tried": outcome, "not_tried": untried or None}, rows, show)
    if entry.family == "Spiking" and any(f.share for f in found.values()):
        output.remark(
            "a neuron whose potential is at its threshold fires or not by how the last bit is rounded"
        )
    return 0


def _figures(found: Mapping[str, Difference]) -> dict[str, dict[str, float]]:
    return {what: {"largest": f.largest, "share": f.share} for what, f in found.items()}


def _give(
    options: Namespace,
    about: Mapping[str, Any],
    measured: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    show: Callable[[], None],
) -> None:
    """What was written and how far it is from the network: one row a picture that it was tried on, at least one."""
    file = {"file": str(options.out), "format": options.format, "bytes": options.out.stat().st_size}
    told = {key: about[key] for key in ("name", "options", "weights", "size", "multiple") if key in about}
    output.give(
        {**file, **told, **measured}, output.frame_of([{**file, **row} for row in rows or [{}]]), show
    )


def _require_same(path: Path, found: Difference) -> None:
    from benchmark.exported import TOLERANCE

    if not found.largest <= TOLERANCE:
        raise WorkError(
            f"{path}: not written, as it differs from the network by {found.largest:.1e} on a picture of noise "
            f"(asked for: {TOLERANCE:.0e})"
        )


def _apart(found: Difference) -> str:
    from benchmark.exported import TOLERANCE

    return f"{found.largest:.1e} of 1 at most, {100 * found.share:.2g} % of the values by more than {TOLERANCE:.0e}"


def _tiles(size: Sequence[int] | None, multiple: int) -> Tensor | None:
    """A rainy photograph that ships, (N, 3, H, W) in [0, 1]: its tiles of a size, or whole; None if it is missing."""
    import torch

    from benchmark.data.embedded import render_split
    from benchmark.restoration.tiling import reflect_to

    try:
        split = render_split(_PHOTOGRAPH[0], "test")
    except UserError as error:
        output.remark(f"not tried on a photograph: {error}")
        return None
    rainy = torch.tensor(split.rainy[split.groups.index(_PHOTOGRAPH[1])]).permute(2, 0, 1)[None] / 255
    if size is None:
        return reflect_to(rainy, *(multiple * -(-n // multiple) for n in rainy.shape[-2:]))
    height, width = size
    rainy = reflect_to(rainy, max(height, rainy.shape[-2]), max(width, rainy.shape[-1]))
    tiles = rainy.unfold(2, height, height).unfold(3, width, width)
    return tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, height, width)


def _tell(path: Path, size: Sequence[int] | None, multiple: int = 1) -> None:
    output.remark(f"wrote {printable(path)}: {path.stat().st_size / 2**20:.1f} MiB, {_sides(size, multiple)}")


def _sides(size: Sequence[int] | None, multiple: int) -> str:
    return f"{size[0]}×{size[1]} pixels" if size is not None else f"sides of multiples of {multiple} pixels"


def _write_nir(options: Namespace, network: nn.Module, about: dict[str, Any], example: Tensor) -> int:
    from benchmark.files import atomic
    from benchmark.neuromorphic import differing_spikes, encoder_graph, write_nir

    path, (height, width) = options.out, example.shape[-2:]
    graph = encoder_graph(network, (height, width), about)
    differ, of, untried = 0, 0, ""
    with atomic(path) as temporary:  # which has its name once it was tried
        write_nir(graph, temporary)
        output.remark("trying it against the network on a picture of noise")
        try:
            differ, of = differing_spikes(network, temporary, example)
        except UserError as error:
            untried = str(error).replace(str(temporary), str(path))
        if differ > _FLIPPED * of:
            raise WorkError(
                f"{path}: not written, as {differ:,} of {of:,} spikes differ from the network's on a picture of noise"
            )
    _tell(path, (height, width))
    output.remark(
        "it is the encoder, from the picture to its three levels: NIR has no primitive for what enlarges them"
    )
    tried = None if untried else {"compared": "noise", "spikes": of, "differ": differ}
    said = (
        f"not tried: {untried}"
        if untried
        else f"on a picture of noise {differ:,} of {of:,} spikes differ from the network's, by snnTorch's reader"
    )
    rows = [] if tried is None else [tried]
    _give(options, about, {"tried": tried, "not_tried": untried or None}, rows, lambda: print(said))
    return 0
