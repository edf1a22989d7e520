"""The HTML report, from what runs have left, their tables, and what is kept with the suite; nothing is trained."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark import catalog
from benchmark.cli import captions, showing
from benchmark.cli.gallery import Picture, Run, test_pictures
from benchmark.cli.showing import Shown, comparison_panels, figures, find, restored_of
from benchmark.cli.tables import EMBEDDED
from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError, WorkError
from benchmark.files import require_writable
from benchmark.report import evidence
from benchmark.report.crops import ENLARGED, telling_boxes
from benchmark.report.page import LIMIT
from benchmark.report.paper import results
from benchmark.report.parts import Choice, Comparison, Crops, Drawn, Folded, Grid, Part, Report, Section
from benchmark.report.parts import Shown as Look
from benchmark.report.rows import INPUT
from benchmark.report.rows import about as about_rows
from benchmark.text import output
from benchmark.text.table import Table, read_table
from benchmark.text.words import commit_in_words, several

if TYPE_CHECKING:
    from benchmark.metrics.fidelity import Convention


def make_report(runs: str, recipe: str, models: Sequence[str], out: Path | None) -> int:
    """Write the HTML report of a recipe's runs; returns the exit status (1 if a figure could not be drawn).

    Args:
        runs: folder of the runs.
        recipe: whose runs.
        models: names of networks; empty for all.
        out: folder of the page; None: below `runs`.
    """
    from benchmark.files import write_text
    from benchmark.report.page import page

    found = find(runs, recipe, models)
    folder = out or Path(runs) / "report" / recipe
    require_writable(folder)
    paths, problems = figures(found, Path(runs), folder / "figures")
    report = gathered(found, Path(runs), [p for p in paths if p.suffix == ".png"])
    path = folder / "report.html"
    write_text(path, page(report))
    size = path.stat().st_size
    output.remark(f"wrote {path} ({size / 1e6:.1f} MB, one file, nothing else is needed)")
    if size > LIMIT:
        problems.append(f"{path} has more than {LIMIT / 1e6:g} MB: fewer networks (--models) make it smaller")
    for problem in problems:
        print(f"derain: {problem}", file=sys.stderr)
    return 1 if problems else 0


def gathered(found: Shown, runs: Path, drawings: Sequence[Path]) -> Report:
    """What the report shows: tables as last made, pictures, figures, costs, and where each run comes from."""
    made = {t.name: t for t in _tables(runs / "tables" / found.recipe)}
    kept = {t.name: t for t in _tables(results(found.recipe))} if found.recipe == "embedded" else {}
    drawn = captions.drawn(drawings, found, runs)

    def of(*kinds: str) -> list[Drawn]:
        return [d for stem, d in drawn.items() if stem.partition("_")[0] in kinds]

    def numbered(number: int) -> tuple[list[Table], list[str]]:
        """A table of the paper in all its forms, made of these runs or else kept with the suite."""
        own = [t for name, t in made.items() if _number(name) == number]
        other = [t for name, t in kept.items() if _number(name) == number]
        if own or not other:
            return own, []
        return other, [
            f"Not made of these runs: this is the table that is kept with the suite, `results/{found.recipe}`."
        ]

    real = [t for t in _tables(results("real")) if _number(t.name) == 2]
    released = [t for t in _tables(results("real")) if _number(t.name) is None]
    study = _tables(results("study"))
    by_name = {t.name: t for t in study}
    sections = []
    for number, (title, about) in _TABLES.items():
        tables, said = numbered(number)
        parts: list[Part] = _by_convention(tables)
        if number == 1:
            parts += of("figure1")
            parts += _folded("PSNR-Y of every test image, set by set", of("distribution"))
        if number > 2:
            stems = {p.stem: p for p in captions.pictures(found.recipe, f"table{number}*") if said}
            stems |= {p.stem: p for p in (runs / "tables" / found.recipe).glob(f"table{number}*.png")}
            parts += captions.of_tables(number, list(stems.values()), tables)
        rows = _measured(tables) if number == 1 else []
        sections.append(
            Section(
                f"table{number}",
                title,
                [about, *rows, *said],
                parts,
                missing=f"Not made yet: make table{number}",
            )
        )
    shown = [c for d, there in found.by_set.items() if (c := _for_slider(d, there, drawn)) is not None]
    with_crops = [crops for _, of_set in shown for crops in of_set]
    sections.insert(
        1,
        Section(
            "pictures",
            "Pictures",
            parts=[
                *(pictures for pictures, _ in shown),
                *(Folded(f"Enlarged parts: {crops.title}", [crops]) for crops in with_crops),
            ],
            missing="None of the runs has its weights.",
        ),
    )
    costs = evidence.costs()
    rates, speed, claims = evidence.rates(), evidence.speed(), evidence.claims()
    of_energy = [t for name in _OF_ENERGY for t in study if t.name == name]
    here = "not in this installation: it is in the checkout of the suite"
    sections += [
        Section(
            "real",
            "Real rain and real test sets",
            [
                "Photographs of real rain, which have no target, and published test sets, restored by weights that "
                "others or this suite trained."
            ],
            [*real, *released],
            missing=f"Figures on real rain are {here} (make real).",
        ),
        Section(
            "claims",
            "Claims",
            [
                "What the papers claim, and what was measured here, of full networks or of small ones. "
                "`docs/claims.md` has each in full: the words, the scale, intervals, and the command that repeats it. "
                "S1 (all networks), S2 (variants of ESDNet) and S3 (lengths of training) are parts of the study, H1 to "
                "H9 its hypotheses: `results/study/protocol.md`."
            ],
            [
                *_some(claims),
                *captions.differences(by_name),
                *(Folded(t.title, [t]) for t in study if t.name not in _OF_ENERGY),
            ],
            missing=f"The list of claims is {here} (docs/claims.md).",
        ),
        Section(
            "costs",
            "Corrected costs",
            [evidence.made_by("cost")] if evidence.made_by("cost") else [],
            [
                *costs[:1],
                *(Folded(grid.title, [grid]) for grid in costs[1:]),
                *(_layers(name, runs / "costs") for name in found.networks),
            ],
        ),
        Section(
            "energy",
            "Energy against quality",
            []
            if of_energy
            else [
                "The study that measures quality against energy has not been done yet (derain study); what follows "
                "needs no training."
            ],
            [
                *captions.quality(by_name),
                *captions.balance(),
                *(Folded(t.title, [t]) for t in of_energy),
            ],
            missing="Not measured yet: derain study.",
        ),
        Section(
            "spikes",
            "Spikes",
            parts=[
                *_some(rates),
                *(Folded(d.caption.rstrip("."), [d]) for d in of("figure2")),
                *evidence.layer_rates(),
            ],
            missing="No spiking network was counted yet: derain cost --networks",
        ),
        Section(
            "speed",
            "Speed",
            parts=[Folded(f"{speed.title}: {several(len(speed.rows), 'case')}", [speed])] if speed else [],
            missing=f"Measured speeds are {here} (make bench).",
        ),
        Section("training", "Training", parts=of("curves"), missing="No run has a log of its training."),
        Section(
            "runs",
            "Runs and provenance",
            parts=[Folded(f"All {several(len(found.every), 'run')}", [_runs(found.every)])],
            runs=[r.record for r in found.every],
        ),
        Section(
            "not-run",
            "What was not run, and why",
            not_run=[*_not_run(found), *_not_made(made, kept)],
            missing="Every table has been made, and every network was run on every set that others were run on.",
        ),
    ]
    return Report(f"Deraining benchmark, recipe {found.recipe}", _about(found), sections)


def _means(how: Convention | None) -> str:
    """How a convention measures, in words; none of one that this suite does not have."""
    if how is None:
        return ""
    border = f"{how.border} pixels cut off on every side" if how.border else "the whole picture"
    smaller = ", SSIM of large pictures on reduced ones" * how.downsampled_ssim
    luma = "rounded to 8 bits" if how.rounded_luma else "as it is"
    return f"Convention {how.name}: Y {luma}, {border}{smaller}. Of: {how.origin}."


def _by_convention(tables: Sequence[Table]) -> list[Part]:
    """Tables that differ in the convention of their metrics alone are one, of which the reader chooses."""
    from benchmark.metrics.fidelity import CONVENTIONS

    alike: dict[str, list[tuple[str, Table]]] = {}
    for table in tables:
        named = re.search(r",? convention `(\w+)`", table.title)
        key = table.title.replace(named[0], "") if named else table.title
        alike.setdefault(key, []).append((named[1] if named else "", table))
    parts: list[Part] = []
    for some in alike.values():
        if len(some) == 1:
            parts.append(some[0][1])
            continue
        order = sorted(some, key=lambda one: [*CONVENTIONS, one[0]].index(one[0]))
        parts.append(Choice("Convention", [(name, _means(CONVENTIONS.get(name)), t) for name, t in order]))
    return parts


def _folded(title: str, parts: Sequence[Part]) -> list[Part]:
    return [Folded(title, parts)] if parts else []


_TABLES = {
    1: (
        "Table 1: networks on test sets",
        "PSNR-Y (in dB) and SSIM-Y say how near a restored picture's brightness is to that of the picture without "
        "rain: more is better. The best average first.",
    ),
    2: (
        "Table 2: rainy photographs",
        "Scores without a reference; the input's own is apart. ↓ says that less is better.",
    ),
    3: ("Table 3: residual blocks", "ESDNet with other residual blocks."),
    4: ("Table 4: time steps", "ESDNet with fewer and more time steps."),
    5: ("Table 5: components", "ESDNet without some of its parts."),
}


def _measured(tables: Sequence[Table]) -> list[str]:
    """How many rows and test sets Table 1 has, and what was not run of the suite or not measured on all sets."""
    if not tables:
        return []
    table = tables[0]
    sets = [c for c in table.columns if c.key.endswith("_psnr") and not c.key.startswith("average")]
    rows = {
        r.label: [table.cell(r, c).value is not None for c in sets] for r in table.rows if r.label != INPUT
    }
    told = {name: there for name, there in rows.items() if any(there)}
    part = [name for name, there in told.items() if not all(there)]
    absent = [n.title for n in catalog.networks().values() if n.title not in told]
    return [
        f"{several(len(told), 'row')} measured on {several(len(sets), 'test set')}."
        + f" Not on all of them: {', '.join(part)}." * bool(part)
        + f" Not run: {', '.join(absent)}." * bool(absent)
    ]


def _number(name: str) -> int | None:
    """Which table of the paper a file is of: table1, table1_matlab, table2_internet-data, …"""
    head = name.partition("_")[0]
    return int(head[5:]) if head.startswith("table") and head[5:].isdigit() else None


def _tables(folder: Path) -> list[Table]:
    return [read_table(path) for path in sorted(folder.glob("*.json")) if path.stem not in _NO_TABLES]


_OF_ENERGY = ("energy", "equal-score", "saving")
"""Tables of the study that stand in the section on energy."""
_NO_TABLES = ("provenance", "sets")  # what else lies beside the tables that are kept


def _some(grid: Grid | None) -> list[Grid]:
    return [] if grid is None else [grid]


def _about(found: Shown) -> list[str]:
    newest = max(str(r.record.get("date", "")) for r in found.every)
    commits = ", ".join(sorted({commit_in_words(r.record.get("commit")) for r in found.every}))
    given = len({r.row for r in found.given})
    about = [
        f"Recipe {found.recipe}: {len(found.runs)} runs of {len({r.model for r in found.runs})} networks"
        + f" and {given} rows that nobody trained here" * bool(given)
        + f", the last one done {newest[:10]}, made by {commits}.",
        *about_rows([r.record for r in found.given]),
    ]
    if any(r.record["config"]["recipe"].get("embedded") for r in found.runs):
        about.append(EMBEDDED)
    return about


def _runs(runs: Iterable[Run]) -> Grid:
    columns = ("Run", "network", "trained on", "seed", "steps", "seconds", "commit", "date")
    rows = []
    for run in runs:
        training, config = run.record.get("training", {}), run.record["config"]
        rows.append(
            [
                str(run.record.get("name", run.folder.name)),
                run.title,
                training.get("data", {}).get("trained_on") or config["data"].get("name"),
                None if run.record.get("row") else config.get("seed"),
                training.get("steps"),
                training.get("seconds"),
                commit_in_words(run.record.get("commit")),
                str(run.record.get("date", ""))[:10],
            ]
        )
    return Grid("All runs", "", columns, rows)


def _for_slider(
    dataset: str, there: Sequence[Run], drawn: Mapping[str, Drawn]
) -> tuple[Comparison, list[Crops]] | None:
    """Some test pictures of a set by every network: as a whole, and parts of them enlarged."""
    try:
        pairs = test_pictures(dataset, there[0].record["config"]["data"]["root"], showing.COMPARED)
        restored = restored_of(dataset, there, pairs)
    except (UserError, WorkError) as error:
        print(f"derain: {dataset}: no pictures in the report: {error}", file=sys.stderr)
        return None
    if not all(restored.values()):
        return None
    title = dataset_spec(dataset).title
    pictures, enlarged = [], []
    for name, by_network in restored.items():
        panels = comparison_panels(dataset, there, name, pairs[name], by_network)
        said = [p.caption for p in panels[:-1]] + [""]
        pictures.append((name, [Look(p.title, p.picture, c) for p, c in zip(panels, said, strict=True)]))
        boxes = telling_boxes(panels[0].picture, panels[-1].picture, _side(panels[0].picture))
        enlarged.append(
            Crops(
                f"{title}, {name}",
                panels[0].picture,
                ENLARGED,
                [(box.left, box.top, box.side) for box in boxes],
                [(p.title, p.caption, [box.of(p.picture) for box in boxes]) for p in panels],
                next((p.title for p in panels if p.best), ""),
                drawn.get(f"comparison_{dataset}_{name}"),
            )
        )
    return Comparison(title, pictures), enlarged


def _side(picture: Picture) -> int:
    """Pixels of the side of an enlarged part: two beside each other fit a telephone."""
    return min(44, min(picture.shape[:2]) // 3)


_LAYER_COLUMNS = ("name", "kind", "input", "T", "parameters", "macs", "accumulates", "calls")


def _layers(name: str, folder: Path) -> Grid:
    """The full network's cost at 256², layer by layer; counted once and kept beside the other costs."""
    from benchmark.run.costs import counted_by, kept_of
    from benchmark.run.records import provenance, write_record

    place, file = folder / f"{name}-256-layers", "layers.json"
    made_by = counted_by(name)
    kept = kept_of(place, made_by, file)
    if kept is None:
        from benchmark.cost import measure_cost
        from benchmark.models import create_model

        network = create_model(name)
        # shapes alone count the operations; the glance tells which layers spikes drive
        cost = measure_cost(network, 256, shapes_only=True, rates=measure_cost(network, 32))
        rows = [[getattr(row, c) for c in _LAYER_COLUMNS] for row in cost.counted]
        total = (
            f"{cost.params / 1e6:.3f} M parameters, {cost.macs / 1e9:.3f} GMAC and {cost.accumulates / 1e9:.3f} G "
            "accumulates at 256²"
        )
        kept = {"model": name, "total": total, "rows": rows, **provenance(name), **made_by}
        write_record(place, kept, file)
    title = catalog.network(name).title
    rows = [row for row in kept["rows"] if row[4] or row[5] or row[6]]
    total = str(kept["total"]).replace(" and 0.000 G accumulates", "")
    return Grid(title, total, _LAYER_COLUMNS, rows)


def _not_made(made: Iterable[str], kept: Iterable[str]) -> list[tuple[str, str]]:
    """The paper's tables that nobody has made of these runs."""
    own, other = ({_number(name) for name in names} for names in (made, kept))
    return [
        (
            f"Table {number}",
            f"not made of these runs: make table{number}"
            + "; the one above is kept with the suite" * (number in other),
        )
        for number in range(1, 6)
        if number not in own
    ]


def _not_run(found: Shown) -> list[tuple[str, str]]:
    """Runs that failed, sets that could not be tested, and networks without a run."""
    items = [(str(f.get("name", "a run")), f"{f['state']}: {f['reason']}") for f in found.failures]
    for run in found.runs:
        items += [(f"{run.folder.name} on {d}", str(why)) for d, why in run.record.get("missing", {}).items()]
    for network in catalog.networks().values():
        sets = [d for d, there in found.by_set.items() if all(r.row != network.name for r in there)]
        if found.runs and sets:
            items.append((network.title, f"not run with recipe {found.recipe} for {', '.join(sets)}"))
    return items
