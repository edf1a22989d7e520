"""From a study to its table: runs shared and done once, a failure kept to its row."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmark.cli import main

TINY = [
    "model.dim=4",
    "model.encoder_blocks=[1,1,1]",
    "model.bottleneck_blocks=0",
    "model.decoder_blocks=[1,1]",
    "recipe.steps=1",
    "recipe.batch=1",
    "recipe.patch=16",
    "trainer.accelerator=cpu",
]

MINE = """
title: Mine
base: {model.time_steps: 1}
variants:
  whole: {}
  the same again: {model.threshold: 0.15}
  other tiles: {evaluation.tile: whole}
  impossible: {model.block: sew, model.attention: true}
"""


def test_a_study_of_ones_own_shares_runs_and_survives_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "mine.yaml"
    study.write_text(MINE)
    words = ["ablations", str(study), *TINY, "--runs", str(tmp_path / "runs"), "--workers", "2"]
    assert main([*words, "--plan"]) == 0
    assert "3 runs: 3 waiting; 3 to do" in capsys.readouterr().out
    assert main(words) == 1, "a run failed"
    out = capsys.readouterr().out
    assert "neither attention nor a shortcut" in out
    folder = tmp_path / "runs" / "tables" / "embedded"
    assert {"mine.csv", "mine.md", "mine.png", "mine.tex"} <= {p.name for p in folder.iterdir()}
    rows = pd.read_csv(folder / "mine.csv").set_index("method")
    assert rows.loc["whole", "psnr"] == rows.loc["the same again", "psnr"]
    assert rows.loc["other tiles", "psnr"] > 0 and rows.loc["whole", "trained_energy_uj"] > 0
    assert pd.isna(rows.loc["impossible", "psnr"]) and "failed: " in rows.loc["impossible", "reason"]
    records = [json.loads(p.read_text()) for p in (tmp_path / "runs").rglob("record.json")]
    assert len(records) == 2, "the same question is one run"
    trained_as = [r["training"].get("trained_as") for r in records]
    names = {r["name"] for r in records}
    assert sorted(map(bool, trained_as)) == [False, True], "tested twice, trained once"
    assert {n for n in trained_as if n} <= names
    # trained once more, elsewhere, on as many threads: the same figures
    study.write_text("base: {model.time_steps: 1}\nvariants: {whole: {}}")
    again = tmp_path / "again"
    assert main(["ablations", str(study), *TINY, "--runs", str(again), "--workers", "2"]) == 0
    twice = pd.read_csv(again / "tables" / "embedded" / "mine.csv").set_index("method")
    for column in ("psnr", "ssim", "rate", "trained_energy_uj"):
        assert twice.loc["whole", column] == rows.loc["whole", column]


def test_wrong_words_are_answered_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, says in (
        (["table", "tabel3"], "did you mean 'table3'"),
        (["ablations", "nueron"], "did you mean 'neuron'"),
        (["table", "3", "--values", "1"], "values of one setting"),
        (["table", "1", "--values", "1"], "--values is for a study"),
        (["table", "4", "--models", "esdnet"], "--models is for Tables 1 and 2"),
        (["table", "3", "--data", str(tmp_path), "--recipe", "embedded"], "--recipe embedded"),
        (["table", "3", "model.block=ms"], "rows of this table differ in it"),
    ):
        assert main(words) == 2, words
        assert says in capsys.readouterr().err, words
    assert main(["ablations", "--list"]) == 0
    assert "SEW-ResNet" in capsys.readouterr().out
