"""Rows that nobody trained here (`benchmark.sweep.rows`), measured: each leaves a record as a run does.

A record's folder is RUNS/released/NAME-IDENTITY; the identity is a hash of the weights (or pictures) and of how they
are tested. What is measured already on the same test pictures is not measured again; what was restored before a
command was cut off is not restored again by the same code.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog, shipped
from benchmark.cli.gallery import Picture, Run, restore_photographs
from benchmark.data.images import image_size, list_images, read_image, write_image
from benchmark.data.layouts import pair
from benchmark.data.specs import dataset_spec, result_key
from benchmark.errors import Diverged, UserError, WorkError, out_of_memory
from benchmark.files import WEIGHTS, require_writable, write_text
from benchmark.metrics.measures import Measure, opened
from benchmark.metrics.measures import asked as metric_asked
from benchmark.run.claims import Claim
from benchmark.run.current import forget, require_current, test_digests
from benchmark.run.records import (
    FAILURE,
    RECORD,
    Record,
    provenance,
    read_record,
    without_home,
    without_places,
    write_record,
)
from benchmark.run.states import DIVERGED, FAILED, OUT_OF_MEMORY
from benchmark.sources import code_digest
from benchmark.spec import RunSpec, resolve
from benchmark.sweep.plan import chosen_datasets
from benchmark.sweep.rows import PHOTOGRAPHS, PICTURES, SHIPPED, Entry, Row, of_words
from benchmark.text.progress import bar

if TYPE_CHECKING:
    from benchmark.data import PairedImages
    from benchmark.models import Opened

TRUNCATED = "truncated_"  # before the columns of pictures whose 8 bits were cut off instead of rounded
UNKNOWN = "unknown"  # the recipe of what others trained
_MADE_BY = "made-by.txt"


@dataclass(frozen=True)
class Asked:
    """Rows and what is to be measured of them.

    Attributes:
        rows: in the order of the table.
        datasets: test sets; PHOTOGRAPHS where the weights alone are wanted.
        root: folder of the datasets; None for the embedded ones.
        runs: folder of the runs.
        metrics: further ones, as `evaluation.metrics`.
        absent: test sets that are not there, with the reason.
    """

    rows: Sequence[Row]
    datasets: Sequence[str]
    root: str | None
    runs: Path
    metrics: Sequence[str] = ()
    absent: dict[str, str] = field(default_factory=dict)

    def work(self) -> dict[Entry, list[str]]:
        """Every file of weights (or set of folders) and the test sets that it is for, those that are there."""
        found: dict[Entry, list[str]] = {}
        for row in self.rows:
            for dataset in self.datasets:
                entry = row.entry_for(dataset)
                if entry is not None and dataset not in self.absent:
                    found.setdefault(entry, []).append(dataset)
        return found


@dataclass
class Measured:
    """What came of rows: their runs by the row's name, and what failed."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def records(self, asked: Asked) -> list[Record]:
        """The records, each with the results alone that its row is for."""
        kept = []
        for row in asked.rows:
            for run in self.runs.get(row.name, []):
                wanted = {
                    result_key(d)
                    for d in asked.datasets
                    if d != PHOTOGRAPHS
                    and (entry := row.entry_for(d)) is not None
                    and entry.identity == run.record["identity"]
                }
                results = {k: v for k, v in run.record["results"].items() if k in wanted}
                kept.append({**run.record, "results": results})
        return kept


def require(asked: Asked) -> None:
    """Refuse what cannot be measured, before anything is written or trained.

    Test sets that are not there become `asked.absent`.

    Raises:
        UserError: a file is missing or of another network; a folder lacks pictures of a test set, or has others of
            another size; two files would do; the test pictures are others than those that a record was made of.
    """
    _, about = opened(asked.metrics)
    forget()
    for dataset in asked.datasets:
        if dataset == PHOTOGRAPHS:
            continue
        try:
            _open(dataset, asked)
        except UserError as error:
            if not any(_kept(e, asked, [dataset]) for e in _of(asked, dataset)):
                asked.absent[dataset] = without_home(str(error))
    for entry, datasets in asked.work().items():
        record = read_record(entry.folder(asked.runs))
        if record is not None:
            here = {**record["config"]["data"], "root": asked.root}
            require_current(
                {**record, "config": {**record["config"], "data": here}}, entry.folder(asked.runs)
            )
        left = _left(record, datasets, about)
        if not left and (entry.kind == PICTURES or (entry.folder(asked.runs) / WEIGHTS).is_file()):
            continue
        if entry.kind == PICTURES:
            for dataset in left:
                _pictures_of(entry, dataset, _open(dataset, asked))
        elif left or PHOTOGRAPHS in datasets:
            _network(entry)


