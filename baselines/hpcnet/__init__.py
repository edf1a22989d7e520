"""HPCNet: background and rain are represented side by side, and exchange what each has of the other.

Wang, Jiang, Lai, Wang and Zhang, "HPCNet: A Hybrid Progressive Coupled Network for Image Deraining", ICME
2023.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines._layers import (
    ATTENTION_BLOCK_KEYS,
    TRANSFORMER_KEYS,
    SeparableAttentionBlock,
    TransformerBlock,
    conv1x1,
    conv3x3,
)


def _former(channels: int, heads: int, expansion: float) -> TransformerBlock:
    return TransformerBlock(channels, heads, expansion, nn.GELU())


def _upsample(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(
        channels, channels, kernel_size=3, stride=2, padding=1, output_padding=1, bias=False
    )


class LowFrequency(nn.Module):
    """Rain features at half their size: transformer blocks, what went in added back, and up again."""

    def __init__(self, channels: int, blocks: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.down = conv3x3(channels, channels, stride=2)
        self.blocks = nn.Sequential(*(_former(channels, heads, expansion) for _ in range(blocks)))
        self.keep = conv1x1(channels, channels)
        self.up = _upsample(channels)

    def forward(self, rain: Tensor, slope: Tensor) -> Tensor:
        """(N, C, H, W), H and W even, to the same shape."""
        low = F.prelu(self.down(rain), slope)
        return F.prelu(self.up(self.blocks(low) + F.prelu(self.keep(low), slope)), slope)


class CoupledBlock(nn.Module):
    """One exchange between the two representations.

    background B ─┬─► attention block ──────────────► - b ─► + r ─► B'
                  └─► transformer ─► b
    rain R ─┬─► attention block ─► + ─► R₁ ─┬───────► - r ─► + b ─► R'
            └─► low frequency ─────┘        └─► transformer ─► r
    """

    def __init__(self, channels: int, blocks: int, heads: int, reduction: int, expansion: float) -> None:
        super().__init__()
        self.background = SeparableAttentionBlock(channels, reduction)
        self.rain = SeparableAttentionBlock(channels, reduction)
        self.low_frequency = LowFrequency(channels, blocks, heads, expansion)
        self.from_background = _former(channels, heads, expansion)
        self.from_rain = _former(channels, heads, expansion)

    @torch.no_grad()
    def quieten(self) -> None:
        """Make the last weights of every branch that has no shortcut of its own small: (B, R) to about (-B, B)."""
        formers = (self.from_background, self.from_rain)
        ends: list[nn.Module] = [self.low_frequency.up]
        ends += [e for former in formers for e in (former.attention.project, former.feed.project)]
        ends += [e for b in (self.background, self.rain) for e in (b.second.pointwise, b.fuse.mix.pointwise)]
        for end in ends:
            for parameter in end.parameters():
                parameter.mul_(0.01)

    def forward(self, background: Tensor, rain: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Two (N, C, H, W), H and W even, to their successors."""
        rain = self.rain(rain, slope) + self.low_frequency(rain, slope)
        to_rain, to_background = self.from_background(background), self.from_rain(rain)
        return self.background(background, slope) - to_rain + to_background, rain - to_background + to_rain


