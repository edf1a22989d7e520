"""The network, the weights, the device and the tiling that options ask for."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from benchmark import catalog
    from benchmark.spec import RunSpec


def asked(options: Namespace) -> tuple[catalog.Network, RunSpec, int | None, int]:
    """The catalogue's entry, the configuration and the tiling that the options ask for, the checkpoint being there."""
    from benchmark import catalog
    from benchmark.spec import resolve

    options.model = options.model or _described(options.checkpoint)  # which is read once
    entry = catalog.network(options.model)
    words = [
        f"model={entry.name}",
        *(f"model.{word}" for word in options.set),
        f"evaluation.tile={options.tile}",
    ]
    if options.overlap is not None:
        words.append(f"evaluation.overlap={options.overlap}")
    try:
        resolved = resolve(words)
    except UserError as error:  # tiles have flags of their own here
        told = str(error).replace("evaluation.tile=", "--tile ").replace("evaluation.overlap=", "--overlap ")
        raise UserError(told.replace("evaluation.overlap", "--overlap")) from None
    tile, overlap = resolved.tiling
    if options.overlap is not None:
        overlap = options.overlap
    if options.checkpoint is not None and not options.checkpoint.exists():
        raise UserError(f"checkpoint {options.checkpoint}: no such file")
    return entry, resolved, tile, overlap


def _described(checkpoint: Path | None) -> str:
    """The name of the network that a checkpoint says it is of."""
    if checkpoint is None:
        raise UserError(
            "give --model NAME (derain models lists them), or a --checkpoint that says what it is of"
        )
    from benchmark.checkpoints import described

    told = described(checkpoint)
    if told is None:
        raise UserError(
            f"checkpoint {checkpoint} does not say of which network it is: give --model (derain models lists them)"
        )
    return told[0]


def loaded(options: Namespace) -> tuple[nn.Module, Any, int | None, int]:
    """The network with its weights, on its device, and the tiling that the options ask for."""
    entry, resolved, tile, overlap = asked(options)

    import torch

    from benchmark.models import create_model, open_network

    device = device_named(options.device)
    if options.checkpoint is None:
        torch.manual_seed(0)
        network = create_model(entry.name, **resolved.model.options)
    else:
        network = open_network(options.checkpoint, entry.name, resolved.model.options).network
    return network.eval().to(device), device, tile, overlap


def device_named(name: str) -> Any:
    """The torch device that --device says.

    Raises:
        UserError: no such device, or there is no GPU.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: no such device; one of auto, cpu, cuda, cuda:0") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: there is no usable GPU here; use --device cpu")
    return device


def listed(text: str | None) -> list[str]:
    """The names between commas; none of nothing."""
    return [word.strip() for word in text.split(",") if word.strip()] if text else []
