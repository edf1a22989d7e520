"""Printed, thop's and true costs of networks side by side, and how costs grow with the image.

The functions answer with pandas tables of plain columns, a unit in each name, and `write` puts any of them
into Markdown, CSV, LaTeX and JSON. They take measured costs and printed figures as arguments, so that nothing
here decides where those come from.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from benchmark import catalog
from benchmark.cost.conventions import CONVENTIONS, Convention, convention
from benchmark.cost.counter import measure_cost
from benchmark.cost.result import Cost
from benchmark.errors import UserError, unknown
from benchmark.files import write_text

if TYPE_CHECKING:
    import pandas as pd

Images = Tensor | str | Path | Iterable[Tensor] | None

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
    "spikerain": "the same; 12.928 is the count at 128 x 128 (0.808) times 16",
    "vlif": "the same; no figure was printed",
}
"""Why the printed figure differs from the true one, in a line each; docs/cost.md has the arithmetic."""


def load_target(target: str, **options: Any) -> nn.Module:
    """A network by its name in the catalogue, or any importable `module:Class` (a callable will do).

    Raises:
        UserError: there is no such thing, or it is not a network.
    """
    if ":" not in target:
        from benchmark.models import create_model

        return create_model(target, **options)
    module, _, attribute = target.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        made: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"model '{target}': {error}; give an importable module:Class") from None
    for part in attribute.split("."):
        if not hasattr(made, part):
            raise unknown(f"name in module {module}", part, [n for n in vars(made) if not n.startswith("_")])
        made = getattr(made, part)
    if isinstance(made, nn.Module):
        return made
    try:
        made = made(**options)
    except TypeError as error:
        raise UserError(f"model '{target}': {error}") from None
    if not isinstance(made, nn.Module):
        raise UserError(f"model '{target}': this is a {type(made).__name__}, not a torch.nn.Module")
    return made


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
    import torch

    found = []
    for name in names or list(catalog.networks()):
        entry = catalog.network(name)
        if build is not None:
            model, weights = build(name)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model, weights = load_target(name), "untrained"
        spiking = entry.family == "Spiking"
        if spiking:
            cost = measure_cost(model, size, images=images, limit=limit)
        else:
            cost = measure_cost(model, size, shapes_only=True)
        found.append(Measured(name, cost, weights if spiking else "any"))
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
        row["rates_on"] = one.cost.images if full.accumulates else ""
        row["weights"] = one.weights
        row["why"] = EXPLANATIONS.get(one.name, "")
        rows.append(row)
    return pd.DataFrame(rows)


def energy_claim(
    measured: Sequence[Measured],
    printed: Mapping[str, Mapping[str, float]],
    claimed: str = "esdnet",
    against: str = "nafnet",
) -> pd.DataFrame:
    """What becomes of "54 % less energy": the paper's comparison under every convention.

    54 % is 1 - 9.150e4 / 2.008e5, ESDNet against NAFNet, the cheapest of the printed ordinary networks.

    Raises:
        UserError: one of the two networks was not measured.
    """
    import pandas as pd

    costs = {one.name: one.cost for one in measured}
    for name in (claimed, against):
        if name not in costs:
            raise unknown("measured network", name, costs)

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
    rows += [
        row(name, costs[claimed].under(name).energy_uj, costs[against].under(name).energy_uj)
        for name in ("paper", *(n for n in CONVENTIONS if n != "paper"))
    ]
    silent = CONVENTIONS["45nm"]
    floor = silent.energy_uj({"mac": costs[claimed].under("full").macs})
    rows.append(row("45nm, were there no spikes at all", floor, costs[against].under("45nm").energy_uj))
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
        "(binary input), dense, over all time steps; sops: accumulates times the measured spike rate."
    )
    table = corrected_table1(measured, printed)
    files = [write(table, folder / f"table1.{form}", preface) for form in ("md", "csv", "tex", "json")]
    names = {one.name for one in measured}
    if {"esdnet", "nafnet"} <= names:
        claim = energy_claim(measured, printed)
        about = "ESDNet against NAFNet, energy of one image in microjoules under each convention."
        files += [write(claim, folder / f"claim.{form}", about) for form in ("md", "csv", "tex")]
    files += [
        write(one.cost.layers, folder / f"layers-{one.name}.csv") for one in measured if one.cost.spiking
    ]
    return files


def scalability(
    names: Sequence[str] = (),
    sizes: Sequence[int] = (256, 512, 720),
    images: Images = None,
    time_limit: float | None = 300.0,
    build: Callable[[str], tuple[nn.Module, str]] | None = None,
    printed: Mapping[str, Mapping[str, float]] | None = None,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """How operations, energy, latency and memory grow with the image (Table 1 of SpikeRain's supplement).

    Operations are exact at every size. Rates are measured at the first size and carried over, layer by layer,
    to the others. Latency and peak memory are those of one forward of an untrained network in a process of
    its own on this machine; a size that takes longer than `time_limit`, or more memory than there is, leaves
    them empty and says so.

    Args:
        names: Networks; none means all.
        sizes: Heights and widths in pixels, the smallest first.
        images: For the rates, see `measure_cost`.
        time_limit: Seconds for one size of one network; None measures neither latency nor memory.
        build: See `measure_networks`.
        printed: SpikeRain's printed table by input size, with `flops_g` and `energy_mj`.
        progress: Told what is being done.
    """
    import pandas as pd

    rows = []
    for name in names or list(catalog.networks()):
        entry = catalog.network(name)
        model = build(name)[0] if build is not None else load_target(name)
        reference: Cost | None = None
        late = False
        for size in sorted(sizes):
            if progress is not None:
                progress(f"{entry.title} at {size} x {size}")
            if reference is None and entry.family == "Spiking":
                cost = measure_cost(model, size, images=images)
                reference = cost
            else:
                cost = measure_cost(model, size, shapes_only=True, rates=reference)
            full, seen = cost.under("full"), cost.under("paper")
            row: dict[str, Any] = {
                "network": entry.title,
                "size": size,
                "macs_g": full.macs / 1e9,
                "accumulates_g": full.accumulates / 1e9,
                "operations_g": full.operations / 1e9,
                "sops_g": full.sops / 1e9,
                "flops_thop_g": seen.macs / 1e9,
                "energy_full_mj": full.energy_uj / 1e3,
                "energy_45nm_mj": cost.under("45nm").energy_uj / 1e3,
                "energy_paper_mj": seen.energy_uj / 1e3,
            }
            if printed is not None:
                paper = printed.get(str(size), {}) if name == "spikerain" else {}
                row["flops_printed_g"] = paper.get("flops_g")
                row["energy_printed_mj"] = paper.get("energy_mj")
            if time_limit is not None:
                run = _TOO_LATE if late else run_once(name, size, time_limit)
                late = late or run.seconds is None
                row["latency_s"], row["peak_memory_gb"] = run.seconds, run.gigabytes
                row["note"] = run.note
            rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Run:
    """One timed forward: seconds and peak memory above what was there before, or why there are none."""

    seconds: float | None
    gigabytes: float | None
    note: str = ""


_TOO_LATE = Run(None, None, "the size before took too long")


def run_once(target: str, size: int, time_limit: float = 300.0) -> Run:
    """Latency and peak memory of one forward, in a process of its own so that a peak is this network's
    alone."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_forward, args=(target, size, theirs), daemon=True)
    process.start()
    theirs.close()
    answer: Any = None
    if ours.poll(time_limit):
        try:
            answer = ours.recv()
        except EOFError:
            answer = "ended without an answer: out of memory?"
    else:
        answer = f"longer than {time_limit:g} s"
    process.kill()
    process.join()
    return answer if isinstance(answer, Run) else Run(None, None, str(answer))


def _forward(target: str, size: int, answer: Any) -> None:
    import torch

    try:
        model = load_target(target).eval()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model.to(device)
        with torch.inference_mode():
            # kernels are chosen and threads started before the clock runs
            model(torch.rand(1, 3, 64, 64, device=device))
            image = torch.rand(1, 3, size, size, device=device)
            before = _peak(device, reset=True)
            started = time.perf_counter()
            model(image)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        memory = (_peak(device) - before) / 1e9
        name = (
            torch.cuda.get_device_name()
            if device.type == "cuda"
            else f"CPU, {torch.get_num_threads()} threads"
        )
        answer.send(Run(seconds, memory, name))
    except Exception as error:
        answer.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def _peak(device: Any, reset: bool = False) -> int:
    """Peak memory in bytes: the device's allocator's, or the process's resident set."""
    import resource

    import torch

    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# writing

_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "×": r"$\times$"}


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
    return str(value)


