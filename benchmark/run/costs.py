"""What networks cost, counted once and kept beside the records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.catalog import network
from benchmark.data.specs import dataset_spec, test_sets
from benchmark.errors import UserError
from benchmark.run.records import Record, machine, provenance, read_record, versions, write_record
from benchmark.sources import counting_digest
from benchmark.spec import RunSpec

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.cost.scaling import Run

COST = "cost.json"
FORWARDS = ".forwards.json"
_CONVENTIONS = ("full", "paper", "45nm", "lemaire")
_PICTURES = 8  # of the test set, for spike rates
_GLANCE = 32  # px: enough to see which layers are driven by spikes


def full_costs(models: Sequence[str], folder: Path, size: int = 256) -> dict[str, dict[str, Any]]:
    """Parameters and dense operations of the full networks at `size`², by name.

    Counted on shapes alone (`benchmark.measure_cost(..., shapes_only=True)`): no weights and no pictures are needed.
    A count is kept in `folder` and used again by the same code with the same versions.
    """
    costs: dict[str, dict[str, Any]] = {}
    for name in models:
        place = folder / f"{name}-{size}"
        made_by = counted_by(name)
        kept = kept_of(place, made_by)
        if kept is None:
            from benchmark.cost import measure_cost
            from benchmark.models import create_model

            counted = measure_cost(create_model(name), size, shapes_only=True)
            kept = {"model": name, "cost": counted.under("full").summary(), **provenance(name), **made_by}
            write_record(place, kept, COST)
        costs[name] = kept["cost"]
    return costs


def counted_by(name: str) -> dict[str, Any]:
    """What a count of a network depends on: the code that counts and the network's, also one from outside; versions."""
    return {"counted_by": counting_digest(network(name).target), "versions": versions()}


def kept_of(place: Path, same: Mapping[str, Any], filename: str = COST) -> Record | None:
    """What is kept there, if all that made it is the `same` now; what cannot be read is made anew."""
    try:
        kept = read_record(place, filename)
    except UserError:
        return None
    return kept if kept is not None and all(kept.get(key) == value for key, value in same.items()) else None


def counted_costs(
    name: str, options: Mapping[str, Any], folder: Path, size: int = 256
) -> dict[str, dict[str, Any]]:
    """What a variant of a network costs at `size`² under the conventions `full` and `paper`.

    Parameters and operations are exact, and so is the part of them that spikes drive. Spike rates are not known
    here, there being no trained weights: synaptic operations and the energy of `full` are left out.

    Args:
        name: of the network.
        options: constructor options of the variant.
        folder: where counts are kept.
        size: height and width in pixels.
    """
    told = json.dumps({"options": options}, sort_keys=True, default=list)
    place = folder / f"{name}-{size}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    made_by = counted_by(name)
    kept = kept_of(place, made_by)
    if kept is None:
        import torch

        from benchmark.cost import measure_cost
        from benchmark.models import create_model

        # sums of spikes (SEW-ResNet's) are binary or not by the weights: the same weights, the same count
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            built = create_model(name, **options)
            glance = measure_cost(built, _GLANCE)
        counted = measure_cost(built, size, shapes_only=True, rates=glance)
        full = counted.under("full").summary()
        for rate in ("sops", "events", "spikes", "rate", "firing_rate", "energy_uj", "energy_parts_uj"):
            del full[rate]
        costs = {"full": full, "paper": counted.under("paper").summary()}
        kept = {"model": name, "options": dict(options), "costs": costs, **provenance(name), **made_by}
        write_record(place, kept, COST)
    return kept["costs"]


def trained_costs(config: RunSpec, size: int = 256) -> dict[str, dict[str, Any]] | None:
    """What a run's trained network costs at `size`², at the spike rates of its test pictures, by convention.

    Rates are the means over the centre tiles of some test pictures, of the size that the run was tested with. Kept in
    the run's folder.

    Returns:
        The totals by convention; None where the run's weights are not there (any more).
    """
    from benchmark.files import WEIGHTS, file_digest

    folder = config.folder
    if not (folder / WEIGHTS).is_file():
        return None
    weights = file_digest(folder / WEIGHTS)[:16]
    made_by = {**counted_by(config.model.name), "of_weights": weights}
    kept = kept_of(folder, made_by)
    if kept is None or not kept["costs"].keys() >= set(_CONVENTIONS):
        import torch

        from benchmark.checkpoints import load_checkpoint
        from benchmark.cost import measure_cost
        from benchmark.models import create_model

        trained = create_model(config.model.name, **config.options)
        load_checkpoint(trained, folder / WEIGHTS)
        trained.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        tiles = _test_tiles(config, size)
        measured = measure_cost(trained, images=tiles)
        counted = measure_cost(trained, size, shapes_only=True, rates=measured)
        pictures = f"{len(tiles)} test pictures, {tiles.shape[-2]}×{tiles.shape[-1]} px of their centres"
        costs = {c: {**counted.under(c).summary(), "images": pictures} for c in _CONVENTIONS}
        kept = {"name": folder.name, "costs": costs, **provenance(config.model.name), **made_by}
        write_record(folder, kept, COST)
    return kept["costs"]


class KeptForwards:
    """Timed forwards (`benchmark.cost.scaling.run_once`), each kept in `folder` once it is made.

    A table of them that was cut goes on from there; what other code, another machine, other versions or another time
    limit made is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made_by = {"machine": machine(), "versions": versions()}
        kept = kept_of(folder, self.made_by, FORWARDS)
        self.forwards: dict[str, dict[str, Any]] = kept["forwards"] if kept else {}

    def __call__(self, name: str, size: int, time_limit: float) -> Run:
        """One forward of a network at `size`², of at most `time_limit` seconds."""
        from benchmark.cost.scaling import Run, run_once

        key = f"{name} at {size}, {time_limit:g} s, code {counting_digest(network(name).target)}"
        if key not in self.forwards:
            self.forwards[key] = asdict(run_once(name, size, time_limit))
            write_record(self.folder, {"forwards": self.forwards, **provenance(), **self.made_by}, FORWARDS)
        return Run(**self.forwards[key])

    def forget(self) -> None:
        """Remove what is kept, once the table stands."""
        (self.folder / FORWARDS).unlink(missing_ok=True)


def _test_tiles(config: RunSpec, size: int) -> Tensor:
    import torch

    from benchmark.data import open_pairs

    # photographs have no rainy pictures of their own: those that the run was tested on first
    own = [config.data.name] if "test" in dataset_spec(config.data.name).splits else []
    name = [*own, *config.evaluation.also, *test_sets(config.data.name)][0]
    pairs = open_pairs(name, config.data.root, "test")
    pictures = [pairs[i]["rainy"] for i in range(min(_PICTURES, len(pairs)))]
    side = min([config.tiling[0] or size, *(n for p in pictures for n in p.shape[-2:])])
    corners = [[(n - side) // 2 for n in p.shape[-2:]] for p in pictures]
    return torch.stack(
        [p[:, y : y + side, x : x + side] for p, (y, x) in zip(pictures, corners, strict=True)]
    )
