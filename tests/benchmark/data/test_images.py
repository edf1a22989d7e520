"""What becomes of every kind of picture, good and bad."""

from __future__ import annotations

import io
import itertools
import os
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark import files
from benchmark.data import images
from benchmark.data.images import (
    MAX_PIXELS,
    Metadata,
    image_size,
    list_images,
    natural_key,
    read_image,
    read_metadata,
    write_image,
)
from benchmark.errors import UserError, WorkError

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(array: np.ndarray, colour: int, depth: int = 16) -> bytes:
    """A PNG of (H, W, C) uint16, written by hand: Pillow writes no 16-bit colour."""
    height, width = array.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("extension", [".png", ".tif", ".bmp"])
def test_lossless_formats_come_back_bit_for_bit(tmp_path: Path, extension: str) -> None:
    write_image(tmp_path / f"a{extension}", PICTURE)
    array = read_image(tmp_path / f"a{extension}")
    np.testing.assert_array_equal(array, PICTURE)
    assert array.flags.writeable and array.flags.c_contiguous
    assert image_size(tmp_path / f"a{extension}") == (13, 17)


def test_the_content_counts_not_the_extension(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(Image.fromarray(PICTURE)))
    np.testing.assert_array_equal(read_image(file), PICTURE)
    bare = tmp_path / "no extension, Ünïcödé 雨"
    bare.write_bytes(file.read_bytes())
    np.testing.assert_array_equal(read_image(bare), PICTURE)


def test_a_very_long_name_and_a_single_pixel(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 250 + ".png")
    write_image(file, PICTURE[:1, :1])
    np.testing.assert_array_equal(read_image(file), PICTURE[:1, :1])
    with pytest.raises(UserError, match="too long"):
        write_image(tmp_path / ("x" * 300 + ".png"), PICTURE)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_sixteen_bits_are_scaled_and_rounded(tmp_path: Path, colour: int, channels: int) -> None:
    deep = RNG.integers(0, 65536, (9, 11, channels)).astype(np.uint16)
    if channels == 4:
        deep[..., 3] = 65535
    file = tmp_path / "deep.png"
    file.write_bytes(png(deep, colour))
    expected = np.round(deep[..., :3] / 257.0).astype(np.uint8)
    np.testing.assert_array_equal(read_image(file), np.broadcast_to(expected, (9, 11, 3)))


def test_sixteen_bits_with_grey_and_alpha_are_at_most_one_off(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (9, 11, 2)).astype(np.uint16)
    deep[..., 1] = 65535
    (tmp_path / "deep.png").write_bytes(png(deep, 4))
    difference = read_image(tmp_path / "deep.png")[..., 0] - np.round(deep[..., 0] / 257.0)
    assert np.abs(difference).max() <= 1


def test_sixteen_bit_tiff_grey(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (9, 11)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 1], np.round(deep / 257.0))


def test_grey_palette_and_black_and_white(tmp_path: Path) -> None:
    grey = Image.fromarray(PICTURE[..., 0])
    for name, image, expected in [
        ("grey", grey, np.repeat(PICTURE[..., :1], 3, axis=2)),
        ("bits", grey.convert("1"), np.asarray(grey.convert("1").convert("RGB"))),
        ("palette", Image.fromarray(PICTURE).quantize(16), None),
    ]:
        image.save(tmp_path / f"{name}.png")
        array = read_image(tmp_path / f"{name}.png")
        want = np.asarray(image.convert("RGB")) if expected is None else expected
        np.testing.assert_array_equal(array, want)


def test_alpha_is_composited_over_white(tmp_path: Path) -> None:
    rgba = np.dstack([PICTURE, RNG.integers(0, 256, PICTURE.shape[:2], dtype=np.uint8)])
    rgba[0, :, 3], rgba[1, :, 3] = 255, 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    array = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(array[0], PICTURE[0])
    assert (array[1] == 255).all()
    alpha = rgba[..., 3:] / 255.0
    assert np.abs(array - (PICTURE * alpha + 255 * (1 - alpha))).max() <= 0.51
    transparent = Image.fromarray(PICTURE[..., 0]).convert("P")
    transparent.save(tmp_path / "p.png", transparency=int(PICTURE[0, 0, 0]))
    assert (read_image(tmp_path / "p.png")[0, 0] == 255).all()


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image.save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    file = tmp_path / "a"
    file.write_bytes(encoded(Image.fromarray(PICTURE), kind, exif=exif))
    with Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(file), expected)
    assert image_size(file) == expected.shape[:2]