def _of(asked: Asked, dataset: str) -> list[Entry]:
    return [e for row in asked.rows if (e := row.entry_for(dataset)) is not None]


def _kept(entry: Entry, asked: Asked, datasets: Sequence[str]) -> bool:
    return not _left(read_record(entry.folder(asked.runs)), datasets, {})


def do(asked: Asked) -> Measured:
    """Measure all that is not measured yet; what fails leaves its reason and the others go on.

    Call `require` before.
    """
    measures, about = opened(asked.metrics)
    found = Measured()
    for entry, datasets in asked.work().items():
        folder = entry.folder(asked.runs)
        record: Record | None
        try:
            record = _do(entry, datasets, asked, measures, about)
        except Exception as error:
            failure = _failure(entry, error)
            with contextlib.suppress(UserError, WorkError):  # a full disk has no room for the reason either
                write_record(folder, failure, FAILURE)
            found.failures[entry.row] = f"{failure['state']}: {failure['reason']}"
            print(f"derain: {entry.row}: {failure['reason']}", file=sys.stderr)
            record = read_record(folder)  # of what was measured before
        if record is not None:  # perhaps of a row that was called or described otherwise
            found.runs.setdefault(entry.row, []).append(Run(folder, {**record, "row": entry.told}))
    return found


def record_of_weights(
    told: Mapping[str, Any], data: str, dataset: str | None, runs: Path, metrics: Sequence[str]
) -> tuple[Path, Record, str]:
    """Measure one file of weights on one test set, and keep the record that a row of tables of that file has.

    Args:
        told: the row, as one of a file of rows.
        data: folder of the pairs, or that they lie in or below.
        dataset: which test set they are; None: a folder called as it is.
        runs: folder of the runs.
        metrics: further ones.

    Returns:
        Where the record is, the record, and under which name its results are.

    Raises:
        UserError: the weights or the pairs are not there or wrong.
        WorkError: they could not be measured.
    """
    row = of_words(told)
    (chosen,) = chosen_datasets([dataset or str(Path(data).absolute())], data)
    asked = Asked([row], [chosen], data, runs, metrics)
    require(asked)
    if chosen in asked.absent:
        raise UserError(asked.absent[chosen])
    found = do(asked)
    if row.name in found.failures:
        raise WorkError(f"{row.name}: {found.failures[row.name]}")
    (run,) = found.runs[row.name]
    return run.folder / RECORD, run.record, result_key(chosen)


def in_words(asked: Asked) -> list[str]:
    """A line for each file: what is measured already, and what is to be."""
    _, about = opened(asked.metrics)
    lines = []
    for entry, datasets in asked.work().items():
        left = [d for d in _left(read_record(entry.folder(asked.runs)), datasets, about) if d != PHOTOGRAPHS]
        file = f" ({entry.path.name})" if entry.path is not None and entry.kind != SHIPPED else ""
        what = f"to be measured on {', '.join(left)}" if left else "done"
        lines.append(f"{'waiting' if left else 'done':<13} {entry.row}{file}: {what}")
    return lines


def _left(record: Record | None, datasets: Sequence[str], about: Mapping[str, Any]) -> list[str]:
    """The test sets that a record has not, or not by all conventions and metrics that are asked for."""
    if record is None:
        return list(datasets)
    from benchmark.metrics.fidelity import CONVENTIONS

    told = {name: without_places(one) for name, one in about.items()}
    other = any(record.get("metrics", {}).get(name) != one for name, one in told.items())
    wanted = {f"psnr_{name}" for name in CONVENTIONS}
    return [
        d
        for d in datasets
        if d != PHOTOGRAPHS
        and (other or not wanted <= record["results"].get(result_key(d), {}).get("mean", {}).keys())
    ]


