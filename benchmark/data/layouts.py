"""Finding the published sets, or any folder of pairs, below a folder; pairing by name, never by position.

What is looked for below a root, at any depth:

    …/rain/, …/norain/             two folders side by side whose names say which is rainy and which is clean
    …/rain/X2/, …/norain/          the same with a scale in between, as Rain200L/H were published
    …/001_in.png, …/001_GT.png     one folder in which the names of the files say it
    …/1.jpg                        one folder of pictures that hold both halves (Rain1200 as published)

A folder's split and dataset are read off its path below the root, the root's own name and, for the dataset,
the name of the folder above.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.data.images import EXTENSIONS, list_images, natural_key, read_image
from benchmark.data.specs import DATASETS, Dataset
from benchmark.errors import UserError

_DEPTH = 7
_ABOVE = 1  # of the two names of the root that are looked at, the parent's does not tell the split
_RAINY = frozenset(
    "input inputs in lq degraded rain rainy rainimage rainimages rainyimage rainyimages".split()  # noqa: SIM905
)
_CLEAN = frozenset(
    "target targets gt gts gtimage groundtruth groundtruths hq reference label labels clean clear "  # noqa: SIM905
    "cleanimage cleanimages norain norainimage norainimages".split()
)
_TRAIN = re.compile(r"(train|training|trainset)(\d.*)?$")
_TEST = re.compile(r"(test|testing|testset)(\d.*)?$")
_SCALE = re.compile(r"x\d{1,2}$")
# markers of the role that a file's name plays, at its beginning or end
_CLEAN_FILE = re.compile(
    r"^(no[-_ ]?rain|clean|clear|gt|target|label)(?=[-_ \d])|[-_ ](gt|clean|target|norain|label)$"
)
_RAINY_FILE = re.compile(r"^(rainy|rain|input|in)(?=[-_ \d])|[-_ ](in|input|rainy|rain)$|(?<=\d)x\d{1,2}$")
_MARKERS = re.compile(
    r"^(no[-_ ]?rain|rainy|rain|clean|clear|input|in|gt|target|label)[-_ ]*(?=\d)"
    r"|^(no[-_ ]?rain|rainy|rain|clean|clear|input|in|gt|target|label)[-_ ]+"
    r"|[-_ ]+(no[-_ ]?rain|rainy|rain|clean|clear|input|in|gt|target|label)$"
    r"|(?<=\d)[-_ ]?x\d{1,2}$"
)


@dataclass(frozen=True)
class Pairing:
    """Names matched one to one, and what could not be."""

    pairs: tuple[tuple[str, str], ...]  # (rainy, clean)
    unpaired_rainy: tuple[str, ...] = ()
    unpaired_clean: tuple[str, ...] = ()
    ambiguous: tuple[
        tuple[tuple[str, ...], tuple[str, ...]], ...
    ] = ()  # (rainy names, clean names) of one key

    @property
    def complete(self) -> bool:
        """True if every name has exactly one partner."""
        return not (self.unpaired_rainy or self.unpaired_clean or self.ambiguous)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _exact(name: str) -> str:
    return _stem(name)


def _folded(name: str) -> str:
    return _stem(name).casefold()


def _bare(name: str) -> str:
    """The name without what says "rainy", "clean" or a scale: norain-1x2, rain-1 and 1_GT are all 1."""
    bare = _folded(name)
    while True:
        shorter = _MARKERS.sub("", bare)
        if shorter == bare or not shorter:
            return bare
        bare = shorter


def _without_zeros(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", _bare(name))


_KEYS: tuple[Callable[[str], str], ...] = (_exact, _folded, _bare, _without_zeros)


def pair(rainy: Iterable[str], clean: Iterable[str]) -> Pairing:
    """Match file names one to one.

    Names are compared as they stand (without extension), then regardless of case, then without markers such
    as "norain-", "_GT", "x2", then without leading zeros; the first comparison that matches everything is
    taken, else the one that matches most. The order in which names are given does not matter.

    >>> pair(["1x2.png", "2x2.png"], ["norain-2.png", "norain-1.png"]).pairs
    (('1x2.png', 'norain-1.png'), ('2x2.png', 'norain-2.png'))
    """
    rainy, clean = set(rainy), set(clean)
    best: Pairing | None = None
    for key in _KEYS:
        found = _pair_by(key, rainy, clean)
        if best is None or len(found.pairs) > len(best.pairs):
            best = found
        if found.complete:
            return found
    assert best is not None
    return best


def _pair_by(key: Callable[[str], str], rainy: set[str], clean: set[str]) -> Pairing:
    left, right = defaultdict(list), defaultdict(list)
    for name in rainy:
        left[key(name)].append(name)
    for name in clean:
        right[key(name)].append(name)
    pairs, lone_rainy, lone_clean, ambiguous = [], [], [], []
    for k in left.keys() | right.keys():
        a, b = left.get(k, []), right.get(k, [])
        if len(a) == 1 and len(b) == 1:
            pairs.append((a[0], b[0]))
        elif not b:
            lone_rainy += a
        elif not a:
            lone_clean += b
        else:
            ambiguous.append((_sorted(a), _sorted(b)))
    return Pairing(
        tuple(sorted(pairs, key=lambda p: natural_key(p[0]))),
        _sorted(lone_rainy),
        _sorted(lone_clean),
        tuple(sorted(ambiguous)),
    )


def _sorted(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=natural_key))


@dataclass(frozen=True)
class Pair:
    """Where a rainy picture and its clean one are; `half` is the rainy half of a file that holds both."""

    name: str
    rainy: Path
    clean: Path
    half: str | None = None  # "left" or "right"


@dataclass(frozen=True)
class Found:
    """A folder of pairs."""

    folder: Path  # what the split, dataset and messages are about
    rainy: Path
    clean: Path
    split: str | None  # "train", "test" or None where the path does not say
    dataset: str | None
    pairs: tuple[Pair, ...]
    pairing: Pairing = field(default_factory=lambda: Pairing(()))

    def problems(self) -> list[str]:
        """Every name without exactly one partner, a line each."""
        lines = [
            f"{self.rainy / n}: no clean image of that name in {self.clean}"
            for n in self.pairing.unpaired_rainy
        ]
        lines += [
            f"{self.clean / n}: no rainy image of that name in {self.rainy}"
            for n in self.pairing.unpaired_clean
        ]
        for rainy, clean in self.pairing.ambiguous:
            lines.append(
                f"{self.folder}: cannot tell which of {', '.join(rainy)} belongs to {', '.join(clean)}"
            )
        return lines


def _tokens(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [t for t in re.split(r"[^0-9a-z]+", spaced.lower()) if t]


def _words(name: str) -> list[str]:
    """All runs of a folder name's words written together, so that "DID-MDN-test" contains "didmdn"."""
    found = []
    for tokens in (_tokens(name), _tokens(name.lower())):
        for first in range(len(tokens)):
            found += ["".join(tokens[first:last]) for last in range(first + 1, len(tokens) + 1)]
    return found


