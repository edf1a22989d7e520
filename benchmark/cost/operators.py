"""What each tensor operation is: products of two tensors, cheaper work, or mere bookkeeping.

The classes, and the unit of each column:

| class | unit | what |
| --- | --- | --- |
| product | multiply-accumulate (MAC) | convolutions, matrix products, attention; biases are not counted |
| elementwise | an element written, per operation | sums, products, activations, comparisons, softmax |
| norm | an element normalised | batch, layer, group and instance norms |
| pool | an element read | pooling and reductions |
| resample | an element written | interpolation, grid sampling |
| free | none | views, copies, concatenation, padding, indexing, constants |
| unknown | none | everything else: listed by the counter, never silently zero |
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

Work = Literal["product", "elementwise", "norm", "pool", "resample", "free", "unknown"]

_FREE = re.compile(
    r"(new_)?(empty|zeros|ones|full)(_strided|_like|_permuted)?|scalar_tensor|clone|copy|_to_copy|to|contiguous"
    r"|cat|concat|stack|[hvd]stack|hsplit|vsplit|split|unsafe_split|split_with_sizes|unsafe_split_with_sizes"
    r"|unsafe_chunk|chunk|unbind|detach|alias|lift_fresh|lift_fresh_copy|lift|_unsafe_view|_reshape_alias|_reshape_copy"
    r"|constant_pad_nd|reflection_pad[123]d|replication_pad[123]d|_pad_.*|pad|roll|flip|fliplr|flipud|rot90|repeat"
    r"|repeat_interleave|tile|pixel_shuffle|pixel_unshuffle|native_channel_shuffle|channel_shuffle|im2col|unfold"
    r"|as_strided|index|index_select|index_put|_unsafe_index|_unsafe_index_put|index_copy|gather|take|take_along_dim|masked_select"
    r"|masked_fill|scatter|slice_scatter|select_scatter|diagonal_scatter|as_strided_scatter|embedding|one_hot"
    r"|arange|linspace|eye|tril|triu|tril_indices|triu_indices|fill|zero|set|resize|resize_as|_resize_output"
    r"|nonzero|_local_scalar_dense|item|equal|is_nonzero|is_same_size|_assert_async|_assert_tensor_metadata|.*_copy"
    r"|rand|randn|randint|randperm|rand_like|randn_like|uniform|normal|bernoulli|isnan|isinf|_conj|view_as_real"
    r"|complex|t|transpose|swapaxes|swapdims|squeeze|unsqueeze|view_as_complex|real|imag|broadcast_tensors|meshgrid|result_type|sym_.*|_has_compatible_shallow_copy_type"
)
_NORM = re.compile(
    r"(native_|cudnn_|miopen_|mkldnn_)?_?(native_)?(batch|layer|group|instance)_norm(_.*)?|_fused_rms_norm|rms_norm"
)
_POOL = re.compile(
    r"_?(mkldnn_)?(adaptive_)?(avg|max)_pool[123]d(_with_indices)?|fractional_max_pool[23]d|lp_pool[12]d"
    r"|sum|mean|nansum|nanmean|amax|amin|aminmax|max|min|var|var_mean|std|std_mean|prod|norm|linalg_vector_norm"
    r"|logsumexp|argmax|argmin|any|all|count_nonzero|median|cumsum|cumprod|_cdist_forward"
)
_RESAMPLE = re.compile(r"_?upsample_.*|grid_sampler.*|_grid_sampler.*|affine_grid_generator|_prim_.*interp.*")
_ELEMENTWISE = re.compile(
    r"_?(log_)?_?softmax|_prelu_kernel|prelu|_?softplus|celu|selu|elu|glu|rrelu_with_noise|hardswish|hardtanh|mish"
    r"|leaky_relu|rrelu|lerp|where|addcmul|addcdiv|clamp|native_dropout|_euclidean_dist|col2im|cross|linalg_cross|heaviside"
)


def passes(operation: Any, args: Sequence[Any]) -> dict[Work, int]:
    """What a registered operator of `esdnet` that makes no products does to each element of its first argument.

    The operators are known by name: a network of somebody else's is counted without that package.
    """
    name = operation._schema.name
    if name == "esdnet::attention_gate":
        return {"elementwise": 2 + (args[3] is not None)}
    return _PASSES.get(name, {})


_PASSES: dict[str, dict[Work, int]] = {
    "esdnet::leaky_spikes": {"elementwise": 1},
    "esdnet::mean_over_time": {"pool": 1},
    "esdnet::attention_pool": {"pool": 2},
    "esdnet::attention_map": {"elementwise": 1, "pool": 2},
}


@functools.cache
def classify(operation: Any) -> Work:
    """The class of one operation (an `OpOverload`)."""
    if _rule(operation) is not None:
        return "product"
    if getattr(operation, "is_view", False):
        return "free"
    name = operation._schema.name.split("::")[-1]
    plain = name.rstrip("_") or name
    # clones and fills carry the pointwise tag, so that the free ones are told by name first
    if _FREE.fullmatch(plain):
        return "free"
    if _NORM.fullmatch(plain):
        return "norm"
    if _RESAMPLE.fullmatch(plain):
        return "resample"
    if torch.Tag.pointwise in _tags(operation) or _ELEMENTWISE.fullmatch(plain):
        return "elementwise"
    if torch.Tag.reduction in _tags(operation) or _POOL.fullmatch(plain):
        return "pool"
    return "unknown"


def _tags(operation: Any) -> set[Any]:
    """Tags of an operation and, as torch leaves some in-place ones without, of its functional twin."""
    tags = set(operation.tags)
    name = operation._schema.name.removeprefix("aten::")
    twin = getattr(torch.ops.aten, name.rstrip("_"), None) if name.endswith("_") else None
    overload = operation._overloadname
    if twin is not None and overload in twin.overloads():
        tags |= set(getattr(twin, overload).tags)
    return tags


@functools.cache
def written_arguments(operation: Any) -> tuple[int, ...]:
    """Which arguments of an operation it writes over, by their place."""
    arguments = operation._schema.arguments
    return tuple(i for i, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write)


@dataclass(frozen=True)
class Geometry:
    """How a convolution walks over its input; enough to count the outputs that one input element reaches."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    transposed: bool
    kernel: Sequence[int]
    output: Sequence[int]
    channels: int  # output channels that one input channel reaches


