"""Pictures that decoders hand over raw: what is written by hand or by one library is read as it was meant.

The pixels that went in are the reference; the writers are tifffile, imagecodecs and a few lines here, and what this
suite reads with is another library for all but TIFF of more than 8 bits, which libtiff is asked about as well.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.data import deep, images
from benchmark.data.images import image_size, list_images, read_image, read_metadata
from benchmark.errors import UserError

H, W = 12, 14
CASES = Path(__file__).parents[4] / "shared" / "cases"


def integers(bits: int, *shape: int) -> np.ndarray:
    values = np.random.default_rng(bits).integers(0, 2**bits, shape)
    values.flat[:2] = 0, 2**bits - 1
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def in_8_bits(values: np.ndarray, bits: int) -> np.ndarray:
    return values.astype(float) * 255 / (2**bits - 1)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return colour * alpha + 255 * (1 - alpha)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: np.ndarray, colour: int, depth: int, transparent: bytes = b"") -> bytes:
    def packed(row: np.ndarray) -> bytes:
        if depth >= 8:
            return row.astype(f">u{depth // 8}").tobytes()
        bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
        return np.packbits(bits).tobytes()

    rows = b"".join(b"\0" + packed(row) for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + (chunk(b"tRNS", transparent) if transparent else b"")
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bmp32(pixels: np.ndarray, masks: tuple[int, ...], header: int = 108) -> bytes:
    body = pixels[::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", header, W, H, 1, 32, 3, len(body), 0, 0, 0, 0)
    head = (head + struct.pack("<4I", *masks)).ljust(header, b"\0")
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + body


def expect(folder: Path, content: bytes, wanted: np.ndarray, off: float = 0.501) -> None:
    file = folder / "picture"
    file.write_bytes(content)
    read = read_image(file)
    wanted = wanted if wanted.ndim == 3 else wanted[..., None]
    assert np.abs(read - wanted).max() <= off
    assert read.flags.writeable and read.flags.c_contiguous
    assert image_size(file) == read.shape[:2] == wanted.shape[:2]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_png_grey_with_a_transparent_level(tmp_path: Path, depth: int) -> None:
    grey = integers(depth, H, W)
    expect(tmp_path, png(grey, 0, depth), in_8_bits(grey, depth))
    level = int(grey[0, 1])
    expected = np.where(grey == level, 255, in_8_bits(grey, depth))
    expect(tmp_path, png(grey, 0, depth, struct.pack(">H", level)), expected)
    grey[grey == 2**depth - 1] = 0
    level = 0  # black shows as white
    expected = np.where(grey == level, 255, in_8_bits(grey, depth))
    expect(tmp_path, png(grey, 0, depth, struct.pack(">H", level)), expected)


@pytest.mark.parametrize("depth", [8, 16])
def test_png_colour_alpha_and_a_transparent_colour(tmp_path: Path, depth: int) -> None:
    peak = 2**depth - 1
    colour = integers(depth, H, W, 3)
    colour[1] = colour[0]
    colour[1, :, 2] ^= 1  # another colour in the last bit alone
    key = colour[0, 0]
    expected = np.where((colour == key).all(-1, keepdims=True), 255, in_8_bits(colour, depth))
    expect(tmp_path, png(colour, 2, depth, struct.pack(">3H", *map(int, key))), expected)
    for kind, channels in ((4, 2), (6, 4)):
        values = integers(depth, H, W, channels)
        alpha = values[..., -1:] / peak
        expect(tmp_path, png(values, kind, depth), over_white(in_8_bits(values[..., :-1], depth), alpha), 0.6)


@pytest.mark.parametrize("peak", [1, 3, 100, 255, 256, 1000, 1023, 4095, 16383, 65535])
def test_pgm_and_ppm_of_any_maximum(tmp_path: Path, peak: int) -> None:
    rng = np.random.default_rng(peak)
    kind = "u1" if peak < 256 else ">u2"
    for magic, shape in (("P5", (H, W)), ("P6", (H, W, 3))):
        values = rng.integers(0, peak + 1, shape)
        head = f"{magic}\n{W} {H}\n{peak}\n".encode()
        expect(tmp_path, head + values.astype(kind).tobytes(), values * 255 / peak)
    values = rng.integers(0, peak + 1, (H, W))
    expect(tmp_path, f"P2\n{W} {H}\n{peak}\n{' '.join(map(str, values.flat))}".encode(), values * 255 / peak)


@pytest.mark.parametrize("alpha", ["none", "some", "full"])
@pytest.mark.parametrize("order", ["bgra", "rgba"])
def test_bmp_with_an_alpha_mask(tmp_path: Path, alpha: str, order: str) -> None:
    pixels = integers(8, H, W, 4)
    if alpha != "some":
        pixels[..., 3] = 0 if alpha == "none" else 255
    bgra = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    rgba = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    colour = pixels[..., [2, 1, 0] if order == "bgra" else [0, 1, 2]].astype(float)
    opacity = 1 if alpha == "none" else pixels[..., 3:] / 255
    for header in (56, 108, 124):
        expected = over_white(colour, np.asarray(opacity))
        expect(tmp_path, bmp32(pixels, bgra if order == "bgra" else rgba, header), expected)


# photometric, planes, samples, extra sample
TIFFS = [
    ("minisblack", None, 1, None),
    ("miniswhite", None, 1, None),
    ("rgb", "contig", 3, None),
    ("rgb", "separate", 3, None),
    ("rgb", "contig", 4, "unassalpha"),
    ("rgb", "separate", 4, "unassalpha"),
    ("rgb", "contig", 4, "assocalpha"),
    ("rgb", "contig", 4, "unspecified"),
    ("minisblack", "contig", 2, "unassalpha"),
    ("minisblack", "separate", 2, "unassalpha"),
    ("minisblack", "contig", 2, "assocalpha"),
    ("miniswhite", "contig", 2, "unassalpha"),
    ("separated", "contig", 4, None),
    ("separated", "separate", 4, None),
]
PACKINGS = [
    {"byteorder": "<"},
    {"byteorder": ">"},
    {"byteorder": "<", "compression": "zlib", "predictor": True, "rowsperstrip": 5},
    {"byteorder": ">", "compression": "lzw", "tile": (16, 16)},
]


# of other depths no library writes alpha or CMYK
TIFFS_OF = [
    (*t, bits) for t in TIFFS for bits in (2, 4, 8, 10, 12, 14, 16) if bits in (8, 16) or t[2] in (1, 3)
]


@pytest.mark.parametrize(
    ("photometric", "planes", "samples", "extra", "bits"),
    TIFFS_OF,
    ids=["-".join(map(str, t)) for t in TIFFS_OF],
)
def test_tiff(
    tmp_path: Path, photometric: str, planes: str | None, samples: int, extra: str | None, bits: int
) -> None:
    peak = 2**bits - 1
    values = integers(bits, H, W, samples)
    colours = {"rgb": 3, "separated": 4}.get(photometric, 1)
    alpha = values[..., colours : colours + 1] / peak
    if extra == "assocalpha":
        values[..., :colours] = np.floor(values[..., :colours] * alpha)
    colour = in_8_bits(values[..., :colours], bits)
    if photometric == "miniswhite":
        colour = 255 - colour
    if photometric == "separated":
        expected = (255 - colour[..., :3]) * (255 - colour[..., 3:]) / 255
    elif extra == "assocalpha":
        expected = colour + 255 * (1 - alpha)
    else:
        expected = over_white(colour, alpha) if extra == "unassalpha" else colour
    stored = (
        np.moveaxis(values, -1, 0) if planes == "separate" else values[..., 0] if samples == 1 else values
    )
    options: dict[str, object] = {"bitspersample": bits} if bits not in (8, 16) else {}
    if extra:
        options["extrasamples"] = [extra]
    # tifffile packs big-endian values of 10 to 14 bits wrongly: libtiff does not read them back either
    packings = PACKINGS if bits in (8, 16) else PACKINGS[:1]
    for packing in packings:
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer, stored.astype(stored.dtype.newbyteorder(str(packing["byteorder"]))), photometric=photometric,
            planarconfig=planes, metadata=None, **{**packing, **options},
        )  # fmt: skip
        content = buffer.getvalue()
        if photometric != "separated":
            np.testing.assert_array_equal(imagecodecs.tiff_decode(content), stored)
        # Pillow divides premultiplied colours and converts CMYK in 8 bits
        off = 1.5 if photometric == "separated" or extra == "assocalpha" else 0.6
        expect(tmp_path, content, expected, off)


@pytest.mark.parametrize("kind", ["u4", "i1", "i2", "i4", "f2", "f4", "f8", "c8"])
@pytest.mark.parametrize("samples", [1, 3])
def test_tiff_without_an_agreed_range_is_named_for_what_it_is(
    tmp_path: Path, kind: str, samples: int
) -> None:
    values = (100 * np.random.default_rng(0).random((H, W, samples))).astype(kind)
    shown = {"u": "integer", "i": "signed integer", "f": "floating-point", "c": "complex"}[kind[0]]
    photometric = "rgb" if samples == 3 else "minisblack"
    stored = values if samples == 3 else values[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, metadata=None)
    with pytest.raises(UserError, match=f"a.tif: {8 * int(kind[1])}-bit {shown} pixels have no agreed range"):
        read_image(tmp_path / "a.tif")
    assert image_size(tmp_path / "a.tif") == (H, W)


def test_a_deep_tiff_is_turned_keeps_its_profile_and_is_refused_when_cut_or_of_pages(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    values = integers(16, H, W, 3)
    tags = [(274, "H", 1, 6, False), (34675, "B", len(profile), profile, False)]
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, values, photometric="rgb", extratags=tags, compression="zlib")
    expected = np.rot90(np.round(values / 257), -1)
    np.testing.assert_array_equal(read_image(file), expected)
    assert image_size(file) == (W, H)
    assert read_metadata(file).icc_profile == profile
    whole = file.read_bytes()
    for share in (0.3, 0.6, 0.95):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match="damaged"):
            read_image(file)
    tifffile.imwrite(file, np.stack([values, values]), photometric="rgb")
    with pytest.raises(UserError, match="2 frames or pages"):
        read_image(file)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_jpeg_2000(tmp_path: Path, bits: int, samples: int) -> None:
    values = integers(bits, 40, 44, samples)
    content = imagecodecs.jpeg2k_encode(
        values if samples > 1 else values[..., 0], level=0, reversible=True, bitspersample=bits, codecformat="jp2"
    )  # fmt: skip
    colours = 1 if samples < 3 else 3
    expected = in_8_bits(values[..., :colours], bits)
    if samples in (2, 4):
        expected = over_white(expected, values[..., -1:] / (2**bits - 1))
    expect(tmp_path, content, expected, 0.6)


def test_jpeg_2000_of_signed_numbers_is_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-100, 100, (40, 44)).astype(np.int16)
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(values, level=0, reversible=True))
    with pytest.raises(UserError, match=r"a\.jp2: JPEG 2000 of signed numbers"):
        read_image(tmp_path / "a.jp2")


def test_rows_are_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = integers(16, 40, 30, 4)
    whole = deep.scaled(values, 65535, 3, 2)
    monkeypatch.setattr(deep, "_ROWS_OF", 70)
    np.testing.assert_array_equal(deep.scaled(values, 65535, 3, 2), whole)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 2, 5])
@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_avif_and_heic_are_read_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif not images.features.check("avif"):
        pytest.skip("Pillow without AVIF")
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = 255, 0, 0
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    file = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(pixels).save(file, kind, exif=exif.tobytes(), quality=95)
    upright = images._upright(pixels, orientation)
    read = read_image(file)
    assert image_size(file) == read.shape[:2] == upright.shape[:2]
    assert np.abs(read.astype(int) - upright).mean() < 8
    assert file in list_images(tmp_path)


def test_heic_without_its_reader_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_heif", lambda: False)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(UserError, match=r"a\.heic: is a HEIC picture: pip install pillow-heif"):
        read_image(tmp_path / "a.heic")
    with pytest.raises(UserError, match="is a HEIC picture"):
        image_size(tmp_path / "a.heic")


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_what_never_ends_is_refused_at_once(tmp_path: Path, what: str) -> None:
    file = tmp_path / "a.png"
    if what == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    code = (
        "import sys; from benchmark.data.images import *; from benchmark.errors import UserError\n"
        "for f in (read_image, image_size, read_metadata):\n"
        "    try: f(sys.argv[1])\n"
        "    except UserError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.count("is a pipe or a device, not a picture") == 3


@pytest.mark.skipif(not CASES.is_dir(), reason="the reported pictures are not here")
def test_reported_pictures() -> None:
    folder = CASES / "C09"
    right = read_image(folder / "rgb16.tif")
    np.testing.assert_array_equal(read_image(folder / "rgb16_planar.tif"), right)
    np.testing.assert_array_equal(read_image(folder / "bmp32_v4.bmp"), right)
    for name in ("miniswhite16.tif", "grey16.pgm"):
        np.testing.assert_array_equal(read_image(folder / name), np.repeat(right[..., :1], 3, axis=2))
