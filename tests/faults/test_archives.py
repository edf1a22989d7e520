"""Fault 11: archives that reach out of the folder, hold links or devices, or are bombs. Nothing of them is written."""

from __future__ import annotations

import io
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.data import archives
from benchmark.data.archives import Limits, import_archive
from benchmark.errors import UserError, WorkError

RNG = np.random.default_rng(0)


def _picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _dataset(count: int = 3) -> dict[str, bytes]:
    return {
        f"Rain200H/{split}/{side}/{i}.png": _picture(100 * i + 10 * (side == "target") + (split == "test"))
        for split in ("train", "test")
        for side in ("input", "target")
        for i in range(1, count + 1)
    }


def _zip(path: Path, files: dict[str, bytes], packed: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, packed)
    return path


def _tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4777
            archive.addfile(info, io.BytesIO(content))
    return path


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "zip": _zip,
    "tar": _tar,
    "tar.gz": lambda path, files: _tar(path, files, "w:gz"),
    "tar.bz2": lambda path, files: _tar(path, files, "w:bz2"),
    "tar.xz": lambda path, files: _tar(path, files, "w:xz"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_dataset_is_unpacked_recognised_and_checked(tmp_path: Path, kind: str, capsys) -> None:
    archive = MAKERS[kind](
        tmp_path / "download.part", {**_dataset(), "__MACOSX/x": b"", "readme.txt": b"hello"}
    )
    out = tmp_path / "data" / "set"
    words = ["data", "import", str(archive), "-o", str(out)]
    assert main([*words, "--dry-run"]) == 0
    assert "13 files" in capsys.readouterr().out and not (tmp_path / "data").exists()
    assert main(words) == 1, "a set of 3 pairs is not Rain200H as published: said, but imported"
    said = capsys.readouterr().out
    assert "Rain200H train, 3 pairs" in said and "3 here, 1800 published" in said
    for name, content in _dataset().items():
        assert (out / name).read_bytes() == content
    files = [p for p in out.rglob("*") if p.is_file()]
    assert len(files) == 13
    assert not any(p.stat().st_mode & (stat.S_ISUID | 0o111) for p in files), "no permissions of their own"
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["set"]
    assert main(words) == 2, "what is there is not unpacked over"


def test_what_is_audited_is_what_ends_up_there(tmp_path: Path, capsys) -> None:
    archive = _zip(
        tmp_path / "a.zip",
        {
            f"{side}/{i}.png": _picture(10 * i + (side == "target"))
            for side in ("input", "target")
            for i in (1, 2)
        }
        | {"input/3.png": _picture(5), "note.txt": b""},
    )
    out = tmp_path / "Rain200H" / "test"
    assert main(["data", "import", str(archive), "-o", str(out)]) == 1
    imported = capsys.readouterr().out.splitlines()[1:]
    assert main(["data", "check", str(out)]) == 1
    assert imported == capsys.readouterr().out.splitlines()
    assert imported[0].startswith(f"{out}: Rain200H test, 2 pairs")
    assert f"problem: {out}/input/3.png: no clean image of that name in {out}/target" in imported


def test_an_archive_in_an_archive(tmp_path: Path) -> None:
    inner = _zip(tmp_path / "Rain100H.zip", _dataset(1)).read_bytes()
    _refused(
        tmp_path,
        _zip(tmp_path / "a.zip", {"x/Rain100H.zip": inner}),
        "another archive .'x/Rain100H.zip'.: unpack",
    )


def _refused(tmp_path: Path, archive: Path, words: str, limits: Limits | None = None) -> None:
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words) as raised:
        import_archive(archive, tmp_path / "deep" / "out", limits)
    assert (
        str(archive) in str(raised.value)
        and "\n" not in str(raised.value)
        and "\x1b" not in str(raised.value)
    )
    assert sorted(p for p in tmp_path.rglob("*")) == before, "nothing was written"


BAD_NAMES = {
    "../evil.png": "leads out",
    "a/../../evil.png": "leads out",
    "a/..": "leads out",
    "..\\evil.png": "leads out",
    "/etc/passwd": "absolute",
    "\\\\server\\share": "absolute",
    "C:\\evil.png": "absolute",
    "c:evil.png": "absolute",
    "a\x1b[31m/b.png": "control characters",
    "a\nb.png": "control characters",
    "x" * 300 + ".png": "255 bytes",
    "/".join("abcdefghij" * 4): "folders deep",
}


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_names_that_lead_elsewhere(tmp_path: Path, kind: str, name: str) -> None:
    archive = MAKERS[kind](tmp_path / "a", {**_dataset(1), name: b"evil"})
    _refused(tmp_path, archive, BAD_NAMES[name])


