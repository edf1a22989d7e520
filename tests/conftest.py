"""What every test may use."""

from __future__ import annotations

import array
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# the tests share the cores among processes: threads of one would only wait for those of another
os.environ.setdefault("OMP_NUM_THREADS", "1")

# a shell's background job ignores Ctrl-C, and so would every process that the tests send it to
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# the same examples every time: a change is to blame for a failure; HYPOTHESIS_PROFILE=explore tries others
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """What a test sets stays: those after it would take many times as long where cores are shared."""
    yield
    torch = sys.modules.get("torch")
    wanted = int(os.environ["OMP_NUM_THREADS"])
    if torch is not None and torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of outside references (fixtures, metric values, real pictures); absent on a user's machine."""
    path = Path(os.environ.get("DERAIN_SHARED", ROOT.parent / "shared"))
    if not (path / "parity" / "parity.py").is_file():
        pytest.skip(f"no reference folder at {path} (set DERAIN_SHARED)")
    return path


class Forks:
    """Starts `derain` as processes that are forked from one that has imported everything: see `forked.py`."""

    def __init__(self) -> None:
        self._link, there = socket.socketpair()
        with there:
            command = [sys.executable, str(ROOT / "tests" / "forked.py"), str(there.fileno())]
            self._server = subprocess.Popen(command, pass_fds=[there.fileno()], cwd=ROOT)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """`derain` with these words, as `subprocess.Popen` starts it with the same options; what it says is text."""
        forks = self

        class Process(subprocess.Popen[str]):
            def _execute_child(self, *given: Any) -> None:
                (folder, environment), pipes, session = given[5:7], given[10:16], given[21]
                # -1: what this process has
                inside = [end if end != -1 else i for i, end in enumerate((pipes[0], pipes[3], pipes[5]))]
                self.pid, self._end = forks._forked(words, inside, folder, environment, session)
                self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
                self._child_created = True

            def _try_wait(self, flags: int) -> tuple[int, int]:
                if flags and not select.select([self._end], [], [], 0)[0]:
                    return 0, 0
                told = os.read(self._end, 8)
                assert told, "the process that forks is gone"
                os.close(self._end)
                return self.pid, array.array("q", told)[0]

            def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
                if self.returncode is None and self._waitpid_lock.acquire(False):
                    try:
                        if self.returncode is None:
                            pid, status = self._try_wait(os.WNOHANG)
                            if pid == self.pid:
                                self._handle_exitstatus(status)
                    finally:
                        self._waitpid_lock.release()
                return self.returncode

        return Process(list(words), text=True, **options)

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The same to its end; what it says is kept."""
        with self.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
            try:
                said = process.communicate(timeout=280)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, *said)

    def _forked(
        self, words: Any, streams: list[int], folder: Any, environment: Any, session: bool
    ) -> tuple[int, int]:
        end, there = os.pipe()
        asked = {
            "words": words,
            "folder": str(folder or Path.cwd()),
            "environment": dict(os.environ if environment is None else environment),
            "session": bool(session),
        }
        socket.send_fds(self._link, [json.dumps(asked).encode()], [*streams, there])
        os.close(there)
        told = self._link.recv(8)
        assert told, "the process that forks is gone"
        return array.array("q", told)[0], end

    def close(self) -> None:
        """End the process that forks."""
        self._link.close()
        self._server.wait()


@pytest.fixture(scope="session")
def derain() -> Iterator[Forks]:
    """Starts `derain` as a process, quickly."""
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    """A data set of two pairs of 30×24 pixels, input/ and target/, in the folder "set" of the test's."""
    from PIL import Image

    folder = tmp_path / "set"
    for side in ("input", "target"):
        (folder / side).mkdir(parents=True)
        for i in range(2):
            pixels = np.random.default_rng(i).integers(0, 256, (24, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / side / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
