"""Which datasets there are: one entry each. To add one, add an entry; nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from benchmark.errors import unknown


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
    regime: str | None = None  # of `benchmark.data.rain`, for the embedded ones
    aliases: tuple[str, ...] = ()
    several_folders: bool = False  # a split is spread over folders (one for each density)
    channel: str = "Y"  # what the papers measure it on

    @property
    def embedded(self) -> bool:
        """True for the sets that are rendered over photographs that other packages ship: nothing to bring."""
        return self.regime is not None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits it has of its own."""
        return ("train",) if self.rendered else tuple(self.published) or ("train", "test")

    @property
    def training(self) -> str:
        """Name of the dataset whose training split makes the model that this one tests."""
        return self.trains_on or self.name


# fmt: off
_DATASETS = (
    Dataset(
        name="rain12", title="Rain12", columns="rain12", published={"test": 12}, trains_on="rain200l",
        about="12 test pairs of Li et al., CVPR 2016; tested with the Rain200L model",
        aliases=("rain12", "test12"),
    ),
    Dataset(
        name="rain200l", title="Rain200L", columns="rain200l", published={"train": 1800, "test": 200},
        about="light rain over BSDS500, Yang et al., CVPR 2017 (updated edition)",
        aliases=("rain200l", "rain200light", "raindatatrainlight", "raindatatestlight"),
    ),
    Dataset(
        name="rain200h", title="Rain200H", columns="rain200h", published={"train": 1800, "test": 200},
        about="heavy rain over BSDS500, Yang et al., CVPR 2017 (updated edition)",
        aliases=("rain200h", "rain200heavy", "raindatatrainheavy", "raindatatestheavy"),
    ),
    Dataset(
        name="rain1200", title="Rain1200", columns="rain1200", published={"train": 12000, "test": 1200},
        about="three rain densities, Zhang and Patel, CVPR 2018 (DID-MDN)",
        aliases=("rain1200", "didmdn", "diddata", "test1200"), several_folders=True,
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
        name="embedded-12", title="embedded-12", columns="rain12", published={"test": 6}, regime="twelve",
        trains_on="embedded-light",
        about="stands for Rain12: a small, light test set; tested with the embedded-light model",
    ),
    Dataset(
        name="embedded-light", title="embedded-light", columns="rain200l", published={"train": 84, "test": 8},
        regime="light", about="stands for Rain200L: light rain rendered over shipped photographs",
    ),
    Dataset(
        name="embedded-heavy", title="embedded-heavy", columns="rain200h", published={"train": 84, "test": 8},
        regime="heavy", about="stands for Rain200H: heavy rain rendered over shipped photographs",
    ),
    Dataset(
        name="embedded-mixed", title="embedded-mixed", columns="rain1200", published={"train": 84, "test": 9},
        regime="mixed", about="stands for Rain1200: three densities rendered over shipped photographs",
    ),
)
# fmt: on

DATASETS: Mapping[str, Dataset] = MappingProxyType({entry.name: entry for entry in _DATASETS})
"""All datasets by name, in the order of the paper's table 1, then the others."""


def dataset_spec(name: str) -> Dataset:
    """The entry of one dataset.

    Raises:
        UserError: no such dataset; the nearest name is given.
    """
    try:
        return DATASETS[name]
    except KeyError:
        raise unknown("dataset", name, DATASETS) from None
