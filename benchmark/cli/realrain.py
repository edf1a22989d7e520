"""Table 2: rainy photographs restored by every trained network and scored without a clean counterpart."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark import catalog
from benchmark.cli.gallery import Photograph, Run, restore_photographs
from benchmark.data.specs import DATASETS, dataset_spec
from benchmark.errors import UserError, unknown
from benchmark.files import file_digest, write_json
from benchmark.metrics.measures import asked, opened
from benchmark.reading import path as expanded
from benchmark.report.comparison import FEW_SEEDS
from benchmark.report.realrain import PIQE, table2
from benchmark.report.rows import Given
from benchmark.run.records import Record, provenance, read_record, without_home, write_record
from benchmark.run.states import DONE, state_of
from benchmark.sources import code_digest
from benchmark.sweep import plan as plans
from benchmark.sweep.plan import Plan, table_datasets
from benchmark.text.progress import bar
from benchmark.text.table import Table

SCORES = "scores.json"
SET = "rw-data"  # the photographs of the paper's Table 2
_SMALLEST = 16  # PIQE's block

EMBEDDED_NOTE = (
    "Embedded benchmark: the networks' small variants, trained briefly on dead leaves, on the rainy pictures of "
    "all embedded test sets. These are rendered rain, standing in for photographs. From five seeds on the "
    "printed figures, of full networks on 185 photographs of real rain, stand beside for orientation, not for "
    "comparison."
)
OWN_NOTE = (
    "The photographs are not the paper's: printed figures stand beside for orientation, not for comparison."
)
PAPER_NOTE = (
    "Beside a measured figure, where the paper has one: the figure it printed, and measured minus printed."
)


@dataclass(frozen=True)
class Options:
    """The settings that are this table's own: `photographs=`, `duplicates=`, `piqe=`, `metaiqa.checkpoint=`,
    `metrics=`.

    `photographs` is a folder, or a dataset of photographs below --data; of those that show nearly the same,
    `duplicates=once` keeps one.
    """

    photographs: str | None = None
    duplicates: str = "all"
    piqe: str = "pyiqa"
    metaiqa: str | None = None
    metrics: tuple[str, ...] = ()


@dataclass
class Photographs:
    """Rainy photographs that could be read, each with a hash of its pixels and its scene, and those that could not."""

    title: str
    pictures: list[Photograph] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    scenes: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    embedded: bool = False

    def group(self) -> list[list[str]]:
        """Take photographs that show nearly the same (`benchmark.data.audit`) for one scene; returns their names."""
        from benchmark.data.audit import near_duplicates

        positions = near_duplicates(pixels() for _, pixels in self.pictures)
        groups = [[self.pictures[i][0] for i in group] for group in positions]
        self.scenes = {name: self.scenes[group[0]] for group in groups for name in group}
        return groups

    def keep_once(self) -> None:
        """Keep one, the first, of photographs that show nearly the same."""
        groups = self.group()
        several = [group for group in groups if len(group) > 1]
        if not several:
            return
        self.remarks.append(
            f"{len(self.pictures)} photographs of which {sum(map(len, several))} show nearly what another shows: of "
            f"each group the first is kept, {len(groups)} in all ({', '.join(map('/'.join, several))})."
        )
        kept = {group[0] for group in groups}
        self.pictures = [(name, pixels) for name, pixels in self.pictures if name in kept]
        self.digests = {name: self.digests[name] for name, _ in self.pictures}

    def add(self, name: str, pixels: Any, scene: str | None = None) -> None:
        """Add a photograph: its name (made unique), the function that gives its pixels, its scene (None: its own)."""
        name = next(n for n in (name, *(f"{name}-{i}" for i in range(2, 10_000))) if n not in self.digests)
        try:
            picture = pixels()
            if min(picture.shape[:2]) < _SMALLEST:
                height, width = picture.shape[:2]
                raise UserError(f"{name}: {width}×{height} pixels; PIQE needs {_SMALLEST} a side")
        except UserError as error:
            self.left_out.append(str(error))
            return
        self.pictures.append((name, pixels))
        self.digests[name] = digest(picture)
        self.scenes[name] = scene or name

    @property
    def identity(self) -> str:
        """A hash of all names and pixels."""
        return hashlib.sha256(repr(sorted(self.digests.items())).encode()).hexdigest()[:12]


def draw(
    options: Options,
    photographs: Photographs,
    runs: Sequence[Run],
    models: Sequence[str],
    place: Path,
    failures: Sequence[Record] = (),
    given: Sequence[Given] = (),
    notes: Sequence[str] = (),
) -> Table:
    """Restore the photographs by every run, score them, and draw Table 2 from the records of the scores.

    Args:
        options: this table's own settings.
        photographs: the rainy ones.
        runs: those that are done.
        models: names of the networks, in the order of the rows.
        place: folder for restored pictures, their records and the scores by content.
        failures: of the runs that are not done.
        given: rows that nobody trained here; their runs are among `runs`.
        notes: printed above the table.
    """
    folder = place / f"{_slug(photographs.title)}-{photographs.identity}"
    metrics = Metrics(options, place / "cache.json")
    rainy = metrics.record(photographs, folder / "rainy", photographs.pictures, {})
    records = [_score(run, photographs, folder, metrics) for run in runs if run.weights is not None]
    left_out = [*photographs.remarks, *(f"Left out: {reason}" for reason in photographs.left_out)]
    return table2(
        f"table2_{_slug(photographs.title)}" if options.photographs else "table2",
        rainy,
        records,
        models=models,
        implementation=options.piqe,
        others={metric.name: metric.lower_better for metric, _ in map(asked, options.metrics)},
        failures=failures,
        given=given,
        beside_printed=not photographs.embedded or len({r["seed"] for r in records}) >= FEW_SEEDS,
        notes=[*notes, *left_out],
    )


def note(options: Options, root: str | None) -> str:
    """What the figures in brackets are."""
    return OWN_NOTE if options.photographs else EMBEDDED_NOTE if root is None else PAPER_NOTE


def take_options(settings: Iterable[str]) -> tuple[Options, list[str]]:
    """This table's own settings, and the others.

    Raises:
        UserError: no such implementation of PIQE, no such file, no such metric.
    """
    names = {
        "photographs": "photographs",
        "duplicates": "duplicates",
        "piqe": "piqe",
        "metaiqa.checkpoint": "metaiqa",
    }
    own: dict[str, Any] = {}
    others = []
    for word in settings:
        key, sign, value = word.partition("=")
        if sign and key in names:
            own[names[key]] = value if key in ("piqe", "duplicates") else expanded(value)
        elif sign and key == "metrics":
            own["metrics"] = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        else:
            others.append(word)
    options = Options(**own)
    if options.piqe not in PIQE:
        raise unknown("PIQE implementation", options.piqe, PIQE)
    if options.duplicates not in ("all", "once"):
        raise unknown("way with near-duplicates", options.duplicates, ("all", "once"))
    if options.metaiqa and not Path(options.metaiqa).is_file():
        raise UserError(f"metaiqa.checkpoint={options.metaiqa}: no such file")
    for word in options.metrics:
        if asked(word)[0].against_target:
            raise UserError(
                f"metric {word}: compares with the clean picture, which photographs lack; Table 1 can have it"
            )
    return options, others


def training_set(embedded: bool) -> str:
    """The dataset whose networks restore the photographs: Rain200H, or the embedded one that stands for it."""
    trained_on = dataset_spec(SET).training
    column = DATASETS[trained_on].columns
    return next(DATASETS[d].training for d in table_datasets(embedded) if DATASETS[d].columns == column)


def plan(
    recipe: str, root: str | None, models: Sequence[str], seeds: Iterable[int], words: Sequence[str], out: str
) -> Plan:
    """The runs of Table 2: every network on the training set that the photographs' networks come from.

    Raises:
        UserError: a run is to be done but its training set is not below `root`.
    """
    if root is not None and not Path(root).is_dir():
        raise UserError(f"--data {root}: no such folder")
    data = training_set(embedded=root is None)
    planned = plans.table2(recipe, root, data, models, seeds, words, out)
    if planned.runs and root is not None and any(state_of(run).name != DONE for run in planned.runs):
        from benchmark.data.layouts import find_split

        find_split(dataset_spec(data), root, "train")
    return planned


def open_photographs(given: str | None, root: str | None, once: bool = False) -> Photographs:
    """The rainy photographs: a folder's, a dataset's (RW-Data) below `root`, or those of the embedded test sets.

    Args:
        given: a folder, or the name of a dataset of photographs; None: RW-Data, or the embedded test sets.
        root: folder of the datasets; None for the embedded ones.
        once: keep one of those that show nearly the same.

    Raises:
        UserError: there are none, or none can be read.
    """
    from benchmark.data.images import read_image

    if given is None and root is None:
        from benchmark.data.embedded import render_split

        found = Photographs("of the embedded test sets, whose rain is rendered", embedded=True)
        for dataset in table_datasets(embedded=True):
            rendered = render_split(dataset, "test")
            for name, scene, picture in zip(rendered.names, rendered.groups, rendered.rainy, strict=True):
                found.add(f"{dataset.removeprefix('embedded-')}-{name}", lambda p=picture: p, scene)
        if once:
            found.keep_once()
        return found
    from benchmark.data import open_photographs as open_folder

    name = given or SET
    if name in DATASETS and not DATASETS[name].paired and not Path(name).exists():
        opened, title = open_folder(name, root), DATASETS[name].title
    else:
        opened, title = open_folder(name), Path(name).resolve().name
    found = Photographs(title)
    for path in opened.paths:
        found.add(path.stem, lambda p=path: read_image(p))
    if not found.pictures:
        raise UserError(f"{given or root}: no photograph can be read ({found.left_out[0]})")
    if once:
        found.keep_once()
    else:
        found.group()
    return found


def _score(run: Run, photographs: Photographs, place: Path, metrics: Metrics) -> Record:
    """Restore the photographs by a run's network and score them; pictures made by other weights are made again."""
    folder = place / run.folder.name
    about = {
        "model": run.model,
        **({"row": run.record["row"]} if run.record.get("row") else {}),
        "seed": run.record["config"]["seed"],
        "run": run.record["name"],
        "identity": run.record["identity"],
        "weights": run.weights_digest,
        "code": code_digest(catalog.network(run.model).target),
    }
    kept = read_record(folder, SCORES)
    if kept is not None and any(kept.get(key) != value for key, value in about.items()):
        shutil.rmtree(folder)
    restored = [
        (name, _reader(path)) for name, path in restore_photographs(run, photographs.pictures, folder)
    ]
    return metrics.record(photographs, folder, restored, about)


