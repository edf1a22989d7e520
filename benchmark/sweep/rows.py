"""Rows of tables that nobody trained here, as a file: released weights, and pictures that somebody restored.

    # derain table 1 --released released.yaml
    format: 1
    below: data                       # paths are below the folder of --data; left out: beside this file
    rows:
    - nafnet-general                  # weights that ship with the suite, by their name
    - name: PReNet, as released
      model: prenet
      source: csdwren/RecDerain@5b2ad01
      licence: none stated
      weights:                        # one file, or several, each for the columns that `on` names
      - {file: RainLight.pth, trained_on: rain200l, on: [rain200l], printed: {rain200l: [37.93, 0.983]}}
      - {file: Rain100H.pth, trained_on: rain100h, on: [rain12, photographs]}
    - name: CODE-Net
      pictures: {rain12: restored/codenet_rain12}

A row has `weights` or `pictures`; rows and files may have `source`, `licence` and `note`. Weights have `file` and
`trained_on` (a dataset's name, or words; not needed where the file says it), and may have `sha256`, `on` (left out:
every column, or of several files the columns whose networks are trained on the same), `printed` (PSNR-Y and SSIM-Y
that their publisher printed) and `truncated` (measured also as 8 bits cut off instead of rounded). Imports no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmark import catalog, shipped
from benchmark.data.specs import DATASETS, dataset_spec
from benchmark.errors import UserError, unknown
from benchmark.files import file_digest
from benchmark.reading import path as expanded
from benchmark.reading import plain_of, written
from benchmark.spec import RunSpec, digest, resolve

FORMAT = 1
FOLDER = "released"  # of the records, among the runs
PHOTOGRAPHS = "photographs"  # in `on`: Table 2's
WEIGHTS, PICTURES, SHIPPED = "weights", "pictures", "shipped"

_ROW = ("name", "model", "options", "tile", "weights", "pictures")
_ABOUT = ("source", "licence", "note")
_ENTRY = ("file", "trained_on", "on", "sha256", "printed", "truncated", *_ABOUT)
_MOST_ROWS = 1000
_WORD = re.compile(r"[A-Za-z0-9@._-]+")


@dataclass(frozen=True, eq=False)
class Entry:
    """What one record is of: a file of weights, or folders of pictures.

    Attributes:
        row: the row's name.
        kind: WEIGHTS, PICTURES or SHIPPED.
        model: of the catalogue; None of pictures.
        path: of the weights; None of pictures.
        folders: of pictures, by test set.
        sha256: that the file of weights must have, where it is stated.
        trained_on: names of datasets, or words; empty where it is not known (of pictures).
        on: test sets that it is for; None: it is not said.
        printed: what its publisher printed, {test set: (PSNR-Y, SSIM-Y)}.
        truncated: whether it is measured also as 8 bits cut off.
        options: of the network, that are not the file's.
        tile: as `evaluation.tile`.
        about: source, licence and note, where they are known.
    """

    row: str
    kind: str
    model: str | None = None
    path: Path | None = None
    folders: Mapping[str, Path] = field(default_factory=dict)
    sha256: str | None = None
    trained_on: tuple[str, ...] = ()
    on: tuple[str, ...] | None = None
    printed: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    truncated: bool = False
    options: tuple[str, ...] = ()
    tile: str = "authors"
    about: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def content(self) -> str:
        """SHA-256 of the file of weights, or over names and contents of all pictures.

        Raises:
            UserError: the file is not there and its digest is not stated, or it is another file.
        """
        if self.path is None:
            from benchmark.data.images import list_images

            files = [f for _, folder in sorted(self.folders.items()) for f in list_images(folder)]
            told = "".join(f"{f.name} {file_digest(f)}\n" for f in files)
            return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
        if self.sha256 is not None and not self.path.exists():
            return self.sha256
        found = file_digest(self.path)
        if self.sha256 is not None and found != self.sha256:
            raise UserError(
                f"row '{self.row}': {self.path} is another file: sha256 {found}, not {self.sha256}"
            )
        return found

    @cached_property
    def identity(self) -> str:
        """A hash of all that the figures depend on, but for the test sets."""
        return digest(
            {"kind": self.kind, "model": self.model, "content": self.content, "options": sorted(self.options),
             "tile": self.tile, "truncated": self.truncated}
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Of its record's folder: readable, and unique."""
        file = self.path.stem if self.path is not None else ""
        parts = [self.row] if file in ("", self.row) else [self.row, file]
        slug = re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")[:60] or "row"
        return f"{slug}-{self.identity}"

    def folder(self, runs: str | Path) -> Path:
        """Where its record, its weights and its restored pictures are kept; also under another row's name."""
        place = Path(runs) / FOLDER
        kept = sorted(place.glob(f"*-{self.identity}")) if not (place / self.name).exists() else []
        return kept[0] if kept else place / self.name

    @property
    def told(self) -> dict[str, Any]:
        """What its record says of it in "row"."""
        return {
            "name": self.row,
            "kind": self.kind,
            "network": self.model,
            "file": self.path.name if self.path is not None else None,
            "sha256": self.content,
            "trained_on": list(self.trained_on),
            "printed": {name: list(values) for name, values in self.printed.items()},
            **self.about,
        }

    def config(self, root: str | None, runs: str | Path) -> RunSpec:
        """How it is tested, as a run's configuration; of how it was trained nothing is meant.

        Raises:
            UserError: an option or a tile that the network cannot have.
        """
        known = next((name for name in self.trained_on if name in DATASETS), "folder")
        words = [f"model={self.model}", f"data={known}", f"evaluation.tile={self.tile}", f"out={runs}"]
        where = [f"data.root={root}"] if root is not None else []
        return resolve([*words, *(f"model.{word}" for word in self.options), *where])


