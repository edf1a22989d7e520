"""Reading and writing pictures: whatever is in the file, one kind of array comes out, or one clear line.

`read_image` looks at the content, never at the extension, and gives uint8 (H, W, 3) RGB:

| content | outcome |
| --- | --- |
| grey, palette, black and white | repeated or looked up into RGB |
| 16 bits a channel | scaled to 8: round(v / 257). Grey + alpha and TIFF colour: v // 256 (at most 1 off) |
| alpha, or a transparent colour | composited over white (opaque pixels do not change) |
| CMYK, YCbCr | converted to RGB by Pillow's plain formula, without colour management |
| RGB with an ICC profile | the numbers as stored: metrics compare numbers |
| EXIF orientation | applied, so the array is upright |
| a photograph with a second picture behind it (MPO) | the first, which is the photograph |
| animated GIF, PNG, WebP; TIFF with several pages | refused: which frame is meant is the user's to say |
| 32-bit integer or float, Lab | refused: no agreed range |
| more than `MAX_PIXELS` | refused before anything is decoded (a decompression bomb) |
| 0 bytes, truncated, damaged, not a picture | refused |
| wrong extension, Unicode or long names, 1×1 | read |
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.errors import UserError
from benchmark.files import atomic

Picture = NDArray[np.uint8]

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
    | {".jp2"}
)
"""What a file is called that `list_images` takes for a picture."""

MAX_PIXELS = 1024 * 1024 * 1024 // 12
"""Largest picture that is read, in pixels (89 million, Pillow's own threshold; 8K is 33 million)."""

MAX_BYTES = 1 << 30

# Formats that Pillow decodes itself; EPS and the like, which call other programs, are left out on purpose.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "JPEG2000")
_WRITTEN = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
_ORIENTATION = 0x0112

# MAX_PIXELS refuses, in one line, everything that Pillow would only warn of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# damaged EXIF blocks and the like: what matters of them becomes a UserError
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True)
class Metadata:
    """What travels with a picture from file to file: EXIF (without orientation) and the RGB ICC profile."""

    exif: bytes | None = None
    icc_profile: bytes | None = None


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder, not a picture")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path}: {size / 2**30:.1f} GiB is too large for a picture (limit 1 GiB)")
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not data:
        raise UserError(f"{path}: is empty (0 bytes); copy or download it again")
    return data


