"""Reading and writing pictures: whatever is in the file, one kind of array comes out, or one clear line.

`read_image` looks at the content, never at the extension, and gives uint8 (H, W, 3) RGB:

| content | outcome |
| --- | --- |
| grey, palette, black and white | repeated or looked up into RGB |
| 10 to 16 bits a channel (PNG, TIFF, JPEG 2000, PGM, PPM) | scaled to 8: round(255 · v / peak); see `deep` |
| alpha, or a transparent colour | composited over white (opaque pixels do not change) |
| a BMP whose alpha is 0 everywhere | taken as opaque: the byte was never filled in |
| TIFF: in planes, MinIsWhite, premultiplied alpha | as meant |
| BMP of 16 bits a pixel (5 or 6 a colour); a palette of 16 bits in TIFF | by Pillow, at most 1 off |
| CMYK, YCbCr | converted to RGB by Pillow's plain formula, without colour management |
| RGB with an ICC profile | the numbers as stored: metrics compare numbers |
| EXIF orientation | applied, so the array is upright |
| AVIF, HEIC | where Pillow has AVIF built in; with the extra `heif`; else refused by name |
| a photograph with a second picture behind it (MPO, HEIC) | the first, which is the photograph |
| animated GIF, PNG, WebP, AVIF; TIFF with several pages | refused: which frame is meant is the user's to say |
| more than 16 bits, signed, floating point, Lab | refused: no agreed range |
| more than `MAX_PIXELS` | refused before anything is decoded (a decompression bomb) |
| 0 bytes, truncated, damaged, not a picture; a pipe or device | refused, without waiting for it |
| wrong extension, Unicode or long names, 1×1 | read |
"""

from __future__ import annotations

import functools
import io
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from benchmark.data import deep
from benchmark.errors import UserError
from benchmark.files import atomic

Picture = NDArray[np.uint8]

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
    | {".jp2", ".j2k", ".avif", ".heic", ".heif", ".hif"}
)
"""What a file is called that `list_images` takes for a picture."""

MAX_PIXELS = 1024 * 1024 * 1024 // 12
"""Largest picture that is read, in pixels (89 million, Pillow's own threshold; 8K is 33 million)."""

MAX_BYTES = 1 << 30

# Formats that Pillow decodes itself; EPS and the like, which call other programs, are left out on purpose.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
_AVIF = (b"avif", b"avis")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_WRITTEN = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", *deep.TIFF_BEGINNINGS, b"RIFF")
_ORIENTATION = 0x0112

# MAX_PIXELS refuses, in one line, everything that Pillow would only warn of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# damaged EXIF blocks and the like: what matters of them becomes a UserError
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Metadata:
    """What travels with a picture from file to file: EXIF (without orientation) and the RGB ICC profile."""

    exif: bytes | None = None
    icc_profile: bytes | None = None


def _opened(path: Path) -> BinaryIO:
    """The file, open to read; what would be waited for (a pipe) or never ends (a device) is refused.

    Raises:
        UserError: no such file, no permission, not an ordinary file.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        file = os.fdopen(number, "rb", buffering=0)
        kind = os.fstat(number).st_mode
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not a picture") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(kind):
        file.close()
        what = "a folder" if stat.S_ISDIR(kind) else "a pipe or a device"
        raise UserError(f"{path}: is {what}, not a picture")
    return file


def require_file(path: Path) -> None:
    """Refuse what is not an ordinary file that can be read.

    Raises:
        UserError: no such file, no permission, a folder, a pipe, a device.
    """
    _opened(path).close()


def read_content(path: Path) -> bytes:
    """The bytes of a file that may be a picture.

    Raises:
        UserError: missing, unreadable, no ordinary file, or larger than `MAX_BYTES`.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise UserError(f"{path}: {size / 2**30:.1f} GiB is too large for a picture (limit 1 GiB)")
        try:
            data = b"".join(iter(lambda: file.read(MAX_BYTES + 1), b""))
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    return data


