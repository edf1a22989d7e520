"""PSNR and SSIM of the luma, per image, under the four conventions that deraining tables are printed in.

Everything is measured on 8-bit pictures (clamped to [0, 1], × 255, rounded) in float64: SSIM needs it,
float32 is up to 3e-5 off. The conventions differ by up to 0.7 dB on one image, so values of different ones
never share a column:

    convention   luma     border     SSIM                       printed by
    esdnet       float    4 px cut   full size                  ESDNet's evaluation.py
    matlab       8-bit    none       full size                  MPRNet, Restormer, DRSformer (Rain200, SPA)
    statistic    float    none       averaged down to ~256 px   PReNet, RCDNet, DRSformer (DID, DDN)
    float        float    none       full size                  most published logs (SFARL, CODE-Net)

Two identical pictures have an infinite PSNR, and it is reported as infinite for the image. What it counts in a mean
is said in one place for all, `benchmark/means.py`.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.errors import unknown
from esdnet import native

WINDOW = 11
SIGMA = 1.5
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2
_HALF_LEVEL = 0.5 / 255


@dataclass(frozen=True)
class Convention:
    """One way of measuring PSNR-Y and SSIM-Y.

    Attributes:
        name: how columns and options call it.
        rounded_luma: Y is rounded to 8 bits before it is compared.
        border: pixels cut off on every side.
        downsampled_ssim: SSIM is taken after averaging over f × f blocks, f = max(1, round(min(H, W) / 256)).
        origin: whose scripts print it.
    """

    name: str
    rounded_luma: bool
    border: int
    downsampled_ssim: bool
    origin: str


CONVENTIONS = {
    c.name: c
    for c in (
        Convention("esdnet", False, 4, False, "ESDNet, evaluation.py with its default arguments"),
        Convention("matlab", True, 0, False, "MPRNet, Restormer, Magic-ELF, DRSformer, evaluate_PSNR_SSIM.m"),
        Convention("statistic", False, 0, True, "PReNet, RCDNet, DRSformer, statistic*.m"),
        Convention("float", False, 0, False, "what most published logs hold: Y as it is, the whole picture"),
    )
}


def least_side() -> int:
    """Pixels that a picture's sides must have to be measured under every convention."""
    return max(WINDOW + 2 * c.border for c in CONVENTIONS.values())


def convention_named(convention: str | Convention) -> Convention:
    """The convention of that name.

    Raises:
        UserError: there is none; the nearest name is given.
    """
    if isinstance(convention, Convention):
        return convention
    try:
        return CONVENTIONS[convention]
    except KeyError:
        raise unknown("metric convention", convention, CONVENTIONS) from None


def psnr_y(restored: Tensor, target: Tensor, convention: str | Convention = "esdnet") -> Tensor:
    """Peak signal-to-noise ratio of the luma, 10 log10(255² / mean squared difference), one value an image.

    Args:
        restored: (N, 3, H, W), floating point; values outside [0, 1] are clamped.
        target: the same shape, in [0, 1] (to half a grey level, which rounds away).
        convention: one of `CONVENTIONS`.

    Returns:
        (N,) float64, in dB; infinite where the two pictures are identical.

    Raises:
        ValueError: shapes that differ or are not (N, 3, H, W), integers, NaN, a target that is not in [0, 1],
            pictures of which the border leaves nothing.
        UserError: no such convention.
    """
    chosen = convention_named(convention)
    return _psnr(*_seen_by(*_luma_pair(restored, target, [chosen]), chosen))


def ssim_y(restored: Tensor, target: Tensor, convention: str | Convention = "esdnet") -> Tensor:
    """Structural similarity of the luma (Wang et al. 2004), one value an image.

    An 11 × 11 Gaussian window with σ = 1.5, only where it fits into the picture; variances by E[x²] − E[x]²;
    the mean of the map.

    Args:
        restored: (N, 3, H, W), floating point; values outside [0, 1] are clamped.
        target: the same shape, in [0, 1] (to half a grey level, which rounds away).
        convention: one of `CONVENTIONS`.

    Returns:
        (N,) float64, at most 1.

    Raises:
        ValueError: as `psnr_y`, and pictures smaller than the window.
        UserError: no such convention.
    """
    chosen = convention_named(convention)
    _check_window(restored, chosen)
    return _ssim(*_seen_by(*_luma_pair(restored, target, [chosen]), chosen), chosen)


