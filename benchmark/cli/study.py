"""`derain study`: the runs behind docs/claims.md, from photographs and real pairs to results/study.

`benchmark/spec/study.yaml` declares them and results/study/protocol.md says why. Everything can be killed and goes on.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog
from benchmark.cli.planning import show_plan
from benchmark.cli.tables import Request, do
from benchmark.data.images import list_images
from benchmark.data.layouts import pairs_of
from benchmark.data.specs import folder_spec
from benchmark.errors import UserError
from benchmark.files import make_folder, require_writable, write_json
from benchmark.means import counted
from benchmark.reading import read_yaml, written
from benchmark.run.records import FAILURE, read_record, without_folders
from benchmark.run.states import DONE
from benchmark.spec import STUDY
from benchmark.sweep.plan import Plan, Planned, Planner, unique, words_of
from benchmark.text import output
from benchmark.text.escapes import write_csv

if TYPE_CHECKING:
    from ablations import Study

RATES = "rates.csv"
PARTS = ("rates", "ablations", "networks", "matched", "lengths", "energy")


@dataclass(frozen=True)
class Declared:
    """What benchmark/spec/study.yaml says; its comments say what each is."""

    settings: Mapping[str, Any]
    scenes: int
    regimes: Sequence[str]
    small: int
    rates: Mapping[str, Any]
    networks: Mapping[str, Any]
    ablations: Mapping[str, Any]
    matched: Mapping[str, Any]
    lengths: Mapping[str, Any]
    energy: Mapping[str, Any]

    def options(self) -> dict[str, dict[str, Any]]:
        """The constructor options of every published network of this suite: those of S1."""
        entries = catalog.networks().items()
        return {name: self.options_of(name) for name, entry in entries if entry.is_ours() and entry.published}

    def options_of(self, name: str) -> dict[str, Any]:
        """The constructor options of one network at S1's size."""
        without = self.networks["without"]
        return {k: v for k, v in catalog.network(name).embedded.items() if k not in without}

    def chosen(self, parts: Sequence[str]) -> list[str]:
        """The networks of S1 whose rate some parts need."""
        if set(parts) != {"energy"}:
            return list(self.options())
        return [name for name in self.options() if name == "esdnet" or name in self.energy["widths"]]


def declared() -> Declared:
    """The study that ships."""
    return Declared(**read_yaml(STUDY))


@dataclass(frozen=True)
class Sets:
    """What the study is trained and tested on: folders."""

    train: Path  # clean photographs
    test: tuple[Path, ...]  # pairs, for the networks' first seed
    small: tuple[Path, ...]  # those of them for its other seeds
    least: tuple[Path, ...]  # the primary set and small real ones, for all that is trained beside


