"""Weights that ship: whole, loadable, what their card says; and the command that makes a card."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark import create_model, shipped
from benchmark.cli import main, samples
from benchmark.data import write_image
from benchmark.data.embedded import photograph
from benchmark.errors import UserError
from benchmark.run.execute import execute
from benchmark.spec import resolve
from benchmark.text.words import short


def _small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    small = [dataclasses.replace(s) for s in samples.SAMPLES]
    for sample in small:  # what tiles change is measured on them
        sample.__dict__["clean"] = photograph(sample.scene)[:256, :416]
    monkeypatch.setattr(samples, "SAMPLES", tuple(small))


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a training of two steps, shipped."""
    tmp_path = tmp_path_factory.mktemp("once")
    photographs = tmp_path / "photographs"
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        write_image(photographs / f"{i}.png", pixels)
    words = ["model=nafnet", "recipe=general", "data=photographs", f"data.root={photographs}", "logger=csv"]
    words += ["recipe.steps=2", "recipe.validate_every=1", "recipe.patch=32", f"data.cache={tmp_path}/cache"]
    words += [
        "model.width=4",
        "model.encoder_blocks=[1]",
        "model.middle_blocks=1",
        "model.decoder_blocks=[1]",
    ]
    config = resolve([*words, f"out={tmp_path / 'runs'}", "recipe.schedule.warmup=0"])
    record = execute(config)
    assert set(record["results"]) == {"embedded-12", "embedded-light", "embedded-heavy", "embedded-mixed"}
    for name in ("input", "target"):
        write_image(tmp_path / "pairs" / name / "1.png", np.full((40, 50, 3), 90, np.uint8))
    (run,) = (tmp_path / "runs" / "general").glob("nafnet-*")
    command = ["ship", str(run), "-o", str(tmp_path / "weights"), "--docs", str(tmp_path / "docs")]
    command += [
        "--set",
        f"Mine={tmp_path / 'pairs'}",
        "--clean",
        str(photographs),
        "--rainy",
        str(photographs),
    ]
    with pytest.MonkeyPatch.context() as patched:
        _small_samples(patched)
        assert main(command) == 0
    return tmp_path


