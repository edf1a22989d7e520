"""Which networks and datasets there are: one entry each.

To add a network: one file in `baselines/`, one `Network` here. To add a dataset: one `Dataset`. A package of its
own can add networks through the entry-point group `derain.networks` (each entry point a `Network`). Importing this
module imports no torch; the network classes are imported when they are built.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import nn

Family = Literal["CNN", "Transformer", "Spiking"]


@dataclass(frozen=True)
class Variant:
    """Constructor options that released weights need, recognised by the shape of one tensor in the file."""

    options: Mapping[str, Any]
    key: str  # a key of the authors' state_dict
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """A network of the tables: where it is, where it comes from, what it needs.

    `tile` is the tiling of the authors' own test, (size, overlap) in pixels, None for the whole image.
    `embedded` are the constructor options of the small variant that the embedded tables train.
    """

    name: str
    title: str  # how tables print it
    target: str  # "package.module:Class"
    family: Family
    year: int
    venue: str
    citation: str  # BibTeX
    code: str  # owner/repository@commit of the authors' code
    licence: str  # of the authors' code, as stated there
    weights: str  # which released weights load, or "none released"
    size_multiple: int = 1  # forward pads to it (reflection) and crops
    minimum_size: int = 16
    tile: tuple[int, int] | None = None
    embedded: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    paper_row: str | None = None  # its row in results/paper/table1.csv

    def load_class(self) -> type[nn.Module]:
        """Import the network's class (this imports torch)."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def options(self) -> dict[str, Any]:
        """Constructor options and their defaults, read from the source without importing torch.

        An option whose default is not a literal maps to `...`.
        """
        module, _, attribute = self.target.partition(":")
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise UserError(f"network '{self.name}': module {module} is not installed")
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == attribute:
                for item in node.body:
                    if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                        return _arguments(item.args)
        # inherited or generated constructors are not visible in the source: ask the class itself
        import inspect

        parameters = inspect.signature(self.load_class()).parameters.values()
        return {p.name: ... if p.default is p.empty else p.default for p in parameters}


def _arguments(arguments: ast.arguments) -> dict[str, Any]:
    names = [a.arg for a in arguments.posonlyargs + arguments.args][1:] + [a.arg for a in arguments.kwonlyargs]
    defaults: list[ast.expr | None] = list(arguments.defaults)
    positional = len(names) - len(arguments.kwonlyargs)
    defaults = [None] * (positional - len(defaults)) + defaults + list(arguments.kw_defaults)
    found: dict[str, Any] = {}
    for name, default in zip(names, defaults, strict=True):
        try:
            found[name] = ast.literal_eval(default) if default is not None else ...
        except ValueError:
            found[name] = ...
    return found


# fmt: off
_NETWORKS = (
    Network(
        name="rescan", title="RESCAN", target="baselines.rescan:RESCAN", family="CNN", year=2018, venue="ECCV",
        citation="""@inproceedings{li2018rescan,
  title={Recurrent Squeeze-and-Excitation Context Aggregation Net for Single Image Deraining},
  author={Li, Xia and Wu, Jianlong and Lin, Zhouchen and Liu, Hong and Zha, Hongbin},
  booktitle={European Conference on Computer Vision (ECCV)}, pages={262--277}, year={2018}}""",
        code="XiaLiPKU/RESCAN@e28d1d7", licence="MIT", weights="none found",
        embedded={"channels": 16, "stages": 2, "depth": 5}, paper_row="RESCAN",
    ),
    Network(
        name="prenet", title="PReNet", target="baselines.prenet:PReNet", family="CNN", year=2019, venue="CVPR",
        citation="""@inproceedings{ren2019prenet,
  title={Progressive Image Deraining Networks: A Better and Simpler Baseline},
  author={Ren, Dongwei and Zuo, Wangmeng and Hu, Qinghua and Zhu, Pengfei and Meng, Deyu},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)}, pages={3937--3946}, year={2019}}""",
        code="csdwren/PReNet@6d908d1", licence="none stated",
        weights="logs/{Rain100H,Rain100L,Rain1400}/PReNet6/net_latest.pth of the authors' repository",
        embedded={"stages": 3, "channels": 16, "residual_blocks": 3}, paper_row="PReNet",
    ),
    Network(
        name="esdnet", title="ESDNet", target="esdnet:ESDNet", family="Spiking", year=2024, venue="IJCAI",
        citation="""@inproceedings{song2024esdnet,
  title={Learning a Spiking Neural Network for Efficient Image Deraining},
  author={Song, Tianyu and Jin, Guiyue and Li, Pengpeng and Jiang, Kui and Chen, Xiang and Jin, Jiyu},
  booktitle={International Joint Conference on Artificial Intelligence (IJCAI)}, year={2024}}""",
        code="MingTian99/ESDNet@71e3cbc", licence="none stated",
        weights="the released files do not fit the released code (its issue 1)",
        size_multiple=4, tile=(80, 8), paper_row="ESDNet",
        embedded={"dim": 12, "encoder_blocks": [1, 1, 1], "bottleneck_blocks": 1, "decoder_blocks": [1, 1],
                  "time_steps": 2},
    ),
)
# fmt: on


@functools.cache
def networks() -> Mapping[str, Network]:
    """All networks by name, in the order of the paper's Table 1; plug-ins after ours.

    Raises:
        UserError: two entries have the same name, or an entry point is not a `Network`.
    """
    found: dict[str, Network] = {}
    external = [(p.value, p.load()) for p in entry_points(group="derain.networks")]
    for source, entry in [("benchmark.catalog", n) for n in _NETWORKS] + external:
        if not isinstance(entry, Network):
            raise UserError(f"entry point {source}: a derain.networks entry must be a benchmark.catalog.Network")
        if entry.name in found:
            raise UserError(f"entry point {source}: a network named '{entry.name}' is registered already")
        found[entry.name] = entry
    return found


def network(name: str) -> Network:
    """The entry of one network.

    Raises:
        UserError: no such network; the nearest name is given.
    """
    try:
        return networks()[name]
    except KeyError:
        raise unknown("model", name, networks()) from None


def check_options(entry: Network, options: Mapping[str, Any]) -> None:
    """Refuse constructor options that the network does not have.

    Raises:
        UserError: an option does not exist; the nearest name is given.
    """
    allowed = entry.options()
    for option in options:
        if option not in allowed:
            raise unknown(f"option of model '{entry.name}'", option, allowed)


def datasets() -> list[str]:
    """Names of the datasets (`benchmark.data.specs` has their entries)."""
    from benchmark.data.specs import DATASETS

    return list(DATASETS)
