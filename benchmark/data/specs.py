"""Which datasets there are: one entry each. To add one, add an entry; nothing else changes.

A package from outside adds one by an entry point of the group `derain.datasets` whose object is a `Dataset`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from benchmark.errors import UserError, unknown
from benchmark.plugins import registered
from benchmark.reading import path as expanded


@dataclass(frozen=True)
class Dataset:
    """A dataset: how it is called, how large it was published, what it trains.

    `aliases` are what a folder of it may be called, in lower case without separators ("rain_data_train_Heavy"
    is "raindatatrainheavy"); a folder name that contains one as whole words belongs to the dataset.
    """

    name: str
    title: str  # how tables print it
    about: str  # one line for `derain data list`
    published: Mapping[str, int] = field(default_factory=dict)  # split -> number of pairs (or photographs)
    trains_on: str | None = None  # whose training split makes the model that this one tests; None: its own
    paired: bool = True  # False: rainy photographs alone, without a clean one
    rendered: bool = False  # True: clean photographs alone, over which it rains while a network trains
    columns: str | None = None  # prefix of its columns in the paper's table 1
    regime: str | None = None  # of `benchmark.data.rain`, for the embedded ones; "every": each of them
    aliases: tuple[str, ...] = ()
    several_folders: bool = False  # a split is spread over folders (one for each density)
    channel: str = "Y"  # what the papers measure it on
    own_splits: tuple[str, ...] = ()  # where `published` does not have them all
    layout: str = ""  # how its files lie, in words
    counts: str = ""  # what is stated of its size beyond `published`
    overlaps: str = ""  # with which sets it shares pictures
    terms: str = ""  # as its authors state them; empty: not stated where `where` points
    where: str = ""  # where its authors point, as read on `READ`
    root: str | None = None  # the folder that it lies in or below, where that is not data.root
    scene: str | None = None  # pattern over a picture's name whose one group says the scene: `scene_of`
    backgrounds: str | None = None  # shared by the sets in which scenes of one name are the same

    def __post_init__(self) -> None:
        if self.scene is not None and re.compile(self.scene).groups != 1:
            raise ValueError(f"dataset '{self.name}': the pattern of its scene needs one group: {self.scene}")

    @property
    def embedded(self) -> bool:
        """True for the sets that are rendered here, over what other packages ship: nothing to bring."""
        return self.regime is not None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits it has of its own."""
        return ("train",) if self.rendered else self.own_splits or tuple(self.published) or ("train", "test")

    @property
    def training(self) -> str:
        """Name of the dataset whose training split makes the model that this one tests."""
        return self.trains_on or self.name


READ = "2026-11-26"
_BSDS = "targets are BSDS500's photographs"
_SHIPPED = r"\d+-([a-z]+)"  # 002-coffee-medium; the two eyes of a stereo picture are one scene
_JORDER = "Yang et al., CVPR 2017; flyywh/JORDER-E-Deep-Image-Deraining-TPAMI-2019-Journal"

