from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import nn

from benchmark.errors import UserError, WorkError
from benchmark.restoration import places, restoring
from benchmark.restoration.places import planned
from benchmark.restoration.restoring import restore_files


class Invert(nn.Module):
    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        return 1 - rainy


def picture(path: Path, height: int = 20, width: int = 30, seed: int = 0, **options: object) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return pixels


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image)


def test_files_folders_and_globs(tmp_path: Path) -> None:
    single = picture(tmp_path / "one.png", seed=1)
    inner = picture(tmp_path / "folder" / "sub" / "b.png", seed=2)
    picture(tmp_path / "folder" / "10.png", seed=3)
    picture(tmp_path / "folder" / "2.png", seed=4)
    picture(tmp_path / "folder" / ".hidden.png")
    (tmp_path / "folder" / "notes.txt").write_text("not a picture")
    picture(tmp_path / "g1.png", seed=5)
    out = tmp_path / "out"
    outcome = restore_files(
        Invert(), [tmp_path / "one.png", tmp_path / "folder", str(tmp_path / "g*.png")], out, progress=False
    )
    assert outcome.failed == []
    assert [str(p.relative_to(out)) for p in outcome.written] == [
        "one.png",
        "2.png",
        "10.png",
        "sub/b.png",
        "g1.png",
    ]
    np.testing.assert_array_equal(pixels_of(out / "one.png"), 255 - single)
    np.testing.assert_array_equal(pixels_of(out / "sub" / "b.png"), 255 - inner)
    assert sorted(p.name for p in out.rglob("*.png")) == ["10.png", "2.png", "b.png", "g1.png", "one.png"]


@pytest.mark.parametrize(("tile", "overlap"), [(None, 8), (16, 4)])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 40), (33, 47)])
def test_any_size(tmp_path: Path, tile: int | None, overlap: int, height: int, width: int) -> None:
    pixels = picture(tmp_path / "a.png", height, width)
    restore_files(Invert(), [tmp_path / "a.png"], tmp_path / "out", tile, overlap, progress=False)
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "a.png"), 255 - pixels)


def test_exif_and_profile_are_kept_and_the_picture_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    exif[0x010E] = "a rainy street"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = picture(tmp_path / "a.png", 20, 30, exif=exif, icc_profile=profile)
    restore_files(Invert(), [tmp_path / "a.png"], tmp_path / "out", progress=False)
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.size == (20, 30)
        assert image.getexif()[0x010E] == "a rainy street"
        assert image.getexif().get(0x0112, 1) == 1
        assert image.info["icc_profile"] == profile
        np.testing.assert_array_equal(np.array(image), 255 - np.rot90(pixels, -1))


def test_equal_stems_keep_their_extensions(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "a.jpg")
    picture(tmp_path / "in" / "b.jpg")
    plan = planned([tmp_path / "in"], tmp_path / "out")
    assert sorted(d.name for _, d in plan) == ["a.jpg.png", "a.png.png", "b.png"]


