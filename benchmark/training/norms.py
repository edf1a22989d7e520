"""Batch norms of a training on several processes: statistics of the whole batch, as one process would have them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pytorch_lightning.plugins import LayerSync
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode


class WholeBatch(LayerSync):
    """Lets the batch norms of a module (tdBN too) take their statistics over the batches of all processes.

    Every process must have as many pictures, of one size. Unlike torch's SyncBatchNorm this works on a CPU as well,
    and a norm stays the module of its class that it is, with its running statistics and keys.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """The same module, its batch norms over all processes from now on."""
        for norm in _norms(model):
            norm.forward = functools.partial(_forward, type(norm).forward, norm)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """The same module as it was."""
        for norm in _norms(model):
            vars(norm).pop("forward", None)
        return model


def _norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and not isinstance(m, nn.SyncBatchNorm)]


def _forward(forward: Callable[..., Tensor], norm: nn.Module, *args: Any, **named: Any) -> Tensor:
    with _Shared():
        return forward(norm, *args, **named)


class _Shared(TorchFunctionMode):
    """What a batch norm's forward computes inside is over all processes; what else it does it does."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm`, differentiable, with mean and variance of what all processes have."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    images = input.to(torch.promote_types(input.dtype, torch.float32))
    processes = dist.get_world_size()
    var, mean = torch.var_mean(images, [d for d in range(images.ndim) if d != 1], correction=0)
    mine = torch.arange(processes, device=images.device).eq(dist.get_rank())[:, None, None]
    means, variances = all_reduce(mine * torch.stack([mean, var])).unbind(1)
    # not by means of squares: their difference loses digits where a mean is large
    mean = means.mean(0)
    var = variances.mean(0) + (means - mean).square().mean(0)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            count = processes * images.numel() // images.shape[1]
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
    scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = [-1 if d == 1 else 1 for d in range(images.ndim)]
    return torch.addcmul(shift.view(shape), images, scale.view(shape)).to(input.dtype)