# fmt: off
_DATASETS = (
    Dataset(
        name="rain12", title="Rain12", columns="rain12", published={"test": 12}, trains_on="rain200l",
        about="12 test pairs of Li et al., CVPR 2016; tested with the Rain200L model",
        aliases=("rain12", "test12"),
        layout="001_in.png + 001_GT.png in one folder; PReNet's: rainy/rain-001.png inside",
        overlaps="BSDS500: 8 of its test photographs, 4 of its training ones (33066, 76002, 159045, 173036)",
        where="yu-li.github.io/paper/li_cvpr16_rain.zip",
    ),
    Dataset(
        name="rain200l", title="Rain200L", columns="rain200l", published={"train": 1800, "test": 200},
        about="light rain over BSDS500, Yang et al., CVPR 2017 (updated edition)",
        aliases=("rain200l", "rain200light", "raindatatrainlight", "raindatatestlight"),
        layout="{train,test}/{input,target}/1.png; also rain_X2/1x2.png + norain/1.png",
        scene=r"(\d+)", backgrounds="rain200",
        overlaps=f"Rain200H has the same targets; {_BSDS} (its test set: BSDS500's test photographs)", where=_JORDER,
    ),
    Dataset(
        name="rain200h", title="Rain200H", columns="rain200h", published={"train": 1800, "test": 200},
        about="heavy rain over BSDS500, Yang et al., CVPR 2017 (updated edition)",
        aliases=("rain200h", "rain200heavy", "raindatatrainheavy", "raindatatestheavy"),
        layout="as Rain200L", where=_JORDER, scene=r"(\d+)", backgrounds="rain200",
        overlaps=f"Rain200L has the same targets; {_BSDS}; its own training and test sets share backgrounds",
    ),
    Dataset(
        name="rain1200", title="Rain1200", columns="rain1200", published={"train": 12000, "test": 1200},
        about="three rain densities, Zhang and Patel, CVPR 2018 (DID-MDN)",
        aliases=("rain1200", "didmdn", "diddata", "test1200"), several_folders=True,
        layout="side by side in one picture, a folder for each density; also {input,target}/1.png",
        overlaps="its test set is Test1200", where="hezhangsprinter/DID-MDN",
    ),
    Dataset(
        name="rain100l", title="Rain100L (old)", published={"train": 200, "test": 100},
        aliases=("rain100l", "raintrainl"),
        about="light rain over BSDS500, the first edition of Yang et al., CVPR 2017",
        layout="rainy/rain-001.png + norain-001.png above it (PReNet); also {input,target}/1.png",
        overlaps=f"{_BSDS}; its training set was re-issued as Rain200L's test set", where="csdwren/PReNet",
    ),
    Dataset(
        name="rain100h", title="Rain100H (old)", published={"train": 1800, "test": 100},
        aliases=("rain100h", "raintrainh"),
        about="heavy rain over BSDS500, the first edition of Yang et al., CVPR 2017",
        layout="as Rain100L", where="csdwren/PReNet",
        overlaps=f"{_BSDS}; 546 of its training pictures have backgrounds of its test set (PReNet leaves them out)",
    ),
    Dataset(
        name="rain800", title="Rain800", aliases=("rain800", "idcgan"),
        about="synthetic rain, Zhang et al., ID-CGAN (arXiv 1701.05957)",
        layout="side by side in one picture", where="hezhangsprinter/ID-CGAN",
    ),
    Dataset(
        name="rain1400", title="Rain1400", published={"train": 12600, "test": 1400},
        aliases=("rain1400", "rain14000", "rain12600", "ddndata"),
        about="many rains over each photograph, Fu et al., CVPR 2017 (DDN); also called Rain14000",
        scene=r"(\d+)_\d+", backgrounds="rain1400",
        layout="rainy_image/902_1.jpg … + ground_truth/902.jpg", where="xueyangfu.github.io/projects/cvpr2017.html",
    ),
    Dataset(
        name="rain13k", title="Rain13K", aliases=("rain13k",), own_splits=("train",),
        about="the mixed training set of MPRNet and Restormer", counts="13,712 pairs for training",
        overlaps="holds pictures of Rain1400, Rain1800 (Yang et al.), Rain800 and Rain12: no network trained on it "
                 "can be tested on Rain12",
        layout="train/{input,target}/1.jpg; test sets Test100, Rain100H, Rain100L, Test1200, Test2800 beside it",
        where="swz30/MPRNet, Deraining/Datasets",
    ),
    Dataset(
        name="test100", title="Test100", trains_on="rain13k", aliases=("test100",), own_splits=("test",),
        about="a test set of the Rain13K family", layout="{input,target}/1.png", where="swz30/MPRNet, Deraining",
    ),
    Dataset(
        name="test1200", title="Test1200", trains_on="rain13k", aliases=("test1200",), own_splits=("test",),
        about="a test set of the Rain13K family", layout="{input,target}/1.png", where="swz30/MPRNet, Deraining",
        overlaps="Rain1200's test set",
    ),
    Dataset(
        name="test2800", title="Test2800", trains_on="rain13k", aliases=("test2800",), own_splits=("test",),
        about="a test set of the Rain13K family", layout="{input,target}/1.png", where="swz30/MPRNet, Deraining",
        scene=r"(\d+)_\d+", backgrounds="rain1400", overlaps="Rain1400's test set",
    ),
    Dataset(
        name="spa", title="SPA-Data", published={"test": 1000}, own_splits=("train", "test"),
        aliases=("spa", "spadata", "realtest1000"),
        about="real rain with cleaned frames, Wang et al., CVPR 2019 (SPANet)",
        layout="rain/000.png + gt/000gt.png (test)", counts="about 29,500 pairs in all",
        terms="redistribution with notice; the name not to be used to endorse (License.txt)", where="stevewongv/SPANet",
    ),
    Dataset(
        name="hq-rain", title="HQ-RAIN", aliases=("hqrain",), about="synthetic rain, Chen et al., 2023 (a survey)",
        layout="{train,test}/{input,target}/1.png", counts="5,000 pairs in all",
        terms="research purposes only", where="cschenxiang/HQ-RAIN, www.deraining.tech",
    ),
    Dataset(
        name="gt-rain", title="GT-RAIN", aliases=("gtrain",),
        about="real rain and the same scene after it, Ba et al., ECCV 2022",
        layout="a folder for each scene: NAME-R-000.png … + NAME-C-000.png", counts="31,524 pairs of 101 videos in all",
        terms="research purposes only", where="UCLA-VMG/GT-RAIN", scene=r"(.+)[-_]R[-_]\d+",
    ),
    Dataset(
        name="lhp-rain", title="LHP-Rain", aliases=("lhprain",),
        about="real rain with recovered backgrounds, Guo et al., ICCV 2023",
        layout="input/… + gt/…, also a folder for each video", counts="3,000 videos, 1 million pairs of 1920×1080",
        where="yunguo224/LHP-Rain", scene=r"(.+)/[^/]+",
    ),
    Dataset(
        name="realrain-1k", title="RealRain-1k", aliases=("realrain1k", "realrain1kl", "realrain1kh"),
        several_folders=True,
        about="real rain with cleaned frames, a light and a heavy part", where="hiker-lw/RealRain-1k",
        layout="RealRain-1k-{L,H}/{training,validation,test}/{input,target}/0.png",
    ),
    Dataset(
        name="weatherbench", title="WeatherBench rain", aliases=("weatherbench", "weatherbenchrain"),
        about="the rain of a set of several weathers", layout="rain/{train,test}/{input,target}/1.png",
        counts="41,402 training and 600 test pairs of all weathers", where="guanqiyuan/WeatherBench",
    ),
    Dataset(
        name="raindrop", title="RainDrop", published={"train": 861}, own_splits=("train", "test"),
        aliases=("raindrop", "deraindrop"), about="drops on glass, Qian et al., CVPR 2018",
        layout="data/0_rain.png + gt/0_clean.png in train, test_a, test_b", counts="test_b 239 pairs",
        overlaps="test_a is a part of test_b", where="rui1996/DeRaindrop",
    ),
    Dataset(
        name="internet-data", title="Internet-Data", published={"test": 147}, paired=False, aliases=("internetdata",),
        about="147 photographs of real rain, no clean image; Wei et al., CVPR 2019",
        layout="photographs in one folder", where="wwzjer/Semi-supervised-IRR",
    ),
    Dataset(
        name="rw-data", title="RW-Data", published={"test": 185}, trains_on="rain200h", paired=False,
        about="185 photographs of real rain, no clean image; table 2",
        aliases=("rwdata",),
    ),
    Dataset(
        name="folder", title="folder",
        about="any folder with input/ and target/ (or the like), with or without train/ and test/ above",
    ),
    Dataset(
        name="photographs", title="photographs", rendered=True,
        about="any folder of clean photographs, rained on afresh at every step; tested on the embedded sets",
    ),
    Dataset(
        name="embedded", title="embedded", published={"train": 96}, regime="every",
        about="dead leaves under rain of four kinds, to train on; tested on the four that follow",
    ),
    Dataset(
        name="embedded-12", title="embedded-12", columns="rain12", published={"test": 13}, regime="twelve",
        trains_on="embedded", about="stands for Rain12: faint rain over thirteen shipped photographs",
        scene=_SHIPPED, backgrounds="shipped",
    ),
    Dataset(
        name="embedded-light", title="embedded-light", columns="rain200l", published={"test": 13}, regime="light",
        trains_on="embedded", about="stands for Rain200L: light rain over thirteen shipped photographs",
        scene=_SHIPPED, backgrounds="shipped",
    ),
    Dataset(
        name="embedded-heavy", title="embedded-heavy", columns="rain200h", published={"test": 13}, regime="heavy",
        trains_on="embedded", about="stands for Rain200H: heavy rain over thirteen shipped photographs",
        scene=_SHIPPED, backgrounds="shipped",
    ),
    Dataset(
        name="embedded-mixed", title="embedded-mixed", columns="rain1200", published={"test": 13}, regime="mixed",
        trains_on="embedded", about="stands for Rain1200: three densities over thirteen shipped photographs",
        scene=_SHIPPED, backgrounds="shipped",
    ),
)
# fmt: on

