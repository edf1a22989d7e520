"""A sweep by W&B's own client from end to end: `derain sweep`, `wandb agent`, two runs whose summaries arrive.

What answers is a stand-in on 127.0.0.1 that speaks as much of W&B's protocol as the client asks for.
"""

from __future__ import annotations

import contextlib
import gzip
import http.server
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmark.cli import main
from benchmark.run.records import RECORD, read_record
from benchmark.run.tracking import figures
from benchmark.spec import resolve

KEY = "0" * 40
SECONDS = 240.0  # for a loaded machine; it takes some ten

SWEEP = """
name: two seeds
project: derain
program: derain
method: grid
command: [derain, train, model=prenet, model.stages=1, model.channels=4, data=folder, data.root=set, recipe=embedded,
  recipe.batch=1, recipe.patch=16, recipe.steps=2, recipe.select=last, recipe.validation=0, trainer.threads=1,
  trainer.accelerator=cpu, "${args_no_hyphens}"]
parameters:
  seed: {values: [3, 4]}
"""


@dataclass
class Told:
    """What the server was told of a run."""

    about: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    status: int | None = None


class Server(http.server.ThreadingHTTPServer):
    """The stand-in: one sweep, a grid, given to the agent point by point."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sweep: dict[str, Any] = {}
        self.runs: dict[str, Told] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: dict[str, str] = {}  # their types
        self.committed: list[str] = []
        self.not_spoken: list[str] = []
        self._left: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        with self._lock:
            if path == "/graphql":
                asked = json.loads(body)
                found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                name = re.sub(r"(?<!^)(?=[A-Z])", "_", found.group(1)).lower() if found else ""
                speak = getattr(self, f"_{name}", None)
                if speak is None:
                    self.not_spoken.append(asked["query"])
                    return {"errors": [{"message": "not spoken here"}]}
                return {"data": speak(asked.get("variables") or {})}
            if path.endswith("/file_stream"):
                return self._streamed(path.split("/")[-2], json.loads(body))
            if method == "PUT":
                self.files[path.removeprefix("/put/")] = body
            return {}

    def _streamed(self, run: str, body: dict[str, Any]) -> dict[str, Any]:
        told = self.runs.setdefault(run, Told())
        for name, part in body.get("files", {}).items():
            lines = [json.loads(line) for line in part["content"]] if name.startswith("wandb-") else []
            if name == "wandb-summary.json":
                told.summary = lines[-1]
            elif name == "wandb-history.jsonl":
                told.history += lines
        if body.get("complete"):
            told.status = body["exitcode"]
        return {}

    def _viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "1", "entity": "somebody", "username": "somebody", "email": "", "flags": "{}"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    def _server_features_query(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _upsert_sweep(self, given: dict[str, Any]) -> dict[str, Any]:
        self.sweep = {"project": given["projectName"], "config": given["config"]}
        parameters = yaml.safe_load(given["config"])["parameters"]
        values = itertools.product(*(space["values"] for space in parameters.values()))
        self._left = [tuple(zip(parameters, point, strict=True)) for point in values]
        place = {"id": "p", "name": given["projectName"], "entity": {"id": "e", "name": "somebody"}}
        return {
            "upsertSweep": {"sweep": {"name": "sweep1", "project": place}, "configValidationWarnings": []}
        }

    def _sweep_with_runs(self, given: dict[str, Any]) -> dict[str, Any]:
        assert given["sweep"] == "sweep1"
        sweep = {"id": "s", "name": "sweep1", "method": "grid", "state": "RUNNING"}
        return {"project": {"sweep": {**sweep, "config": self.sweep["config"], "runs": {"edges": []}}}}

    def _create_agent(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent"}}}

    def _heartbeat(self, given: dict[str, Any]) -> dict[str, Any]:
        commands: list[dict[str, Any]] = []
        if not json.loads(given["runState"]):  # what it was given last has ended
            if self._left:
                point = {name: {"value": value} for name, value in self._left.pop(0)}
                name = "-".join(f"{k}{v['value']}" for k, v in point.items())
                commands = [{"type": "run", "run_id": name, "program": "derain", "args": point}]
            else:
                commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _run_resume_status(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"model": None}

    def _upsert_bucket(self, given: dict[str, Any]) -> dict[str, Any]:
        told = self.runs.setdefault(given["name"], Told())
        told.about.update({k: v for k, v in given.items() if v is not None})
        if given.get("summaryMetrics"):
            told.summary.update(json.loads(given["summaryMetrics"]))
        bucket = {
            "id": given["name"],
            "name": given["name"],
            "displayName": told.about.get("displayName", ""),
        }
        place = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "somebody"}}
        return {
            "upsertBucket": {"bucket": {**bucket, "project": place, "sweepName": "sweep1"}, "inserted": True}
        }

    def _create_run_files(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/put/{given['run']}/{name}"} for name in given["files"]
        ]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _artifact_type(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        number = f"{len(self.artifacts) + 1}"
        self.artifacts[number] = given["input"]["artifactTypeName"]
        artifact = {"id": number, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _create_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        place = self._place(f"artifacts/{given['artifactID']}/{given['name']}")
        return {"createArtifactManifest": {"artifactManifest": {"id": given["artifactID"], "file": place}}}

    def _update_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        number = given["artifactManifestID"]
        place = self._place(f"artifacts/{number}/manifest")
        return {"updateArtifactManifest": {"artifactManifest": {"id": number, "file": place}}}

    def _create_artifact_files(self, given: dict[str, Any]) -> dict[str, Any]:
        nodes = []
        for asked in given["input"]["artifactFiles"]:
            place = self._place(f"artifacts/{asked['artifactID']}/{asked['name']}")
            more = {"storagePath": place["name"], "uploadMultipartUrls": None}
            nodes.append(
                {"node": {**place, **more, "name": asked["name"], "artifact": {"id": asked["artifactID"]}}}
            )
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _place(self, name: str) -> dict[str, Any]:
        urls = {"uploadUrl": f"{self.url}/put/{name}", "uploadHeaders": []}
        return {"id": name, "name": name, "displayName": name, **urls}

    def _commit_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.committed.append(given["artifactID"])
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        told = json.dumps(self.server.answer(self.command, self.path, body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    """The stand-in, which answers until the test ends; processes that know its address end with it."""
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        left = _processes(made.url, 20)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        made.shutdown()
        made.server_close()
        thread.join()
    assert not left, "processes were left behind"


def _processes(url: str, seconds: float) -> list[int]:
    """Processes that have the address in their environment still after some seconds, but this one."""
    end = time.monotonic() + seconds
    while True:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"WANDB_BASE_URL={url}".encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        found = [pid for pid in found if pid != os.getpid()]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)


@pytest.fixture
def on_path(derain: Any, tmp_path: Path) -> Iterator[Path]:
    """A folder with a `derain` that starts one as the fixture does, for programs that look for it on the path."""
    folder, place = tmp_path / "bin", tmp_path / "s"
    folder.mkdir()
    program = folder / "derain"
    program.write_text(_PROGRAM.format(python=sys.executable, place=str(place)))
    program.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                told, given, _, _ = socket.recv_fds(link, 1 << 20, 3)
                asked = json.loads(told)
                streams = dict(zip(("stdin", "stdout", "stderr"), given, strict=True))
                process = derain.start(*asked["words"], env=asked["env"], cwd=asked["cwd"], **streams)
                for stream in given:
                    os.close(stream)
                link.sendall(bytes([process.wait() & 255]))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield folder
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


_PROGRAM = """#!{python} -SE
import json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({place!r})
asked = {{"words": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}
socket.send_fds(link, [json.dumps(asked).encode()], [0, 1, 2])
sys.exit(link.recv(1)[0])
"""

# it looks for news every five seconds
_AGENT = """
import sys
import wandb.wandb_agent
from wandb.cli.cli import cli
wandb.wandb_agent.Agent.POLL_INTERVAL = 0.2
cli(["agent", sys.argv[1]])
"""


def _pairs(folder: Path) -> None:
    """Two pairs to train on and two to test on, of noise, 30×24 pixels."""
    random = np.random.default_rng(0)
    for part, side, name in itertools.product(("train", "test"), ("input", "target"), ("0.png", "1.png")):
        (folder / part / side).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / part / side / name)


def test_the_summaries_of_an_agents_runs_arrive(
    server: Server,
    on_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("wandb")
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DERAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{on_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    _pairs(tmp_path / "set")
    (tmp_path / "sweep.yaml").write_text(SWEEP)

    assert main(["sweep", "sweep.yaml"]) == 0
    said = capfd.readouterr().err
    found = re.search(r"wandb agent (\S+)", re.sub(r"\x1b\[[0-9;]*m", "", said))
    assert found and found.group(1) == "somebody/derain/sweep1", said
    assert yaml.safe_load(server.sweep["config"])["parameters"]["seed"]["values"] == [3, 4]

    agent = subprocess.Popen([sys.executable, "-c", _AGENT, found.group(1)], start_new_session=True)
    try:
        assert agent.wait(SECONDS) == 0
    finally:
        if agent.poll() is None:
            os.killpg(agent.pid, signal.SIGKILL)
            agent.wait()
    said = capfd.readouterr().err
    assert server.not_spoken == []
    assert sorted(server.runs) == ["seed3", "seed4"], said
    for name, told in server.runs.items():
        words = yaml.safe_load(SWEEP)["command"][2:-1]
        config = resolve([*words, f"seed={name[-1]}"])
        record = read_record(tmp_path / config.folder)
        assert record is not None and told.status == 0, said
        for key, value in figures(record).items():
            assert told.summary[key] == pytest.approx(value), key
        assert told.summary["cost/operations_full"] > 0
        assert (told.about["sweep"], told.about["jobType"]) == ("sweep1", "train")
        assert told.about["displayName"] == config.name
        assert json.loads(told.about["config"])["seed"]["value"] == config.seed
        assert [row["train/loss"] for row in told.history if "train/loss" in row]
        pictures = [p for p in server.files if p.startswith(f"{name}/media/images/pictures/folder/")]
        assert len(pictures) == 2 and all(server.files[p].startswith(b"\x89PNG") for p in pictures)
    assert sorted(server.artifacts.values()) == ["record"] * 2 + ["run_table"] * 2
    assert sorted(server.committed) == sorted(server.artifacts)
    sent = [
        json.loads(server.files[f"artifacts/{number}/{RECORD}"])
        for number, kind in server.artifacts.items()
        if kind == "record"
    ]
    assert sorted(record["config"]["seed"] for record in sent) == [3, 4]
