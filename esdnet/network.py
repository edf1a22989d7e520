"""ESDNet: Learning a Spiking Neural Network for Efficient Image Deraining (Song et al., IJCAI 2024)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from esdnet.blocks import (
    EncoderDecoder,
    FeatureRefinement,
    MixedAttention,
    Parts,
    PostActivationBlock,
    SpikeConv,
    SpikeUp,
    SpikingResidualBlock,
    ThresholdNorm,
)
from esdnet.neurons import LeakySequence

BLOCKS = ("srb", "sdb", "ms", "sew", "ann")


def stage(block: Callable[[int], nn.Module], channels: int, count: int) -> nn.Sequential:
    """`count` blocks of so many channels, one after the other."""
    return nn.Sequential(*(block(channels) for _ in range(count)))


def check_sizes(
    dim: int,
    encoder_blocks: Sequence[int],
    bottleneck_blocks: int,
    decoder_blocks: Sequence[int],
    time_steps: int,
) -> None:
    """Refuse sizes that the skeleton cannot have.

    Raises:
        ValueError: says which and what would be right.
    """
    for name, counts, length in (
        ("encoder_blocks", encoder_blocks, 3),
        ("decoder_blocks", decoder_blocks, 2),
    ):
        if len(counts) != length or min(counts) < 0:
            raise ValueError(f"{name} must be {length} counts of blocks, not {list(counts)}")
    if dim < 1 or time_steps < 1 or bottleneck_blocks < 0:
        raise ValueError(
            f"dim and time_steps must be at least 1 and bottleneck_blocks at least 0, "
            f"not {dim}, {time_steps} and {bottleneck_blocks}"
        )


def check_neuron(threshold: float, beta: float = 0.5, alpha: float = 4.0) -> None:
    """Refuse what no neuron of a network can have.

    Raises:
        ValueError: says which and what would be right.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be at least 0 and at most 1, not {beta}")
    for name, value in (("threshold", threshold), ("alpha", alpha)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, not {value}")


def norm_maker(kind: str, threshold: float) -> Callable[[int, float], nn.Module]:
    """What `Parts` wants: "tdbn" for neurons of that threshold, or plain "bn", which has no initial gain.

    Raises:
        ValueError: another kind.
    """
    if kind == "tdbn":
        return lambda channels, gain: ThresholdNorm(channels, gain * threshold)
    if kind == "bn":
        return lambda channels, gain: nn.BatchNorm2d(channels)
    raise ValueError(f"norm must be tdbn or bn, not {kind!r}")


# names that the authors' files share between the networks of this skeleton
ATTENTION_KEYS = (
    (r"\.attn\.", ".attention."),
    (r"\.ta\.sharedMLP\.0\.", ".temporal.squeeze."),
    (r"\.ta\.sharedMLP\.2\.", ".temporal.expand."),
    (r"\.ca\.sharedMLP\.0\.", ".channel.squeeze."),
    (r"\.ca\.sharedMLP\.2\.", ".channel.expand."),
    (r"\.sa\.conv\.", ".spatial."),
)
SKELETON_KEYS = (
    (r"^patch_embed\.proj\.", "embedding."),
    (r"^encoder_level(\d)\.", r"encoder\1."),
    (r"^decoder_level3\.", "bottleneck."),
    (r"^decoder_level(\d)\.", r"decoder\1."),
)


class ESDNet(EncoderDecoder):
    """Efficient spiking deraining network: rainy image in, restored image out.

    An encoder-decoder of spiking residual blocks that sees the image at each of T steps, and a refinement
    of the mean over time (figure 3 of the paper; the drawing is at `EncoderDecoder`). The defaults are the
    released configuration, which the paper gives in part: it is silent about `dim`, the two blocks at the
    lowest level and the 2·dim channels of the last decoder stage. 12,811,463 parameters; the 0.165 M of
    Table 1 are what a counter saw that does not know the spiking layers.

    For the ablations:

    | `block` | as | attention, shortcut |
    | --- | --- | --- |
    | `"srb"` | spiking residual block | both, unless said otherwise |
    | `"sdb"` | spike-driven block, in a spike-driven skeleton: see `ESDNetS` | cannot |
    | `"ms"` | MS-ResNet: neuron, convolution, norm, twice, and identity | neither, unless said otherwise |
    | `"sew"` | SEW-ResNet: convolution, norm, neuron, twice, ADD to spikes | cannot |
    | `"ann"` | ANN-ResNet: convolution, norm, ReLU, twice, and identity; no neuron anywhere, T = 1 | cannot |

    A stage of SEW blocks begins with a neuron, since what it adds to must be spikes, and the units between
    the stages give real values. In the ANN the neurons of those units too are ReLUs, and `time_steps` and
    the neuron's options have no meaning.

    Args:
        dim: channels of level 1.
        encoder_blocks: blocks of levels 1, 2, 3.
        bottleneck_blocks: further blocks of level 3.
        decoder_blocks: blocks of levels 2 and 1.
        time_steps: T.
        block: see the table.
        norm: "tdbn" or "bn"; None: tdBN, and BN in the ANN.
        attention: True, False or which of "temporal", "channel", "spatial"; None: as the table says.
        temporal_reduction: hidden units of the temporal attention are max(1, T / this).
        shortcut: the shortcut convolution of SRB; None: as the table says.
        refinement: the FRB; without it, and with `block` "sdb", the mean over time goes to the output convolution.
        beta: the neurons' decay a step; this and the next nine as for `LeakySequence`.
        threshold: the neurons'.
        reset_mechanism: "zero", "subtract" or "none".
        surrogate: "sigmoid", "atan" or "fast_sigmoid".
        alpha: the surrogate's.
        learn_beta: make the decay a parameter of each neuron layer.
        learn_threshold: likewise the threshold.
        detach_reset: keep gradients from flowing through the reset.
        decay_input: multiply the input by 1 − β.
        v_reset: the potential of rest.
        start_as_identity: see `EncoderDecoder`.
        rate_weight: what a training adds to its loss for each spike, see `restored_at_a_price`.

    Raises:
        ValueError: options that do not exist or do not go together.
    """

    authors_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        *SKELETON_KEYS,
        *ATTENTION_KEYS,
        (r"^down(\d)_\d\.maxpool_conv\.1\.", r"down\1.conv."),
        (r"^down(\d)_\d\.maxpool_conv\.2\.", r"down\1.norm."),
        (r"^up\d_(\d)\.up\.1\.", r"up\1.conv."),
        (r"^up\d_(\d)\.up\.2\.", r"up\1.norm."),
        (r"^reduce_chan_level2\.1\.", "join2.conv."),
        (r"^reduce_chan_level2\.2\.", "join2.norm."),
        (r"\.residual\.1\.", ".residual.0.conv."),
        (r"\.residual\.2\.", ".residual.0.norm."),
        (r"\.residual\.4\.", ".residual.1.conv."),
        (r"\.residual\.5\.", ".residual.1.norm."),
        (r"\.shortcut\.0\.", ".shortcut.conv."),
        (r"\.shortcut\.1\.", ".shortcut.norm."),
        (r"^refinement\.ca\.", "refinement.channel."),
        (r"^refinement\.sa\.", "refinement.spatial."),
        (r"^output\.0\.", "output."),
    )

    def __init__(
        self,
        dim: int = 48,
        encoder_blocks: Sequence[int] = (4, 4, 8),
        bottleneck_blocks: int = 2,
        decoder_blocks: Sequence[int] = (2, 2),
        time_steps: int = 4,
        block: str = "srb",
        norm: str | None = None,
        attention: bool | Sequence[str] | None = None,
        temporal_reduction: int = 4,
        shortcut: bool | None = None,
        refinement: bool = True,
        beta: float = 0.5,
        threshold: float = 0.15,
        reset_mechanism: str = "zero",
        surrogate: str = "sigmoid",
        alpha: float = 4.0,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        detach_reset: bool = False,
        decay_input: bool = False,
        v_reset: float = 0.0,
        start_as_identity: bool = False,
        rate_weight: float = 0.0,
    ) -> None:
        check_sizes(dim, encoder_blocks, bottleneck_blocks, decoder_blocks, time_steps)
        if block not in BLOCKS:
            raise ValueError(f"block must be one of {', '.join(BLOCKS)}, not {block!r}")
        if block in ("sdb", "sew", "ann") and (attention or shortcut):
            raise ValueError(
                f"block {block!r} has neither attention nor a shortcut convolution; srb and ms can"
            )
        if not 0 <= rate_weight < math.inf:
            raise ValueError(f"rate_weight must be a number of at least 0, not {rate_weight}")
        if block == "ann" and rate_weight:
            raise ValueError("block 'ann' has no spikes for rate_weight to price; it must be 0")
        if temporal_reduction < 1:
            raise ValueError(f"temporal_reduction must be at least 1, not {temporal_reduction}")
        check_neuron(threshold, beta, alpha)
        if block == "ann" and norm == "tdbn":
            raise ValueError("block 'ann' has no threshold for tdbn to depend on; norm must be bn")
        whole = block == "srb"
        kinds = _attention_kinds(whole if attention is None else attention)
        shortcut = whole if shortcut is None else shortcut
        refinement = refinement and block != "sdb"
        time_steps = 1 if block == "ann" else time_steps

        neuron = functools.partial(
            LeakySequence,
            beta=beta,
            threshold=threshold,
            reset_mechanism=reset_mechanism,
            surrogate=surrogate,
            alpha=alpha,
            learn_beta=learn_beta,
            learn_threshold=learn_threshold,
            detach_reset=detach_reset,
            decay_input=decay_input,
            v_reset=v_reset,
        )
        parts = Parts(
            activation=nn.ReLU if block == "ann" else neuron,
            norm=norm_maker(norm or ("bn" if block == "ann" else "tdbn"), threshold),
        )

        def make_block(channels: int) -> nn.Module:
            if block in ("sew", "ann"):
                return PostActivationBlock(parts, channels)
            unit = MixedAttention(channels, time_steps, kinds, temporal_reduction) if kinds else None
            return SpikingResidualBlock(parts, channels, unit, shortcut)

        def make_stage(channels: int, count: int) -> nn.Sequential:
            blocks = stage(make_block, channels, count)
            return nn.Sequential(neuron(), *blocks) if block == "sew" else blocks

        first, second, third = encoder_blocks
        super().__init__(
            dim,
            time_steps,
            parts,
            encoders=(make_stage(dim, first), make_stage(2 * dim, second), make_stage(4 * dim, third)),
            bottleneck=make_stage(4 * dim, bottleneck_blocks),
            decoders=(
                make_stage(2 * dim, decoder_blocks[0]),
                make_stage(dim if block == "sdb" else 2 * dim, decoder_blocks[1]),
            ),
            start_as_identity=start_as_identity,
            adding=block == "sdb",
        )
        self.refinement = FeatureRefinement(2 * dim) if refinement else nn.Identity()
        self.rate_weight = rate_weight

    def merge(self, frames: Tensor) -> Tensor:
        """Mean over time, refined."""
        return self.refinement(super().merge(frames))

    def restored_at_a_price(self, rainy: Tensor) -> tuple[Tensor, Tensor]:
        """The restored images, and what the spikes on the way add to the loss of a training.

        The price is `rate_weight` times the share of accumulates that spikes trigger, over all convolutions that
        follow a neuron of their unit: a spike costs as many as it reaches. With `block` "sew" those inside the blocks,
        whose neurons follow them, are not priced. Gradients flow to it through the surrogate.
        """
        triggered, dense = [], 0.0
        units = [unit for unit in self.modules() if isinstance(unit, (SpikeConv, SpikeUp))]

        def see(reach: float, spikes: Tensor) -> None:
            nonlocal dense
            triggered.append(reach * spikes.sum())
            dense += reach * spikes.numel()

        handles = [
            unit.activation.register_forward_hook(lambda *seen, reach=unit.reach: see(reach, seen[-1]))
            for unit in units
        ]
        try:
            restored = self(rainy)
        finally:
            for handle in handles:
                handle.remove()
        return restored, self.rate_weight * torch.stack(triggered).sum() / dense


