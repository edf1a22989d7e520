"""Writing files so that a kill, a full disk or a second process never leaves half of one under its name."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmark.errors import DiskFull, UserError, WorkError

WEIGHTS = "weights.safetensors"  # of a run, in its folder
LEFTOVER_PREFIX = ".derain-"
LEFTOVER_SUFFIX = ".tmp"
_SOCKETS = 56  # bytes of a folder's path


_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_failure(path: Path, error: OSError) -> UserError | WorkError:
    """The one line for a write that failed: no permission is the user's (2), a full disk the work's (1)."""
    if error.errno in _FULL:
        return DiskFull(f"{path}: the disk is full or the quota is used up")
    if error.errno in _REFUSED:
        return UserError(f"{path}: no permission to write there; choose another folder")
    if error.errno == errno.ENAMETOOLONG:
        return UserError(f"{path}: the name is too long for this file system; give a shorter one")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return UserError(f"{path}: a file stands where a folder is needed, or the reverse")
    return WorkError(f"{path}: writing failed: {error.strerror or error}")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {'no such file' if not path.exists() else error.strerror}") from error


def explained(error: BaseException, folder: Path) -> UserError | WorkError | None:
    """The one line for an error that other packages let through while they wrote below `folder`.

    None where it does not say that the disk is full, that it may not be written to or that a name is too long.
    """
    if isinstance(error, OSError) and error.errno in (*_FULL, *_REFUSED, errno.EFBIG, errno.ENAMETOOLONG):
        return write_failure(Path(os.fsdecode(error.filename)) if error.filename else folder, error)
    return None


def _of_the_system(error: BaseException) -> OSError | None:
    """The system's error behind another package's: in its chain, or in its words ("os error 28")."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None:
            return seen
        told = re.search(r"\(os error (\d+)\)", str(seen))
        if told:
            return OSError(int(told.group(1)), os.strerror(int(told.group(1))))
        seen = seen.__cause__ or seen.__context__
    return None


def home() -> Path | None:
    """The home folder; None for a user who has none."""
    if os.environ.get("HOME") == "":
        return None
    try:
        return Path.home()
    except RuntimeError:
        return None


def room_for_sockets() -> None:
    """Have this process and its children name their sockets in a short folder where the temporary one's path is long.

    Names of sockets have at most 108 bytes, and some 50 are added to the folder's.

    Raises:
        UserError: there is none to write to.
    """
    given = tempfile.gettempdir()
    if len(os.fsencode(given)) <= _SOCKETS:
        return
    from multiprocessing import util

    for short in ("/tmp", "/var/tmp", "/dev/shm"):
        if os.access(short, os.W_OK | os.X_OK):
            tempfile.tempdir = short
            try:
                util.get_temp_dir()  # which remembers it
            finally:
                tempfile.tempdir = None
            return
    raise UserError(
        f"TMPDIR={given}: too long a path for the sockets of processes ({_SOCKETS} bytes at most): set a shorter one"
    )


def real(path: Path) -> Path:
    """The absolute path behind links; of a link that leads to itself its own, where `Path.resolve` raises."""
    return Path(os.path.realpath(path))


def make_folder(path: Path) -> None:
    """Create a folder and its parents.

    Raises:
        UserError, WorkError: as `write_failure`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(path, error) from None


def temporary_name(folder: Path) -> Path:
    """A name in `folder` that no other process takes, and by which `clean_leftovers` knows whose it was."""
    return folder / f"{LEFTOVER_PREFIX}{_here()}-{os.getpid()}-{secrets.token_hex(4)}{LEFTOVER_SUFFIX}"


def storage_time(folder: Path) -> float:
    """The time by the clock of the storage that holds a folder: file times of other machines compare with it."""
    make_folder(folder)
    probe = temporary_name(folder)
    try:
        with probe.open("x") as file:
            return os.fstat(file.fileno()).st_mtime
    finally:
        probe.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well, removed when not.

    The temporary name is short and hidden, so that it fits where the final name fits and no reader takes
    it for a picture. The folder is created.

    Raises:
        UserError, WorkError: as `write_failure`, for what fails inside the block too.
    """
    make_folder(path.parent)
    temporary = temporary_name(path.parent)
    try:
        yield temporary
        _as_new(temporary)
        temporary.replace(path)
    except (UserError, WorkError):
        raise
    except Exception as error:
        cause = _of_the_system(error)
        if cause is None:
            raise
        raise write_failure(path, cause) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _as_new(path: Path) -> None:
    """Give a file the mode of any other: libraries that make it by themselves make it private."""
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode) and stat.S_IMODE(mode) != 0o666 & ~_umask():
        with contextlib.suppress(OSError):  # file systems without modes
            path.chmod(0o666 & ~_umask())


def _umask() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    before = os.umask(0o077)  # of all threads, for a moment
    os.umask(before)
    return before


@functools.cache
def this_machine() -> str:
    """What tells this machine, since it was started, and this container from others, so that a process number means
    something.
    """
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(
            Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8", errors="replace").strip()
        )
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "/".join(parts)


