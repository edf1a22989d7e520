"""Loggers by name: several at once, what each has of a run, where it says its files lie, and one that is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.files import WEIGHTS
from benchmark.run.loggers import Loggers
from benchmark.run.records import read_record
from benchmark.run.tracking import Sample
from benchmark.spec import from_plain, resolve
from benchmark.training.train import log_interval

TINY = [
    *("model=prenet", "model.channels=4", "model.stages=1", "data=embedded-light", "recipe=embedded"),
    *("recipe.batch=1", "recipe.patch=16", "recipe.steps=4", "recipe.select=last", "recipe.validation=0"),
    *("trainer.threads=1", "trainer.accelerator=cpu"),
]


def test_loggers_are_named_alone_in_a_list_or_with_commas() -> None:
    assert resolve([]).logger == ["wandb"]
    for word in ("csv,tensorboard", "[csv,tensorboard]", '["csv", "tensorboard"]', "csv, tensorboard"):
        assert resolve([f"logger={word}"]).logger == ["csv", "tensorboard"]
    assert from_plain({**resolve([]).plain(), "logger": "csv"}).logger == ["csv"], "of earlier versions"


def test_a_run_logs_fifty_points_at_least() -> None:
    for total in (*range(50, 3000, 7), 1_300_000):
        assert total // log_interval(total) >= 50
    assert log_interval(1_300_000) == 50 and log_interval(3) == 1


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_one_that_is_not_installed_is_a_line_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == name else there(n, *a))
    words = [*TINY, f"logger=csv,{name}", f"out={tmp_path / 'runs'}"]
    for command in (
        ["train", *words],
        ["table", "1", "--models", "prenet", "--runs", str(tmp_path / "runs"), f"logger={name}"],
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"pip install {name}" in said
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".gitignore"]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that TensorBoard and MLflow log, by the command line: its settings, and what was said."""
    import contextlib
    import io

    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    runs = tmp_path_factory.mktemp("logged") / "runs"
    words = [*TINY, "logger=tensorboard,mlflow", "trainer.log_weights=true", f"out={runs}"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as said:
        for name in [n for n in os.environ if n.startswith("MLFLOW_")]:
            patch.delenv(name)
        assert main(["train", *words]) == 0
    return resolve(words), said.getvalue()


def test_training_says_where_and_shows_the_loss(logged: Any) -> None:
    config, said = logged
    (line,) = [line for line in said.splitlines() if line.startswith("logging to")]
    assert line == (
        f"logging to {config.folder}/metrics.csv, tensorboard offline ({config.folder}/tensorboard; "
        f"tensorboard --logdir {config.out}), mlflow offline ({config.out}/mlruns)"
    )
    assert re.search(r"step 4 of 4, loss [-0-9.e]+$", said, re.MULTILINE)


def test_what_tensorboard_has(logged: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config, _ = logged
    record = read_record(config.folder)
    assert record is not None
    found = EventAccumulator(str(config.folder / "tensorboard"))
    found.Reload()
    assert [event.step for event in found.Scalars("train/loss")] == [0, 1, 2, 3]
    (score,) = found.Scalars("test/embedded-light/psnr_y")
    assert score.value == pytest.approx(record["results"]["embedded-light"]["mean"]["psnr_esdnet"])
    assert len([tag for tag in found.Tags()["images"] if tag.startswith("pictures/embedded-light/")]) == 3


def test_what_mlflow_has(logged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    config, _ = logged
    record = read_record(config.folder)
    assert record is not None
    client = MlflowClient((Path(config.out) / "mlruns").absolute().as_uri())
    experiment = client.get_experiment_by_name("derain")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["model.channels"] == "4"
    assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 4
    mean = record["results"]["embedded-light"]["mean"]
    assert run.data.metrics["test/embedded-light/psnr_y"] == pytest.approx(mean["psnr_esdnet"])
    (table,) = (Path(config.out) / "mlruns").rglob("scores.json")
    shown = json.loads(table.read_text())
    assert len(shown["picture"]) == mean["n"]
    (weights,) = (Path(config.out) / "mlruns").rglob(WEIGHTS)
    assert weights.read_bytes() == (config.folder / WEIGHTS).read_bytes()
    kept = "".join(p.read_text() for p in (Path(config.out) / "mlruns").rglob("tags/*"))
    assert os.environ.get("USER", "root") not in kept and str(Path.home()) not in kept
    # one that goes on is the same run
    again = Loggers(config, config.folder)
    again.sinks[1].log({"train/loss": 0.5}, 9)
    again.close(failed=True)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED" and run.data.metrics["train/loss"] == 0.5


def test_tensorboard_has_histograms_of_spike_rates(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = resolve([*TINY, "logger=tensorboard", f"out={tmp_path}"])
    loggers = Loggers(config, tmp_path)
    loggers.histograms({"encoder1": np.array([0.0, 0.0, 0.5, 1.0], np.float32)}, 7)
    loggers.close()
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    (event,) = found.Histograms("spike_rate_histogram/encoder1")
    shown = event.histogram_value
    assert (event.step, shown.num, shown.min, shown.max) == (7, 4, 0.0, 1.0)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_fault_is_said_once_and_touches_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(name)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "file" / "mlruns").as_uri())
    config = resolve([*TINY, f"logger={name}", f"out={tmp_path}"])
    loggers = Loggers(config, tmp_path / "file")
    loggers.log({"x": 1.0}, 1)
    loggers.log({"x": 2.0}, 2)
    loggers.pictures(lambda: iter([Sample("set", "one", "", *[np.zeros((2, 2, 3), np.uint8)] * 3)]))
    loggers.histograms({"encoder1": np.zeros(4, np.float32)}, 3)
    loggers.done({"training": {}, "results": {}}, lambda: None)
    said = capsys.readouterr().err
    assert said.count("derain: not logged to") == 1 and "the run goes on" in said
