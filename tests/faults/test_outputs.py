"""What a command writes replaces neither its inputs nor what it did not make; names reach the terminal printable."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmark import create_model
from benchmark.cli import main
from benchmark.files import write_failure

SMALL = {"stages": 1, "channels": 4, "residual_blocks": 1}


@pytest.fixture
def place(tmp_path: Path, small_set: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (small_set / "labels.csv").write_text("my own table\n")
    torch.save(create_model("prenet", **SMALL).state_dict(), tmp_path / "net.pth")
    torch.save(create_model("prenet", **SMALL).state_dict(), tmp_path / "net.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


WORDS = ["evaluate", "--model", "prenet", "--data", "set", "--set", *(f"{k}={v}" for k, v in SMALL.items())]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--csv", "net.pth"], "--csv net.pth: the name must end in .csv"),
        (["--csv", "set/input/0.png"], "the name must end in .csv"),
        (["--csv", "set"], "the name must end in .csv"),
        (["--csv", "set/labels.csv"], "exists and is no table of derain evaluate"),
        (["--save", "set/target"], "is of the data set and would be overwritten"),
        (["--save", "set/input", "--overwrite"], "is of the data set and would be overwritten"),
        (["--save", "other"], "other/0.png exists already: give another --save, or --overwrite"),
    ],
)
def test_evaluate_writes_over_nothing_that_it_did_not_make(
    place: Path, words: list[str], told: str, dry: list[str], capsys
) -> None:
    (place / "other").mkdir()
    Image.new("RGB", (9, 9)).save(place / "other" / "0.png")
    before = _contents(place)
    assert main([*WORDS, "--checkpoint", "net.pth", *words, *dry]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert _contents(place) == before


def test_a_checkpoint_that_is_called_a_table_is_kept(place: Path, capsys) -> None:
    before = _contents(place)
    assert main([*WORDS, "--checkpoint", "net.csv", "--csv", "net.csv"]) == 2
    said = capsys.readouterr().err
    assert "net.csv: " in said and "give another name" in said
    (place / "link.csv").symlink_to(place / "net.csv")
    assert main([*WORDS, "--checkpoint", "net.csv", "--csv", "link.csv"]) == 2
    (place / "link.csv").unlink()
    assert _contents(place) == before


def test_what_evaluate_wrote_it_writes_again(place: Path) -> None:
    words = [*WORDS, "--checkpoint", "net.pth", "--csv", "rows.csv", "--save", "out"]
    assert main(words) == 0
    first = _contents(place / "out")
    assert len(first) == 2
    assert main(words) == 2
    assert main([*words, "--overwrite"]) == 0
    assert _contents(place / "out") == first
    assert (place / "rows.csv").read_text().startswith("name,width,height,")


def test_a_full_disk_says_with_which_words_evaluate_saves_again(place: Path, capsys, monkeypatch) -> None:
    from benchmark.run import evaluate

    whole = evaluate.write_restored

    def write(path: Path, *rest: object) -> None:
        if path.stem == "1":
            raise write_failure(path, OSError(errno.ENOSPC, "full"))
        whole(path, *rest)

    words = [*WORDS, "--checkpoint", "net.pth", "--save", "out"]
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "write_restored", write)
        assert main(words) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(
        "out/1.png: the disk is full or the quota is used up; free some room and run it again with --overwrite"
    )
    assert main([*words, "--overwrite"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--image", "set/input/0.png", "-o", "set/input/0.png"],
        ["--image", "set/input/0.png", "--clean", "set/target/0.png", "-o", "set/target/0.png"],
        ["--data", "set", "--csv", "net.pth"],
    ],
)
def test_inspect_does_not_write_over_its_inputs(place: Path, words: list[str], capsys) -> None:
    before = _contents(place)
    assert main(["inspect", "--model", "esdnet", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert _contents(place) == before


def test_escapes_in_names_reach_no_terminal(place: Path, capsys) -> None:
    (place / "set" / "input" / "a\x1b[31m\nproblem: none.png").write_bytes(b"no picture")
    assert main(["data", "check", "set"]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert not any(line.startswith("problem: none") for line in said.out.splitlines())
    assert "\\x1b[31m\\n" in said.out
    evil = "out\x1b[2J"
    assert main(["data", "render", "set/target", "-o", evil, "--dry-run"]) == 0
    assert "\x1b" not in capsys.readouterr().out