@dataclass(frozen=True)
class Row:
    """A row: its name, its kind, and what it is made of."""

    name: str
    kind: str
    entries: tuple[Entry, ...]

    def entry_for(self, dataset: str) -> Entry | None:
        """What a test set (as `dataset_spec` takes it, or PHOTOGRAPHS) is restored by; None: nothing of the row.

        Raises:
            UserError: two of its files would do.
        """
        name = dataset if dataset == PHOTOGRAPHS else dataset_spec(dataset).name
        found = [e for e in self.entries if e.on is not None and name in e.on]
        found = found or [e for e in self.entries if e.on is None and self._fits(e, name, dataset)]
        if len(found) > 1:
            files = " and ".join(e.path.name for e in found if e.path is not None)
            raise UserError(f"row '{self.name}': {files} would both restore {name}; say which by on:")
        return found[0] if found else None

    def _fits(self, entry: Entry, name: str, dataset: str) -> bool:
        if entry.kind == PICTURES:
            return False
        if len(self.entries) == 1:
            return True
        training = "rain200h" if name == PHOTOGRAPHS else dataset_spec(dataset).training
        return training in entry.trained_on


def load(path: Path, root: str | None) -> list[Row]:
    """The rows of a file.

    Args:
        path: of the file, YAML or JSON.
        root: the folder of --data.

    Raises:
        UserError: no such file, or something in it is wrong; says which row.
    """
    told = _read(path)
    for key in told:
        if key not in ("format", "below", "rows"):
            raise unknown(f"key of a file of rows ({path})", str(key), ["format", "below", "rows"])
    if told.get("format") != FORMAT:
        raise UserError(f"{path}: not a file of rows of this version (format: {FORMAT})")
    below = told.get("below", "file")
    if below not in ("data", "file"):
        raise UserError(
            f"{path}: below: data (the folder of --data), or left out (beside this file), not {below!r}"
        )
    if below == "data" and root is None:
        raise UserError(f"{path}: its paths are below the folder of --data: give --data FOLDER")
    base = Path(root) if below == "data" and root is not None else path.parent
    given = told.get("rows")
    if not isinstance(given, list) or not given:
        raise UserError(
            f"{path}: rows is a list of rows, such as nafnet-general or {{name: …, model: …, weights: …}}"
        )
    if len(given) > _MOST_ROWS:
        raise UserError(f"{path}: {len(given)} rows; at most {_MOST_ROWS}")
    rows: list[Row] = []
    for number, one in enumerate(given, 1):
        try:
            rows.append(_row(one, base))
        except UserError as error:
            raise UserError(f"{path}: row {number}: {error}") from None
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: row {number}: {' '.join(str(error).split())}") from None
    require_different([row.name for row in rows], path)
    return rows


