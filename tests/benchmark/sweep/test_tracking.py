"""W&B: what of a run goes there, what must not, and that a run does not need it."""

from __future__ import annotations

import dataclasses
import http.server
import json
import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
import pytest

from benchmark import catalog
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.files import WEIGHTS
from benchmark.run import tracking
from benchmark.run.execute import execute
from benchmark.run.records import RECORD, read_record
from benchmark.run.tracking import Sample, Tracker, figures, words
from benchmark.spec import resolve, settings_of
from benchmark.sweep.driver import drive
from benchmark.sweep.plan import Planner

KEY = "0123456789abcdef0123456789abcdef01234567"
TINY = [
    "model=esdnet",
    "model.dim=4",
    "model.encoder_blocks=[1,1,1]",
    "model.bottleneck_blocks=0",
    "model.decoder_blocks=[1,1]",
    "model.time_steps=2",
    "data=embedded",
    "recipe=embedded",
    "recipe.batch=2",
    "recipe.patch=16",
    "recipe.steps=4",
    "recipe.select=best",
    "recipe.validation=0.05",
    "recipe.validate_every=2",
    "trainer.threads=1",
    "trainer.log_every=2",
    "trainer.accelerator=cpu",
    "evaluation.tile=whole",
]


def _records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


def _values(items: Any) -> dict[str, Any]:
    return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any], list[Any]]]:
    """A run logged offline by a user with a home, a host and a key: its folder, record and what W&B has of it."""
    home = tmp_path_factory.mktemp("home-of-somebody")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("WANDB_")]:
            patch.delenv(name)
        cache = os.environ.get("DERAIN_CACHE", str(Path.home() / ".cache" / "derain"))
        patch.setenv("DERAIN_CACHE", cache)
        patch.setenv("HOME", str(home))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_API_KEY", KEY)
        patch.setattr(sys, "argv", ["derain", "train", f"out={home / 'runs'}"])
        config = resolve([*TINY, f"out={home / 'runs'}", "trainer.log_weights=true"])
        record = execute(config)
        folder = config.folder
        (found,) = folder.glob("wandb/offline-run-*/*.wandb")
        until = time.monotonic() + 60  # W&B's own process closes the file a moment after the run is finished
        while not any(r.HasField("exit") for r in _records(found)) and time.monotonic() < until:
            time.sleep(0.1)
        yield folder, record, list(_records(found))


def test_what_is_logged_during_training(offline: tuple[Path, dict[str, Any], list[Any]]) -> None:
    rows = [_values(r.history.item) for r in offline[2] if r.HasField("history")]
    logged = {k for row in rows for k in row}
    assert logged >= {
        "train/loss",
        "train/learning_rate",
        "validation/psnr_y",
        "validation/ssim_y",
        "spike_rate/encoder1",
        "spike_rate/encoder3",
        "trainer/global_step",
    }
    rates = [row["spike_rate/encoder1"] for row in rows if "spike_rate/encoder1" in row]
    assert all(0 <= rate <= 1 for rate in rates)
    steps = [row["trainer/global_step"] for row in rows if "train/loss" in row]
    assert steps == sorted(steps) and len(steps) == 2


def test_what_a_run_has_come_to(offline: tuple[Path, dict[str, Any], list[Any]]) -> None:
    _, record, found = offline
    summary: dict[str, Any] = {}
    for r in found:
        if r.HasField("summary"):
            summary |= _values(r.summary.update)
    for dataset in ("embedded-light", "embedded-12"):
        mean = record["results"][dataset]["mean"]
        assert summary[f"test/{dataset}/psnr_y"] == pytest.approx(mean["psnr_esdnet"])
        assert summary[f"test/{dataset}/ssim_y"] == pytest.approx(mean["ssim_esdnet"])
    assert summary["validation/psnr_y"] == pytest.approx(record["training"]["validation_psnr_y"])
    # under `full` every operation is counted, under `paper` what thop sees, at 12.5 pJ each
    assert summary["cost/parameters"] == record["parameters"]["trained"]
    assert summary["cost/operations_paper"] < summary["cost/operations_full"]
    assert summary["cost/energy_paper_uj"] == pytest.approx(12.5e-6 * summary["cost/operations_paper"])
    assert summary["cost/energy_full_uj"] > 0
    assert 0 < summary["cost/spike_rate"] < 1


