"""Networks of the suite as users of Lightning expect them: a module of plain arguments for any Trainer or LightningCLI.

    from benchmark import RainDataModule, RestorationModule
    trainer.fit(RestorationModule("prenet", lr=1e-3), datamodule=RainDataModule("embedded-light"))

`derain train` trains by the same module below (`benchmark.training.module.Restoration`), which holds the losses,
optimisers, schedules and the measuring; here they are chosen by keyword, and what a Trainer knows is asked of it.
"""

from __future__ import annotations

import copy
import inspect
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import catalog
from benchmark.checkpoints import CARRIED, load_checkpoint, read_checkpoint, weights_file
from benchmark.errors import UserError, unknown
from benchmark.models import create_model, open_network
from benchmark.spec import recipe_of
from benchmark.training.module import Restoration


class RestorationModule(Restoration):
    """Trains, validates, tests and applies one network.

    Batches are what `RainDataModule` gives: {"rainy", "target": (N, 3, H, W) in [0, 1], "name": [str]}; to predict,
    "rainy" suffices. Logged are `train/loss`, `train/learning_rate`, and PSNR-Y (dB) and SSIM-Y as `validation/…` and
    `test/…`, of pictures that are restored as a test restores them: whole, or in the network's tiles.

    Args:
        network: a name of the catalogue (`derain models`), or a module from (N, 3, H, W) to the same.
        options: constructor options of a network that is named.
        loss: "ssim", "l1", "mse", "charbonnier", "l1+ssim", or the network's own (`recipe=authors`), by its name.
        optimizer: "adam" or "adamw".
        lr: learning rate.
        betas, eps, weight_decay: the optimiser's.
        schedule: "cosine" or "linear" (over the whole training), "constant", "step" or "multistep".
        unit: what the schedule counts, "epoch" or "step".
        warmup: units of linear warm-up.
        final_lr: what the cosine ends at.
        milestones, every, gamma: of "multistep" and "step".
        start: units until which "linear" stays as it is.
        first: where the authors' scheduler stands in its first unit (`benchmark.spec.ScheduleSpec`).
        tile: pixels of the tiles that pictures are restored in; None: whole; "authors": as the network's authors
            test, where it is named.
        overlap: pixels that tiles share; with "authors" theirs.

    Raises:
        UserError: a name that does not exist, or a value that cannot be; the nearest is given.
    """

    def __init__(
        self,
        network: str | nn.Module = "esdnet",
        options: dict[str, Any] | None = None,
        loss: str = "ssim",
        optimizer: str = "adam",
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        unit: str = "epoch",
        warmup: float = 0.0,
        final_lr: float = 1e-7,
        milestones: Sequence[float] = (),
        every: float = 0.0,
        gamma: float = 1.0,
        start: float = 0.0,
        first: int | None = None,
        tile: int | str | None = "authors",
        overlap: int = 8,
    ) -> None:
        of_optimizer = {"lr": lr, "betas": list(betas), "eps": eps, "weight_decay": weight_decay}
        of_schedule = {
            "unit": unit,
            "warmup": warmup,
            "final_lr": final_lr,
            "milestones": list(milestones),
            "every": every,
            "gamma": gamma,
            "start": start,
            "first": first,
        }
        recipe = recipe_of(
            {
                "name": "own",
                "loss": loss,
                "optimizer": {"name": optimizer, **of_optimizer},
                "schedule": {"name": schedule, **of_schedule},
            }
        )
        if schedule == "step" and every <= 0:
            raise UserError(f"every={every}: must be greater than 0 with schedule=step")
        description, made, tiling = _made(network, dict(options or {}), tile, overlap)
        super().__init__(made, recipe, 0, 0, description, tiling)
        self._keep(
            {
                "network": network if isinstance(network, str) else type(network).__name__,
                "options": dict(options or {}),
                "loss": loss,
                "optimizer": optimizer,
                **of_optimizer,
                "schedule": schedule,
                **of_schedule,
                "tile": tile,
                "overlap": overlap,
            }
        )

    def _keep(self, arguments: dict[str, Any]) -> None:
        """What `save_hyperparameters` does, which would ask the frame of a subclass for the arguments of its own."""
        self._set_hparams(arguments)
        self._hparams_initial = copy.deepcopy(self._hparams)

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, as long as the Trainer will train."""
        total = self.trainer.estimated_stepping_batches
        whole = self.recipe.schedule.name in ("cosine", "linear")
        if total == float("inf") and whole:
            raise UserError(
                f"schedule={self.recipe.schedule.name} ends with the training: give the Trainer max_epochs or max_steps"
            )
        self.total_steps = 0 if total == float("inf") else int(total)
        batches = self.trainer.num_training_batches
        if batches == float("inf"):
            batches = max(1, self.total_steps)
        self.steps_per_epoch = max(1, int(batches) // self.trainer.accumulate_grad_batches)
        return super().configure_optimizers()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """PSNR-Y and SSIM-Y of the test pairs, restored in the tiles of the test."""
        self.measure(batch, "test")

    def predict_step(self, batch: dict[str, Any] | Tensor, batch_idx: int) -> Tensor:
        """Restored pictures (N, 3, H, W) in [0, 1]."""
        rainy = batch if isinstance(batch, Tensor) else batch["rainy"]
        return self.restored(rainy)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = None, weights_only: bool = True, **changed: Any
    ) -> RestorationModule:
        """The module of any checkpoint that the suite reads: a training's, weights of a run, the authors' own.

        Args:
            checkpoint_path: a file, or a run's folder.
            map_location: device of the network's weights.
            weights_only: only True: a file that needs code to be executed is not opened.
            changed: arguments that win over those that the checkpoint was made with; `network` where it says of none.

        Raises:
            UserError: it cannot be read, does not say of which network it is, or does not fit it.
        """
        if weights_only is False:
            raise UserError("weights_only=False: checkpoints are read as plain data alone; leave it out")
        path = weights_file(Path(checkpoint_path))
        found = read_checkpoint(path)
        arguments = {**_trained_by(found), **found.get("hyper_parameters", {}), **changed}
        given = arguments.pop("network", None)
        if isinstance(given, nn.Module):
            load_checkpoint(given, path)
            module = cls(given, **arguments)
        else:
            name = given if isinstance(given, str) and given in catalog.networks() else None
            if given is not None and name is None:
                raise unknown("network", str(given), catalog.networks())
            opened = open_network(path, name, arguments.pop("options", None) or None)
            module = cls._of(opened.name, opened.options, **arguments)
            module.network.load_state_dict(opened.network.state_dict())
        return module if map_location is None else module.to(torch.device(map_location))

    @classmethod
    def _of(cls, name: str, options: dict[str, Any], **arguments: Any) -> RestorationModule:
        return cls(name, options, **arguments)


_TRAINING = [
    n
    for n in inspect.signature(RestorationModule.__init__).parameters
    if n not in ("self", "network", "options")
]


class ESDNetModule(RestorationModule):
    """`RestorationModule` for ESDNet: the network's options are keyword arguments beside the training's.

    Args:
        options: all of `esdnet.ESDNet`'s (dim, time_steps, block, …) and of `RestorationModule`'s, by keyword. The
            defaults are the released network and the paper's training (section 4.1).

    Raises:
        UserError: no such option; the nearest is given.
    """

    def __init__(self, **options: Any) -> None:
        training = {name: options.pop(name) for name in _TRAINING if name in options}
        super().__init__("esdnet", options, **training)

    @classmethod
    def _of(cls, name: str, options: dict[str, Any], **arguments: Any) -> RestorationModule:
        if name != "esdnet":
            raise UserError(
                f"the checkpoint is of {name}, not of esdnet: RestorationModule.load_from_checkpoint"
            )
        return cls(**options, **arguments)


def _signature() -> inspect.Signature:
    """What `ESDNetModule` takes, for help, editors and LightningCLI."""
    from esdnet import ESDNet

    found = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    for function, names in ((ESDNet.__init__, None), (RestorationModule.__init__, _TRAINING)):
        types = typing.get_type_hints(function)
        for name, parameter in inspect.signature(function).parameters.items():
            if name != "self" and (names is None or name in names):
                found.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=types[name]))
    return inspect.Signature(found)


ESDNetModule.__init__.__signature__ = _signature()  # type: ignore[attr-defined]


def _trained_by(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """How a run of the suite was trained and is tested, as this module's arguments; empty for other files."""
    told = checkpoint.get(CARRIED)
    config = told.get("config") if isinstance(told, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(config.get("recipe"), Mapping):
        return {}
    recipe, tile = config["recipe"], str(config.get("evaluation", {}).get("tile", "authors"))
    optimizer, schedule = dict(recipe["optimizer"]), dict(recipe["schedule"])
    return {
        "loss": recipe["loss"],
        "optimizer": optimizer.pop("name"),
        "schedule": schedule.pop("name"),
        **optimizer,
        **schedule,
        "tile": None if tile == "whole" else int(tile) if tile.isdecimal() else tile,
    }


def _made(
    network: str | nn.Module, options: dict[str, Any], tile: int | str | None, overlap: int
) -> tuple[dict[str, Any], nn.Module, tuple[int | None, int]]:
    """What checkpoints say of the network, the network, and how pictures are tiled."""
    if isinstance(network, nn.Module):
        if options:
            raise UserError("options are of networks that are named; this one is given as a module")
        if isinstance(tile, str):
            tile = None
        return {}, network, (tile, overlap)
    entry = catalog.network(network)
    catalog.check_options(entry, options)
    if tile == "authors":
        tiling: tuple[int | None, int] = entry.tile or (None, overlap)
    elif isinstance(tile, str):
        raise unknown("tile", tile, ["authors", "a number", "null"])
    else:
        tiling = (tile, overlap)
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    return {"model": {"name": entry.name, "options": plain}}, create_model(entry.name, **options), tiling


__all__ = ["ESDNetModule", "RestorationModule"]
