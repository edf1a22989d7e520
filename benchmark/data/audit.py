"""What is in a folder, and what is wrong with it; and rain over a user's own photographs.

`check` reads every picture that is used once, and counts and names what it passes over. It lists unpaired, damaged
and unequal pairs, counts that differ from the published ones, pictures that occur twice, and test pictures whose
background was trained on, found by a perceptual hash: a difference hash of 16×16 bits of the clean picture, compared
within `_NEAR` bits and under the eight turns and mirrorings.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.cgroup import cores
from benchmark.data.cache import cache_folder, content_key, read_pair
from benchmark.data.images import image_size, list_images, read_image, write_image
from benchmark.data.layouts import (
    ARCHIVES,
    Found,
    Pair,
    dataset_of,
    find,
    find_split,
    folder_role,
    list_photographs,
    pairs_of,
    scan,
    split_of,
)
from benchmark.data.rain import additive, get_regime, rain_layer, screen
from benchmark.data.specs import DATASETS, Dataset
from benchmark.errors import UserError, printable, unknown
from benchmark.files import make_folder, write_json
from benchmark.means import mean_of
from benchmark.reading import json_of
from benchmark.sources import code_digest
from benchmark.text.progress import Bar, bar

if TYPE_CHECKING:
    from benchmark.data.datasets import PairedImages

Picture = NDArray[np.uint8]
Bits = NDArray[np.bool_]

# of 256 bits: the two nearest different photographs of BSDS500 are 31 apart, the same one saved as JPEG of
# quality 60 at most 16
_NEAR = 20
_BLOCK = 256  # pictures that are compared with all later ones at once
_FLAT = 16  # grey levels: the hash of a picture of less contrast says nothing
_SHOWN = 10


@dataclass
class Part:
    """One folder of pairs, or of photographs alone."""

    folder: Path
    dataset: str | None
    split: str | None
    count: int
    paired: bool
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)  # (H, W) -> how many
    psnr_y: float | None = None  # mean over the rainy pictures

    def count_sizes(self, looked: Sequence[_Looked]) -> None:
        """Count how many pictures have which size."""
        for one in looked:
            self.sizes[one.size] = self.sizes.get(one.size, 0) + 1

    def line(self) -> str:
        """What it is, in a line."""
        what = DATASETS[self.dataset].title if self.dataset else "unknown set"
        split = f" {self.split}" if self.split else ""
        kind = "pairs" if self.paired else "photographs"
        sizes = sorted(self.sizes.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{w}×{h}" for (h, w), _ in sizes[:3]) + (" …" if len(sizes) > 3 else "")
        rain = f", rainy PSNR-Y {self.psnr_y:.2f} dB" if self.psnr_y is not None else ""
        return f"{self.folder}: {what}{split}, {self.count} {kind} ({shown}{rain})"


@dataclass
class Report:
    """What `check` found. `problems` must be seen to; `remarks` are worth knowing."""

    path: Path
    parts: list[Part] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    passed_over: int = 0  # files that nothing was said about but that they were not used

    @property
    def dataset(self) -> str | None:
        """The dataset it is, if all parts are of one."""
        names = {p.dataset for p in self.parts}
        return names.pop() if len(names) == 1 else None

    def move(self, place: Path) -> None:
        """Name `place` wherever the report names the folder that was looked at."""
        old, new = str(self.path), str(place)
        for part in self.parts:
            part.folder = place / part.folder.relative_to(self.path)
        self.problems = [line.replace(old, new) for line in self.problems]
        self.remarks = [line.replace(old, new) for line in self.remarks]
        self.path = place

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = [part.line() for part in self.parts]
        lines += [f"remark: {r}" for r in self.remarks]
        lines += [f"problem: {p}" for p in self.problems]
        end = "no problem found" if not self.problems else f"{len(self.problems)} problem(s)"
        if self.passed_over:
            where = "" if self.problems else " in what was looked at"
            end += f"{where}; {self.passed_over} file(s) passed over"
        return [printable(line) for line in (*lines, f"{self.path}: {end}")]


@dataclass(frozen=True)
class _Looked:
    """What is kept of a picture after it was read."""

    label: str
    size: tuple[int, int]
    hashes: NDArray[np.uint8]  # (8, 32): the clean picture's hash under the eight turns, packed
    contrast: int  # grey levels; a flat picture's hash says nothing
    pixels: int  # hash of the clean picture's bytes
    psnr_y: float | None


def difference_hash(picture: Picture) -> Bits:
    """(16, 16) bits: is a cell of the 16×17 grid of mean greys brighter than its right neighbour?

    Cells are means over areas, without interpolation; the hash survives compression and resizing.
    """
    return _gradients(_cells(picture, 16, 17))


def _gradients(cells: NDArray[np.float64]) -> Bits:
    return np.asarray(cells[:, :-1] > cells[:, 1:])


def _cells(picture: Picture, rows: int, columns: int) -> NDArray[np.float64]:
    grey = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    grey = _enlarged(grey, rows, columns)
    height, width = grey.shape
    y = np.arange(rows + 1) * height // rows
    x = np.arange(columns + 1) * width // columns
    sums = np.add.reduceat(np.add.reduceat(grey, y[:-1], axis=0), x[:-1], axis=1)
    return np.asarray(sums / np.outer(np.diff(y), np.diff(x)))


def _enlarged(grey: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    by_y, by_x = -(-rows // grey.shape[0]), -(-columns // grey.shape[1])
    return np.repeat(np.repeat(grey, by_y, axis=0), by_x, axis=1) if by_y > 1 or by_x > 1 else grey


def _turned_hashes(picture: Picture) -> NDArray[np.uint8]:
    found = []
    for transpose in (False, True):
        base = picture.transpose(1, 0, 2) if transpose else picture
        for rows in (1, -1):
            found += [np.packbits(difference_hash(base[::rows, ::columns])) for columns in (1, -1)]
    return np.stack(found)


def _look(pair: Pair) -> _Looked | str:
    try:
        rainy, clean = read_pair(pair)
    except UserError as error:
        return str(error)
    return _looked(str(pair.clean), clean, _psnr_y(rainy, clean))


def _look_alone(path: Path) -> _Looked | str:
    try:
        picture = read_image(path)
    except UserError as error:
        return str(error)
    return _looked(str(path), picture, None)


def _looked(label: str, clean: Picture, psnr_y: float | None) -> _Looked:
    small = clean[:: max(1, clean.shape[0] // 64), :: max(1, clean.shape[1] // 64)]
    return _Looked(
        label,
        (clean.shape[0], clean.shape[1]),
        _turned_hashes(clean),
        int(small.max()) - int(small.min()),
        hash((clean.shape, clean.tobytes())),
        psnr_y,
    )


def _psnr_y(rainy: Picture, clean: Picture) -> float:
    error = (rainy.astype(np.float64) - clean) @ (np.array([65.481, 128.553, 24.966]) / 255)
    squared = float(np.mean(error * error))
    return float("inf") if squared == 0 else 10 * float(np.log10(255**2 / squared))


def check(
    path: str | Path, progress: bool = True, workers: int | None = None, place: str | Path | None = None
) -> Report:
    """Look at everything below a folder.

    Args:
        path: a dataset's folder, or one above several.
        progress: show a bar on stderr.
        workers: threads; None: one for each core.
        place: where the folder will lie: it is judged and reported as if it lay there already.

    Raises:
        UserError: the folder is missing, cannot be listed, or has no pictures.
    """
    path = Path(path)
    place = path if place is None else Path(place)
    report = Report(path)
    found = find(path, place=place)
    looked: dict[tuple[str | None, str | None], list[_Looked]] = defaultdict(list)
    if found:
        _look_at_pairs(found, looked, report, progress, workers)
        used = {file for f in found for file in f.files()} | _alone(path, place, found, report, workers)
        _passed_over(path, used, report)
        _judge(found, looked, report)
    else:
        _photographs(path, place, report, progress, workers)
    if place != path:
        report.move(place)
    return report


def training_problems(
    spec: Dataset, root: str | Path, cache: str | Path | None = None, progress: bool = True
) -> list[str]:
    """What speaks against training on a dataset: all that `check` finds wrong with its training and test splits.

    The answer is kept beside the decoded cache, for as long as no file, nor the code, changes.

    Args:
        spec: a dataset with a training split.
        root: where it lies, or a folder above it.
        cache: folder of the decoded cache.
        progress: show a bar on stderr.

    Raises:
        UserError: there is no training split.
    """
    found = trained_on = find_split(spec, root, "train")
    with contextlib.suppress(UserError):  # without a test split there is nothing to overlap with
        found = list(dict.fromkeys([*found, *find_split(spec, root, "test")]))
    pairs = [pair for f in found for pair in f.pairs]
    if not pairs:
        return [line for f in found for line in f.problems()]
    lone = "".join(line for f in found for line in f.problems())
    kept = _kept(cache, f"{content_key(pairs)} {spec.name} {lone}")
    if (told := _told(kept)) is not None:
        return told
    report = Report(Path(root))
    looked: dict[tuple[str | None, str | None], list[_Looked]] = defaultdict(list)
    _look_at_pairs(found, looked, report, progress, None)
    _judge(found, looked, report)
    trains = [pair for f in trained_on for pair in f.pairs]
    if trains:
        scenes = {str(pair.clean) for pair in trains}
        seen = [one for part in looked.values() for one in part if one.label in scenes]
        _keep_scenes(_kept(cache, f"scenes {content_key(trains)}"), seen)
    write_json(kept, {"problems": report.problems})
    return report.problems


def scenes_trained_on(
    spec: Dataset,
    root: str | Path,
    tests: Iterable[str],
    cache: str | Path | None = None,
    progress: bool = True,
    exclude: Sequence[str] = (),
) -> list[str]:
    """Which pictures of further test sets show a scene that is trained on, and which cannot be read.

    Answers are kept as those of `training_problems`; so are the hashes of what is trained on, which that has looked at.

    Args:
        spec: a dataset with a training split, or of clean photographs.
        root: where it lies, or a folder above it.
        tests: names of test sets, or folders of pairs; one that is not there is left out.
        cache: folder of the decoded cache.
        progress: show a bar on stderr.
        exclude: names of clean photographs that are not trained on.

    Raises:
        UserError: there is no training split.
    """
    from benchmark.data.datasets import Files, open_pairs

    if spec.rendered:
        trains = pairs_of(spec, root, "train", exclude=exclude)
    else:
        trains = [pair for f in find_split(spec, root, "train") for pair in f.pairs]
    if not trains:
        return []
    trained_on = content_key(trains)
    found: list[str] = []
    for name in tests:
        try:
            images = open_pairs(name, root, "test", strict=False)
        except UserError:  # for the test to say
            continue
        source = images.source
        key = content_key(source.pairs) if isinstance(source, Files) else source.digest
        kept = _kept(cache, f"{trained_on} {name} {key}")
        problems = _told(kept)
        if problems is None:
            with _pool(None) as pool:
                looks = pool.map(functools.partial(_look_at_test, images), range(len(images)))
                good, problems = _read_all(looks, Bar())
            scenes = _scenes(_kept(cache, f"scenes {trained_on}"), trains, progress)
            problems += _shown_in_both(images.spec.title, good, scenes)
            write_json(kept, {"problems": problems})
        found += problems
    return found


def _kept(cache: str | Path | None, asked: str) -> Path:
    """The file with what was found out about files, by this code."""
    key = hashlib.sha256(f"{code_digest()} {asked}".encode(errors="replace")).hexdigest()[:20]
    return cache_folder(cache) / f"audit-{key}.json"


def _told(kept: Path) -> list[str] | None:
    """The problems in a file; None where it is not there or damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return [str(line) for line in json_of(kept.read_text(encoding="utf-8"))["problems"]]
    return None


