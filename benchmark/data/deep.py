"""Pictures whose numbers the ordinary decoder does not hand over as 8-bit RGB: 16 bits, 10 to 14, unusual planes.

Each function gives what is meant in 8 bits, rounded once: round(255 · v / peak), alpha composited over white before
that; or None where the ordinary decoder is right. Every row was tested against another decoder (tests):

| content | decoded by |
| --- | --- |
| PNG of 16 bits a channel; grey of 2 or 4 bits with a transparent grey | libpng |
| TIFF of 10 to 16 bits; in planes; inverted (MinIsWhite); with straight or premultiplied alpha; CMYK | tifffile |
| JPEG 2000 of 9 to 16 bits | OpenJPEG |
| PGM of a maximum above 255 | Pillow, its scaling to 16 bits taken back |
"""

from __future__ import annotations

import io
import logging
import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.errors import UserError

Picture = NDArray[np.uint8]

TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _CMYK = 0, 1, 2, 5
_PHOTOMETRIC = {_MIN_IS_WHITE: 1, _MIN_IS_BLACK: 1, _RGB: 3, _CMYK: 4}  # numbers of colours
_TIFF_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_KINDS = {1: "integer", 2: "signed integer", 3: "floating-point", 5: "complex integer", 6: "complex"}
_PREMULTIPLIED, _STRAIGHT = 1, 2
_MOST_SAMPLES = 16
_ROWS_OF = 1 << 20  # pixels that are worked on at a time


