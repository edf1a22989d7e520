"""The study: what it trains, that its networks are of one size, how rates are chosen, what is refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmark import catalog
from benchmark.cli import main
from benchmark.cli.study import Runs, chosen_rates, declared, keep, open_sets
from benchmark.cli.tables import Request
from benchmark.data.images import write_image
from benchmark.run.records import write_record
from benchmark.sweep.plan import unique

STUDY = declared()
GMAC = 2e9


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    wave = np.add.outer(np.arange(40), np.arange(50)) % 200
    for split, count in (("train", 3), ("test", STUDY.scenes + 3)):
        for i in range(count):
            write_image(
                tmp_path / "bsds" / split / f"{i}.png", np.stack([wave + i % 50] * 3, -1).astype(np.uint8)
            )
    return tmp_path / "bsds"


@pytest.fixture
def real(tmp_path: Path) -> Path:
    for name, count in (("Rain12", 2), ("Rain200L", STUDY.small + 1)):
        for i in range(count):
            for side in ("input", "target"):
                write_image(
                    tmp_path / "real" / name / side / f"{i}.png", np.full((20, 20, 3), 90 + i, np.uint8)
                )
    return tmp_path / "real"


def test_every_network_is_there_and_all_are_of_one_size() -> None:
    from benchmark import create_model, measure_cost

    options = STUDY.options()
    published = [name for name, entry in catalog.networks().items() if entry.is_ours() and entry.published]
    assert list(options) == published and len(published) == 14
    for name, own in options.items():
        count = measure_cost(create_model(name, **own), 256, shapes_only=True).operations
        assert 0.9 * GMAC <= count <= 1.1 * GMAC, name
        assert not set(own) & {"start_as_identity", "leaning_kernels", "intensity"}, (
            "started as by its authors"
        )


def test_plans_share_what_rows_share_and_go_seed_by_seed(
    photographs: Path, real: Path, tmp_path: Path
) -> None:
    sets = open_sets(photographs, real, tmp_path / "made", STUDY)
    assert [p.name for p in sets.test] == ["scenes-heavy", "scenes-light", "Rain12", "Rain200L"]
    assert [p.name for p in sets.small] == ["scenes-heavy", "scenes-light", "Rain12"]
    assert [p.name for p in sets.least] == ["scenes-heavy", "Rain12"]
    rainy = [len(list((p / "input").iterdir())) for p in sets.test[:2]]
    assert rainy == [STUDY.scenes] * 2
    runs = Runs(STUDY, sets, str(tmp_path / "runs"), [])
    rate = dict.fromkeys(STUDY.options(), 0.002)
    ablations = unique(runs.ablations(rate, 0))
    rows = Counter(row for run in ablations for row in run.rows)
    assert set(rows.values()) == {1}
    assert len(rows) == sum(len(catalog.study(s).variants) for s in STUDY.ablations["studies"])
    (whole,) = [run for run in ablations if ("table3", "SRB") in run.rows]
    assert {("table4", "4"), ("table5", "f")} < set(whole.rows)
    assert whole.spec.model.options["time_steps"] == 4 and whole.spec.recipe.steps == 600
    for seed, tested in ((0, sets.test), (1, sets.small)):
        for run in runs.networks(rate, seed):
            assert run.spec.recipe.optimizer.lr == 0.002 and run.spec.recipe.validation == 0.0
            assert run.spec.evaluation.also == [str(p.resolve()) for p in tested]
            assert run.spec.recipe.steps == 800
    matched = {row: run for run in runs.matched(rate, 0) for _, row in run.rows}
    assert matched.keys() == STUDY.matched["dims"].keys()
    assert matched["table4/2"].spec.model.options["time_steps"] == 2
    assert matched["table4/2"].spec.model.options["dim"] == STUDY.matched["dims"]["table4/2"]
    assert matched["table3/MS-ResNet"].spec.model.options["block"] == "ms"
    lengths = {(r.spec.model.name, r.spec.recipe.steps) for r in runs.lengths(rate, 0)}
    assert len(lengths) == len(STUDY.lengths["steps"]) * len(STUDY.lengths["networks"])


def test_a_rate_is_chosen_by_held_out_photographs_when_all_have_ended(
    photographs: Path, tmp_path: Path
) -> None:
    sets = open_sets(photographs, None, tmp_path / "made", STUDY, dry_run=True)
    runs, kept = Runs(STUDY, sets, str(tmp_path / "runs"), []).rates(), tmp_path / "kept"
    assert all(run.spec.recipe.validation > 0 and not run.spec.evaluation.also for run in runs)
    low, high = (run for run in runs if run.spec.model.name == "prenet")

    def done(run, score: float) -> None:
        told = {"identity": run.identity, "name": run.name, "config": {}, "results": {}, "commit": "c" * 40}
        write_record(run.folder, {**told, "training": {"validation_psnr_y": score}})

    assert chosen_rates(runs, kept) == {}
    done(low, 21.0)
    assert chosen_rates(runs, kept) == {}, "the other rate may be the better one"
    done(high, 22.0)
    assert chosen_rates(runs, kept) == {"prenet": high.spec.recipe.optimizer.lr}
    (high.folder / "record.json").unlink()
    (high.folder / "failure.json").write_text(json.dumps({"format": 1, "state": "diverged"}))
    assert chosen_rates(runs, kept) == {"prenet": low.spec.recipe.optimizer.lr}


def test_runs_that_are_kept_are_not_done_again_when_their_folders_are_gone(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(photographs), "--out", str(tmp_path / "kept"), "--dry-run", "--seeds", "0"]
    sets = open_sets(photographs, None, tmp_path / "runs" / "study-sets", STUDY, dry_run=True)
    every = Runs(STUDY, sets, str(tmp_path / "runs"), []).rates()
    for run, score in zip(every, range(len(every)), strict=True):
        told = {"identity": run.identity, "name": run.name, "config": {}, "results": {}, "commit": None}
        write_record(run.folder, {**told, "training": {"validation_psnr_y": 20.00001 + score}})
    assert keep(every, tmp_path / "kept") == len(every)
    shutil.rmtree(tmp_path / "runs")
    rates = chosen_rates(every, tmp_path / "kept")
    assert set(rates.values()) == {STUDY.rates["values"][-1]} and list(rates) == list(STUDY.options())
    assert keep(every, tmp_path / "kept") == 0, "and what was kept stays"
    assert chosen_rates(every, tmp_path / "kept") == rates
    assert main(["study", *words, "--runs", str(tmp_path / "runs")]) == 0
    shown = capsys.readouterr().out
    assert "rates esdnet" not in shown and "networks esdnet seed 0" in shown
    (esdnet,) = (
        r
        for r in Runs(STUDY, sets, str(tmp_path / "runs"), []).networks(rates, 0)
        if r.spec.model.name == "esdnet"
    )
    (tmp_path / "kept" / "runs").mkdir()
    (tmp_path / "kept" / "runs" / f"{esdnet.name}.json").write_text("{}")
    assert main(["study", *words, "--runs", str(tmp_path / "runs")]) == 0
    shown = capsys.readouterr().out
    assert "networks esdnet seed 0" not in shown and "networks prenet seed 0" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no such folder"),
        (["{bsds}/train"], "no folder 'train'"),
        (["{bsds}", "--real", "nowhere"], "no such folder"),
        (["{bsds}", "--real", "{bsds}"], "no pairs"),
        (["{bsds}", "--parts", "network"], "networks"),
        (["{bsds}", "--seeds", "x"], "--seeds"),
        (["{bsds}", "recipe.stepz=3"], "recipe.steps"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], told: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(bsds=photographs) for word in words]
    assert main(["study", *words, "--runs", str(tmp_path / "runs"), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_writes_nothing(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["study", str(photographs), "--runs", str(tmp_path / "runs"), "--dry-run", "--seeds", "0"]) == 0
    )
    shown = capsys.readouterr().out
    assert "rates esdnet 0.003" in shown and "table3 SEW-ResNet seed 0" in shown and "seed 1 " not in shown
    assert not (tmp_path / "runs").exists()


def test_words_of_a_request_win(photographs: Path, tmp_path: Path) -> None:
    sets = open_sets(photographs, None, tmp_path / "made", STUDY, dry_run=True)
    request = Request(settings=["recipe.steps=7"])
    runs = Runs(STUDY, sets, str(tmp_path), request.settings)
    assert {run.spec.recipe.steps for run in runs.rates()} == {7}


def test_what_is_kept_is_small_and_counts_perfect_pictures_as_means_do(
    photographs: Path, tmp_path: Path
) -> None:
    sets = open_sets(photographs, None, tmp_path / "made", STUDY, dry_run=True)
    runs = Runs(STUDY, sets, str(tmp_path / "runs"), [])
    run, other = runs.networks(dict.fromkeys(STUDY.options(), 0.001), 0)[:2]
    columns = {f"{p}{m}_esdnet": 0.25 for p in ("", "rainy_") for m in ("psnr", "ssim")}
    images = [
        {"name": "a", **columns, "psnr_esdnet": 31.1234567},
        {"name": "b", **columns, "psnr_esdnet": "inf"},
    ]
    training = {"steps": 3, "seconds": 1.0, "final_loss": 0.1, "validation_psnr_y": None}
    made = dict.fromkeys(("command", "commit", "code", "machine", "versions", "date"), "x")
    told = {
        "identity": run.identity,
        "name": run.name,
        "config": {},
        "training": training,
        "model_options": {},
    }
    data = {"train": "a", "test": {str(tmp_path / "study-sets" / "scenes-heavy"): "b"}}
    made["command"] = f"derain study {tmp_path}/bsds --real {tmp_path / 'real'} --workers 2 data.root=../x/y"
    told |= {"parameters": {"trained": 5}, "data": data, **made}
    write_record(run.folder, {**told, "results": {"scenes-heavy": {"mean": {"n": 2}, "images": images}}})
    assert keep([run, other], tmp_path / "kept") == 1
    (place,) = (tmp_path / "kept" / "runs").iterdir()
    kept = json.loads(place.read_text())
    assert kept["scores"] == {"scenes-heavy": {"psnr": [31.12346, 100.0], "ssim": [0.25, 0.25]}}
    assert kept["rows"] == [["networks", run.spec.model.name]] and kept["cost"] is None
    assert json.loads((tmp_path / "kept" / "sets.json").read_text())["scenes-heavy"]["pictures"] == ["a", "b"]
    assert str(tmp_path) not in place.read_text()
    assert kept["data"]["test"] == {"scenes-heavy": "b"}
    assert kept["command"] == "derain study bsds --real real --workers 2 data.root=../x/y"


def test_a_broken_list_of_pictures_is_one_line(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "sets.json").write_text("{")
    words = [str(photographs), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "kept"), "--draw"]
    assert main(["study", *words]) == 2
    error = capsys.readouterr().err
    assert "sets.json: cannot be read" in error and "Traceback" not in error
    assert (tmp_path / "kept" / "sets.json").read_text() == "{"