def test_a_name_cut_off_by_a_nul(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {**_dataset(1), "good.pngXXXXX": b"evil"})
    archive.write_bytes(archive.read_bytes().replace(b"good.pngXXXXX", b"good.png\0.exe"))
    _refused(tmp_path, archive, "has control characters in its name")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
    ],
)
def test_links_devices_and_pipes_in_tar(tmp_path: Path, kind: bytes, words: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("input/1.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    _refused(tmp_path, tmp_path / "a.tar", words)


@pytest.mark.parametrize(("mode", "words"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device")])
def test_links_and_devices_in_zip(tmp_path: Path, mode: int, words: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("input/1.png")
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    _refused(tmp_path, tmp_path / "a.zip", words)


def test_two_entries_for_one_place(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning):
        for content in (_picture(1), _picture(2)):
            archive.writestr("input/1.png", content)
    _refused(tmp_path, tmp_path / "a.zip", "in it twice")
    _refused(tmp_path, _tar(tmp_path / "a.tar", {"a": b"1", "./a": b"2"}), "in it twice")
    _refused(tmp_path, _tar(tmp_path / "b.tar", {"a": b"1", "a/b": b"2"}), "a file and a folder")


@pytest.mark.parametrize(
    ("flags", "method", "words"),
    [
        (0x1, 8, "encrypted"),  # ZipCrypto
        (0x1, 99, "encrypted"),  # AES
        (0x41, 8, "encrypted"),  # PKWARE's strong one
        (0x2000, 8, "encrypted"),  # the directory too
        (0, 9, r"a method that is not read here .9."),  # Deflate64, which Windows makes of large files
    ],
)
def test_an_encrypted_zip(tmp_path: Path, flags: int, method: int, words: str) -> None:
    archive = _zip(tmp_path / "a.zip", _dataset(1))
    data = bytearray(archive.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(magic, at + 1)) >= 0:
            struct.pack_into("<HH", data, at + place, flags, method)
    archive.write_bytes(data)
    _refused(tmp_path, archive, words)


def _local(name: bytes, crc: int, packed: int, size: int) -> bytes:
    return struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, packed, size, len(name), 0) + name


def _central(name: bytes, crc: int, packed: int, size: int, at: int) -> bytes:
    fields = (b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, packed, size, len(name), 0, 0, 0, 0, 0, at)
    return struct.pack("<4s6H3I5H2I", *fields) + name


def _with_directory(body: bytes, entries: list[bytes]) -> bytes:
    directory = b"".join(entries)
    count = len(entries)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end


def _quoting(contents: bytes, count: int) -> bytes:
    """Fifield's bomb: each file's data quote the next file's header, and go on with that one's data."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed, plain = packer.compress(contents) + packer.flush(), contents
    body, places = b"", []
    for i in reversed(range(count)):
        header = _local(b"input/%d.png" % i, zlib.crc32(plain), len(packed), len(plain))
        places = [(i, zlib.crc32(plain), len(packed), len(plain)), *places]
        body = header + packed
        packed = struct.pack("<BHH", 0, len(header), len(header) ^ 0xFFFF) + header + packed
        plain = header + plain
    entries = []
    for i, crc, length, size in places:
        at = len(body) - (length + len(_local(b"input/%d.png" % i, 0, 0, 0)))
        entries.append(_central(b"input/%d.png" % i, crc, length, size, at))
    return _with_directory(body, entries)


def test_entries_that_lie_over_each_other(tmp_path: Path) -> None:
    path = tmp_path / "quoting.zip"
    path.write_bytes(_quoting(_picture(1), 5))
    with zipfile.ZipFile(path) as opened:
        assert opened.read("input/4.png") == _picture(1), "a sound zip to its reader"
    _refused(tmp_path, path, "laid over another entry")
    packed = zlib.compress(_picture(1), 9)[2:-4]
    about = (zlib.crc32(_picture(1)), len(packed), len(_picture(1)))
    body = _local(b"input/0.png", *about) + packed
    shared = [_central(b"input/%d.png" % i, *about, 0) for i in range(5)]
    (tmp_path / "shared.zip").write_bytes(_with_directory(body, shared))
    _refused(tmp_path, tmp_path / "shared.zip", "laid over another entry")


def test_a_zip_of_very_many_entries_is_refused_before_they_are_read(tmp_path: Path, monkeypatch) -> None:
    archive = _zip(tmp_path / "a.zip", {f"input/{i}.png": b"" for i in range(1001)})
    monkeypatch.setattr(zipfile, "ZipFile", None)
    _refused(tmp_path, archive, "more than 1,000 files", Limits(files=1000))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_folders_and_clutter_count_as_files_do(tmp_path: Path, kind: str) -> None:
    for names in ([f"input/{i}/" for i in range(30)], [f"__MACOSX/{i}" for i in range(30)]):
        archive = MAKERS[kind](tmp_path / "a", dict.fromkeys(names, b""))
        _refused(tmp_path, archive, "more than 20 files", Limits(files=20))


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_in_tar(tmp_path: Path, form: str) -> None:
    told = shutil.which("tar") and subprocess.run(["tar", "--version"], capture_output=True, text=True).stdout
    if not told or "GNU tar" not in told:
        pytest.skip("no GNU tar, which writes sparse files")
    buffer = io.BytesIO()
    Image.new("RGB", (300, 300)).save(buffer, "BMP")
    black = buffer.getvalue()
    for side in ("input", "target"):
        (tmp_path / "set" / side).mkdir(parents=True)
        with (tmp_path / "set" / side / "1.bmp").open("wb") as file:
            file.write(black[:54])
            file.truncate(len(black))
    words = ["--format=gnu"] if form == "gnu" else ["--format=posix", f"--sparse-version={form}"]
    subprocess.run(["tar", "-S", *words, "-cf", "sparse.tar", "set"], cwd=tmp_path, check=True)
    assert (tmp_path / "sparse.tar").stat().st_size < len(black), "the holes are not in it"
    import_archive(tmp_path / "sparse.tar", tmp_path / "out")
    assert (tmp_path / "out/set/input/1.bmp").read_bytes() == black
    with (tmp_path / "set/input/1.bmp").open("ab") as file:
        file.truncate(1 << 40)
    subprocess.run(["tar", "-S", *words, "-cf", "huge.tar", "set"], cwd=tmp_path, check=True)
    _refused(tmp_path, tmp_path / "huge.tar", "more than 64 GiB")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("input/Rain.png", "input/rain.png"),
        ("input/caf\u00e9.png", "input/cafe\u0301.png"),
        ("input/STRASSE.png", "input/stra\u00dfe.png"),
        ("Input/1.png", "input/2.png"),
    ],
)
def test_names_that_are_one_name_elsewhere(tmp_path: Path, kind: str, one: str, other: str) -> None:
    archive = MAKERS[kind](tmp_path / "a", {one: _picture(1), other: _picture(2)})
    _refused(tmp_path, archive, "are one name on some systems")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_bombs(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_UNSUSPICIOUS", 1 << 20)
    archive = MAKERS[kind](tmp_path / "a", {"input/1.png": b"\0" * (8 << 20)})
    _refused(tmp_path, archive, r"100 times its size.*--max-ratio")
    _refused(tmp_path, archive, "0.00390625 GiB.*--max-size", Limits(size=4 << 20, ratio=1e9))
    many = MAKERS[kind](tmp_path / "b", {f"input/{i}.png": b"" for i in range(30)})
    _refused(tmp_path, many, "more than 20 files.*--max-files", Limits(files=20))


def test_headers_that_unpack_to_more_than_the_files(tmp_path: Path) -> None:
    """What comes out of the stream is counted, not what the entries say of themselves."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for i in range(4):
            info = tarfile.TarInfo(f"input/{i}.png")
            info.pax_headers = {"comment": "x" * 900_000}
            archive.addfile(info)
    _refused(tmp_path, tmp_path / "a.tar.gz", "GiB unpacked.*--max-size", Limits(size=1 << 20, files=10))


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"input/1.png": b"\0" * 5000})
    data = archive.read_bytes()
    assert data.count((5000).to_bytes(4, "little")) >= 2
    archive.write_bytes(data.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    _refused(tmp_path, archive, "damaged|announces")


def test_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("input/1.png")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 20480)
    _refused(tmp_path, tmp_path / "a.tar", "a header of 8589934592 bytes|damaged")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no archive"),
        (b"<html>Not found</html>", "no archive"),
        (b"PK\x03\x04 and nothing more", "no archive"),
        (b"\x1f\x8b and nothing more", "no archive"),
        (b"Rar!\x1a\x07\x00", "RAR"),
        (b"\0" * 20480, "no pictures|no archive"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    _refused(tmp_path, tmp_path / "a.zip", words)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_download_that_was_cut_off(tmp_path: Path, kind: str) -> None:
    archive = MAKERS[kind](tmp_path / "a", _dataset())
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size * 2 // 3])
    _refused(tmp_path, archive, "damaged|no archive")


def test_an_archive_without_pictures_and_other_mistakes(tmp_path: Path) -> None:
    _refused(tmp_path, _zip(tmp_path / "a.zip", {"readme.txt": b"hello"}), "is no dataset: .*no pictures")
    with pytest.raises(UserError, match="no such file"):
        import_archive(tmp_path / "none.zip", tmp_path / "out")
    assert (
        main(["data", "import", str(tmp_path / "a.zip"), "-o", str(tmp_path / "x"), "--max-files", "0"]) == 2
    )


def test_a_full_disk_and_a_kill_leave_nothing_that_is_used(tmp_path: Path, monkeypatch) -> None:
    archive = _zip(tmp_path / "a.zip", _dataset())
    out = tmp_path / "data" / "out"

    def full(path: Path, size: int, what: str, elsewhere: str) -> None:
        raise WorkError(f"{path}: {what} need more")

    with monkeypatch.context() as patch:
        patch.setattr(archives, "require_room", full)
        with pytest.raises(WorkError, match="the unpacked files need more"):
            import_archive(archive, out)
    code = (
        "import os, signal\n"
        "from benchmark.data import archives\n"
        "archives._audited = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"archives.import_archive({str(archive)!r}, {str(out)!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert not out.exists() and len(list(out.parent.iterdir())) == 1
    import_archive(archive, out)
    assert [p.name for p in out.parent.iterdir()] == ["out"], "the leftover is gone"