@functools.cache
def _here() -> str:
    return hashlib.sha256(this_machine().encode()).hexdigest()[:6]


def _writer_is_gone(name: str) -> bool:
    """Whether the process that a temporary file is named after was one of this machine and has ended."""
    told = re.fullmatch(rf"{re.escape(LEFTOVER_PREFIX)}{_here()}-(\d+)-.*", name)
    if told is None:
        return False
    try:
        os.kill(int(told.group(1)), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def require_output(flag: str, path: Path, suffix: str | None, inputs: Iterable[Path | None] = ()) -> None:
    """Refuse to write a file over something else than an earlier one of its kind.

    Args:
        flag: of the command line, for the message.
        path: of the file to be.
        suffix: that its name must end in, so that it is no checkpoint or picture; None: any.
        inputs: files that this command reads.

    Raises:
        UserError: another ending, a folder, one of the inputs, or a place that cannot be written to.
    """
    if suffix is not None and path.suffix.lower() != suffix:
        raise UserError(f"{flag} {path}: the name must end in {suffix}")
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder; give the name of a file")
    if path.exists() and any(
        given is not None and given.exists() and path.samefile(given) for given in inputs
    ):
        raise UserError(f"{flag} {path}: is an input and would be overwritten; give another name")
    require_place(flag, path)


def require_place(flag: str, path: Path) -> None:
    """Refuse, before any work, a file or folder to be made where none can be; nothing is written.

    Raises:
        UserError: what there is of the way to it is a file, or may not be written to.
    """
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise UserError(f"{flag} {path}: {above.name} is a file, not a folder; give another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {path}: no permission to write there; choose another folder")


def require_table(path: Path, command: str, *columns: str, inputs: Iterable[Path | None] = ()) -> None:
    """Refuse a --csv that would replace something else than an earlier table of the same command.

    Args:
        path: of the table to be.
        command: that writes it, for the message.
        columns: the words that its tables begin with, any of them.
        inputs: files that this command reads.

    Raises:
        UserError: as `require_output`, or a file that does not begin so.
    """
    require_output("--csv", path, ".csv", inputs)
    if not path.exists():
        return
    with path.open("rb") as file:
        if not any(file.seek(0) or file.read(len(c)) == c.encode() for c in columns):
            raise UserError(f"--csv {path}: exists and is no table of {command}; give another name")


def clean_leftovers(folder: Path, older_than: float = 3600.0) -> int:
    """Remove temporary files and folders that a killed process left in `folder`; returns how many.

    At once where the writer was a process of this machine that is no more; else (a writer on another host, perhaps)
    what nobody has touched for `older_than` seconds, by the clock of the storage.
    """
    removed, limit = 0, None
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{LEFTOVER_PREFIX}*{LEFTOVER_SUFFIX}"):
            with contextlib.suppress(OSError):
                if not (gone := _writer_is_gone(path.name)):
                    limit = storage_time(folder) - older_than if limit is None else limit
                    gone = path.stat().st_mtime < limit
                if gone:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                    removed += 1
    return removed


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file in one piece."""
    with atomic(Path(path)) as temporary:
        # bytes of a file's name that are not UTF-8 stand as they are written in code: \\udcff
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data as JSON in one piece; infinite numbers become the strings "inf" and "-inf".

    Bytes of a file's name that are not UTF-8 stand as text: `\\udcff` for the byte 255.

    Raises:
        ValueError: there is a NaN in it.
    """
    write_text(path, json.dumps(plain(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def plain(data: Any) -> Any:
    """Plain data as it can be written: infinite numbers as words, text that is not Unicode as `write_text` has it."""
    if isinstance(data, dict):
        return {_encodable(str(k)): plain(v) for k, v in data.items()}
    if isinstance(data, str):
        return _encodable(data)
    if isinstance(data, (list, tuple)):
        return [plain(v) for v in data]
    if isinstance(data, float) and data in (float("inf"), float("-inf")):
        return "inf" if data > 0 else "-inf"
    return data


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def require_writable(folder: str | Path) -> None:
    """Refuse early to work towards a folder that cannot be written to; what a killed writer left there is removed.

    Raises:
        UserError: it cannot be made or written to.
    """
    probe = Path(folder) / ".derain-probe"
    with atomic(probe) as temporary:
        temporary.write_bytes(b"x")
    probe.unlink(missing_ok=True)
    clean_leftovers(Path(folder))


def require_room(folder: Path, size: int, what: str, elsewhere: str) -> None:
    """Refuse early to write `size` bytes to a disk that has not that much room.

    Args:
        folder: on the disk.
        size: bytes.
        what: needs it, for the message.
        elsewhere: the setting that chooses another disk, for the message.

    Raises:
        DiskFull: there is less.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        needed, there = (
            f"{n / 2**20:.1f} MiB" if size < 2**30 else f"{n / 2**30:.1f} GiB" for n in (size, free)
        )
        raise DiskFull(
            f"{folder}: {what} need {needed}, {there} are free",
            f"run it again, or choose another disk: {elsewhere}",
        )