def split_of(parts: Sequence[str]) -> str | None:
    """ "train" or "test", read off folder names, the innermost first; None where none says it."""
    for part in reversed(parts):
        tokens = _tokens(part)
        train = any(_TRAIN.match(t) for t in tokens)
        test = any(_TEST.match(t) for t in tokens)
        if train != test:
            return "train" if train else "test"
    return None


def dataset_of(parts: Sequence[str]) -> str | None:
    """The dataset whose alias is among folder names, the innermost first."""
    for part in reversed(parts):
        words = set(_words(part))
        for spec in DATASETS.values():
            if words.intersection(spec.aliases):
                return spec.name
    return None


def folder_role(name: str) -> str | None:
    """What a folder's name says is in it: "rainy", "clean" or None."""
    # "train_rain" and "rain_X2" are roles too, "rain200h" is not
    tokens = [t for t in _tokens(name.lower()) if not (_TRAIN.match(t) or _TEST.match(t) or _SCALE.match(t))]
    word = "".join(tokens)
    return "rainy" if word in _RAINY else "clean" if word in _CLEAN else None


def file_role(name: str) -> str | None:
    """What a file's own name says it is: "rainy", "clean" or None. A scale (norain-1x2) makes it rainy."""
    stem = _folded(name)
    if _SCALE.search(stem) and re.search(r"\dx\d{1,2}$", stem):
        return "rainy"
    clean, rainy = _CLEAN_FILE.search(stem), _RAINY_FILE.search(stem)
    if clean and (not rainy or stem.startswith("no")):
        return "clean"
    return "rainy" if rainy and not clean else None


