"""Rows that nobody trained here, in tables: how they are marked, and what is said of them beneath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from benchmark import catalog
from benchmark.data.specs import DATASETS, dataset_spec
from benchmark.report.comparison import results_on

Record = Mapping[str, Any]

INPUT = "Rainy input"
"""The label of the row of the pictures as they are."""
MARKS = {"weights": "†", "pictures": "‡", "shipped": "§"}
_KINDS = {
    "weights": "weights that others released, measured here; how they were trained is not known.",
    "pictures": "pictures that others restored, measured here; how is not known.",
    "shipped": "weights that ship with this suite, of small variants, trained on photographs over which it rains.",
}


@dataclass(frozen=True)
class Given:
    """A row that nobody trained here.

    Attributes:
        name: its own.
        kind: of `MARKS`.
        network: of the catalogue; None of pictures.
        trained_on: for each test set, what its weights (or the method) were trained on.
        reasons: for each test set without a figure, why.
        cost: parameters and operations, where they are counted.
    """

    name: str
    kind: str
    network: str | None = None
    trained_on: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        """Its name with its mark, by which tables know it too."""
        return label(self.name, self.kind)

    def printed(
        self, paper: Mapping[str, Mapping[str, float]], dataset: str, tested: Sequence[Record]
    ) -> Mapping[str, float]:
        """The paper's row, where it is of the same network trained on the same, tested on the whole set."""
        if self.kind != "weights" or self.network is None:
            return MappingProxyType({})
        spec = dataset_spec(dataset)
        if spec.training not in self.trained_on.get(dataset, ()) or not whole_set(tested, dataset):
            return MappingProxyType({})
        return paper.get(catalog.network(self.network).paper_row or "", MappingProxyType({}))


def label(name: str, kind: str) -> str:
    """A row's name with its mark."""
    return f"{name} {MARKS[kind]}"


def row_of(record: Record) -> str:
    """By what a table knows the row that a record is of: its network's name, or the marked name of a given row."""
    row = record.get("row")
    return label(row["name"], row["kind"]) if row else str(record["config"]["model"]["name"])


def title_of(record: Record) -> str:
    """The row's name for people."""
    return row_of(record) if record.get("row") else catalog.network(row_of(record)).title


def whole_set(tested: Sequence[Record], dataset: str) -> bool:
    """Whether records were tested on as many pictures as the set was published with."""
    published = dataset_spec(dataset).published.get("test")
    counts = {results_on(r, dataset)["mean"]["n"] for r in tested}
    return published is None or counts <= {published}


def incomplete(records: Sequence[Record], datasets: Sequence[str]) -> list[str]:
    """A sentence for each test set of which fewer (or more) pictures were there than were published."""
    said: dict[str, None] = {}
    for dataset in datasets:
        tested = [r for r in records if results_on(r, dataset)]
        if tested and not whole_set(tested, dataset):
            spec = dataset_spec(dataset)
            counts = sorted({results_on(r, dataset)["mean"]["n"] for r in tested})
            here = " and ".join(map(str, counts))
            said[
                f"{spec.title}: {here} pairs here, {spec.published['test']} published: what was printed of all is no "
                "figure of these."
            ] = None
    return list(said)


def about(records: Sequence[Record]) -> list[str]:
    """A sentence for each kind of given rows, and what is known of every row: file, digest, training, source."""
    said = []
    for kind, mark in MARKS.items():
        own = [r for r in records if r.get("row", {}).get("kind") == kind]
        if own:
            said.append(f"{mark} {_KINDS[kind]} {' '.join(dict.fromkeys(map(_about, own)))}")
    return said


def _about(record: Record) -> str:
    row = record["row"]
    file = row["file"] or "pictures"
    parts = [f"{file}, sha256 {row['sha256'][:12]}"]
    trained_on = [DATASETS[name].title if name in DATASETS else name for name in row["trained_on"]]
    parts.append(
        f"trained on {', '.join(trained_on)}" if trained_on else "what it was trained on is not known"
    )
    if row.get("source"):
        parts.append(f"from {row['source']}")
    if row.get("licence"):
        parts.append(f"licence: {row['licence']}")
    parts += [
        f"its publisher printed {' / '.join(map(str, values))} on {_title(name)}"
        for name, values in row["printed"].items()
        if name in record["results"]
    ]
    parts += _shared(row["trained_on"], record["results"])
    if row.get("note"):
        parts.append(row["note"])
    return f"{row['name']}: {'; '.join(parts)}."


def _title(name: str) -> str:
    return DATASETS[name].title if name in DATASETS else name


def _shared(trained_on: Sequence[str], tested: Mapping[str, Any]) -> list[str]:
    """What the entries of the sets say of pictures that training and test have in common."""
    said = []
    for training in trained_on:
        for test in tested:
            if training not in DATASETS or test not in DATASETS or training == test:
                continue
            for one, other in ((training, test), (test, training)):
                words = DATASETS[one].overlaps
                short = DATASETS[other].title.removesuffix(" (old)")
                if short in words:
                    said.append(f"{DATASETS[one].title} and {DATASETS[other].title} share pictures ({words})")
    return list(dict.fromkeys(said))