COLUMNS = ("rain12", "rain200l", "rain200h", "rain1200")
"""The columns of the paper's table 1, in its order."""

OURS: Mapping[str, Dataset] = MappingProxyType({entry.name: entry for entry in _DATASETS})
"""The datasets of this suite by name, in the order of the paper's table 1, then the others."""


class _Known(Mapping[str, Dataset]):
    """Ours, and those of other packages once they are asked for."""

    def __getitem__(self, name: str) -> Dataset:
        return OURS[name] if name in OURS else self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    @staticmethod
    @functools.cache
    def _all() -> dict[str, Dataset]:
        return registered("derain.datasets", Dataset, _DATASETS)


DATASETS: Mapping[str, Dataset] = _Known()
"""All datasets by name: ours, then those that other packages register as `derain.datasets`."""


def dataset_spec(name: str) -> Dataset:
    """The entry of one dataset.

    Args:
        name: a dataset's name; or a folder of pairs, "/data/mine" or "./mine"; either with "@NAME" behind it: tested
            with the model that is trained on that dataset.

    Raises:
        UserError: no such dataset; the nearest name is given.
    """
    if name in OURS or name in DATASETS:
        return DATASETS[name]
    tested, at, training = name.rpartition("@")
    if at and not _is_path(training) and not Path(name).is_dir():
        spec, trained_on = dataset_spec(tested), dataset_spec(training)
        return replace(
            spec,
            title=f"{spec.title} ({trained_on.title}'s model)",
            trains_on=training,
            columns=spec.columns if spec.training == training else None,
        )
    if _is_path(name):
        return folder_spec(name)
    if Path(name).is_dir():
        raise UserError(f"unknown dataset '{name}'; the folder is written ./{name}")
    raise unknown("dataset", name, DATASETS)


