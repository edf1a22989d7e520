"""The images that spike rates are measured on: photographs, never noise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from benchmark.data.specs import DATASETS
from benchmark.errors import UserError

Images = Tensor | str | Path | Iterable[Tensor] | None
"""One tensor (N, 3, H, W) in [0, 1], a picture or folder, the name of a dataset, tensors of one image each, or
the built-in photograph."""

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def pictures(given: Images, size: tuple[int, int], limit: int | None = None) -> tuple[list[Tensor], str]:
    """Inputs of one image each, and in words where they come from.

    Raises:
        UserError: there is no such file or folder, it has no pictures, or a tensor has no images.
    """
    if given is None:
        return [photograph(size)], "a photograph (scikit-image's astronaut)"
    if isinstance(given, Tensor):
        images = [x[None] for x in given[:limit]] if given.ndim else []
        source = "a tensor"
    elif isinstance(given, str | Path):
        if str(given) in DATASETS and not Path(given).exists():
            images, kind = _rainy(str(given), size, limit), "rainy test picture"
        else:
            images, kind = [_read(f, size) for f in _files(Path(given))[:limit]], "picture"
        source = f"{len(images)} {kind}{'s' if len(images) > 1 else ''} of {given}"
    else:
        images = list(given)[:limit]
        source = f"{len(images)} tensors"
    if not images:
        raise UserError("measure_cost: images is empty: give at least one, or leave it out for a photograph")
    return images, source


def photograph(size: tuple[int, int]) -> Tensor:
    """The built-in photograph, (1, 3, *size) in [0, 1]: a centre crop, enlarged first where 512 pixels do not
    do."""
    from skimage import data

    return _fit(torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[None].float() / 255, size)


def _fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    scale = max(size[0] / image.shape[-2], size[1] / image.shape[-1])
    if scale > 1:
        target = [max(s, round(n * scale)) for s, n in zip(size, image.shape[-2:], strict=True)]
        image = torch.nn.functional.interpolate(image, target, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (image.shape[-2] - size[0]) // 2, (image.shape[-1] - size[1]) // 2
    return image[..., top : top + size[0], left : left + size[1]].contiguous()


def _rainy(dataset: str, size: tuple[int, int], limit: int | None) -> list[Tensor]:
    from benchmark.data import open_pairs

    pairs = open_pairs(dataset, None, "test")
    return [_fit(pairs[n]["rainy"][None], size) for n in range(min(len(pairs), limit or len(pairs)))]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"images {path}: no such file, folder or dataset")
    found = sorted(f for f in path.rglob("*") if f.suffix.lower() in _SUFFIXES)
    if not found:
        raise UserError(f"images {path}: no pictures in it ({', '.join(sorted(_SUFFIXES))})")
    return found


def _read(path: Path, size: tuple[int, int]) -> Tensor:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"images {path}: not a readable picture: {error}") from None
    return _fit(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255, size)
