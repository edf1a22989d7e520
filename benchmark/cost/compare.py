"""Printed, thop's and true costs of networks side by side.

The functions answer with pandas tables of plain columns, a unit in each name. They take measured costs and
printed figures as arguments, so that nothing here decides where those come from.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from benchmark import catalog
from benchmark.cost.conventions import CONVENTIONS, Convention, convention
from benchmark.cost.counter import measure_cost
from benchmark.cost.pictures import Images
from benchmark.cost.result import Cost, kept_rates
from benchmark.cost.writing import write
from benchmark.errors import OutOfMemory, UserError, WorkError, fault_in_words, out_of_memory, unknown
from benchmark.reading import path as expanded

if TYPE_CHECKING:
    import pandas as pd

EXPLANATIONS: Mapping[str, str] = {
    "rescan": "thop adds the pooling of squeeze-and-excitation",
    "prenet": "thop is right",
    "rcdnet": "thop misses functional convolutions and parameters on modules that hold others",
    "mprnet": "one PReLU in 55 places, counted 55 x 55 times; thop adds pooling and interpolation",
    "efficientderain": "thop is right; per-pixel filtering is element-wise and in neither",
    "nafnet": "thop adds pooling, and misses the norms' and blocks' own parameters",
    "sfnet": "thop counts stride-2 transposed convolutions 4 times, adds pooling; misses bare parameters",
    "drt": "thop misses attention products, adds norms, softmax and an upsampling by 1",
    "elformer": "two PReLUs in 8 and 6 places, squared; attention missed; the paper's 23.667 is 11.667 mistyped",
    "hpcnet": "one PReLU in 24 places, squared; attention missed; 1.411 is 1.415 mistyped",
    "smartassign": "rebuilt to the printed figures: no code is public",
    "esdnet": "thop knows none of SpikingJelly's layers: only attention, refinement and output are counted",
    "esdnet-s": "no paper has it",
    "spikerain": "thop knows none of its spiking layers; 12.928 is the count at 128 x 128 (0.808) times 16",
    "vlif": "the same; no figure was printed",
}
"""Why the printed figure differs from the true one, in a line each; docs/cost.md has the arithmetic."""


def load_target(target: str, **options: Any) -> nn.Module:
    """A network by its name in the catalogue, or one of the user's: `module:Class` or `FILE.py:Class`.

    Instead of a class, any callable that makes a network, or a network itself.

    Raises:
        UserError: there is no such thing, it is not a network, or its own code raises.
        OutOfMemory: it does not fit into memory.
    """
    if ":" not in target:
        from benchmark.models import create_model

        return create_model(target, **options)
    source, _, attribute = target.rpartition(":")
    made = _theirs(target, "importing it", lambda: _imported(source))
    for part in attribute.split("."):
        if not part or not hasattr(made, part):
            names = [n for n, v in vars(made).items() if not n.startswith("_") and callable(v)]
            raise unknown(f"network in {source}", part, names)
        made = getattr(made, part)
    if isinstance(made, nn.Module):
        return made
    if not callable(made):
        raise UserError(
            f"model '{target}': this is a {type(made).__name__}, nothing that makes a torch.nn.Module"
        )
    made = _theirs(target, "making it", lambda: made(**options))
    if not isinstance(made, nn.Module):
        raise UserError(f"model '{target}': this is a {type(made).__name__}, not a torch.nn.Module")
    return made


def _theirs(target: str, doing: str, work: Callable[[], Any]) -> Any:
    """Run code of the user's, which may raise or leave by anything."""
    try:
        return work()
    except (UserError, WorkError):
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise OutOfMemory(f"model '{target}': out of memory while {doing}") from error
        hint = (
            "; give module:function that makes it"
            if isinstance(error, TypeError) and doing == "making it"
            else ""
        )
        raise UserError(f"model '{target}': {doing} failed: {fault_in_words(error)}{hint}") from error


def _imported(source: str) -> Any:
    """A module by its name, found from the current folder, or by its file."""
    path = Path(expanded(source))
    if source.endswith(".py") or os.sep in source:
        if not path.is_file():
            raise UserError(
                f"model '{source}': no such file; give FILE.py:Class or an importable module:Class"
            )
        return _from_file(path.resolve())
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(source)
    except (ModuleNotFoundError, TypeError, ValueError) as error:
        parents = [source.rsplit(".", n)[0] for n in range(source.count(".") + 1)]
        if isinstance(error, ModuleNotFoundError) and error.name not in parents:
            raise  # it is there, and what it imports is not
        raise UserError(
            f"model '{source}': no such module; give an importable module:Class or FILE.py:Class"
        ) from error


def _from_file(path: Path) -> Any:
    name = path.stem if importlib.util.find_spec(path.stem) is None else f"file_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise UserError(f"model '{path}': not a Python file; give FILE.py:Class")
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    folder = str(path.parent)
    sys.path.insert(0, folder)  # its neighbours come first for it, and last for everything else
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
        sys.path.append(folder)
    return module


