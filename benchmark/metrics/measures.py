"""Metrics beside PSNR-Y and SSIM-Y, as objects: LPIPS, DISTS, the NTIRE score, pyiqa's by name, other packages'.

A metric has a name, a direction, what it needs, and a reason when it cannot be had. On the command line it is NAME, or
NAME:FILE with its weights: nothing is fetched. Another package adds one by an entry point of the group
`derain.metrics` whose object is a `Metric`. Nothing here imports torch before a metric is opened.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError, unknown
from benchmark.files import file_digest
from benchmark.plugins import registered
from benchmark.reading import path as expanded

if TYPE_CHECKING:
    from torch import Tensor

_RESERVED = re.compile(r"(name|width|height|metaiqa|(psnr|ssim|piqe|rainy).*)$")


@dataclass(frozen=True)
class Metric:
    """A metric of restored pictures.

    Attributes:
        name: how columns and the command line call it.
        title: how tables print it.
        lower_better: whether a lower score is a better picture.
        make: called with the file of its weights (None where it needs none), returns what scores: of (N, 3, H, W),
            float32, in [0, 1] on the grey levels of 8 bits, restored and, if `against_target`, target, (N,) values.
            Raises `UserError` where it cannot.
        against_target: whether it compares with the clean picture; else it scores the restored one alone.
        weights: which file it needs; empty: none.
        packages: modules that it needs, the first the one whose version is recorded.
        least: pixels that the sides of pictures must have.
        digits: after the point, in tables.
    """

    name: str
    title: str
    lower_better: bool
    make: Callable[[Path | None], Callable[..., Tensor]]
    against_target: bool = True
    weights: str = ""
    packages: tuple[str, ...] = ()
    least: int = 1
    digits: int = 4

    @property
    def arrow(self) -> str:
        """The title with the direction of better pictures."""
        return f"{self.title} {'↓' if self.lower_better else '↑'}"

    def reason(self, file: Path | None) -> str:
        """Why it cannot be had with (or without) a file of weights; empty where nothing speaks against it."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return f"needs the package {package}, which is not installed"
        if self.weights and file is None:
            return f"needs {self.weights}, which is not fetched: {self.name}:FILE names it"
        return ""


@dataclass(frozen=True)
class Measure:
    """A metric that is ready: with what it was made from."""

    metric: Metric
    source: str
    function: Callable[..., Tensor]

    def __call__(self, restored: Tensor, target: Tensor) -> list[float]:
        """A score for each picture of (N, 3, H, W), measured on 8-bit grey levels.

        Args:
            restored: values outside [0, 1] are clamped.
            target: in [0, 1].

        Raises:
            ValueError: not such tensors, NaN, a target outside [0, 1].
        """
        import torch

        from benchmark.metrics.fidelity import check_images, check_picture, to_8_bit

        check_images(restored, "restored")
        check_picture(target, "target")
        pictures = [restored, target] if self.metric.against_target else [restored]
        seen = [to_8_bit(p).div_(255).float() for p in pictures]
        with torch.no_grad():
            scores = self.function(*seen)
        values: list[float] = scores.reshape(len(restored)).double().tolist()
        return values


@functools.cache
def metrics() -> dict[str, Metric]:
    """Ours and those of other packages by name; pyiqa's, which are not among them, have `named.names`."""

    def fault_of(metric: Metric) -> str:
        return f"another column is called '{metric.name}'" if _RESERVED.match(metric.name) else ""

    return registered("derain.metrics", Metric, _METRICS, fault_of)


def asked(word: str) -> tuple[Metric, Path | None]:
    """The metric and the file of its weights that NAME or NAME:FILE stands for.

    Raises:
        UserError: no such metric (the nearest is given), or no such file, or it takes none.
    """
    name, colon, file = word.partition(":")
    metric = metrics().get(name) or _of_pyiqa(name)
    if not colon:
        return metric, None
    if not metric.weights:
        raise UserError(f"metric {word}: {name} takes no file of weights")
    path = Path(expanded(file))
    if not path.is_file():
        raise UserError(f"metric {word}: no such file")
    return metric, path


def question(word: str) -> str:
    """What a score depends on: the metric's name and, of its file of weights, a hash."""
    name, colon, file = word.partition(":")
    path = Path(expanded(file))
    return f"{name}:{_digest(path)}" if colon and path.is_file() else word


def opened(words: Iterable[str]) -> tuple[list[Measure], dict[str, dict[str, Any]]]:
    """The metrics that can be had, and what a record says of all: title, direction, digits, source or reason.

    Raises:
        UserError: no such metric or file, a file that is not the metric's, or a metric twice.
    """
    ready: list[Measure] = []
    told: dict[str, dict[str, Any]] = {}
    for word in words:
        metric, file = asked(word)
        if metric.name in told:
            raise UserError(f"metric {metric.name} is asked for twice")
        about: dict[str, Any] = {
            "title": metric.title,
            "lower_better": metric.lower_better,
            "digits": metric.digits,
        }
        told[metric.name] = about
        reason = metric.reason(file)
        if not reason:
            try:
                ready.append(open_metric(metric, file))
            except UserError as error:
                if file is not None:
                    raise
                reason = str(error)
        about |= {"reason": reason} if reason else {"source": ready[-1].source}
    return ready, told


def open_metric(metric: Metric, file: Path | None) -> Measure:
    """A metric with its weights.

    Raises:
        UserError: it cannot be had.
    """
    if reason := metric.reason(file):
        raise UserError(f"metric {metric.name} {reason}")
    return _opened(metric, file, _digest(file) if file is not None else "")