def test_pictures_and_the_record_go_along(offline: tuple[Path, dict[str, Any], list[Any]]) -> None:
    folder, record, found = offline
    pictures: dict[str, dict[str, Any]] = {}
    for item in (i for r in found if r.HasField("history") for i in r.history.item):
        if len(item.nested_key) == 2 and item.nested_key[0].startswith("pictures/"):
            pictures.setdefault(item.nested_key[0], {})[item.nested_key[1]] = json.loads(item.value_json)
    assert len([k for k in pictures if k.startswith("pictures/embedded-light/")]) == 3
    for shown in pictures.values():
        (path,) = folder.glob(f"wandb/offline-run-*/files/{shown['path']}")
        assert path.is_file()
        assert shown["width"] == 3 * next(
            row["width"]
            for result in record["results"].values()
            for row in result["images"]
            if row["name"] == shown["caption"].partition(":")[0]
        )
    artifacts = {r.artifact.type: r.artifact for r in found if r.HasField("artifact")}
    artifact = artifacts.pop("record")
    assert list(artifacts) == ["run_table", "model"], "the scores of every picture, and the weights"
    table_artifact = artifacts["run_table"]
    (table,) = folder.glob("wandb/offline-run-*/files/media/table/scores*.json")
    told = json.loads(table.read_text())
    assert "restored PSNR-Y (dB)" in told["columns"]
    assert len(told["data"]) == sum(len(result["images"]) for result in record["results"].values())
    kept = {c.path: Path(c.local_path) for c in table_artifact.manifest.contents}
    told = json.loads(kept["scores.table.json"].read_text())
    assert told["columns"][2:5] == ["rainy", "restored", "target"]
    with_pictures = [row for row in told["data"] if row[2] is not None]
    sets = [row[0] for row in with_pictures]
    assert {name: sets.count(name) for name in sets} == dict.fromkeys(record["results"], 3)
    for row in with_pictures:
        assert len({shown["sha256"] for shown in row[2:5]}) == 3, "rainy, restored and target differ"
        for shown in row[2:5]:
            assert max(shown["width"], shown["height"]) <= 192
            assert kept[shown["path"]].read_bytes().startswith(b"\x89PNG")
    assert (artifact.type, artifact.name) == ("record", f"record-{record['identity']}")
    (content,) = artifact.manifest.contents
    sent = json.loads(Path(content.local_path).read_text())
    assert content.path == RECORD and sent["results"] == json.loads(json.dumps(record["results"]))
    # what is sent lies beside the record, and is not taken for one
    assert len(list(folder.rglob(RECORD))) == 1


def test_spike_rates_have_histograms(offline: tuple[Path, dict[str, Any], list[Any]]) -> None:
    rows = [_values(r.history.item) for r in offline[2] if r.HasField("history")]
    start = "spike_rate_histogram/encoder1/"
    shown = [row for row in rows if f"{start}values" in row]
    assert [row["trainer/global_step"] for row in shown] == [1, 3]
    for row in shown:
        assert row[f"{start}_type"] == "histogram"
        counts, edges = np.array(row[f"{start}values"]), np.array(row[f"{start}bins"])
        assert (edges[0], edges[-1]) == (0, 1) and counts.sum() > 0
        # between what it would be with every channel at the lower, and at the upper edge of its bin
        least, most = (counts @ edge / counts.sum() for edge in (edges[:-1], edges[1:]))
        (rate,) = [
            r["spike_rate/encoder1"]
            for r in rows
            if "spike_rate/encoder1" in r and r["trainer/global_step"] == row["trainer/global_step"]
        ]
        assert least <= rate <= most


def test_weights_go_along_on_request(offline: tuple[Path, dict[str, Any], list[Any]]) -> None:
    folder, record, found = offline
    (artifact,) = [r.artifact for r in found if r.HasField("artifact") and r.artifact.type == "model"]
    (content,) = artifact.manifest.contents
    assert artifact.name == f"weights-{record['identity']}" and content.path == WEIGHTS
    assert Path(content.local_path).read_bytes() == (folder / WEIGHTS).read_bytes()
    plain = resolve(TINY)
    assert not plain.trainer.log_weights and plain.identity == record["identity"]
    with pytest.raises(UserError, match=r"logger=csv,tensorboard keeps no artifacts"):
        resolve([*TINY, "logger=csv,tensorboard", "trainer.log_weights=true"])


