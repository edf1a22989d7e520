"""What is fuzzed: each target takes an input and must end well or in one line that a user can act on.

Everything else is a finding: another exception, a message of several lines, ten seconds without an answer, a file that
was written where none may be.
"""

from __future__ import annotations

import io
import shutil
import signal
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

from benchmark.errors import UserError, WorkError

PATIENCE = 10  # seconds of processor time: on a busy machine the clock says nothing
warnings.simplefilter("ignore")


class Finding(AssertionError):  # noqa: N818
    """Something that a user must never see."""


def _late(signum: int, frame: FrameType | None) -> None:
    raise Finding(f"no answer in {PATIENCE} s")


@contextmanager
def answered() -> Iterator[None]:
    """What ends well, or in one line of ours; anything else is a finding."""
    before = signal.signal(signal.SIGPROF, _late)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    except (UserError, WorkError) as error:
        if "\n" in str(error) or not str(error).strip():
            raise Finding(f"not one line: {str(error)!r}") from error
    except Finding:
        raise
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}") from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Place:
    """A folder in memory where that is possible, emptied before each input."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def image(place: Path, data: bytes) -> None:
    """`read_image` and `image_size`: an array of the size that the header says, or a line."""
    from benchmark.data.images import image_size, read_image, read_metadata

    file = place / "picture.png"
    file.write_bytes(data)
    with answered():
        array = read_image(file)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise Finding(f"{array.dtype} {array.shape}")
        if image_size(file) != array.shape[:2]:
            raise Finding(f"size {image_size(file)} but {array.shape}")
        read_metadata(file)


def checkpoint(place: Path, data: bytes) -> None:
    """`load_checkpoint`: all weights or none, nothing executed."""
    import torch

    from benchmark.checkpoints import load_checkpoint

    network = torch.nn.Conv2d(1, 1, 1)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    file = place / ("c.safetensors" if data[:1] == b"s" else "c.pth")
    file.write_bytes(data[1:])
    try:
        load_checkpoint(network, file)
    except (UserError, WorkError) as error:
        if "\n" in str(error):
            raise Finding(f"not one line: {str(error)!r}") from error
        if any(not torch.equal(v, before[k]) for k, v in network.state_dict().items()):
            raise Finding("half loaded") from error
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}") from error


def archive(place: Path, data: bytes) -> None:
    """`import_archive`: a folder inside the folder, or nothing at all."""
    from benchmark.data.archives import Limits, import_archive

    inside = place / "inside"
    inside.mkdir()
    file = place / "a.zip"
    file.write_bytes(data)
    with answered():
        import_archive(file, inside / "out", Limits(size=1 << 20, files=50, ratio=50), progress=False)
    shutil.rmtree(inside)
    file.unlink()
    others = list(place.iterdir())
    if others:
        raise Finding(f"written elsewhere: {others}")


def pairing(place: Path, names: tuple[list[str], list[str]]) -> None:
    """`pair`: every name is accounted for, a rainy one once."""
    from benchmark.data.layouts import dataset_of, file_role, folder_role, pair, split_of

    rainy, clean = names
    with answered():
        found = pair(rainy, clean)
        left = [a for a, _ in found.pairs] + list(found.unpaired_rainy)
        right = [*{b for _, b in found.pairs}, *found.unpaired_clean]
        for a, b in found.ambiguous:
            left += a
            right += b
        if sorted(left) != sorted(set(rainy)) or sorted(right) != sorted(set(clean)):
            raise Finding(f"names lost or doubled: {found}")
        for name in rainy + clean:
            file_role(name), folder_role(name), split_of([name]), dataset_of([name])


def configuration(place: Path, words: list[str]) -> None:
    """`resolve`: a configuration with a name for its run, or a line."""
    from benchmark.spec import resolve

    with answered():
        name = resolve(words).name
        if "/" in name or len(name.encode()) > 255:
            raise Finding(f"a run's folder called {name!r}")


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def image_seeds() -> list[bytes]:
    """Every format and mode that is read, small."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    rgba = Image.fromarray(rng.integers(0, 256, (6, 7, 4), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds = [_encoded(rgb, k) for k in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")]
    seeds += [_encoded(rgb.convert(m), "PNG") for m in ("L", "1", "P", "I;16")] + [_encoded(rgba, "PNG")]
    seeds += [_encoded(rgb, k, exif=exif) for k in ("PNG", "JPEG", "WEBP", "TIFF")]
    seeds += [_encoded(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)])]
    seeds += [_encoded(rgb.convert("CMYK"), k) for k in ("JPEG", "TIFF")]
    return [
        *seeds,
        *(_encoded(rgb, "TIFF", compression=c) for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
    ]


def checkpoint_seeds() -> list[bytes]:
    """The kinds of files that are read: torch's new and old way, safetensors; wrapped, and hostile."""
    import torch
    from safetensors.torch import save

    state = torch.nn.Conv2d(1, 1, 1).state_dict()
    seeds = [b"s" + save(state), b"s" + save({"weight": state["weight"].half()})]
    for content in (
        state,
        {"state_dict": state, "epoch": 3},
        {"model": {"module.weight": state["weight"]}},
        [1],
        {},
    ):
        for new in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            seeds.append(b"p" + buffer.getvalue())
    return [*seeds, b"pcos\nsystem\n(S'true'\ntR."]


def archive_seeds() -> list[bytes]:
    """Zip and tar, packed in every way, with pairs, links and names that lead elsewhere."""
    picture = _encoded(Image.new("RGB", (3, 3), (1, 2, 3)), "PNG")
    files = {"s/input/1.png": picture, "s/target/1.png": picture, "s/readme.txt": b"hello"}
    seeds = []
    for packed in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for names in (files, {**files, "../x.png": picture}):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", packed) as opened:
                for name, content in names.items():
                    opened.writestr(zipfile.ZipInfo(name), content, packed)
            seeds.append(buffer.getvalue())
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        for kind in (tarfile.REGTYPE, tarfile.SYMTYPE):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
                for name, content in files.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                if kind == tarfile.SYMTYPE:
                    info = tarfile.TarInfo("s/link.png")
                    info.type, info.linkname = kind, "/etc/passwd"
                    tar.addfile(info)
            seeds.append(buffer.getvalue())
    return seeds


BYTES: dict[str, tuple[Callable[[Path, bytes], None], Callable[[], list[bytes]]]] = {
    "image": (image, image_seeds),
    "checkpoint": (checkpoint, checkpoint_seeds),
    "archive": (archive, archive_seeds),
}
"""Targets that take bytes, and what mutation starts from."""