@functools.lru_cache(maxsize=8)
def _opened(metric: Metric, file: Path | None, digest: str) -> Measure:
    function = metric.make(file)
    parts = [getattr(function, "source", "") or (_versioned(metric.packages[0]) if metric.packages else "")]
    if file is not None:
        parts.append(f"{file.name}, sha256 {digest[:8]}")
    return Measure(metric, ", ".join(filter(None, parts)), function)


def _versioned(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


@functools.lru_cache(maxsize=32)
def _digest_at(path: Path, modified: int, changed: int, size: int) -> str:
    return file_digest(path)[:12]


def _digest(path: Path) -> str:
    found = path.stat()
    return _digest_at(path, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


@functools.cache
def _of_pyiqa(name: str) -> Metric:
    from benchmark.metrics import named

    if name not in named.names():
        raise unknown("metric", name, [*metrics(), *named.names()])
    return Metric(
        name,
        name,
        named.lower_better(name),
        functools.partial(_named, name),
        against_target=False,
        digits=3,
        packages=("pyiqa",),
    )


class _Named:
    """A metric of pyiqa."""

    def __init__(self, name: str) -> None:
        from benchmark.metrics.named import named_metric

        self.metric = named_metric(name)
        self.source = self.metric.source

    def __call__(self, restored: Tensor) -> Tensor:
        return self.metric(restored)


def _named(name: str, file: Path | None) -> Callable[..., Tensor]:
    return _Named(name)


def _lpips(net: str, file: Path | None) -> Callable[..., Tensor]:
    """LPIPS 0.1 (Zhang et al., CVPR 2018) of torchmetrics, which ships its linear layers; the file is the backbone."""
    from torchmetrics.functional.image import lpips

    with _replaced(lpips, "_get_tv_model_features", lambda net, pretrained: _empty_features(net)):
        network = lpips._NoTrainLpips(net=net, pnet_rand=True)  # type: ignore[arg-type]
    _fill(network.net, file, f"lpips {net}")

    def score(restored: Tensor, target: Tensor) -> Tensor:
        moved: Tensor = network.to(restored.device)(restored, target, normalize=True)
        return moved

    return score


def _dists(file: Path | None) -> Callable[..., Tensor]:
    """DISTS (Ding et al., TPAMI 2020) of torchmetrics, which ships its weighting; the file is the VGG16."""
    from types import SimpleNamespace

    import torch
    from torchmetrics.functional.image import dists

    with _replaced(dists, "vgg16", lambda weights: SimpleNamespace(features=_empty_features("vgg16"))):
        network = dists.DISTSNetwork()
    _fill(network, file, "dists")

    def score(restored: Tensor, target: Tensor) -> Tensor:
        with torch.inference_mode():
            found: Tensor = network.to(restored.device)(restored, target)
        return found.clone()

    return score


def _ntire(file: Path | None) -> Callable[..., Tensor]:
    """10 PSNR(Y) + 10 SSIM(Y) − 5 LPIPS, the formula of the NTIRE challenges on raindrop removal (2025 and 2026).

    Y is not rounded and nothing is cut off the border. Scores told of those challenges (35.24 for the winner of 2026)
    can only be of PSNR taken once, not ten times. PSNR counts as in every mean: at most `means.PSNR_CAP`.
    """
    from benchmark.means import PSNR_CAP
    from benchmark.metrics.fidelity import Convention, psnr_y, ssim_y

    perceptual = _lpips("alex", file)
    plain = Convention("float", False, 0, False, "NTIRE")

    def score(restored: Tensor, target: Tensor) -> Tensor:
        apart = perceptual(restored, target).reshape(len(restored)).double()
        psnr = psnr_y(restored, target, plain).clamp(max=PSNR_CAP)
        return 10 * psnr + 10 * ssim_y(restored, target, plain) - 5 * apart

    return score


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """What would fetch weights, or draw a whole classifier at random, while a network is made."""
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def _empty_features(name: str) -> Any:
    """The convolutions of a torchvision network, to be filled."""
    import torch
    import torchvision

    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None)
    return network.features.to_empty(device="cpu")


def _fill(network: Any, file: Path | None, what: str) -> None:
    """Put torchvision's weights into the convolutions of a network that is made of parts of theirs.

    Raises:
        UserError: the file is of another network.
    """
    from benchmark.checkpoints import read_checkpoint, weights_of

    assert file is not None
    given = weights_of(read_checkpoint(file), f"weights {file}")
    own = {
        key: value
        for key, value in network.state_dict().items()
        if key.startswith(("slice", "stage")) and key.endswith((".weight", ".bias"))
    }
    for key, value in own.items():
        name = f"features.{key.partition('.')[2]}"
        found = given.get(name)
        if found is None or found.shape != value.shape:
            told = "is not in it" if found is None else f"is {tuple(found.shape)}, not {tuple(value.shape)}"
            raise UserError(f"metric {what}: {file} is of another network: {name} {told}")
        value.copy_(found)
    network.eval()


_ALEXNET = "the weights of torchvision's AlexNet (alexnet-owt-7be5be79.pth)"
_VGG16 = "the weights of torchvision's VGG16 (vgg16-397923af.pth)"
_TORCHMETRICS = ("torchmetrics", "torchvision")

# fmt: off
_METRICS = (
    Metric("lpips", "LPIPS", True, functools.partial(_lpips, "alex"), weights=_ALEXNET, packages=_TORCHMETRICS,
           least=31),
    Metric("lpips-vgg", "LPIPS (VGG)", True, functools.partial(_lpips, "vgg"), weights=_VGG16, packages=_TORCHMETRICS,
           least=16),
    Metric("dists", "DISTS", True, _dists, weights=_VGG16, packages=_TORCHMETRICS, least=16),
    Metric("ntire", "NTIRE", False, _ntire, weights=_ALEXNET, packages=_TORCHMETRICS, least=31, digits=2),
)
# fmt: on