def test_nothing_of_the_user_is_written(offline: tuple[Path, dict[str, Any], list[Any]]) -> None:
    folder, _, found = offline
    home = str(Path.home())  # the fixture's: it is in effect as long as the module's tests run
    for r in found:
        if r.HasField("artifact"):  # where the file lies is kept on this machine, and not sent
            for content in r.artifact.manifest.contents:
                content.local_path = ""
        text = r.SerializeToString()
        for secret in (home, KEY, f"{socket.gethostname()}\n", "home-of-somebody"):
            assert secret.encode() not in text, secret
        if r.HasField("run"):
            assert not r.run.host and not r.run.git.remote_url and not r.run.git.commit
    kinds = {r.WhichOneof("record_type") for r in found}
    assert not kinds & {"output", "output_raw", "stats", "environment"}
    sent = [p for p in folder.glob("wandb/**/*") if p.is_file() and p.suffix not in (".log", ".wandb")]
    assert {p.suffix for p in sent} == {".png", ".json"}, "no source, no list of packages, no metadata"
    for path in sent:
        assert home.encode() not in path.read_bytes()
    everything = [p for p in folder.glob("wandb/**/*") if p.is_file()]
    assert not any(KEY.encode() in p.read_bytes() for p in everything)


def test_the_run_has_the_names_of_the_command_line(offline: tuple[Path, dict[str, Any], list[Any]]) -> None:
    (run,) = [r.run for r in offline[2] if r.HasField("run")]
    config = _values(run.config.update)
    assert run.run_id == offline[1]["identity"] and run.resume
    assert run.job_type == "train" and run.run_group == "esdnet-embedded-embedded"
    assert list(run.tags) == ["esdnet", catalog.network("esdnet").family, "embedded"]
    assert (config["model"], config["data"], config["recipe"], config["seed"]) == (
        "esdnet",
        "embedded",
        "embedded",
        0,
    )
    assert config["recipe.steps"] == 4 and config["model.dim"] == 4
    assert not {"out", "data.root", "data.cache"} & set(config)


