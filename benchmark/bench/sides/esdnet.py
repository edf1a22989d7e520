"""ESDNet's training step and its restoring of pictures: this suite's, and the authors' network and test loop.

The peer has the authors' arrangement on SpikingJelly's neurons (`benchmark/bench/peers.py`) and this network's weights.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.bench.case import Body, Setting
from benchmark.models import create_model
from benchmark.restoration.tiling import restore
from benchmark.spec import resolve
from benchmark.training.distances import ssim
from benchmark.training.module import Restoration

_BATCH, _PATCH, _TILE, _OVERLAP = 12, 64, 80, 8
_SIZES = {"256": (256, 256), "512": (512, 512), "4k": (2160, 3840)}


def _network(setting: Setting) -> Any:
    torch.manual_seed(0)
    return create_model("esdnet").to(setting.device)


def _peer(setting: Setting) -> nn.Module:
    from benchmark.bench.peers import spikingjelly_esdnet

    return spikingjelly_esdnet(_network(setting)).to(setting.device)


def _batch(setting: Setting) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(_BATCH, 3, _PATCH // 8, _PATCH // 8, generator=generator)
    target = nn.functional.interpolate(target, scale_factor=8, mode="bilinear")
    rainy = (target + 0.2 * (torch.rand(target.shape, generator=generator) > 0.9)).clamp(0, 1)
    return rainy.to(setting.device), target.to(setting.device)


def _allow_tf32(setting: Setting) -> None:
    if setting.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def _ours(setting: Setting, dtype: torch.dtype | None = None) -> Body:
    recipe = resolve(["model=esdnet", "recipe=paper"]).recipe
    module = Restoration(
        _network(setting).train(), recipe, total_steps=1000, steps_per_epoch=100, description={}
    )
    optimizer = module.configure_optimizers()["optimizer"]
    rainy, target = _batch(setting)

    def call() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(setting.device, dtype or torch.bfloat16, enabled=dtype is not None):
            restored = module.network(rainy)
        loss = module.loss([restored.float()], rainy, target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return call


def step(setting: Setting) -> Body:
    """This suite in float32: forward, loss, backward and Adam, as `derain train` does them."""
    return _ours(setting)


def step_tf32(setting: Setting) -> Body:
    """The same with TF32 allowed."""
    _allow_tf32(setting)
    return _ours(setting)


def step_bf16(setting: Setting) -> Body:
    """The same in mixed precision with bfloat16."""
    return _ours(setting, torch.bfloat16)


def peer_step(setting: Setting) -> Body:
    """The authors' network on SpikingJelly, with plain Adam and the loss of the same value."""
    from spikingjelly.activation_based import functional

    network: Any = _peer(setting).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    rainy, target = _batch(setting)

    def call() -> Tensor:
        functional.reset_net(network)
        optimizer.zero_grad()
        loss = 1 - ssim(network(rainy), target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return call


def peer_step_tf32(setting: Setting) -> Body:
    """The same with TF32 allowed."""
    _allow_tf32(setting)
    return peer_step(setting)


def _picture(setting: Setting, size: str) -> Tensor:
    height, width = _SIZES[size]
    generator = torch.Generator().manual_seed(2)
    small = torch.rand(1, 3, height // 8, width // 8, generator=generator)
    return nn.functional.interpolate(small, size=(height, width), mode="bilinear").to(setting.device)


def _restore(setting: Setting, size: str) -> Body:
    network, picture = _network(setting).eval(), _picture(setting, size)
    return lambda: restore(network, picture, tile=_TILE, overlap=_OVERLAP)


def _peer_restore(setting: Setting, size: str) -> Body:
    """The authors' test: one tile after the other, brought to the CPU and blended there."""
    from spikingjelly.activation_based import functional

    network, picture = _peer(setting).eval(), _picture(setting, size)
    squares = (torch.arange(_TILE, dtype=torch.float64) - _TILE / 2).square()
    weight = (squares[:, None] + squares + 1e-3).rsqrt().float()
    rows, columns = (
        [*range(0, length - _TILE, _TILE - _OVERLAP), length - _TILE] for length in picture.shape[-2:]
    )

    @torch.no_grad()
    def call() -> Tensor:
        merged, total = torch.zeros(picture.shape), torch.zeros(picture.shape)
        for top, left in itertools.product(rows, columns):
            place = (..., slice(top, top + _TILE), slice(left, left + _TILE))
            restored = network(picture[place])
            functional.reset_net(network)
            merged[place] += weight * restored.cpu()
            total[place] += weight
        return merged / total

    return call


def restore_256(setting: Setting) -> Body:
    """This suite."""
    return _restore(setting, "256")


def restore_512(setting: Setting) -> Body:
    """This suite."""
    return _restore(setting, "512")


def restore_4k(setting: Setting) -> Body:
    """This suite."""
    return _restore(setting, "4k")


def peer_restore_256(setting: Setting) -> Body:
    """The authors' loop."""
    return _peer_restore(setting, "256")


def peer_restore_512(setting: Setting) -> Body:
    """The authors' loop."""
    return _peer_restore(setting, "512")


def peer_restore_4k(setting: Setting) -> Body:
    """The authors' loop."""
    return _peer_restore(setting, "4k")
