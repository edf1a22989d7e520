"""Unpacking a dataset that came as an archive: looked through before anything is written, all of it or nothing.

Zip and tar (plain, gzip, bzip2, xz) are told by their content. Every entry is looked at first. Refused are entries
that lead out of the folder (`..`, an absolute path, a drive), links, devices and pipes, two entries for one place or
for names that are one name elsewhere (by case, or by the form of an accent), encrypted ones, entries that lie over each
other (D. Fifield, "A better zip bomb", WOOT 2019), and more files, bytes or compression than the limits allow. What is
unpacked are plain files without permissions of their own, into a temporary folder beside the final one, which is
renamed when it is whole and holds pictures.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from benchmark.data.images import EXTENSIONS
from benchmark.data.layouts import ARCHIVES, CLUTTER, same_name
from benchmark.errors import UserError, WorkError
from benchmark.files import clean_leftovers, make_folder, require_room, temporary_name, write_failure
from benchmark.text.progress import bar

if TYPE_CHECKING:
    from benchmark.data.audit import Report

_CHUNK = 1 << 20
_HEADER = 1 << 20  # bytes that the extended header of one entry of a tar file may have
_UNSUSPICIOUS = 64 << 20  # bytes: below this it does not matter how well they were packed
_LONGEST = 255  # bytes of a name
_DEEPEST = 32
_TAR_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold: far above the published sets (Rain1200: 13,200 files, 7 GB), far below a bomb."""

    size: int = 64 << 30  # bytes, unpacked
    files: int = 200_000
    ratio: float = 100.0  # unpacked to packed; photographs are packed already, so theirs is near 1


@dataclass(frozen=True)
class Imported:
    """What was in an archive, and what the audit says of it."""

    out: Path
    files: int
    size: int  # bytes
    folders: dict[str, int] = field(default_factory=dict)  # folder inside the archive: files in it
    report: Report | None = None  # None: nothing was unpacked


@dataclass(frozen=True)
class _Entry:
    """A file inside an archive: its place below the folder and how many bytes it says it has."""

    path: PurePosixPath
    size: int


class _CarefulTarInfo(tarfile.TarInfo):
    """Refuses an extended header that would be read into memory whole and is too large to be one."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _TAR_HEADERS and self.size > _HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


class _Counted(io.RawIOBase):
    """Reads on, and gives up when more comes out than may."""

    def __init__(self, source: IO[bytes], most: int, complaint: Callable[[], UserError]) -> None:
        self.source, self.left, self.complaint = source, most, complaint

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes.

        Raises:
            UserError: more than may be.
        """
        data = self.source.read(_CHUNK if size < 0 else min(size, _CHUNK))
        self.left -= len(data)
        if self.left < 0:
            raise self.complaint()
        return data


