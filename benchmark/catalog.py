"""Which networks there are: a card each.

To add one: a folder in `baselines/` with the class, its loss, its recipe and `card.yaml`, a `Network` in YAML. A
package of its own can add networks through the entry-point group `derain.networks` (each entry point a `Network`).
Importing this module imports no torch; the network classes are imported when they are built.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.errors import UserError, fault_in_words, unknown
from benchmark.plugins import registered
from benchmark.reading import read_yaml

if TYPE_CHECKING:
    from torch import nn

    from ablations import Study

Family = Literal["CNN", "Transformer", "Spiking"]
_OURS = ("baselines", "esdnet")
_MOST = 10_000_000


@dataclass(frozen=True)
class Variant:
    """Constructor options that released weights need, recognised by the shape of one tensor in the file."""

    options: Mapping[str, Any]
    key: str  # a key of the authors' state_dict
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Option:
    """A constructor option: its default, and what it may be.

    `least` and `most` bound a number, or each number of a list; `choices` are the words that it, or each of a list,
    may be; `length` is how many values a list has, where that is fixed.
    """

    default: Any
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    length: int | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Option:
        """As a card has it; a number or a list that says nothing else has at most ten million."""
        default = told["default"]
        default = tuple(default) if isinstance(default, list) else default
        return cls(
            default,
            told.get("least"),
            told.get("most", None if told.get("least") is None else _MOST),
            tuple(told.get("choices", ())),
            told.get("length"),
        )


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
    minimum_batch: int = 1  # patches that a step trains on, by all processes together
    tile: tuple[int, int] | None = None
    embedded: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    paper_row: str | None = None  # its row in results/paper/table1.csv
    loss: str = ""  # "package.module:function": its own, for recipe.loss=own
    # what that is on: outputs of this network alone, any restored images, or the last output
    loss_on: Literal["own", "images", "restored"] = "own"
    # what `training_outputs` has before the restored image: images like it, or something else
    side_outputs: Literal["images", "other"] = "images"
    # recipe=authors: its settings, or a YAML file of them
    recipe: Mapping[str, Any] | Path = field(default_factory=dict)
    # its constructor options; None: the class is asked, which imports it
    declared: Mapping[str, Option] | None = None

    def is_ours(self) -> bool:
        """Whether the suite has it, rather than a package of its own."""
        return self.package() in _OURS

    def package(self) -> str:
        """The package whose code it is."""
        return self.target.partition(":")[0].partition(".")[0]

    def load_class(self) -> type[nn.Module]:
        """Import the network's class (this imports torch)."""
        return _imported(self.target)

    def load_loss(self) -> Callable[..., Any]:
        """Import the network's own loss: `loss(outputs, rainy, target) -> scalar`, as those of `benchmark.training`."""
        return _imported(self.loss)

    def option(self, name: str) -> Option:
        """What one of its options may be."""
        return self._options()[name]

    def options(self) -> dict[str, Any]:
        """Constructor options and their defaults; one without a default maps to `...`.

        Raises:
            UserError: nothing is declared, and the class cannot be imported.
        """
        return {name: option.default for name, option in self._options().items()}

    def _options(self) -> Mapping[str, Option]:
        return self.declared if self.declared is not None else _options_of_class(self.target, self.name)


def _imported(target: str) -> Any:
    """What "package.module:name" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@functools.cache
def _options_of_class(target: str, name: str) -> dict[str, Option]:
    try:
        network = _imported(target)
    except Exception as error:
        told = fault_in_words(error, target.partition(":")[0].partition(".")[0])
        raise UserError(f"network '{name}': {target} cannot be had: {told}") from error
    parameters = inspect.signature(network).parameters.values()
    return {p.name: Option(... if p.default is p.empty else p.default) for p in parameters}


def _cards() -> Iterator[Path]:
    """The cards of this suite's networks."""
    for package in _OURS:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            yield from Path(folder).glob("card*.yaml")
            yield from Path(folder).glob("*/card*.yaml")


def _of_card(file: Path) -> tuple[int, Network]:
    """What a card says, and its network's place in tables."""
    told: dict[str, Any] = read_yaml(file)
    place = told.pop("order")
    told["tile"] = tuple(told["tile"]) if "tile" in told else None
    told["variants"] = tuple(
        Variant(v["options"], v["key"], tuple(v["shape"])) for v in told.get("variants", ())
    )
    told["declared"] = {name: Option.of(option) for name, option in told.pop("options").items()}
    if "recipe" in told:
        told["recipe"] = file.parent / told["recipe"]
    return place, Network(**told)


@functools.cache
def networks() -> Mapping[str, Network]:
    """All networks by name, in the order of the paper's Table 1; plug-ins after ours."""
    ours = sorted(map(_of_card, _cards()), key=lambda card: card[0])
    return registered("derain.networks", Network, [entry for _, entry in ours])


def losses() -> dict[str, Network]:
    """The networks of this suite that declare a loss of their own: recipes name it by the network."""
    return {name: entry for name, entry in networks().items() if entry.is_ours() and entry.loss}


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
