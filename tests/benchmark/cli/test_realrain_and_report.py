"""Table 2, figures and report at the command line, from one tiny run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main, realrain, reporting, showing
from benchmark.cli.gallery import find_runs
from benchmark.errors import UserError
from benchmark.report.parts import Grid

TINY = ["recipe.steps=2", "recipe.batch=1", "recipe.patch=16", "trainer.log_every=1"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (40, 57)), ("a.jpg", (33, 48)), ("tiny.png", (9, 30))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> list[str]:
    runs = str(tmp_path_factory.mktemp("runs"))
    return [
        "table",
        "2",
        *TINY,
        f"photographs={photographs}",
        "--models",
        "prenet",
        "--runs",
        runs,
        "--workers",
        "1",
    ]


@pytest.fixture(scope="module")
def runs(words: list[str]) -> Path:
    assert main(words) == 1  # two photographs were left out
    return Path(words[words.index("--runs") + 1])


def _table(runs: Path, name: str) -> str:
    (path,) = (runs / "tables" / "embedded").glob(f"{name}*.md")
    return path.read_text()


def test_table_2_of_a_folder_of_photographs(runs: Path) -> None:
    text = _table(runs, "table2_")
    assert "2 rainy pictures" in text
    assert "Rainy input" in text and "PReNet" in text and "(18.309" in text
    assert "tiny.png" not in text.split("| Rainy")[1].split("\n")[0]
    assert "Left out: " in text and "broken.png" in text and "30×9" in text
    (scores,) = [p for p in runs.rglob("scores.json") if p.parent.name.startswith("prenet-")]
    record = json.loads(scores.read_text())
    assert [i["name"] for i in record["images"]] == ["a", "a-2"]
    assert record["weights"] and record["command"]
    assert {p.name for p in scores.parent.glob("*.png")} == {"a.png", "a-2.png"}


def test_other_metrics_by_name(runs: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words[:2], "metrics=entropy,niqqe", *words[2:]]) == 2
    assert "did you mean 'niqe'" in capsys.readouterr().err
    assert main([*words[:2], "metrics=entropy", *words[2:]]) == 1
    text = _table(runs, "table2_")
    assert "entropy ↑ pyiqa" in text
    assert main(words) == 1 and "entropy" not in _table(runs, "table2_")


def test_metaiqa_with_weights(runs: Path, words: list[str], tmp_path: Path) -> None:
    import torch
    from pyiqa.archs.metaiqa_arch import MetaIQA

    torch.save(MetaIQA(pretrained=False).state_dict(), tmp_path / "mine.pth")
    assert main([*words[:2], f"metaiqa.checkpoint={tmp_path / 'mine.pth'}", *words[2:]]) == 1
    text = _table(runs, "table2_")
    assert "MetaIQA ↑ mine.pth, sha256" in text and "MetaIQA needs" not in text
    row = next(line for line in text.splitlines() if line.startswith("| Rainy input"))
    assert 0 <= float(row.split("|")[4].split("±")[0]) <= 1
    assert main(words) == 1 and "MetaIQA needs" in _table(runs, "table2_")


def test_scores_are_kept_by_content(runs: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> float:
        raise AssertionError("scored again")

    before = _table(runs, "table2_")
    monkeypatch.setattr(realrain.Metrics, "_measure", never)
    assert main([*words[:2], *words[2:]]) == 1
    assert _table(runs, "table2_") == before


def test_weights_that_changed_restore_again(runs: Path) -> None:
    (run,) = find_runs(runs / "embedded")
    options = realrain.Options()
    taken = realrain.Photographs("mine")
    taken.add("a", lambda: np.full((32, 32, 3), 90, np.uint8))
    place = runs / "again"
    realrain._score(run, taken, place, realrain.Metrics(options, place / "cache.json"))
    (picture,) = place.rglob("a.png")
    picture.write_bytes(b"old")
    scores = picture.parent / "scores.json"
    record = json.loads(scores.read_text())
    scores.write_text(json.dumps({**record, "weights": "others"}))
    realrain._score(run, taken, place, realrain.Metrics(options, place / "cache.json"))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_settings_of_this_table() -> None:
    options, others = realrain.take_options(["photographs=/x", "piqe=reference", "recipe.steps=3"])
    assert (options.photographs, options.piqe, others) == ("/x", "reference", ["recipe.steps=3"])
    with pytest.raises(UserError, match="did you mean 'reference'"):
        realrain.take_options(["piqe=refrence"])
    with pytest.raises(UserError, match="no such file"):
        realrain.take_options(["metaiqa.checkpoint=/none.pth"])
    assert realrain.training_set(embedded=True) == "embedded"
    assert realrain.training_set(embedded=False) == "rain200h"


def test_the_embedded_default_is_every_rainy_test_picture() -> None:
    found = realrain.open_photographs(None, None)
    assert len(found.pictures) == 52 == len(found.digests)
    assert found.scenes.keys() == found.digests.keys() and len(set(found.scenes.values())) == 13
    assert not found.left_out
    once = realrain.open_photographs(None, None, once=True)
    assert {once.scenes[name] for name in once.digests} == set(found.scenes.values())
    assert found.identity == realrain.open_photographs(None, None).identity


def test_photographs_that_show_nearly_the_same_are_one_scene(tmp_path: Path) -> None:
    from skimage import data, io

    rocket = data.rocket()
    io.imsave(tmp_path / "a.png", rocket)
    io.imsave(tmp_path / "b.png", (0.97 * rocket).astype(np.uint8))
    io.imsave(tmp_path / "c.png", data.astronaut())
    every = realrain.open_photographs(str(tmp_path), None)
    assert every.scenes == {"a": "a", "b": "a", "c": "c"} and len(every.pictures) == 3
    once = realrain.open_photographs(str(tmp_path), None, once=True)
    assert list(once.digests) == ["a", "c"] and "a/b" in once.remarks[0]


def test_figures_and_report_from_what_there_is(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cost = {"params": 1e6, "operations": 1e9}
    monkeypatch.setattr(showing, "full_costs", lambda names, folder: dict.fromkeys(names, cost))
    monkeypatch.setattr(reporting, "_layers", lambda name, folder: Grid(name, "1 M", ["name"], [["conv"]]))
    monkeypatch.setattr(showing, "COMPARED", 1)
    assert main(["report", "--runs", str(runs)]) == 0
    assert "report.html" in capsys.readouterr().out
    folder = runs / "report" / "embedded"
    drawn = {p.stem for p in (folder / "figures").glob("*.pdf")}
    assert {"figure1_printed", "figure1_counted", "figure1_measured"} <= drawn
    assert {
        "comparison_embedded-heavy_01-astronaut",
        "distribution_embedded-heavy",
        "curves_embedded",
    } <= drawn
    text = (folder / "report.html").read_text()
    assert "rainy pictures" in text and "01-astronaut" in text and "derain" in text
    assert "RESCAN</b>: not run with recipe embedded for embedded" in text


def test_without_runs_the_next_command_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("figures", "report"):
        assert main([command, "--runs", str(tmp_path)]) == 2
        assert "make table1" in capsys.readouterr().err
