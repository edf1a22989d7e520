"""What happens around the training steps: progress, interruption, spike rates."""

from __future__ import annotations

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from benchmark.errors import Interrupted, stop_signals
from esdnet import SequenceNeuron, level_of


class Report(Checkpoint):
    """Reports progress and keeps `last.ckpt`: from time to time, before each validation, and when asked to stop.

    A step is its batch, the average of the weights and, where one is due, the validation. What is saved is always the
    state between batch (with the average) and validation: that this one is still to be done follows from the step, and
    a training that goes on does it first. So the best checkpoint is the same wherever a training was cut. This comes
    last of the callbacks, as Lightning orders those that are a `Checkpoint`.

    On SIGTERM, Ctrl-C or when its terminal is closed it saves after the batch in hand and stops; of several processes
    all do, at the same step, whichever was told to.

    Args:
        progress: called with (steps done, steps in all), or None.
        checkpoint: where to save.
        every: steps between two saves.
        validate_every: steps between two validations; None: there are none.
    """

    def __init__(
        self,
        progress: Callable[[int, int], None] | None,
        checkpoint: Path,
        every: int,
        validate_every: int | None = None,
    ) -> None:
        self.progress = progress
        self.checkpoint = checkpoint
        self.every = every
        self.validate_every = validate_every
        self.loss = float("nan")
        self.seconds_before = 0.0
        self._began = time.monotonic()
        self._signal: int | None = None
        self._agreed: int | None = None
        self._saved: int | None = None
        self._handlers: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Time and loss so far, kept in the checkpoint."""
        return {"loss": self.loss, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the time and loss of the part that was done before."""
        self.loss, self.seconds_before = state_dict["loss"], state_dict["seconds"]

    @property
    def seconds(self) -> float:
        """Wall time of the training, over all its parts."""
        return self.seconds_before + time.monotonic() - self._began

    def listen(self) -> None:
        """Take over the signals; Lightning would exit at once, with status 0 after SIGTERM, saving nothing."""
        if threading.current_thread() is threading.main_thread():  # else they are someone else's
            self._handlers = {s: signal.signal(s, self._remember) for s in stop_signals()}

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self._signal = signum

    def _validates(self, step: int) -> bool:
        return bool(self.validate_every) and step > 0 and step % self.validate_every == 0  # type: ignore[operator]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do the validation that was due where the training was cut.

        Lightning takes a validation whose step is in the checkpoint for done.
        """
        self._began = time.monotonic()
        if self._validates(trainer.global_step):
            self._saved = trainer.global_step
            validation = trainer.fit_loop.epoch_loop.val_loop
            trainer.validating = True
            validation.restarting = False
            validation.run()
            trainer.training = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report, and save where it is time to."""
        step, end = trainer.global_step, trainer.max_steps
        if step == end:
            self.loss = float(outputs["loss"])
        if self.progress is not None:
            self.progress(step, end)
        self._agreed = self._agree(trainer)
        # the end is saved once it is whole: nothing would do the validation of a training that is over
        if step < end and (self._agreed is not None or step % self.every == 0 or self._validates(step)):
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
            self._saved = step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop if asked to, and saved."""
        self._stop_if_asked(trainer)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if asked to, and saved."""
        self._stop_if_asked(trainer)

    def _agree(self, trainer: pl.Trainer) -> int | None:
        """The signal that came to any of the processes: saving and stopping are things that all do or none."""
        if trainer.world_size == 1:
            return self._signal
        told = torch.tensor(self._signal or 0, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        return int(told) or None

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if trainer.world_size == 1:
            self._agreed = self._signal
        if self._agreed is not None and self._saved == trainer.global_step:
            self._give_back()
            raise self.interrupted(trainer)  # type: ignore[misc]

    def interrupted(self, trainer: pl.Trainer) -> Interrupted | None:
        """What to raise if a signal came."""
        signum = self._agreed or self._signal
        if signum is None:
            return None
        return Interrupted(
            f"interrupted at step {trainer.global_step} of {trainer.max_steps}, saved; "
            "run the same command to go on",
            signum,
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self._give_back()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers = {}


class PassOn(Logger):
    """A Lightning logger that hands what is logged to a function, in the first process alone."""

    def __init__(self, log: Callable[[dict[str, float], int | None], None]) -> None:
        super().__init__()
        self._log = log

    @property
    def name(self) -> None:
        """None: it has no files."""

    @property
    def version(self) -> None:
        """None."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Hand them on."""
        self._log(metrics, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the settings are the run's, not the module's."""


Rates = Callable[[dict[str, NDArray[np.float32]], int], None]


class SpikeRates(Callback):
    """Logs the share of neurons that fire, by level of the network, every `every` steps.

    A level is a top-level part of the network (`encoder1`, `decoder2`, …). Ordinary networks log nothing.

    Args:
        every: steps between two.
        channels: called in the first process with the rate of every channel, by level, (channels,) in [0, 1], and the
            step; a channel's is over the time steps, pictures and places of a batch. None: not measured.
        channels_every: steps between two of these calls, a multiple of `every`.
    """

    def __init__(self, every: int, channels: Rates | None = None, channels_every: int = 1) -> None:
        self.every, self.channels, self.channels_every = every, channels, channels_every
        self._by_channel: dict[str, list[Tensor]] | None = None
        self._handles: list[Any] = []
        self._sums: dict[str, Tensor] = {}
        self._sizes: dict[str, int] = defaultdict(int)

    def _watch(self, network: nn.Module) -> None:
        for name, neuron in network.named_modules():
            if isinstance(neuron, SequenceNeuron):
                level = level_of(name)
                self._handles.append(neuron.register_forward_hook(self._counting(level)))

    def _counting(self, level: str) -> Callable[..., None]:
        def count(module: nn.Module, args: tuple[Any, ...], spikes: Tensor) -> None:
            fired = torch.count_nonzero(spikes.detach())
            self._sums[level] = self._sums[level] + fired if level in self._sums else fired
            self._sizes[level] += spikes.numel()
            if self._by_channel is not None:  # (T, N, C, ...)
                others = [d for d in range(spikes.ndim) if d != 2]
                self._by_channel.setdefault(level, []).append(
                    spikes.detach().ne(0).float().mean(others).reshape(-1)
                )

        return count

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Watch the neurons during the steps that are logged, and only those."""
        step = trainer.global_step + 1
        if step % self.every == 0:
            wanted = self.channels is not None and trainer.is_global_zero and step % self.channels_every == 0
            self._by_channel = {} if wanted else None
            self._watch(pl_module.network)  # type: ignore[arg-type]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates of the step."""
        for handle in self._handles:
            handle.remove()
        if self._sums:
            pl_module.log_dict({f"spike_rate/{k}": v / self._sizes[k] for k, v in self._sums.items()})
        if self._by_channel and self.channels is not None:
            rates = {k: torch.cat(v).cpu().numpy() for k, v in self._by_channel.items()}
            self.channels(rates, trainer.global_step - 1)  # Lightning's number of the step that was
        self._handles, self._sums, self._by_channel = [], {}, None
        self._sizes.clear()