class HPCNet(nn.Module):
    """Hybrid progressive coupled network (figure 2).

        rainy ─► conv ─┬─► conv, stride 2 ─► B ─┐                    ┌─► B ─► up ─► conv ─┬─────► restored
                       └─► conv, stride 2 ─► R ─┴─► coupled blocks ┴─► R ─► up ─► conv ─┴─► + ─► rainy again

    The background is predicted whole: nothing of the rainy image is added to it. The sum of background and
    rain is supervised with the rainy image that went in. One learned PReLU slope serves all places outside
    the transformers.

    `idle_up_background`, `idle_up_rain`, `idle_squeeze` and `idle_excite` (41,760 parameters at the
    defaults) are kept because the released network has them and its checkpoints and parameter count include
    them; no output depends on them, and they are not trained. Height and width must be multiples of 4.

    Args:
        channels: width everywhere; divisible by `heads` and by `reduction`.
        coupled_blocks: exchanges between the two representations.
        blocks: transformer blocks in each exchange's low-frequency path.
        heads: of all attention.
        reduction: of the channel attention.
        expansion: of the feed-forwards.
        start_as_identity: choose initial weights that carry the rainy image through the network, to within a
            hundredth; short trainings need it, since nothing of the image goes around the network. The released
            code does not.

    Raises:
        ValueError: start_as_identity with fewer than 12 channels.
    """

    # the released keys begin with "model.", which readers of checkpoints may take for a wrapper's prefix
    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^model\.", ""),
        (r"^(.*\.body\.1|.*\.act\d|UP_\w+\.1)\.weight$", "slope"),
        (r"^image_fea\.", "extract."),
        (r"^shallow_fea_B\.", "extract_background."),
        (r"^shallow_fea_R\.", "extract_rain."),
        (r"^down_B\.", "down_background."),
        (r"^down_R\.", "down_rain."),
        (r"^UP_B\.0\.", "up_background."),
        (r"^UP_R\.0\.", "up_rain."),
        (r"^UP_BTOR\.0\.", "idle_up_background."),
        (r"^UP_RTOB\.0\.", "idle_up_rain."),
        (r"^rrb\.recon_B\.", "reconstruct_background."),
        (r"^rrb\.recon_R\.", "reconstruct_rain."),
        (r"^rrb\.conv_du\.0\.", "idle_squeeze."),
        (r"^rrb\.conv_du\.2\.", "idle_excite."),
        (r"^crm\.body\.", "coupled."),
        (r"\.CAB_b\.", ".background."),
        (r"\.CAB_r\.", ".rain."),
        (r"\.CA_B\.", ".from_background."),
        (r"\.CA_R\.", ".from_rain."),
        (r"\.down_R\.", ".low_frequency.down."),
        (r"\.lfsfb\.FS\.", ".low_frequency.keep."),
        (r"\.lfsfb\.FFU\.", ".low_frequency.up."),
        (r"^(coupled\.\d+)\.body\.", r"\1.low_frequency.blocks."),
        (r"\.S2FB2\.", ".fuse."),
        *ATTENTION_BLOCK_KEYS,
        *TRANSFORMER_KEYS,
        (r"\.body\.0\.", ".first."),
        (r"\.body\.2\.", ".second."),
    )

    def __init__(
        self,
        channels: int = 48,
        coupled_blocks: int = 5,
        blocks: int = 4,
        heads: int = 2,
        reduction: int = 4,
        expansion: float = 2.66,
        start_as_identity: bool = False,
    ) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.extract = conv3x3(3, channels)
        self.extract_background = conv3x3(channels, channels)
        self.extract_rain = conv3x3(channels, channels)
        self.down_background = conv3x3(channels, channels, stride=2)
        self.down_rain = conv3x3(channels, channels, stride=2)
        self.coupled = nn.ModuleList(
            CoupledBlock(channels, blocks, heads, reduction, expansion) for _ in range(coupled_blocks)
        )
        self.up_background = _upsample(channels)
        self.up_rain = _upsample(channels)
        self.reconstruct_background = conv3x3(channels, 3)
        self.reconstruct_rain = conv3x3(channels, 3)
        self.idle_up_background = _upsample(channels)
        self.idle_up_rain = _upsample(channels)
        self.idle_squeeze = conv1x1(3, channels)
        self.idle_excite = conv1x1(channels, 3)
        for layer in (self.idle_up_background, self.idle_up_rain, self.idle_squeeze, self.idle_excite):
            layer.requires_grad_(False)
        if start_as_identity:
            self._start_as_identity()

    @torch.no_grad()
    def _start_as_identity(self) -> None:
        """Colours in the first three channels, their 2×2 neighbourhoods in twelve at half size, and back.

        With quiet branches a coupled block maps (B, R) to (-B, B), so the sign on the way out is that of the
        number of blocks; the PReLU before the last convolution then sees the image, which is positive.
        """
        if self.extract.out_channels < 12:
            raise ValueError(
                f"HPCNet: start_as_identity needs 12 channels or more, not {self.extract.out_channels}"
            )
        for block in self.coupled:
            cast(CoupledBlock, block).quieten()
        # the outputs that carry the image carry hardly anything else; the others keep their default weights
        self.extract.weight[:3].mul_(0.01)
        self.extract_background.weight[:3].mul_(0.01)
        self.down_background.weight[:12].mul_(0.01)
        self.up_background.weight[:, :3].mul_(0.01)
        self.reconstruct_background.weight.mul_(0.01)
        sign = -1.0 if len(self.coupled) % 2 else 1.0
        for colour in range(3):
            for layer in (self.extract, self.extract_background, self.reconstruct_background):
                layer.weight[colour, colour, 1, 1] += 1.0
            for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
                place = 4 * colour + 2 * row + column
                self.down_background.weight[place, colour, 1 + row, 1 + column] += 1.0
                self.up_background.weight[place, colour, 1 + row, 1 + column] += sign

    def training_outputs(self, rainy: Tensor) -> list[Tensor]:
        """The rainy image put together again (its target is `rainy`), and the restored image, the last."""
        features = self.extract(rainy)
        background = self.down_background(self.extract_background(features))
        rain = self.down_rain(self.extract_rain(features))
        for block in self.coupled:
            background, rain = block(background, rain, self.slope)
        restored = self.reconstruct_background(F.prelu(self.up_background(background), self.slope))
        streaks = self.reconstruct_rain(F.prelu(self.up_rain(rain), self.slope))
        return [restored + streaks, restored]

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1], H and W multiples of 4; unclamped."""
        return self.training_outputs(rainy)[-1]