def scene_of(spec: Dataset, name: str) -> str | None:
    """The scene that a picture's name tells, for sets whose entry says how; None where it does not.

    Pictures of one scene (one photograph in several rains, windows, densities or sets; frames of one video) say little
    more than one of them does, so statistics draw them together. Rain200L and Rain200H have the same backgrounds
    under the same numbers, the embedded sets windows of the same photographs. Of the other sets a record says
    instead which pictures have the same clean pixels (`benchmark.run.evaluate`).

    Args:
        spec: of its set.
        name: the picture's, as its record has it.

    Returns:
        "rain200:17", with what the sets that share scenes have in common before the colon.
    """
    found = re.search(spec.scene, name) if spec.scene else None
    return f"{spec.backgrounds or spec.name}:{found.group(1).lstrip('0') or '0'}" if found else None


def folder_spec(path: str) -> Dataset:
    """A folder of pairs as a dataset of its own, called as the folder is."""
    path = expanded(path)
    name = Path(path).absolute().name
    name = f"{name}-folder" if name in DATASETS else name
    return replace(OURS["folder"], name=name, title=name, root=path)


def _is_path(word: str) -> bool:
    return "/" in word or word.startswith((".", "~"))


def result_key(name: str) -> str:
    """Under which name a record has what came of testing on a dataset (as `dataset_spec` takes it)."""
    spec = dataset_spec(name)
    trained_by_itself = spec.name not in DATASETS and spec.trains_on is None
    return "folder" if trained_by_itself else spec.name


def column_key(name: str) -> str:
    """How a table's files call the columns of a dataset: without the folders above it."""
    return name.rpartition("/")[2]


def test_sets(trained_on: str) -> list[str]:
    """The datasets that a network trained on one is tested on: its own, and those that have no training set."""
    if dataset_spec(trained_on).rendered:
        trained_on = "embedded"
    own = [trained_on] if "test" in dataset_spec(trained_on).splits else []
    return own + [d.name for d in DATASETS.values() if d.trains_on == trained_on and d.name != trained_on]


test_sets.__test__ = False  # type: ignore[attr-defined]  # no test, whatever pytest thinks of its name
