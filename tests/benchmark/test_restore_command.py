"""`derain restore` with no other word: the weights that ship, results beside the inputs, what is said."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from benchmark import create_model, shipped
from benchmark.cli import main
from benchmark.files import write_failure
from benchmark.restoration.places import planned


def picture(path: Path, height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_photograph_alone_is_restored_beside_itself_by_the_default_weights(ships: Path, capsys) -> None:
    picture(ships / "photo.jpg")
    given = (ships / "photo.jpg").read_bytes()
    assert main(["restore", "photo.jpg"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "photo-derained.png",
        "1 restored",
        "nafnet-general: PSNR-Y Rain12 34.1 dB (rainy 30.1)",
        "nafnet-general cannot: see through fog",
    ]
    with Image.open(ships / "photo.jpg") as rainy:
        image = torch.from_numpy(np.array(rainy)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        wanted = create_model("nafnet", pretrained="general")(image)[0].clamp(0, 1).mul(255).round()
    with Image.open(ships / "photo-derained.png") as restored:
        np.testing.assert_array_equal(np.array(restored), wanted.permute(1, 2, 0).byte().numpy())
    assert (ships / "photo.jpg").read_bytes() == given
    assert sorted(p.name for p in ships.iterdir()) == ["photo-derained.png", "photo.jpg"]


def test_a_network_alone_takes_its_own_shipped_weights_whole(ships: Path, capsys) -> None:
    """The tiles of 80 that ESDNet is tested in draw a grid; people get the whole picture."""
    pixels = picture(ships / "photo.png", 96, 120)
    assert main(["restore", "photo.png", "--model", "esdnet"]) == 0
    said = capsys.readouterr().out
    assert "esdnet-general: PSNR-Y" in said and "tiles" not in said
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        wanted = create_model("esdnet", pretrained="general")(image)[0].clamp(0, 1).mul(255).round()
    with Image.open("photo-esdnet-derained.png") as restored:
        np.testing.assert_array_equal(np.array(restored), wanted.permute(1, 2, 0).byte().numpy())


def test_results_of_several_networks_stand_side_by_side_and_are_no_inputs(
    ships: Path, tmp_path: Path
) -> None:
    picture(ships / "trip-1.jpg")
    picture(ships / "trip" / "a.png")
    model = tmp_path / "weights" / "nafnet-general.safetensors"
    options = [f"{k}={v}".replace(" ", "") for k, v in shipped.default().options.items()]
    own = ["--model", "nafnet", "--checkpoint", str(model), "--set", *options]
    assert main(["restore", "trip-1.jpg", "trip"]) == 0
    assert main(["restore", "trip-1.jpg", "trip", "--model", "esdnet", "--compare"]) == 0
    assert main(["restore", "trip-1.jpg", *own]) == 0
    assert sorted(p.name for p in ships.iterdir()) == [
        "trip",
        "trip-1-compare-esdnet-derained.png",
        "trip-1-derained.png",
        "trip-1-esdnet-derained.png",
        "trip-1-nafnet-derained.png",
        "trip-1.jpg",
        "trip-derained",
        "trip-esdnet-derained",
    ]
    files = sorted(p.name for p in ships.iterdir() if p.is_file())
    assert [str(s.name) for s, _ in planned(files, by="prenet")] == ["trip-1.jpg"]
    assert [str(d) for _, d in planned(["trip"])] == ["trip-derained/a.png"]
    picture(ships / "sea-derained.png")  # of nothing that is given
    assert [s.name for s, _ in planned([*files, "sea-derained.png"])] == ["trip-1.jpg", "sea-derained.png"]


def test_a_folder_goes_to_a_folder_beside_it(ships: Path, capsys) -> None:
    picture(ships / "trip" / "a.jpg")
    picture(ships / "trip" / "deep" / "b.png")
    (ships / "trip" / "raw.dng").write_text("not one that can be read")
    assert main(["restore", "trip/", "--compare"]) == 0
    out = capsys.readouterr().out
    assert "passed over, by name neither picture nor video: trip/raw.dng" in out
    found = sorted(str(p.relative_to(ships)) for p in (ships / "trip-derained").rglob("*.png"))
    assert found == [
        "trip-derained/a.png",
        "trip-derained/compare/a.png",
        "trip-derained/compare/deep/b.png",
        "trip-derained/deep/b.png",
    ]
    assert main(["restore", "trip"]) == 2
    assert "trip-derained/a.png (and 1 more) exists already" in capsys.readouterr().err


def test_the_folder_of_the_command_and_its_files_given_twice(ships: Path, capsys) -> None:
    for name in ("a.jpg", "b.jpg"):
        picture(ships / name)
    assert main(["restore", "a.jpg", "b.jpg"]) == 0
    # as the shell writes `*` out
    assert [str(d) for _, d in planned(sorted(p.name for p in ships.iterdir()))] == [
        "a-derained.png",
        "b-derained.png",
    ]
    assert [str(d) for _, d in planned(["*"])] == ["a-derained.png", "b-derained.png"]
    before = {p: p.read_bytes() for p in ships.iterdir()}
    assert main(["restore", *sorted(p.name for p in ships.iterdir())]) == 2
    assert "a-derained.png (and 1 more) exists already" in capsys.readouterr().err
    assert main(["restore", "."]) == 0
    assert sorted(p.name for p in Path("../here-derained").iterdir()) == ["a.png", "b.png"]
    assert {p: p.read_bytes() for p in ships.iterdir()} == before
    capsys.readouterr()


def test_equal_stems_and_comparisons_beside_their_files(ships: Path) -> None:
    picture(ships / "a.jpg")
    picture(ships / "a.png")
    assert [str(d) for _, d in planned(["a.jpg", "a.png"])] == ["a.jpg-derained.png", "a.png-derained.png"]
    assert main(["restore", "a.jpg", "--compare"]) == 0
    assert sorted(p.name for p in ships.iterdir()) == [
        "a-compare-derained.png",
        "a-derained.png",
        "a.jpg",
        "a.png",
    ]


def test_an_input_folder_is_no_place_for_results(ships: Path, capsys) -> None:
    picture(ships / "trip" / "a.jpg")
    assert main(["restore", "trip", "-o", "trip"]) == 2
    assert "trip is an input folder" in capsys.readouterr().err
    assert [p.name for p in (ships / "trip").iterdir()] == ["a.jpg"]


def test_a_result_that_is_among_the_inputs_is_not_replaced(ships: Path) -> None:
    picture(ships / "a.jpg")
    picture(ships / "a-derained.png", seed=5)
    given = (ships / "a-derained.png").read_bytes()
    assert main(["restore", "a.jpg", "a-derained.png"]) == 2
    assert (ships / "a-derained.png").read_bytes() == given
    assert main(["restore", "a-derained.png"]) == 0  # named by itself it is meant
    assert (ships / "a-derained-derained.png").is_file()


def test_a_dry_run_names_the_results(ships: Path, capsys) -> None:
    picture(ships / "photo.jpg")
    assert main(["restore", "photo.jpg", "--dry-run"]) == 0
    assert capsys.readouterr().out == "photo.jpg would be restored to photo-derained.png\n"
    assert [p.name for p in ships.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--model", "prenet"],
            "no weights ship for 'prenet' (they do for nafnet, esdnet): give --checkpoint",
        ),
        (["--model", "nafnett"], "did you mean 'nafnet'"),
        (["--set", "width=8"], "--set width=8: the weights that ship have their own options"),
        (["--overlap", "8"], "--overlap is for --tile PIXELS"),
        (["--tile", "big"], "--tile big: "),
    ],
)
def test_wrong_words(ships: Path, words: list[str], told: str, capsys) -> None:
    picture(ships / "photo.jpg")
    assert main(["restore", "photo.jpg", *words]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert [p.name for p in ships.iterdir()] == ["photo.jpg"]


def test_where_none_ships_a_line_says_what_to_do(ships: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    picture(ships / "photo.jpg")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    shipped.shipped.cache_clear()
    assert main(["restore", "photo.jpg"]) == 2
    said = capsys.readouterr().err
    assert "no weights ship with this installation: give --model NAME --checkpoint FILE" in said
    assert said.count("\n") == 1


def test_weights_that_were_changed_are_refused(ships: Path, capsys) -> None:
    picture(ships / "photo.jpg")
    path = shipped.default().path
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert main(["restore", "photo.jpg"]) == 2
    assert "not the weights that were shipped" in capsys.readouterr().err
    assert json.loads(path.with_suffix(".json").read_text())["network"] == "nafnet"


def test_names_with_escapes_reach_no_terminal(ships: Path, capsys) -> None:
    evil = "a\x1b[31m\nb.jpg"
    picture(ships / evil)
    (ships / "bad\x1b[2J.png").write_bytes(b"no picture")
    assert main(["restore", ".", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and said.out.count("\n") == 2
    assert main(["restore", evil, "bad\x1b[2J.png"]) == 1
    said = capsys.readouterr()
    assert "a\\x1b[31m\\nb-derained.png" in said.out and "bad\\x1b[2J.png" in said.err
    assert "\x1b" not in said.out and "\x1b[2J" not in said.err and "\x1b[31m" not in said.err


def test_bad_input_is_a_line_each_and_the_others_go_on(ships: Path, capsys) -> None:
    """Unreadable, empty, animated, huge, no picture, a pipe, a video without frames; nothing of them is written."""
    place = ships / "in"
    picture(place / "good.png")
    whole = (place / "good.png").read_bytes()
    (place / "cut.png").write_bytes(whole[: len(whole) // 2])
    (place / "empty.jpg").write_bytes(b"")
    (place / "page.jpg").write_text("<html>not found</html>")
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(place / "moving.gif", save_all=True, append_images=frames[1:])
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    huge = whole[:8] + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]
    (place / "huge.png").write_bytes(huge)
    (place / "film.mp4").write_bytes(b"no film")
    os.mkfifo(place / "pipe.png")
    (place / "gone.png").symlink_to("nowhere.png")
    assert main(["restore", "in", "-o", "out"]) == 1
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("derain: ")]
    told = {line.split(":")[1].strip().split("/")[-1]: line for line in lines}
    wanted = {
        "cut.png": "damaged",
        "empty.jpg": "is empty",
        "page.jpg": "web page",
        "moving.gif": "2 frames or pages; save the one you mean",
        "huge.png": "million pixels; refused",
        "film.mp4": "not a readable video",
        "pipe.png": "a pipe",
        "gone.png": "no such file",
    }
    assert told.keys() == wanted.keys()
    for name, words in wanted.items():
        assert words in told[name]
    assert "1 restored to out" in said.out
    assert [p.name for p in Path("out").iterdir()] == ["good.png"]


def test_a_link_to_nothing_by_itself_and_by_pattern(ships: Path, capsys) -> None:
    picture(ships / "a.png")
    Path("gone.png").symlink_to("nowhere.png")
    Path("loop.png").symlink_to("loop.png")
    for words in (["gone.png", "a.png", "loop.png"], ["*.png", "--overwrite"]):
        assert main(["restore", *words]) == 1
        said = capsys.readouterr()
        assert "gone.png: no such file" in said.err and "loop.png: cannot be read" in said.err
        assert "a-derained.png\n1 restored" in said.out


def test_inputs_may_stand_behind_flags_and_an_empty_one_is_no_folder(ships: Path, capsys) -> None:
    for name in ("a.png", "b.png"):
        picture(ships / name)
    assert main(["restore", "a.png", "--overwrite", "b.png", "-o", "out"]) == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.png", "b.png"]
    capsys.readouterr()
    for words in (
        [""],
        ["a.png", "--overwrite", ""],
        ["a.png", "-o", ""],
        ["a.png", "--overwrite", "--nonsense"],
    ):
        assert main(["restore", *words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and ("an empty path" in said or "--nonsense" in said)
    assert sorted(p.name for p in ships.iterdir()) == ["a.png", "b.png", "out"]


def test_what_a_result_cannot_keep_is_told(ships: Path, capsys) -> None:
    picture(ships / "tiny.png", 5, 4)
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    (ships / "deep.png").write_bytes(imagecodecs.png_encode(values))
    tifffile.imwrite(ships / "deep.tif", values, photometric="rgb")
    (ships / "deep.jp2").write_bytes(imagecodecs.jpeg2k_encode(values, level=0))
    (ships / "deep.ppm").write_bytes(b"P6\n# a word\n30 20\n1023\n" + (values >> 6).astype(">u2").tobytes())
    glass = Image.new("RGBA", (30, 20), (10, 20, 30, 255))
    glass.save(ships / "opaque.png")
    glass.putpixel((3, 4), (10, 20, 30, 90))
    glass.save(ships / "glass.png")
    assert main(["restore", "."]) == 0
    said = capsys.readouterr().out.splitlines()
    told = dict(line.split(": ", 1) for line in said if ": " in line and "general" not in line)
    assert told == {
        "tiny.png": "smaller than 16 pixels, which is too little to see rain in",
        "deep.png": "16 bits a channel become 8",
        "deep.tif": "16 bits a channel become 8",
        "deep.jp2": "16 bits a channel become 8",
        "deep.ppm": "10 bits a channel become 8",
        "glass.png": "transparent parts are shown over white",
    }
    with Image.open("../here-derained/tiny.png") as restored:
        assert restored.size == (4, 5)


def test_a_full_disk_ends_with_a_line(ships: Path, tmp_path: Path, capsys) -> None:
    picture(ships / "a.png", 600, 600)
    (tmp_path / "small").mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path / "small")]
    if os.geteuid() or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        assert main(["restore", "a.png", "-o", str(tmp_path / "small")]) == 1
        assert not list((tmp_path / "small").iterdir())
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("derain: ")]
    assert len(said) == 1 and "the disk is full" in said[0] and said[0].endswith("run it again")


def test_after_a_full_disk_the_others_are_restored_as_the_line_says(ships: Path, capsys, monkeypatch) -> None:
    """The same command would be refused, since some results are there."""
    for name in "abc":
        picture(ships / f"{name}.png")
    from benchmark.restoration import restoring

    written, whole = [], restoring.write_restored

    def write(path: Path, *rest: object) -> None:
        if len(written) == 1:
            raise write_failure(path, OSError(errno.ENOSPC, "full"))
        written.append(path)
        whole(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "write_restored", write)
        assert main(["restore", "."]) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(
            "the disk is full or the quota is used up; free some room and run it again with --only-missing "
            "(1 of 3 are restored)"
        )
    )
    first = written[0].stat()
    assert main(["restore", "."]) == 2
    assert "or --only-missing to restore the others" in capsys.readouterr().err
    assert main(["restore", ".", "--overwrite", "--only-missing"]) == 2
    assert main(["restore", ".", "--only-missing", "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["restore", ".", "--only-missing", "--compare"]) == 0
    folder = written[0].parent
    results = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    assert results == ["a.png", "b.png", "c.png", "compare/a.png", "compare/b.png", "compare/c.png"]
    assert written[0].stat().st_mtime_ns == first.st_mtime_ns, "left as it is"


def test_a_place_that_cannot_be_written_is_told_before_any_work(ships: Path, capsys) -> None:
    picture(ships / "a.png")
    Path("file").write_text("")
    assert main(["restore", "a.png", "-o", "file/out"]) == 2
    assert "a file stands where a folder is needed" in capsys.readouterr().err


def test_heic_is_read_where_the_plug_in_is_there_and_named_where_not(
    ships: Path, capsys, monkeypatch
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    from benchmark.data import images

    pixels = picture(ships / "a.png")
    pillow_heif.from_bytes("RGB", (30, 20), pixels.tobytes()).save(ships / "phone.heic")
    assert main(["restore", "phone.heic"]) == 0
    assert (ships / "phone-derained.png").is_file()
    (ships / "phone-derained.png").unlink()
    monkeypatch.setattr(images, "_heif", lambda: False)
    assert main(["restore", "."]) == 1
    assert "phone.heic: is a HEIC picture: pip install pillow-heif" in capsys.readouterr().err