def import_archive(
    archive: str | Path,
    out: str | Path,
    limits: Limits | None = None,
    dry_run: bool = False,
    progress: bool = True,
) -> Imported:
    """Unpack an archive into a new dataset folder and look at what is there.

    Args:
        archive: a zip or tar file.
        out: the dataset's folder; it must not exist, or be empty. Its name counts in telling which dataset it is.
        limits: how much may be in it.
        dry_run: look through the archive, write nothing.
        progress: show bars on stderr.

    Raises:
        UserError: no archive, damaged, something in it that is refused, no pictures in it, or `out` is in the way.
        WorkError: the disk is full.
    """
    archive, out, limits = Path(archive), Path(out), limits or Limits()
    kind = _kind(archive)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: is there already; give a new folder for the dataset")
    entries = _looked_through(archive, kind, limits)
    size = sum(e.size for e in entries)
    folders = dict(sorted(Counter(str(e.path.parent) for e in entries).items()))
    if dry_run:
        return Imported(out, len(entries), size, folders)
    made = [folder for folder in out.absolute().parents if not folder.exists()]
    make_folder(out.parent)
    clean_leftovers(out.parent)
    require_room(out.parent, size, "the unpacked files", "-o FOLDER")
    temporary = temporary_name(out.parent)
    try:
        whole = temporary / out.name
        make_folder(whole)
        _unpack(archive, kind, limits, entries, whole, progress)
        report = _audited(archive, whole, out, progress)
        try:
            if out.exists():
                out.rmdir()
            whole.rename(out)
        except OSError as error:
            raise write_failure(out, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # not empty, where all went well
                folder.rmdir()
    return Imported(out, len(entries), size, folders, report)


def _audited(archive: Path, folder: Path, out: Path, progress: bool) -> Report:
    from benchmark.data.audit import check

    try:
        return check(folder, progress=progress, place=out)
    except UserError as error:
        reason = str(error).replace(str(folder), "").lstrip(": ")
        raise UserError(f"{archive}: is no dataset: {reason}") from None


def _kind(archive: Path) -> str:
    """ "zip", or how a tar file is packed: "", "gzip", "bzip2", "xz"."""
    try:
        with archive.open("rb") as file:
            start = file.read(8)
    except FileNotFoundError:
        raise UserError(f"{archive}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{archive}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    for kind, magics in (
        ("zip", (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")),
        ("gzip", (b"\x1f\x8b",)),
        ("bzip2", (b"BZh",)),
        ("xz", (b"\xfd7zXZ\0",)),
    ):
        if start.startswith(magics):
            return kind
    if start.startswith((b"7z\xbc\xaf", b"Rar!")):
        raise UserError(
            f"{archive}: 7z and RAR are not read here; unpack it, then run: derain data check FOLDER"
        )
    return ""


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """What goes wrong in reading the archive, as the user's line."""
    try:
        yield
    except (UserError, WorkError):
        raise
    except MemoryError:
        raise UserError(f"{archive}: asks for more memory than there is; it is damaged or hostile") from None
    except Exception as error:  # hostile bytes make the readers raise nearly anything
        words = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"{archive}: is no archive (zip, tar, tar.gz, bz2 or xz) or is damaged: {words}"
        ) from None


def _looked_through(archive: Path, kind: str, limits: Limits) -> list[_Entry]:
    """Every file in the archive, all of it found harmless."""
    entries: list[_Entry] = []
    places: dict[PurePosixPath, bool] = {}  # True: a file
    alike: dict[str, PurePosixPath] = {}
    total = 0
    packed = archive.stat().st_size
    with _reading(archive):
        for count, (name, size, is_file, fault) in enumerate(_entries(archive, kind, limits), 1):
            shown = _shown(name)
            if fault:
                raise UserError(f"{archive}: '{shown}' is {fault}; nothing was unpacked")
            _within(archive, limits, count, total, packed)
            path = _place(archive, name)
            if path is None or _is_clutter(path):
                continue
            total += size
            _within(archive, limits, count, total, packed)
            _claim(archive, places, path, is_file)
            _unlike(archive, alike, path)
            if is_file:
                entries.append(_Entry(path, size))
    if not any(e.path.suffix.lower() in EXTENSIONS for e in entries):
        inner = [str(e.path) for e in entries if e.path.suffix.lower() in ARCHIVES]
        hint = (
            f", but another archive ('{_shown(inner[0])}'): unpack it, and import that one" if inner else ""
        )
        raise UserError(f"{archive}: is no dataset: there are no pictures in it{hint}")
    return entries


def _entries(archive: Path, kind: str, limits: Limits) -> Iterator[tuple[str, int, bool, str]]:
    """(name, size, whether it is a file, what is wrong with it) of everything in the archive."""
    if kind == "zip":
        _count_entries(archive, limits)
        with zipfile.ZipFile(archive) as opened:
            over = _overlapping(opened)
            for info in opened.infolist():
                fault = _FAULTS.get(stat.S_IFMT(info.external_attr >> 16), "")
                if info.compress_type not in _METHODS:
                    fault = f"packed by a method that is not read here ({info.compress_type})"
                if info is over:
                    fault = "laid over another entry, as in bombs"
                if info.flag_bits & _ENCRYPTED or info.compress_type == _AES:
                    fault = "encrypted"
                # what follows a NUL in a name is cut off by the reader, and may be another name
                yield info.orig_filename, info.file_size, not info.is_dir(), fault
        return
    with _tar(archive, kind, limits) as opened_tar:
        for member in opened_tar:
            fault = "" if member.isreg() or member.isdir() else _TAR_FAULTS.get(member.type, "no plain file")
            yield member.name, member.size if member.isreg() else 0, member.isreg(), fault


_ENCRYPTED = 0x1 | 0x40 | 0x2000  # the entry; strongly; the directory's entry
_AES = 99
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def _count_entries(archive: Path, limits: Limits) -> None:
    """Refuse a zip with too many entries before they are read, which takes 600 bytes of memory for each.

    Raises:
        UserError: there are too many.
    """
    end = zipfile._EndRecData  # type: ignore[attr-defined]
    with archive.open("rb") as file:
        record = end(file)
        if record is None:
            return  # zipfile says what is wrong
        # the directory lies before its end record; a 64-bit one has two more records between
        size, place = record[5], record[9]
        extra = 76 if record[0] == b"PK\x06\x06" else 0
        file.seek(max(0, place - extra - size))
        count, left, tail = 0, size, b""
        while left > 0 and (data := file.read(min(left, _CHUNK))):
            left -= len(data)
            count += (tail + data).count(b"PK\x01\x02")
            tail = data[-3:]
            _within(archive, limits, count, 0, 0)


def _overlapping(opened: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    """An entry whose data reach into the next one's."""
    entries = sorted(opened.infolist(), key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in entries[1:]), opened.start_dir]
    header = 30  # bytes, before the name
    for info, following in zip(entries, starts, strict=False):
        # the name's length in bytes is at least its length in characters
        if info.header_offset + header + len(info.orig_filename) + info.compress_size > following:
            return info
    return None


_FAULTS = {
    stat.S_IFLNK: "a link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
_TAR_FAULTS = {
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@contextlib.contextmanager
def _tar(archive: Path, kind: str, limits: Limits) -> Iterator[tarfile.TarFile]:
    """The tar file as a stream, out of which no more comes than the limits allow."""
    openers: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open, "": open}
    packed = archive.stat().st_size
    # headers and padding come on top of the files
    most = int(min(limits.size, max(_UNSUSPICIOUS, limits.ratio * packed))) + 2048 * limits.files + _HEADER

    def complaint() -> UserError:
        return _too_much(archive, limits, most)

    with openers[kind](archive, "rb") as source:
        counted: Any = _Counted(source, most, complaint)
        with tarfile.open(fileobj=counted, mode="r|", tarinfo=_CarefulTarInfo) as opened:
            yield opened


def _within(archive: Path, limits: Limits, files: int, total: int, packed: int) -> None:
    if files > limits.files:
        raise UserError(
            f"{archive}: more than {limits.files:,} files; if that is right, raise --max-files. Nothing was unpacked"
        )
    if total > limits.size or (total > _UNSUSPICIOUS and total > limits.ratio * packed):
        raise _too_much(archive, limits, total)


def _too_much(archive: Path, limits: Limits, total: int) -> UserError:
    if total > limits.size:
        return UserError(
            f"{archive}: more than {limits.size / 2**30:g} GiB unpacked; if that is right, raise --max-size. "
            "Nothing was unpacked"
        )
    return UserError(
        f"{archive}: unpacks to more than {limits.ratio:g} times its size, as bombs do and photographs do not; if that "
        "is right, raise --max-ratio. Nothing was unpacked"
    )


def _shown(name: str) -> str:
    """A name for a message: no line break and nothing that a terminal obeys."""
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _place(archive: Path, name: str) -> PurePosixPath | None:
    """Where an entry goes below the folder; None for the folder itself.

    Raises:
        UserError: it leads out of the folder, or is no name that a file can have.
    """

    def refused(why: str) -> UserError:
        return UserError(f"{archive}: '{_shown(name)}' {why}; nothing was unpacked")

    plain = name.replace("\\", "/")  # archives made on Windows; and `..\` leads out there too
    if plain.startswith("/") or (len(plain) > 1 and plain[1] == ":"):
        raise refused("is an absolute path")
    parts = [p for p in plain.split("/") if p not in ("", ".")]
    if ".." in parts:
        raise refused("leads out of the folder")
    if any(ord(c) < 32 or ord(c) == 127 for c in plain):
        raise refused("has control characters in its name")
    if len(parts) > _DEEPEST:
        raise refused(f"lies more than {_DEEPEST} folders deep")
    try:
        if any(len(p.encode()) > _LONGEST for p in parts):
            raise refused(f"has a name of more than {_LONGEST} bytes")
    except UnicodeEncodeError:
        raise refused("has a name that is no Unicode") from None
    return PurePosixPath(*parts) if parts else None


def _is_clutter(path: PurePosixPath) -> bool:
    """What operating systems add to archives."""
    return path.parts[0] in CLUTTER or path.name in CLUTTER


def _claim(archive: Path, places: dict[PurePosixPath, bool], path: PurePosixPath, is_file: bool) -> None:
    """Note that a file (or folder) lies at `path`.

    Raises:
        UserError: something else does.
    """
    taken = places.get(path)
    if taken is not None and (taken or is_file):
        raise UserError(f"{archive}: '{_shown(str(path))}' is in it twice; nothing was unpacked")
    places[path] = is_file
    for parent in path.parents:
        if parent.name and places.setdefault(parent, False):
            raise UserError(
                f"{archive}: '{_shown(str(parent))}' is a file and a folder in it; nothing was unpacked"
            )


def _unlike(archive: Path, alike: dict[str, PurePosixPath], path: PurePosixPath) -> None:
    """Note a path and the folders above it.

    Raises:
        UserError: on some systems it would be the same as another.
    """
    for one in (path, *path.parents):
        other = alike.setdefault(same_name(str(one)), one)
        if other != one:
            raise UserError(
                f"{archive}: '{_shown(str(other))}' and '{_shown(str(one))}' differ in case or in the form of an "
                "accent alone, and are one name on some systems; rename one, or unpack it by hand. Nothing was unpacked"
            )
        if other is not one:
            break  # noted before, and the folders above it with it


def _unpack(
    archive: Path, kind: str, limits: Limits, entries: list[_Entry], folder: Path, progress: bool
) -> None:

    wanted = {e.path: e.size for e in entries}
    with (
        bar(f"unpacking {len(entries)} files", len(entries), progress, always=False) as step,
        _reading(archive),
    ):
        for name, source in _contents(archive, kind, limits):
            path = _place(archive, name)
            if path is None or path not in wanted:
                continue
            _copy(archive, source, folder.joinpath(*path.parts), wanted.pop(path))
            step.advance()
    if wanted:
        raise UserError(f"{archive}: changed while it was read; run it again")


def _contents(archive: Path, kind: str, limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    if kind == "zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    with opened.open(info) as source:
                        yield info.orig_filename, source
        return
    with _tar(archive, kind, limits) as opened_tar:
        for member in opened_tar:
            extracted = opened_tar.extractfile(member) if member.isreg() else None
            if extracted is not None:
                yield member.name, extracted


def _copy(archive: Path, source: IO[bytes], target: Path, size: int) -> None:
    make_folder(target.parent)
    copied = 0
    try:
        file = target.open("xb")
    except OSError as error:
        raise write_failure(target, error) from None
    with file:
        while data := source.read(_CHUNK):
            copied += len(data)
            if copied > size:
                break
            try:
                file.write(data)
            except OSError as error:
                raise write_failure(target, error) from None
    if copied != size:
        raise UserError(
            f"{archive}: '{_shown(target.name)}' does not have the {size} bytes it announces; nothing was unpacked"
        )
