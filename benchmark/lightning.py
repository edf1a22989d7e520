"""Networks of the suite as users of Lightning expect them: a module of plain arguments for any Trainer or LightningCLI.

    from benchmark import RainDataModule, RestorationModule
    trainer.fit(RestorationModule("prenet", lr=1e-3), datamodule=RainDataModule("embedded-light"))

`derain train` trains by the same module below (`benchmark.training.module.Restoration`), which holds the losses,
optimisers, schedules and the measuring; here they are chosen by keyword, and what a Trainer knows is asked of it.
"""

from __future__ import annotations

import copy
import inspect
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import catalog
from benchmark.checkpoints import CARRIED, description_in, load_checkpoint, read_checkpoint, weights_file
from benchmark.errors import UserError, unknown
from benchmark.files import WEIGHTS
from benchmark.models import create_model, open_network
from benchmark.reading import plain_of
from benchmark.restoration.tiling import check_tiles
from benchmark.spec import recipe_of
from benchmark.spec.rules import check_course
from benchmark.training.module import Restoration
from esdnet import ESDNet


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
        tile: pixels of the tiles that pictures are restored in; None or "whole": whole; "authors": as the network's
            authors test, where it is named.
        overlap: pixels that tiles share; with "authors" theirs.

    Raises:
        UserError: a name that does not exist, or a value that cannot be; the nearest is given.
    """

    remedy = "a lower lr, or the Trainer's gradient_clip_val=1"

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
        with _names_of_arguments():
            recipe = recipe_of(
                {
                    "name": "own",
                    "loss": loss,
                    "optimizer": {"name": optimizer, **of_optimizer},
                    "schedule": {"name": schedule, **of_schedule},
                }
            )
            check_course(recipe)
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
        self.hparams.clear()
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

    def predict_step(self, batch: dict[str, Any] | Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Restored pictures (N, 3, H, W) in [0, 1] of a batch, a tensor, or the first of several tensors.

        Raises:
            UserError: the batch is something else.
        """
        rainy = batch["rainy"] if isinstance(batch, Mapping) and "rainy" in batch else batch
        if isinstance(rainy, Sequence) and rainy:
            rainy = rainy[0]
        if not isinstance(rainy, Tensor):
            raise UserError(
                'a batch to predict is {"rainy": (N, 3, H, W)}, such a tensor, or a list that begins with it'
            )
        return self.restored(rainy)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **changed: Any,
    ) -> RestorationModule:
        """The module of any checkpoint that the suite reads: a training's, weights of a run, the authors' own.

        The training's arguments are those of the checkpoint; of the weights in a run's folder, those of the
        config.yaml beside them. Files that say nothing of their training (the authors', weights that were moved) leave
        the defaults.

        Args:
            checkpoint_path: a file, or a run's folder.
            map_location: the device that the module is then on.
            hparams_file: only None: arguments are in the checkpoint.
            strict: not False: all weights fit or none is loaded.
            weights_only: not False: a file that needs code to be executed is not opened.
            changed: arguments that win over those that the checkpoint was made with; `network` where it says of none.

        Raises:
            UserError: it cannot be read, does not say of which network it is, or does not fit it; or no such argument.
        """
        if weights_only is False:
            raise UserError("weights_only=False: checkpoints are read as plain data alone; leave it out")
        if strict is False:
            raise UserError("strict=False: all weights fit or none is loaded; leave it out")
        if hparams_file is not None:
            raise UserError(
                f"hparams_file={hparams_file}: give what is to be other than in the checkpoint by keyword"
            )
        device = _device(map_location)
        taken = _arguments_of(cls)
        for argument in changed:
            if taken is not None and argument not in taken:
                raise unknown("argument", argument, taken)
        path = weights_file(Path(checkpoint_path))
        source, found = f"checkpoint {path}", read_checkpoint(path)
        arguments = {**_trained_by(found, path), **_kept_in(found, taken), **changed}
        # options that a checkpoint was made with stand in its description
        options = {**(changed.get("options") or {}), **{k: v for k, v in changed.items() if k in _OPTIONS}}
        arguments = {k: v for k, v in arguments.items() if k not in ("network", "options", *_OPTIONS)}
        given = changed.get("network")
        if isinstance(given, nn.Module):
            load_checkpoint(given, found, source)
            module = cls._of(given, options, **arguments)
        else:
            opened = open_network(path, given or _network_in(found, source), options)
            module = cls._of(opened.name, opened.options, **arguments)
            module.network.load_state_dict(opened.network.state_dict())
        return module if device is None else module.to(device)

    @classmethod
    def _of(cls, network: str | nn.Module, options: dict[str, Any], **arguments: Any) -> RestorationModule:
        return cls(network, options, **arguments)


_TRAINING = [
    n
    for n in inspect.signature(RestorationModule.__init__).parameters
    if n not in ("self", "network", "options")
]
_OPTIONS = [n for n in inspect.signature(ESDNet.__init__).parameters if n != "self"]


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
        of_network = _plain({**catalog.network("esdnet").options(), **options})
        self._keep({**of_network, **{name: self.hparams[name] for name in _TRAINING}})

    @classmethod
    def _of(cls, network: str | nn.Module, options: dict[str, Any], **arguments: Any) -> RestorationModule:
        if network != "esdnet":
            name = network if isinstance(network, str) else type(network).__name__
            raise UserError(
                f"the checkpoint is of {name}, not of esdnet: RestorationModule.load_from_checkpoint"
            )
        return cls(**options, **arguments)


