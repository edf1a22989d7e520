"""Networks as files that run without this suite: ONNX (for onnxruntime) and torch's own pt2, and reading them back.

A file takes one size, or any of the network's multiple, as its metadata says (key `derain`, JSON): `size` [H, W] or
null, `multiple`, `range`, `tile` and `overlap` that the authors test with, the network's `name` and `options`, what
made it, and how far it was from the network when it was tried (`tried`; `kernels` there: how far this suite's kernels
took the network itself from torch's operations on the photograph). Any picture is restored with it in tiles of
a size that it takes: `restore(open_exported(FILE), picture, tile=…)` does that.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import UserError, WorkError, first_line
from esdnet.native import portable
from esdnet.sizes import crop_to, pad_to_multiple

KEY = "derain"
TOLERANCE = 1e-4  # of the [0, 1] of pictures
_INPUT, _OUTPUT = "rainy", "restored"
_LEAST, _MOST = 16, 8192  # px a side, of files for any size
_FOLDED = (
    1024  # values of a constant that stands for an operation: frames of indices are larger than the network
)
_BRIGHTEST = 2.0  # what resampling overshoots stays below, pictures of 0 to 255 do not

Save = Callable[[Path, Mapping[str, Any]], None]
"""Writes a network that was translated to a file, with its metadata."""


class Exported(nn.Module):
    """A network in a file, as a function from pictures (N, 3, H, W) in [0, 1], of a size that it takes, to the same.

    Args:
        run: one picture (1, 3, H, W), float32, to the restored one.
        about: the file's metadata.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], about: Mapping[str, Any]) -> None:
        super().__init__()
        self._run, self.about = run, dict(about)

    def forward(self, rainy: Tensor) -> Tensor:
        """Restored pictures; a file for any size pads them to its multiple by reflection (NAFNet itself: zeros).

        Raises:
            UserError: pictures of another size than the file is for, or not floating point in [0, 1].
        """
        self._require_size(tuple(rainy.shape))
        self._require_range(rainy)
        padded = pad_to_multiple(rainy, int(self.about["multiple"])) if self.about["size"] is None else rainy
        restored = torch.cat([self._run(one[None].float()) for one in padded])
        return crop_to(restored, *rainy.shape[-2:]).to(rainy.dtype)

    def _require_size(self, shape: tuple[int, ...]) -> None:
        title, size = self.about["title"], self.about["size"]
        if size is not None:
            if len(shape) != 4 or shape[1:] != (3, *size):
                raise UserError(
                    f"{title} was exported for pictures of (N, 3, {size[0]}, {size[1]}), not {shape}: restore in "
                    "tiles of that size, or export it with --size"
                )
        elif len(shape) != 4 or shape[1] != 3 or not all(_LEAST <= n <= _MOST for n in shape[2:]):
            raise UserError(
                f"{title} was exported for pictures of (N, 3, H, W), H and W from {_LEAST} to {_MOST}, not {shape}"
            )

    def _require_range(self, rainy: Tensor) -> None:
        title = self.about["title"]
        if not rainy.is_floating_point():
            raise UserError(
                f"{title} takes pictures of floating point in [0, 1], not {rainy.dtype}: divide by 255?"
            )
        if rainy.numel() and float(highest := rainy.max()) > _BRIGHTEST:
            raise UserError(f"{title} takes pictures in [0, 1], not up to {float(highest):g}: divide by 255?")


