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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.errors import UserError, unknown
from benchmark.plugins import registered

if TYPE_CHECKING:
    from torch import nn

    from ablations import Study

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
    `embedded` are the constructor options of the small variant that the embedded tables train: of 2 G true operations
    (MACs and accumulates, dense, over all time steps) at 256², within 10 %.
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
    published: bool = True  # False: a design of this suite, in the paper's tables only where it is asked for
    minimum_batch: int = 1  # patches that one process trains on at once
    tile: tuple[int, int] | None = None
    embedded: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    paper_row: str | None = None  # its row in results/paper/table1.csv
    loss: str = ""  # "package.module:function": its own, for recipe.loss=own
    recipe: Mapping[str, Any] = field(default_factory=dict)  # recipe=authors, of a network from outside
    choices: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # words that an option may be (or list)
    lengths: Mapping[str, int] = field(
        default_factory=dict
    )  # how many values a list option has, where that is fixed

    def is_ours(self) -> bool:
        """Whether the suite has it, rather than a package of its own."""
        return self.package() in ("baselines", "esdnet")

    def package(self) -> str:
        """The package whose code it is."""
        return self.target.partition(":")[0].partition(".")[0]

    def least(self, option: str) -> int | None:
        """The least value of an option that is a number; None where that is not known (networks from outside)."""
        if not self.is_ours():
            return None
        # there may be no blocks, but not no channels
        return 0 if option.endswith(("blocks", "units")) or isinstance(self.options()[option], float) else 1

    def most(self, option: str) -> int | None:
        """The greatest value of an option that is a whole number; None where that is not known."""
        if self.least(option) is None:
            return None
        return 4096 if option.endswith(("blocks", "units", "stages", "steps")) else 10_000_000

    def load_class(self) -> type[nn.Module]:
        """Import the network's class (this imports torch)."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def load_loss(self) -> Callable[..., Any]:
        """Import the network's own loss: `loss(outputs, rainy, target) -> scalar`, as those of `benchmark.training`."""
        module, _, attribute = self.loss.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def options(self) -> dict[str, Any]:
        """Constructor options and their defaults, read from the source without importing torch.

        An option whose default is not a literal maps to `...`.
        """
        found = _options_in_source(self.target, self.name)
        if found is not None:
            return dict(found)
        # inherited or generated constructors are not visible in the source: ask the class itself
        import inspect

        parameters = inspect.signature(self.load_class()).parameters.values()
        return {p.name: ... if p.default is p.empty else p.default for p in parameters}


@functools.cache
def _options_in_source(target: str, name: str) -> dict[str, Any] | None:
    module, _, attribute = target.partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"network '{name}': module {module} is not installed")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    return _arguments(item.args)
    return None


def _arguments(arguments: ast.arguments) -> dict[str, Any]:
    names = [a.arg for a in arguments.posonlyargs + arguments.args][1:] + [
        a.arg for a in arguments.kwonlyargs
    ]
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


_BLOCKS = {"encoder_blocks": 3, "decoder_blocks": 2}
_NORMS = {"norm": ("tdbn", "bn")}
_NEURON = {
    **_NORMS,
    "reset_mechanism": ("zero", "subtract", "none"),
    "surrogate": ("sigmoid", "atan", "fast_sigmoid"),
}