def by_convention(cost: Cost, names: Sequence[str | Path | Convention] = tuple(CONVENTIONS)) -> pd.DataFrame:
    """One measurement under several conventions, a row each."""
    import pandas as pd

    rows = []
    for name in names:
        seen = cost.under(name)
        rows.append(
            {
                "convention": seen.convention.name,
                "counts": seen.convention.operations,
                "params": seen.params,
                "macs_g": seen.macs / 1e9,
                "accumulates_g": seen.accumulates / 1e9,
                "executed_g": seen.executed / 1e9,
                "rate": seen.rate,
                "sops_g": seen.sops / 1e9,
                "energy_uj": seen.energy_uj,
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Measured:
    """The cost of a network, and in words what weights it had."""

    name: str
    cost: Cost
    weights: str = "untrained"
    tiled: Cost | None = None  # of one tile of the published test, where that is in tiles
    rates_kept: bool = False  # rates are of a kept table of layers


def tiles(height: int, width: int, tile: int, overlap: int) -> int:
    """How many tiles a test in tiles makes of a picture of at least their size."""
    step = tile - overlap
    return math.prod(max(1, -(-(side - overlap) // step)) for side in (height, width))


def _one_tile(name: str, model: nn.Module, cost: Cost) -> Cost | None:
    entry = catalog.networks().get(name)
    if entry is None or entry.tile is None:
        return None
    return measure_cost(model, entry.tile[0], shapes_only=True, rates=cost)


def with_kept_rates(name: str, path: Path, size: int, weights: str) -> Measured:
    """The cost of a network at the rates of a kept table of its layers (`derain cost --per-layer --csv`)."""
    with _untrained():
        model = load_target(name)
    cost = measure_cost(model, size, shapes_only=True, rates=kept_rates(path))
    cost = replace(cost, images=f"as in {path.name}", notes=())
    return Measured(name, cost, weights, _one_tile(name, model, cost), rates_kept=True)


@contextlib.contextmanager
def _untrained() -> Iterator[None]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def measure_networks(
    names: Sequence[str] = (),
    size: int = 256,
    images: Images = None,
    build: Callable[[str], tuple[nn.Module, str]] | None = None,
    limit: int | None = None,
) -> list[Measured]:
    """Costs of the catalogue's networks at full size.

    Spiking networks are run on the images, for their rates; of the others the shapes are enough.

    Args:
        names: Which; none means all, in the order of Table 1.
        size: Of the image, in pixels.
        images: See `measure_cost`.
        build: Makes a network of its name and says what weights it has; without it all are untrained, seed 0.
        limit: At most so many images of a folder.
    """
    found = []
    for name in names or list(catalog.networks()):
        entry = catalog.network(name)
        if build is not None:
            model, weights = build(name)
        else:
            with _untrained():
                model, weights = load_target(name), "untrained"
        spiking = entry.family == "Spiking"
        if spiking:
            cost = measure_cost(model, size, images=images, limit=limit)
        else:
            cost = measure_cost(model, size, shapes_only=True)
        found.append(Measured(name, cost, weights if spiking else "any", _one_tile(name, model, cost)))
    return found


def corrected_table1(
    measured: Sequence[Measured], printed: Mapping[str, Mapping[str, float]], names: Sequence[str] = ()
) -> pd.DataFrame:
    """Table 1's cost columns: printed, thop's and true, with energies under each convention.

    Args:
        measured: From `measure_networks`.
        printed: Rows of the paper's Table 1 by their label, with `params_m`, `flops_g` and `energy_uj`.
        names: Conventions for the energies; none means all that are built in.

    Returns:
        A row a network. M and G are 1e6 and 1e9; `macs_g`, `accumulates_g` and `operations_g` are dense and
        over all time steps, 1 MAC = 1 FLOP; `printed_share` is printed over true operations.
    """
    import pandas as pd

    rows = []
    for one in measured:
        entry = catalog.networks().get(one.name)
        label = entry.paper_row if entry is not None else None
        paper = printed.get(label, {}) if label else {}
        full, seen = one.cost.under("full"), one.cost.under("paper")
        row: dict[str, Any] = {
            "network": entry.title if entry is not None else one.name,
            "family": entry.family if entry is not None else "",
            "params_printed_m": paper.get("params_m"),
            "params_thop_m": seen.params / 1e6,
            "params_true_m": full.params / 1e6,
            "flops_printed_g": paper.get("flops_g"),
            "flops_thop_g": seen.macs / 1e9,
            "operations_g": full.operations / 1e9,
            "macs_g": full.macs / 1e9,
            "accumulates_g": full.accumulates / 1e9,
            "executed_g": full.executed / 1e9,
            "printed_share": paper["flops_g"] / (full.operations / 1e9) if paper.get("flops_g") else None,
            "rate": full.rate,
            "sops_g": full.sops / 1e9,
            "energy_printed_uj": paper.get("energy_uj"),
        }
        for name in names or tuple(CONVENTIONS):
            row[f"energy_{convention(name).name}_uj"] = one.cost.under(name).energy_uj
        row |= _in_tiles(one, entry)
        row["rates_on"] = one.cost.images if full.accumulates else ""
        row["weights"] = one.weights
        row["why"] = EXPLANATIONS.get(one.name, "")
        rows.append(row)
    return pd.DataFrame(rows)


def _in_tiles(one: Measured, entry: catalog.Network | None) -> dict[str, Any]:
    """What the published test of that picture costs, where it is not the whole picture at once."""
    if one.tiled is None or entry is None or entry.tile is None:
        return {"tiles": None, "operations_in_tiles_g": None, "energy_45nm_in_tiles_uj": None}
    height, width = one.cost.size[-2:]
    count = tiles(height, width, *entry.tile)
    return {
        "tiles": f"{count} of {entry.tile[0]}, overlap {entry.tile[1]}",
        "operations_in_tiles_g": count * one.tiled.operations / 1e9,
        "energy_45nm_in_tiles_uj": count * one.tiled.under("45nm").energy_uj,
    }


def energy_claim(
    measured: Sequence[Measured],
    printed: Mapping[str, Mapping[str, float]],
    claimed: str = "esdnet",
    against: str = "nafnet",
) -> pd.DataFrame:
    """What becomes of "54 % less energy": the paper's comparison under every convention.

    54 % is 1 - 9.150e4 / 2.008e5, ESDNet against NAFNet, the cheapest of the printed ordinary networks. Where the
    first was measured with several weights, each has its rows.

    Raises:
        UserError: one of the two networks was not measured.
    """
    import pandas as pd

    names = {one.name for one in measured}
    for name in (claimed, against):
        if name not in names:
            raise unknown("measured network", name, names)
    claims = [one for one in measured if one.name == claimed]
    other = next(one.cost for one in measured if one.name == against)

    def row(label: str, first: float, second: float) -> dict[str, Any]:
        return {
            "convention": label,
            f"{claimed}_uj": first,
            f"{against}_uj": second,
            "ratio": first / second,
            "saving_percent": 100 * (1 - first / second),
        }

    rows = []
    labels = [catalog.network(name).paper_row for name in (claimed, against)]
    energies = [printed.get(label or "", {}).get("energy_uj") for label in labels]
    if energies[0] and energies[1]:
        rows.append(row("printed", energies[0], energies[1]))
    rows.append(row("paper", claims[0].cost.under("paper").energy_uj, other.under("paper").energy_uj))
    for name in CONVENTIONS:
        if name != "paper":
            rows += [
                row(f"{name}, {one.weights}", one.cost.under(name).energy_uj, other.under(name).energy_uj)
                for one in claims
            ]
    silent = CONVENTIONS["45nm"]
    floor = silent.energy_uj({"mac": claims[0].cost.under("full").macs})
    rows.append(row("45nm, were there no spikes at all", floor, other.under("45nm").energy_uj))
    if claims[0].tiled is not None:
        about = _in_tiles(claims[0], catalog.networks().get(claimed))
        label = f"45nm, {claims[0].weights}, {about['tiles']} against the whole picture"
        rows.append(row(label, about["energy_45nm_in_tiles_uj"], other.under("45nm").energy_uj))
    return pd.DataFrame(rows)


def make_tables(
    folder: str | Path, measured: Sequence[Measured], printed: Mapping[str, Mapping[str, float]]
) -> list[Path]:
    """Write the corrected Table 1, the energy claim and every spiking network's layers into a folder.

    Args:
        folder: Made if it does not exist; files of the same names are replaced.
        measured: From `measure_networks`.
        printed: See `corrected_table1`.
    """
    folder = Path(folder)
    size = "x".join(str(n) for n in measured[0].cost.size[-2:]) if measured else ""
    preface = (
        f"Costs of one {size} image. M and G are 1e6 and 1e9, one MAC is one FLOP. printed: the ESDNet paper's "
        "Table 1; thop: thop 0.1.1 on the authors' code; operations: MACs (real-valued input) and accumulates "
        "(binary input), dense, over all time steps; sops: accumulates times the measured spike rate. All of the whole "
        "picture at once; in_tiles: as the spiking networks' authors test it, in tiles."
    )
    table = corrected_table1(measured, printed)
    files = [write(table, folder / f"table1.{form}", preface) for form in ("md", "csv", "tex", "json")]
    names = {one.name for one in measured}
    if {"esdnet", "nafnet"} <= names:
        claim = energy_claim(measured, printed)
        about = "ESDNet against NAFNet, energy of one image in microjoules under each convention."
        files += [write(claim, folder / f"claim.{form}", about) for form in ("md", "csv", "tex")]
    for one in measured:
        if one.cost.spiking and not one.rates_kept:
            weights = "" if one.weights == "untrained" else "-" + re.sub(r"\W+", "-", one.weights)
            files.append(write(one.cost.layers, folder / f"layers-{one.name}{weights}.csv"))
    return files
