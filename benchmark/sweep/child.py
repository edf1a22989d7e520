"""The process of one run: `python -m benchmark.sweep.child ORDER.json`, or `main` in a forked process."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from benchmark.errors import Stop, UserError, WorkError, speak_any_name, stop_signals
from benchmark.files import make_folder, write_json
from benchmark.launch import leave_allocation
from benchmark.run.claims import Claimed, Owner
from benchmark.run.ends import CLAIMED
from benchmark.run.records import typed
from benchmark.spec import RunSpec, from_plain

_ORDER = "order.json"


@dataclass(frozen=True)
class Order:
    """What a run's process is told.

    Attributes:
        config: of the run, as plain data.
        command: what the user typed, for the record.
        threads: CPU threads; None: torch's default.
        place: the folder that relative paths start from.
        devices: the GPUs it may see (CUDA_VISIBLE_DEVICES); None: all.
        watch: a process without which it shall not go on; None: it needs nobody.
    """

    config: dict[str, Any]
    command: list[str]
    place: str
    threads: int | None = None
    devices: str | None = None
    watch: Owner | None = None

    @staticmethod
    def of(config: RunSpec, threads: int, devices: str | None = None, watch: Owner | None = None) -> Order:
        """The order for a run of the command that this process was given, in its folder."""
        threads = config.trainer.threads or threads
        return Order(config.plain(), sys.argv, str(Path.cwd()), threads, devices, watch)

    def write(self, path: Path) -> None:
        """Write it for `read`."""
        write_json(path, asdict(self))

    @staticmethod
    def read(path: Path) -> Order:
        """An order that was written."""
        told = json.loads(path.read_text(encoding="utf-8"))
        watch = Owner(**told.pop("watch")) if told["watch"] else told.pop("watch")
        return Order(**told, watch=watch)


def main(order: Order) -> NoReturn:
    """Do the run. Its output goes to the run's log; success is the record, not the exit status."""
    with contextlib.suppress(OSError):
        os.setsid()  # Ctrl-C in the terminal is for the driver, which asks its runs to stop
    typed(order.command)
    os.chdir(order.place)
    folder = from_plain(order.config).folder
    make_folder(folder)
    log = (folder / "log.txt").open("a", buffering=1, encoding="utf-8")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    speak_any_name()
    for signum in {signal.SIGTERM, signal.SIGINT, *stop_signals()}:
        signal.signal(signum, _stop)
    if order.devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = order.devices
    leave_allocation()
    _started_again_as(order, folder)
    status = _run(order)
    (folder / _ORDER).unlink(missing_ok=True)
    sys.exit(status)


def _run(order: Order) -> int:
    try:
        import torch

        from benchmark.run.execute import execute

        if order.threads:
            torch.set_num_threads(order.threads)
        execute(from_plain(order.config), watch=order.watch)
    except Claimed as error:
        print(f"derain: {error}", file=sys.stderr)
        return CLAIMED
    except (UserError, WorkError, Stop) as error:
        print(f"derain: {error}", file=sys.stderr)
        return error.status
    return 0


def _stop(signum: int, frame: FrameType | None) -> None:
    """Outside training, whose own handler saves first, there is nothing to save."""
    raise Stop(signum)


def _started_again_as(order: Order, folder: Path) -> None:
    """A parallel training starts its other processes as the command that this one was: say which."""
    if order.config["trainer"]["devices"] == "1" and order.config["trainer"]["nodes"] == 1:
        return
    path = folder / _ORDER
    replace(order, watch=None).write(path)
    sys.argv = [__file__, str(path)]
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("benchmark.sweep.child")


if __name__ == "__main__":
    main(Order.read(Path(sys.argv[1])))
