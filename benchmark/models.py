"""Networks from the catalogue, ready for any image size: new, with the weights that ship, or of a checkpoint."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmark import catalog, shipped
from benchmark.checkpoints import (
    description_in,
    load_checkpoint,
    options_in,
    read_checkpoint,
    size_of,
    weights_file,
)
from benchmark.errors import Foreign, UserError, WorkError, fault_in_words, out_of_memory
from esdnet.sizes import crop_to, pad_to_multiple


@functools.cache
def _any_size(name: str) -> type[nn.Module]:
    """The network's class, reflect-padding its input to the catalogue's size multiple and cropping back.

    A subclass rather than a wrapper, so that state_dict keys and types stay the network's own.
    """
    entry = catalog.network(name)
    cls = entry.load_class()
    multiple, least = entry.size_multiple, entry.minimum_size
    restored = cls.forward if entry.is_ours() else _looked_at(name, cls.forward)

    def forward(self: nn.Module, rainy: Tensor) -> Tensor:
        if rainy.ndim != 4 or rainy.shape[1] != 3 or min(rainy.shape[-2:]) < least:
            raise ValueError(
                f"{entry.title}: the input must be (N, 3, H, W) with H and W of at least {least}, "
                f"not {tuple(rainy.shape)}"
            )
        height, width = rainy.shape[-2:]
        return crop_to(restored(self, pad_to_multiple(rainy, multiple)), height, width)

    def reduce(self: nn.Module, protocol: object) -> tuple[Any, ...]:
        return _blank, (name,), self.__getstate__()

    body = {"forward": forward, "__reduce_ex__": reduce, "__doc__": cls.__doc__, "__module__": cls.__module__}
    body["catalogued_as"] = name
    return type(cls.__name__, (cls,), body)


def _looked_at(
    name: str, forward: Callable[[nn.Module, Tensor], Any]
) -> Callable[[nn.Module, Tensor], Tensor]:
    """The forward of a network from outside, and what is wrong with its result in a line."""

    def looked_at(self: nn.Module, rainy: Tensor) -> Tensor:
        with faults_of(self):
            made = forward(self, rainy)
        wanted, fault = f"not the restored {tuple(rainy.shape)}", ""
        if not isinstance(made, Tensor):
            fault = f"made something of the type {type(made).__name__}, {wanted}"
        elif made.shape != rainy.shape:
            fault = f"made {tuple(made.shape)}, {wanted}"
        elif not made.is_floating_point():
            fault = f"made {made.dtype}, not a floating-point type"
        elif self.training and torch.is_grad_enabled() and _trains(self) and not made.requires_grad:
            fault = "made a result without gradients: nothing can be trained"
        if fault:
            raise Foreign(f"model '{name}': its forward {fault}")
        return made

    return looked_at


def _trains(network: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in network.parameters())


@contextmanager
def faults_of(network: nn.Module, doing: str = "its forward") -> Iterator[None]:
    """Within the block, what code of a network from outside raises is told in a line; ours is left as it is.

    Raises:
        Foreign: the network's code raised something, or wanted to end the process.
    """
    name = getattr(network, "catalogued_as", None)
    if name is None or (entry := catalog.network(name)).is_ours():
        yield
        return
    try:
        yield
    except (UserError, WorkError):
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        told = fault_in_words(error, entry.package())
        raise Foreign(f"model '{name}': {doing} failed: {told}") from error


def _blank(name: str) -> nn.Module:
    """What a pickled or copied network's state is put into; the class itself has no name to be found by."""
    cls = _any_size(name)
    return cls.__new__(cls)


def list_models() -> list[str]:
    """Names of all networks, in the order of the paper's Table 1, plug-ins last."""
    return list(catalog.networks())


def create_model(name: str, *, pretrained: str | None = None, **overrides: Any) -> nn.Module:
    """Build a network with its authors' configuration, some options replaced, or one whose weights ship.

    Args:
        name: one of `list_models()`.
        pretrained: weights that ship with the suite ("general"; `derain models` lists them); the options are then
            theirs, and the network is in evaluation mode.
        overrides: constructor options of that network (`derain models NAME` lists them).

    Returns:
        A module mapping a rainy image (N, 3, H, W) in [0, 1], H and W of at least the catalogue's minimum (16), to the
        restored one: same shape, not clamped.

    Raises:
        UserError: no such network, weights or option (the nearest name is given), or an impossible value.
    """
    entry = catalog.network(name)
    if pretrained is not None:
        return _pretrained(name, pretrained, overrides)
    catalog.check_options(entry, overrides)
    try:
        return _any_size(name)(**overrides)
    except (UserError, WorkError):
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"model '{name}': {error}") from error
    except Exception as error:
        if out_of_memory(error) or entry.is_ours():
            raise
        raise UserError(
            f"model '{name}': making it failed: {fault_in_words(error, entry.package())}"
        ) from error


def _pretrained(name: str, weights: str, overrides: dict[str, Any]) -> nn.Module:
    ship = shipped.for_network(name, weights)
    if overrides:
        raise UserError(
            f"model '{name}', pretrained='{weights}': the weights have their own options; leave out "
            f"{', '.join(overrides)}"
        )
    ship.require_whole()
    network = create_model(name, **ship.options)
    load_checkpoint(network, ship.path)
    return network.eval()


@dataclass(frozen=True)
class Opened:
    """A network with the weights of a checkpoint, its name in the catalogue and the options it was built with."""

    name: str
    options: dict[str, Any]
    network: nn.Module


def open_network(
    path: str | Path, model: str | None = None, options: Mapping[str, Any] | None = None
) -> Opened:
    """The network that a checkpoint is of, with its weights.

    Args:
        path: a checkpoint file, or a run's folder.
        model: name of the network; None where the checkpoint says it.
        options: constructor options; they win over those that the checkpoint carries or its variant needs.

    Raises:
        UserError: the file cannot be read, is of another network or says of none, or does not fit.
    """
    path = weights_file(path)
    source, checkpoint = f"checkpoint {path}", read_checkpoint(path)
    if model is None:
        told = description_in(checkpoint, source)
        if told is None:
            raise UserError(
                f"{source} does not say of which network it is: give --model (derain models lists them)"
            )
        model = told[0]
    entry = catalog.network(model)
    chosen = {**options_in(entry, checkpoint, source), **(options or {})}
    with _NoLarger(size_of(checkpoint), source):
        network = create_model(entry.name, **chosen)
    load_checkpoint(network, checkpoint, source)
    return Opened(entry.name, chosen, network)


class _NoLarger(TorchFunctionMode):
    """Refuses to build a network far larger than the weights that are to be loaded into it."""

    def __init__(self, held: int, source: str) -> None:
        super().__init__()
        self.left, self.source = 16 * held + 10_000_000, source

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand, torch.full):
            sizes = args[0] if args and isinstance(args[0], Sequence) else args
            self.left -= math.prod(n for n in sizes if isinstance(n, int))
            if self.left < 0:
                raise UserError(f"{self.source}: its options are of a far larger network than its weights")
        return func(*args, **(kwargs or {}))


__all__ = ["Opened", "create_model", "faults_of", "list_models", "open_network"]