def test_a_picture_named_twice_is_restored_once(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    assert len(planned([tmp_path / "in", tmp_path / "in" / "a.png"], tmp_path / "out")) == 1


def test_two_inputs_for_one_output(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        picture(tmp_path / folder / "a.png")
    with pytest.raises(UserError, match="would both be written"):
        planned([tmp_path / "x", tmp_path / "y"], tmp_path / "out")


def test_goes_on_past_broken_files(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    picture(folder / "a.png")
    picture(folder / "c.png", seed=3)
    whole = (folder / "a.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    (folder / "d.jpg").write_text("not a picture")
    outcome = restore_files(Invert(), [folder], tmp_path / "out", progress=False)
    assert [p.name for p in outcome.written] == ["a.png", "c.png"]
    assert [p.name for p, _ in outcome.failed] == ["b.png", "d.jpg"]
    for source, reason in outcome.failed:
        assert source.name in reason and "\n" not in reason
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


def test_output_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, rainy: torch.Tensor) -> torch.Tensor:
            return rainy / 0

    picture(tmp_path / "a.png")
    outcome = restore_files(Broken(), [tmp_path / "a.png"], tmp_path / "out", progress=False)
    assert "NaN" in outcome.failed[0][1]
    assert not list((tmp_path / "out").iterdir())


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    out = tmp_path / "out"
    restore_files(Invert(), [tmp_path / "a.png"], out, progress=False)
    before = (out / "a.png").read_bytes()
    picture(tmp_path / "a.png", seed=9)
    with pytest.raises(UserError, match=r"a\.png exists already.*--overwrite"):
        restore_files(Invert(), [tmp_path / "a.png"], out, progress=False)
    assert (out / "a.png").read_bytes() == before
    restore_files(Invert(), [tmp_path / "a.png"], out, overwrite=True, progress=False)
    assert not np.array_equal(pixels_of(out / "a.png"), 255 - pixels)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_never_overwritten(tmp_path: Path, overwrite: bool) -> None:
    picture(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(UserError, match="is an input"):
        restore_files(Invert(), [tmp_path], tmp_path, overwrite=overwrite, progress=False)
    assert (tmp_path / "a.png").read_bytes() == before


def test_an_input_behind_a_link_is_never_overwritten(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    before = (tmp_path / "in" / "a.png").read_bytes()
    (tmp_path / "out").symlink_to(tmp_path / "in")
    with pytest.raises(UserError, match="is an input"):
        restore_files(Invert(), [tmp_path / "in"], tmp_path / "out", overwrite=True, progress=False)
    assert (tmp_path / "in" / "a.png").read_bytes() == before


def test_results_inside_the_input_folder_are_not_inputs(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    out = tmp_path / "out"
    restore_files(Invert(), [tmp_path], out, progress=False)
    assert len(planned([tmp_path], out)) == 1


def test_wrong_inputs(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for given, words in ((tmp_path / "none.png", "no such file"), (tmp_path / "empty", "no pictures")):
        with pytest.raises(UserError, match=words):
            restore_files(Invert(), [given], tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    picture(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        restore_files(Invert(), [tmp_path / "a.png"], tmp_path / "file" / "out", progress=False)


def test_a_full_disk_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "in" / name)

    def full(path: Path, *_: object) -> None:
        raise WorkError(f"{path}: the disk is full")

    monkeypatch.setattr(restoring, "write_restored", full)
    with pytest.raises(WorkError, match="disk is full"):
        restore_files(Invert(), [tmp_path / "in"], tmp_path / "out", progress=False)


class Limited(nn.Module):
    """Runs out of memory above 200×200 pixels."""

    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        if rainy.numel() > 3 * 200 * 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1 - rainy


@pytest.mark.parametrize("tile", ["auto", 210])
def test_smaller_tiles_when_memory_runs_out(tmp_path: Path, tile: int | str) -> None:
    pixels = picture(tmp_path / "a.png", 220, 400)
    outcome = restore_files(Limited(), [tmp_path / "a.png"], tmp_path / "out", tile=tile, progress=False)  # type: ignore[arg-type]
    assert not outcome.failed and outcome.tiled == {tmp_path / "a.png": 192}
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "a.png"), 255 - pixels)


def test_whole_is_whole_or_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 220, 400)
    picture(tmp_path / "b.png", 100, 200)
    inputs = [tmp_path / "a.png", tmp_path / "b.png"]
    outcome = restore_files(Limited(), inputs, tmp_path / "out", tile=None, progress=False)
    ((path, reason),) = outcome.failed
    assert path == inputs[0] and "400×220 pixels whole: give --tile auto" in reason and "\n" not in reason
    assert [p.name for p in outcome.written] == ["b.png"] and not (tmp_path / "out" / "a.png").exists()
    assert outcome.tiled == {}


def test_the_bar_counts_pictures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "in" / name)
    restore_files(Invert(), [tmp_path / "in"], tmp_path / "out", progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "2/2" in err


def test_a_whole_picture_has_a_time_left_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told while it is restored, so the bar moves by what a small picture took, or the one before."""
    now = 100.0
    monkeypatch.setattr(restoring.time, "perf_counter", lambda: now)
    monkeypatch.setattr(restoring, "_speed", lambda *_: 1e-5)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    for name, width in (("large.png", 1250), ("small.png", 500), ("bad.png", 1)):
        picture(tmp_path / name, 1000, width)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    jobs = [
        places.Job(tmp_path / n, tmp_path / "out" / n, tmp_path / n)
        for n in ("large.png", "small.png", "bad.png")
    ]
    how = restoring._How(None, 8, None, False, False, False, restoring.Encoding())
    bars = restoring._Bars(True, jobs)
    (task,) = [t for t in bars._bar.tasks if t.id == bars._one]
    assert bars.expected(Invert(), jobs[1], how) == 0, "small, and none before"
    assert bars.expected(Invert(), jobs[0], how) == pytest.approx(12.5)
    advance = bars.begin(0, "tile", 12.5)
    for passed, share in ((2.5, 0.2), (10.0, 0.8), (100.0, 0.99)):
        now = 100.0 + passed
        list(bars._bar.get_renderables())
        assert task.completed == bars._bar.tasks[bars._all].completed == pytest.approx(share)
    advance(1, 1)
    assert task.completed == task.total == 1
    assert bars.expected(Invert(), jobs[1], how) == pytest.approx(100 * 500 / 1250)
    assert bars.expected(Invert(), jobs[2], how) == 0
    advance = bars.begin(1, "tile", 40.0)
    advance(1, 4)  # in tiles after all: from now on they tell
    now += 20
    list(bars._bar.get_renderables())
    assert (task.completed, task.total) == (1, 4)
    monkeypatch.setattr(restoring, "choose_tile", lambda *_: 256)
    for tile in (80, "auto"):
        assert bars.expected(Invert(), jobs[0], dataclasses.replace(how, tile=tile)) == 0, "tiles tell"
    monkeypatch.setenv("FORCE_COLOR", "")
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    assert restoring._Bars(True, jobs).expected(Invert(), jobs[0], how) == 0, "nobody looks on"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_beside_the_network_fails_that_picture_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "in" / name)
    write = restoring.write_restored

    def writing(path: Path, *rest: object) -> None:
        if path.name == "b.png":
            raise error
        write(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(restoring, "write_restored", writing)
    outcome = restore_files(Invert(), [tmp_path / "in"], tmp_path / "out", progress=False)
    assert [p.name for p in outcome.written] == ["a.png", "c.png"]
    assert outcome.failed == [(tmp_path / "in" / "b.png", "out of memory: make it smaller first")]
    monkeypatch.setattr(restoring, "write_restored", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        restore_files(Invert(), [tmp_path / "in"], tmp_path / "out2", progress=False)