def scaled(values: NDArray[Any], peak: int, colours: int, alpha: int = 0, inverted: bool = False) -> Picture:
    """(H, W, C) integers from 0 to `peak` as 8-bit RGB.

    Args:
        values: `colours` channels, then alpha if there is any; others behind are ignored.
        peak: what stands for white.
        colours: 1 (grey), 3 (RGB) or 4 (CMYK, which has no alpha here).
        alpha: 0 none, 1 premultiplied, 2 straight; over white.
        inverted: 0 stands for white.
    """
    height, width = values.shape[:2]
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _ROWS_OF // max(1, width))
    for top in range(0, height, rows):
        part = values[top : top + rows]
        colour = part[..., :colours].astype(np.uint64)
        if inverted:
            colour = peak - np.minimum(colour, peak)
        scale = peak
        if alpha and colours != 4:
            opacity = np.minimum(part[..., colours : colours + 1].astype(np.uint64), peak)
            clear = peak * (peak - opacity)
            colour = colour * (opacity if alpha == _STRAIGHT else peak) + clear
            scale = peak * peak
        levels = np.minimum((510 * colour + scale) // (2 * scale), 255).astype(np.uint8)
        if colours == 4:
            levels = np.asarray(
                Image.frombytes("CMYK", (width, len(levels)), levels.tobytes()).convert("RGB")
            )
        out[top : top + rows] = levels
    return out


def png(data: bytes) -> Picture | None:
    """A PNG of 16 bits a channel, or grey of few bits with a transparent level; None: any other.

    Raises:
        ValueError, RuntimeError: damaged.
    """
    if len(data) < 26 or not data.startswith(b"\x89PNG"):
        return None
    depth, colour = data[24], data[25]
    few = depth in (2, 4) and colour == 0 and b"tRNS" in data[: data.find(b"IDAT")]
    if depth != 16 and not few:
        return None
    values = imagecodecs.png_decode(data)  # a transparent colour becomes an alpha channel
    if values.ndim == 2:
        values = values[..., None]
    channels = values.shape[2]
    peak = 65535 if values.dtype == np.uint16 else 255
    return scaled(values, peak, 1 if channels < 3 else 3, _STRAIGHT if channels in (2, 4) else 0)


def pgm(image: Image.Image) -> Picture | None:
    """A PGM or PPM whose maximum is above 255, opened by Pillow and in its mode I; None: any other."""
    if image.format != "PPM" or image.mode != "I":
        return None
    tile: Any = image.tile[0]  # type: ignore[attr-defined]
    peak = (
        65535
        if tile.codec_name == "raw"
        else int(tile.args[-1] if isinstance(tile.args, tuple) else tile.args)
    )
    of_16_bits = np.asarray(image).astype(np.uint64)
    values = (2 * of_16_bits * peak + 65535) // (2 * 65535)  # as they stand in the file: the scale is above 1
    return scaled(values[..., None], peak, 1)


def _jpeg2000_components(data: bytes) -> list[bytes]:
    """What the codestream's header says of each component (three bytes); empty where it is not there."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 42:
        return []
    (count,) = struct.unpack_from(">H", data, start + 40)
    parts = [data[start + 42 + 3 * i : start + 45 + 3 * i] for i in range(count)]
    return [] if any(len(p) < 3 for p in parts) else parts


def jpeg2000_depths(data: bytes) -> list[int]:
    """Bits of each component of a JPEG 2000; empty where the header does not say."""
    return [(part[0] & 0x7F) + 1 for part in _jpeg2000_components(data)]


def jpeg2000(data: bytes) -> Picture | None:
    """A JPEG 2000 of more than 8 bits a component; None: any other.

    Raises:
        UserError: signed or subsampled components, or of different depths.
        ValueError, RuntimeError: damaged.
    """
    parts = _jpeg2000_components(data)
    if not parts:
        return None
    count, bits = len(parts), set(jpeg2000_depths(data))
    signed = any(p[0] & 0x80 for p in parts)
    if not signed and max(bits) <= 8:
        return None
    whole = all(p[1:] == b"\1\1" for p in parts)
    if signed or len(bits) > 1 or max(bits) > 16 or not whole or count not in (1, 2, 3, 4):
        what = "signed numbers" if signed else f"{max(bits)} bits in {count} components"
        raise UserError(f"JPEG 2000 of {what} has no agreed range here; save it as 8-bit RGB")
    values = imagecodecs.jpeg2k_decode(data)
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] != count:
        raise ValueError(f"decoded to {values.shape}")
    peak = 2 ** max(bits) - 1
    return scaled(values, peak, 1 if count < 3 else 3, _STRAIGHT if count in (2, 4) else 0)


class Tiff:
    """The first page of a TIFF that the ordinary decoder does not read right; so far its header alone is read."""

    def __init__(self, data: bytes, by_pillow: Image.Image | None = None) -> None:
        import tifffile

        # what it remarks of a damaged file is told in one line by who reads it
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)
        self._file = tifffile.TiffFile(io.BytesIO(data))
        pages = self._file.pages
        page: Any = pages.first
        self.by_pillow = by_pillow  # knows EXIF and profile
        self._page = page
        self.height, self.width = int(page.imagelength), int(page.imagewidth)
        orientation = page.tags.get(0x0112)
        value = orientation.value if orientation is not None else 1
        self.orientation = value if isinstance(value, int) and 1 <= value <= 8 else 1
        self.pages = len(pages)
        self._samples = int(page.samplesperpixel)

    @property
    def bits(self) -> int:
        """Of a channel, the most."""
        return int(np.ravel(self._page.bitspersample).max())

    @property
    def alpha(self) -> int:
        """0 none, 1 premultiplied, 2 straight."""
        extra = [int(v) for v in np.ravel(self._page.extrasamples)] if self._page.extrasamples else []
        return extra[0] if extra and extra[0] in (_PREMULTIPLIED, _STRAIGHT) else 0

    def require_range(self) -> None:
        """Refuse pixels that have no agreed range.

        Raises:
            UserError: signed, floating point, more than 16 bits, Lab and the like.
        """
        page = self._page
        kinds = {int(v) for v in np.ravel(page.sampleformat)}
        bits = {int(v) for v in np.ravel(page.bitspersample)}
        kind = _KINDS.get(next(iter(kinds)), f"kind {next(iter(kinds))}") if len(kinds) == 1 else "mixed"
        photometric = int(page.photometric)
        if kinds != {1} or max(bits) > 16:
            raise UserError(
                f"{max(bits)}-bit {kind} pixels have no agreed range; save it as 8- or 16-bit RGB"
            )
        if photometric not in _PHOTOMETRIC or len(bits) != 1 or self._samples > _MOST_SAMPLES:
            name = getattr(page.photometric, "name", photometric)
            raise UserError(f"TIFF of {name}, {max(bits)} bits, is not read; save it as 8- or 16-bit RGB")

    def decode(self) -> Picture:
        """Its pixels, not turned upright.

        Raises:
            UserError: as `require_range`.
            ValueError, RuntimeError: damaged.
        """
        self.require_range()
        page = self._page
        values = np.asarray(page.asarray())
        if int(page.planarconfig) == 2 and self._samples > 1:
            values = np.moveaxis(values, 0, -1)
        values = values.reshape(self.height, self.width, self._samples)
        photometric = int(page.photometric)
        bits = int(np.ravel(page.bitspersample)[0])
        alpha = self.alpha
        inverted = photometric == _MIN_IS_WHITE
        if self._samples < _PHOTOMETRIC[photometric] or (inverted and alpha == _PREMULTIPLIED):
            raise ValueError(f"{self._samples} samples a pixel")
        return scaled(values, 2**bits - 1, _PHOTOMETRIC[photometric], alpha, inverted)


def is_read_by_pillow(image: Image.Image) -> bool:
    """Whether Pillow reads this TIFF right."""
    if image.mode not in _TIFF_MODES:
        return False
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits, kinds = np.ravel(tags.get(258, 1)), np.ravel(tags.get(339, 1))
    grey_apart = tags.get(284, 1) == 2 and tags.get(277, 1) == 2
    return bool(bits.max() <= 8 and set(kinds.tolist()) <= {1, 4} and not grey_apart)


def tiff(data: bytes, image: Image.Image | None) -> Tiff | None:
    """The reader of a TIFF that Pillow (which opened it, or could not) does not read right; None: any other picture.

    Raises:
        Exception: whatever a damaged file makes the parser raise.
    """
    if not data.startswith(TIFF_BEGINNINGS) or (image is not None and is_read_by_pillow(image)):
        return None
    return Tiff(data, image)