def fidelity(
    restored: Tensor, target: Tensor, conventions: Sequence[str | Convention] = ("esdnet",)
) -> dict[str, tuple[Tensor, Tensor]]:
    """`psnr_y` and `ssim_y` under several conventions: the same values, the lumas computed once for all.

    Args:
        restored: (N, 3, H, W), floating point, where values outside [0, 1] are clamped; or uint8, the grey levels
            of a file.
        target: the same shape, in [0, 1]; or uint8.
        conventions: some of `CONVENTIONS`.

    Returns:
        For each convention's name (PSNR-Y in dB, SSIM-Y), each (N,) float64.

    Raises:
        ValueError, UserError: as `ssim_y`.
    """
    chosen = [convention_named(c) for c in conventions]
    for convention in chosen:
        _check_window(restored, convention)
    lumas = _luma_pair(restored, target, chosen, levels=True)
    found = {}
    for convention in chosen:
        a, b = _seen_by(*lumas, convention)
        found[convention.name] = _psnr(a, b), _ssim(a, b, convention)
    return found


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    error = (a - b).square_().flatten(1).mean(1)
    return 10 * torch.log10(255.0**2 / error)


def _check_window(image: Tensor, convention: Convention) -> None:
    if image.ndim != 4:
        return  # `_luma_pair` says so
    height, width = (size - 2 * convention.border for size in image.shape[-2:])
    if convention.downsampled_ssim:
        factor = _reduction(height, width)
        height, width = math.ceil(height / factor), math.ceil(width / factor)
    if 0 < min(height, width) < WINDOW:
        least = WINDOW + 2 * convention.border
        raise ValueError(
            f"SSIM ({convention.name}) needs pictures of at least {least}×{least} pixels, not "
            f"{image.shape[-2]}×{image.shape[-1]}"
        )


def _reduction(height: int, width: int) -> int:
    return max(1, math.floor(min(height, width) / 256 + 0.5))


def _ssim(a: Tensor, b: Tensor, convention: Convention) -> Tensor:
    if convention.downsampled_ssim:
        factor = _reduction(*a.shape[-2:])
        a, b = _block_means(a, factor), _block_means(b, factor)
    # picture by picture: the maps of one stay in the processor's cache, those of a batch do not
    return torch.stack([_mean_similarity(one, other) for one, other in zip(a, b, strict=True)])


@functools.cache
def compiled_metrics() -> ctypes.CDLL | None:
    """metrics.c, where there is a compiler: the same values, similarities to 1e-13, in a third of the time."""
    library = native.compiled(str(Path(__file__).parent / "metrics.c"), "-ffp-contract=off")
    if library is not None:
        library.mean_similarity.restype = ctypes.c_double
    return library


