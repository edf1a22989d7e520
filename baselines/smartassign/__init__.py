"""SmartAssign, rebuilt: learned gates assign deep features to the tasks of deraining and desnowing.

Wang, Ma and Liu, "SmartAssign: Learning a Smart Knowledge Assignment Strategy for Deraining and Desnowing",
CVPR 2023.

No specification and no code of it could be obtained. The authors of ESDNet rebuilt it too, and print 1.359 M
parameters and 90.386 G multiply-accumulates for a 256×256 image. **This is a rebuilding, not the authors'
network**; tables call it "SmartAssign (rebuilt)".

What is known and kept: two tasks, deraining and desnowing, learn together; gates assign to each a share of
the knowledge (deep features) of both; a contrast term keeps what is assigned apart; the block mixes
long-range attention with local convolution; 1.379 M multiply-accumulates a pixel against 1.359 M parameters,
so that each weight is used once for each pixel of the image: full resolution throughout, no recurrence.

What was decided here:

1.  Long range: Restormer's attention among channels. Each of its C² / heads similarities is taken over all
    pixels, so it reaches as far as the image, and its cost grows with the number of pixels and not with its
    square; a 512×512 image needs about 1.4 GB. Local: a plain 3×3 convolution, then GELU. Both see the same
    normalised features, in parallel, and are added to the input. A gated feed-forward follows, as in
    Restormer.
2.  Sizes: 48 channels, 24 blocks in four groups of six, three heads of 16 channels, feed-forward of 150
    hidden channels. They give 1,358,244 parameters and 90.559 G multiply-accumulates (-0.06 % and +0.19 % of
    the printed figures).
3.  Knowledge: the outputs of the four groups, 4·48 feature maps.
4.  Gates: the means of all maps over the image, through a layer to 12 units and ReLU, common to both tasks;
    then for each task a layer and a sigmoid give a number in (0, 1) for each map. The two tasks' gates are
    independent (no softmax between them), so that a map may serve both, one or neither.
5.  Each task multiplies the maps by its gates; one 1×1 convolution, common to both, merges them to 48, the
    first convolution's features are added, and a 3×3 convolution of the task's own predicts what to take off
    the rainy image.
6.  Deraining data have no snow. The desnowing share is therefore not supervised with images of its own; what
    it would take away is the negative example of the contrast term (recipe `authors`, loss `smartassign`):
    the rain taken away must look like the true rain and unlike what the desnowing share takes away.
7.  `forward` runs the deraining task alone; the desnowing gates and its last convolution (3,792 parameters)
    serve training.
8.  Optimiser and schedule: see the recipe `authors/smartassign`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines._layers import ChannelNorm, GatedFeedForward, TransposedAttention, conv1x1, conv3x3


class MixedBlock(nn.Module):
    """Attention among channels beside a 3×3 convolution, then the gated feed-forward; both with a shortcut.

    x ─► norm ─┬─► attention among channels ─► + ─► + x ─► norm ─► feed-forward ─► +
               └─► conv 3×3, GELU ─────────────┘
    """

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.mix_norm = ChannelNorm(channels)
        self.attention = TransposedAttention(channels, heads)
        self.local = conv3x3(channels, channels)
        self.feed_norm = ChannelNorm(channels)
        self.feed = GatedFeedForward(channels, int(channels * expansion), nn.GELU())

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        normal = self.mix_norm(features)
        features = features + self.attention(normal) + F.gelu(self.local(normal))
        return features + self.feed(self.feed_norm(features))


class Assignment(nn.Module):
    """Decides, image by image, how much of each feature map each task gets.

    Args:
        maps: feature maps to assign.
        hidden: units of the layer that the tasks share.
        tasks: how many.
    """

    def __init__(self, maps: int, hidden: int, tasks: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(maps, hidden)
        self.gates = nn.ModuleList(nn.Linear(hidden, maps) for _ in range(tasks))

    def forward(self, knowledge: Tensor, task: int) -> Tensor:
        """(N, maps, H, W) to the same shape: the maps times the task's gates."""
        summary = F.relu(self.squeeze(knowledge.mean(dim=(-2, -1))))
        return knowledge * torch.sigmoid(self.gates[task](summary))[:, :, None, None]


class SmartAssign(nn.Module):
    """SmartAssign (rebuilt); the module's docstring lists what is known and what was decided.

        rainy ─► conv ─► group 1 ─► group 2 ─► group 3 ─► group 4
                  │         └──────────┴────┬─────┴──────────┘
                  │                         ├─► gates: rain ─► merge ─► + ─► conv ─► rain ─► rainy - rain
                  │                         └─► gates: snow ─► merge ─► + ─► conv ─► snow ─► rainy - snow
                  └─────────────────────────────────────────────────────┘

    Works in any size.

    Args:
        channels: width everywhere; divisible by `heads` and by 4.
        groups: of blocks; the output of each is knowledge to assign.
        blocks: in each group.
        heads: of the attention.
        expansion: the feed-forward's hidden width is channels · expansion.
        start_as_identity: make the initial weights of the two last convolutions a hundredth of torch's
            default, so that training starts from the rainy image; short trainings need it.
    """

    def __init__(
        self,
        channels: int = 48,
        groups: int = 4,
        blocks: int = 6,
        heads: int = 3,
        expansion: float = 3.125,
        start_as_identity: bool = False,
    ) -> None:
        super().__init__()
        self.extract = conv3x3(3, channels)
        self.groups = nn.ModuleList(
            nn.Sequential(*(MixedBlock(channels, heads, expansion) for _ in range(blocks)))
            for _ in range(groups)
        )
        self.assign = Assignment(groups * channels, channels // 4, tasks=2)
        self.merge = conv1x1(groups * channels, channels)
        self.rain = conv3x3(channels, 3)
        self.snow = conv3x3(channels, 3)
        if start_as_identity:
            self.rain.weight.data.mul_(0.01)
            self.snow.weight.data.mul_(0.01)

    def _knowledge(self, rainy: Tensor) -> tuple[Tensor, Tensor]:
        shallow = features = self.extract(rainy)
        knowledge = []
        for group in self.groups:
            features = group(features)
            knowledge.append(features)
        return shallow, torch.cat(knowledge, dim=1)

    def training_outputs(self, rainy: Tensor) -> list[Tensor]:
        """The rainy image less what the desnowing share takes away, and the restored image, the last."""
        shallow, knowledge = self._knowledge(rainy)
        rain = self.rain(shallow + self.merge(self.assign(knowledge, 0)))
        snow = self.snow(shallow + self.merge(self.assign(knowledge, 1)))
        return [rainy - snow, rainy - rain]

    def forward(self, rainy: Tensor) -> Tensor:
        """Restore (N, 3, H, W) images in [0, 1]; unclamped."""
        shallow, knowledge = self._knowledge(rainy)
        return rainy - self.rain(shallow + self.merge(self.assign(knowledge, 0)))
