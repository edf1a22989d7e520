"""Fault 22: surroundings that are not as usual: no home, a long TMPDIR, few handles, no /dev/shm, any umask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.data.cache import cache_folder
from benchmark.errors import UserError
from benchmark.sweep import records, tracking


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
