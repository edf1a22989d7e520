"""The weights that ship, by torch and by onnxruntime from the file that `derain export` writes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmark.bench.case import Body, Setting
from benchmark.exported import open_exported, to_onnx
from benchmark.models import create_model

_SIDE = 256


def _example() -> Tensor:
    return torch.rand(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(2))


def _restores(network: nn.Module) -> Body:
    rainy = _example()

    def call() -> Tensor:
        with torch.no_grad():
            return network(rainy)

    return call


def _ours(name: str) -> Body:
    return _restores(create_model(name, pretrained="general"))


def _theirs(name: str, setting: Setting) -> Body:
    path = setting.scratch / f"{name}.onnx"
    about: dict[str, Any] = {"title": name, "size": [_SIDE, _SIDE], "multiple": 1}
    to_onnx(create_model(name, pretrained="general"), _example(), about)(path, about)
    return _restores(open_exported(path))


def nafnet(setting: Setting) -> Body:
    """nafnet-general by torch."""
    return _ours("nafnet")


def nafnet_onnx(setting: Setting) -> Body:
    """nafnet-general by onnxruntime."""
    return _theirs("nafnet", setting)


def esdnet(setting: Setting) -> Body:
    """esdnet-general by torch and this suite's kernels."""
    return _ours("esdnet")


def esdnet_onnx(setting: Setting) -> Body:
    """esdnet-general by onnxruntime."""
    return _theirs("esdnet", setting)
