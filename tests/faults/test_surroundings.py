"""Fault 22: surroundings that are not as usual: no home, a long TMPDIR, few handles, no /dev/shm, any umask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.data.cache import cache_folder
from benchmark.errors import UserError, WorkError
from benchmark.run import execute as run
from benchmark.run import records, tracking
from benchmark.spec import resolve


def test_a_long_tmpdir_leaves_room_for_sockets(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    code = (
        "from multiprocessing import forkserver\n"
        "from multiprocessing.connection import Listener\n"
        "from benchmark.sweep.executors import ExecutorConfig\n"
        "from benchmark.sweep.executors.local import LocalExecutor\n"
        "LocalExecutor(ExecutorConfig(workers=1))._context.set_forkserver_preload([])\n"
        "forkserver.ensure_running()\n"
        "Listener(family='AF_UNIX').close()\n"
        "print('served')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert done.stdout == "served\n", done.stderr


def test_no_home_is_said_where_one_is_needed_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("DERAIN_CACHE", "XDG_CACHE_HOME", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, and no such user
    assert records.without_home("/home/me/x") == "/home/me/x"
    assert not tracking.has_key()
    with pytest.raises(UserError, match="no home folder: set DERAIN_CACHE"):
        cache_folder()


REFUSED = """
from benchmark.spec import resolve
from benchmark.launch import require_launch
for workers in (0, 2):
    try:
        require_launch(resolve(["trainer.accelerator=cpu", "recipe=embedded", f"data.workers={workers}"]))
        print("good")
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("mounted", "told"),
    [
        ("mount -t tmpfs -o ro tmpfs /dev/shm", "cannot be used (Read-only file system): set data.workers=0"),
        ("mount -t tmpfs -o size=256k tmpfs /dev/shm", "has 0.2 MiB free of the "),
        (
            "mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /proc/self/exe > /dev/shm/x",
            "(No space left on device)",
        ),
    ],
    ids=["read-only", "small", "full"],
)
def test_shared_memory_that_does_not_suffice_is_told_before_any_work(
    tmp_path: Path, mounted: str, told: str
) -> None:
    """A loader's processes would hang for want of it; a training without them needs none."""
    words = ["unshare", "-m", "sh", "-c", f'{mounted} && exec "$0" -c "$1"', sys.executable, REFUSED]
    if sys.platform != "linux" or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("file systems of its own are not permitted here")
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    good, refused = done.stdout.splitlines()
    assert good == "good" and refused.startswith("UserError data.workers=2: "), done.stderr
    assert told in refused


def test_a_loader_that_is_cut_off_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared memory that others filled while the training lasted."""

    def cut_off(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid(s) 24904) exited unexpectedly")

    monkeypatch.setattr(run, "_train_and_test", cut_off)
    config = resolve(["model=prenet", "recipe=embedded", "logger=csv", f"out={tmp_path}"])
    with pytest.raises(WorkError, match=r"data\.workers=0 to go on from the last checkpoint"):
        run.execute(config)
