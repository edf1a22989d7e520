"""Quality of pictures: this suite's metrics and losses, ESDNet's evaluation.py, scikit-image and torchmetrics.

What the authors' script does was learnt by reading it and is written here in this suite's words. For each pair it
reads two PNGs with OpenCV, forms Y in float64, cuts 4 pixels off and takes PSNR, and SSIM from five maps filtered
with the whole 11×11 window. Its LPIPS, which takes longer than all of this, is left out: it is not asked for here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.bench.case import Body, Setting
from benchmark.bench.sides.pictures import clean_and_rainy, pngs
from benchmark.run.evaluate import measure_pictures
from benchmark.training.distances import ssim

Picture = NDArray[np.uint8]

_FILES, _AUTHORS_FILES, _DECODED = 200, 50, 20


def _measured(pairs: Any, setting: Setting) -> Tensor:
    rows = measure_pictures(pairs, workers=setting.threads)
    return torch.tensor([(row["psnr_esdnet"], row["ssim_esdnet"]) for row in rows], dtype=torch.float64)


def files(setting: Setting) -> Body:
    """This suite: several pairs at a time, from PNGs to two numbers each."""
    pairs = pngs(setting.scratch, _FILES)
    return lambda: _measured(pairs, setting)


def decoded(setting: Setting) -> Body:
    """This suite, from pictures in memory."""
    pairs = clean_and_rainy(_DECODED)
    return lambda: _measured(pairs, setting)


def authors_files(setting: Setting) -> Body:
    """ESDNet's evaluation.py, one pair after the other."""
    import cv2

    cv2.setNumThreads(setting.threads)
    pairs = pngs(setting.scratch, _FILES)[:_AUTHORS_FILES]
    return lambda: torch.tensor(
        [authors_quality(cv2.imread(str(rainy)), cv2.imread(str(clean))) for rainy, clean in pairs],
        dtype=torch.float64,
    )


def authors_decoded(setting: Setting) -> Body:
    """The same of pictures in memory, blue first as OpenCV reads them."""
    import cv2

    cv2.setNumThreads(setting.threads)
    pairs = [(r[..., ::-1].copy(), c[..., ::-1].copy()) for r, c in clean_and_rainy(_DECODED)]
    return lambda: torch.tensor([authors_quality(*pair) for pair in pairs], dtype=torch.float64)


def authors_quality(restored: Any, target: Any) -> tuple[float, float]:
    """PSNR-Y and SSIM-Y of one pair, uint8 (H, W, 3), blue first, as evaluation.py computes them."""
    a, b = (_authors_luma(picture)[4:-4, 4:-4] for picture in (restored, target))
    psnr = 20 * math.log10(255 / math.sqrt(np.mean((a - b) ** 2)))
    return psnr, _authors_similarity(a, b)


def _authors_luma(picture: Picture) -> NDArray[np.float64]:
    weighted = np.dot((picture / 255.0) * 255.0, np.array([24.966, 128.553, 65.481]))
    return (weighted / 255.0 + 16.0) / 255.0 * 255.0


def _authors_similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    import cv2

    line = cv2.getGaussianKernel(11, 1.5)
    window = line @ line.T

    def blurred(image: NDArray[np.float64]) -> Any:
        return cv2.filter2D(image, -1, window)[5:-5, 5:-5]

    mean_a, mean_b = blurred(a), blurred(b)
    variances = blurred(a**2) - mean_a**2 + (blurred(b**2) - mean_b**2)
    covariance = blurred(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))).mean())


def skimage_decoded(setting: Setting) -> Body:
    """scikit-image's metrics of the same luma, with the options that make its SSIM Wang's."""
    from skimage.metrics import structural_similarity

    def quality(rainy: Picture, clean: Picture) -> tuple[float, float]:
        a, b = (_authors_luma(p[..., ::-1])[4:-4, 4:-4] for p in (rainy, clean))
        psnr = 10 * math.log10(255**2 / np.mean((a - b) ** 2))
        _, similarity = structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )
        return psnr, float(similarity[5:-5, 5:-5].mean())

    pairs = clean_and_rainy(_DECODED)
    return lambda: torch.tensor([quality(*pair) for pair in pairs], dtype=torch.float64)


def _batch(setting: Setting) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(12, 3, 64, 64, generator=generator)
    restored = (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    return restored.to(setting.device).requires_grad_(), target.to(setting.device)


def _with_gradient(restored: Tensor, target: Tensor, similarity: Any) -> Body:
    def call() -> Tensor:
        restored.grad = None
        loss = 1 - similarity(restored, target)
        loss.backward()
        return loss.detach()

    return call


def loss(setting: Setting) -> Body:
    """This suite's loss: two passes of 11 over four maps."""
    return _with_gradient(*_batch(setting), ssim)


def torchmetrics_loss(setting: Setting) -> Body:
    """torchmetrics' functional, which pads by reflection and cuts the border off: another value, the same work."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    return _with_gradient(
        *_batch(setting), lambda a, b: structural_similarity_index_measure(a, b, data_range=1.0)
    )


def authors_loss(setting: Setting) -> Body:
    """What deraining codes train with: five convolutions with the whole 11×11 window."""
    restored, target = _batch(setting)
    offsets = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-offsets.square() / (2 * 1.5**2))
    line = (line / line.sum()).float()
    window = torch.outer(line, line).expand(3, 1, 11, 11).contiguous().to(setting.device)

    def blurred(x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, window, padding=5, groups=3)

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        mean_a, mean_b = blurred(a), blurred(b)
        variance_a, variance_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
        covariance = blurred(a * b) - mean_a * mean_b
        top = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
        return (top / ((mean_a**2 + mean_b**2 + 1e-4) * (variance_a + variance_b + 9e-4))).mean()

    return _with_gradient(restored, target, similarity)