class _Run:
    """Stands for a W&B run."""

    def __init__(self, wandb: types.ModuleType, **options: Any) -> None:
        self.options, self.wandb, self.summary = options, wandb, {}
        self.logged: list[dict[str, Any]] = []
        self.artifacts: list[Any] = []
        self.exit_code: int | None = None

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def log(self, values: dict[str, Any]) -> None:
        if getattr(self.wandb, "down", False):
            raise ConnectionError("the service is gone\nwith details")
        self.logged.append(values)

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact)

    def finish(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    wandb: Any = types.ModuleType("wandb")
    wandb.runs = []
    monkeypatch.setattr(tracking, "unreachable", lambda: "")

    def init(**options: Any) -> _Run:
        wandb.runs.append(_Run(wandb, **options))
        return wandb.runs[-1]

    class Artifact:
        def __init__(self, name: str, type: str) -> None:
            self.name = name

        def add_file(self, path: str, **_: Any) -> None:
            self.path = path

    wandb.init, wandb.Artifact = init, Artifact
    wandb.Settings = lambda **settings: settings
    wandb.Table = lambda columns, data: (columns, data)
    wandb.Image = lambda picture, caption: (picture.shape, caption)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", os.devnull)
    return wandb


SAMPLE = Sample("set", "one", "what it is", *[np.zeros((2, 2, 3), np.uint8)] * 3)
RECORD_DONE = {"identity": "abc", "training": {"seconds": 1.0, "validation_psnr_y": None}, "results": {}}


def _tracker(folder: Path, *more: str) -> Tracker:
    return Tracker(resolve(["model=prenet", "recipe=embedded", *more]), folder)


def test_nothing_is_opened_without_being_asked_for(fake: Any, tmp_path: Path, monkeypatch: Any) -> None:
    _tracker(tmp_path, "logger=csv").log({"x": 1.0}, 1)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    _tracker(tmp_path).log({"x": 1.0}, 1)
    monkeypatch.delenv("WANDB_MODE")
    _tracker(tmp_path).close()
    assert not fake.runs


def test_a_mode_that_wandb_does_not_have_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlin")
    assert main(["train", *TINY, f"out={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert "unknown WANDB_MODE 'onlin': did you mean 'online'" in said and said.count("\n") == 1
    with pytest.raises(UserError, match="WANDB_MODE 'onlin'"):
        drive([Planner(()).plan([*TINY, f"out={tmp_path}"], 0)], types.SimpleNamespace())
    assert not list(tmp_path.iterdir())
    for asked, meant in (("", None), ("dryrun", "offline"), ("run", "online"), ("disabled", "disabled")):
        monkeypatch.setenv("WANDB_MODE", asked)
        assert tracking.mode() == meant


def test_what_pydantic_refuses_is_said_with_its_reason() -> None:
    class Settings(pydantic.BaseModel):
        mode: Literal["online", "offline"]

    with pytest.raises(pydantic.ValidationError) as caught:
        Settings(mode="onlin")
    assert tracking._reason(caught.value) == "mode: Input should be 'online' or 'offline'"
    assert tracking._reason(TimeoutError()) == "TimeoutError"


def test_without_a_key_it_is_offline_and_with_one_online(fake: Any, tmp_path: Path, monkeypatch: Any) -> None:
    _tracker(tmp_path).log({"x": 1.0}, 1)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    _tracker(tmp_path).log({"x": 1.0}, 1)
    monkeypatch.delenv("WANDB_API_KEY")
    kept = tmp_path / "netrc"
    kept.write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    kept.chmod(0o600)
    monkeypatch.setenv("NETRC", str(kept))
    _tracker(tmp_path).log({"x": 1.0}, 1)
    assert [r.options["mode"] for r in fake.runs] == ["offline", "online", "online"]
    assert all(r.options["resume"] == "allow" for r in fake.runs)


def test_a_server_that_does_not_answer_leaves_the_run_offline(
    fake: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(tracking, "unreachable", lambda: "no answer")
    tracker = _tracker(tmp_path)
    tracker.log({"x": 1.0}, 1)
    tracker.log({"x": 2.0}, 2)
    (run,) = fake.runs
    assert run.options["mode"] == "offline" and len(run.logged) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_server_that_is_down_is_known_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert tracking.unreachable()


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None: ...


def test_a_server_that_answers_is_reached_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert tracking.unreachable() == ""


def test_a_fault_is_said_once_and_touches_nothing(fake: Any, tmp_path: Path, capsys: Any) -> None:
    tracker = _tracker(tmp_path)
    tracker.log({"x": 1.0}, 1)
    fake.down = True
    tracker.log({"x": 2.0}, 2)
    tracker.log({"x": 3.0}, 3)
    tracker.pictures(lambda: iter([SAMPLE]))
    tracker.histograms({"encoder1": np.zeros(4, np.float32)}, 3)
    tracker.done(RECORD_DONE, lambda: None)
    said = capsys.readouterr().err
    assert said == "derain: not logged to W&B (the service is gone); the run goes on\n"


def test_costs_that_cannot_be_counted_are_no_reason_to_fail(fake: Any, tmp_path: Path, capsys: Any) -> None:
    def costs() -> Any:
        raise ValueError("not countable")

    _tracker(tmp_path).done(RECORD_DONE, costs)
    assert "not countable" in capsys.readouterr().err
    assert fake.runs[0].exit_code == 0


def test_under_an_agent_the_run_is_the_agents(fake: Any, tmp_path: Path, monkeypatch: Any) -> None:
    config = resolve(["model=prenet", "recipe=embedded"])
    tracker = Tracker(config, tmp_path)
    tracker.log({"x": 1.0}, 1)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    Tracker(config, tmp_path).log({"x": 1.0}, 1)
    assert [r.options["id"] for r in fake.runs] == [config.identity, "agents"]


def test_a_run_that_is_done_tells_an_agent_what_it_has_come_to(
    fake: Any, offline: tuple[Path, dict[str, Any], list[Any]], monkeypatch: Any
) -> None:
    folder, record, _ = offline
    config = resolve([*TINY, f"out={folder.parent.parent}"])
    execute(config)
    assert not fake.runs, "nobody asked"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    execute(config)
    (run,) = fake.runs
    assert run.summary["test/embedded-light/psnr_y"] == pytest.approx(
        record["results"]["embedded-light"]["mean"]["psnr_esdnet"]
    )
    assert run.summary["validation/psnr_y"] > 0 and run.exit_code == 0


def test_a_failed_run_closes_as_failed(fake: Any, tmp_path: Path) -> None:
    tracker = _tracker(tmp_path)
    tracker.log({"x": 1.0}, 1)
    tracker.close(failed=True)
    assert fake.runs[0].exit_code == 1


def test_figures_leave_out_what_is_not_there_or_not_finite() -> None:
    record = {
        "results": {"a": {"mean": {"psnr_esdnet": math.inf, "ssim_esdnet": 0.5}}},
        "training": {"seconds": 2.0},
    }
    assert figures(record) == {"train/seconds": 2.0, "test/a/ssim_y": 0.5}


def test_words_are_settings_that_resolve_to_the_same_run() -> None:
    config = resolve(["model=esdnet", "model.time_steps=2", "recipe=authors", "recipe.optimizer.lr=0.01"])
    again = resolve(
        [
            f"{k}={v if isinstance(v, str) else json.dumps(v)}"
            for k, v in words(config).items()
            if k not in ("recipe", "variant")
        ]
    )
    named = dataclasses.replace(again, recipe=dataclasses.replace(again.recipe, name=config.recipe.name))
    assert named.name == config.name
    assert set(settings_of(config)) - set(words(config)) == {"out", "data.root", "data.cache"}
    assert words(config)["variant"] == "time_steps=2"


def test_a_run_does_not_need_wandb(tmp_path: Path, derain: Any) -> None:
    """wandb cannot be imported: one line says so, the record is complete."""
    config = resolve(
        [*TINY, f"out={tmp_path}", "recipe.steps=2", "recipe.select=last", "recipe.validation=0"]
    )
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "__init__.py").write_text("raise ImportError('no wandb here')\n")
    words = [*TINY, f"out={tmp_path}", "recipe.steps=2", "recipe.select=last", "recipe.validation=0"]
    done = derain.run(
        "train",
        *words,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("not logged to W&B (no wandb here: pip install wandb, or logger=csv)") == 1
    record = read_record(config.folder)
    assert record is not None and record["results"]
    assert (config.folder / "metrics.csv").is_file()
    assert tracking.PROJECT  # what is tested is this checkout's


def test_sync_sends_what_is_not_sent_yet(
    offline: tuple[Path, dict[str, Any], list[Any]], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    folder = offline[0]
    runs = tmp_path / "runs"
    shutil.copytree(folder, runs / "embedded" / folder.name, symlinks=True)
    (log,) = runs.rglob("offline-run-*/run-*.wandb")
    assert main(["sync", str(runs), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(log.parent), "1 to send to W&B"]
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", os.devnull)
    assert main(["sync", str(runs)]) == 2
    assert capsys.readouterr().err == (
        "derain: no key for W&B: set WANDB_API_KEY, or log in with: wandb login\n"
    )
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    asked: list[list[str]] = []

    def wandb_sync(command: list[str], **_: Any) -> Any:
        asked.append(command)
        Path(f"{log}.synced").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", wandb_sync)
    assert main(["sync", str(runs)]) == 0
    assert asked[0][1:] == ["-m", "wandb", "sync", "--yes", str(log.parent)]
    assert main(["sync", str(runs)]) == 0 and len(asked) == 1
    assert main(["sync", str(tmp_path / "nowhere")]) == 2


def test_wandb_takes_what_derain_sync_gives_it(offline: tuple[Path, dict[str, Any], list[Any]]) -> None:
    (log,) = offline[0].glob("wandb/offline-run-*/run-*.wandb")
    words = [sys.executable, "-m", "wandb", "sync", "--yes", "--dry-run", str(log.parent)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and log.parent.name in done.stdout + done.stderr