# fmt: off
_NETWORKS = (
    Network(
        name="rescan", title="RESCAN", target="baselines.rescan:RESCAN", family="CNN", year=2018, venue="ECCV",
        citation="""@inproceedings{li2018rescan,
  title={Recurrent Squeeze-and-Excitation Context Aggregation Net for Single Image Deraining},
  author={Li, Xia and Wu, Jianlong and Lin, Zhouchen and Liu, Hong and Zha, Hongbin},
  booktitle={European Conference on Computer Vision (ECCV)}, pages={262--277}, year={2018}}""",
        code="XiaLiPKU/RESCAN@e28d1d7", licence="MIT", weights="none found",
        embedded={"channels": 16, "stages": 2, "depth": 4, "start_as_identity": True}, paper_row="RESCAN",
    ),
    Network(
        name="prenet", title="PReNet", target="baselines.prenet:PReNet", family="CNN", year=2019, venue="CVPR",
        citation="""@inproceedings{ren2019prenet,
  title={Progressive Image Deraining Networks: A Better and Simpler Baseline},
  author={Ren, Dongwei and Zuo, Wangmeng and Hu, Qinghua and Zhu, Pengfei and Meng, Deyu},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages={3937--3946}, year={2019}}""",
        code="csdwren/PReNet@6d908d1", licence="none stated",
        weights="logs/{Rain100H,Rain100L,Rain1400}/PReNet6/net_latest.pth of the authors' repository",
        embedded={"stages": 2, "channels": 13, "residual_blocks": 1, "start_as_identity": True}, paper_row="PReNet",
    ),
    Network(
        name="rcdnet", title="RCDNet", target="baselines.rcdnet:RCDNet", family="CNN", year=2020, venue="CVPR",
        citation="""@inproceedings{wang2020rcdnet,
  title={A Model-Driven Deep Neural Network for Single Image Rain Removal},
  author={Wang, Hong and Xie, Qi and Zhao, Qian and Meng, Deyu},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)}, pages={3103--3112},
  year={2020}}""",
        code="hongwang01/RCDNet@c6e1539", licence="none stated",
        weights="Pretrained_model/ of the authors' repository",
        embedded={"stages": 6, "maps": 8, "duals": 5, "blocks": 1, "kernel_size": 7, "intensity": 16.0,
                  "leaning_kernels": True},
        paper_row="RCDNet",
    ),
    Network(
        name="mprnet", title="MPRNet", target="baselines.mprnet:MPRNet", family="CNN", year=2021, venue="CVPR",
        citation="""@inproceedings{zamir2021mprnet,
  title={Multi-Stage Progressive Image Restoration},
  author={Zamir, Syed Waqas and Arora, Aditya and Khan, Salman and Hayat, Munawar and Khan, Fahad Shahbaz and
    Yang, Ming-Hsuan and Shao, Ling},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)}, pages={14821--14831},
  year={2021}}""",
        code="swz30/MPRNet@43feb2a", licence="Academic Public License (non-commercial)",
        weights="model_deraining.pth of the authors' README",
        size_multiple=8, paper_row="MPRNet",
        embedded={"channels": 8, "growth": 4, "stage3_growth": 4, "level_blocks": 1, "blocks": 1,
                  "reduction": 2, "start_as_identity": True},
    ),
    Network(
        name="efficientderain", title="EfficientDeRain", target="baselines.efficientderain:EfficientDeRain",
        family="CNN", year=2021, venue="AAAI",
        citation="""@inproceedings{guo2021efficientderain,
  title={{EfficientDeRain}: Learning Pixel-wise Dilation Filtering for High-Efficiency Single-Image Deraining},
  author={Guo, Qing and Sun, Jingyang and Juefei-Xu, Felix and Ma, Lei and Xie, Xiaofei and Feng, Wei and Liu, Yang
    and Zhao, Jianjun},
  booktitle={AAAI Conference on Artificial Intelligence}, pages={1487--1495}, year={2021}}""",
        code="tsingqguo/efficientderain@465759d", licence="MIT",
        weights="v3 and v4 of the authors' README; they have 3×3 filters (kernel_size=3)",
        size_multiple=16, embedded={"kernel_size": 3, "width": 11, "start_as_identity": True},
        variants=(Variant({"kernel_size": 3}, key="outc.weight", shape=(27, 27, 1, 1)),), paper_row="Effderain",
    ),
    Network(
        name="nafnet", title="NAFNet", target="baselines.nafnet:NAFNet", family="CNN", year=2022, venue="ECCV",
        citation="""@inproceedings{chen2022nafnet,
  title={Simple Baselines for Image Restoration},
  author={Chen, Liangyu and Chu, Xiaojie and Zhang, Xiangyu and Sun, Jian},
  booktitle={European Conference on Computer Vision (ECCV)}, pages={17--33}, year={2022}}""",
        code="megvii-research/NAFNet@2b4af71", licence="MIT",
        weights="NAFNet-SIDD-width32.pth of the authors' README (denoising; none for deraining)",
        embedded={"width": 20, "encoder_blocks": [1, 1, 2], "middle_blocks": 2, "decoder_blocks": [1, 1, 1]},
        paper_row="NAFNet",
    ),
    Network(
        name="sfnet", title="SFNet", target="baselines.sfnet:SFNet", family="CNN", year=2023, venue="ICLR",
        citation="""@inproceedings{cui2023sfnet,
  title={Selective Frequency Network for Image Restoration},
  author={Cui, Yuning and Tao, Yi and Bing, Zhenshan and Ren, Wenqi and Gao, Xinwei and Cao, Xiaochun and
    Huang, Kai and Knoll, Alois},
  booktitle={International Conference on Learning Representations (ICLR)}, year={2023}}""",
        code="c-yn/SFNet@b2d3c69", licence="MIT", weights="the deraining model of the authors' README",
        size_multiple=8, minimum_batch=2,  # it normalises pooled filters, one value a picture, over the batch
        embedded={"channels": 8, "blocks": 4, "filter_groups": 4}, paper_row="SFNet",
    ),
    Network(
        name="drt", title="DRT", target="baselines.drt:DRT", family="Transformer", year=2022, venue="CVPRW",
        citation="""@inproceedings{liang2022drt,
  title={{DRT}: A Lightweight Single Image Deraining Recursive Transformer},
  author={Liang, Yuanchu and Anwar, Saeed and Liu, Yang},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops (CVPRW)}, pages={589--598},
  year={2022}}""",
        code="YC-Liang/DRT@6b69a37", licence="MIT",
        weights="CheckPoints/{Rain100H,Rain100L}/best_model.pt of the authors' repository (window_size=7)",
        embedded={"dim": 24, "layers": 2, "repeats": 1, "window_size": 4, "start_as_identity": True},
        variants=(
            Variant({"window_size": 7}, shape=(169, 2),
                    key="recursive_layers.0.block1.transformer.attn.relative_position_bias_table"),
        ),
        paper_row="DRT",
    ),
    Network(
        name="elformer", title="ELFormer", target="baselines.elformer:ELFormer", family="Transformer", year=2022,
        venue="ACM MM",
        citation="""@inproceedings{jiang2022elformer,
  title={{Magic ELF}: Image Deraining Meets Association Learning and Transformer},
  author={Jiang, Kui and Wang, Zhongyuan and Chen, Chen and Wang, Zheng and Cui, Laizhong and Lin, Chia-Wen},
  booktitle={ACM International Conference on Multimedia (ACM MM)}, pages={827--836}, year={2022}}""",
        code="kuijiang94/Magic-ELF@85c4aef", licence="none stated (code adapted from MPRNet: non-commercial)",
        weights="none released",
        size_multiple=16, paper_row="ELFormer",
        embedded={"channels": 24, "blocks": 1, "reduction": 2, "start_as_identity": True},
    ),
    Network(
        name="hpcnet", title="HPCNet", target="baselines.hpcnet:HPCNet", family="Transformer", year=2023, venue="ICME",
        citation="""@inproceedings{wang2023hpcnet,
  title={{HPCNet}: Hybrid Progressive Coupled Network for Image Deraining},
  author={Wang, Qiong and Jiang, Kui and Lai, Jianjun and Wang, Zheng and Zhang, Jianhui},
  booktitle={IEEE International Conference on Multimedia and Expo (ICME)}, year={2023}}""",
        code="QiongWang-l/HPCNet_code@1a84c01", licence="none stated",
        weights="checkpoints/model_latest54.pth of the authors' repository",
        size_multiple=4, paper_row="HPCNet",
        embedded={"channels": 26, "coupled_blocks": 1, "blocks": 1, "start_as_identity": True},
    ),
    Network(
        name="smartassign", title="SmartAssign (rebuilt)", target="baselines.smartassign:SmartAssign",
        family="Transformer", year=2023, venue="CVPR",
        citation="""@inproceedings{wang2023smartassign,
  title={{SmartAssign}: Learning a Smart Knowledge Assignment Strategy for Deraining and Desnowing},
  author={Wang, Yinglong and Ma, Chao and Liu, Jianzhuang},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)}, pages={3677--3686},
  year={2023}}""",
        code="none obtainable: rebuilt from what is known of it", licence="no code",
        weights="none can fit: this is a rebuilding", paper_row="SmartAssign",
        embedded={"channels": 24, "groups": 2, "blocks": 1, "heads": 2, "expansion": 2.0, "start_as_identity": True},
    ),
    Network(
        name="esdnet", title="ESDNet", target="esdnet.network:ESDNet", family="Spiking", year=2024, venue="IJCAI",
        citation="""@inproceedings{song2024esdnet,
  title={Learning a Spiking Neural Network for Efficient Image Deraining},
  author={Song, Tianyu and Jin, Guiyue and Li, Pengpeng and Jiang, Kui and Chen, Xiang and Jin, Jiyu},
  booktitle={International Joint Conference on Artificial Intelligence (IJCAI)}, year={2024}}""",
        code="MingTian99/ESDNet@71e3cbc", licence="none stated",
        weights="the released files do not fit the released code (its issue 1)",
        size_multiple=4, tile=(80, 8), paper_row="ESDNet",
        embedded={"dim": 7, "encoder_blocks": [1, 1, 1], "bottleneck_blocks": 0, "decoder_blocks": [1, 1],
                  "time_steps": 2, "start_as_identity": True},
        choices={**_NEURON, "block": ("srb", "sdb", "ms", "sew", "ann"),
                 "attention": ("temporal", "channel", "spatial")},
        lengths=_BLOCKS,
    ),
    Network(
        name="esdnet-s", title="ESDNet-S (ours)", target="esdnet.network:ESDNetS", family="Spiking", year=2026,
        venue="–",
        citation="""@misc{esdnets2026,
  title={{ESDNet-S}: {ESDNet} without real-valued products inside},
  author={{The authors of derain}},
  note={A variant of ESDNet (Song et al., IJCAI 2024) designed in this suite}, year={2026}}""",
        code="this suite", licence="MIT", weights="none ship", published=False,
        size_multiple=4, tile=(80, 8), choices=_NEURON, lengths=_BLOCKS,
        embedded={"dim": 11, "encoder_blocks": [1, 1, 1], "bottleneck_blocks": 0, "decoder_blocks": [1, 1],
                  "time_steps": 2, "start_as_identity": True},
    ),
    Network(
        name="spikerain", title="SpikeRain", target="baselines.spikerain:SpikeRain", family="Spiking", year=2026,
        venue="WACV",
        citation="""@inproceedings{islam2026spikerain,
  title={SpikeRain: Towards Energy-Efficient Single Image Deraining with Spiking Neural Networks},
  author={Islam, Md Tanvir and Alam, Inzamamul and Bakshi, Sambit and Muhammad, Khan
    and Del Ser, Javier and Ahn, Sangtae},
  booktitle={IEEE/CVF Winter Conference on Applications of Computer Vision (WACV)}, year={2026}}""",
        code="tanvirnwu/SpikeRain@64a182c", licence="MIT", weights="none found",
        size_multiple=4, tile=(80, 8), lengths=_BLOCKS,
        choices={**_NORMS, "surrogate": ("sigmoid", "atan", "fast_sigmoid")},
        embedded={"dim": 10, "encoder_blocks": [1, 0, 0], "bottleneck_blocks": 0, "decoder_blocks": [0, 1],
                  "time_steps": 2, "growth": 12, "layers": 2, "start_as_identity": True},
    ),
    Network(
        name="vlif", title="VLIF", target="baselines.vlif:VLIF", family="Spiking", year=2026, venue="AAAI",
        citation="""@inproceedings{chen2026vlif,
  title={Exploring the Potentials of Spiking Neural Networks for Image Deraining},
  author={Chen, Shuang and Krajnik, Tomas and Arvin, Farshad and Atapour-Abarghouei, Amir},
  booktitle={AAAI Conference on Artificial Intelligence}, year={2026}}""",
        code="ChrisChen1023/VLIF@36f8cf2", licence="MIT",
        weights="Rain200L, Rain200H and Rain1200 files of the authors' repository",
        size_multiple=8, tile=(80, 8), choices=_NORMS, lengths=_BLOCKS,
        embedded={"dim": 11, "encoder_blocks": [1, 0, 0], "bottleneck_blocks": 0, "decoder_blocks": [0, 1],
                  "time_steps": 2, "threshold": 0.05, "norm": "bn", "decoder_units": 1, "start_as_identity": True},
        variants=(
            Variant({"refinement": True}, "refinement_blocks.0.conv1.weight", (48, 48, 3, 3)),
        ),
    ),
)
# fmt: on


@functools.cache
def networks() -> Mapping[str, Network]:
    """All networks by name, in the order of the paper's Table 1; plug-ins after ours."""
    return registered("derain.networks", Network, _NETWORKS)


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


def studies() -> list[str]:
    """Names of the ablation studies, those of the paper's tables first."""
    import ablations

    return ablations.studies()


def study(name_or_path: str) -> Study:
    """An ablation study by its name, the number of its table, or a YAML file.

    Raises:
        UserError: no such study (the nearest is given), or the file is not one.
    """
    import ablations
    from benchmark.reading import path, read_yaml

    try:
        return ablations.load(path(name_or_path), read_yaml)
    except KeyError:
        raise unknown("study", name_or_path, studies()) from None
    except ValueError as error:
        raise UserError(str(error)) from None
