"""Records that were cut, changed by hand, or made by another version; and how they are written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UserError
from benchmark.files import atomic, write_text
from benchmark.sweep.records import RECORD, read_record, write_record


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