def _not_a_picture(path: Path, data: bytes) -> UserError:
    start = data[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return UserError(f"{path}: is a Git LFS pointer, not the picture; run 'git lfs pull'")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return UserError(f"{path}: is a web page or XML, not a picture; the download failed")
    if data.startswith(_BEGINNINGS):
        return UserError(f"{path}: is truncated or damaged; copy or download it again")
    return UserError(f"{path}: is not a picture (PNG, JPEG, BMP, GIF, PPM, WebP, TIFF, JPEG 2000)")


def _open(path: Path, data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.UnidentifiedImageError:
        raise _not_a_picture(path, data) from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: more than {MAX_PIXELS / 1e6:.0f} million pixels; refused") from None
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        raise UserError(f"{path}: is damaged: {_short(error)}") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width}×{height} exceeds {MAX_PIXELS / 1e6:.0f} million pixels; refused")
    if width == 0 or height == 0:
        raise UserError(f"{path}: is damaged: {width}×{height} pixels")
    return image


def _short(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return words[:120] if words else type(error).__name__


def _orientation(image: Image.Image, content: BinaryIO) -> int:
    """What is left to be done to turn the picture upright; Pillow itself turns TIFF, its size included.

    Pillow decodes a PNG's pixels to see what stands behind them: it is asked to only where there is something.
    """
    if image.format == "TIFF":
        return 1
    header_only = image.format == "PNG" and not _says_more(content)
    # a damaged EXIF block says nothing about the pixels: they are taken as they stand
    try:
        exif = Image.Image.getexif(image) if header_only else image.getexif()
        value = exif.get(_ORIENTATION, 1)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
    except Exception:
        return 1


def _says_more(content: BinaryIO) -> bool:
    """Whether a PNG has chunks behind its pixels that may hold an orientation."""
    content.seek(8)
    pixels = False
    while len(head := content.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            return True
        pixels = pixels or kind == b"IDAT"
        content.seek(length + 4, io.SEEK_CUR)
    return False


def _upright(array: Picture, orientation: int) -> Picture:
    if orientation >= 5:
        array = array.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(array[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


def _eight_bits(values: NDArray[Any]) -> Picture:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _sixteen_bit_colour(image: Image.Image, data: bytes) -> Picture | None:
    """(H, W, 3 or 4) of a 16-bit RGB(A) PNG, rounded; None where it is something else.

    Pillow keeps the high byte alone; decoding once more with the bytes taken in the other order gives the
    low one.
    """
    if image.format != "PNG" or len(data) < 26 or data[24] != 16 or data[25] not in (2, 6):
        return None
    mode = "RGB" if data[25] == 2 else "RGBA"
    planes = []
    for raw in (f"{mode};16B", f"{mode};16L"):
        again: Any = Image.open(io.BytesIO(data), formats=("PNG",))
        again.tile = [tile._replace(args=raw) for tile in again.tile]
        planes.append(np.asarray(again, dtype=np.uint32))
    return _eight_bits(planes[0] * 256 + planes[1])


def _over_white(rgba: Picture) -> Picture:
    alpha = rgba[..., 3:].astype(np.uint32)
    colour = rgba[..., :3].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _decode(path: Path, image: Image.Image, data: bytes) -> Picture:
    array: Picture
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise UserError(f"{path}: holds values outside 0…65535; save it with 8 or 16 bits a channel")
        return np.repeat(_eight_bits(grey)[..., None], 3, axis=2)
    if image.mode in ("I", "F", "LAB"):
        raise UserError(f"{path}: pixels of mode {image.mode} have no agreed range; save it as 8-bit RGB")
    deep = _sixteen_bit_colour(image, data)
    if deep is not None:
        if deep.shape[2] == 3 and "transparency" not in image.info:
            return deep
        if deep.shape[2] == 4:
            return _over_white(deep)
    if image.has_transparency_data:
        return _over_white(np.asarray(image.convert("RGBA")))
    array = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return array


def _whole_png(path: Path, data: bytes) -> None:
    """Check the chunks' checksums: Pillow shows flipped bits inside the pixels as if they were meant."""
    view = memoryview(data)
    position, compressed, ended = 8, 0, False
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break  # truncated: the decoder decides whether the pixels are complete
        if zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise UserError(f"{path}: is damaged (a checksum does not match); copy or download it again")
        kind = data[position + 4 : position + 8]
        compressed += length if kind in (b"IDAT", b"fdAT") else 0
        if kind == b"IEND":
            ended = True
            break
        position = end + 4
    # deflate packs at most 1032 to 1, and Pillow leaves black what is missing at the end of a closed stream
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    if ended and height * (width * bits // 8) > 1032 * compressed + 1024:
        raise UserError(f"{path}: is damaged (too little data for {width}×{height} pixels)")


def _ordinary_png(image: Image.Image, data: bytes) -> Picture | None:
    """Pixels of a PNG of 8-bit RGB by libpng, in half of Pillow's time; None: Pillow is to decide what it is."""
    eight_bit_rgb = data[24:26] == b"\x08\x02"
    if image.format != "PNG" or not eight_bit_rgb or image.has_transparency_data:
        return None
    try:
        array: Picture = imagecodecs.png_decode(data)
    except (imagecodecs.PngError, ValueError):
        return None
    return array if array.shape == (image.height, image.width, 3) and array.dtype == np.uint8 else None


def read_image(path: str | Path) -> Picture:
    """A picture as uint8 (H, W, 3) RGB, upright, writable, contiguous; see the table above.

    Raises:
        UserError: the file is missing, unreadable, damaged, too large, animated or not a picture.
    """
    path = Path(path)
    data = _content(path)
    image = _open(path, data)
    if image.format == "PNG":
        _whole_png(path, data)
    try:
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames != 1:
            raise UserError(f"{path}: holds {frames} frames or pages; save the one you mean by itself")
        orientation = _orientation(image, io.BytesIO(data))
        quick = _ordinary_png(image, data)
        array = _decode(path, image, data) if quick is None else quick
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path}: {image.width}×{image.height} pixels do not fit into memory") from None
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        raise UserError(f"{path}: is truncated or damaged: {_short(error)}") from None
    array = _upright(array, orientation)
    return array if array.flags.writeable else array.copy()


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of a picture as `read_image` would give it, from its header: nothing is decoded.

    Raises:
        UserError: as `read_image`, except that damage behind the header is not seen.
    """
    path = Path(path)
    try:
        with (
            path.open("rb") as file,
            path.open("rb", buffering=0) as content,
            Image.open(file, formats=_FORMATS) as image,
        ):
            width, height = image.size
            turned = _orientation(image, content) >= 5
        if 0 < width * height <= MAX_PIXELS:
            return (width, height) if turned else (height, width)
    except Exception:  # the slow way below says what is wrong
        pass
    data = _content(path)
    opened = _open(path, data)
    turned = _orientation(opened, io.BytesIO(data)) >= 5
    return (opened.width, opened.height) if turned else (opened.height, opened.width)


def read_metadata(path: str | Path) -> Metadata:
    """EXIF without its orientation (`read_image` has applied it) and the ICC profile, if it describes RGB.

    Raises:
        UserError: the file is not a picture.
    """
    path = Path(path)
    image = _open(path, _content(path))
    try:
        exif = image.getexif()
        exif.pop(_ORIENTATION, None)
        block = exif.tobytes() if len(exif) else None
    except Exception:  # a damaged EXIF block is not worth keeping
        block = None
    profile = image.info.get("icc_profile")
    fits = isinstance(profile, bytes) and profile[16:20] == b"RGB "
    return Metadata(exif=block, icc_profile=profile if fits else None)


def write_image(
    path: str | Path,
    array: NDArray[Any],
    metadata: Metadata | None = None,
    *,
    quality: int = 95,
) -> None:
    """Write uint8 (H, W, 3) RGB or (H, W) grey under `path`, whole or not at all; its folder is created.

    The extension chooses the format: .png (what everything in this suite writes), .tif, .bmp: lossless;
    .jpg (4:4:4), .webp: `quality`.

    Raises:
        UserError: another extension, no permission, a name that cannot be.
        WorkError: the disk is full.
    """
    path = Path(path)
    name = _WRITTEN.get(path.suffix.lower())
    if name is None:
        raise UserError(f"{path}: cannot write '{path.suffix}'; use one of {' '.join(sorted(_WRITTEN))}")
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"write_image needs uint8 (H, W, 3) or (H, W), got {array.dtype} {array.shape}")
    options: dict[str, Any] = {}
    if metadata is not None and name != "BMP":
        if metadata.exif:
            options["exif"] = metadata.exif
        if metadata.icc_profile:
            options["icc_profile"] = metadata.icc_profile
    if name in ("JPEG", "WEBP"):
        options["quality"] = quality
    if name == "JPEG":
        options["subsampling"] = 0
    # encoded in memory first: an encoder's failure then cannot be taken for the disk's
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format=name, **options)
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def list_images(folder: str | Path) -> list[Path]:
    """The pictures directly in `folder` by extension, in natural order of names; hidden files are skipped.

    Raises:
        UserError: the folder is missing or cannot be listed.
    """
    folder = Path(folder)
    try:
        visible = [p for p in folder.iterdir() if not p.name.startswith(".")]
        found = [p for p in visible if p.suffix.lower() in EXTENSIONS and p.is_file()]
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed: {error.strerror or error}") from None
    return sorted(found, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorting key under which 2.png comes before 10.png."""
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for character in name + "\0":
        if "0" <= character <= "9":
            digits += character
            continue
        if digits:
            parts.append((0, int(digits[:18]), digits))
            digits = ""
        parts.append((1, ord(character), ""))
    return tuple(parts)