def require_different(names: Sequence[str], path: Path) -> None:
    """Refuse two rows of one name, also where they differ in capitals and spaces alone.

    Raises:
        UserError: there are two.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = " ".join(name.casefold().split())
        if key in seen:
            raise UserError(f"{path}: two rows are called '{name}'; give each a name of its own")
        seen[key] = name


def of_shipped(word: str) -> Row:
    """The row of weights that ship with the suite.

    Raises:
        UserError: no such weights.
    """
    if word not in shipped.shipped():
        raise unknown("weights that ship", word, shipped.shipped())
    ship = shipped.shipped()[word]
    training = ship.card["training"]
    entry = Entry(
        row=ship.name,
        kind=SHIPPED,
        model=ship.network,
        path=ship.path,
        sha256=str(ship.card["sha256"]),
        trained_on=(f"rain rendered over {training['data']['images']} photographs",),
        tile="whole",  # as their cards are measured and as `derain restore` does
        about={
            "source": f"this suite, recipe {training['recipe']['name']}",
            "licence": str(ship.card["licence"]),
        },
    )
    return Row(ship.name, SHIPPED, (entry,))


def of_words(told: Mapping[str, Any]) -> Row:
    """The row that a mapping says, as one of a file; its paths are where they say.

    Raises:
        UserError: something in it is wrong.
    """
    return _row(dict(told), Path())


def _row(told: Any, base: Path) -> Row:
    if isinstance(told, str):
        return of_shipped(told)
    if not isinstance(told, dict):
        raise UserError("a row is the name of weights that ship, or {name: …, weights: … or pictures: …}")
    _known(told, (*_ROW, *_ENTRY[1:]), "key of a row")
    name = _text(told, "name", "")
    if not name:
        raise UserError("name: how tables call it")
    try:
        if ("weights" in told) == ("pictures" in told):
            raise UserError("has either weights or pictures")
        if "pictures" in told:
            return Row(name, PICTURES, (_of_pictures(name, told, base),))
        entries = tuple(_of_weights(name, told, base))
        return Row(name, WEIGHTS, entries)
    except UserError as error:
        raise UserError(f"'{name}': {error}") from None


def _of_pictures(name: str, told: Mapping[str, Any], base: Path) -> Entry:
    for key in ("model", "options", "tile", "sha256", "on", "truncated"):
        if key in told:
            raise UserError(f"{key} is for weights; pictures: {{test set: folder}} says all that is needed")
    given = told["pictures"]
    if not isinstance(given, dict) or not given:
        raise UserError(
            "pictures: {test set: folder of the restored pictures}, such as {rain12: restored/rain12}"
        )
    folders = {_test_set(str(key)): _below(base, value) for key, value in given.items()}
    for folder in folders.values():
        if not folder.is_dir():
            raise UserError(f"pictures {folder}: no such folder")
    return Entry(
        row=name,
        kind=PICTURES,
        folders=folders,
        trained_on=_sets(told),
        on=tuple(folders),
        printed=_printed(told),
        about=_about(told),
    )


def _of_weights(name: str, told: Mapping[str, Any], base: Path) -> Iterator[Entry]:
    files = told["weights"] if isinstance(told["weights"], list) else [told["weights"]]
    own = {key: value for key, value in told.items() if key in _ENTRY}
    for one in files:
        given = {**own, **(one if isinstance(one, dict) else {"file": one})}
        _known(given, _ENTRY, "key of weights")
        if not isinstance(given.get("file"), str):
            raise UserError(f"weights: a file, or {{file: …, trained_on: …}}, not {one!r}")
        path = _below(base, given["file"])
        sha256 = _text(given, "sha256", "").lower() or None
        if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
            raise UserError(f"{path.name}: sha256: 64 hexadecimal digits")
        if not path.exists() and sha256 is None:
            raise UserError(f"weights {path}: no such file")
        carried = _carried(path)
        model = _text(told, "model", "") or str(carried.get("model", {}).get("name", ""))
        if not model:
            raise UserError(
                f"{path}: does not say of which network it is: model: NAME (derain models lists them)"
            )
        trained_on = _sets(given) or ((str(carried["data"]),) if carried.get("data") else ())
        if not trained_on:
            raise UserError(
                f"{path.name}: trained_on: says on which sets the weights were trained (derain data list, or words)"
            )
        entry = Entry(
            row=name,
            kind=WEIGHTS,
            model=catalog.network(model).name,
            path=path,
            sha256=sha256,
            trained_on=trained_on,
            on=tuple(_test_set(word) for word in _words(given, "on")) or None,
            printed=_printed(given),
            truncated=_true(given, "truncated"),
            options=tuple(f"{key}={written(value)}" for key, value in _mapping(told, "options").items()),
            tile=written(told.get("tile", "authors")),
            about=_about(given),
        )
        entry.config(None, "runs")  # an option that the network has not is said here
        yield entry


def _carried(path: Path) -> dict[str, Any]:
    """What a file of this suite says of itself."""
    if path.suffix not in (".safetensors", ".ckpt") and not path.is_dir():
        return {}
    from benchmark.checkpoints import carried

    return carried(path)


def _known(told: Mapping[str, Any], names: Sequence[str], kind: str) -> None:
    for key in told:
        if key not in names:
            raise unknown(kind, str(key), names)


def _text(told: Mapping[str, Any], key: str, default: str) -> str:
    value = told.get(key, default)
    if value is None or isinstance(value, (dict, list, bool)):
        raise UserError(f"{key}: text, not {value!r}")
    return " ".join(str(value).split())


def _about(told: Mapping[str, Any]) -> dict[str, str]:
    return {key: text for key in _ABOUT if (text := _text(told, key, ""))}


def _true(told: Mapping[str, Any], key: str) -> bool:
    value = told.get(key, False)
    if not isinstance(value, bool):
        raise UserError(f"{key}: true or false, not {value!r}")
    return value


def _mapping(told: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = told.get(key) or {}
    if not isinstance(value, dict):
        raise UserError(f"{key}: {{name: value}}, not {value!r}")
    return value


def _words(told: Mapping[str, Any], key: str) -> list[str]:
    value = told.get(key)
    value = [] if value is None else value if isinstance(value, list) else [value]
    if any(isinstance(item, (dict, list)) for item in value):
        raise UserError(f"{key}: a word, or a list of words, not {value!r}")
    return [str(item).strip() for item in value if str(item).strip()]


def _sets(told: Mapping[str, Any]) -> tuple[str, ...]:
    """What it was trained on: datasets by name; what is no single word stays as it is written."""
    found = _words(told, "trained_on")
    for word in found:
        if _WORD.fullmatch(word) and word not in DATASETS:
            told_as = unknown("dataset", word, DATASETS)
            raise UserError(f"trained_on: {told_as}; what is no dataset of the list is said in several words")
    return tuple(found)


def _test_set(word: str) -> str:
    """The name of a test set that a row is for: a dataset's, or a folder's."""
    return word if word == PHOTOGRAPHS else dataset_spec(word).name


def _printed(told: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    found = {}
    for key, value in _mapping(told, "printed").items():
        numbers = value if isinstance(value, list) else [value]
        if not 1 <= len(numbers) <= 2 or not all(map(_is_number, numbers)):
            raise UserError(f"printed: {{test set: [PSNR-Y, SSIM-Y]}}, not {value!r}")
        found[_test_set(str(key))] = tuple(float(n) for n in numbers)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _below(base: Path, value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise UserError(f"a path, not {value!r}")
    return base / expanded(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        told = plain_of(path)
    except FileNotFoundError:
        raise UserError(f"--released {path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"--released {path}: not a readable file of rows ({' '.join(str(error).split())})"
        ) from None
    if not isinstance(told, dict):
        raise UserError(f"--released {path}: not a file of rows (format: 1, rows: …)")
    return told