def markdown(frame: pd.DataFrame, digits: int = 5) -> str:
    """A table in Markdown; numbers to so many significant digits."""
    head = [str(c) for c in frame.columns]
    numeric = [frame[c].dtype.kind in "if" for c in frame.columns]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("--:" if n else "---" for n in numeric) + " |"]
    lines += [
        "| " + " | ".join(_cell(v, digits).replace("|", r"\|") for v in record) + " |"
        for record in frame.astype(object).itertuples(index=False)
    ]
    return "\n".join(lines) + "\n"


def latex(frame: pd.DataFrame, digits: int = 5) -> str:
    """A table for the booktabs package."""

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(c, c) for c in text)

    columns = "".join("r" if frame[c].dtype.kind in "if" else "l" for c in frame.columns)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines.append(" & ".join(escaped(str(c)) for c in frame.columns) + r" \\")
    lines.append(r"\midrule")
    lines += [
        " & ".join(escaped(_cell(v, digits)) for v in record) + r" \\"
        for record in frame.astype(object).itertuples(index=False)
    ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write(frame: pd.DataFrame, path: str | Path, preface: str = "") -> Path:
    """Write a table in the form that the file's ending asks for: .md, .csv, .tex or .json.

    Args:
        frame: The table.
        path: Written under a temporary name first, so that a broken run leaves no half file.
        preface: Goes before the table in Markdown, and as a comment in LaTeX.

    Raises:
        UserError: another ending.
        WorkError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".md":
        text = (preface.rstrip() + "\n\n" if preface else "") + markdown(frame)
    elif path.suffix == ".csv":
        text = frame.to_csv(index=False)
    elif path.suffix == ".tex":
        text = "".join(f"% {line}\n" for line in preface.splitlines()) + latex(frame)
    elif path.suffix == ".json":
        text = json.dumps(json.loads(frame.to_json(orient="records")), indent=2, ensure_ascii=False) + "\n"
    else:
        raise UserError(f"{path}: a table is written as .md, .csv, .tex or .json")
    write_text(path, text)
    return path
