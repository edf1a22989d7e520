"""Where this suite's networks are built of other modules than the authors' code, as far as thop can tell.

thop sees modules, not arithmetic: the same network written differently gets another count. For its printed
figures to be reproduced from this suite's code, three things have to be known about the authors':

- which layers were SpikingJelly's, whose classes thop does not know (`hidden`);
- which modules with a rule of thop's are a plain function here: a mean over the image for an AdaptiveAvgPool,
  a softmax, an Upsample by 1 (`extra`);
- how many places one shared PReLU object sat in (`shared_slopes`).

Every rule below was checked to the last digit against thop 0.1.1 on the authors' code (tests/benchmark/cost).
Classes are named, not imported: this module works without the networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

Shape = tuple[int, ...]
Rule = Callable[[Any, Shape, Shape], float]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _names(module: nn.Module) -> list[str]:
    return [_name(base) for base in type(module).__mro__]


# SpikingJelly's layers

_SKELETON = "esdnet.blocks.EncoderDecoder"
_UNIT = "esdnet.blocks.ConvNorm"


def hidden(model: nn.Module) -> set[nn.Module]:
    """The modules of a network on ESDNet's skeleton that are SpikingJelly's in the authors' code."""
    bases = _names(model)
    if _SKELETON not in bases:
        return set()
    # Table 3's ANN has no neurons: its convolutions are torch's, its norms alone are not seen
    spiking = any(name.endswith(".SpikingNeuron") for m in model.modules() for name in _names(m))
    # SpikeRain's norm is a module of its own with torch's BatchNorm2d inside, which is seen
    norm_is_seen = "baselines.spikerain.SpikeRain" in bases
    found: set[nn.Module] = set()
    for path, module in model.named_modules():
        names = _names(module)
        if _UNIT in names:
            parts = dict(module.named_children())
            if not norm_is_seen:
                found.add(parts["norm"])
            if spiking:
                found.add(parts["conv"])
        elif spiking and (path == "embedding" or names[0] in _LAST):
            found.update([module] if path == "embedding" else [getattr(module, _LAST[names[0]])])
    return found


_LAST = {"baselines.spikerain.DenseSpikingBlock": "fuse", "baselines.vlif.VisualLIF": "adjust"}


# modules that are functions here


def _pool(module: Any, given: Shape, made: Shape) -> float:
    """AdaptiveAvgPool2d(1) of (N, C, H, W)."""
    return math.prod(given) + math.prod(given[:2])


def _mixed_attention(module: Any, given: Shape, made: Shape) -> float:
    """AdaptiveAvgPool3d(1) for the weights of time and of channels, of (T, N, C, H, W)."""
    T, N, C = given[:3]
    pools = (module.temporal is not None) * N * T, (module.channel is not None) * N * C
    return sum(math.prod(given) + outputs for outputs in pools if outputs)


def _dense_gate(module: Any, given: Shape, made: Shape) -> float:
    """AdaptiveAvgPool3d(1) of the mean over channels for the weight of the image, of everything for
    channels'."""
    _, N, C = given[:3]
    return (math.prod(given) // C + N) + (math.prod(given) + N * C)


def _spatial_unet(module: Any, given: Shape, made: Shape) -> float:
    """AdaptiveAvgPool3d(1) over squares of pixels put on the time axis, and a bilinear Upsample at 11 an
    element."""
    return math.prod(given) + 4 * given[0] * given[1] + 11 * math.prod(made)


def _softmax(elements: int, rows: int) -> int:
    return 3 * elements - rows


def _dynamic_filter(module: Any, given: Shape, made: Shape) -> float:
    """Two pools, and the softmaxes over the filter's places and over both parts' channels."""
    N, C = given[:2]
    filters = N * module.groups
    return (
        2 * _pool(module, given, made)
        + _softmax(filters * module.kernel**2, filters)
        + _softmax(2 * N * C, N)
    )


def _quadrants(module: Any, given: Shape, made: Shape) -> float:
    return math.prod(given) + 4 * math.prod(given[:2])


def _upsample_by_one(module: Any, given: Shape, made: Shape) -> float:
    """A bilinear Upsample of the embedded image by 1, at 11 an element."""
    height, width = (math.ceil(n / module.window_size) * module.window_size for n in given[-2:])
    return 11 * given[0] * module.embed.out_channels * height * width


def _resample(module: Any, given: Shape, made: Shape) -> float:
    """A bilinear Upsample before the 1x1 convolution, at 11 an element."""
    return 11 * math.prod(made) // made[1] * module.project.in_channels


def _half_and_back(module: Any, given: Shape, made: Shape) -> float:
    """Bilinear Upsamples of the rainy image by 1/2 and of the rain by 2."""
    return 11 * (math.prod(given) // 4 + math.prod(given))


_EXTRA: Mapping[str, Rule] = {
    "esdnet.blocks.MixedAttention": _mixed_attention,
    "baselines.spikerain.MultiDimensionalGate": _dense_gate,
    "baselines.vlif.SpatialUNet": _spatial_unet,
    "baselines._layers.ChannelAttention": _pool,
    "baselines._layers.Resample": _resample,
    "baselines.elformer.ELFormer": _half_and_back,
    "baselines.rescan.SqueezeExcitation": _pool,
    "baselines.nafnet.NAFBlock": _pool,
    "baselines.sfnet.DynamicFilter": _dynamic_filter,
    "baselines.sfnet.GlobalModulation": _pool,
    "baselines.sfnet.QuadrantModulation": _quadrants,
    "baselines.drt.DRT": _upsample_by_one,
}


def extra(module: nn.Module) -> Rule | None:
    """What thop counts in the authors' code at this module, where theirs has modules and this one has
    functions."""
    return _EXTRA.get(_name(type(module)))


# one PReLU object in many places


def _blocks(model: nn.Module) -> int:
    kinds = {"baselines._layers.ChannelAttentionBlock", "baselines._layers.SeparableAttentionBlock"}
    return sum(_name(type(m)) in kinds for m in model.modules())


def shared_slopes(model: nn.Module) -> dict[str, int]:
    """Shared PReLUs by the name of their parameter here, and how many places each has in the authors'
    code."""
    kind = _name(type(model))
    parts: Any = model
    if kind == "baselines.mprnet.MPRNet":
        return {"slope": _blocks(model)}
    if kind == "baselines.elformer.ELFormer":
        return {f"{name}.slope": _blocks(part) for name, part in model.named_children()}
    if kind == "baselines.hpcnet.HPCNet":
        # in four modules of each exchange (one holds it twice, which is one place to thop) and after each of
        # four transposed convolutions, two of which never run
        return {"slope": 4 * len(parts.coupled) + 4}
    return {}
