"""What thop 0.1.1 would have said, by its own rules, its faults included.

thop hooks modules and looks their class up exactly, so that a subclass counts nothing (SpikingJelly's
convolutions, for instance); it sees no functional call and no attention product; and a module object that
sits in K places is hooked K times and added up K times. The rules, for an input x and an output y:

| class | thop's "MACs" |
| --- | --- |
| Conv, ConvTranspose | numel(y) x (channels of x / groups) x kernel; 4 times too many at transposed stride 2 |
| Linear | numel(y) x inputs |
| BatchNorm, LayerNorm, InstanceNorm | 2 numel(x), twice that if affine |
| PReLU | numel(x) |
| Softmax | 3 numel(x) - number of rows |
| AvgPool | numel(y) |
| AdaptiveAvgPool | numel(y) x (window + 1) |
| Upsample | numel(y) x 1, 5, 11 or 259: nearest, linear, bilinear, bicubic |
| ReLU, LeakyReLU, max pooling, dropout, Sequential, PixelShuffle, padding | 0, but their parameters count |

Parameters count where a class has a rule and ran, so that parameters on any other module are missed.

The networks of this suite are written anew, with functions where the authors had modules and with torch's own
classes where they had SpikingJelly's; `benchmark.cost.authors` says where, so that what is counted here is
what thop sees of the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from benchmark.cost import authors
from benchmark.cost.result import Layer

Shape = tuple[int, ...]
Rule = Callable[[nn.Module, Shape, Shape], float]


@dataclass(frozen=True)
class Call:
    """One forward of one module."""

    module: nn.Module
    given: Shape
    made: Shape


def _convolution(module: nn.Module, given: Shape, made: Shape) -> float:
    assert isinstance(module, nn.modules.conv._ConvNd)
    return math.prod(made) * (given[1] // module.groups) * math.prod(module.weight.shape[2:])


def _linear(module: nn.Module, given: Shape, made: Shape) -> float:
    assert isinstance(module, nn.Linear)
    return math.prod(made) * module.in_features


def _norm(module: nn.Module, given: Shape, made: Shape) -> float:
    affine = getattr(module, "affine", False) or getattr(module, "elementwise_affine", False)
    return 2 * math.prod(given) * (2 if affine else 1)


def _elements(module: nn.Module, given: Shape, made: Shape) -> float:
    return math.prod(given)


def _softmax(module: nn.Module, given: Shape, made: Shape) -> float:
    assert isinstance(module, nn.Softmax) and module.dim is not None
    return 3 * math.prod(given) - math.prod(given) // given[module.dim]


def _pool(module: nn.Module, given: Shape, made: Shape) -> float:
    return math.prod(made)


def _adaptive(module: nn.Module, given: Shape, made: Shape) -> float:
    window = math.prod(a / b for a, b in zip(given[2:], made[2:], strict=True))
    return int((window + 1) * math.prod(made))


def _upsample(module: nn.Module, given: Shape, made: Shape) -> float:
    assert isinstance(module, nn.Upsample)
    return math.prod(made) * {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}.get(module.mode, 0)


def _nothing(module: nn.Module, given: Shape, made: Shape) -> float:
    return 0


RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _convolution),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.LayerNorm), _norm),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), _norm),
    nn.PReLU: _elements,
    nn.Softmax: _softmax,
    nn.Linear: _linear,
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _pool),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), _adaptive),
    **dict.fromkeys((nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d), _upsample),
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Dropout, nn.PixelShuffle, nn.ZeroPad2d), _nothing),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.Sequential), _nothing),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), _nothing),
}
"""thop's table of classes, matched exactly."""


def _rule(module: nn.Module) -> Rule | None:
    return RULES.get(type(module)) or authors.extra(module)


def _visits(module: nn.Module) -> Iterator[nn.Module]:
    """Every module once for each place it sits in, as `Module.apply` walks."""
    yield module
    for child in module.children():
        yield from _visits(child)


def _places(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What thop adds up: it does not go into a module that has a rule, save containers."""
    yield path, module
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if type(child) in RULES and not isinstance(child, nn.Sequential | nn.ModuleList):
            yield inner, child
        else:
            yield from _places(child, inner)


def emulate(
    model: nn.Module, calls: Sequence[Call], images: int = 1, slopes: Mapping[str, int] | None = None
) -> list[Layer]:
    """thop's count, a row for each place that it adds up.

    Args:
        model: The network.
        calls: Every forward of every module, of all images.
        images: How many images those are.
        slopes: Elements that functional PReLUs read, by the name of the parameter.
    """
    hooks: dict[nn.Module, int] = {}
    for module in _visits(model):
        hooks[module] = hooks.get(module, 0) + 1
    unknown = authors.hidden(model)
    counted: dict[nn.Module, float] = {}
    times: dict[nn.Module, int] = {}
    for call in calls:
        rule = _rule(call.module)
        if rule is not None and call.module not in unknown:
            work = hooks.get(call.module, 1) * rule(call.module, call.given, call.made)
            counted[call.module] = counted.get(call.module, 0.0) + work
            times[call.module] = times.get(call.module, 0) + 1
    rows = []
    for path, module in _places(model):
        if module not in counted or isinstance(module, nn.Sequential | nn.ModuleList):
            continue
        operations = counted[module] / images
        number = int(operations) if float(operations).is_integer() else operations
        parameters = sum(p.numel() for p in module.parameters()) if type(module) in RULES else 0
        note = f"sits in {hooks[module]} places" if hooks[module] > 1 else ""
        if not number and not parameters:
            continue
        rows.append(
            Layer(
                name=path or "(network)",
                kind=type(module).__name__,
                input="not looked at",
                calls=times[module] // images,
                parameters=parameters,
                macs=number,
                executed=number,
                note=note,
            )
        )
    for slope, places in authors.shared_slopes(model).items():
        elements = (slopes or {}).get(slope, 0) // images
        rows.append(
            Layer(
                name=slope,
                kind="PReLU",
                input="not looked at",
                parameters=places,
                macs=places**2 * elements,
                executed=places**2 * elements,
                note=f"the authors' one PReLU sits in {places} places: counted {places} x {places} times",
            )
        )
    return rows
