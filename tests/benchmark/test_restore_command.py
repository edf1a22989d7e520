"""`derain restore` with no other word: the weights that ship, results beside the inputs, what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmark import create_model, shipped
from benchmark.cli import main
from benchmark.evaluation.restoring import planned
from benchmark.files import file_digest, write_json

OPTIONS = {
    "nafnet": {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
    "esdnet": {
        "dim": 4,
        "encoder_blocks": [1, 1, 1],
        "bottleneck_blocks": 0,
        "decoder_blocks": [1, 1],
        "time_steps": 2,
    },
}


def _ship(folder: Path, name: str) -> None:
    torch.manual_seed(3)
    path = folder / f"{name}-general.safetensors"
    save_file(create_model(name, **OPTIONS[name]).state_dict(), path, {"format": "pt"})
    card = {
        "network": name,
        "weights": "general",
        "options": OPTIONS[name],
        "sha256": file_digest(path),
        "scores": {"Rain12": {"title": "Rain12", "psnr_esdnet": 34.1, "rainy_psnr_esdnet": 30.1}},
        "limits": ["see through fog"],
    }
    write_json(path.with_suffix(".json"), card)


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of two shipped weights, and the folder that the command is given in."""
    (tmp_path / "weights").mkdir()
    for name in OPTIONS:
        _ship(tmp_path / "weights", name)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    shipped.shipped.cache_clear()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    shipped.shipped.cache_clear()


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
    with Image.open("photo-derained.png") as restored:
        np.testing.assert_array_equal(np.array(restored), wanted.permute(1, 2, 0).byte().numpy())


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
        (["--tile", "big"], "evaluation.tile=big"),
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