class ESDNetS(ESDNet):
    """ESDNet without real-valued products inside: a design of this suite, not of the paper.

    Of ESDNet's multiply-accumulates nearly all are those of the shortcut convolutions, which see real values. Here
    only the first and the last convolution do. In between

    - a block is x + SCU(SCU(x)): the shortcut is the identity from membrane to membrane, and there is no attention;
    - what comes up from a level below is added to what the encoder gave, with no join after it;
    - a neuron fires before its frames are enlarged, by a transposed convolution;
    - there is no refinement block;
    - the first convolution is done once, and what it gives is a constant current of the first neurons;
    - the training pays for spikes (`rate_weight`).

    Norms fold into the convolutions before them at test time, so that what runs is spikes, additions and neurons.

    Args:
        dim, encoder_blocks, bottleneck_blocks, decoder_blocks, time_steps: as for `ESDNet`.
        rate_weight: as for `ESDNet`.
        norm, beta, threshold, reset_mechanism, surrogate, alpha, learn_beta, learn_threshold, detach_reset: likewise.
        start_as_identity: see `EncoderDecoder`.
    """

    def __init__(
        self,
        dim: int = 48,
        encoder_blocks: Sequence[int] = (4, 4, 8),
        bottleneck_blocks: int = 2,
        decoder_blocks: Sequence[int] = (2, 2),
        time_steps: int = 4,
        rate_weight: float = 0.05,
        norm: str | None = None,
        beta: float = 0.5,
        threshold: float = 0.15,
        reset_mechanism: str = "zero",
        surrogate: str = "sigmoid",
        alpha: float = 4.0,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        detach_reset: bool = False,
        start_as_identity: bool = False,
    ) -> None:
        super().__init__(
            dim,
            encoder_blocks,
            bottleneck_blocks,
            decoder_blocks,
            time_steps,
            block="sdb",
            norm=norm,
            beta=beta,
            threshold=threshold,
            reset_mechanism=reset_mechanism,
            surrogate=surrogate,
            alpha=alpha,
            learn_beta=learn_beta,
            learn_threshold=learn_threshold,
            detach_reset=detach_reset,
            start_as_identity=start_as_identity,
            rate_weight=rate_weight,
        )


def _attention_kinds(attention: bool | Sequence[str]) -> tuple[str, ...]:
    if isinstance(attention, bool):
        return MixedAttention.KINDS if attention else ()
    for kind in attention:
        if kind not in MixedAttention.KINDS:
            raise ValueError(f"attention must be of {', '.join(MixedAttention.KINDS)}, not {kind!r}")
    return tuple(attention)
