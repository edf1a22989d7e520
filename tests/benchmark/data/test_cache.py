"""The decoded cache: right pixels, built once, safe with several processes, kills, full disks and changed files."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.data import cache as module
from benchmark.data.cache import cache_folder, content_key, files_digest, open_cache
from benchmark.data.images import read_image, write_image
from benchmark.data.layouts import Pair, list_pairs
from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError, WorkError


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    rng = np.random.default_rng(0)
    for i in range(8):
        size = (20 + i, 31 - i, 3)
        clean = rng.integers(0, 200, size, dtype=np.uint8)
        if i == 5:
            clean = read_image(tmp_path / "set/target/5.png")  # the fifth background twice
        write_image(tmp_path / f"set/target/{i + 1}.png", clean)
        write_image(tmp_path / f"set/input/{i + 1}.png", clean + 30)
    return list_pairs(dataset_spec("folder"), tmp_path / "set", "train")


def entries(home: Path) -> list[str]:
    return sorted(p.name for p in home.iterdir() if p.suffix != ".lock")


def test_pixels_are_those_of_the_files(pairs: list[Pair], tmp_path: Path) -> None:
    cached = open_cache("set", pairs, tmp_path / "cache")
    assert cached.names == tuple(p.name for p in pairs)
    for i, pair in enumerate(pairs):
        rainy, clean = cached.pair(i)
        np.testing.assert_array_equal(rainy, read_image(pair.rainy))
        np.testing.assert_array_equal(clean, read_image(pair.clean))
        assert not rainy.flags.writeable
    assert cached.groups[4] == cached.groups[5]
    assert len(set(cached.groups)) == 7


def test_it_is_built_once_and_again_when_a_file_changes(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_cache("set", pairs, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_pair", lambda pair: pytest.fail("decoded again"))
        assert open_cache("set", pairs, tmp_path / "cache").digest == first.digest
    write_image(pairs[0].rainy, read_image(pairs[0].rainy) // 2)
    os.utime(pairs[0].rainy, ns=(1, 1))
    second = open_cache("set", pairs, tmp_path / "cache")
    assert second.digest != first.digest
    np.testing.assert_array_equal(second.pair(0)[0], read_image(pairs[0].rainy))
    assert len(entries(tmp_path / "cache")) == 2


def test_two_sets_of_equal_names_sizes_and_times_share_nothing(pairs: list[Pair], tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "set", tmp_path / "other")  # keeps modification times
    other = list_pairs(dataset_spec("folder"), tmp_path / "other", "train")
    assert content_key(other) != content_key(pairs)
    assert content_key(pairs[:-1]) != content_key(pairs)
    for one in (pairs, other):
        open_cache("set", one, tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == 2
    pairs[3].clean.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        content_key(pairs)


def test_a_file_changed_in_place_with_its_time_set_back_is_noticed(pairs: list[Pair], tmp_path: Path) -> None:
    first = open_cache("set", pairs, tmp_path / "cache"), files_digest(pairs, tmp_path / "cache")
    path, before = pairs[0].rainy, pairs[0].rainy.stat()
    path.write_bytes(pairs[0].clean.read_bytes().ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_size == before.st_size
    try:
        assert open_cache("set", pairs, tmp_path / "cache").digest != first[0].digest
    except UserError as error:  # the picture was cut to its old size
        assert "damaged" in str(error)
    assert files_digest(pairs, tmp_path / "cache") != first[1]


def test_the_digest_of_files_is_of_contents_and_pairing(pairs: list[Pair], tmp_path: Path) -> None:
    digest = files_digest(pairs, tmp_path / "cache")
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    moved = list_pairs(dataset_spec("folder"), tmp_path / "moved", "train")
    assert files_digest(moved, tmp_path / "cache") == digest
    swapped = [Pair(p.name, p.clean, p.rainy) for p in pairs]
    assert files_digest(swapped, tmp_path / "cache") != digest
    assert files_digest([*pairs[:-1], replace(pairs[-1], name="else")], tmp_path / "cache") != digest


def test_flipped_bits_are_noticed_decoded_again_and_mended(pairs: list[Pair], tmp_path: Path, capsys) -> None:
    open_cache("set", pairs, tmp_path / "cache")
    (entry,) = [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    data = bytearray((entry / "pixels.bin").read_bytes())
    data[-1] ^= 1  # of the last clean picture
    data[5] ^= 128
    (entry / "pixels.bin").write_bytes(data)
    damaged = open_cache("set", pairs, tmp_path / "cache")
    for cached in (damaged, pickle.loads(pickle.dumps(damaged))):
        for i, pair in enumerate(pairs):
            rainy, clean = cached.pair(i)
            np.testing.assert_array_equal(rainy, read_image(pair.rainy))
            np.testing.assert_array_equal(clean, read_image(pair.clean))
            assert not rainy.flags.writeable
    assert "the decoded pixels of 1 were damaged; decoded again" in capsys.readouterr().err
    mended = open_cache("set", pairs, tmp_path / "cache")
    assert not mended._again and mended.pair(7) and not capsys.readouterr().err
    # the files having changed meanwhile there is nothing to go back to
    (entry / "pixels.bin").write_bytes(data)
    last = open_cache("set", pairs, tmp_path / "cache")
    write_image(pairs[0].rainy, read_image(pairs[0].clean))
    with pytest.raises(WorkError, match="are damaged, and the file has changed since; run the command again"):
        last.pair(0)


@pytest.mark.parametrize("damage", ["short", "no index", "half index", "other version", "another group"])
def test_a_damaged_entry_is_built_anew(pairs: list[Pair], tmp_path: Path, damage: str) -> None:
    whole = open_cache("set", pairs, tmp_path / "cache")
    (entry,) = [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    index = entry / "index.json"
    if damage == "short":
        os.truncate(entry / "pixels.bin", 100)
    elif damage == "no index":
        index.unlink()
    elif damage == "half index":
        index.write_text(index.read_text()[:50])
    elif damage == "other version":
        index.write_text(index.read_text().replace('"version": 2', '"version": 0'))
    else:
        index.write_text(index.read_text().replace(whole.groups[0], whole.groups[1]))
    again = open_cache("set", pairs, tmp_path / "cache")
    assert again.digest == whole.digest
    np.testing.assert_array_equal(again.pair(7)[1], read_image(pairs[7].clean))


def test_a_damaged_picture_leaves_nothing_behind(pairs: list[Pair], tmp_path: Path) -> None:
    pairs[2].rainy.write_bytes(pairs[2].rainy.read_bytes()[:-300])
    with pytest.raises(UserError, match=r"3\.png: is truncated or damaged"):
        open_cache("set", pairs, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_unequal_sizes_are_named(pairs: list[Pair], tmp_path: Path) -> None:
    write_image(pairs[2].rainy, np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(UserError, match="6×5 but its clean image"):
        open_cache("set", pairs, tmp_path / "cache")


def test_a_full_disk_is_noticed_before_and_while_writing(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(WorkError, match="disk is full"):
            open_cache("set", pairs, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
        with pytest.raises(
            WorkError, match=r"0\.0 MiB are free; free some room .* DERAIN_CACHE=FOLDER, or data\.cache="
        ):
            open_cache("set", pairs, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []
    open_cache("set", pairs, tmp_path / "cache")


def test_a_folder_that_cannot_be_made_gets_one_line(pairs: list[Pair], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file stands where"):
        open_cache("set", pairs, tmp_path / "file" / "cache")


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERAIN_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    assert cache_folder("/else") == Path("/else")
    monkeypatch.delenv("DERAIN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "derain"


PROGRAM = """
import sys, time
from pathlib import Path
from benchmark.data import cache
from benchmark.data.layouts import list_pairs
from benchmark.data.specs import dataset_spec
root, home, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
real = cache.read_pair
def slow(pair):
    with open(home.parent / "decoded", "a") as log:
        log.write(pair.name + "\\n")
    time.sleep(pause)
    return real(pair)
