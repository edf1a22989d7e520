"""What is kept with the suite, as plain tables for the report: claims, corrected costs, spike rates, speed.

Each function gives None where its file is not there: an installed package has fewer of them than a checkout.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.report.paper import results
from benchmark.report.parts import Grid


def _rows(path: str) -> list[dict[str, Any]]:
    """The rows of a CSV file of `results/`, figures as numbers; none where there is no such file."""
    place = results(path)
    if not place.is_file():
        return []
    with place.open(encoding="utf-8", newline="") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str | None) -> Any:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _chosen(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    notes: Sequence[str] = (),
    total: str = "",
) -> Grid | None:
    if not rows:
        return None
    return Grid(title, total, list(columns.values()), [[r.get(c) for c in columns] for r in rows], notes)


def made_by(folder: str) -> str:
    """Command and commit that made a folder of `results/`, in words; empty where nobody wrote them down."""
    place = results(f"{folder}/provenance.json")
    if not place.is_file():
        return ""
    told = json.loads(place.read_text(encoding="utf-8"))
    return f"Made by `{told['command']}`, commit {told['commit']}, {str(told['date'])[:10]}."


def costs() -> list[Grid]:
    """What the full networks cost beside what was printed of them; ESDNet against NAFNet; break-even rates."""
    columns = {
        "network": "Network",
        "params_printed_m": "Parameters\nprinted (M)",
        "params_true_m": "Parameters\n(M)",
        "flops_printed_g": "FLOPs\nprinted (G)",
        "operations_g": "Operations\n(G)",
        "macs_g": "of them MACs\n(G)",
        "accumulates_g": "accumulates\n(G)",
        "energy_printed_uj": "Energy\nprinted (µJ)",
        "energy_45nm_uj": "Energy\n45nm (µJ)",
        "energy_lemaire_uj": "Energy\nlemaire (µJ)",
        "energy_full_uj": "Energy\n12.5 pJ each (µJ)",
        "why": "why the printed figures differ",
    }
    rows = {str(r["network"]): r for r in _rows("cost/table1.csv")}  # the last of each: trained weights
    claim = _rows("cost/claim.csv")
    level = breakeven()
    found = [
        _chosen(
            "Corrected costs of the full networks at 256²",
            list(rows.values()),
            columns,
            [
                "Operations are dense, over all time steps; energies of spiking networks are at the spike rates below."
            ],
        ),
        _chosen(
            "ESDNet against NAFNet",
            claim,
            {
                "convention": "Convention",
                "esdnet_uj": "Energy of\nESDNet (µJ)",
                "nafnet_uj": "Energy of\nNAFNet (µJ)",
                "ratio": "Energy,\nESDNet / NAFNet",
                "saving_percent": "Saving\n(%)",
            },
            ["First what the paper prints, then the same count made again; the others count every layer."],
        ),
        _chosen(
            "Spike rates at which a spiking network costs as much as another",
            [r for r in level if r.get("convention") in ("45nm", "lemaire")],
            {
                "network": "Network",
                "weights": "weights",
                "convention": "convention",
                "measured_percent": "Rate\nmeasured (%)",
                "counterpart_percent": "Rate to break even with\nits counterpart (%)",
                "nafnet_percent": "Rate to break even with\nNAFNet (%)",
                "few_bits_percent": "Rate to break even with\nfew-bit activations (%)",
            },
            ["Empty: it takes more energy without any spike. Above 100: less at any rate."],
        ),
    ]
    return [grid for grid in found if grid is not None]


def breakeven() -> list[dict[str, Any]]:
    """Rates at which a spiking network takes as much energy as another."""
    return _rows("cost/breakeven.csv")


def rates() -> Grid | None:
    """The spike rates of the full spiking networks."""
    rows = [r for r in _rows("cost/table1.csv") if r.get("rate") is not None]
    for row in rows:
        row["percent"] = 100 * row["rate"]
    return _chosen(
        "Spike rates of the full networks at 256²",
        rows,
        {
            "network": "Network",
            "weights": "weights",
            "percent": "Spike rate\n(% of inputs)",
            "sops_g": "Synaptic operations\n(G)",
            "rates_on": "measured on",
        },
        ["The share of the inputs of spike-driven layers that are spikes, over all time steps."],
    )


def layer_rates() -> list[Grid]:
    """Spike rates layer by layer, of every kept count of a network with trained weights."""
    found = []
    folder = results("cost/table1.csv").parent
    for path in sorted(folder.glob("layers-*-steps-*.csv")):
        network, _, weights = path.stem.removeprefix("layers-").partition("-")
        rows = [r for r in _rows(f"cost/{path.name}") if r.get("rate") is not None]
        for row in rows:
            row["percent"] = 100 * row["rate"]
        grid = _chosen(
            f"{network}, {weights.replace('-', ' ')}: spike rate by layer",
            rows,
            {
                "name": "layer",
                "kind": "kind",
                "T": "T",
                "percent": "Spike rate\nof its input (%)",
                "sops": "Synaptic\noperations",
                "share": "Share of\nthe energy",
            },
            total=f"{len(rows)} layers",
        )
        found += [grid] if grid else []
    return found


def claims() -> Grid | None:
    """What the papers claim, what came of it, and the verdict: the table of docs/claims.md."""
    place = results("claims.md")
    if not place.is_file():
        place = Path(__file__).resolve().parents[2] / "docs" / "claims.md"
    if not place.is_file():
        return None
    lines = [line for line in place.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[_words(c) for c in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    heads, rows = cells[0], [c for c in cells[1:] if len(c) == len(cells[0]) and not set(c[0]) <= set("- :")]
    # the verdict is what is looked for: beside the claim
    order = sorted(range(len(heads)), key=lambda i: (i != 0, heads[i] != "verdict", i))
    return Grid("Claims and verdicts", "", [heads[i] for i in order], [[r[i] for i in order] for r in rows])


def _words(text: str) -> str:
    """A cell of Markdown as words: links and emphasis are their text."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text.strip())
    return re.sub(r"[`*]", "", text)


