"""One training: from a configuration to a checkpoint, resumable at any moment."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import nn

from benchmark.checkpoints import load_checkpoint
from benchmark.data import RainDataModule
from benchmark.data.datamodule import SettingsDataModule
from benchmark.errors import UserError, WorkError
from benchmark.files import file_digest, require_writable, room_for_sockets
from benchmark.metrics.fidelity import least_side
from benchmark.models import create_model
from benchmark.spec import RunSpec
from benchmark.training.callbacks import PassOn, Rates, Report, SpikeRates
from benchmark.training.history import History
from benchmark.training.module import Restoration
from benchmark.training.norms import WholeBatch
from benchmark.training.processes import Launcher, together
from benchmark.training.saving import WholeFiles, description, may_go_on, require_room_for

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Trained:
    """What a training leaves: the weights to test and how they came about."""

    network: nn.Module
    checkpoint: Path
    steps: int
    steps_per_epoch: int
    seconds: float  # of wall time, over all parts of a training that was cut off
    final_loss: float
    validation_psnr_y: float | None  # of the chosen checkpoint on held-out images
    code: list[str]  # digests of the code that took part, the last one's last
    data: dict[str, Any]


def training_data(config: RunSpec) -> RainDataModule:
    """What a configuration trains on, with the sets that it tests on besides; nothing is read yet."""
    recipe = config.recipe
    return SettingsDataModule(
        config.data.name,
        root=config.data.root,
        patch=recipe.patch,
        batch=recipe.batch,
        augmentation=recipe.augmentation,
        steps_per_epoch=recipe.steps_per_epoch,
        validation=recipe.validation if recipe.select == "best" else 0.0,
        seed=config.seed,
        workers=config.data.workers,
        cache=config.data.cache,
        strict=not config.data.accept_problems,
        exclude=config.data.exclude,
        rain=config.data.rain,
        least=least_side(),
        also=config.evaluation.also,
    )


def train(
    config: RunSpec,
    folder: Path,
    progress: Progress | None = None,
    log: Callable[[dict[str, float], int | None], None] | None = None,
    histograms: Rates | None = None,
) -> Trained:
    """Train a network, or go on with a training that was cut off.

    Checkpoints are written to `folder/checkpoints`; if there is a `last.ckpt`, training goes on from it and ends with
    the weights that an uninterrupted training would have had (bit for bit on CPU).

    Args:
        config: the resolved configuration.
        folder: of this run.
        progress: called with (steps done, steps in all) after every step.
        log: called with (figures, step) for what is logged, beside `metrics.csv` in the folder.
        histograms: of a spiking network, called some fifty times with the spike rates of its channels by level, and
            the step.

    Raises:
        UserError: the data are missing or wrong.
        WorkError: the loss was not finite.
    """
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # device lists and advertisements
    pl.seed_everything(config.seed, workers=True, verbose=False)
    recipe = config.recipe
    room_for_sockets()  # of loaders
    data = training_data(config)
    data.setup("fit")
    for remark in data.remarks:
        print(f"derain: {remark}", file=sys.stderr)
    per_epoch = data.steps_per_epoch
    total = recipe.steps or (recipe.epochs or 1) * per_epoch
    network = create_model(config.model.name, **config.options)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"model '{config.model.name}': it has no parameters that can be trained")
    started = {}
    if recipe.start_from is not None:
        source = Path(recipe.start_from)
        load_checkpoint(network, source)
        started = {"start_from": {"file": source.name, "sha256": file_digest(source)}}
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    require_writable(checkpoints)
    require_room_for(network, checkpoints, averaged=recipe.ema is not None)
    described = description(config, _plain(config.options))
    described["data"] = data.train_images.source.digest
    may_go_on(last, config, described)
    module = Restoration(network, recipe, total, per_epoch, described, config.tiling)
    validate = recipe.select == "best"
    every = min(recipe.validate_every, total)
    report = Report(progress, last, config.trainer.checkpoint_every, every if validate else None)
    log_every = config.trainer.log_every or log_interval(total)
    callbacks: list[Callback] = [
        SpikeRates(log_every, histograms, log_every * math.ceil(total / (50 * log_every)))
    ]
    if recipe.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=recipe.ema))
    best = ModelCheckpoint(
        checkpoints, filename="best", monitor="validation/psnr_y", mode="max", enable_version_counter=False
    )
    callbacks += [best, report] if validate else [report]
    accelerator = config.trainer.accelerator
    with warnings.catch_warnings():
        # the loader needs no workers (decoded cache), and resumes by step; both are said otherwise by Lightning
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings(
            "ignore", ".*smaller than the logging interval.*|.*LeafSpec.*|.*exists and is not empty.*"
        )
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=config.trainer.devices
            if config.trainer.devices == "auto"
            else _devices(config.trainer.devices),
            num_nodes=config.trainer.nodes,
            strategy=config.trainer.strategy,
            precision=recipe.precision,
            max_steps=total,
            max_epochs=-1,
            val_check_interval=every if validate else None,
            check_val_every_n_epoch=None,
            limit_val_batches=None if validate else 0,
            num_sanity_val_steps=0,
            gradient_clip_val=recipe.gradient_clip,
            logger=[PassOn(take) for take in (History(folder / "metrics.csv").add, log) if take],
            log_every_n_steps=log_every,
            callbacks=callbacks,
            enable_progress_bar=False,  # Lightning's counts the epoch, `progress` the whole training
            enable_model_summary=False,
            deterministic="warn" if accelerator in ("cpu", "auto") else False,
            use_distributed_sampler=False,  # the batch sampler gives every process its share of one global batch
            default_root_dir=folder,
            plugins=[WholeFiles(), WholeBatch()],
        )
        trainer._signal_connector.register_signal_handlers = report.listen  # type: ignore[method-assign]
        with together(Launcher.of(trainer)):
            trainer.fit(
                module, datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=True
            )
        if trainer.global_step < total:
            raise WorkError(
                f"stopped at step {trainer.global_step} of {total}; run the same command to go on"
            )
        trainer.save_checkpoint(last, weights_only=False)
        interrupted = report.interrupted(trainer)
        if interrupted is not None:
            raise interrupted
        if not trainer.is_global_zero:
            sys.exit(0)  # the first process tests the network and writes the record
    chosen = checkpoints / "best.ckpt" if validate and (checkpoints / "best.ckpt").is_file() else last
    return Trained(
        network=module.network,
        checkpoint=chosen,
        steps=total,
        steps_per_epoch=per_epoch,
        seconds=report.seconds,
        final_loss=report.loss,
        validation_psnr_y=float(best.best_model_score)
        if validate and best.best_model_score is not None
        else None,
        code=described["code"],
        data={**data.provenance(), **started},
    )


def log_interval(total: int) -> int:
    """Steps between two logged figures, where nobody says: 50, or so many that a run logs 50 times at least.

    >>> log_interval(1_000_000), log_interval(120), log_interval(7)
    (50, 2, 1)
    """
    return max(1, min(50, total // 50))


def _devices(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
