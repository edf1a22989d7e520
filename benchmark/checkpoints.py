"""Reading weights: this suite's files and the authors', whatever they are wrapped in.

Files are read with `weights_only=True`: nothing in them is executed.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import catalog
from benchmark.errors import UserError

# the names under which training scripts of this field put the weights, in the order in which they are preferred
_WRAPPERS = (
    "state_dict_ema",
    "params_ema",
    "state_dict",
    "model_state_dict",
    "params",
    "model",
    "net",
    "network",
)
_PREFIXES = ("module.", "model.", "network.", "_orig_mod.")
_SHOWN = 3


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint file as plain data (a safetensors file is a dictionary of tensors).

    Raises:
        UserError: no such file, not a checkpoint, truncated, or one that needs code to be executed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        if "Unsupported global" in str(error) or "GLOBAL" in str(error):
            needs = re.search(r"GLOBAL (\S+)", str(error))
            what = f" ({needs.group(1)})" if needs else ""
            raise UserError(
                f"checkpoint {path}: it holds Python objects{what}, not only tensors, and is not opened; "
                "ask for the state_dict alone"
            ) from error
        raise UserError(f"checkpoint {path}: not a PyTorch checkpoint ({reason})") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"checkpoint {path}: damaged or not a PyTorch checkpoint ({reason})") from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"checkpoint {path}: holds a {type(loaded).__name__}, not a dictionary of tensors")
    return dict(loaded)


def weights_of(checkpoint: Mapping[str, Any], source: str = "checkpoint") -> dict[str, Tensor]:
    """The state_dict inside a checkpoint: wrappers and the prefixes of parallel or compiled modules taken off.

    Raises:
        UserError: there are no tensors in it.
    """
    found: Mapping[str, Any] = checkpoint
    while not any(isinstance(v, Tensor) for v in found.values()):
        for name in _WRAPPERS:
            if isinstance(found.get(name), Mapping):
                found = found[name]
                break
        else:
            keys = ", ".join(map(str, list(found)[:_SHOWN])) or "nothing"
            raise UserError(f"{source}: no weights in it (it holds {keys})")
    weights = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    while True:
        prefix = next((p for p in _PREFIXES if all(k.startswith(p) for k in weights)), None)
        if prefix is None:
            return weights
        weights = {k.removeprefix(prefix): v for k, v in weights.items()}


def in_our_names(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under this suite's names: as they are, or through the network's key map."""
    expected = set(model.state_dict())
    if set(weights) == expected:
        return weights
    ignored: tuple[str, ...] = getattr(model, "authors_ignored", ())
    pairs: tuple[tuple[str, str], ...] = getattr(model, "authors_keys", ())
    renamed: dict[str, Tensor] = {}
    for key, value in weights.items():
        if any(re.search(pattern, key) for pattern in ignored):
            continue
        for pattern, replacement in pairs:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    # keys that neither side has under the map are reported in the form that is nearer to what the network expects
    return renamed if len(expected & set(renamed)) >= len(expected & set(weights)) else weights


def load_checkpoint(
    model: nn.Module, path_or_state_dict: str | Path | Mapping[str, Any], source: str = "state_dict"
) -> None:
    """Load weights into a network, strictly: all of them fit or none is loaded.

    Takes this suite's checkpoints, bare state_dicts, safetensors and the authors' released files with their own key
    names, in any of the usual wrappings (`state_dict`, `params`, `params_ema`, `model`, `net`; `module.` prefixes).

    Args:
        model: a network from `create_model`.
        path_or_state_dict: a file, or what `torch.load` of one gives.
        source: what messages call the latter.

    Raises:
        UserError: the file cannot be read, or its keys or shapes are not this network's (the first ones are named).
    """
    if isinstance(path_or_state_dict, Mapping):
        checkpoint = dict(path_or_state_dict)
    else:
        source, checkpoint = f"checkpoint {path_or_state_dict}", read_checkpoint(path_or_state_dict)
    weights = in_our_names(model, weights_of(checkpoint, source))
    expected = model.state_dict()
    missing = [k for k in expected if k not in weights]
    surplus = [k for k in weights if k not in expected]
    shapes = [
        f"{k} is {tuple(weights[k].shape)}, must be {tuple(v.shape)}"
        for k, v in expected.items()
        if k in weights and weights[k].shape != v.shape
    ]
    faults = []
    for words, names in (("missing", missing), ("unexpected", surplus), ("of another shape", shapes)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            faults.append(f"{len(names)} {words}: {', '.join(names[:_SHOWN])}{more}")
    if faults:
        raise UserError(f"{source} does not fit {type(model).__name__}: {'; '.join(faults)}")
    model.load_state_dict(weights, strict=True)


def options_in(
    entry: catalog.Network, checkpoint: Mapping[str, Any], source: str = "checkpoint"
) -> dict[str, Any]:
    """Constructor options that a checkpoint needs: those it carries, or those of the released variant it is.

    This suite's checkpoints carry their configuration; the authors' are recognised by the shape of a tensor.

    Raises:
        UserError: the checkpoint is this suite's, of another network.
    """
    carried = checkpoint.get("derain")
    if isinstance(carried, Mapping) and isinstance(carried.get("model"), Mapping):
        if carried["model"].get("name") != entry.name:
            raise UserError(f"{source} is of model '{carried['model'].get('name')}', not '{entry.name}'")
        return dict(carried["model"].get("options", {}))
    weights = weights_of(checkpoint, source)
    for variant in entry.variants:
        tensor = weights.get(variant.key)
        if tensor is not None and tuple(tensor.shape) == tuple(variant.shape):
            return dict(variant.options)
    return {}