@dataclass(frozen=True)
class Product:
    """One product of two tensors: its size and the operands whose values decide what it costs.

    `sides` are the operands that can be spikes: the input alone for a convolution, both for a matrix product.
    """

    macs: int
    sides: tuple[Tensor | None, ...]
    weight: Tensor | None = None
    geometry: Geometry | None = None
    part: str = ""


def _of_reals(macs: int, *operands: Tensor) -> int:
    """Products of real numbers in so many of these operands' elements: a complex one is two reals."""
    return macs * 2 ** sum(o.is_complex() for o in operands)


def _registered(packet: Any, *args: Any, out: Any) -> int:
    """MACs by the formula that torch registers, which counts a multiplication and an addition as two."""
    return int(flop_registry[packet](*args, out_val=out)) // 2


def _convolution(packet: Any, args: Sequence[Any], out: Any) -> list[Product]:
    x, weight = args[0], args[1]
    stride, padding, dilation, transposed = args[3], args[4], args[5], bool(args[6])
    groups = int(args[8])
    dims = x.ndim - 2
    spread = [list(v) * (dims // len(v)) for v in (stride, padding, dilation)]
    channels = weight.shape[1] if transposed else weight.shape[0] // groups
    geometry = Geometry(
        spread[0], spread[1], spread[2], transposed, weight.shape[2:], out.shape[2:], channels
    )
    macs = _of_reals(_registered(packet, *args[:7], out=out), x, weight)
    return [Product(macs, (x,), weight, geometry)]


def _matrix(first: int) -> Callable[[Any, Sequence[Any], Any], list[Product]]:
    """A product of `args[first]` and `args[first + 1]`: (…, m, k) by (…, k, n)."""

    def rule(packet: Any, args: Sequence[Any], out: Any) -> list[Product]:
        a, b = args[first], args[first + 1]
        columns = b.shape[-1] if b.ndim > 1 else 1
        return [Product(_of_reals(a.numel() * columns, a, b), (a, b), b)]

    return rule


def _attention(packet: Any, args: Sequence[Any], out: Any) -> list[Product]:
    query, key, value = args[0], args[1], args[2]
    scores = query.numel() * key.shape[-2]
    mixing = math.prod(query.shape[:-1]) * value.shape[-2] * value.shape[-1]
    return [
        Product(scores, (query, key), part="scores"),
        Product(mixing, (None, value), part="mixing"),
    ]


def _recurrent(packet: Any, args: Sequence[Any], out: Any) -> list[Product]:
    x, w_input, w_hidden = args[0], args[1], args[2]
    steps = x.shape[0] * x.shape[1]
    return [
        Product(steps * w_input.numel(), (x,), w_input),
        Product(steps * w_hidden.numel(), (None,), w_hidden),
    ]


def _products() -> dict[Any, Callable[[Any, Sequence[Any], Any], list[Product]]]:
    aten = torch.ops.aten
    rules: dict[Any, Callable[[Any, Sequence[Any], Any], list[Product]]] = {
        aten.mm: _matrix(0),
        aten.bmm: _matrix(0),
        aten.mv: _matrix(0),
        aten.dot: _matrix(0),
        aten.vdot: _matrix(0),
        aten.addmm: _matrix(1),
        aten.addbmm: _matrix(1),
        aten.addmv: _matrix(1),
        aten.baddbmm: _matrix(1),
    }
    for name in ("convolution", "_convolution", "convolution_overrideable", "cudnn_convolution"):
        rules[getattr(aten, name)] = _convolution
    for name in (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
    ):
        if hasattr(aten, name):
            rules[getattr(aten, name)] = _attention
    if hasattr(aten, "mkldnn_rnn_layer"):
        rules[aten.mkldnn_rnn_layer] = _recurrent
    return rules


def _esdnet_convolution(padding: int) -> Callable[[Any, Sequence[Any], Any], list[Product]]:
    """As torch's convolution of stride 1: by definition, however few multiplications it is computed with."""

    def rule(packet: Any, args: Sequence[Any], out: Any) -> list[Product]:
        x, weight = args[:2]
        ones = [1] * (x.ndim - 2)
        geometry = Geometry(
            ones, [padding] * len(ones), ones, False, weight.shape[2:], out.shape[2:], len(weight)
        )
        return [Product(out.numel() * weight[0].numel(), (x,), weight, geometry)]

    return rule


COMPARISONS = {"ge", "gt", "le", "lt", "eq", "ne", "heaviside", "esdnet::leaky_spikes"}
"""Operations whose result can be spikes, whatever its values happen to be."""

KEEPING = {
    "cat",
    "stack",
    "clone",
    "_to_copy",
    "constant_pad_nd",
    "index_select",
    "select",
    "_unsafe_view",
    "_reshape_alias",
    "pixel_shuffle",
    "pixel_unshuffle",
    "im2col",
    "flip",
    "roll",
    "repeat",
    "amax",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
}
"""Operations that make spikes of spikes (besides views): they move values and make none but zeros."""

_PRODUCTS = _products()
_NAMED_PRODUCTS = {
    "esdnet::conv3x3": _esdnet_convolution(1),
    "esdnet::conv_of_voxels": _esdnet_convolution(0),
}


def _rule(operation: Any) -> Callable[[Any, Sequence[Any], Any], list[Product]] | None:
    """How an operation that multiplies and accumulates splits into products."""
    return _PRODUCTS.get(operation.overloadpacket) or _NAMED_PRODUCTS.get(operation._schema.name)


def products(operation: Any, args: Sequence[Any], out: Any) -> list[Product]:
    """The products that one call of `operation` makes."""
    rule = _rule(operation)
    return [] if rule is None else rule(operation.overloadpacket, args, out)


def reach(
    size: int, stride: int, padding: int, dilation: int, kernel: int, output: int, transposed: bool
) -> Tensor:
    """How many outputs along one axis each of the `size` inputs reaches: a (size,) tensor of integers."""
    taps = torch.arange(kernel) * dilation
    if transposed:
        targets = torch.arange(size)[:, None] * stride - padding + taps
        return ((targets >= 0) & (targets < output)).sum(1)
    sources = (torch.arange(output)[:, None] * stride - padding + taps).flatten()
    return torch.bincount(sources[(sources >= 0) & (sources < size)], minlength=size)
