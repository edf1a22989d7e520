"""Records that were cut, changed by hand, or made by another version; and how they are written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import UserError
from benchmark.files import atomic, write_text
from benchmark.run import records
from benchmark.run.records import RECORD, find_record, read_record, write_record
from benchmark.sources import code_digest
from benchmark.spec import resolve


def _record() -> dict[str, Any]:
    rows = [{"name": str(i), "psnr_esdnet": 30.0 + i, "psnr_matlab": 29.0} for i in range(3)]
    rows[2]["psnr_matlab"] = float("inf")
    mean = {"n": 3, "infinite": {"psnr_matlab": 1}, "psnr_esdnet": 31.0, "psnr_matlab": 29.0}
    return {
        **{"identity": "abc", "name": "run", "config": {"seed": 0}},
        "results": {"rain200h": {"mean": mean, "images": rows}},
    }


def _of(record: dict[str, Any]) -> dict[str, Any]:
    return record["results"]["rain200h"]


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "mean": (lambda r: _of(r)["mean"].update(psnr_esdnet=33.0), "psnr_esdnet of rain200h is 33.0, the mean"),
    "image": (lambda r: _of(r)["images"][0].update(psnr_esdnet=33.0), "changed by hand: psnr_esdnet"),
    "count": (lambda r: _of(r)["images"].pop(), "has 2 images, and says 3"),
    "metric": (lambda r: _of(r)["images"][1].pop("psnr_esdnet"), "an image of rain200h has no psnr_esdnet"),
    "no images": (lambda r: _of(r).pop("images"), "no mean or no images of rain200h"),
    "results": (lambda r: r.pop("results"), "not a whole record \\(no results\\)"),
    "identity": (lambda r: r.pop("identity"), "not a whole record \\(no identity\\)"),
    "kind": (lambda r: r.update(config=[], results=3), "no config and no results"),
    "later": (lambda r: r.update(format=2), "a later version of this suite \\(format 2, this one reads 1\\)"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_record_that_is_not_as_it_was_written_is_named(tmp_path: Path, damage: str) -> None:
    write_record(tmp_path, _record())
    assert read_record(tmp_path) is not None
    change, told = DAMAGES[damage]
    record = json.loads((tmp_path / RECORD).read_text())
    change(record)
    (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"{RECORD}: .*{told}.*to run again"):
        read_record(tmp_path)


def test_a_nan_or_half_a_record_is_no_record(tmp_path: Path) -> None:
    write_record(tmp_path, _record())
    whole = (tmp_path / RECORD).read_text()
    for text in (whole.replace("31.0", "NaN"), whole[: len(whole) // 2]):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(UserError, match="not a readable record"):
            read_record(tmp_path)


def test_names_that_are_not_utf_8_are_written_as_text(tmp_path: Path) -> None:
    """A picture of such a name was trained and tested on: the record of it must not fail at the end."""
    name = os.fsdecode(b"regen\xff.png")
    record = _record()
    _of(record)["images"][0]["name"] = name
    write_record(tmp_path, {**record, name: 1})
    again = read_record(tmp_path)
    assert again is not None
    assert _of(again)["images"][0]["name"] == r"regen\udcff.png" in again
    write_text(tmp_path / "table.csv", f"{name},1\nschön,2\n")
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == "regen\\udcff.png,1\nschön,2\n"


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o000])
def test_the_umask_is_for_files_of_libraries_too(tmp_path: Path, mask: int) -> None:
    """Weights are written by a library that makes files private, whatever they are for."""
    import torch
    from safetensors.torch import save_model

    before = os.umask(mask)
    try:
        with atomic(tmp_path / "weights.safetensors") as temporary:
            save_model(torch.nn.Conv2d(1, 1, 1), str(temporary))
        write_text(tmp_path / "text", "")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o666 & ~mask}, modes


@pytest.mark.parametrize(
    ("told", "off", "sound"),
    [(31.0, 2e-5, True), (31.0, 5e-5, False), (0.5, 9e-7, True), (0.5, 1.05e-6, False)],
)
def test_a_mean_may_differ_by_rounding_alone(tmp_path: Path, told: float, off: float, sound: bool) -> None:
    rows = [{"name": "a", "psnr_esdnet": told}]
    result = {"mean": {"n": 1, "infinite": {}, "psnr_esdnet": told + off}, "images": rows}
    write_record(tmp_path, {**_record(), "results": {"rain200h": result}})
    if sound:
        assert read_record(tmp_path) is not None
    else:
        with pytest.raises(UserError, match="changed by hand"):
            read_record(tmp_path)


WORDS = ["model=prenet", "data=embedded-light", "recipe=embedded"]


def test_a_record_is_found_where_its_run_is_and_only_of_its_configuration(tmp_path: Path) -> None:
    config = resolve([*WORDS, f"out={tmp_path}"])
    folder = config.folder
    assert folder == tmp_path / "embedded" / config.name
    assert find_record(config) is None and read_record(folder) is None
    write_record(folder, {**_record(), "identity": config.identity})
    found = find_record(config)
    assert found is not None and found["identity"] == config.identity
    write_record(folder, {**_record(), "config": found["config"]})
    with pytest.raises(UserError, match=rf"is of configuration abc, not {config.identity} \(.+\)$"):
        find_record(config)


def test_what_is_passed_on_names_no_folder() -> None:
    told = "derain study /data/bsds500 --real /home/a/real --runs runs/x data.root=/data/rain 'out=/a b/c' -m a/b/c"
    assert records.without_folders(told) == (
        "derain study bsds500 --real real --runs runs/x data.root=rain 'out=/a b/c' -m a/b/c"
    )
    records.typed(["derain", "cost", "--out", "/somebody/elses/cost"])
    try:
        assert records.shared_provenance()["command"] == "derain cost --out cost"
    finally:
        records.typed([])


def test_what_made_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    made = records.provenance("prenet")
    assert made["code"] == code_digest("baselines.prenet:PReNet") == records.provenance()["code"]
    assert made["machine"] == records.machine() and made["versions"] == records.versions()
    assert made["commit"] == records.commit() and made["date"].endswith("+00:00")
    assert made["versions"]["python"] == platform.python_version() and "torch" in made["versions"]


def test_the_command_is_as_it_was_typed_without_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_typed", [])
    monkeypatch.setattr(records, "home", lambda: Path("/home/me"))
    monkeypatch.setattr(
        sys, "argv", ["/home/me/bin/derain", "train", "out=/home/me/my runs", "x=/home/meg", "y=/home/me"]
    )
    assert records.command_line() == "derain train 'out=~/my runs' x=/home/meg y=~"
    records.typed(["/usr/bin/derain", "table", "1"])
    assert records.command_line() == "derain table 1"
    for place in (None, Path("/")):
        monkeypatch.setattr(records, "home", lambda place=place: place)
        assert records.without_home("/home/me/x") == "/home/me/x"


def test_the_commit_and_a_plus_if_something_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "suite" / "benchmark" / "sweep"
    package.mkdir(parents=True)
    (package / "records.py").write_text("")

    def git(*words: str) -> str:
        place = ["git", "-C", str(tmp_path / "suite"), "-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run([*place, *words], capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setattr(records, "__file__", str(package / "records.py"))
    records.commit.cache_clear()
    try:
        assert records.commit() is None, "no checkout"
        git("init", "-q")
        records.commit.cache_clear()
        assert records.commit() is None, "no commit yet"
        git("add", "."), git("commit", "-q", "-m", "first")
        head = git("rev-parse", "HEAD")
        records.commit.cache_clear()
        assert records.commit() == head[:12]
        (tmp_path / "suite" / "runs").write_text("not of the suite")
        records.commit.cache_clear()
        assert records.commit() == head[:12]
        (package / "records.py").write_text("changed")
        records.commit.cache_clear()
        assert records.commit() == head[:12] + "+"
        monkeypatch.setattr(subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError()))
        records.commit.cache_clear()
        assert records.commit() is None, "no git"
    finally:
        records.commit.cache_clear()


def test_versions_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "torch":
            raise records.PackageNotFoundError
        return "1.2"

    monkeypatch.setattr(records, "version", version)
    records.versions.cache_clear()
    try:
        found = records.versions()
    finally:
        records.versions.cache_clear()
    assert "torch" not in found and found["numpy"] == "1.2" and len(found) == len(records._PACKAGES)


def test_the_machine_and_nothing_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, str | None] = {"text": "flags : a\nmodel name\t: Some CPU: 3 GHz\nmodel name\t: other\n"}

    def read_text(path: Path, **how: str) -> str:
        if told["text"] is None:
            raise FileNotFoundError
        assert str(path) == "/proc/cpuinfo"
        return told["text"]

    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 3 * 2**18}
    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "m68k")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "A GPU")
    fresh = records.machine.__wrapped__
    monkeypatch.setitem(sys.modules, "torch", None)
    plain = {"processor": "Some CPU: 3 GHz", "cores": 7, "system": "Linux m68k", "memory_gib": 3.0}
    assert fresh() == plain
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert fresh() == {**plain, "accelerator": "A GPU"}
    cuda.is_available = lambda: False
    told["text"] = None
    assert fresh() == {**plain, "processor": "m68k"}
    monkeypatch.setattr(platform, "processor", lambda: "68040")
    assert fresh()["processor"] == "68040"

    def none(name: str) -> int:
        raise ValueError

    monkeypatch.setattr(os, "sysconf", none)
    assert "memory_gib" not in fresh()
    assert records.in_words(plain) == "Some CPU: 3 GHz with 7 cores"
    assert records.in_words({**plain, "accelerator": "A GPU"}) == "A GPU"
