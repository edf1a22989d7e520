"""DRT: Swin transformer blocks at full resolution, each layer run several times over with the same weights.

Liang, Anwar and Liu, "DRT: A Lightweight Single Image Deraining Recursive Transformer", CVPR Workshops 2022.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from timm.layers import Mlp
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn

# of ImageNet
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def pad_by_flip(image: Tensor, multiple: int) -> Tensor:
    """Continue (N, C, H, W) on the right and below by its mirror image, edge pixels twice, to a multiple."""
    for axis in (-2, -1):
        size = image.shape[axis]
        missing = -size % multiple
        mirrored = image.narrow(axis, size - missing, missing).flip(axis)
        image = torch.cat((image, mirrored), dim=axis)
    return image


class WindowBlock(nn.Module):
    """Attention within windows and a two-layer perceptron, each normalised before and added (a Swin block).

    Takes and returns (N, H, W, C); H and W are multiples of the window. Windows are never shifted.
    """

    def __init__(self, dim: int, heads: int, window_size: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, heads, window_size=window_size)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, tokens: Tensor) -> Tensor:
        """One block."""
        n, height, width, dim = tokens.shape
        side = self.window_size
        windows = self.norm1(tokens).view(n, height // side, side, width // side, side, dim).transpose(2, 3)
        attended = self.attention(windows.reshape(-1, side * side, dim)).view(windows.shape)
        tokens = tokens + attended.transpose(2, 3).reshape(tokens.shape)
        return tokens + self.mlp(self.norm2(tokens))


class RecursiveLayer(nn.Module):
    """x ← outer(inner(x)) + x₀, repeated with the same weights; then a 3×3 convolution."""

    def __init__(self, dim: int, heads: int, window_size: int, mlp_ratio: float, repeats: int) -> None:
        super().__init__()
        self.repeats = repeats
        self.outer = WindowBlock(dim, heads, window_size, mlp_ratio)
        self.inner = WindowBlock(dim, heads, window_size, mlp_ratio)
        self.convolve = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        start = tokens = features.permute(0, 2, 3, 1)
        for _ in range(self.repeats):
            tokens = self.outer(self.inner(tokens)) + start
        return self.convolve(tokens.permute(0, 3, 1, 2))


class DRT(nn.Module):
    """Deep recursive transformer on tokens of one pixel.

        rainy ─ normalise ─┬─ 1×1 ─┬─ layer 1 ─ … ─ layer 6 ─ + ─ 3×3 ─ + ─ denormalise ─► restored
                           │       └──────────────────────────┘         │
                           └────────────────────────────────────────────┘

    Takes any size: images whose sides are no multiples of the window are padded by flipping, as the authors
    do. They pad further, to a square and by a window where none is missing, since their network is built
    for one square size; nothing here needs that.

    The paper's cost needs a window of 8, the default here; the authors' code and released weights have
    Swin's 7 (`window_size=7`). What the released code calls denormalising is not the inverse of
    normalising: it returns (z + mean)·std, so a network that adds nothing darkens the image by about 0.37.
    Kept, as released weights expect it.
    `idle_input` and `idle_output` are in the authors' files and parameter count, and nothing uses them.

    Args:
        dim: width of all features.
        layers: recursive layers (the paper's recursive depth).
        repeats: times each layer's blocks are run (its residual depth).
        heads: of the attention.
        window_size: side of the windows in pixels.
        mlp_ratio: hidden width of the perceptrons, relative to dim.
        start_as_identity: for short trainings: the last bias starts at what makes up for that darkening.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^input_conv1\.", "idle_input."),
        (r"^output_conv1\.", "idle_output."),
        (r"^patch_embed\.proj\.", "embed."),
        (r"^patch_unembed\.proj\.", "restore."),
        (r"^recursive_layers\.", "layers."),
        (r"\.block1\.transformer\.", ".outer."),
        (r"\.block2\.transformer\.", ".inner."),
        (r"\.attn\.", ".attention."),
        (r"\.conv_out\.", ".convolve."),
    )
    authors_ignored: ClassVar[tuple[str, ...]] = (r"\.relative_position_index$",)

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        dim: int = 96,
        layers: int = 6,
        repeats: int = 3,
        heads: int = 2,
        window_size: int = 8,
        mlp_ratio: float = 1.0,
        start_as_identity: bool = False,
    ) -> None:
        super().__init__()
        self.window_size = self.multiple = window_size
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        self.embed = nn.Conv2d(3, dim, 1)
        self.layers = nn.Sequential(
            *(RecursiveLayer(dim, heads, window_size, mlp_ratio, repeats) for _ in range(layers))
        )
        self.restore = nn.Conv2d(dim, 3, 3, padding=1)
        self.idle_input = nn.Conv2d(3, dim, 3, padding=1).requires_grad_(False)
        self.idle_output = nn.Conv2d(dim, 3, 3, padding=1).requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if start_as_identity:
            self.restore.bias = nn.Parameter((self.mean / self.std - self.mean).flatten())

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1]; unclamped."""
        height, width = rainy.shape[-2:]
        normalised = (pad_by_flip(rainy, self.window_size) - self.mean) / self.std
        embedded = self.embed(normalised)
        residual = self.restore(self.layers(embedded) + embedded)
        return ((normalised + residual + self.mean) * self.std)[..., :height, :width]
