"""Faults 1 and 9: killed while writing, and nowhere to write. What was there stays whole.

Further: `test_writing_replaces_whole_or_not_at_all` (pictures), `test_a_killed_builder_leaves_nothing_that_is_used`
and `test_a_full_disk_is_noticed_before_and_while_writing` (cache), `test_a_full_disk_ends_the_work` (restored
pictures).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import files
from benchmark.cli import main
from benchmark.data import render
from benchmark.data.images import write_image
from benchmark.errors import DiskFull, UserError, WorkError
from benchmark.files import require_room, require_writable, write_json, write_text
from benchmark.run.execute import execute
from benchmark.run.records import FAILURE, RECORD, read_record
from benchmark.run.states import state_of
from benchmark.spec import resolve
from benchmark.sweep.plan import Planner
from benchmark.training.saving import require_room_for

TINY = [
    "model=prenet",
    "model.stages=1",
    "model.channels=4",
    "model.residual_blocks=1",
    "data=embedded-light",
    "recipe=embedded",
    "recipe.batch=2",
    "recipe.patch=16",
    "recipe.steps=4",
    "logger=csv",
    "trainer.accelerator=cpu",
    "trainer.threads=1",
    "evaluation.tile=whole",
]

# how each is written: the code defines write(n), which writes n into every row
WRITERS = {
    "record": (
        "from benchmark.run.records import write_record\n"
        "def write(n): write_record(folder, {'identity': str(n), 'rows': [n] * 100})\n",
        RECORD,
    ),
    "table": (
        "from benchmark.text.table import Cell, Column, Row, Table, write as write_table\n"
        "def write(n): write_table(Table('t', 'T', [Column('x', 'X')],\n"
        "    [Row(str(i), {'x': Cell(float(n))}) for i in range(100)]), folder)\n",
        "t.csv",
    ),
    "checkpoint": (
        "import torch\n"
        "from benchmark.training.saving import WholeFiles\n"
        "def write(n): WholeFiles().save_checkpoint({'n': torch.full((1000,), n)}, folder / 'last.ckpt')\n",
        "last.ckpt",
    ),
}
# the process kills itself: with half of the bytes written, or with all of them and not yet renamed
KILLS = {
    "half": (
        "def half(kind):\n"
        "    def write(self, data, **options):\n"
        "        with self.open(kind) as file: file.write(data[:len(data) // 2])\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return write\n"
        "pathlib.Path.write_text, pathlib.Path.write_bytes = half('w'), half('wb')\n"
    ),
    "unnamed": "pathlib.Path.replace = lambda self, to: os.kill(os.getpid(), signal.SIGKILL)\n",
}


def _written(path: Path) -> int:
    """What a whole file says was written; an error where it is not whole."""
    if path.suffix == ".ckpt":
        (value,) = set(torch.load(path, weights_only=True)["n"].tolist())
    elif path.suffix == ".json":
        record = json.loads(path.read_text())
        (value,) = {*record["rows"], int(record["identity"])}
    else:
        lines = path.read_text().splitlines()[1:]
        assert len(lines) == 100
        (value,) = {float(line.split(",")[1]) for line in lines}
    return int(value)


@pytest.mark.parametrize("when", KILLS)
@pytest.mark.parametrize("what", WRITERS)
def test_a_kill_while_writing_leaves_the_old_one(tmp_path: Path, what: str, when: str) -> None:
    code, name = WRITERS[what]
    script = "import os, pathlib, signal, sys\n"
    script += f"folder = pathlib.Path({str(tmp_path)!r})\n{code}write(1)\n{KILLS[when]}write(2)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert _written(tmp_path / name) == 1
    assert len(list(tmp_path.glob(".derain-*"))) == 1
    require_writable(tmp_path)
    assert not list(tmp_path.glob(".derain-*")), "the leftover goes as soon as somebody works there again"
    assert _written(tmp_path / name) == 1


def test_leftovers_of_others_are_left_until_they_are_old(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "mine") as live:
        live.write_text("being written")
        elsewhere = tmp_path / ".derain-ffffff-1-aa.tmp"
        elsewhere.write_text("a process on another host")
        assert files.clean_leftovers(tmp_path) == 0
        os.utime(elsewhere, (1, 1))
        assert files.clean_leftovers(tmp_path) == 1
        assert live.exists()


def test_leftovers_are_old_by_the_clock_of_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another machine writes at this moment stays, however wrong this machine's clock is."""
    elsewhere = tmp_path / ".derain-ffffff-1-aa.tmp"
    elsewhere.write_text("a process on another host")
    tomorrow = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    assert files.clean_leftovers(tmp_path) == 0
    assert [p.name for p in tmp_path.iterdir()] == [elsewhere.name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    write_json(small_disk / "old.json", {"rows": [1]})
    with pytest.raises(WorkError, match="disk is full"):
        write_json(small_disk / "old.json", {"rows": list(range(1_000_000))})
    assert json.loads((small_disk / "old.json").read_text()) == {"rows": [1]}
    assert [p.name for p in small_disk.iterdir()] == ["old.json"]
    with pytest.raises(DiskFull, match=r"checkpoints need 1\.0 GiB, 0\.0 GiB are free; free .*: out=FOLDER$"):
        require_room(small_disk, 2**30, "the checkpoints", "out=FOLDER")


def test_a_training_on_a_full_disk_says_so_at_once_and_hurts_nothing(small_disk: Path) -> None:
    words = [*TINY, "model.channels=100", f"out={small_disk}"]
    with pytest.raises(WorkError, match=r"the checkpoints need .* are free"):
        execute(resolve(words))
    failure = read_record(resolve(words).folder, FAILURE)
    assert failure is not None and failure["state"] == "interrupted", "the same command goes on"
    # it fills up in the middle: the logger of another package finds out, the line is ours
    config = resolve([*TINY, "recipe.steps=100000", "trainer.log_every=1", f"out={small_disk}"])

    def fill(step: int, steps: int) -> None:
        with (small_disk / "filler").open("ab") as filler:
            try:
                while filler.write(b"x" * 65536):
                    filler.flush()
            except OSError:
                pass

    with pytest.raises(DiskFull, match="disk is full") as raised:
        execute(config, fill)
    assert "\n" not in str(raised.value)
    assert not (config.folder / RECORD).exists()


def _full(disk: Path) -> None:
    """Leave no room on a disk, but what removing `filler` makes."""
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


def test_what_a_full_disk_ended_is_done_by_the_same_command_once_there_is_room(small_disk: Path) -> None:
    """A table does not do what failed again; a full disk is no failure of the run."""
    words = [*TINY, "recipe.steps=12", "trainer.checkpoint_every=2", f"out={small_disk}"]
    config = resolve(words)
    with pytest.raises(DiskFull):
        execute(config, lambda step, steps: _full(small_disk) if step == 7 else None)
    (small_disk / "filler").unlink()
    run = Planner([]).plan(words, seed=0)
    assert state_of(run).name == "interrupted"
    began = []
    execute(config, lambda step, steps: began.append(step))
    assert began[0] == 7, "from the last checkpoint"
    assert state_of(run).name == "done"


def test_a_full_folder_of_wandb_is_a_line_and_the_run_goes_on(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    logging.raiseExceptions = True  # which stays off afterwards: W&B's process writes on until Python ends
    words = [w for w in TINY if not w.startswith("logger")]
    config = resolve([*words, "logger=wandb", "recipe.steps=2", f"out={tmp_path / 'runs'}"])
    config.folder.mkdir(parents=True)
    (config.folder / "wandb").symlink_to(small_disk)
    _full(small_disk)
    assert execute(config)["training"]["steps"] == 2
    said = capfd.readouterr().err
    assert said.count("not logged to W&B (") == 1 and "No space left" in said
    assert "Logging error" not in said and "Traceback" not in said


def test_a_training_that_goes_on_needs_no_second_room(small_disk: Path) -> None:
    """Its checkpoints are there already: only the one that is written needs room."""
    network = torch.nn.Conv2d(30, 60, 3)  # 64 kB: 194 kB a file, 583 kB in all
    require_room_for(network, small_disk, averaged=False)
    for name in ("last.ckpt", "best.ckpt"):
        (small_disk / name).write_bytes(b"x" * 200_000)
    (small_disk / "else").write_bytes(b"x" * 300_000)
    require_room_for(network, small_disk, averaged=False)
    (small_disk / "best.ckpt").rename(small_disk / "best")
    with pytest.raises(DiskFull):
        require_room_for(network, small_disk, averaged=False)


def test_rain_that_did_not_fit_is_not_in_its_own_way(small_disk: Path) -> None:
    photographs = small_disk.parent / "photographs"
    photographs.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (150, 200, 3), dtype=np.uint8)
        write_image(photographs / f"{i}.png", pixels)
    (small_disk / "filler").write_bytes(b"x" * 600_000)
    with pytest.raises(DiskFull, match=r"free some room and run it again$"):
        render(photographs, small_disk / "rain", progress=False)
    assert not list(small_disk.rglob("*.png"))
    (small_disk / "filler").unlink()
    assert render(photographs, small_disk / "rain", progress=False) == 4


def test_a_limit_on_file_sizes_is_told_in_a_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from benchmark.cli import main\n"
        "import benchmark.run.execute\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))\n"
        f"sys.exit(main({['train', *TINY, f'out={tmp_path}']!r}))\n"
    )
    # a coverage measurement would write its own file under the limit
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("step ", "logging to "))]
    assert len(lines) == 1 and lines[0].startswith("derain: ") and "File too large" in lines[0], done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, WorkError, "disk is full"),
        (errno.EDQUOT, WorkError, "quota"),
        (errno.EROFS, UserError, "no permission to write"),
        (errno.EACCES, UserError, "no permission to write"),
        (errno.EIO, WorkError, "writing failed: Input/output error"),
    ],
)
def test_every_way_a_write_fails_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], words: str
) -> None:
    write_text(tmp_path / "table.md", "old")

    def refused(self: Path, text: str, encoding: str | None = None, errors: str | None = None) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", refused)
    with pytest.raises(kind, match=words):
        write_text(tmp_path / "table.md", "new")
    monkeypatch.undo()
    assert (tmp_path / "table.md").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_read_only_folder_is_refused_before_any_work(tmp_path: Path, monkeypatch, capsys) -> None:
    def refused(self: Path, data: bytes) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refused)
    assert main(["train", *TINY, f"out={tmp_path}"]) == 2
    assert main(["table", "1", "--models", "prenet", "--runs", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all("no permission to write" in line for line in said)