cache.read_pair = slow
pairs = list_pairs(dataset_spec("folder"), root, "train")
print(cache.open_cache("set", pairs, home, progress=False, workers=1).digest)
"""


def start(tmp_path: Path, pause: float) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "set"), str(tmp_path / "cache"), str(pause)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_several_processes_build_it_once(pairs: list[Pair], tmp_path: Path) -> None:
    running = [start(tmp_path, 0.05) for _ in range(3)]
    outputs = [p.communicate(timeout=120)[0] for p in running]
    assert [p.returncode for p in running] == [0, 0, 0]
    assert len(set(outputs)) == 1
    assert len((tmp_path / "decoded").read_text().split()) == len(pairs)
    assert len(entries(tmp_path / "cache")) == 1


def test_a_killed_builder_leaves_nothing_that_is_used(pairs: list[Pair], tmp_path: Path) -> None:
    builder = start(tmp_path, 0.5)
    log = tmp_path / "decoded"
    for _ in range(600):
        if log.exists() and len(log.read_text().split()) >= 3:
            break
        time.sleep(0.05)
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    left = entries(tmp_path / "cache")
    assert len(left) == 1 and left[0].endswith(".part")
    cached = open_cache("set", pairs, tmp_path / "cache")
    np.testing.assert_array_equal(cached.pair(6)[0], read_image(pairs[6].rainy))
    (only,) = entries(tmp_path / "cache")
    assert not only.endswith(".part")


def test_without_locks_the_rename_is_enough(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    real = module._build

    def overtaken(part: Path, *arguments: object) -> None:
        real(part, *arguments)  # type: ignore[arg-type]
        entry = part.with_name(part.name.partition(".")[0])
        if not entry.exists():  # another process was quicker by a moment
            shutil.copytree(part, entry)

    monkeypatch.setattr(module, "_build", overtaken)
    cached = open_cache("set", pairs, tmp_path / "cache")
    np.testing.assert_array_equal(cached.pair(2)[0], read_image(pairs[2].rainy))
    assert len(entries(tmp_path / "cache")) == 1
