"""PIQE and MetaIQA: quality of a picture without its clean counterpart, through pyiqa.

PIQE (0 … 100, lower is better) needs no weights. MetaIQA (0 … 1, higher is better) takes a file of the
user's; nothing is ever downloaded. pyiqa is imported when a function is called.

Two implementations of PIQE differ by 0.6 on the median picture and up to 3, more than most printed
differences between
networks: say which was used. "pyiqa" is that package's own. "reference" is the published algorithm as MATLAB
    and Octave
compute it: pyiqa's functions in float64 around which two departures are undone,

1. it pads W mod 16 instead of −W mod 16 pixels and then drops the incomplete blocks on the right and below;
2. it does not round grey levels to 8 bits before scaling them to the picture's maximum.

MetaIQA resizes the whole picture to 224 × 224 with torch's bilinear interpolation without antialiasing, RGB,
as pyiqa does; the authors' skimage resizing or BGR input gives other scores (0.23 against 0.21 on one
picture).
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmark.errors import UserError, unknown
from benchmark.files import home
from benchmark.metrics.fidelity import check_picture, to_8_bit
from benchmark.reading import path as expanded

PIQE_IMPLEMENTATIONS = ("pyiqa", "reference")
METAIQA_VARIABLE = "DERAIN_METAIQA"
METAIQA_FILES = ("metaiqa.pth", "Metaiqa_livec.pth", "Metaiqa_prior.pth")
BLOCK = 16


def piqe(image: Tensor, implementation: Literal["pyiqa", "reference"] = "pyiqa") -> Tensor:
    """Perception-based image quality evaluator (Venkatanath et al. 2015), one score an image, lower is
    better.

    Args:
        image: (N, 3, H, W) in [0, 1], H and W of at least 16.
        implementation: "pyiqa", or "reference" (the published algorithm; see above).

    Returns:
        (N,) float64, 0 … 100; 100 where no block of the picture has any detail.

    Raises:
        ValueError: not such a tensor (a network's output may leave [0, 1]: clamp it).
        UserError: no such implementation.
    """
    if implementation not in PIQE_IMPLEMENTATIONS:
        raise unknown("PIQE implementation", implementation, PIQE_IMPLEMENTATIONS)
    check_picture(image, "image")
    if min(image.shape[-2:]) < BLOCK:
        raise ValueError(f"PIQE needs pictures of at least {BLOCK}×{BLOCK} pixels, not {tuple(image.shape)}")
    scores = _piqe_function()
    with torch.no_grad():
        if implementation == "pyiqa":
            pictures = image.clamp(0, 1).float()
        else:
            red, green, blue = to_8_bit(image).unbind(1)
            # BT.601 luma with the digits of MATLAB's rgb2gray
            grey = 0.298936021293775 * red + 0.587043074451121 * green + 0.114020904255103 * blue
            pictures = _mirrored_to_blocks(torch.floor(grey + 0.5)[:, None] / 255)
        # an all-black picture would be divided by its maximum; any even picture scores the same
        black = pictures.flatten(1).amax(1) == 0
        pictures = torch.where(black[:, None, None, None], torch.ones_like(pictures), pictures)
        return scores(pictures)[0].double()


def metaiqa(image: Tensor, checkpoint: str | Path | None = None) -> Tensor:
    """MetaIQA (Zhu et al., CVPR 2020), one score an image, higher is better.

    Args:
        image: (N, 3, H, W) in [0, 1].
        checkpoint: the weights; None looks at the environment variable DERAIN_METAIQA and into the cache
            folders (see `metaiqa_checkpoint`).

    Returns:
        (N,) float64, 0 … 1.

    Raises:
        ValueError: not such a tensor (a network's output may leave [0, 1]: clamp it).
        UserError: no weights (with how to get them), or a file that is not MetaIQA's.
    """
    check_picture(image, "image")
    path = metaiqa_checkpoint(checkpoint)
    network = _metaiqa_network(path, path.stat().st_mtime_ns).to(image.device)
    with torch.no_grad():
        return network(image.clamp(0, 1).float())[:, 0].double()


def metaiqa_checkpoint(checkpoint: str | Path | None = None) -> Path:
    """The file of MetaIQA's weights: the one given, else the environment variable's, else one in a cache
    folder.

    The cache folders are derain's own (`$XDG_CACHE_HOME/derain`, `~/.cache/derain`) and pyiqa's, for who has
    used pyiqa.

    Raises:
        UserError: there is none; says how to get it.
    """
    named = checkpoint or os.environ.get(METAIQA_VARIABLE)
    if named:
        path = Path(expanded(str(named)))
        if not path.is_file():
            origin = "" if checkpoint else f" (from {METAIQA_VARIABLE})"
            raise UserError(f"MetaIQA checkpoint {path}{origin}: no such file")
        return path
    cache = Path(os.environ.get("XDG_CACHE_HOME") or (home() or Path("/")) / ".cache")
    for folder in (cache / "derain", Path(torch.hub.get_dir()) / "pyiqa"):
        for name in METAIQA_FILES:
            if (folder / name).is_file():
                return folder / name
    raise UserError(
        "MetaIQA needs its weights, which are not fetched: put pyiqa's Metaiqa_livec.pth (or the authors' "
        f"state_dict) into {cache / 'derain'}, or name it by {METAIQA_VARIABLE} or metaiqa.checkpoint="
    )


@functools.cache
def _piqe_function() -> Any:
    from pyiqa.archs.piqe_arch import piqe as scores

    return scores


@functools.lru_cache(maxsize=2)
def _metaiqa_network(path: Path, modified: int) -> nn.Module:
    """The network with the weights in `path`; `modified` makes a replaced file be read again."""
    from pyiqa.archs.metaiqa_arch import MetaIQA

    from benchmark.checkpoints import read_checkpoint, weights_of

    weights = weights_of(read_checkpoint(path), f"MetaIQA checkpoint {path}")
    network = MetaIQA(pretrained=False)
    # the authors call the head `net`; mean and standard deviation of the colours are in no file of theirs
    renamed = {re.sub(r"^(net_g\.)?net\.", "head.", k).removeprefix("net_g."): v for k, v in weights.items()}
    constants = {name: value for name, value in network.named_buffers() if name in ("mean", "std")}
    try:
        network.load_state_dict({**constants, **renamed}, strict=True)
    except RuntimeError as error:
        faults = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(f"MetaIQA checkpoint {path} is of another network: {faults[0][:160]}") from None
    return network.eval()


def _mirrored_to_blocks(image: Tensor) -> Tensor:
    """Extend (N, 1, H, W) to multiples of the block by mirroring with the edge pixel."""
    for dim in (-2, -1):
        size = image.shape[dim]
        missing = -size % BLOCK
        image = torch.cat([image, image.narrow(dim, size - missing, missing).flip(dim)], dim)
    return image
