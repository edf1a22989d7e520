"""Runs' folders in object storage: what is put there, what comes back, and a run that moves from worker to worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.run.claims import Claim
from benchmark.run.records import RECORD, read_record
from benchmark.sweep import storage as storage_module
from benchmark.sweep.child import Order
from benchmark.sweep.driver import drive
from benchmark.sweep.executors import ExecutorConfig
from benchmark.sweep.executors.local import LocalExecutor
from benchmark.sweep.executors.supervise import supervise
from benchmark.sweep.storage import Mirror, require_storage


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest, storage: Any) -> str:
    """Storage with folders, storage that has names alone, and a server of S3's protocol."""
    return str(storage(request.param))


def _texts(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def _run_folder(path: Path, **files: str) -> Path:
    folder = path / "embedded" / "run"
    for name, text in files.items():
        place = folder / name.replace("_", ".").replace("-", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


def test_an_error_without_words_is_named_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(url: str) -> Any:
        raise TimeoutError

    monkeypatch.setattr(storage_module, "_opened", silent)
    with pytest.raises(UserError, match=r"executor\.storage=s3://a: TimeoutError"):
        require_storage("s3://a")


def test_what_changes_is_put_and_what_goes_is_removed(url: str, tmp_path: Path) -> None:
    here = _run_folder(tmp_path / "a", **{"metrics_csv": "1", "checkpoints-last_ckpt": "old"})
    mirror = Mirror(url, here)
    mirror.send()
    puts: list[str] = []
    put = mirror.system.put_file
    mirror.system.put_file = lambda source, target: (puts.append(Path(target).name), put(source, target))
    try:
        (here / "metrics.csv").write_text("1\n2")
        (here / "checkpoints" / "last.ckpt").unlink()
        (here / RECORD).write_text("{}")
        (here / "weights.safetensors").write_text("w")
        (here / ".derain-1-2-3.tmp").write_text("half of one")
        mirror.send()
        mirror.send()
    finally:
        mirror.system.put_file = put
    assert puts == ["metrics.csv", "weights.safetensors", RECORD]
    there = tmp_path / "b" / "embedded" / "run"
    Mirror(url, there).fetch()
    assert _texts(there) == {"metrics.csv": "1\n2", "weights.safetensors": "w", RECORD: "{}"}


def test_what_is_here_already_stays_as_it_is(url: str, tmp_path: Path) -> None:
    here = _run_folder(tmp_path / "a", failure_json="{}", log_txt="long")
    Mirror(url, here).send()
    (here / "log.txt").write_text("other")
    before = (here / "failure.json").stat()
    Mirror(url, here).fetch()
    after = (here / "failure.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert _texts(here) == {"failure.json": "{}", "log.txt": "long"}


def test_claims_are_seen_and_not_brought(url: str, tmp_path: Path) -> None:
    here = _run_folder(tmp_path / "a", config_yaml="a: 1")
    worker, driver = Mirror(url, here), Mirror(url, tmp_path / "b" / "embedded" / "run")
    assert driver.holder() is None
    with Claim(here, step=3, steps=9):
        worker.send()
    held = driver.holder()
    assert held is not None and (held.step, held.steps) == (3, 9) and held.owner is not None
    driver.fetch()
    assert list(_texts(driver.folder)) == ["config.yaml"]
    later = Mirror(url, tmp_path / "c" / "embedded" / "run")
    later.fetch()
    later.send()  # of the worker that was lost nothing is left
    assert driver.holder() is None
    assert [Path(n).name for n in driver.system.find(driver.root)] == ["config.yaml"]


def test_nothing_is_brought_to_a_place_outside(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(url, _run_folder(tmp_path / "a", log_txt="1"))
    mirror.send()
    monkeypatch.setattr(mirror.system, "find", lambda root: [f"{mirror.root}/../../log.txt"])
    mirror.fetch()
    assert _texts(tmp_path / "a") == {"embedded/run/log.txt": "1"}


def test_storage_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"executor\.storage=nosuch://x"):
        require_storage("nosuch://x")
    assert main(["table", "1", "executor.storage=s3://b/runs", "--plan"]) == 2
    assert "executor.storage is for executor=ray" in capsys.readouterr().err


def test_a_bucket_that_is_not_there_is_refused_and_not_made(s3: str) -> None:
    import s3fs

    with pytest.raises(UserError, match=r"executor\.storage=s3://no-such-bucket/runs: there is no bucket"):
        require_storage("s3://no-such-bucket/runs")
    s3fs.S3FileSystem().mkdir("a-bucket")
    require_storage("s3://a-bucket/runs")
    assert "no-such-bucket" not in s3fs.S3FileSystem().ls("")


def test_a_server_that_is_gone_is_said_so(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            with pytest.raises(UserError, match=r"^executor\.storage=s3://a-bucket/runs: .*127\.0\.0\.1"):
                require_storage("s3://a-bucket/runs")
        finally:
            s3fs.S3FileSystem.clear_instance_cache()


def test_a_worker_leaves_its_run_in_a_bucket(
    storage: Any, tmp_path: Path, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ray's task is: a node that knows the bucket alone does the run, a driver elsewhere finds its record."""
    url = storage("s3")
    run = tools.planned(Path("runs"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    end = supervise(_at(Order.of(run.spec, 1), tmp_path / "node"), url)
    assert read_record(tmp_path / "node" / run.folder) is not None, end
    (tmp_path / "driver").mkdir()
    monkeypatch.chdir(tmp_path / "driver")
    mirror = Mirror(url, run.folder)
    mirror.fetch()
    assert tools.essence(Path()) == tools.essence(tmp_path / "node")
    assert mirror.holder() is None
    assert {p.name for p in run.folder.iterdir()} >= {RECORD, "metrics.csv", "weights.safetensors"}


@pytest.mark.timeout(300)
def test_a_checkpoint_is_never_there_before_the_lines_of_its_steps(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "embedded" / "one"
    (folder / "checkpoints").mkdir(parents=True)
    log, checkpoint, record = folder / "metrics.csv", folder / "checkpoints" / "last.ckpt", folder / RECORD
    log.write_text("1\n")
    checkpoint.write_text("after 1")
    record.write_text("{}")
    mirror, order = Mirror(f"file://{tmp_path}/storage", folder), []
    put = mirror.system.put_file

    def put_file(source: str, target: str) -> None:
        order.append(target.rpartition("one/")[2])
        put(source, target)
        if order[-1] == "metrics.csv":  # meanwhile the training goes on
            log.write_text("1\n2\n")
            newer = folder / "checkpoints" / "newer"
            newer.write_text("after 2")
            newer.replace(checkpoint)

    mirror.system.put_file = put_file
    there = tmp_path / "storage" / "embedded" / "one"
    try:
        mirror.send()
        assert order == ["metrics.csv", "checkpoints/last.ckpt", RECORD]
        assert (there / "checkpoints" / "last.ckpt").read_text() == "after 1"
        mirror.send()
        assert (there / "checkpoints" / "last.ckpt").read_text() == "after 2"
        assert (there / "metrics.csv").read_text() == "1\n2\n"
    finally:
        del mirror.system.put_file
    assert {p.name for p in folder.rglob("*") if p.is_file()} == {"metrics.csv", "last.ckpt", RECORD}


def test_a_run_goes_on_where_another_worker_was_lost(
    tmp_path: Path, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers and the driver, each in a folder of its own; only the storage is common."""
    words = ("recipe.steps=60", "trainer.log_every=5")
    quiet = tools.planned(tmp_path / "quiet", *words)
    drive([quiet], LocalExecutor(ExecutorConfig(workers=1)))
    url = f"file://{tmp_path}/storage"
    run = tools.planned(Path("runs"), *words)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    first, second, driver = (tmp_path / name for name in ("first", "second", "driver"))
    told = tmp_path / "order.json"
    _at(Order.of(run.spec, 1), first).write(told)
    lost = subprocess.Popen([sys.executable, "-c", _WORKER, str(told), url], start_new_session=True)
    stored = tmp_path / "storage" / run.folder.relative_to("runs") / "checkpoints" / "last.ckpt"
    assert tools.until(stored.is_file), "no checkpoint came to the storage"
    pid = tools.process_of(first)
    os.kill(lost.pid, signal.SIGKILL)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    lost.wait()

    end = supervise(_at(Order.of(run.spec, 1), second), url)
    assert json.loads((second / run.folder / RECORD).read_text())["training"]["steps"] == 60, end
    driver.mkdir()
    monkeypatch.chdir(driver)
    Mirror(url, run.folder).fetch()
    assert tools.essence(driver) == tools.essence(tmp_path / "quiet")
    assert not list((tmp_path / "storage").rglob("claim-*"))
    assert _logged(second) == _logged(tmp_path / "quiet")


def _logged(folder: Path) -> list[str]:
    (path,) = folder.rglob("metrics.csv")
    return [line.partition(",")[0] for line in path.read_text().splitlines()]


_WORKER = """
import sys
from pathlib import Path
import benchmark.sweep.executors.supervise as workers
from benchmark.sweep.child import Order
workers._SEND_EVERY = 0.2
workers.supervise(Order.read(Path(sys.argv[1])), sys.argv[2])
"""


def _at(order: Order, place: Path) -> Order:
    return replace(order, place=str(place))