@pytest.fixture
def mine(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of what was made once, whose weights stand for the suite's."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    _small_samples(monkeypatch)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    shipped.shipped.cache_clear()
    yield tmp_path
    shipped.shipped.cache_clear()


def test_a_run_is_shipped_with_its_card(mine: Path) -> None:
    ship = shipped.for_network("nafnet")
    assert ship == shipped.default() and ship.name == "nafnet-general"
    card = ship.card
    assert card["scores"]["Mine"]["n"] == 1 and card["clean"]["n"] == card["rainy"]["n"] == 4
    assert [step for step, _ in card["training"]["curve"]] == [1, 2]
    assert card["training"]["data"]["held_out"] == 1 and card["parameters"] > 0
    page = (mine / "docs" / "nafnet-general.md").read_text(encoding="utf-8")
    assert "| Mine | 1 |" in page and (mine / "docs" / "nafnet-general.png").is_file()
    tiles = card["tiles"]
    assert len(tiles["photographs"]) == 3 and tiles["together"]["most"] < 1 < tiles["alone"]["most"]
    assert f"differ from the whole by at most {short(tiles['together']['most'])} of 255" in page
    told = ship.in_words(tiled=True)[-1]
    assert "in tiles that pool over the whole picture" in told and "in tiles by themselves" in told
    assert "tiles" not in " ".join(ship.in_words())
    assert ship.path.stat().st_mode & 0o777 == 0o644
    assert str(mine.parent) not in json.dumps(card["training"]["data"])

    network = create_model("nafnet", pretrained="general")
    trained = create_model("nafnet", **ship.options)
    from benchmark import load_checkpoint

    (run,) = (mine / "runs" / "general").glob("nafnet-*")
    load_checkpoint(trained, run / "weights.safetensors")
    rainy = torch.rand(1, 3, 33, 47)
    assert not network.training
    torch.testing.assert_close(network(rainy), trained.eval()(rainy), rtol=0, atol=0)


def test_weights_of_two_trainings_name_both(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first,) = (mine / "runs" / "general").glob("nafnet-*")
    options = [f"model.{k}={v}" for k, v in shipped.default().options.items()]
    words = [
        "model=nafnet",
        "recipe=general",
        "data=photographs",
        f"data.root={mine / 'photographs'}",
        *options,
    ]
    words += ["recipe.steps=2", "recipe.validate_every=1", "recipe.patch=32", f"data.cache={mine}/cache"]
    words += [f"recipe.start_from={first / 'weights.safetensors'}", "recipe.schedule.warmup=0", "logger=csv"]
    config = resolve([*words, f"out={mine / 'runs'}"])
    execute(config)
    second = config.folder
    command = ["ship", str(second), "-o", str(mine / "twice"), "--docs", str(mine / "twice")]
    assert main(command) == 2
    assert "--first" in capsys.readouterr().err
    assert main([*command, "--first", str(second)]) == 2
    assert "not the weights" in capsys.readouterr().err
    assert main([*command, "--first", str(first)]) == 0
    card = json.loads((mine / "twice" / "nafnet-general.json").read_text())
    assert len(card["before"]) == 1 and card["training"]["data"]["start_from"]
    page = (mine / "twice" / "nafnet-general.md").read_text(encoding="utf-8")
    assert page.count("2 steps; recipe `general`") == 2 and "went on from the weights of the former" in page


def _page_again(mine: Path, run: Path, status: int = 0) -> str:
    command = ["ship", str(run), "-o", str(mine / "weights"), "--docs", str(mine / "docs"), "--page"]
    assert main(command) == status
    return (mine / "docs" / "nafnet-general.md").read_text(encoding="utf-8")


def _card(mine: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((mine / "weights" / "nafnet-general.json").read_text(encoding="utf-8"))
    return card


def test_what_was_seen_is_told_without_measuring_again(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = (mine / "runs" / "general").glob("nafnet-*")
    before, seen = _card(mine), mine / "docs" / "nafnet-general-seen.md"
    assert before["seen"] is None
    seen.write_text("| 437 | thin streaks gone – é |\n", encoding="utf-8")
    assert "\n## Seen\n\n| 437 | thin streaks gone – é |\n" in _page_again(mine, run)
    assert _card(mine) == {**before, "seen": "| 437 | thin streaks gone – é |"}

    capsys.readouterr()
    assert main(["ship", str(run), "--page", "--clean", str(mine)]) == 2
    assert "leave out" in capsys.readouterr().err
    seen.write_bytes(b"\xff\xfe")
    _page_again(mine, run, status=2)
    assert "nafnet-general-seen.md: cannot be read as UTF-8" in capsys.readouterr().err
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    (run / "record.json").write_text(json.dumps({**record, "date": "2020-01-01"}), encoding="utf-8")
    _page_again(mine, run, status=2)
    assert "of another run" in capsys.readouterr().err


def test_what_does_not_ship_is_said(mine: Path) -> None:
    with pytest.raises(UserError, match=r"no weights ship for .prenet. \(they do for nafnet\)"):
        create_model("prenet", pretrained="general")
    with pytest.raises(UserError, match="did you mean 'general'"):
        create_model("nafnet", pretrained="generl")
    with pytest.raises(UserError, match="leave out width"):
        create_model("nafnet", pretrained="general", width=8)
    path = shipped.default().path
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match="not the weights that were shipped"):
        create_model("nafnet", pretrained="general")


def test_what_weights_do_wrong_is_among_their_limits() -> None:
    from benchmark.cli.shipping import LIMITS, _limits

    good = {"clean": {"psnr_esdnet": 41.0}, "rainy": {"luma_change_mean": -0.029}}
    assert _limits(good) == _limits({"clean": None, "rainy": None}) == list(LIMITS)
    bad = {"clean": {"psnr_esdnet": 36.81}, "rainy": {"luma_change_mean": -0.046}}
    assert _limits(bad)[len(LIMITS) :] == [
        "leaving photographs without rain as they are (36.8 dB against themselves)",
        "keeping the brightness (mean luma -4.6 %)",
    ]


@pytest.mark.parametrize("name", list(shipped.shipped()))
def test_shipped_weights_do_what_their_card_says(name: str) -> None:
    ship = shipped.shipped()[name]
    network = create_model(ship.network, pretrained=ship.weights)
    assert sum(p.numel() for p in network.parameters()) == ship.card["parameters"]
    assert ship.path.stat().st_size == ship.card["bytes"] <= 4_000_000
    from benchmark.data import open_pairs
    from benchmark.run.evaluate import evaluate, summary

    pairs = open_pairs("embedded-heavy", None, "test")
    mean = summary(evaluate(network, pairs, conventions=["esdnet"], progress=False))
    assert mean["psnr_esdnet"] == pytest.approx(
        ship.card["embedded"]["embedded-heavy"]["psnr_esdnet"], abs=0.01
    )


def test_all_that_ships_is_small() -> None:
    assert sum(s.path.stat().st_size for s in shipped.shipped().values()) <= 10_000_000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ship", "nowhere"], "no run with a record.json"),
        (["ship", "nowhere", "--set", "Rain12"], "TITLE=FOLDER"),
        (["ship", "nowhere", "--set", "Rain12=/nowhere"], "no such folder"),
        (["ship", "nowhere", "--clean", "/nowhere"], "no such folder"),
    ],
)
def test_wrong_commands(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err
