"""Finding the published sets, or any folder of pairs, below a folder; pairing by name, never by position.

What is looked for below a root, at any depth:

    …/rain/, …/norain/             two folders side by side whose names say which is rainy and which is clean
    …/rain/X2/, …/norain/          the same with a scale in between, as Rain200L/H were published
    …/rain/0001/, …/norain/0001/   the same with a folder for each video, scene or split in between
    …/rainy/1.png, …/norain-1.png  one of the two folders inside the other (PReNet's test sets)
    …/001_in.png, …/001_GT.png     one folder in which the names of the files say it
    …/A-R-000.png, …/A-C-000.png   a folder for each scene, with rainy and clean frames (GT-RAIN)
    …/1.jpg                        one folder of pictures that hold both halves (Rain1200 as published)

A clean picture may have many rainy ones (Rain1400: 902_1.jpg … 902_14.jpg and 902.jpg).

A folder's split and dataset are read off its path below the root, the root's own name and, for the dataset,
the name of the folder above. A name belongs to a dataset as a whole: "Rain200H-test" is Rain200H's, "rain200h_project"
is nobody's. Where the user names a folder and no dataset (`data=folder`) nothing is read off names but roles and,
below the folder, splits.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.data.images import EXTENSIONS, list_images, natural_key, read_image
from benchmark.data.specs import DATASETS, Dataset
from benchmark.errors import UserError, unknown

_DEPTH = 7
ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar"})
"""What a file is called that may be an archive."""
CLUTTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})
"""What operating systems add to folders and archives."""

_ABOVE = 1  # of the two names of the root that are looked at, the parent's does not tell the split
_RAINY = frozenset(
    "input inputs in lq degraded rain rainy rainimage rainimages rainyimage rainyimages".split()  # noqa: SIM905
)
_CLEAN = frozenset(
    "target targets gt gts gtimage groundtruth groundtruths hq reference label labels clean clear "  # noqa: SIM905
    "cleanimage cleanimages norain norainimage norainimages nonrain rainfree".split()
)
_WEAK = frozenset({"data"})  # rainy beside a clean folder with partners (RainDrop), else nothing
_SPLITS = {
    "train": re.compile(r"(train|training|trainset)(\d.*)?$"),
    "test": re.compile(r"(test|testing|testset)(\d.*)?$"),
    "validation": re.compile(r"(val|valid|validation|valset)(\d.*)?$"),
}
# words that a folder's name may have beside its dataset's
_FILLERS = frozenset(
    "dataset datasets data set images image pictures official original full new copy raw real synthetic paired "  # noqa: SIM905
    "rainy rain input".split()
)
_SCALE = re.compile(r"x\d{1,2}$")
# markers of the role that a file's name plays, at its beginning or end
_CLEAN_FILE = re.compile(
    r"^(no[-_ ]?rain|clean|clear|gt|target|label)(?=[-_ \d])|[-_ ](gt|clean|target|norain|label)$"
    r"|(?<=\d)(gt|ground_?truth)$"
)
_RAINY_FILE = re.compile(
    r"^(rainy|rain|input|in)(?=[-_ \d])|[-_ ](in|input|rainy|rain)$|(?<=\d)x\d{1,2}$|(?<=\d)rainy?$"
)
_MARKERS = re.compile(
    r"^(no[-_ ]?rain|rainy|rain|clean|clear|input|in|gt|target|label)[-_ ]*(?=\d)"
    r"|^(no[-_ ]?rain|rainy|rain|clean|clear|input|in|gt|target|label)[-_ ]+"
    r"|[-_ ]+(no[-_ ]?rain|rainy|rain|clean|clear|input|in|gt|ground_?truth|target|label)$"
    r"|(?<=\d)(no[-_ ]?rain|rainy|rain|clean|gt|ground_?truth)$"
    r"|(?<=\d)[-_ ]?x\d{1,2}$"
)
_NUMBERED = re.compile(r"[-_ ]+[a-z]{0,2}\d{1,5}$")  # which of the rainy pictures over one clean one
_FRAME = re.compile(r"[-_]([RC])[-_]\d+$")  # GT-RAIN: rainy and clean frames of a scene


@dataclass(frozen=True)
class Pairing:
    """Names matched, each rainy one to one clean one, and what could not be."""

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


_Key = Callable[[str], str]


def _exact(name: str) -> str:
    return _stem(name)


def same_name(name: str) -> str:
    """What names have in common that are one on systems where case or the form of an accent does not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _folded(name: str) -> str:
    return same_name(_stem(name))