def _do(
    entry: Entry, datasets: Sequence[str], asked: Asked, measures: Sequence[Measure], about: Mapping[str, Any]
) -> Record:
    folder = entry.folder(asked.runs)
    record = read_record(folder)
    ready = entry.kind == PICTURES or (folder / WEIGHTS).is_file() or PHOTOGRAPHS not in datasets
    if record is not None and ready and not _left(record, datasets, about):
        return record
    require_writable(folder)
    with Claim(folder) as claim:
        options: dict[str, Any] = {}
        parameters: int | None = None
        if entry.kind != PICTURES:
            options, parameters = _keep_weights(entry, folder)
        # another process may have gone on with it meanwhile
        done: Record = read_record(folder) or record_of(entry, asked.root, options, parameters)
        write_record(folder, done)
        for dataset in _left(done, datasets, about):
            result = _measure(entry, Run(folder, done), dataset, asked, measures)
            done = record_of(
                entry,
                asked.root,
                options,
                parameters,
                {**done["results"], result_key(dataset): result},
                done["data"]["test"] | test_digests(_where(asked.root), [dataset]),
                done.get("metrics", {}) | {name: without_places(one) for name, one in about.items()},
            )
            claim.hold()
            write_record(folder, done)
        (folder / FAILURE).unlink(missing_ok=True)
    return done


