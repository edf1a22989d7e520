"""Fault 21: what is executed from a cache is this user's own, whole, and made by nobody else.

The kernels' C is replaced by a function of one line: these tests are about where it comes from.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from esdnet import native, owned

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "answer.c"
    path.write_text("int answer(void) { return 42; }\n")
    return str(path)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache of these tests; what was compiled before is looked for anew."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DERAIN_CACHE", str(folder))
    native.compiled.cache_clear()
    yield folder
    native.compiled.cache_clear()


def _answer(source: str) -> int:
    """As another process: nothing is remembered."""
    native.compiled.cache_clear()
    library = native.compiled(source)
    assert library is not None
    return int(library.answer())


def _kept(place: Path) -> Path:
    (folder,) = place.iterdir()
    (made,) = folder.glob("*.so")
    return made


def _evil(source: str, tmp_path: Path) -> bytes:
    other = tmp_path / "evil.c"
    other.write_text("int answer(void) { return 666; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", str(other), "-o", str(tmp_path / "evil.so")], check=True)
    return (tmp_path / "evil.so").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"",
        lambda whole: whole[:900] + bytes([whole[900] ^ 1]) + whole[901:],
    ],
    ids=["cut", "empty", "a bit"],
)
def test_a_library_that_is_not_whole_is_compiled_anew(source: str, place: Path, damage) -> None:
    assert _answer(source) == 42
    made = _kept(place)
    whole = made.read_bytes()
    made.write_bytes(damage(whole))
    assert _answer(source) == 42
    assert owned.unsealed(made.stem.rpartition("-")[2], made) is not None, "it is healed"


def test_a_library_that_is_cut_while_it_is_used_hurts_nobody(source: str, place: Path) -> None:
    """A mapped file that is cut ends the process with SIGBUS: here in one of its own."""
    code = (
        "import sys; from pathlib import Path; from esdnet import native\n"
        f"library = native.compiled({source!r})\n"
        f"for made in Path({str(place)!r}).rglob('*.so'): made.open('r+b').truncate(0)\n"
        "print(library.answer())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "42\n", done.stderr


def test_code_that_others_could_have_written_is_not_loaded(source: str, place: Path, tmp_path: Path) -> None:
    assert _answer(source) == 42
    made = _kept(place)
    key = made.stem.rpartition("-")[2]
    made.write_bytes(owned.seal(key, _evil(source, tmp_path)))
    assert _answer(source) == 666, "the digest alone keeps no one out"
    made.chmod(0o666)
    assert _answer(source) == 42, "others can write to the file"
    made.unlink()
    made.symlink_to(tmp_path / "elsewhere.so")
    (tmp_path / "elsewhere.so").write_bytes(owned.seal(key, _evil(source, tmp_path)))
    assert _answer(source) == 42, "a link to another's"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_code_of_another_user_is_not_loaded(source: str, place: Path, tmp_path: Path, what: str) -> None:
    assert _answer(source) == 42
    made = _kept(place)
    made.write_bytes(owned.seal(made.stem.rpartition("-")[2], _evil(source, tmp_path)))
    os.chown(made if what == "file" else made.parent, 12345, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert _answer(source) == 42
    if what == "folder":
        native.compiled.cache_clear()
        with pytest.warns(UserWarning, match="no folder there that this user alone can write to"):
            native.compiled(source)


def test_a_folder_that_others_could_write_to_is_closed(source: str, place: Path) -> None:
    assert _answer(source) == 42
    folder = _kept(place).parent
    folder.chmod(0o777)
    assert _answer(source) == 42
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_no_umask_opens_it(source: str, place: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        assert _answer(source) == 42
    finally:
        os.umask(before)
    made = _kept(place)
    assert made.parent.stat().st_mode & 0o777 == 0o700 and made.stat().st_mode & 0o777 == 0o600


def test_no_home_is_no_matter(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DERAIN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, and no such user
    with pytest.warns(UserWarning, match="no home"):
        assert native.compiled(source).answer() == 42  # type: ignore[union-attr]
    monkeypatch.undo()
    monkeypatch.setenv("DERAIN_CACHE", "/proc/nobody/writes/here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert _answer(source) == 42


def test_a_tilde_is_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DERAIN_CACHE", "~/mine")
    assert owned.cache() == tmp_path / "mine"


def test_a_compiler_that_hangs_is_ended_and_not_asked_again(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler, started = tmp_path / "slow", tmp_path / "started"
    compiler.write_text(f"#!/bin/sh\nsleep 600 &\necho $! >> {started}\nwait\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setattr(native, "_PATIENCE", 1.0)
    monkeypatch.setattr(native, "_hanging", set())
    for _ in range(2):
        native.compiled.cache_clear()
        with pytest.warns(UserWarning, match="did not end"):
            assert native.compiled(source) is None
    (child,) = started.read_text().split()
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]


def test_a_library_is_loaded_without_memory_files_too(
    source: str, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    def missing(name: str) -> int:
        raise OSError("not here")

    monkeypatch.setattr(os, "memfd_create", missing)
    assert _answer(source) == 42
    assert [p.suffix for p in _kept(place).parent.iterdir()] == [".so"], "nothing is left beside it"


def test_two_libraries_are_two(source: str, tmp_path: Path) -> None:
    other = tmp_path / "other.c"
    other.write_text("int answer(void) { return 7; }\n")
    first, second = native.compiled(source), native.compiled(str(other))
    assert isinstance(first, ctypes.CDLL) and isinstance(second, ctypes.CDLL)
    assert (first.answer(), second.answer()) == (42, 7)


@pytest.mark.parametrize("safe", [True, False])
def test_triton_keeps_its_kernels_where_nobody_else_can_write(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe: bool
) -> None:
    folder = tmp_path / "triton"
    (folder / "kernel").mkdir(parents=True)
    (folder / "kernel" / "launcher.so").write_bytes(b"")
    (folder / "kernel" / "launcher.so").chmod(0o644 if safe else 0o666)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))
    owned.guard_triton.cache_clear()
    owned.guard_triton()
    kept = Path(os.environ["TRITON_CACHE_DIR"])
    assert kept == (folder if safe else place / f"triton-{os.geteuid()}")
    assert safe or kept.stat().st_mode & 0o777 == 0o700
    owned.guard_triton.cache_clear()