def test_metadata_travels_without_its_orientation(tmp_path: Path) -> None:
    from PIL import ImageCms

    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = tmp_path / "a.jpg"
    source.write_bytes(encoded(Image.fromarray(PICTURE), "JPEG", exif=exif, icc_profile=profile))
    metadata = read_metadata(source)
    for name in ("b.png", "b.jpg", "b.webp", "b.tif"):
        upright = read_image(source)
        write_image(tmp_path / name, upright, metadata)
        with Image.open(tmp_path / name) as written:
            assert written.getexif().get(0x010F) == "maker"
            assert written.getexif().get(0x0112, 1) == 1
            assert written.info["icc_profile"] == profile
        assert read_image(tmp_path / name).shape == upright.shape
    grey = tmp_path / "grey.png"
    grey.write_bytes(
        encoded(Image.fromarray(PICTURE[..., 0]), icc_profile=b"\0" * 16 + b"GRAY" + b"\0" * 110)
    )
    assert read_metadata(grey) == Metadata()


def damaged_exif() -> bytes:
    return encoded(Image.fromarray(PICTURE), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")


def test_a_damaged_exif_block_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(damaged_exif())
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert read_image(tmp_path / "a.jpg").shape == PICTURE.shape
        assert read_metadata(tmp_path / "a.jpg").exif is None


def bad_files() -> dict[str, tuple[bytes, str]]:
    good = encoded(Image.fromarray(PICTURE))
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0x10
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0))
    hollow = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4000, 4000, 8, 2, 0, 0, 0))
    hollow += chunk(b"IDAT", zlib.compress(b"\0" * 10))
    large = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 12000, 9000, 8, 2, 0, 0, 0))
    frames = [Image.fromarray(PICTURE), Image.fromarray(PICTURE[::-1].copy())]
    animated = {
        k: encoded(frames[0], k, save_all=True, append_images=frames[1:]) for k in ("GIF", "WEBP", "TIFF")
    }
    return {
        "empty": (b"", r"empty \(0 bytes\)"),
        "text": (b"This is no picture.", "is not a picture"),
        "page": (b"<!DOCTYPE html><html>404</html>", "web page"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        "truncated-png": (good[: len(good) * 2 // 3], "truncated or damaged"),
        "truncated-jpeg": (encoded(Image.fromarray(PICTURE), "JPEG")[:-60], "truncated or damaged"),
        "header-only": (good[:8], "truncated or damaged"),
        "flipped-bit": (bytes(flipped), "checksum"),
        "bomb": (huge + chunk(b"IDAT", zlib.compress(b"\0" * 10)), "million pixels"),
        "hollow": (hollow + chunk(b"IEND", b""), "too little data for 4000×4000"),
        "large": (large + chunk(b"IDAT", zlib.compress(b"\0" * 10)), "million pixels"),
        "animated-gif": (animated["GIF"], "2 frames"),
        "animated-webp": (animated["WEBP"], "2 frames"),
        "pages-tiff": (animated["TIFF"], "2 frames or pages"),
        "apng": (encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]), "2 frames"),
        "float-tiff": (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "no agreed range"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_bad_files_are_refused_in_one_line_that_names_them(tmp_path: Path, name: str) -> None:
    content, words = bad_files()[name]
    file = tmp_path / f"{name}.png"
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        with pytest.raises(UserError, match=words) as caught:
            read_image(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_and_no_permission(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        read_image("a\0b.png")
    with pytest.raises(UserError, match="no such file"):
        image_size(tmp_path / "nothing.png")


def test_the_limit_leaves_room_for_8k() -> None:
    assert MAX_PIXELS > 2 * 7680 * 4320


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_a_picture_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    content = bytearray(encoded(Image.fromarray(PICTURE), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    file = tmp_path_factory.getbasetemp() / f"fuzzed-{kind}"
    file.write_bytes(content)
    try:
        array = read_image(file)
        size = image_size(file)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
        assert size == array.shape[:2]


def test_writing_replaces_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "a.png"
    write_image(file, PICTURE)
    before = file.read_bytes()

    def full(self: Path, data: object) -> int:
        with self.open("wb") as handle:
            handle.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(WorkError, match="disk is full"):
            write_image(file, PICTURE[::-1])
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_writing_where_one_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        with pytest.raises(UserError, match="no permission"):
            write_image(tmp_path / "x" / "a.png", PICTURE)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file stands where"):
        write_image(tmp_path / "file" / "a.png", PICTURE)
    with pytest.raises(UserError, match=r"cannot write '\.xyz'"):
        write_image(tmp_path / "a.xyz", PICTURE)
    with pytest.raises(ValueError, match="uint8"):
        write_image(tmp_path / "a.png", PICTURE.astype(np.float32))


def test_leftovers_of_a_kill_are_not_seen_and_are_cleaned(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", PICTURE)
    old, fresh = tmp_path / ".derain-1-ab.tmp", tmp_path / ".derain-2-cd.tmp"
    for file in (old, fresh):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert list_images(tmp_path) == [tmp_path / "a.png"]
    assert files.clean_leftovers(tmp_path) == 1
    assert fresh.exists() and not old.exists()


def test_listing_is_in_natural_order(tmp_path: Path) -> None:
    for name in ["10.png", "2.PNG", "1.jpg", ".hidden.png", "notes.txt"]:
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in list_images(tmp_path)] == ["1.jpg", "2.PNG", "10.png"]
    with pytest.raises(UserError, match="no such folder"):
        list_images(tmp_path / "none")


@given(st.lists(st.text(alphabet="ab0123", max_size=6), max_size=8))
@settings(max_examples=50)
def test_natural_keys_order_any_names(names: list[str]) -> None:
    for a, b in itertools.pairwise(sorted(names, key=natural_key)):
        assert natural_key(a) <= natural_key(b)
        assert natural_key(a) != natural_key(b) or a == b


def test_a_pngs_size_is_read_without_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((13, 17, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", None)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", None)
    assert image_size(tmp_path / "a.png") == (13, 17)


def test_an_orientation_behind_the_pixels_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "a.png"
    Image.fromarray(np.zeros((13, 17, 3), np.uint8)).save(file)
    plain = file.read_bytes()
    Image.fromarray(np.zeros((13, 17, 3), np.uint8)).save(file, exif=exif)
    marked = file.read_bytes()
    start = marked.index(b"eXIf") - 4
    (length,) = struct.unpack(">I", marked[start : start + 4])
    ending = plain.index(b"IEND") - 4
    file.write_bytes(plain[:ending] + marked[start : start + length + 12] + plain[ending:])
    assert image_size(file) == read_image(file).shape[:2] == (17, 13)


def read_or_message(file: Path) -> np.ndarray | str:
    try:
        return read_image(file)
    except UserError as error:
        return str(error)


def test_chunks_about_colour_do_not_change_an_ordinary_pngs_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = encoded(Image.fromarray(PICTURE))
    header_ends = 8 + 25
    said = [
        chunk(b"gAMA", struct.pack(">I", 100000)),
        chunk(b"sBIT", b"\5\5\5"),
        chunk(b"bKGD", struct.pack(">HHH", 1, 2, 3)),
        chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0)),
    ]
    file = tmp_path / "a.png"
    file.write_bytes(plain[:header_ends] + b"".join(said) + plain[header_ends:])
    by_pillow = np.asarray(Image.open(file))
    monkeypatch.setattr(images, "_decode", None)  # libpng decodes these, Pillow none of them
    np.testing.assert_array_equal(read_image(file), by_pillow)
    np.testing.assert_array_equal(by_pillow, PICTURE)


@settings(max_examples=150, deadline=None)
@given(
    filters=st.lists(st.integers(0, 5), min_size=13, max_size=13),
    kept=st.integers(0, 13 * 52),
    extra=st.binary(max_size=60),
    flushed=st.booleans(),
    interlaced=st.sampled_from([0, 0, 0, 1, 2]),
    flipped=st.one_of(st.none(), st.integers(0, 700)),
    pieces=st.integers(1, 4),
    cut=st.integers(0, 40),
)
def test_libpng_shows_what_pillow_shows_and_refuses_what_pillow_refuses(
    tmp_path_factory: pytest.TempPathFactory,
    filters: list[int],
    kept: int,
    extra: bytes,
    flushed: bool,
    interlaced: int,
    flipped: int | None,
    pieces: int,
    cut: int,
) -> None:
    rows = b"".join(bytes([f]) + row.tobytes() for f, row in zip(filters, PICTURE, strict=True))
    packer = zlib.compressobj()
    stream = packer.compress((rows if kept % 2 else rows[:kept]) + extra)
    stream += packer.flush(zlib.Z_FINISH if flushed else zlib.Z_SYNC_FLUSH)
    if flipped is not None:
        place = flipped % len(stream)
        stream = stream[:place] + bytes([stream[place] ^ 1 << flipped % 8]) + stream[place + 1 :]
    size = -(-len(stream) // pieces)
    header = struct.pack(">IIBBBBB", 17, 13, 8, 2, 0, 0, interlaced)
    parts = [chunk(b"IDAT", stream[i : i + size]) for i in range(0, len(stream), size)]
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(parts) + chunk(b"IEND", b"")
    file = tmp_path_factory.getbasetemp() / "odd.png"
    file.write_bytes(content[: len(content) - (cut if cut % 3 == 0 else 0)])
    outcome = read_or_message(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_ordinary_png", lambda image, data: None)
        by_pillow = read_or_message(file)
    np.testing.assert_array_equal(outcome, by_pillow)
