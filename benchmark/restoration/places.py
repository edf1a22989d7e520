"""Which pictures and videos `derain restore` takes, and where their results go."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import UserError
from benchmark.files import real
from benchmark.restoration.videos import VIDEO_EXTENSIONS, Encoding

RESULT = "-derained"
"""What is put to the name of an input to make that of its result beside it, before it perhaps who made it."""


@dataclass(frozen=True)
class Job:
    """A picture or video, where its result goes, and where the comparison goes if there is one."""

    source: Path
    destination: Path
    beside: Path

    def results(self, compare: bool) -> list[Path]:
        """What it writes."""
        return [self.destination, self.beside] if compare else [self.destination]


def is_video(source: Path) -> bool:
    """Whether a file is a video, by its name."""
    return source.suffix.lower() in VIDEO_EXTENSIONS


def planned(
    inputs: Iterable[Path | str], out: Path | None = None, encoding: Encoding | None = None, by: str = ""
) -> list[tuple[Path, Path]]:
    """Which picture goes where: (source, destination) for every picture and video of `inputs`, each once.

    Pictures inside `out` are left out where `out` lies inside an input folder: they are results.

    Raises:
        UserError: an input that does not exist, no picture at all, two inputs for one output.
    """
    return [
        (job.source, job.destination) for job in plan_of(list(inputs), out, encoding or Encoding(), [], by)[0]
    ]


def plan_of(
    inputs: Sequence[Path | str], out: Path | None, encoding: Encoding, passed_over: list[Path], by: str
) -> tuple[list[Job], list[Path]]:
    """The jobs, and the folders below which they write."""
    ending = f"-{by}{RESULT}" if by else RESULT
    sources: dict[Path, Path] = {}  # resolved → as given, so that a picture named twice is restored once
    places: dict[Path, tuple[Path, Path]] = {}  # resolved → folder of results and name in it
    for given in inputs:
        for source, root, name in _pictures(Path(given), out, passed_over, ending):
            resolved = real(source)
            if resolved not in sources:
                sources[resolved], places[resolved] = source, (root, name)
    if not sources:
        raise UserError(f"no pictures in {', '.join(map(str, inputs)) or 'nothing'}")
    taken = Counter(root / name.with_suffix(_extension(name, encoding)) for root, name in places.values())
    jobs: list[Job] = []
    used: dict[Path, Path] = {}
    for resolved, (root, name) in places.items():
        extension = _extension(name, encoding)
        short = name.with_suffix(extension)
        if taken[root / short] > 1:
            short = name.with_name(f"{name.name}{extension}")
        if out is None and root == sources[resolved].parent:  # a file by itself, not one of a folder
            destination = root / short.with_stem(short.stem + ending)
            beside = root / short.with_stem(f"{short.stem}-compare{ending}")
        else:
            destination, beside = root / short, root / "compare" / short
        if destination in used:
            raise UserError(
                f"{used[destination]} and {sources[resolved]} would both be written to {destination}: "
                "restore them into different folders"
            )
        used[destination] = sources[resolved]
        jobs.append(Job(sources[resolved], destination, beside))
    if out is None:  # `derain restore *`, a second time, by whatever network
        given_names = {job.source.parent / n for job in jobs for n in (job.source.stem, job.source.name)}
        jobs = [job for job in jobs if not _made_of(job.source, given_names)]
    return jobs, list(dict.fromkeys(root for root, _ in places.values()))


def _made_of(source: Path, others: Collection[Path]) -> bool:
    """Whether a picture has the name of a result of one of the others: theirs, more words perhaps, `-derained`."""
    if not source.stem.endswith(RESULT):
        return False
    words = source.stem.removesuffix(RESULT).split("-")
    return any(source.with_name("-".join(words[:n])) in others for n in range(1, len(words) + 1))


def _extension(name: Path, encoding: Encoding) -> str:
    return encoding.extension if is_video(name) else ".png"


def _pictures(
    given: Path, out: Path | None, passed_over: list[Path], ending: str
) -> list[tuple[Path, Path, Path]]:
    """The pictures that an argument stands for, each with its folder of results and its name in there."""
    from benchmark.data.images import EXTENSIONS, natural_key

    if given.is_dir():
        if out is not None and real(out) == real(given):
            raise UserError(
                f"{out} is an input folder, where results would be taken for inputs the next time: "
                "give another --out, or none (they go beside it)"
            )
        found: list[Path] = []
        unreadable: Callable[[OSError], None] = lambda e: passed_over.append(Path(e.filename))  # noqa: E731
        for folder, subfolders, files in os.walk(given, onerror=unreadable):
            here = Path(folder)
            subfolders[:] = [
                s
                for s in sorted(subfolders)
                if not s.startswith(".")
                and not s.endswith(RESULT)
                and (out is None or real(here / s) != real(out))
            ]
            for name in sorted(files):
                path = here / name
                if name.startswith(".") or path.stem.endswith(RESULT):
                    continue
                (found if path.suffix.lower() in EXTENSIONS | VIDEO_EXTENSIONS else passed_over).append(path)
        if not found:
            raise UserError(f"{given}: no pictures in this folder")
        found.sort(key=lambda path: natural_key(str(path)))
        root = _folder_beside(given, ending) if out is None else out
        return [(path, root, path.relative_to(given)) for path in found]
    if given.exists() or given.is_symlink():  # a link to nothing is told when its turn comes
        return [(given, given.parent if out is None else out, Path(given.name))]
    matches = sorted(glob.glob(str(given), recursive=True), key=natural_key)  # noqa: PTH207
    if not matches:
        raise UserError(f"{given}: no such file or folder")
    chosen = [m for m in map(Path, matches) if not (m.stem.endswith(RESULT) and len(matches) > 1)]
    return [picture for match in chosen for picture in _pictures(match, out, passed_over, ending)]


def _folder_beside(given: Path, ending: str) -> Path:
    """Where the results of a folder go."""
    folder = given if given.name not in ("", "..") else real(given)
    if not folder.name:
        raise UserError(f"{given}: there is no place beside this folder: give --out FOLDER")
    return folder.with_name(folder.name + ending)


def refuse_overwriting(jobs: Sequence[Job], overwrite: bool, compare: bool, only_missing: bool) -> None:
    """Refuse results that are there already, and those that would replace an input.

    Raises:
        UserError: there is one.
    """
    sources = {real(job.source) for job in jobs}
    written = [path for job in jobs for path in job.results(compare)]
    existing = [path for path in written if path.exists()]
    for path in existing:
        if real(path) in sources:
            raise UserError(f"{path} is an input and would be overwritten: give another output folder")
    if existing and not (overwrite or only_missing):
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise UserError(
            f"{existing[0]}{more} exists already: give another output folder, --overwrite to replace it, or "
            "--only-missing to restore the others"
        )
