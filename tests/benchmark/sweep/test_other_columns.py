"""Any dataset that is named is a column of Table 1: of the atlas, or a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.data.images import write_image
from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError
from benchmark.report.tables import table1 as drawn
from benchmark.spec import resolve
from benchmark.sweep import planfile
from benchmark.sweep.plan import chosen_datasets, table1


def _pairs(folder: Path, count: int = 2) -> None:
    rng = np.random.default_rng(len(str(folder)))
    for i in range(1, count + 1):
        clean = rng.integers(0, 200, (24, 32, 3), dtype=np.uint8)
        write_image(folder / "target" / f"{i}.png", clean)
        write_image(folder / "input" / f"{i}.png", clean + rng.integers(1, 50, dtype=np.uint8))


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    for part in (
        "Rain200L/train",
        "Rain200L/test",
        "Rain12",
        "Rain100L/test",
        "Rain200H/train",
        "Rain200H/test",
    ):
        _pairs(tmp_path / "data" / part)
    _pairs(tmp_path / "mine", 3)
    _pairs(tmp_path / "own" / "train")
    _pairs(tmp_path / "own" / "test")
    return tmp_path


def test_which_model_tests_which_set(sets: Path) -> None:
    root = str(sets / "data")
    words = [
        "rain12",
        "rain100l@rain200l",
        "rain100l",
        f"{sets}/mine",
        f"{sets}/own",
        f"{sets}/mine@rain200h",
    ]
    assert chosen_datasets(words, root) == [
        "rain12",
        "rain100l@rain200l",
        "rain100l",
        f"{sets}/mine@rain200l",
        f"{sets}/own",
        f"{sets}/mine@rain200h",
    ]
    plan = table1("paper", root, ["prenet"], datasets=words)
    assert list(plan.absent) == ["rain100l"] and "no 'train' split of 'rain100l'" in plan.absent["rain100l"]
    tested = {r.spec.data.name: r.spec.evaluation.also for r in plan.runs}
    assert tested == {"rain200l": ["rain100l", f"{sets}/mine"], "folder": [], "rain200h": [f"{sets}/mine"]}
    (own,) = [r for r in plan.runs if r.spec.data.name == "folder"]
    assert own.spec.data.root == f"{sets}/own"
    assert chosen_datasets(["rain200h", "rain12"], root) == ["rain12", "rain200h"], "the table's own order"
    assert chosen_datasets([f"{sets}/mine"], None) == [f"{sets}/mine@embedded"]
    with pytest.raises(UserError, match="embedded-light"):
        table1("embedded", None, ["prenet"], datasets=["embedded-heavy@embedded-light"])


def test_what_is_tested_besides_is_another_run_of_the_same_training(sets: Path, monkeypatch) -> None:
    plain = resolve(["data=rain200l"])
    also = resolve(["data=rain200l", "evaluation.also=[rain100l]"])
    assert plain.identity != also.identity and plain.training_identity == also.training_identity
    monkeypatch.chdir(sets)
    here = resolve(["data=rain200l", "evaluation.also=[./mine]"])
    assert here.identity == resolve(["data=rain200l", f"evaluation.also=[{sets}/mine]"]).identity


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("rain100", "or 'rain100l'"),
        ("rain100l@rain200", "unknown dataset 'rain200'"),
        ("rw-data", "no clean pictures.*table 2"),
        ("photographs", "no clean pictures"),
        ("folder", "name the folder itself"),
        ("embedded-12", "without --data"),
        ("rain100l@embedded-light", "without --data"),
        ("rain100l@rw-data", "cannot be trained on"),
        ("./none", "no such folder"),
        ("mine", "is written ./mine"),
        ("./mine,./mine@rain200l", "both called mine@rain200l"),
    ],
)
def test_what_can_be_no_column(sets: Path, monkeypatch, word: str, told: str) -> None:
    monkeypatch.chdir(sets)
    with pytest.raises(UserError, match=told):
        table1("paper", "data", ["prenet"], datasets=word.split(","))


def test_a_published_set_needs_its_place(sets: Path) -> None:
    with pytest.raises(UserError, match="needs --data"):
        table1("embedded", None, ["prenet"], datasets=["rain100l"])
    with pytest.raises(UserError, match="rw-data has no clean pictures"):
        resolve(["data=rain200l", "evaluation.also=[rw-data]"])
    with pytest.raises(UserError, match="did you mean 'rain100l'"):
        resolve(["data=rain200l", "evaluation.also=[rain100ll]"])


def test_a_table_of_them(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data.accept_problems=true", "recipe.steps=1", "recipe.batch=1", "recipe.patch=16", "logger=csv"]
    words += ["recipe.select=last", "model.stages=1", "model.channels=4", "model.residual_blocks=1"]
    words += [f"data.cache={sets / 'cache'}", "--data", str(sets / "data"), "--models", "prenet"]
    words += ["--runs", str(sets / "runs"), "--datasets", f"rain12,rain100l@rain200l,{sets}/mine,{sets}/own"]
    plan = sets / "plan.yaml"
    assert main(["table", "1", *words, "--save-plan", str(plan)]) == 0
    heading, saved = planfile.load(plan, str(sets / "runs"))
    assert heading.datasets == ["rain12", "rain100l@rain200l", f"{sets}/mine@rain200l", f"{sets}/own"]
    assert len(saved.runs) == 2
    assert main(["table", "1", *words]) == 0
    (table,) = (sets / "runs" / "tables").rglob("table1.json")
    told = json.loads(table.read_text())
    row = next(r["cells"] for r in told["rows"] if r["label"] == "PReNet")
    columns = ["rain12", "rain100l@rain200l", "mine@rain200l", "own"]
    assert all(row[f"{c}_{m}"]["value"] for c in columns for m in ("psnr", "ssim"))
    assert np.isclose(row["average_psnr"]["value"], np.mean([row[f"{c}_psnr"]["value"] for c in columns]))
    assert row["average_psnr"]["paper"] is None, "the paper's average is over other sets"
    assert row["rain12_psnr"]["paper"] is not None and row["rain100l@rain200l_psnr"]["paper"] is None
    assert str(sets) not in (table.parent / "table1.md").read_text()
    titles = [c["title"] for c in told["columns"]]
    assert "mine (Rain200L's model)\nPSNR-Y" in titles and "own\nPSNR-Y" in titles
    records = [json.loads(p.read_text()) for p in (sets / "runs").rglob("record.json")]
    by_training = {r["config"]["data"]["name"]: set(r["results"]) for r in records}
    assert by_training == {"rain200l": {"rain200l", "rain12", "rain100l", "mine"}, "folder": {"folder"}}
    assert next(r for r in records if "mine" in r["results"])["results"]["mine"]["mean"]["n"] == 3


def test_the_printed_average_stands_beside_the_same_sets_alone() -> None:
    four = ["rain12", "rain200l", "rain200h", "rain1200"]
    for datasets, printed in ((four, True), (four[:3], False), ([*four, "rain100l"], False)):
        table = drawn("t", datasets, [], models=["prenet"])
        assert (table.rows[-1].cells["average_psnr"].paper is not None) == printed
        assert table.rows[-1].cells["rain12_psnr"].paper is not None


def test_names_of_sets() -> None:
    assert dataset_spec("/data/mine").name == "mine" and dataset_spec("/data/rain12").name == "rain12-folder"
    assert dataset_spec("rain12@rain200l").columns == "rain12", "as its entry has it"
    assert dataset_spec("rain12@rain200h").columns is None