def _signature() -> inspect.Signature:
    """What `ESDNetModule` takes, for help, editors and LightningCLI."""
    found = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    for function, names in ((ESDNet.__init__, None), (RestorationModule.__init__, _TRAINING)):
        types = typing.get_type_hints(function)
        for name, parameter in inspect.signature(function).parameters.items():
            if name != "self" and (names is None or name in names):
                found.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=types[name]))
    return inspect.Signature(found)


ESDNetModule.__init__.__signature__ = _signature()  # type: ignore[attr-defined]


@contextmanager
def _names_of_arguments() -> Iterator[None]:
    """Within the block, what is wrong with a setting (`recipe.optimizer.lr`) is told of the argument (`lr`)."""
    try:
        yield
    except UserError as error:
        told = re.sub(r"\brecipe\.(optimizer|schedule)\.name\b", r"\1", str(error))
        told = told.replace("unknown model '", "unknown network '", 1)
        raise UserError(re.sub(r"\brecipe\.(optimizer\.|schedule\.)?(?=\w)", "", told)) from None


def _device(given: Any) -> torch.device | None:
    try:
        return None if given is None else torch.device(given)
    except (TypeError, RuntimeError):
        raise UserError(
            f"map_location={given}: the device that the module is to be on, such as cpu or cuda:0"
        ) from None


def _arguments_of(cls: type[RestorationModule]) -> list[str] | None:
    """What may be changed in a checkpoint's module; None where a class takes any keyword."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return list(dict.fromkeys(["network", "options", *(p.name for p in parameters if p.name != "self")]))


def _kept_in(checkpoint: Mapping[str, Any], taken: Sequence[str] | None) -> dict[str, Any]:
    """The arguments that a module of Lightning left in its checkpoint."""
    kept = checkpoint.get("hyper_parameters")
    if not isinstance(kept, Mapping):
        return {}
    return {k: v for k, v in kept.items() if taken is None or k in taken}


def _network_in(checkpoint: Mapping[str, Any], source: str) -> str:
    """The name of the network that a checkpoint is of."""
    told = description_in(checkpoint, source)
    if told is not None:
        return told[0]
    kept = checkpoint.get("hyper_parameters")
    if CARRIED in checkpoint and isinstance(kept, Mapping) and "network" in kept:
        raise UserError(
            f"{source} is of a network of your own ({kept['network']}): give network=, that module"
        )
    raise UserError(
        f"{source} does not say of which network it is: give network=, a name (derain models lists them) or a module"
    )


def _config_of(checkpoint: Mapping[str, Any], path: Path) -> Any:
    """The settings of the run that a checkpoint is of: in it, or beside the weights that the run left; else None."""
    told = checkpoint.get(CARRIED)
    if not isinstance(told, Mapping):
        return None
    beside = path.with_name("config.yaml")
    if "config" in told or path.name != WEIGHTS or not beside.is_file():
        return told.get("config")
    try:
        config = plain_of(beside)
        is_its = (config["recipe"]["name"], config["data"]["name"], config["seed"], config["model"]["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{beside}: not the settings of a run ({error})") from None
    of = (told.get("recipe"), told.get("data"), told.get("seed"), told.get("model", {}).get("name"))
    return config if is_its == of else None


def _trained_by(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """How a run of the suite was trained and is tested, as this module's arguments; empty for other files."""
    config = _config_of(checkpoint, path)
    if not isinstance(config, Mapping) or not isinstance(config.get("recipe"), Mapping):
        return {}
    recipe, tested = config["recipe"], config.get("evaluation", {})
    optimizer, schedule = dict(recipe["optimizer"]), dict(recipe["schedule"])
    return {
        "loss": recipe["loss"],
        "optimizer": optimizer.pop("name"),
        "schedule": schedule.pop("name"),
        **optimizer,
        **schedule,
        "tile": str(tested.get("tile", "authors")),
        "overlap": tested.get("overlap", 8),
    }


def _made(
    network: str | nn.Module, options: dict[str, Any], tile: int | str | None, overlap: int
) -> tuple[dict[str, Any], nn.Module, tuple[int | None, int]]:
    """What checkpoints say of the network, the network, and how pictures are tiled."""
    if isinstance(network, nn.Module):
        if options:
            raise UserError("options are of networks that are named; this one is given as a module")
        return {}, network, _tiling(None if tile == "authors" else tile, overlap)
    entry = catalog.network(network)
    catalog.check_options(entry, options)
    tiling = (
        entry.tile
        if tile == "authors" and entry.tile
        else _tiling(None if tile == "authors" else tile, overlap)
    )
    described = {"model": {"name": entry.name, "options": _plain(options)}}
    return described, create_model(entry.name, **options), tiling


def _tiling(tile: int | str | None, overlap: int) -> tuple[int | None, int]:
    """The tile, as `evaluation.tile` has it too ("whole", "80"), in pixels (None: whole), and the overlap."""
    if isinstance(tile, str) and tile.isdecimal():
        tile = int(tile)
    if isinstance(tile, str) and tile != "whole":
        raise unknown("tile", tile, ["authors", "whole", "a number", "null"])
    pixels = None if isinstance(tile, str) else tile
    check_tiles(pixels, overlap)
    return pixels, overlap


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}


__all__ = ["ESDNetModule", "RestorationModule"]
