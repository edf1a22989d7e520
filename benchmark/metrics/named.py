"""Other no-reference metrics of pyiqa by name (NIQE, BRISQUE, MUSIQ, …), with weights that the user has.

pyiqa fetches weights when a metric is made, and loads some as pickles. Here nothing is fetched and nothing but
tensors is loaded: a metric whose file is not in pyiqa's folder is refused with the file's name and place.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import io
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError, first_line, unknown
from benchmark.files import home

if TYPE_CHECKING:
    from torch import Tensor

OURS = ("piqe", "metaiqa")  # `noreference` has these
_OF_SETS = ("fid", "sfid", "fid_dinov2", "inception_score")  # score a set of pictures, not one
_WITH_TEXT = ("clipscore",)


@dataclass(frozen=True)
class NamedMetric:
    """A metric that can be computed.

    Attributes:
        name: pyiqa's.
        lower_better: whether a lower score is a better picture.
        source: the package's version and, where it has weights, a hash of them.
    """

    name: str
    lower_better: bool
    source: str
    network: Any

    def __call__(self, image: Tensor) -> Tensor:
        """Scores (N,), float64, of (N, 3, H, W) in [0, 1]."""
        import torch

        with torch.no_grad():
            return self.network(image.clamp(0, 1).float()).reshape(len(image)).double()


def names() -> list[str]:
    """Names of the metrics of one picture without a clean counterpart that pyiqa has; imports no torch."""
    return [name for name in _configurations() if name not in OURS]


def lower_better(name: str) -> bool:
    """Whether a lower score is a better picture.

    Raises:
        UserError: pyiqa has no such metric; the nearest is given.
    """
    known = _configurations()
    if name in OURS or name not in known:
        raise unknown("metric", name, names())
    return bool(known[name].get("lower_better", False))


@functools.cache
def named_metric(name: str) -> NamedMetric:
    """A metric by pyiqa's name.

    Raises:
        UserError: pyiqa has no such metric; its weights are not there (with the file and the folder); they are
            not plain tensors; a package it needs is not installed.
    """
    lower = lower_better(name)
    from importlib.metadata import version

    import pyiqa

    try:
        with _nothing_fetched(name), contextlib.redirect_stdout(io.StringIO()):
            network = pyiqa.create_metric(name, device="cpu")
    except UserError:
        raise
    except Exception as error:  # what goes wrong in a package's forty networks has no common type
        raise UserError(
            f"metric {name} cannot be made: {type(error).__name__}: {first_line(error)[:160]}"
        ) from None
    weights = hashlib.sha256()
    held = [*network.named_parameters(), *network.named_buffers()]
    for key, tensor in held:
        weights.update(key.encode() + tensor.detach().cpu().numpy().tobytes())
    kept = f", sha256 {weights.hexdigest()[:8]}" if sum(t.numel() for _, t in held) > 1 else ""
    return NamedMetric(name, lower, f"pyiqa {version('pyiqa')}{kept}", network)


@functools.cache
def _configurations() -> dict[str, dict[str, Any]]:
    """pyiqa's table of metrics, from its file: importing pyiqa takes seconds, and a misspelt name should not."""
    package = importlib.util.find_spec("pyiqa")
    assert package is not None and package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "default_model_configs.py"
    spec = importlib.util.spec_from_file_location("pyiqa_default_model_configs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {
        name: options
        for name, options in module.DEFAULT_CONFIGS.items()
        if options["metric_mode"] == "NR" and name not in (*_OF_SETS, *_WITH_TEXT)
    }


@contextlib.contextmanager
def _nothing_fetched(name: str) -> Iterator[None]:
    """No connection is opened, and torch loads tensors only."""
    import huggingface_hub.constants
    import torch
    from pyiqa.utils import download_util

    load = torch.load

    def tensors_only(*words: Any, **options: Any) -> Any:
        return load(*words, **{**options, "weights_only": True})

    def refuse(url: str, destination: str, *_: Any, **__: Any) -> None:
        path = Path(destination)
        folder = re.sub(rf"^{re.escape(str(home()))}(?=/)", "~", str(path.parent))
        raise UserError(f"metric {name} needs {path.name}, which is not fetched: put it into {folder}")

    def offline(*_: Any) -> None:
        raise ConnectionError("its weights are not on this machine, and nothing is fetched")

    replaced = [
        (torch, "load", tensors_only),
        (torch.hub, "download_url_to_file", refuse),
        (download_util, "download_url_to_file", refuse),
        (huggingface_hub.constants, "HF_HUB_OFFLINE", True),
        (socket.socket, "connect", offline),
        (socket, "getaddrinfo", offline),
    ]
    before = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in replaced]
    try:
        for owner, attribute, value in replaced:
            setattr(owner, attribute, value)
        yield
    finally:
        for owner, attribute, value in before:
            setattr(owner, attribute, value)
