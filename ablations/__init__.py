"""Ablation studies of ESDNet: which variants there are, each declared in one YAML file beside this one.

A study is a file; to add one, add a file (or give a path of your own), no code:

    title: Table 4, time steps         # what its table is called
    model: esdnet                      # the network that is varied (default)
    paper: table4                      # the printed figures, if the paper has this table
    base: {recipe.loss: ssim}          # settings of all its runs; the user's come after and win
    variants:                          # name of each row, and the settings that make it
      SRB: {}
      MS-ResNet: {model.block: ms}
    labels:                            # what the table shows where that is not the name
      SRB: SRB (ours)
    vary:                              # and, or instead: a row for each value of one setting
      setting: model.time_steps
      symbol: T
      values: [1, 2, 4, 6]
    counted:                           # rows whose printed FLOPs are those of another network than the row's
      1: {model.attention: [channel, spatial]}
    notes:                             # printed with the table
      - A sentence.

Settings are those of the command line (`model.OPTION`, `recipe.loss`, `evaluation.tile`, …), but not those that say
where files are written (`out`, `data.cache`), nor the seed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """A row of a study's table.

    Attributes:
        name: as the paper names it: also the key of its row among the printed figures.
        settings: what makes it, on top of the study's base.
        label: what the table shows.
        value: its place on the axis, where the study varies a number.
        counted: further settings that give the network whose FLOPs the paper printed, where that is another.
    """

    name: str
    settings: Settings
    label: str
    value: float | None = None
    counted: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """An ablation study: variants of one network under one training."""

    name: str
    title: str
    variants: tuple[Variant, ...]
    model: str = "esdnet"
    paper: str | None = None
    base: Settings = field(default_factory=dict)
    setting: str | None = None  # the one whose values are varied
    symbol: str | None = None
    notes: tuple[str, ...] = ()
    counted: Mapping[str, Settings] = field(default_factory=dict)

    def varied(self) -> set[str]:
        """The settings that differ between its variants."""
        return {key for variant in self.variants for key in variant.settings}

    def with_values(self, values: Iterable[Any]) -> Study:
        """The same study with a row for each of other values (any T in Table 4).

        Raises:
            ValueError: the study does not vary one setting, or there are no values.
        """
        values = list(values)
        if self.setting is None or self.symbol is None:
            raise ValueError(f"study '{self.name}' does not go over the values of one setting")
        if not values:
            raise ValueError(f"study '{self.name}' needs at least one value of {self.setting}")
        others = tuple(v for v in self.variants if self.setting not in v.settings)
        rows = _rows(self.setting, self.symbol, values, self.counted)
        return dataclasses.replace(self, variants=others + rows)


def studies() -> list[str]:
    """Names of the studies that are shipped; those of the paper's tables first."""
    return sorted((p.stem for p in FOLDER.glob("*.yaml")), key=lambda n: (not n.startswith("table"), n))


def load(name_or_path: str, reader: Callable[[Path], Any]) -> Study:
    """A study by its name ("table3"; "3" will do), or from a YAML file.

    Args:
        name_or_path: of the study.
        reader: of YAML files, as plain data.

    Raises:
        KeyError: no study of that name.
        ValueError: the file is not a study; says what is wrong and where.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
    else:
        name = f"table{name_or_path}" if name_or_path.isdigit() else name_or_path
        if name not in studies():
            raise KeyError(name_or_path)
        path = FOLDER / f"{name}.yaml"
    return declared(path, reader(path))


_FIELDS = ("title", "model", "paper", "base", "variants", "labels", "vary", "counted", "notes")
_VARY = ("setting", "symbol", "values")
_NOT_OF_A_STUDY = {  # whoever runs a study says where its files go, and which seeds
    "out": "derain … --runs FOLDER says where runs are kept",
    "data.cache": "derain … data.cache=FOLDER says where this machine keeps its cache",
    "seed": "derain … --seeds says which there are",
}


def declared(path: Path, content: Any) -> Study:
    """The study that a YAML file declares; its name is the file's.

    Args:
        path: of the file.
        content: as plain data.

    Raises:
        ValueError: it is not a study.
    """
    content = _mapping(content, path, "a study")
    _known(content, _FIELDS, path, "field")
    counted = {str(k): _settings(v, path) for k, v in _mapping(content.get("counted"), path).items()}
    labels = {str(k): str(v) for k, v in _mapping(content.get("labels"), path).items()}
    variants = tuple(
        Variant(
            str(name),
            _settings(settings, path),
            labels.get(str(name), str(name)),
            counted=counted.get(str(name), {}),
        )
        for name, settings in _mapping(content.get("variants"), path).items()
    )
    vary = _mapping(content.get("vary"), path)
    if vary:
        _known(vary, _VARY, path, "field of vary")
        if not vary.get("setting") or not isinstance(vary.get("values"), list) or not vary["values"]:
            raise ValueError(f"{path}: vary needs a setting and a list of values")
        setting = str(vary["setting"])
        _settings({setting: None}, path)
        symbol = str(vary.get("symbol") or setting.rpartition(".")[2])
        variants += _rows(setting, symbol, vary["values"], counted)
    names = [v.name for v in variants]
    if not names:
        raise ValueError(f"{path}: a study has variants, or vary with values")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: two variants have the same name ({', '.join(names)})")
    for what, given in (("counted", counted), ("labels", labels)):
        for name in given:
            if name not in names:
                raise ValueError(f"{path}: {what} names '{name}', which is no variant ({', '.join(names)})")
    if content.get("paper") and not re.fullmatch(r"\w+", str(content["paper"])):
        raise ValueError(f"{path}: paper is the name of a printed table, such as table3")
    notes = content.get("notes") or []
    if not isinstance(notes, list):
        raise ValueError(f"{path}: notes is a list of sentences")
    return Study(
        name=path.stem,
        title=str(content.get("title") or path.stem),
        variants=variants,
        model=str(content.get("model") or "esdnet"),
        paper=str(content["paper"]) if content.get("paper") else None,
        base=_settings(content.get("base"), path),
        setting=setting if vary else None,
        symbol=symbol if vary else None,
        notes=tuple(str(n) for n in notes),
        counted=counted,
    )


def _rows(
    setting: str, symbol: str, values: Iterable[Any], counted: Mapping[str, Settings]
) -> tuple[Variant, ...]:
    return tuple(
        Variant(
            name=str(value),
            settings={setting: value},
            label=f"{symbol} = {value}",
            value=float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None,
            counted=counted.get(str(value), {}),
        )
        for value in values
    )


def _mapping(value: Any, path: Path, what: str = "this field") -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {what} is a mapping, not {value!r}")
    return value


def _settings(value: Any, path: Path) -> dict[str, Any]:
    given = {str(k): v for k, v in _mapping(value, path, "the settings of a variant").items()}
    for key in given:
        if key in _NOT_OF_A_STUDY:
            raise ValueError(f"{path}: '{key}' is no setting of a study: {_NOT_OF_A_STUDY[key]}")
    return given


def _known(content: Mapping[Any, Any], allowed: tuple[str, ...], path: Path, kind: str) -> None:
    for key in content:
        if key not in allowed:
            raise ValueError(f"{path}: unknown {kind} '{key}'; one of {', '.join(allowed)}")


__all__ = ["Study", "Variant", "declared", "load", "studies"]
