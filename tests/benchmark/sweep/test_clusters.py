"""Ray (two nodes on this machine) and Slurm (submitit's stand-in): the same plan leaves the same records."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.run.states import State
from benchmark.sweep.driver import drive
from benchmark.sweep.executors import ExecutorConfig, open_executor
from benchmark.sweep.executors.local import LocalExecutor
from benchmark.sweep.plan import Planned
from benchmark.sweep.storage import Mirror

STEPS = "recipe.steps=30"

clusters = pytest.mark.skipif(
    not os.environ.get("DERAIN_CLUSTER_TESTS"),
    reason="starts a cluster on this machine, minutes: DERAIN_CLUSTER_TESTS=1",
)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of a head without cores and two nodes with one each; skips where Ray is absent or cannot start."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 by default: beside other tests that is never
    # workers must find this very checkout
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    made.lost = made.add_node(num_cpus=1, **{"object_store_memory": 80 * 2**20})
    made.kept = made.add_node(num_cpus=1, **{"object_store_memory": 80 * 2**20})
    yield made
    ray.shutdown()
    made.shutdown()


@clusters
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stored", ["", "file", "s3"])
def test_ray_survives_the_loss_of_a_worker_and_of_a_node(
    tmp_path: Path,
    tools: Any,
    storage: Any,
    stored: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = storage(stored) if stored else None  # before the nodes start, which inherit how to reach it
    cluster = request.getfixturevalue("cluster")
    monkeypatch.setattr("benchmark.sweep.executors.ray._LOOK_EVERY", 0.2)
    steps = "recipe.steps=1500" if stored else STEPS  # workers tell storage every five seconds
    quiet = [tools.planned(tmp_path / "quiet", steps, seed=seed) for seed in range(3)]
    drive(quiet, LocalExecutor(ExecutorConfig(workers=2)))
    runs = [tools.planned(tmp_path / "ray", steps, seed=seed) for seed in range(3)]
    lost: list[str] = []
    said: list[str] = []

    def interfere(run: Planned, state: State) -> None:
        said.append(f"{run.spec.seed} {state}")
        held = state.holder
        if held is None or held.owner is None:
            return
        if not lost:  # a worker: the process that waits for the run's
            lost.append(run.name)
            os.kill(_parent(held.owner.pid), signal.SIGKILL)
        elif len(lost) == 1 and run.name != lost[0]:
            lost.append(run.name)
            cluster.remove_node(cluster.lost)

    executor = open_executor(ExecutorConfig("ray", address=cluster.address, storage=url), tmp_path)
    states = drive(runs, executor, interfere)
    assert [s.name for s in states.values()] == ["done"] * 3, (states, said)
    assert len(lost) == 2, said
    # its process may still be ending when Ray says that the worker is gone
    assert any("started again" in line or "left by the other" in line for line in said), said
    assert tools.essence(tmp_path / "ray") == tools.essence(tmp_path / "quiet")
    if url is not None:
        for run in runs:
            Mirror(url, tmp_path / "stored" / run.folder.parent.name / run.name).fetch()
        assert tools.essence(tmp_path / "stored") == tools.essence(tmp_path / "quiet")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_cluster_that_is_not_there_or_too_small_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"no sbatch .*executor.debug=true"):
        open_executor(ExecutorConfig("slurm"), tmp_path)
    for name in ("ray", "submitit"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    assert main(["table", "1", "executor=ray", "--models", "prenet", "--runs", str(tmp_path)]) == 2
    assert "pip install ray" in capsys.readouterr().err
    assert main(["table", "1", "executor=slurm", "--models", "prenet", "--runs", str(tmp_path)]) == 2
    assert "pip install submitit" in capsys.readouterr().err


@clusters
@pytest.mark.timeout(900)
def test_slurm_jobs_leave_the_same_records(
    tmp_path: Path, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is killed with its job once: it is started again and goes on."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    quiet = [tools.planned(tmp_path / "quiet", STEPS, seed=seed) for seed in range(2)]
    drive(quiet, LocalExecutor(ExecutorConfig(workers=2)))
    runs = [tools.planned(tmp_path / "slurm", STEPS, seed=seed) for seed in range(2)]
    killed: list[int] = []

    def kill(run: Planned, state: State) -> None:
        if state.holder and state.holder.owner and not killed:
            killed.append(state.holder.owner.pid)
            os.kill(killed[0], signal.SIGKILL)

    executor = open_executor(ExecutorConfig("slurm", debug=True, workers=2), tmp_path)
    states = drive(runs, executor, kill)
    assert [s.name for s in states.values()] == ["done"] * 2 and killed
    assert tools.essence(tmp_path / "slurm") == tools.essence(tmp_path / "quiet")
