"""What the embedded default rests on: its learning rate, and how far its order of networks repeats itself.

    python results/embedded/default.py rates --runs runs/rates      # trains every network at every rate
    python results/embedded/default.py agree "old default=before/seed0,before/seed1,before/threads2" …

`rates` holds a tenth of the dead leaves out and scores what was trained on the others: no test picture is read. `agree`
takes folders of runs of Table 1 (`derain table 1 --runs FOLDER`), up to three a default: a seed, another, and the first
on another number of threads. Both write into this folder, a CSV and a Markdown file each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from itertools import combinations
from pathlib import Path

import pandas as pd
from scipy.stats import spearmanr

from benchmark import catalog
from benchmark.files import write_text
from benchmark.run.records import in_words, provenance, read_record

HERE = Path(__file__).resolve().parent
RATES = (1e-3, 3e-3)
SEED = 1000  # of no table
_HELD_OUT = [
    "recipe.validation=0.1",
    "recipe.select=best",
    "recipe.validate_every=400",
    "evaluation.tile=whole",
    "logger=csv",
]


def rates(runs: Path) -> None:
    """Train every network at every rate, on light rain alone, and say which rate is the better for most."""
    from benchmark.sweep.driver import drive
    from benchmark.sweep.executors import ExecutorConfig
    from benchmark.sweep.executors.local import LocalExecutor
    from benchmark.sweep.plan import Planner
    from benchmark.sweep.progress import Display

    planner = Planner(["data=embedded-light", "recipe=embedded", *_HELD_OUT, f"out={runs}"])
    planned = {
        (name, rate): planner.plan([f"model={name}", f"recipe.optimizer.lr={rate}"], SEED, f"{name} {rate:g}")
        for name in catalog.networks()
        for rate in RATES
    }
    executor = LocalExecutor(ExecutorConfig())
    with Display([*planned.values()], executor.where) as display:
        drive([*planned.values()], executor, display.notify)
    scores = {}
    for key, run in planned.items():
        record = read_record(run.folder)
        if record is None:
            raise SystemExit(f"{run.label}: no record; {run.folder}/log.txt says why")
        scores[key] = record["training"]["validation_psnr_y"]
    rows = [
        {"network": name, **{f"{rate:g}": scores[name, rate] for rate in RATES}}
        for name in catalog.networks()
    ]
    frame = pd.DataFrame(rows)
    means = {f"{rate:g}": frame[f"{rate:g}"].mean() for rate in RATES}
    best = max(means, key=lambda rate: means[rate])
    better = int((frame[[*means]].idxmax(axis=1) == best).sum())
    said = (
        f"Mean of the networks: {', '.join(f'{m:.2f} dB at {r}' for r, m in means.items())}; {better} of {len(frame)} "
        f"are better at {best}.",
        "Trained on and held out: dead leaves under light rain, one of the four kinds that Table 1 trains on. The "
        "recipe has one rate for all.",
    )
    _write("rates", "PSNR-Y (dB) on dead leaves held out of the training, by learning rate", frame, said)


def agree(defaults: list[str]) -> None:
    """How the order of the networks repeats itself under another seed, and on another number of threads."""
    rows = []
    for default in defaults:
        title, _, folders = default.partition("=")
        first, *others = (_scores(Path(f)) for f in folders.split(","))
        spread = statistics.stdev(first.values())
        for what, other in zip(("another seed", "another number of threads"), others, strict=False):
            names = sorted(first.keys() & other.keys())
            a, b = [first[n] for n in names], [other[n] for n in names]
            rows.append(
                {
                    "default": title,
                    "compared with": what,
                    "networks": len(names),
                    "Spearman": float(spearmanr(a, b).statistic),
                    "pairs turned": sum(
                        (a[i] - a[j]) * (b[i] - b[j]) < 0 for i, j in combinations(range(len(a)), 2)
                    ),
                    "mean change (dB)": statistics.fmean(abs(x - y) for x, y in zip(a, b, strict=True)),
                    "spread of networks (dB)": spread,
                }
            )
    _write(
        "agreement", "How far the embedded table's order of networks repeats itself", pd.DataFrame(rows), ()
    )


def _scores(folder: Path) -> dict[str, float]:
    """By network, PSNR-Y averaged over the test sets of all its runs in a folder."""
    found: dict[str, list[float]] = {}
    for place in sorted(folder.rglob("record.json")):
        record = read_record(place.parent)
        assert record is not None
        means = [result["mean"]["psnr_esdnet"] for result in record["results"].values()]
        found.setdefault(record["config"]["model"]["name"], []).extend(means)
    return {name: statistics.fmean(means) for name, means in found.items()}


def _write(name: str, title: str, frame: pd.DataFrame, said: tuple[str, ...]) -> None:
    made = provenance()
    by = f"Made by `{made['command']}`, commit {made['commit']}, on {in_words(made['machine'])}, {made['date'][:10]}."
    heads = [str(c) for c in frame.columns]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(_cell(v) for v in row) + " |" for row in frame.itertuples(index=False)]
    write_text(HERE / f"{name}.md", "\n\n".join([f"# {title}", by, *said, "\n".join(lines)]) + "\n")
    write_text(HERE / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main() -> int:
    """One of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("rates").add_argument("--runs", type=Path, default=Path("runs/rates"))
    commands.add_parser("agree").add_argument("defaults", nargs="+", metavar="TITLE=FOLDER,FOLDER[,FOLDER]")
    options = parser.parse_args()
    if options.command == "rates":
        rates(options.runs)
    else:
        agree(options.defaults)
    return 0


if __name__ == "__main__":
    sys.exit(main())
