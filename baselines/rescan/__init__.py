"""RESCAN: a dilated context network run in stages, with recurrent squeeze-and-excitation units.

Li, Wu, Lin, Liu and Zha, "Recurrent Squeeze-and-Excitation Context Aggregation Net for Single Image
Deraining", ECCV 2018.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# the released code passes 6 as a "reduction" but uses it as the hidden width, whatever the channels
_EXCITATION_WIDTH = 6
_SLOPE = 0.2  # of every leaky ReLU, paper and code


class SqueezeExcitation(nn.Module):
    """Weight each channel of (N, C, H, W) by a factor in (0, 1) that depends on the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, _EXCITATION_WIDTH)
        self.excite = nn.Linear(_EXCITATION_WIDTH, channels)

    def forward(self, features: Tensor) -> Tensor:
        """The features, weighted."""
        weights = torch.sigmoid(self.excite(F.relu(self.squeeze(features.mean(dim=(2, 3))))))
        return features * weights[:, :, None, None]


class ConvGRU(nn.Module):
    """A gated recurrent unit of 3×3 convolutions, then squeeze-and-excitation and leaky ReLU.

    The convolutions of the input are dilated, those of the state are not. What leaves the unit is also the
    state that the next stage finds. In the first stage there is no state, and only the update gate and the
    candidate of the input are computed.
    """

    def __init__(self, inputs: int, channels: int, dilation: int) -> None:
        super().__init__()

        def of_input() -> nn.Conv2d:
            return nn.Conv2d(inputs, channels, 3, padding=dilation, dilation=dilation)

        def of_state() -> nn.Conv2d:
            return nn.Conv2d(channels, channels, 3, padding=1)

        self.input_update, self.state_update = of_input(), of_state()
        self.input_reset, self.state_reset = of_input(), of_state()
        self.input_candidate, self.state_candidate = of_input(), of_state()
        self.attention = SqueezeExcitation(channels)

    def forward(self, features: Tensor, state: Tensor | None) -> Tensor:
        """(N, C_in, H, W) and the state (N, C, H, W) of the stage before, or None, to the new state."""
        if state is None:
            mixed = torch.sigmoid(self.input_update(features)) * torch.tanh(self.input_candidate(features))
        else:
            update = torch.sigmoid(self.input_update(features) + self.state_update(state))
            reset = torch.sigmoid(self.input_reset(features) + self.state_reset(state))
            candidate = torch.tanh(self.input_candidate(features) + self.state_candidate(reset * state))
            mixed = torch.lerp(state, candidate, update)
        return F.leaky_relu(self.attention(mixed), _SLOPE)


class RESCAN(nn.Module):
    """Recurrent context aggregation, in the variant the authors report: GRU units, full prediction.

        rainy ─┬─► - ─► GRU d 1 ─► GRU d 1 ─► GRU d 2 ─► GRU d 4 ─► … ─► conv 3×3, SE ─► conv 1×1 ─┬─► rain s
               │   ▲       ↺          ↺          ↺          ↺                                      │
               │   └── rain of the stage before (none in the first) ◄──────────────────────────────┘
               └─► restored = rainy - rain of the last stage

    Every stage estimates all the rain (the paper's "full prediction"), not what is left of it. Works in any
    size. The authors read pictures in BGR and never swap, so their weights expect it: the channels are
    reversed on the way in and out, and the network as seen from outside is RGB.

    Args:
        stages: how often the network is run.
        channels: width of all features.
        depth: units and decoder convolutions together, as the paper counts; dilations are 1, 1, 2, 4, ….
        start_as_identity: for short trainings: convolutions start from Xavier's initialisation with zero biases,
            and a fresh network's rain is next to nothing. The released code leaves PyTorch's initialisation, with
            which the signal fades in the gates and the first hundred steps learn little.

    Raises:
        ValueError: stages below 1, or depth below 3.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^rnns\.", "units."),
        (r"\.conv_([xh])([zrn])\.", r".\1_\2."),
        (r"\.x_", ".input_"),
        (r"\.h_", ".state_"),
        (r"_z\.", "_update."),
        (r"_r\.", "_reset."),
        (r"_n\.", "_candidate."),
        (r"^dec\.0\.", "decode."),
        (r"^dec\.1\.", "decode_attention."),
        (r"^dec\.3\.", "rain."),
        (r"\.se\.", ".attention."),
        (r"\.fc\.0\.", ".squeeze."),
        (r"\.fc\.2\.", ".excite."),
    )

    def __init__(
        self, stages: int = 4, channels: int = 24, depth: int = 7, start_as_identity: bool = False
    ) -> None:
        super().__init__()
        if stages < 1 or depth < 3:
            raise ValueError(
                f"RESCAN: stages must be at least 1 and depth at least 3, not {stages} and {depth}"
            )
        self.stages = stages
        dilations = [1, *(2**n for n in range(depth - 3))]
        self.units = nn.ModuleList(
            ConvGRU(channels if n else 3, channels, d) for n, d in enumerate(dilations)
        )
        self.decode = nn.Conv2d(channels, channels, 3, padding=1)
        self.decode_attention = SqueezeExcitation(channels)
        self.rain = nn.Conv2d(channels, 3, 1)
        if start_as_identity:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.xavier_uniform_(module.weight, gain=nn.init.calculate_gain("tanh"))
                    nn.init.zeros_(cast(Tensor, module.bias))
            nn.init.normal_(self.rain.weight, std=1e-3)

    def training_outputs(self, rainy: Tensor) -> list[Tensor]:
        """Rainy image minus rain map for every stage, first to last; the published loss sums over all."""
        rainy_bgr = rainy.flip(1)
        estimate = rainy_bgr
        states: list[Tensor | None] = [None] * len(self.units)
        outputs = []
        for _ in range(self.stages):
            features = estimate
            for n, unit in enumerate(self.units):
                features = states[n] = unit(features, states[n])
            features = F.leaky_relu(self.decode_attention(self.decode(features)), _SLOPE)
            estimate = rainy_bgr - self.rain(features)
            outputs.append(estimate.flip(1))
        return outputs

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1]; unclamped."""
        return self.training_outputs(rainy)[-1]