def _sizes(about: Mapping[str, Any]) -> Any:
    """What may vary in a file's input, for torch's exporters; None: nothing."""
    if about["size"] is not None:
        return None
    multiple = about["multiple"]
    sides = []
    for name in ("height", "width"):
        units = torch.export.Dim(f"{name}_units", min=max(2, -(-_LEAST // multiple)), max=_MOST // multiple)
        sides.append(multiple * units if multiple > 1 else units)
    return ({2: sides[0], 3: sides[1]},)


def to_onnx(network: nn.Module, example: Tensor, about: Mapping[str, Any]) -> Save:
    """Translate to ONNX by torch's exporter of traced graphs (dynamo).

    Raises:
        UserError: onnx or onnxscript is not installed.
        WorkError: the network cannot be written so.
    """
    try:
        from onnxscript import optimizer
    except ImportError:
        raise UserError(
            "ONNX needs onnx, onnxscript and onnxruntime: pip install onnx onnxscript onnxruntime"
        ) from None

    def traced() -> torch.onnx.ONNXProgram:
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamic_shapes=_sizes(about),
            optimize=False,
        )
        assert program is not None
        return program

    with _quiet(), portable():
        try:
            program = traced()
            try:
                # a second round found nothing to speak of and took as long: minutes for SFNet
                optimizer.optimize(program.model, num_iterations=1, output_size_limit=_FOLDED)
            except Exception:  # onnxscript's own faults leave a graph half rewritten; runtimes optimise too
                program = traced()
        except Exception as error:
            raise WorkError(f"{about['title']} cannot be written as ONNX: {_first(error)}") from error

    def save(path: Path, told: Mapping[str, Any]) -> None:
        program.model.metadata_props[KEY] = json.dumps(told)
        program.save(str(path), external_data=False)

    return save


def to_pt2(network: nn.Module, example: Tensor, about: Mapping[str, Any]) -> Save:
    """Translate to torch's own format, which `torch.export.load` reads.

    Raises:
        WorkError: the network cannot be written so.
    """
    with _quiet(), portable():
        try:
            program = torch.export.export(network, (example,), dynamic_shapes=_sizes(about))
        except Exception as error:
            raise WorkError(f"{about['title']} cannot be written as pt2: {_first(error)}") from error

    def save(path: Path, told: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        with _quiet():
            torch.export.save(program, buffer, extra_files={KEY: json.dumps(told)})
        path.write_bytes(buffer.getbuffer())

    return save


TRANSLATORS: dict[str, Callable[[nn.Module, Tensor, Mapping[str, Any]], Save]] = {
    "onnx": to_onnx,
    "pt2": to_pt2,
}


def open_exported(path: str | Path) -> Exported:
    """What `derain export` wrote, ready to restore.

    Raises:
        UserError: no such file, not one of these, or its runtime is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    open_one = READERS.get(path.suffix.lower().removeprefix("."))
    if open_one is None:
        raise UserError(f"{path}: neither .onnx nor .pt2")
    return open_one(path)


def _open_onnx(path: Path) -> Exported:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path} needs onnxruntime: pip install onnx onnxscript onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"{path}: not a readable ONNX file ({_first(error)})") from None
    about = _about(path, session.get_modelmeta().custom_metadata_map.get(KEY))
    return Exported(
        lambda rainy: torch.from_numpy(session.run([_OUTPUT], {_INPUT: rainy.contiguous().numpy()})[0]), about
    )


def _open_pt2(path: Path) -> Exported:
    extra = {KEY: ""}
    try:
        with _quiet():
            module = torch.export.load(path, extra_files=extra).module()
    except Exception as error:
        raise UserError(f"{path}: not a readable pt2 file ({_first(error)})") from None

    def run(rainy: Tensor) -> Tensor:
        with torch.no_grad():
            return module(rainy)

    return Exported(run, _about(path, extra[KEY]))


READERS: dict[str, Callable[[Path], Exported]] = {"onnx": _open_onnx, "pt2": _open_pt2}


def _about(path: Path, text: Any) -> dict[str, Any]:
    try:
        about = json.loads(text)
        assert (about["size"] is None or len(about["size"]) == 2) and about["title"] and about["multiple"]
        return dict(about)
    except (TypeError, ValueError, KeyError, AssertionError):
        raise UserError(
            f"{path}: it does not say what derain export says of a file (metadata '{KEY}')"
        ) from None


class WithoutKernels(nn.Module):
    """A network in torch's own operations, as it is where nothing can be compiled (`DERAIN_NATIVE=0`) and in a file.

    This suite's kernels add in another order: of a spiking network's neurons, one in millions then fires or not.

    Args:
        network: at test time (`eval`).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network

    def forward(self, rainy: Tensor) -> Tensor:
        """As the network."""
        with portable():
            return self._network(rainy)


@dataclass(frozen=True)
class Difference:
    """How far two networks' pictures are apart, a file's from its network's.

    Attributes:
        largest: of all values, of the [0, 1] of pictures.
        share: of the values, those further apart than `TOLERANCE`, or no numbers, in [0, 1].
    """

    largest: float
    share: float


def difference(network: nn.Module, exported: nn.Module, pictures: Tensor) -> Difference:
    """What a network and its file make of pictures, compared.

    Args:
        network: at test time (`eval`).
        exported: the file.
        pictures: (N, 3, H, W) in [0, 1], of a size that both take; they get one at a time.
    """
    with torch.no_grad():
        apart = torch.cat([(network(one[None]) - exported(one[None])).abs() for one in pictures])
    return Difference(float(apart.max()), float((~(apart <= TOLERANCE)).float().mean()))


def _first(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)[:200]


@contextlib.contextmanager
def _quiet() -> Any:
    """Without what the exporters say to their developers."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


__all__ = [
    "READERS",
    "TOLERANCE",
    "TRANSLATORS",
    "Difference",
    "Exported",
    "WithoutKernels",
    "difference",
    "open_exported",
]
