"""PReNet: a small residual network run several times over, its memory carried by a convolutional LSTM.

Ren, Zuo, Hu, Zhu and Meng, "Progressive Image Deraining Networks: A Better and Simpler Baseline", CVPR 2019.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)


class ConvLSTM(nn.Module):
    """Long short-term memory whose four gates are 3×3 convolutions of [input, hidden].

    Takes (N, C, H, W) and the pair (hidden, cell), each of that shape; returns the next pair.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input_gate = _conv3x3(2 * channels, channels)
        self.forget_gate = _conv3x3(2 * channels, channels)
        self.output_gate = _conv3x3(2 * channels, channels)
        self.candidate = _conv3x3(2 * channels, channels)

    def forward(self, features: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One step of the recurrence."""
        hidden, cell = state
        joined = torch.cat((features, hidden), dim=1)
        kept = torch.sigmoid(self.forget_gate(joined)) * cell
        written = torch.sigmoid(self.input_gate(joined)) * torch.tanh(self.candidate(joined))
        cell = kept + written
        return torch.sigmoid(self.output_gate(joined)) * torch.tanh(cell), cell


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut; ReLU after each convolution and after the sum.

    The ReLU at the end of the branch, before the sum, is as released.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv3x3(channels, channels)
        self.second = _conv3x3(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape, non-negative."""
        branch = F.relu(self.second(F.relu(self.first(features))))
        return F.relu(features + branch)


class PReNet(nn.Module):
    """Progressive recurrent network: every stage sees the rainy image and the estimate of the stage before.

        rainy ─┬──► [ , ] ─► conv 3×3, ReLU ─► ConvLSTM ─► residual blocks ─► conv 3×3 ─► + ─┬─► stage s
               │      ▲                         ↺ state                                   ▲  │
               └──────┼───────────────────────────────────────────────────────────────────┘  │
                      └── stage s - 1 (stage 0 is the rainy image) ◄─────────────────────────┘

    All stages share their weights. The residual blocks are the five separate ones of PReNet, not the single
    recursive one of PReNet_r. The last convolution predicts a residual, to which the rainy image is added, as
    in the released PReNet (its variants PReNet_LSTM and PReNet_GRU do without). Works in any size.

    Args:
        stages: how often the network is run.
        channels: width of all features.
        residual_blocks: blocks in one stage.
        start_as_identity: a fresh network's residual is next to nothing, so that a short training starts from the
            rainy image; the released code leaves all weights to PyTorch's initialisation.

    Raises:
        ValueError: stages below 1.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^conv0\.0\.", "extract."),
        (r"^conv_i\.0\.", "memory.input_gate."),
        (r"^conv_f\.0\.", "memory.forget_gate."),
        (r"^conv_o\.0\.", "memory.output_gate."),
        (r"^conv_g\.0\.", "memory.candidate."),
        *((rf"^res_conv{n + 1}\.0\.", f"blocks.{n}.first.") for n in range(5)),
        *((rf"^res_conv{n + 1}\.2\.", f"blocks.{n}.second.") for n in range(5)),
        (r"^conv\.0\.", "reconstruct."),
    )

    def __init__(
        self,
        stages: int = 6,
        channels: int = 32,
        residual_blocks: int = 5,
        start_as_identity: bool = False,
    ) -> None:
        super().__init__()
        if stages < 1:
            raise ValueError(f"PReNet: stages must be at least 1, not {stages}")
        self.stages = stages
        self.extract = _conv3x3(6, channels)
        self.memory = ConvLSTM(channels)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(residual_blocks)))
        self.reconstruct = _conv3x3(channels, 3)
        if start_as_identity:
            nn.init.normal_(self.reconstruct.weight, std=1e-3)
            self.reconstruct.bias = nn.Parameter(torch.zeros(3))

    def training_outputs(self, rainy: Tensor) -> list[Tensor]:
        """The estimate of every stage, first to last; the paper supervises the last alone."""
        estimate, state = rainy, None
        outputs = []
        for _ in range(self.stages):
            features = F.relu(self.extract(torch.cat((rainy, estimate), dim=1)))
            if state is None:
                state = torch.zeros_like(features), torch.zeros_like(features)
            state = self.memory(features, state)
            estimate = rainy + self.reconstruct(self.blocks(state[0]))
            outputs.append(estimate)
        return outputs

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1]; unclamped."""
        return self.training_outputs(rainy)[-1]