def speed() -> Grid | None:
    """Times beside the peers' of `results/bench`, each case as it was last measured."""
    files = [
        (str(told["provenance"]["date"]), told)
        for path in results("bench").glob("*.json")
        if isinstance(told := json.loads(path.read_text(encoding="utf-8")), dict)
        and {"provenance", "rows"} <= set(told)
        and any("peer" in row for row in told["rows"])
    ]
    if not files:
        return None
    files.sort(key=lambda one: one[0])
    newest = {row["case"]: told for _, told in files for row in told["rows"]}
    rows = [
        [
            row["case"],
            row["peer"],
            _median(row, "ours", "work"),
            _median(row, "theirs", "peer_work"),
            row.get("unit"),
            _median(row, "ratio"),
            row.get("asked"),
            row.get("reason")
            or ("reached" if row.get("reached") else "not reached" if row.get("asked") else ""),
            told["provenance"]["machine"]["processor"],
        ]
        for _, told in files
        for row in told["rows"]
        if newest[row["case"]] is told
    ]
    machines = [(date, told["provenance"]["machine"]) for date, told in files]
    about = "; ".join(
        f"{m['processor']}, {m['cores']} cores, {m['memory_gib']} GiB, {date[:10]}" for date, m in machines
    )
    columns = [
        "Case",
        "beside",
        "ours",
        "peer's",
        "unit",
        "ratio",
        "ratio asked",
        "what came of it",
        "machine",
    ]
    return Grid(
        "Speed and memory beside peers",
        "",
        columns,
        rows,
        [
            f"{about}. The ratio is the median over rounds of the peer's over ours (memory: ours over the peer's)."
        ],
    )


def _median(row: Mapping[str, Any], key: str, work: str = "") -> float | None:
    """The median as the row's unit has it: what is kept are seconds, of rates too."""
    value = row.get(key)
    if not isinstance(value, Mapping) or value.get("median") is None:
        return None
    median = float(value["median"])
    return float(row[work]) / median if work and str(row.get("unit")).endswith("/s") else median