def open_sets(
    photographs: Path, real: Path | None, made: Path, study: Declared, dry_run: bool = False
) -> Sets:
    """The sets: photographs as they lie, test scenes rendered (once), folders of real pairs.

    Args:
        photographs: a folder with `train` and `test` in or below it (BSDS500).
        real: a folder of folders of pairs, each a test set called as it is.
        made: where rendered sets go.
        study: what is declared.
        dry_run: render nothing.

    Raises:
        UserError: a folder is missing, has no pictures or no pairs.
    """
    train, test = (_below(photographs, split) for split in ("train", "test"))
    scenes = list_images(test)
    if len(scenes) < study.scenes:
        raise UserError(f"{test}: {len(scenes)} photographs; the study tests on {study.scenes}")
    chosen = [scenes[i * len(scenes) // study.scenes] for i in range(study.scenes)]
    rendered = [made / f"scenes-{regime}" for regime in study.regimes]
    for place, regime in zip(rendered, study.regimes, strict=True):
        if not dry_run and not place.is_dir():
            _render(chosen, place, regime)
    pairs: list[Path] = []
    if real is not None:
        if not real.is_dir():
            raise UserError(f"--real {real}: no such folder")
        pairs = sorted(p for p in real.iterdir() if p.is_dir())
    counts = {p: len(pairs_of(folder_spec(str(p)), None, "test")) for p in pairs}
    if bare := [p for p, count in counts.items() if not count]:
        raise UserError(f"--real {real}: {bare[0].name} has no pairs")
    small = [p for p in pairs if counts[p] <= study.small]
    return Sets(train, (*rendered, *pairs), (*rendered, *small), (rendered[0], *small))


def _below(folder: Path, split: str) -> Path:
    """The folder called `split` in or below a folder, the uppermost."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = sorted(
        (p for p in folder.rglob(split) if p.is_dir() and list_images(p)), key=lambda p: len(p.parts)
    )
    if not found:
        raise UserError(f"{folder}: no folder '{split}' of photographs in or below it, as BSDS500 has")
    return found[0]


def _render(scenes: Sequence[Path], place: Path, regime: str) -> None:
    from benchmark.data import render

    half = place.parent / f".{place.name}.{os.getpid()}"
    shutil.rmtree(half, ignore_errors=True)
    make_folder(half / "clean")
    for scene in scenes:
        shutil.copyfile(scene, half / "clean" / scene.name)
    # a seed of its own for each regime, none of those of training (whose rain is drawn by another stream)
    render(half / "clean", half / "pairs", regime=regime, seed=500 + sum(map(ord, regime)))
    try:
        (half / "pairs").rename(place)
    except OSError:  # another process has made it meanwhile
        if not place.is_dir():
            raise
    shutil.rmtree(half, ignore_errors=True)


class Runs:
    """Plans of the study's parts."""

    def __init__(self, study: Declared, sets: Sets, out: str, words: Sequence[str]) -> None:
        self.study, self.sets = study, sets
        common = [*words_of(study.settings), f"data.root={sets.train.resolve()}", f"out={out}"]
        self._planner = Planner(common, words)

    def rates(self, names: Sequence[str] | None = None) -> list[Planned]:
        """Every network (or those named) at every rate, on fewer photographs."""
        asked = self.study.rates
        return [
            self._planner.plan(
                [*self._network(name), *words_of(asked["settings"]), f"recipe.optimizer.lr={rate}"],
                asked["seed"],
                f"rates {name} {rate}",
                [("rates", f"{name}@{rate}")],
            )
            for name in names or self.study.options()
            for rate in asked["values"]
        ]

    def networks(self, rate: Mapping[str, float], seed: int) -> list[Planned]:
        """Every network at its rate; the large sets are for the first seed alone."""
        sets = self.sets.test if seed == self.study.networks["seeds"][0] else self.sets.small
        settings = words_of(self.study.networks["settings"])
        return [
            self._planner.plan(
                [*self._network(name), *settings, f"recipe.optimizer.lr={rate[name]}", self._tests(sets)],
                seed,
                f"networks {name}",
                [("networks", name)],
            )
            for name in self.study.options()
        ]

    def ablations(self, rate: Mapping[str, float], seed: int) -> list[Planned]:
        """Every row of the ablation studies; a row that several have is one run."""
        return [
            self._planner.plan(
                self._varied(rate, study, row.settings),
                seed,
                f"{study.name} {row.name}",
                [(study.name, row.name)],
            )
            for study in map(catalog.study, self.study.ablations["studies"])
            for row in study.variants
        ]

    def matched(self, rate: Mapping[str, float], seed: int) -> list[Planned]:
        """Rows of the ablations at the energy of the whole network: at other widths."""
        planned = []
        for key, dim in self.study.matched["dims"].items():
            name, _, row = key.partition("/")
            study = catalog.study(name)
            (variant,) = (v for v in study.variants if v.name == row)
            planned.append(
                self._planner.plan(
                    [*self._varied(rate, study, variant.settings), f"model.dim={dim}"],
                    seed,
                    f"matched {key}",
                    [("matched", key)],
                )
            )
        return planned

    def energy(self, rate: Mapping[str, float], seed: int) -> list[Planned]:
        """ESDNet-S in Table 3's setting, and networks of S1 at other widths.

        A network that S1 has not has ESDNet's rate.
        """
        asked = self.study.energy
        (table3,) = (
            study for study in map(catalog.study, self.study.ablations["studies"]) if study.name == "table3"
        )
        blocks = [
            self._planner.plan(
                self._varied(rate, table3, settings),
                seed,
                f"energy {name}",
                [("energy", name), *(("table3", v.name) for v in table3.variants if v.name == name)],
            )
            for name, settings in asked["blocks"].items()
        ]
        return blocks + [
            self._planner.plan(
                [
                    *self._network(name),
                    *words_of(self.study.networks["settings"]),
                    *words_of({f"model.{k}": v for k, v in options.items()}),
                    f"recipe.optimizer.lr={rate.get(name, rate['esdnet'])}",
                    self._tests(self.sets.least),
                ],
                seed,
                f"energy {name} {'·'.join(map(str, options.values()))}".strip(),
                [("energy", "@".join([name, *map(str, options.values())]))],
            )
            for name, widths in asked["widths"].items()
            for options in widths
            if seed in asked["width_seeds"]
        ]

    def lengths(self, rate: Mapping[str, float], seed: int) -> list[Planned]:
        """Some networks for other numbers of steps."""
        asked = self.study.lengths
        return [
            self._planner.plan(
                [
                    *self._network(name),
                    f"recipe.optimizer.lr={rate[name]}",
                    f"recipe.steps={steps}",
                    self._tests(self.sets.least),
                ],
                seed,
                f"lengths {name} {steps}",
                [("lengths", f"{name}@{steps}")],
            )
            for steps in asked["steps"]
            for name in asked["networks"]
        ]

    def _varied(self, rate: Mapping[str, float], study: Study, settings: Mapping[str, Any]) -> list[str]:
        """The network that the ablations vary, as a row of a study has it."""
        asked = self.study.ablations
        return [
            "model=esdnet",
            *words_of({f"model.{k}": v for k, v in asked["options"].items()}),
            *words_of(asked["settings"]),
            f"recipe.optimizer.lr={rate['esdnet']}",
            self._tests(self.sets.least),
            *words_of(study.base),
            *words_of(settings),
        ]

    def _network(self, name: str) -> list[str]:
        options = self.study.options_of(name)
        return [f"model={name}", *words_of({f"model.{k}": v for k, v in options.items()})]

    @staticmethod
    def _tests(sets: Iterable[Path]) -> str:
        return f"evaluation.also={written([str(p.resolve()) for p in sets])}"


def chosen_rates(runs: Iterable[Planned], folder: Path) -> dict[str, float]:
    """The rate of each network with the best PSNR-Y on photographs held out of its training; those not done left out.

    A network has one when all its rates have ended; a rate whose run failed or diverged is none. What `folder` keeps of
    runs whose own folders are gone counts.
    """
    found: dict[str, dict[float, float]] = {}
    waiting = set()
    kept = _kept_rates(folder)
    for run in runs:
        name, rate = run.spec.model.name, run.spec.recipe.optimizer.lr
        record = read_record(run.folder)
        if record is not None:
            found.setdefault(name, {})[rate] = record["training"]["validation_psnr_y"]
        elif run.identity in kept:
            found.setdefault(name, {})[rate] = float(kept[run.identity]["validation_psnr_y"])
        elif not (run.folder / FAILURE).is_file():
            waiting.add(name)
    return {n: max(rates, key=lambda r: rates[r]) for n, rates in found.items() if n not in waiting}


def make_study(
    photographs: Path,
    request: Request,
    real: Path | None = None,
    parts: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    only_draw: bool = False,
) -> int:
    """Do the runs of the study, keep what came of them, draw; returns the exit status (1 if a run has no record).

    Args:
        photographs: as `open_sets` takes them; so is `real`.
        request: where runs are kept, what does them, further settings of all; its folder is where the study goes.
        parts: of `PARTS`; empty: all. Rates are always looked for.
        seeds: those alone; None: all that are declared.
        only_draw: do no run: keep and draw what is done.

    Raises:
        UserError: a wrong part, folder or setting.
    """
    from benchmark.cli.drawing import draw

    study = declared()
    if not request.plan_only:
        require_writable(Path(request.runs))
        require_writable(request.folder)
    sets = open_sets(photographs, real, Path(request.runs) / "study-sets", study, request.plan_only)
    runs = Runs(study, sets, request.runs, request.settings)
    chosen = study.chosen(parts)
    selection = unique(runs.rates(chosen))
    if not request.plan_only and not only_draw:
        do(Plan(_left(selection, request.folder)), request)
    rates = chosen_rates(selection, request.folder)
    missing = [name for name in chosen if name not in rates]
    if missing and not request.plan_only:
        keep(selection, request.folder)
        print(f"derain: no rate yet for {', '.join(missing)}: their runs have not ended", file=sys.stderr)
        return 1
    if request.plan_only:  # a rate that is not chosen yet is told as the first
        rates = {name: rates.get(name, study.rates["values"][0]) for name in chosen}
    every = unique(_ordered(runs, rates, parts or PARTS, study, seeds))
    every = (*selection, *every) if not parts or "rates" in parts else tuple(every)
    plan = Plan(_left(every, request.folder))
    if request.plan_only:
        show_plan(plan, request.executor, Path(request.runs), request.retry, request.measure)
        return 0
    states = {} if only_draw else do(plan, request)
    keep(every, request.folder)
    output.wrote(draw(request.folder, study))
    return int(any(state.name != DONE for state in states.values()))


def keep(runs: Iterable[Planned], folder: Path) -> int:
    """Keep what the study is drawn from; returns of how many runs.

    A small JSON file a run, the test sets' pictures, and one CSV of the runs that choose rates. What is kept of runs
    whose folders are gone stays, and they need not be done again. No paths of this machine are kept.
    """
    known: dict[str, Any] = _json(folder / "sets.json") or {}
    rates = _kept_rates(folder)
    count = 0
    for run in runs:
        record = read_record(run.folder)
        if record is None:
            continue
        count += 1
        if run.rows and run.rows[0][0] == "rates":
            rates[run.identity] = {
                "network": run.spec.model.name,
                "rate": run.spec.recipe.optimizer.lr,
                "validation_psnr_y": round(record["training"]["validation_psnr_y"], 4),
                "commit": (record["commit"] or "")[:12],
                "identity": run.identity,
            }
            continue
        place = _kept(run, folder)
        kept = _json(place)
        if (
            kept is not None
            and kept["rows"] == [list(row) for row in run.rows]
            and kept["date"] == record["date"]
            and (kept["cost"] is None or "energy_lemaire_uj" in kept["cost"])
        ):
            continue
        scores = {}
        for name, result in record["results"].items():
            images = result["images"]
            scores[name] = {m: _scores(images, f"{m}_esdnet") for m in ("psnr", "ssim")}
            known.setdefault(
                name,
                {"pictures": [i["name"] for i in images]}
                | {m: _scores(images, f"rainy_{m}_esdnet") for m in ("psnr", "ssim")},
            )
        training = record["training"]
        told = {
            "rows": [list(row) for row in run.rows],
            "model": run.spec.model.name,
            "options": record["model_options"],
            "seed": run.spec.seed,
            "steps": training["steps"],
            "rate": run.spec.recipe.optimizer.lr,
            "seconds": training["seconds"],
            "final_loss": training["final_loss"],
            "validation_psnr_y": training["validation_psnr_y"],
            "parameters": record["parameters"]["trained"],
            "data": _by_name(record["data"]),
            "scores": scores,
            "cost": _cost(run),
            "command": without_folders(record["command"]),
            **{key: record[key] for key in ("commit", "code", "machine", "versions", "date")},
        }
        write_json(place, told)
    if known:
        write_json(folder / "sets.json", known)
    if rates:
        import pandas as pd

        ordered = sorted(rates.values(), key=lambda told: (told["network"], float(told["rate"])))
        write_csv(folder / RATES, pd.DataFrame(ordered))
    return count


def _kept(run: Planned, folder: Path) -> Path:
    return folder / "runs" / f"{run.name}.json"


def _kept_rates(folder: Path) -> dict[str, dict[str, Any]]:
    """What is kept of the runs that choose rates, by identity."""
    if not (folder / RATES).is_file():
        return {}
    import pandas as pd

    told = pd.read_csv(folder / RATES, dtype={"commit": str, "identity": str})
    return {row["identity"]: {str(k): v for k, v in row.items()} for row in told.to_dict("records")}


def _left(runs: Iterable[Planned], folder: Path) -> tuple[Planned, ...]:
    """The runs of which nothing is kept."""
    rates = _kept_rates(folder)
    return tuple(run for run in runs if run.identity not in rates and not _kept(run, folder).is_file())


def _by_name(data: Mapping[str, Any]) -> dict[str, Any]:
    """The digests of the data, test sets by their folders' names."""
    return {**data, "test": {Path(place).name: told for place, told in data.get("test", {}).items()}}


def _scores(images: Iterable[Mapping[str, Any]], column: str) -> list[float]:
    return [round(counted(column, image[column]), 5) for image in images]


def _cost(run: Planned) -> dict[str, Any] | None:
    from benchmark.run.costs import trained_costs

    costs = trained_costs(run.spec)
    return (
        None
        if costs is None
        else {
            **{k: costs["45nm"].get(k) for k in ("operations", "macs", "rate", "energy_uj")},
            "energy_lemaire_uj": costs["lemaire"].get("energy_uj"),
        }
    )


def _json(path: Path) -> Any:
    from benchmark.report.study import read_kept

    return read_kept(path) if path.is_file() else None


def _ordered(
    runs: Runs, rates: Mapping[str, float], parts: Sequence[str], study: Declared, seeds: Sequence[int] | None
) -> Iterator[Planned]:
    """The ablations first, whose seeds are never fewer; each part seed by seed, so that rows have equally many."""
    for part in PARTS[1:]:  # each has its seeds in what is declared, and its runs in `Runs`
        for seed in getattr(study, part)["seeds"] if part in parts else ():
            if seeds is None or seed in seeds:
                yield from getattr(runs, part)(rates, seed)


__all__ = [
    "PARTS",
    "Declared",
    "Runs",
    "Sets",
    "chosen_rates",
    "declared",
    "keep",
    "make_study",
    "open_sets",
]