def record_of(
    entry: Entry,
    root: str | None,
    options: Mapping[str, Any],
    parameters: int | None,
    results: Mapping[str, Any] | None = None,
    test: Mapping[str, str] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Record:
    """What a run would leave, and in "row" what it is that nobody trained here.

    Args:
        entry: what it is of.
        root: folder of the datasets.
        options: all that the network was built with.
        parameters: of the network; None of pictures.
        results: by test set.
        test: a hash of the files of each test set.
        metrics: what the further ones are made by.
    """
    ship = shipped.shipped().get(entry.row) if entry.kind == SHIPPED else None
    recipe = dict(ship.card["training"]["recipe"]) if ship else {"name": UNKNOWN}
    config = (entry.config(root, "runs") if entry.model else _where(root)).plain()
    model = {"name": entry.model or entry.row, "options": dict(options)}
    return {
        "identity": entry.identity,
        "name": entry.name,
        "state": "done",
        "config": {**config, "model": model, "recipe": recipe, "out": "runs"},
        "row": entry.told,
        "training": dict(ship.card["training"]) if ship else {},
        "model_options": dict(options),
        "data": {"train": None, "test": dict(test or {})},
        "parameters": {"trained": parameters} if parameters is not None else {},
        "results": dict(results or {}),
        "missing": {},
        **({"metrics": dict(metrics)} if metrics else {}),
        **provenance(entry.model),
    }


def _where(root: str | None) -> RunSpec:
    """A configuration that says where test sets lie."""
    return resolve(["data=folder", *([f"data.root={root}"] if root is not None else [])])


def _open(dataset: str, asked: Asked) -> PairedImages:
    from benchmark.data import open_pairs
    from benchmark.metrics.fidelity import least_side

    metrics = [metric_asked(word)[0].least for word in asked.metrics]
    return open_pairs(dataset, asked.root, "test", least=max([least_side(), *metrics]))


def _network(entry: Entry) -> Opened:
    """The network with the weights of a file.

    Raises:
        UserError: the file cannot be read or is of another network.
    """
    from benchmark.models import open_network

    assert entry.path is not None
    config = entry.config(None, "runs")
    return open_network(entry.path, entry.model, config.model.options)


def _keep_weights(entry: Entry, folder: Path) -> tuple[dict[str, Any], int]:
    """Keep the weights in the record's folder, as a run does; the network's options and number of parameters."""
    from benchmark.checkpoints import save_weights
    from benchmark.models import open_network

    kept = folder / WEIGHTS
    opened_now = open_network(kept) if kept.is_file() else _network(entry)
    if not kept.is_file():
        told = {"model": {"name": opened_now.name, "options": opened_now.options}, "row": entry.row}
        save_weights(opened_now.network, kept, told)
    return opened_now.options, sum(p.numel() for p in opened_now.network.parameters())


def _measure(
    entry: Entry, run: Run, dataset: str, asked: Asked, measures: Sequence[Measure]
) -> dict[str, Any]:
    """Restore a test set, or take the pictures that others restored, and measure it by all conventions."""
    from benchmark.run.evaluate import about_pair, png_path, summary

    pairs = _open(dataset, asked)
    name = dataset_spec(dataset).name
    place, cut = run.folder / "restored" / name, None
    how: dict[str, Any] = {}
    if entry.kind == PICTURES:
        paths = _pictures_of(entry, dataset, pairs)
        for picture, path in zip(
            pairs.names, paths, strict=True
        ):  # for comparisons, as restored ones are kept
            write_image(png_path(place, picture), read_image(path))
    else:
        tile, overlap = run.config.tiling
        how = {"tile": tile, "overlap": overlap}
        cut = run.folder / "truncated" / name if entry.truncated else None
        _only_by_this_code(entry, place, cut)
        wanted = [(name, lambda i=i: pairs.arrays(i)[0]) for i, name in enumerate(pairs.names)]
        restored = restore_photographs(run, wanted, place, whole=None, truncated=cut)
        with bar(f"{entry.row} on {name}", len(pairs), always=False) as step:
            paths = []
            for _, path in restored:
                paths.append(path)
                step.advance()
    rows = []
    for i, path in enumerate(paths):
        rainy, target = pairs.arrays(i)
        columns = measured(read_image(path), rainy, target, measures)
        if cut is not None:
            cut_off = measured(read_image(cut / path.relative_to(place)), None, target)
            columns |= {f"{TRUNCATED}{key}": value for key, value in cut_off.items()}
        rows.append({**about_pair(pairs[i]), **columns})
    return {**how, "mean": summary(rows), "images": rows}


def measured(
    restored: Picture, rainy: Picture | None, target: Picture, measures: Sequence[Measure] = ()
) -> dict[str, float]:
    """The columns of one picture, by every convention and further metric; of the rainy one too, where it is given."""
    import torch

    from benchmark.metrics.fidelity import CONVENTIONS
    from benchmark.run.evaluate import measure_pictures

    columns: dict[str, float] = {}
    for prefix, picture in (("", restored), ("rainy_", rainy)):
        if picture is None:
            continue
        (found,) = measure_pictures([(picture, target)], tuple(CONVENTIONS), workers=1)
        columns |= {f"{prefix}{key}": value for key, value in found.items()}
        levels = [torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() / 255 for p in (picture, target)]
        columns |= {f"{prefix}{m.metric.name}": m(*levels)[0] for m in measures}
    return columns


def _only_by_this_code(entry: Entry, *places: Path | None) -> None:
    """Take away pictures that other code restored before a command was cut off."""
    assert entry.model is not None
    code = code_digest(catalog.network(entry.model).target)
    for place in places:
        if place is None:
            continue
        told = place / _MADE_BY
        if place.exists() and (not told.is_file() or told.read_text(encoding="utf-8") != code):
            shutil.rmtree(place)
        write_text(told, code)


def _pictures_of(entry: Entry, dataset: str, pairs: PairedImages) -> list[Path]:
    """The restored pictures of a test set, in its order.

    Raises:
        UserError: one is missing, cannot be read or has another size, or several names fit.
    """
    name = dataset_spec(dataset).name
    folder = entry.folders[name]
    files = {path.name: path for path in list_images(folder)}
    found = pair([f"{picture}.png" for picture in pairs.names], files)
    if found.ambiguous:
        ours, theirs = found.ambiguous[0]
        raise UserError(
            f"row '{entry.row}': {folder}: {', '.join(theirs)} could all be {', '.join(ours)} of {name}"
        )
    of = dict(found.pairs)
    missing = [picture for picture in pairs.names if f"{picture}.png" not in of]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"row '{entry.row}': {folder}: has {len(pairs) - len(missing)} of {len(pairs)} pictures of {name}; "
            f"missing: {', '.join(missing[:3])}{more}"
        )
    paths = [files[of[f"{picture}.png"]] for picture in pairs.names]
    for i, path in enumerate(paths):
        wanted, there = pairs.arrays(i)[1].shape[:2], image_size(path)
        if tuple(there) != tuple(wanted):
            raise UserError(
                f"row '{entry.row}': {path}: {there[1]}×{there[0]}, but {name} has {wanted[1]}×{wanted[0]} there"
            )
    if len(files) > len(paths):
        print(
            f"derain: {folder}: {len(files) - len(paths)} pictures that {name} has not, passed over",
            file=sys.stderr,
        )
    return paths


def _failure(entry: Entry, error: Exception) -> Record:
    if out_of_memory(error):
        state, reason = OUT_OF_MEMORY, f"out of memory ({' '.join(str(error).split())[:120]})"
    else:
        state = DIVERGED if isinstance(error, Diverged) else FAILED
        reason = without_home(str(error)) or type(error).__name__
    expected = isinstance(error, (UserError, WorkError))
    return {
        "identity": entry.identity,
        "name": entry.name,
        "state": state,
        "config": {"model": {"name": entry.model or entry.row}},
        "row": {"name": entry.row, "kind": entry.kind},
        "reason": reason,
        "traceback": [] if expected else without_home(traceback.format_exc()).splitlines()[-12:],
        **provenance(entry.model),
    }
