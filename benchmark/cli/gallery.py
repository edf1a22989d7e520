"""Runs that have been done, with their weights: their networks, and pictures restored by them.

Restored pictures lie as 8-bit PNG in the run's folder, `restored/SET/NAME.png`; they are made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark import catalog
from benchmark.errors import Diverged, UserError
from benchmark.files import WEIGHTS, file_digest
from benchmark.report.rows import row_of, title_of
from benchmark.run.records import FAILURE, RECORD, Record, read_record
from benchmark.spec import RunSpec, from_plain

if TYPE_CHECKING:
    from torch import nn

Picture = NDArray[np.uint8]
Photograph = tuple[str, Callable[[], Picture]]  # its name, and how to get its pixels


@dataclass(frozen=True)
class Run:
    """A run that is done: where it is, and its record."""

    folder: Path
    record: Record

    @property
    def config(self) -> RunSpec:
        """Its configuration."""
        return from_plain(self.record["config"])

    @property
    def model(self) -> str:
        """Its network's name."""
        return str(self.record["config"]["model"]["name"])

    @property
    def row(self) -> str:
        """By what tables know its row: its network's name, or the marked name of a row that nobody trained here."""
        return row_of(self.record)

    @property
    def title(self) -> str:
        """Its row's name for people."""
        return title_of(self.record)

    @property
    def network(self) -> str | None:
        """Its network's name in the catalogue; None of pictures that others restored."""
        row = self.record.get("row")
        return self.model if row is None else row["network"]

    @property
    def weights(self) -> Path | None:
        """Its weights; None where they are not kept."""
        path = self.folder / WEIGHTS
        return path if path.is_file() else None

    @property
    def weights_digest(self) -> str:
        """A hash of its weights' file; empty where they are not kept."""
        return file_digest(self.weights)[:16] if self.weights else ""


def find_runs(folder: str | Path) -> list[Run]:
    """All runs with a record below a folder, in the catalogue's order of networks."""
    order = list(catalog.networks())
    found = []
    for path in sorted(Path(folder).rglob(RECORD)):
        record = read_record(path.parent)
        if record is not None and {"config", "results"} <= set(record):
            found.append(Run(path.parent, record))

    def rank(run: Run) -> tuple[int, str]:
        return (order.index(run.model) if run.model in order else len(order), run.folder.name)

    return sorted(found, key=rank)


def find_failures(folder: str | Path) -> list[Record]:
    """What runs below a folder that have no record left instead."""
    found = (read_record(p.parent, FAILURE) for p in sorted(Path(folder).rglob(FAILURE)))
    done = {run.folder.name for run in find_runs(folder)}
    return [f for f in found if f is not None and f.get("name") not in done]


def network_of(run: Run, device: Any = None) -> nn.Module:
    """The run's network with its trained weights, in eval mode.

    Raises:
        UserError: the weights are not kept or do not fit.
    """
    import torch

    from benchmark.checkpoints import load_checkpoint
    from benchmark.models import create_model

    if run.weights is None:
        raise UserError(f"{run.folder / WEIGHTS}: not there; do the run again to restore pictures with it")
    network = create_model(run.model, **run.config.options)
    load_checkpoint(network, run.weights)
    return network.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def restore_photographs(
    run: Run,
    photographs: Sequence[Photograph],
    folder: Path,
    whole: Literal["auto"] | None = "auto",
    truncated: Path | None = None,
) -> Iterator[tuple[str, Path]]:
    """Restore photographs by a run's network, tiled as the run was tested.

    Args:
        run: whose network.
        photographs: what to restore.
        folder: for the restored pictures.
        whole: of networks that are tested on whole pictures: "auto", in tiles where they do not fit into memory; None,
            whole in any case.
        truncated: folder for the same pictures with 8 bits cut off instead of rounded; None: they are not made.

    Yields:
        (name, path of the restored picture), one by one; those that are there already are not made again.

    Raises:
        Diverged: a restored picture is not finite.
    """
    from benchmark.restoration.restoring import restore_pixels
    from benchmark.restoration.writing import write_restored
    from benchmark.run.evaluate import png_path

    network = None
    tile, overlap = run.config.tiling
    for name, pixels in photographs:
        path = png_path(folder, name)
        cut = None if truncated is None else png_path(truncated, name)
        if not path.is_file() or not (cut is None or cut.is_file()):
            if network is None:
                network = network_of(run)
            restored, _ = restore_pixels(network, pixels(), whole if tile is None else tile, overlap)
            if not bool(restored.isfinite().all()):
                raise Diverged(f"{name}: the network's output has NaN or infinite values")
            write_restored(path, restored)
            if cut is not None:
                write_restored(cut, restored, truncated=True)
        yield name, path


def test_pictures(
    dataset: str, root: str | None, most: int | None = None
) -> dict[str, tuple[Picture, Picture]]:
    """The first pairs of a test set: {name: (rainy, target)}, uint8 (H, W, 3)."""
    from benchmark.data import open_pairs

    pairs = open_pairs(dataset, root, "test")
    count = len(pairs) if most is None else min(most, len(pairs))
    return {pairs.names[i]: pairs.arrays(i) for i in range(count)}


def restored_tests(run: Run, dataset: str, pairs: Mapping[str, tuple[Picture, Picture]]) -> dict[str, Path]:
    """A run's restored pictures of some test pairs: {name: path}.

    They are made where they are not there yet; those that others restored are there or not.
    """
    from benchmark.run.evaluate import png_path

    folder = run.folder / "restored" / dataset
    if run.network is None or run.weights is None:
        return {name: path for name in pairs if (path := png_path(folder, name)).is_file()}

    def rainy(name: str) -> Callable[[], Picture]:
        return lambda: pairs[name][0]

    wanted = [(name, rainy(name)) for name in pairs]
    return dict(restore_photographs(run, wanted, folder))