def _mean_similarity(a: Tensor, b: Tensor) -> Tensor:
    compiled = compiled_metrics() if a.device.type == "cpu" else None
    if compiled is not None and a.stride(1) == b.stride(1) == 1:
        weights = (ctypes.c_double * (WINDOW // 2 + 1))(*_weights()[: WINDOW // 2 + 1])
        sizes = (ctypes.c_long(n) for n in (a.stride(0), b.stride(0), *a.shape))
        places = (native.address(a), native.address(b))
        value = compiled.mean_similarity(*places, *sizes, weights, ctypes.c_double(C1), ctypes.c_double(C2))
        if math.isnan(value):
            raise MemoryError("no memory for the rows of a similarity map")
        return a.new_tensor(value)
    return _filtered_similarity(a, b)


def _filtered_similarity(a: Tensor, b: Tensor) -> Tensor:
    # the two variances only occur as a sum, so four filtered maps do where the formula names five
    mean_a, mean_b = _gaussian(a), _gaussian(b)
    product, squares = _gaussian(a * b), _gaussian(a * a + b * b)
    across, energy = mean_a * mean_b, mean_a.square_().add_(mean_b.square_())
    similarity = (product.sub_(across).mul_(2).add_(C2)).mul_(2 * across + C1)
    similarity /= (energy + C1) * (squares.sub_(energy).add_(C2))
    return similarity.mean()


def to_8_bit(image: Tensor) -> Tensor:
    """A picture in [0, 1] as the grey levels that a file would hold: float64, whole numbers 0 … 255."""
    if image.device.type == "mps":  # has no float64
        image = image.cpu()
    return image.to(torch.float64, copy=True).clamp_(0, 1).mul_(255).round_()


def _luma_pair(
    restored: Tensor, target: Tensor, conventions: Sequence[Convention], levels: bool = False
) -> tuple[Tensor, Tensor]:
    if restored.shape != target.shape:
        raise ValueError(f"restored is {tuple(restored.shape)} but target is {tuple(target.shape)}")
    _check(restored, "restored", levels)
    _check_range(*_check(target, "target", levels), "target")
    for convention in conventions:
        if min(target.shape[-2:]) <= 2 * convention.border:
            raise ValueError(
                f"convention {convention.name} cuts {convention.border} pixels on every side: nothing is left of "
                f"{target.shape[-2]}×{target.shape[-1]} pixels"
            )
    return _luma(restored), _luma(target.to(restored.device))


def _check(image: Tensor, what: str, levels: bool) -> tuple[float, float]:
    if levels and image.dtype == torch.uint8 and image.ndim == 4 and image.shape[1] == 3:
        return 0.0, 1.0  # there is nothing else that they could hold
    return check_images(image, what)


def _check_range(low: float, high: float, what: str) -> None:
    if low < -_HALF_LEVEL or high > 1 + _HALF_LEVEL:
        reached = high if high > 1 + _HALF_LEVEL else low
        told = "divide by 255?" if high > 2 else "clamp(0, 1) it?"
        raise ValueError(f"{what} must be in [0, 1], but reaches {reached:g}: {told}")


def check_picture(image: Tensor, what: str) -> None:
    """Refuse what is not a batch of RGB pictures in [0, 1], or half a grey level outside, which rounds away.

    Raises:
        ValueError: as `check_images`, or values outside [0, 1].
    """
    _check_range(*check_images(image, what), what)


def check_images(image: Tensor, what: str) -> tuple[float, float]:
    """Refuse what is not a batch of RGB pictures; returns its least and greatest value (0, 0 of no pictures).

    Raises:
        ValueError: not (N, 3, H, W), not floating point, or NaN or infinite values.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"{what} must be (N, 3, H, W), not {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"{what} must be floating point in [0, 1], not {image.dtype}: divide by 255?")
    if not image.numel():
        return 0.0, 0.0
    low, high = (float(extreme) for extreme in torch.aminmax(image))  # a NaN anywhere is both
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{what} has NaN or infinite values")
    return low, high


def _luma(image: Tensor) -> Tensor:
    """Y of ITU-R BT.601 in studio range (16 … 235), not rounded, (N, H, W)."""
    compiled = compiled_metrics() if image.dtype == torch.uint8 and native.plain(image) else None
    if compiled is not None:
        out = torch.empty(image[:, 0].shape, dtype=torch.float64)
        for picture, one in zip(image, out, strict=True):
            steps, sizes = map(ctypes.c_long, picture.stride()), map(ctypes.c_long, one.shape)
            compiled.luma(native.address(picture), *steps, native.address(one), *sizes)
        return out
    levels = (lambda x: x.to(torch.float64)) if image.dtype == torch.uint8 else to_8_bit
    luma = levels(image[:, 0]).mul_(65.481)
    for channel, weight in ((1, 128.553), (2, 24.966)):
        luma += levels(image[:, channel]).mul_(weight)
    return luma.div_(255).add_(16)


def _seen_by(a: Tensor, b: Tensor, convention: Convention) -> tuple[Tensor, Tensor]:
    """The two lumas as a convention compares them: its border cut off, rounded if it rounds."""
    if convention.border:
        inner = slice(convention.border, -convention.border)
        a, b = a[..., inner, inner], b[..., inner, inner]
    if convention.rounded_luma:
        a, b = torch.floor(a + 0.5), torch.floor(b + 0.5)
    return a, b


def _block_means(image: Tensor, factor: int) -> Tensor:
    """Means of (N, H, W) over blocks of `factor` pixels squared, incomplete blocks filled by mirroring.

    The scripts filter the whole picture and keep every `factor`-th value, so the first block of an odd factor
    reaches over the edge.
    """
    if factor == 1:
        return image
    before, after = (factor - 1) // 2, factor // 2 + factor - 1
    for dim in (-2, -1):
        size = image.shape[dim]
        image = torch.cat(
            [
                image.narrow(dim, 0, before).flip(dim),
                image,
                image.narrow(dim, size - after, after).flip(dim),
            ],
            dim,
        )
        image = image.narrow(dim, 0, math.ceil(size / factor) * factor)
    return F.avg_pool2d(image.unsqueeze(1), factor).squeeze(1)


@functools.cache
def _weights() -> list[float]:
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    return (window / window.sum()).tolist()


def _gaussian(image: Tensor) -> Tensor:
    """The weighted means over the window along the last two dimensions, where it fits.

    Sums of shifted views: on a CPU in float64 that is ten times as fast as a convolution.
    """
    weights = _weights()
    for dim in (-2, -1):
        size = image.shape[dim] - WINDOW + 1
        filtered = image.narrow(dim, WINDOW // 2, size) * weights[WINDOW // 2]
        mirrored = torch.empty_like(filtered)
        for i in range(WINDOW // 2):
            torch.add(image.narrow(dim, i, size), image.narrow(dim, WINDOW - 1 - i, size), out=mirrored)
            filtered.add_(mirrored, alpha=weights[i])
        image = filtered
    return image