def _not_a_picture(path: Path, data: bytes) -> UserError:
    start = data[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return UserError(f"{path}: is a Git LFS pointer, not the picture; run 'git lfs pull'")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return UserError(f"{path}: is a web page or XML, not a picture; the download failed")
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in _HEIF and not _heif():
        return UserError(f"{path}: is a HEIC picture: pip install pillow-heif to read it")
    if brand in _AVIF and not features.check("avif"):
        return UserError(f"{path}: is an AVIF picture, and this Pillow was built without AVIF")
    if data.startswith(_BEGINNINGS) or brand in (*_HEIF, *_AVIF):
        return UserError(f"{path}: is truncated or damaged; copy or download it again")
    return UserError(
        f"{path}: is not a picture (PNG, JPEG, BMP, GIF, PPM, WebP, TIFF, JPEG 2000, AVIF, HEIC)"
    )


@functools.cache
def _heif() -> bool:
    """Whether HEIC can be read; Pillow knows it from then on."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _formats(start: bytes) -> tuple[str, ...]:
    return (*_FORMATS, "HEIF") if start[8:12] in _HEIF and _heif() else _FORMATS


def _open(path: Path, data: bytes) -> Image.Image | deep.Tiff:
    """The picture, its header read: by Pillow, or a TIFF that Pillow would read wrongly."""
    if not data:
        raise UserError(f"{path}: is empty (0 bytes); copy or download it again")
    image: Image.Image | None = None
    try:
        image = Image.open(io.BytesIO(data), formats=_formats(data))
    except Image.UnidentifiedImageError:
        if not data.startswith(deep.TIFF_BEGINNINGS):
            raise _not_a_picture(path, data) from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: more than {MAX_PIXELS / 1e6:.0f} million pixels; refused") from None
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        raise UserError(f"{path}: is damaged: {_short(error)}") from None
    try:
        other = deep.tiff(data, image)
    except Exception:
        raise _not_a_picture(path, data) from None
    opened: Any = image if other is None else other
    width, height = opened.width, opened.height
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width}×{height} exceeds {MAX_PIXELS / 1e6:.0f} million pixels; refused")
    if width == 0 or height == 0:
        raise UserError(f"{path}: is damaged: {width}×{height} pixels")
    return opened


def _short(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return words[:120] if words else type(error).__name__


def _orientation(image: Image.Image | deep.Tiff, content: BinaryIO) -> int:
    """What is left to be done to turn the picture upright; the decoders turn TIFF and HEIC, sizes included.

    Pillow decodes a PNG's pixels to see what stands behind them: it is asked to only where there is something.
    """
    if isinstance(image, deep.Tiff):
        return image.orientation
    if image.format in ("TIFF", "HEIF"):
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


def _over_white(rgba: Picture) -> Picture:
    alpha = rgba[..., 3:].astype(np.uint32)
    colour = rgba[..., :3].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _decode(path: Path, image: Image.Image, data: bytes) -> Picture:
    try:
        if image.format == "PNG" and (made := deep.png(data)) is not None:
            return made
        if image.format == "JPEG2000" and (made := deep.jpeg2000(data)) is not None:
            return made
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if (made := deep.pgm(image)) is not None:
        return made
    if image.mode in ("I", "F", "LAB") or image.mode.startswith("I;"):
        kind = {"F": "floating-point pixels", "LAB": "Lab pixels"}.get(image.mode, "integers of 32 bits")
        raise UserError(f"{path}: {kind} have no agreed range; save it as 8- or 16-bit RGB")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        if image.format == "BMP" and not rgba[..., 3].any():
            return np.ascontiguousarray(rgba[..., :3])
        return _over_white(rgba)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _decode_tiff(path: Path, image: deep.Tiff) -> Picture:
    try:
        image.require_range()
        return image.decode()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


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
    return decode_image(read_content(path), path)


def decode_image(data: bytes, path: str | Path) -> Picture:
    """As `read_image`, of a picture's bytes; `path` is what messages call it.

    Raises:
        UserError: the bytes are no picture, damaged, too many pixels or animated.
    """
    path = Path(path)
    image = _open(path, data)
    if data.startswith(_BEGINNINGS[0]):
        _whole_png(path, data)
    try:
        frames = _frames(image)
        if frames != 1:
            raise UserError(f"{path}: holds {frames} frames or pages; save the one you mean by itself")
        orientation = _orientation(image, io.BytesIO(data))
        if isinstance(image, deep.Tiff):
            array = _decode_tiff(path, image)
        else:
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


def _frames(image: Image.Image | deep.Tiff) -> int:
    if isinstance(image, deep.Tiff):
        return image.pages
    return 1 if image.format in ("MPO", "HEIF") else int(getattr(image, "n_frames", 1))


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of a picture as `read_image` would give it, from its header: nothing is decoded.

    Raises:
        UserError: as `read_image`, except that damage behind the header is not seen.
    """
    path = Path(path)
    try:
        with (
            _opened(path) as content,
            _opened(path) as file,
            Image.open(file, formats=_formats(content.read(12))) as image,
        ):
            width, height = image.size
            turned = _orientation(image, content) >= 5
            right = image.format != "TIFF" or deep.is_read_by_pillow(image)
        if right and 0 < width * height <= MAX_PIXELS:
            return (width, height) if turned else (height, width)
    except Exception:  # the slow way below says what is wrong
        pass
    data = read_content(path)
    opened = _open(path, data)
    turned = _orientation(opened, io.BytesIO(data)) >= 5
    return (opened.width, opened.height) if turned else (opened.height, opened.width)


def read_metadata(path: str | Path) -> Metadata:
    """EXIF without its orientation (`read_image` has applied it) and the ICC profile, if it describes RGB.

    Raises:
        UserError: the file is not a picture.
    """
    path = Path(path)
    return metadata_of(read_content(path), path)


def metadata_of(data: bytes, path: str | Path) -> Metadata:
    """As `read_metadata`, of a picture's bytes; `path` is what messages call it.

    Raises:
        UserError: the bytes are no picture.
    """
    image = _open(Path(path), data)
    if isinstance(image, deep.Tiff):
        if image.by_pillow is None:
            return Metadata()
        image = image.by_pillow
    try:
        exif = image.getexif()
        exif.pop(_ORIENTATION, None)
        block = exif.tobytes() if len(exif) else None
    except Exception:  # a damaged EXIF block is not worth keeping
        block = None
    profile = image.info.get("icc_profile")
    fits = isinstance(profile, bytes) and profile[16:20] == b"RGB "
    return Metadata(exif=block, icc_profile=profile if fits else None)


def not_kept(path: str | Path) -> list[str]:
    """What of a picture an array of `read_image` does not hold, in words: bits beyond 8, transparency.

    Raises:
        UserError: the file is not a picture.
    """
    path = Path(path)
    return not_kept_of(read_content(path), path)


def not_kept_of(data: bytes, path: str | Path) -> list[str]:
    """As `not_kept`, of a picture's bytes; `path` is what messages call it.

    Raises:
        UserError: the bytes are no picture.
    """
    image = _open(Path(path), data)
    try:
        bits, transparent = _bits(image, data), _is_transparent(image)
    except Exception:  # what is damaged is for `read_image` to say
        return []
    found = [f"{bits} bits a channel become 8"] if bits > 8 else []
    return [*found, "transparent parts are shown over white"] if transparent else found


def _bits(image: Image.Image | deep.Tiff, data: bytes) -> int:
    if isinstance(image, deep.Tiff):
        return image.bits
    if image.format == "PNG":
        return data[24]
    if image.format == "PPM":
        head = re.match(rb"P[2356]" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)", data)
        return int(head[3]).bit_length() if head else 8
    if image.format == "JPEG2000":
        return max(deep.jpeg2000_depths(data) or [8])
    return int(image.info.get("bit_depth") or 8)


def _is_transparent(image: Image.Image | deep.Tiff) -> bool:
    if isinstance(image, deep.Tiff):
        return image.alpha > 0
    if not image.has_transparency_data:
        return False
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    return bool(alpha.min() < 255 and (image.format != "BMP" or alpha.any()))


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
    # encoded in memory first: an encoder's failure then cannot be taken for the disk's
    encoded = _encoded(array, name, metadata, quality)
    with atomic(path) as temporary:
        temporary.write_bytes(encoded)


def encode_png(array: NDArray[Any], metadata: Metadata | None = None) -> bytes:
    """The bytes that `write_image` writes into a .png."""
    return bytes(_encoded(array, "PNG", metadata))


def _encoded(
    array: NDArray[Any], name: str, metadata: Metadata | None = None, quality: int | None = None
) -> memoryview:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"a picture to write is uint8 (H, W, 3) or (H, W), not {array.dtype} {array.shape}")
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
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format=name, **options)
    return buffer.getbuffer()


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
