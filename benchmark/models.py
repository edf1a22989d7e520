"""Networks from the catalogue, ready for any image size."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn

from benchmark import catalog, shipped
from benchmark.errors import UserError, WorkError, fault_in_words, out_of_memory
from esdnet.sizes import crop_to, pad_to_multiple


@functools.cache
def _any_size(name: str) -> type[nn.Module]:
    """The network's class, reflect-padding its input to the catalogue's size multiple and cropping back.

    A subclass rather than a wrapper, so that state_dict keys and types stay the network's own.
    """
    entry = catalog.network(name)
    cls = entry.load_class()
    multiple, least = entry.size_multiple, entry.minimum_size

    def forward(self: nn.Module, rainy: Tensor) -> Tensor:
        if rainy.ndim != 4 or rainy.shape[1] != 3 or min(rainy.shape[-2:]) < least:
            raise ValueError(
                f"{entry.title}: the input must be (N, 3, H, W) with H and W of at least {least}, "
                f"not {tuple(rainy.shape)}"
            )
        height, width = rainy.shape[-2:]
        return crop_to(cls.forward(self, pad_to_multiple(rainy, multiple)), height, width)

    def reduce(self: nn.Module, protocol: object) -> tuple[Any, ...]:
        return _blank, (name,), self.__getstate__()

    body = {"forward": forward, "__reduce_ex__": reduce, "__doc__": cls.__doc__, "__module__": cls.__module__}
    return type(cls.__name__, (cls,), body)


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
        raise UserError(f"model '{name}': making it failed: {fault_in_words(error)}") from error


def _pretrained(name: str, weights: str, overrides: dict[str, Any]) -> nn.Module:
    from benchmark.checkpoints import load_checkpoint

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


__all__ = ["create_model", "list_models"]
