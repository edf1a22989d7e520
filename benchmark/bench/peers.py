"""ESDNet as its authors arrange it, on SpikingJelly's layers: what `derain bench` measures this suite's against.

Their code has no licence, so this is an arrangement of our own after what it does: the image is repeated T times before
the first convolution, every layer sees all T frames, nothing is shared between steps, and each attention pools and
weights the frames in turn.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from esdnet.network import ESDNet


def _convolution(unit: Any) -> nn.Sequential:
    from spikingjelly.activation_based import layer

    conv, norm = unit.conv, unit.norm
    made = nn.Sequential(
        layer.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            bias=False,
            step_mode="m",
        ),
        layer.BatchNorm2d(norm.num_features, step_mode="m"),
    )
    made[0].load_state_dict(conv.state_dict())
    made[1].load_state_dict(norm.state_dict())
    return made


def _neuron(ours: Any) -> nn.Module:
    from spikingjelly.activation_based import neuron, surrogate

    return neuron.LIFNode(
        tau=1 / (1 - float(ours.beta)),
        decay_input=False,
        v_threshold=float(ours.threshold),
        v_reset=0.0,
        surrogate_function=surrogate.Sigmoid(alpha=ours.alpha),
        step_mode="m",
    )


def _unit(unit: Any) -> nn.Sequential:
    from spikingjelly.activation_based import layer

    enlarge = layer.SeqToANNContainer(nn.Upsample(scale_factor=unit.upscale, mode="bilinear"))
    return nn.Sequential(
        *([enlarge] if unit.upscale > 1 else []), _neuron(unit.activation), *_convolution(unit)
    )


def _attention(ours: Any, steps: int, channels: int) -> nn.Module:
    from spikingjelly.activation_based import layer

    hidden = [gate.squeeze.out_channels for gate in (ours.temporal, ours.channel)]
    made = layer.MultiDimensionalAttention(
        steps, channels, steps // hidden[0], channels // hidden[1], kernel_size=3
    )
    names = {"ta.sharedMLP.": "temporal.", "ca.sharedMLP.": "channel.", "sa.conv.": "spatial."}
    weights = {}
    for key in made.state_dict():
        name = key.replace(".0.weight", ".squeeze.weight").replace(".2.weight", ".expand.weight")
        for theirs, mine in names.items():
            name = name.replace(theirs, mine).replace("..", ".")
        weights[key] = ours.state_dict()[name]
    made.load_state_dict(weights)
    return made


class _Block(nn.Module):
    def __init__(self, block: Any, steps: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*(_unit(unit) for unit in block.residual))
        self.shortcut = _convolution(block.shortcut)
        self.attention = _attention(block.attention, steps, block.shortcut.conv.out_channels)

    def forward(self, frames: Tensor) -> Tensor:
        return self.attention(self.residual(frames) + self.shortcut(frames)) + frames


class SpikingJellyESDNet(nn.Module):
    """ESDNet with the weights of `ours`, for images whose sides are multiples of 4.

    `spikingjelly.activation_based.functional.reset_net` must be called before each forward, as for every
    network of that library.
    """

    def __init__(self, ours: ESDNet) -> None:
        super().__init__()
        from spikingjelly.activation_based import layer

        self.steps = ours.time_steps
        self.embedding = layer.Conv2d(3, ours.embedding.out_channels, 3, padding=1, bias=False, step_mode="m")
        self.embedding.load_state_dict(ours.embedding.state_dict())
        for name in ("encoder1", "encoder2", "encoder3", "bottleneck", "decoder2", "decoder1"):
            blocks: Any = getattr(ours, name)
            setattr(self, name, nn.Sequential(*(_Block(block, self.steps) for block in blocks)))
        for name in ("down1", "down2", "up2", "join2", "up1"):
            setattr(self, name, _unit(getattr(ours, name)))
        self.refinement, self.output = ours.refinement, ours.output

    def forward(self, rainy: Tensor) -> Tensor:
        """Restored images, (N, 3, H, W) in [0, 1] to the same shape."""
        part: Any = self._modules
        level1 = part["encoder1"](self.embedding(rainy.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1)))
        level2 = part["encoder2"](part["down1"](level1))
        level3 = part["bottleneck"](part["encoder3"](part["down2"](level2)))
        level2 = part["decoder2"](part["join2"](torch.cat([part["up2"](level3), level2], dim=2)))
        level1 = part["decoder1"](torch.cat([part["up1"](level2), level1], dim=2))
        return self.output(self.refinement(level1.mean(0))) + rainy


def spikingjelly_esdnet(ours: ESDNet) -> nn.Module:
    """That network, with copies of the weights of `ours`: of the default kind of blocks, β < 1, hard reset."""
    return SpikingJellyESDNet(copy.deepcopy(ours))
