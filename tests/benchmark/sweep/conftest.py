"""Tiny runs, drivers of them as processes, and what of a record must not depend on how it came about."""

from __future__ import annotations

import logging
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.run.claims import holder
from benchmark.run.records import read_record
from benchmark.sweep.plan import Planned, Planner

TINY = (
    "recipe.batch=2",
    "recipe.patch=16",
    "logger=csv",
    "trainer.accelerator=cpu",
    "trainer.threads=1",
    "trainer.checkpoint_every=5",
    "model.stages=1",
    "model.channels=4",
    "model.residual_blocks=1",
)


class Tools:
    """Handed to the tests of sweeps."""

    def __init__(self, derain: Any) -> None:
        self.tiny, self._derain = list(TINY), derain
        self._processes: list[subprocess.Popen[str]] = []

    def planned(self, folder: Path, *words: str, seed: int = 0) -> Planned:
        """A run of a tiny PReNet, of some steps."""
        planner = Planner(["recipe=embedded", "model=prenet", *TINY, f"out={folder}"])
        return planner.plan(["data=embedded-light", "recipe.steps=4", *words], seed)

    def essence(self, folder: Path) -> dict[str, dict[str, Any]]:
        """The records below a folder by their name, without times, commands and the like."""
        found = {}
        for path in sorted(folder.rglob("record.json")):
            record = read_record(path.parent)
            assert record is not None
            for key in ("command", "date", "machine", "commit", "test_seconds"):
                record.pop(key, None)
            record["training"].pop("seconds")
            record["config"].pop("out")
            found[record["name"]] = record
        return found

    def derain(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """`derain` as a process; killed at the end of the test if it still lives."""
        process: subprocess.Popen[str] = self._derain.start(
            *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )
        self._processes.append(process)
        return process

    def until(self, true: Callable[[], Any], seconds: float = 200) -> Any:
        """Wait until something is so; returns what it is, which is false if it never came."""
        end = time.monotonic() + seconds
        while not (found := true()) and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def process_of(self, folder: Path, step: int = 1) -> int | None:
        """A process that does a run of a folder and has trained so many steps; None if there is none."""
        for path in folder.rglob("claim-*.json"):
            held = holder(path.parent)
            if held is not None and held.owner is not None and held.step >= step:
                return held.owner.pid
        return None

    def gone(self, pid: int) -> bool:
        """Whether a process is gone, or is a zombie."""
        try:
            os.kill(pid, 0)
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except (ProcessLookupError, FileNotFoundError):
            return True

    def close(self) -> None:
        """Kill what was started."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Moto's server of S3's protocol on 127.0.0.1, and credentials for it: its address."""
    s3fs = pytest.importorskip("s3fs", reason="pip install s3fs")
    server = pytest.importorskip("moto.server", reason="pip install moto flask flask-cors")
    made = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    made.start()
    made._server.block_on_close = False  # it would wait for connections that its clients keep
    host, port = made.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "nobody"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_CONFIG_FILE", os.devnull),
            ("AWS_SHARED_CREDENTIALS_FILE", os.devnull),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("no_proxy", "127.0.0.1"),
        ):
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # of another server's
        yield f"http://{host}:{port}"
        s3fs.S3FileSystem.clear_instance_cache()
    made.stop()


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Makes a URL below which nothing is yet, of a kind: file, memory, s3."""

    def made(kind: str) -> str:
        if kind != "s3":
            return f"file://{tmp_path}/storage" if kind == "file" else f"memory://{tmp_path.name}/runs"
        request.getfixturevalue("s3")
        import s3fs

        bucket = f"bucket-{uuid.uuid4().hex[:12]}"
        s3fs.S3FileSystem().mkdir(bucket)
        return f"s3://{bucket}/some/runs"

    return made


@pytest.fixture
def tools(derain: Any) -> Iterator[Tools]:
    """Tiny runs, drivers of them, and what to compare."""
    made = Tools(derain)
    yield made
    made.close()