def _scenes(kept: Path, trains: Sequence[Pair], progress: bool) -> dict[str, bytes]:
    """The upright hash of every clean picture that is trained on, by its path."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        told = json_of(kept.read_text(encoding="utf-8"))["scenes"]
        return {str(label): bytes.fromhex(bits) for label, bits in told.items()}
    total = len(trains)
    with bar(f"checking {total} pairs", total, progress, always=False) as step, _pool(None) as pool:
        good, _ = _read_all(pool.map(_look, trains), step)
    return _keep_scenes(kept, good)


def _keep_scenes(kept: Path, looked: Iterable[_Looked]) -> dict[str, bytes]:
    scenes = _upright(looked)
    write_json(kept, {"scenes": {label: bits.hex() for label, bits in scenes.items()}})
    return scenes


def _upright(looked: Iterable[_Looked]) -> dict[str, bytes]:
    return {one.label: one.hashes[0].tobytes() for one in looked}


def _look_at_test(images: PairedImages, index: int) -> _Looked | str:
    from benchmark.data.datasets import Files

    label = f"{images.spec.name}/{images.names[index]}"
    if isinstance(images.source, Files):
        clean = images.source.pairs[index].clean
        root = images.spec.root
        # of a folder elsewhere no more than its name: the line goes into a record
        label = str(clean) if root is None else f"{images.spec.name}/{clean.relative_to(root)}"
    try:
        return _looked(label, images.arrays(index)[1], None)
    except UserError as error:
        return str(error)


def _look_at_pairs(
    found: Sequence[Found],
    looked: dict[tuple[str | None, str | None], list[_Looked]],
    report: Report,
    progress: bool,
    workers: int | None,
) -> None:
    total = sum(len(f.pairs) for f in found)
    with bar(f"checking {total} pairs", total, progress, always=False) as step, _pool(workers) as pool:
        for f in found:
            good, bad = _read_all(pool.map(_look, f.pairs), step)
            report.problems += f.problems() + bad
            report.parts.append(_part(f, good))
            looked[f.dataset, f.split] += good


def _judge(
    found: Sequence[Found], looked: dict[tuple[str | None, str | None], list[_Looked]], report: Report
) -> None:
    _identical_pairs(looked, report)
    _counts(report)
    _missing_numbers(found, report)
    _repeated(looked, report)
    _alike(looked, report)
    _overlap(looked, report)


def _pool(workers: int | None) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers or cores())


def _read_all(results: Iterable[_Looked | str], step: Bar) -> tuple[list[_Looked], list[str]]:
    good, bad = [], []
    for result in results:
        step.advance()
        if isinstance(result, str):
            bad.append(result)
        else:
            good.append(result)
    return good, bad


def _part(f: Found, good: Sequence[_Looked]) -> Part:
    part = Part(f.folder, f.dataset, f.split, len(f.pairs), paired=True)
    part.count_sizes(good)
    measured = [one.psnr_y for one in good if one.psnr_y is not None]
    part.psnr_y = mean_of("psnr_esdnet", measured) if measured else None
    return part


def _photographs(path: Path, place: Path, report: Report, progress: bool, workers: int | None) -> None:
    files = list_photographs(path)
    with (
        bar(f"reading {len(files)} photographs", len(files), progress, always=False) as step,
        _pool(workers) as pool,
    ):
        good, bad = _read_all(pool.map(_look_alone, files), step)
    names = [*place.absolute().parts[-2:]]
    names += [p for p in {f.parent.name for f in files} if p not in names]
    dataset = dataset_of(names, paired=False)
    if dataset is None and (named := dataset_of(names)):
        report.problems.append(f"{path}: is named like {DATASETS[named].title} but has no pairs in it")
    part = Part(path, dataset, split_of(names), len(files), paired=False)
    part.count_sizes(good)
    report.parts.append(part)
    report.problems += bad
    report.remarks.append("photographs alone: they can be restored, not trained on or compared")
    _passed_over(path, set(files), report)
    _counts(report)
    _repeated({(dataset, None): good}, report)


def _alone(path: Path, place: Path, found: Sequence[Found], report: Report, workers: int | None) -> set[Path]:
    """Look at the folders of pictures, beside those of pairs, of which more can be told; returns their files."""
    paired = {file.parent for f in found for file in f.files()}
    told: set[Path] = set()
    for folder, names in sorted(scan(path).pictures.items()):
        if folder in paired:
            continue
        role, dataset = (
            folder_role(folder.name),
            dataset_of([place.absolute().name, *folder.relative_to(path).parts], paired=False),
        )
        if dataset:
            with _pool(workers) as pool:
                good, bad = _read_all(pool.map(_look_alone, [folder / n for n in names]), Bar())
            part = Part(folder, dataset, None, len(names), paired=False)
            part.count_sizes(good)
            report.parts.append(part)
            report.problems += bad
        elif role:
            report.problems.append(
                f"{folder}: {len(names)} {role} pictures without a folder of their partners"
            )
        if dataset or role:
            told.update(folder / n for n in names)
    return told


def _passed_over(path: Path, used: set[Path], report: Report) -> None:
    """Count and name what lies there and was not used, folder by folder."""
    tree = scan(path)
    for folder, names in sorted(tree.pictures.items()):
        left = sorted(n for n in names if folder / n not in used)
        if left:
            report.passed_over += len(left)
            report.remarks.append(
                f"{folder}: {len(left)} picture(s) that are no pairs, passed over: {_few(left)}"
            )
    kinds: dict[str, list[Path]] = defaultdict(list)
    for folder, names in tree.others.items():
        for name in names:
            kinds[Path(name).suffix.lower() or "no extension"].append(folder / name)
    for kind, files in sorted(kinds.items()):
        report.passed_over += len(files)
        hint = "; an archive: derain data import ARCHIVE -o NEWFOLDER" if kind in ARCHIVES else ""
        some = _few([str(f.relative_to(path)) for f in sorted(files)])
        report.remarks.append(
            f"{path}: {len(files)} file(s) that are no pictures ({kind}), passed over: {some}{hint}"
        )
    report.remarks += [f"{folder}: lies too deep, not looked into" for folder in sorted(tree.too_deep)]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _missing_numbers(found: Sequence[Found], report: Report) -> None:
    """Which of 1 … N are not there, where a published set of N is numbered and nearly whole."""
    for f in found:
        spec = DATASETS[f.dataset] if f.dataset else None
        published = (
            spec.published.get(f.split or spec.splits[0]) if spec and not spec.several_folders else None
        )
        numbers = {int(m.group()) for p in f.pairs if (m := re.search(r"\d+", p.name))}
        if published is not None and len(numbers) == len(f.pairs) < published:
            missing = sorted(set(range(1, published + 1)) - numbers)
            if len(missing) == published - len(numbers) and len(missing) <= _SHOWN:
                report.problems.append(f"{f.folder}: without {', '.join(map(str, missing))}")


def _identical_pairs(looked: dict[tuple[str | None, str | None], list[_Looked]], report: Report) -> None:
    same = [one.label for part in looked.values() for one in part if one.psnr_y == float("inf")]
    report.problems += [f"{label}: rainy and clean image are the same" for label in same]


def _counts(report: Report) -> None:
    here: dict[tuple[str, str], int] = defaultdict(int)
    for part in report.parts:
        if part.dataset is None:
            continue
        spec: Dataset = DATASETS[part.dataset]
        split = part.split or (next(iter(spec.published)) if len(spec.published) == 1 else None)
        if split is None:
            report.remarks.append(f"{part.folder}: the path says neither train nor test")
        else:
            here[spec.name, split] += part.count
    for (name, split), count in here.items():
        published = DATASETS[name].published.get(split)
        if published is not None and count != published:
            report.problems.append(f"{DATASETS[name].title} {split}: {count} here, {published} published")
    for name in {name for name, _ in here}:
        for split, published in DATASETS[name].published.items():
            if (name, split) not in here:
                title = DATASETS[name].title
                report.remarks.append(f"{title} {split}: not below this folder ({published} published)")


def _repeated(looked: dict[tuple[str | None, str | None], list[_Looked]], report: Report) -> None:
    """Clean pictures that occur more than once in a split; a training set may repeat its backgrounds."""
    for (dataset, split), part in looked.items():
        same: dict[int, dict[str, None]] = defaultdict(dict)  # by file: one may be the clean one of many
        for one in part:
            same[one.pixels][one.label] = None
        groups = [list(labels) for labels in same.values() if len(labels) > 1]
        if not groups:
            continue
        example = f"{groups[0][0]} = {groups[0][1]}"
        extra = sum(len(g) - 1 for g in groups)
        where = f"{DATASETS[dataset].title if dataset else 'unknown set'}{f' {split}' if split else ''}"
        line = f"{where}: {extra} image(s) repeat another ({example})"
        (report.remarks if split == "train" else report.problems).append(line)


def _alike(looked: dict[tuple[str | None, str | None], list[_Looked]], report: Report) -> None:
    """Clean pictures of one split that show the same scene and are not the same bytes."""
    for (dataset, split), part in looked.items():
        clear = [one for one in part if one.contrast >= _FLAT]
        count, pair = _shown_before(clear)
        if pair is None:
            continue
        first, second = (clear[k].label for k in pair)
        where = f"{DATASETS[dataset].title if dataset else 'unknown set'}{f' {split}' if split else ''}"
        line = f"{where}: {count} image(s) show nearly what another shows ({first}, {second})"
        (report.remarks if split == "train" else report.problems).append(line)


def _shown_before(pictures: Sequence[_Looked]) -> tuple[int, tuple[int, int] | None]:
    """How many pictures are nearly an earlier one, upright, and not the same pixels; the positions of the first two.

    Pairs are counted, never listed: in a set of films nearly all of 10⁹ may be alike.
    """
    if not pictures:
        return 0, None
    signs = np.unpackbits(np.stack([one.hashes[0] for one in pictures]), axis=1).astype(np.float32) * 2 - 1
    same = np.unique([one.pixels for one in pictures], return_inverse=True)[1]
    seen = np.zeros(len(pictures), bool)
    pair = None
    for start in range(0, len(pictures), _BLOCK):
        block = signs[start : start + _BLOCK]
        near = block @ signs[start:].T >= signs.shape[1] - 2 * _NEAR  # each bit that differs takes 2 away
        near &= same[start : start + _BLOCK, None] != same[None, start:]
        near[:, : len(block)] = np.triu(near[:, : len(block)], 1)
        seen[start:] |= near.any(axis=0)
        if pair is None and near.any():
            i = int(near.any(axis=1).argmax())
            pair = (start + i, start + int(near[i].argmax()))
    return int(seen.sum()), pair


def near_duplicates(pictures: Iterable[Picture]) -> list[list[int]]:
    """Positions of pictures that show nearly the same, or the same, in groups; a group of one for what stands alone.

    Two belong together if their hashes are within as few bits as `check` reports, or both are near to a third. Flat
    pictures, whose hashes say nothing, are compared pixel by pixel.

    Args:
        pictures: uint8 (H, W, 3), read one by one.
    """
    looked = [_looked(str(i), picture, None) for i, picture in enumerate(pictures)]
    owner = list(range(len(looked)))

    def root(i: int) -> int:
        while owner[i] != i:
            i = owner[i]
        return i

    clear = [i for i, one in enumerate(looked) if one.contrast >= _FLAT]
    same: dict[int, int] = {}
    pairs = [(i, same.setdefault(one.pixels, i)) for i, one in enumerate(looked)]
    if clear:
        bits = np.unpackbits(np.stack([looked[i].hashes[0] for i in clear]), axis=1).astype(np.int16)
        for k, i in enumerate(clear):
            near = np.nonzero(np.abs(bits[k + 1 :] - bits[k]).sum(axis=1) <= _NEAR)[0]
            pairs += [(i, clear[k + 1 + int(j)]) for j in near]
    for i, j in pairs:
        first, second = sorted((root(i), root(j)))
        owner[second] = first
    groups: dict[int, list[int]] = {}
    for i in range(len(looked)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


def _overlap(looked: dict[tuple[str | None, str | None], list[_Looked]], report: Report) -> None:
    """Test pictures whose background is in the training split of the same dataset."""
    for (dataset, split), tests in looked.items():
        trains = looked.get((DATASETS[dataset].training if dataset else None, "train"))
        if split in ("test", None) and trains:
            title = DATASETS[dataset].title if dataset else "this set"
            report.problems += _shown_in_both(title, tests, _upright(trains))


def _shown_in_both(title: str, tests: Sequence[_Looked], trains: Mapping[str, bytes]) -> list[str]:
    """Which test pictures show a scene that is trained on: their number, and the nearest ones, in lines.

    Args:
        title: the test set's.
        tests: its pictures.
        trains: by label, the upright hash of what is trained on, at least one.
    """
    labels = list(trains)
    packed = np.frombuffer(b"".join(trains.values()), np.uint8).reshape(len(labels), -1)
    upright = np.unpackbits(packed, axis=1).astype(np.float32)
    matches = []
    for one in tests:
        if one.contrast < _FLAT:
            continue
        turned = np.unpackbits(one.hashes, axis=1).astype(np.float32)
        # bits that differ, for every turn and every training picture
        apart = turned.sum(1)[:, None] + upright.sum(1)[None] - 2 * turned @ upright.T
        nearest = int(np.argmin(apart.min(axis=0)))
        distance = int(apart[:, nearest].min())
        if distance <= _NEAR:
            matches.append((distance, one.label, labels[nearest]))
    if not matches:
        return []
    head = f"{title}: {len(matches)} of {len(tests)} test images show a scene that is trained on too"
    return [head, *(f"{test} shows the same as {train}" for _, test, train in sorted(matches)[:_SHOWN])]


def render(
    clean: str | Path,
    out: str | Path,
    regime: str = "light",
    seed: int = 0,
    *,
    density: str | None = None,
    composition: str = "additive",
    progress: bool = True,
    dry_run: bool = False,
) -> int:
    """Rain over a user's own photographs: `out/input/NAME.png` and `out/target/NAME.png`; returns how many.

    What is there already is never overwritten; where it cannot be ended nothing of it is left. A photograph's rain
    depends on the seed and on its place in the order of names.

    Args:
        clean: a folder of photographs (or one photograph).
        out: where the pairs go.
        regime: a kind of rain ("light", "heavy", "mixed", "twelve").
        seed: of the rain.
        density: one of the regime's; None: each in turn.
        composition: "additive" or "screen".
        progress: show a bar on stderr.
        dry_run: look whether it could be done, write nothing.

    Raises:
        UserError: nothing to read, a damaged photograph, or something in the way.
        WorkError: the disk is full.
    """
    kind = get_regime(regime)
    if composition not in ("additive", "screen"):
        raise UserError(f"unknown composition '{composition}': additive or screen")
    clean, out = Path(clean), Path(out)
    photographs = [clean] if clean.is_file() else list_images(clean)
    if not photographs:
        raise UserError(f"{clean}: no photographs in it")
    names = _distinct(photographs)
    for name in names:
        for side in ("input", "target"):
            if (out / side / f"{name}.png").exists():
                raise UserError(f"{out / side / name}.png is there already; choose another output folder")
    if density is not None and density not in kind.densities:
        raise unknown(f"density of the rain '{kind.name}'", density, kind.densities)
    densities = [density] if density else list(kind.densities)
    for path in photographs:  # what can be seen to be wrong is seen before anything is written
        image_size(path)
    if dry_run:
        return len(names)
    for side in ("input", "target"):
        make_folder(out / side)

    def one(index: int) -> None:
        target = read_image(photographs[index])
        shape = (target.shape[0], target.shape[1])
        layer = rain_layer(shape, kind, seed * 1_000_003 + index, densities[index % len(densities)])
        rainy = additive(target, layer) if composition == "additive" else screen(target, layer)
        write_image(out / "target" / f"{names[index]}.png", target)
        write_image(out / "input" / f"{names[index]}.png", rainy)

    try:
        with (
            bar(f"rain over {len(names)} photographs", len(names), progress, always=False) as step,
            _pool(None) as pool,
        ):
            for _ in pool.map(one, range(len(names))):
                step.advance()
    except (
        BaseException
    ):  # half of a set would be in the way of the same command, and could be taken for a whole one
        for name in names:
            for side in ("input", "target"):
                (out / side / f"{name}.png").unlink(missing_ok=True)
        raise
    return len(names)


def _distinct(paths: Sequence[Path]) -> list[str]:
    """Names without extension; with it where two would be the same (a.jpg and a.png)."""
    count: dict[str, int] = defaultdict(int)
    for path in paths:
        count[os.path.normcase(path.stem)] += 1
    return [p.stem if count[os.path.normcase(p.stem)] == 1 else p.name.replace(".", "-") for p in paths]