def _reader(path: Path) -> Any:
    from benchmark.data.images import read_image

    return lambda: read_image(path)


def digest(pixels: NDArray[np.uint8]) -> str:
    """A hash of a picture's size and pixels."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()[
        :20
    ]


class Metrics:
    """The no-reference metrics, computed for several pictures at a time; scores are kept by the pictures' content.

    Args:
        options: which, and where their weights are.
        cache: file of the scores.
    """

    def __init__(self, options: Options, cache: Path) -> None:
        self.cache = cache
        self.used = {p: f"pyiqa {version('pyiqa')}" for p in ("piqe_pyiqa",)}
        self.used["piqe_reference"] = "published algorithm"
        self._missing: set[str] = set()
        self._checkpoint: Path | None = None
        from benchmark.metrics.noreference import metaiqa_checkpoint

        ready, told = opened(options.metrics)
        self.measures = {measure.metric.name: measure for measure in ready}
        for name, about in told.items():
            if "reason" in about:
                self._leave_out(name, about["reason"])
            else:
                self.used[name] = without_home(about["source"])
        try:
            self._checkpoint = metaiqa_checkpoint(options.metaiqa)
            content = file_digest(self._checkpoint)[:8]
            self.used["metaiqa"] = f"{self._checkpoint.name}, sha256 {content}"
        except UserError as error:
            self._leave_out("metaiqa", str(error))
        kept = read_record(cache.parent, cache.name) or {}
        self.scores: dict[str, dict[str, float]] = kept.get("scores", {})

    @property
    def computed(self) -> list[str]:
        """The metrics that can be computed."""
        return [metric for metric in self.used if metric not in self._missing]

    def _leave_out(self, metric: str, reason: str) -> None:
        self._missing.add(metric)
        self.used[metric] = without_home(f"not measured: {reason}")

    def record(
        self, photographs: Photographs, folder: Path, pictures: Sequence[Photograph], about: Record
    ) -> Record:
        """Score pictures, write their record and return it."""
        rows = self._rows(pictures, str(about.get("row", {}).get("name") or about.get("model", "rainy")))
        record = {
            **about,
            "photographs": {
                "title": photographs.title,
                "count": len(photographs.pictures),
                "digest": photographs.identity,
            },
            "implementations": self.used,
            "images": [{**row, "scene": photographs.scenes[row["name"]]} for row in rows],
        }
        kept = read_record(folder, SCORES)
        if kept is not None and all(kept.get(key) == value for key, value in record.items()):
            return kept
        record = {**provenance(), **record}
        write_record(folder, record, SCORES)
        return record

    def _rows(self, pictures: Sequence[Photograph], title: str) -> list[dict[str, Any]]:
        import torch

        from benchmark.cgroup import cores

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # one a picture: that is faster than several on one
        try:
            with (
                ThreadPoolExecutor(cores()) as pool,
                bar(f"score {title}", len(pictures), always=False) as step,
            ):
                rows = []
                for row in pool.map(self._row, pictures):
                    rows.append(row)
                    step.advance()
        finally:
            torch.set_num_threads(threads)
        write_json(self.cache, {"format": 1, "scores": self.scores})
        return rows

    def _row(self, picture: Photograph) -> dict[str, Any]:
        import torch

        name, read = picture
        pixels = read()
        key = digest(pixels)
        row: dict[str, Any] = {"name": name, "width": pixels.shape[1], "height": pixels.shape[0]}
        image = None
        for metric in self.computed:
            measure = self.measures.get(metric)
            if measure is not None and min(pixels.shape[:2]) < measure.metric.least:
                continue
            known = self.scores.setdefault(f"{metric}: {self.used[metric]}", {})
            if key not in known:
                if image is None:
                    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
                known[key] = self._measure(metric, image)
            row[metric] = known[key]
        return row

    def _measure(self, metric: str, image: Any) -> float:
        from benchmark.metrics.noreference import metaiqa, piqe

        if metric in self.measures:
            return self.measures[metric](image, image)[0]
        if metric == "metaiqa":
            return float(metaiqa(image, self._checkpoint))
        return float(piqe(image, "reference" if metric == "piqe_reference" else "pyiqa"))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "photographs"