def _bare(name: str) -> str:
    """The name without what says "rainy", "clean" or a scale: norain-1x2, rain-1, 1_GT and 1gt are all 1."""
    folder, slash, file = _folded(name).rpartition("/")
    while True:
        shorter = _MARKERS.sub("", file)
        if shorter == file or not shorter:
            return folder + slash + file
        file = shorter


def _without_zeros(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", _bare(name))


def _without_common(names: Iterable[str]) -> _Key:
    """A key without what the files' names of one side all begin and end with, whatever the words are."""
    files = [_folded(name).rpartition("/")[2] for name in names]
    if len(set(files)) < 2:
        return _folded
    # a digit at the seam belongs to the number: 11_rain and 21_rain end in _rain
    before = _beginning(files).rstrip("0123456789")
    after = _beginning([f[::-1] for f in files]).rstrip("0123456789")[::-1]

    def key(name: str) -> str:
        folder, slash, file = _folded(name).rpartition("/")
        return folder + slash + file[len(before) : len(file) - len(after)]

    return key


def _beginning(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:same]


def pair(rainy: Iterable[str], clean: Iterable[str]) -> Pairing:
    """Match file names: one to one, or many rainy ones to one clean one.

    Names are compared as they stand (without extension), then regardless of case, then without markers such
    as "norain-", "_GT", "x2", then without leading zeros, then without what all names of a side have in common; the
    first comparison that matches everything is taken, else the one that matches most. Only where more can be matched
    so are numbered names ("902_1.jpg", "902_2.jpg") matched with the one that has no number ("902.jpg"), and the
    pictures of a folder with the one clean picture in, or named as, the folder. The order in which names are given
    does not matter.

    >>> pair(["1x2.png", "2x2.png"], ["norain-2.png", "norain-1.png"]).pairs
    (('1x2.png', 'norain-1.png'), ('2x2.png', 'norain-2.png'))
    >>> pair(["902_1.jpg", "902_2.jpg"], ["902.jpg"]).pairs
    (('902_1.jpg', '902.jpg'), ('902_2.jpg', '902.jpg'))
    """
    rainy, clean = set(rainy), set(clean)
    keys: list[tuple[_Key, _Key]] = [(k, k) for k in (_exact, _folded, _bare, _without_zeros)]
    keys.append((_without_common(rainy), _without_common(clean)))
    best: Pairing | None = None
    for left, right in keys:
        found = _pair_by(left, right, rainy, clean)
        if best is None or len(found.pairs) > len(best.pairs):
            best = found
        if found.complete:
            return found
    assert best is not None
    many = _pair_many(rainy, clean)
    return many if len(many.pairs) > len(best.pairs) else best


def _pair_by(left_key: _Key, right_key: _Key, rainy: set[str], clean: set[str]) -> Pairing:
    left, right = defaultdict(list), defaultdict(list)
    for name in rainy:
        left[left_key(name)].append(name)
    for name in clean:
        right[right_key(name)].append(name)
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
    return _pairing(pairs, lone_rainy, lone_clean, ambiguous)


def _pairing(
    pairs: list[tuple[str, str]],
    lone_rainy: Sequence[str],
    lone_clean: Sequence[str],
    ambiguous: list[tuple[tuple[str, ...], tuple[str, ...]]],
) -> Pairing:
    return Pairing(
        tuple(sorted(pairs, key=lambda p: natural_key(p[0]))),
        _sorted(lone_rainy),
        _sorted(lone_clean),
        tuple(sorted(ambiguous)),
    )


def _pair_many(rainy: set[str], clean: set[str]) -> Pairing:
    """Each rainy name with the clean one that it is a number of; names of the same key are nobody's."""
    owners: dict[str, list[str]] = defaultdict(list)
    alone: dict[str, list[str]] = defaultdict(list)
    for name in clean:
        owners[_scene(name)].append(name)
        if "/" in name:
            alone[same_name(name.rpartition("/")[0])].append(name)
    same = Counter(_exact(name) for name in rainy)
    pairs, lone = [], []
    for name in rainy:
        owner = _owner(name, owners, alone) if same[_exact(name)] == 1 else None
        if owner is None:
            lone.append(name)
        else:
            pairs.append((name, owner))
    taken = {c for _, c in pairs}
    return _pairing(pairs, lone, [c for c in clean if c not in taken], [])


def _scene(name: str) -> str:
    """A clean picture's name as its rainy ones begin."""
    return same_name(_FRAME.sub("", _stem(name))) if _FRAME.search(_stem(name)) else _bare(name)


def _owner(name: str, owners: dict[str, list[str]], alone: dict[str, list[str]]) -> str | None:
    tried = [same_name(_FRAME.sub("", _stem(name)))] if _FRAME.search(_stem(name)) else []
    key = _bare(name)
    while (
        shorter := _NUMBERED.sub("", key)
    ) != key:  # 0-1_2_3.png is one of 0-1_2.png, of 0-1.png or of 0.png
        key = shorter
        tried.append(key)
    folder = same_name(name.rpartition("/")[0])
    tried.append(folder)
    for key in tried:
        if key and len(owners.get(key, ())) == 1:
            return owners[key][0]
    one = alone.get(folder, []) if folder else []
    return one[0] if len(one) == 1 else None


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
    split: str | None  # "train", "test", "validation", or None where the path does not say
    datasets: tuple[
        str, ...
    ]  # whose the path says it is; several share a name (Test1200 is also Rain1200's test set)
    pairs: tuple[Pair, ...]
    pairing: Pairing = field(default_factory=lambda: Pairing(()))

    @property
    def dataset(self) -> str | None:
        """The first of `datasets`."""
        return self.datasets[0] if self.datasets else None

    def files(self) -> set[Path]:
        """Every file that is in a pair, or in a line of `problems`."""
        lone = [self.rainy / n for n in self.pairing.unpaired_rainy]
        lone += [self.clean / n for n in self.pairing.unpaired_clean]
        for rainy, clean in self.pairing.ambiguous:
            lone += [*(self.rainy / n for n in rainy), *(self.clean / n for n in clean)]
        return {*lone, *(p.rainy for p in self.pairs), *(p.clean for p in self.pairs)}

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


def _words(name: str) -> set[str]:
    """What a folder may be called: its whole name, and that without words that say no dataset ("DID-MDN-test")."""
    found = set()
    for tokens in (_tokens(name), _tokens(name.lower())):
        own = [t for t in tokens if _split(t) is None]
        telling = [t for t in own if t not in _FILLERS and not _SCALE.match(t)]
        for some in (tokens, own, telling):
            found.add("".join(some))
            if len(some) > 1 and some[-1].isdigit():  # "Rain200H (1)"
                found.add("".join(some[:-1]))
    return found


def _split(token: str) -> str | None:
    return next((split for split, pattern in _SPLITS.items() if pattern.match(token)), None)


def split_of(parts: Sequence[str]) -> str | None:
    """ "train", "test" or "validation", read off folder names, the innermost first; None where none says it."""
    for part in reversed(parts):
        said = {_split(token) for token in _tokens(part)} - {None}
        if len(said) == 1:
            return said.pop()
    return None


def datasets_of(parts: Sequence[str], paired: bool | None = None) -> tuple[str, ...]:
    """The datasets whose alias is among folder names, the innermost first.

    Args:
        parts: names of folders, from the outside to the inside.
        paired: only sets that have clean pictures (or have none); None: all.
    """
    for part in reversed(parts):
        words = _words(part)
        named = [
            spec.name
            for spec in DATASETS.values()
            if (paired is None or spec.paired == paired) and words.intersection(spec.aliases)
        ]
        if named:
            return tuple(named)
    return ()


def dataset_of(parts: Sequence[str], paired: bool | None = None) -> str | None:
    """The first of `datasets_of`."""
    return next(iter(datasets_of(parts, paired)), None)


def folder_role(name: str) -> str | None:
    """What a folder's name says is in it: "rainy", "clean" or None."""
    # "train_rain" and "rain_X2" are roles too, "rain200h" is not
    word = _role_word(name)
    return "rainy" if word in _RAINY else "clean" if word in _CLEAN else None


def _role_word(name: str) -> str:
    return "".join(t for t in _tokens(name.lower()) if _split(t) is None and not _SCALE.match(t))


def file_role(name: str) -> str | None:
    """What a file's own name says it is: "rainy", "clean" or None. A scale (norain-1x2) makes it rainy."""
    if frame := _FRAME.search(_stem(name)):
        return "rainy" if frame.group(1) == "R" else "clean"
    stem = _folded(name)
    if _SCALE.search(stem) and re.search(r"\dx\d{1,2}$", stem):
        return "rainy"
    clean, rainy = _CLEAN_FILE.search(stem), _RAINY_FILE.search(stem)
    if clean and (not rainy or stem.startswith("no")):
        return "clean"
    return "rainy" if rainy and not clean else None


@dataclass
class Tree:
    """What lies at or below a folder."""

    pictures: dict[Path, list[str]] = field(default_factory=dict)  # by folder
    others: dict[Path, list[str]] = field(default_factory=dict)  # files that are no pictures by their names
    too_deep: list[Path] = field(default_factory=list)  # folders that were not looked into


def scan(root: Path) -> Tree:
    """Everything at or below root but hidden files and what operating systems add; links are followed once.

    Raises:
        UserError: a folder cannot be listed.
    """
    tree = Tree()
    seen: set[str] = set()
    queue: list[tuple[Path, int]] = [(root, 0)]
    while queue:
        folder, depth = queue.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        names, others = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name in CLUTTER:
                        continue
                    if entry.is_dir():
                        if depth < _DEPTH:
                            queue.append((folder / entry.name, depth + 1))
                        else:
                            tree.too_deep.append(folder / entry.name)
                    elif Path(entry.name).suffix.lower() in EXTENSIONS:
                        names.append(entry.name)
                    else:
                        others.append(entry.name)
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed: {error.strerror or error}") from None
        if names:
            tree.pictures[folder] = names
        if others:
            tree.others[folder] = others
    return tree


def picture_folders(root: Path) -> dict[Path, list[str]]:
    """Folders at or below root that hold pictures, with the pictures' names; links are followed once."""
    return scan(root).pictures


_Side = dict[
    Path, list[str]
]  # the folders that may be one side of pairs, with names of pictures relative to them


def find(root: str | Path, judge: bool = True, place: Path | None = None) -> list[Found]:
    """Every folder of pairs at or below `root`, in the order of their paths.

    Args:
        root: where to look.
        judge: read off names whose the pairs are, and off root's own name too which split they are.
        place: where root will lie, if elsewhere: what it is called there counts.

    Raises:
        UserError: root is missing or cannot be listed, or a folder's sides cannot be told apart.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root}: no such folder")
    if not root.is_dir():
        raise UserError(f"{root}: is a file; give the folder that holds the pictures")
    return _Search(root, judge, place or root).found()


class _Search:
    def __init__(self, root: Path, judge: bool, place: Path) -> None:
        self.root, self.judge = root, judge
        self.folders = picture_folders(root)
        self.above = [place.absolute().parent.name, place.absolute().name]

    def found(self) -> list[Found]:
        """All of them."""
        sides: dict[tuple[Path, str | None], dict[str, _Side]] = defaultdict(
            lambda: {"rainy": {}, "clean": {}}
        )
        members: dict[tuple[Path, str | None], list[Path]] = defaultdict(list)
        rest = []
        for folder in sorted(self.folders):
            place = self._place(folder)
            if place is None:
                rest.append(folder)
                continue
            named, base, role = place
            inside = folder.relative_to(base)
            key = named.parent, split_of(inside.parts)
            sides[key][role].setdefault(base, []).extend(str(inside / n) for n in self.folders[folder])
            members[key].append(folder)
        found = []
        for (container, split), side in sides.items():
            one = self._two_folders(container, split, side) or self._nested(container, split, side)
            if one is None:
                rest += members[container, split]
            else:
                found.append(one)
        nested = {f.folder for f in found if f.folder in (f.rainy, f.clean)}
        found += [f for folder in rest if folder not in nested and (f := self._one_folder(folder))]
        return sorted(self._scenes_together(found), key=lambda f: str(f.folder))

    def _place(self, folder: Path) -> tuple[Path, Path, str] | None:
        """(the folder whose name tells the role, the one that names are relative to, the role)."""
        base: Path | None = None
        at = folder
        # the root's own name does not count: /data/X/input given by itself has no partner below the root
        while at != self.root:
            if _SCALE.fullmatch(at.name.lower()):
                base = at
            elif role := folder_role(at.name) or (
                "rainy" if at == folder and _role_word(at.name) in _WEAK else None
            ):
                # pictures beside a folder of pictures: the folder is something else
                inside = folder not in (at, base) and at in self.folders
                return None if inside else (at, base or at, role)
            at = at.parent
        return None

    def _parts(self, folder: Path) -> list[str]:
        return [*self.above, *folder.relative_to(self.root).parts]

    def _split_at(self, folder: Path, *inner: str) -> str | None:
        own = self._parts(folder)[_ABOVE if self.judge else len(self.above) :]
        return split_of([*own, *inner])

    def _datasets_at(self, folder: Path) -> tuple[str, ...]:
        return datasets_of(self._parts(folder), paired=True) if self.judge else ()

    def _two_folders(self, container: Path, split: str | None, side: dict[str, _Side]) -> Found | None:
        if not (side["rainy"] and side["clean"]):
            return None
        best = [
            (pair(rainy_names, clean_names), rainy, clean)
            for rainy, rainy_names in side["rainy"].items()
            for clean, clean_names in side["clean"].items()
        ]
        if not all(_role_word(base.name) in _WEAK for base in side["rainy"]):
            best = [b for b in best if _role_word(b[1].name) not in _WEAK]
        most = max(len(pairing.pairs) for pairing, _, _ in best)
        chosen = [b for b in best if len(b[0].pairs) == most]
        if not most and _role_word(chosen[0][1].name) in _WEAK:
            return None
        if len(chosen) > 1:
            names = ", ".join(
                f"{r.relative_to(container)} + {c.relative_to(container)}" for _, r, c in chosen
            )
            raise UserError(
                f"{container}: several folders could be the pairs ({names}); remove or rename all but one"
            )
        pairing, rainy, clean = chosen[0]
        # test_input + test_target name the split themselves
        split = split or self._split_at(container, rainy.relative_to(container).parts[0])
        return self._made(container, rainy, clean, split, pairing)

    def _nested(self, container: Path, split: str | None, side: dict[str, _Side]) -> Found | None:
        """One side's folder inside the folder of the other's pictures."""
        if container not in self.folders or bool(side["rainy"]) == bool(side["clean"]):
            return None
        inner_role = "rainy" if side["rainy"] else "clean"
        outer = [n for n in self.folders[container] if file_role(n) != inner_role]
        best: Found | None = None
        for base, names in side[inner_role].items():
            rainy, clean = (names, outer) if inner_role == "rainy" else (outer, names)
            pairing = pair(rainy, clean)
            if not pairing.pairs or (best is not None and len(best.pairs) >= len(pairing.pairs)):
                continue
            folders = (base, container) if inner_role == "rainy" else (container, base)
            best = self._made(container, *folders, split or self._split_at(container, base.name), pairing)
        return best

    def _made(self, folder: Path, rainy: Path, clean: Path, split: str | None, pairing: Pairing) -> Found:
        pairs = tuple(Pair(_name(r), rainy / r, clean / c) for r, c in pairing.pairs)
        return Found(folder, rainy, clean, split, self._datasets_at(folder), pairs, pairing)

    def _one_folder(self, folder: Path) -> Found | None:
        names = self.folders[folder]
        roles: dict[str | None, list[str]] = defaultdict(list)
        for name in names:
            roles[file_role(name)].append(name)
        split = self._split_at(folder)
        if roles["rainy"] and roles["clean"]:
            pairing = pair(roles["rainy"], roles["clean"])
            if pairing.pairs:
                return self._made(folder, folder, folder, split, pairing)
        half = rainy_half([folder / n for n in _sorted(names)])
        if half is None:
            return None
        pairs = tuple(Pair(_stem(n), folder / n, folder / n, half) for n in _sorted(names))
        return Found(folder, folder, folder, split, self._datasets_at(folder), pairs)

    def _scenes_together(self, found: list[Found]) -> list[Found]:
        """Folders of frames (GT-RAIN) beside each other are one set."""
        scenes: dict[tuple[Path, str | None], list[Found]] = defaultdict(list)
        for f in found:
            frames = f.pairing.pairs and all(_FRAME.search(_stem(r)) for r, _ in f.pairing.pairs)
            if frames and f.rainy == f.clean != self.root:
                scenes[f.folder.parent, f.split].append(f)
        for (container, split), some in scenes.items():
            if len(some) < 2:
                continue

            def inside(part: str, some: list[Found] = some) -> tuple[str, ...]:
                return tuple(f"{s.folder.name}/{n}" for s in some for n in getattr(s.pairing, part))

            pairs = [
                (f"{s.folder.name}/{r}", f"{s.folder.name}/{c}") for s in some for r, c in s.pairing.pairs
            ]
            pairing = Pairing(tuple(pairs), inside("unpaired_rainy"), inside("unpaired_clean"))
            found = [f for f in found if f not in some]
            found.append(self._made(container, container, container, split, pairing))
        return found


def _name(name: str) -> str:
    """A pair's name: the rainy picture's, with the folders in between before it."""
    return _stem(name).replace("/", "-")


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
    unless the root has folders that do say it. Of a set that is only called "folder" the names of folders are not
    asked whose it is, nor that of the root which split.

    Raises:
        UserError: no root, nothing there, or several folders that could be meant.
    """
    root = Path(spec.root) if spec.root is not None else root
    if root is None:
        raise UserError(
            f"dataset '{spec.name}' needs data.root=FOLDER: the folder that holds it, or one above it"
        )
    found = find(root, judge=bool(spec.aliases))
    if not found:
        raise UserError(
            f"{root}: no pairs of rainy and clean images below it (expected e.g. input/ and target/)"
        )
    if spec.aliases:
        named = [f for f in found if spec.name in f.datasets]
        found_here = named or [f for f in found if not f.datasets]
        if not found_here:
            others = ", ".join(sorted({d for f in found for d in f.datasets}))
            raise UserError(f"{root}: holds {others}, but not '{spec.name}'; point data.root at its folder")
        found = [replace(f, datasets=(spec.name,)) for f in found_here]
    exact = [f for f in found if f.split == split]
    chosen = exact or [f for f in found if f.split is None]
    if not chosen:
        has = ", ".join(sorted({f.split or "" for f in found} - {""}))
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


def pairs_of(
    spec: Dataset, root: str | Path | None, split: str, strict: bool = True, exclude: Sequence[str] = ()
) -> list[Pair]:
    """The pairs of one split of a set that lies on a disk: `list_pairs`, or clean photographs, each with itself.

    Args:
        spec: the dataset.
        root: the folder that holds it, or one above it.
        split: "train" or "test".
        strict: as for `list_pairs`.
        exclude: names of clean photographs to leave out.

    Raises:
        UserError: as `list_pairs`, or no photograph of a name to exclude.
    """
    if not spec.rendered:
        return list_pairs(spec, root, split, strict)
    if root is None:
        raise UserError(f"dataset '{spec.name}' needs data.root=FOLDER: a folder of clean photographs")
    paths = list_photographs(root)
    names = [path.stem for path in paths]
    for name in exclude:
        if name not in names:
            raise unknown(f"photograph of {root} to exclude", name, names)
    return [Pair(path.stem, path, path) for path in paths if path.stem not in exclude]


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