def picture_folders(root: Path) -> dict[Path, list[str]]:
    """Folders at or below root that hold pictures, with the pictures' names; links are followed once."""
    found: dict[Path, list[str]] = {}
    seen: set[str] = set()
    queue: list[tuple[Path, int]] = [(root, 0)]
    while queue:
        folder, depth = queue.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        names = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        continue
                    if entry.is_dir():
                        if depth < _DEPTH:
                            queue.append((folder / entry.name, depth + 1))
                    elif Path(entry.name).suffix.lower() in EXTENSIONS:
                        names.append(entry.name)
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed: {error.strerror or error}") from None
        if names:
            found[folder] = names
    return found


def find(root: str | Path) -> list[Found]:
    """Every folder of pairs at or below `root`, in the order of their paths.

    Raises:
        UserError: root is missing or cannot be listed, or a folder's sides cannot be told apart.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root}: no such folder")
    if not root.is_dir():
        raise UserError(f"{root}: is a file; give the folder that holds the pictures")
    folders = picture_folders(root)
    above = [root.absolute().parent.name, root.absolute().name]
    sides: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: {"rainy": [], "clean": []})
    rest = []
    for folder in sorted(folders):
        # the root's own name counts as well: /data/X/input given by itself has no partner below the root
        scaled = bool(_SCALE.fullmatch(folder.name.lower())) and folder != root
        named = folder.parent if scaled else folder
        role = folder_role(named.name) if folder != root else None
        if role is None:
            rest.append(folder)
        else:
            sides[named.parent][role].append(folder)
    found = []
    for container, side in sides.items():
        if side["rainy"] and side["clean"]:
            found.append(_two_folders(container, side, folders, above, root))
        else:
            rest += side["rainy"] + side["clean"]
    for folder in rest:
        one = _one_folder(folder, folders[folder], above, root)
        if one is not None:
            found.append(one)
    return sorted(found, key=lambda f: str(f.folder))


def _parts(above: list[str], root: Path, folder: Path) -> list[str]:
    return [*above, *folder.relative_to(root).parts]


def _two_folders(
    container: Path, side: dict[str, list[Path]], folders: dict[Path, list[str]], above: list[str], root: Path
) -> Found:
    best: list[tuple[int, Path, Path, Pairing]] = []
    for rainy in side["rainy"]:
        for clean in side["clean"]:
            pairing = pair(folders[rainy], folders[clean])
            best.append((len(pairing.pairs), rainy, clean, pairing))
    most = max(b[0] for b in best)
    chosen = [b for b in best if b[0] == most]
    if len(chosen) > 1:
        names = ", ".join(
            str(b[1].relative_to(container)) + " + " + str(b[2].relative_to(container)) for b in chosen
        )
        raise UserError(
            f"{container}: several folders could be the pairs ({names}); remove or rename all but one"
        )
    _, rainy, clean, pairing = chosen[0]
    parts = _parts(above, root, container)
    inner = [
        *parts,
        rainy.relative_to(container).parts[0],
    ]  # test_input + test_target name the split themselves
    pairs = tuple(Pair(_stem(r), rainy / r, clean / c) for r, c in pairing.pairs)
    return Found(container, rainy, clean, split_of(inner[_ABOVE:]), dataset_of(parts), pairs, pairing)


def _one_folder(folder: Path, names: list[str], above: list[str], root: Path) -> Found | None:
    parts = _parts(above, root, folder)
    roles: dict[str | None, list[str]] = defaultdict(list)
    for name in names:
        roles[file_role(name)].append(name)
    split, dataset = split_of(parts[_ABOVE:]), dataset_of(parts)
    if roles["rainy"] and roles["clean"]:
        pairing = pair(roles["rainy"], roles["clean"])
        if pairing.pairs:
            pairs = tuple(Pair(_stem(r), folder / r, folder / c) for r, c in pairing.pairs)
            return Found(folder, folder, folder, split, dataset, pairs, pairing)
    half = rainy_half([folder / n for n in _sorted(names)])
    if half is None:
        return None
    pairs = tuple(Pair(_stem(n), folder / n, folder / n, half) for n in _sorted(names))
    return Found(folder, folder, folder, split, dataset, pairs)


def rainy_half(paths: Sequence[Path]) -> str | None:
    """Which half of side-by-side pictures is the rainy one; None if they are not side by side.

    Decided for a folder at once, by content, from up to seven pictures spread over it: they are broad, the
    halves show the same scene, so that tones and vertical differences go together, and rain brightens it.
    Published Rain1200 has the rainy one on the left.
    """
    spread = [paths[round(i * (len(paths) - 1) / 6)] for i in range(7)] if len(paths) > 7 else list(paths)
    brighter_left = alike = read = 0
    for path in spread:
        try:
            array = read_image(path).astype(np.float64).mean(axis=2)
        except UserError:
            continue
        read += 1
        width = array.shape[1]
        if width % 2 or width < 1.2 * max(array.shape[0], 8):
            continue
        left, right = array[:, : width // 2], array[:, width // 2 :]
        # chance likeness of tones is common (a sky over the whole picture), of fine differences it is not
        if (
            _correlation(left, right) > 0.5
            and _correlation(np.diff(left, axis=0), np.diff(right, axis=0)) > 0.15
        ):
            alike += 1
            brighter_left += bool(left.mean() > right.mean())
    if read == 0 or alike * 3 < read * 2:
        return None
    return "left" if brighter_left * 2 >= alike else "right"


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def find_split(spec: Dataset, root: str | Path | None, split: str) -> list[Found]:
    """The folders of one split of a dataset below `root`.

    A folder whose path names the dataset is preferred to one whose path names none; one that names another
    dataset is never taken. A path that does not say its split is taken for the split that is asked for,
    unless the root has folders that do say it.

    Raises:
        UserError: no root, nothing there, or several folders that could be meant.
    """
    if root is None:
        raise UserError(
            f"dataset '{spec.name}' needs data.root=FOLDER: the folder that holds it, or one above it"
        )
    found = find(root)
    if not found:
        raise UserError(
            f"{root}: no pairs of rainy and clean images below it (expected e.g. input/ and target/)"
        )
    if spec.aliases:
        named = [f for f in found if f.dataset == spec.name]
        found_here = named or [f for f in found if f.dataset is None]
        if not found_here:
            others = ", ".join(sorted({f.dataset for f in found if f.dataset}))
            raise UserError(f"{root}: holds {others}, but not '{spec.name}'; point data.root at its folder")
        found = found_here
    exact = [f for f in found if f.split == split]
    chosen = exact or [f for f in found if f.split is None]
    if not chosen:
        has = ", ".join(sorted({f.split for f in found if f.split}))
        raise UserError(f"{root}: has no '{split}' split of '{spec.name}' (found: {has})")
    if len(chosen) > 1 and not spec.several_folders:
        listed = ", ".join(str(f.folder) for f in chosen[:4])
        raise UserError(
            f"{root}: several folders could be the '{split}' split ({listed}); point data.root at one"
        )
    return chosen


def list_pairs(spec: Dataset, root: str | Path | None, split: str, strict: bool = True) -> list[Pair]:
    """The pairs of one split, each name once.

    Args:
        spec: the dataset.
        root: the folder that holds it, or one above it.
        split: "train" or "test".
        strict: refuse a split in which a name has no partner; else leave such names out.

    Raises:
        UserError: as `find_split`, or names are not paired one to one.
    """
    found = find_split(spec, root, split)
    if strict:
        problems = [line for f in found for line in f.problems()]
        if problems:
            more = (
                f" (and {len(problems) - 1} more; 'derain data check' lists all)" if len(problems) > 1 else ""
            )
            raise UserError(problems[0] + more)
    if len(found) == 1:
        return list(found[0].pairs)
    base = Path(os.path.commonpath([f.folder for f in found]))
    pairs = []
    for f in found:
        prefix = "-".join(f.folder.relative_to(base).parts)
        pairs += [Pair(f"{prefix}-{p.name}" if prefix else p.name, p.rainy, p.clean, p.half) for p in f.pairs]
    return pairs


def list_photographs(root: str | Path) -> list[Path]:
    """Rainy photographs without clean ones: in `root`, else in its rainy folder, else anywhere below.

    Raises:
        UserError: the folder is missing or holds no pictures.
    """
    root = Path(root)
    if root.is_file():
        return [root]
    if root.is_dir():
        here = list_images(root)
        if here:
            return here
        folders = picture_folders(root)
        rainy = [f for f in folders if folder_role(f.name) == "rainy"]
        below = [f / n for f in sorted(rainy or folders) for n in _sorted(folders[f])]
        if below:
            return below
        raise UserError(f"{root}: no pictures in it or below it")
    raise UserError(f"{root}: no such file or folder")
