"""From words to a `RunSpec`: the one place where settings are read, wherever they were written.

`key=value` words of the command line, of a plan, of a study or of W&B, and a YAML or JSON file of settings all come
through `resolve`. Nothing here imports torch, so a wrong word is answered at once.
"""

from __future__ import annotations

import functools
import os
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmark import catalog
from benchmark import reading as read
from benchmark.errors import UserError, first_line, unknown
from benchmark.spec import rules
from benchmark.spec.identities import default_options, listed
from benchmark.spec.schema import RecipeSpec, RunSpec, leaves

RECIPES = Path(__file__).parent / "recipes"
CACHE = "DERAIN_CACHE"
_CHOOSING = ("model", "data", "recipe")
_PATHS = ("data.root", "data.cache", "recipe.start_from", "evaluation.also", "out")
_SPEC = TypeAdapter(RunSpec)


def _types(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, hint in typing.get_type_hints(kind).items():
        if name in getattr(kind, "__dataclass_fields__", {}):
            if hasattr(hint, "__dataclass_fields__"):
                yield from _types(hint, f"{prefix}{name}.")
            else:
                yield prefix + name, hint


TYPES = dict(_types(RunSpec))
KEYS = [key for key in TYPES if key not in ("model.name", "model.options")]


def choices(key: str) -> tuple[str, ...]:
    """The words that a setting can be; empty where it can be any."""
    if key == "data.name":
        return tuple(catalog.datasets())
    kind = TYPES[key]
    if typing.get_origin(kind) is list:
        (kind,) = typing.get_args(kind)
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def recipes() -> list[str]:
    """Names of the recipes that are not one network's own."""
    return sorted(p.stem for p in RECIPES.glob("*.yaml"))


def _recipe_file(name: str) -> Path:
    """Where a recipe that is not one network's own is written."""
    if name not in recipes():
        raise unknown("recipe", name, [*recipes(), "authors"])
    return RECIPES / f"{name}.yaml"


@functools.cache
def _recipe(name: str, model: str) -> dict[str, str]:
    """A recipe's settings, as they are written in its file; not to be changed."""
    told: Any = catalog.network(model).recipe if model else _recipe_file(name)
    if not told:
        raise UserError(
            f"recipe=authors: no published recipe is on file for model '{model}'; use recipe=paper"
        )
    if isinstance(told, Path):
        told = read.read_yaml(told)
    return {key: read.written(value) for key, value in _flat(told, "recipe.")}


def pairs_of(words: Iterable[str]) -> list[tuple[str, str]]:
    """The keys of `key=value` words, and their values as they are written.

    Raises:
        UserError: a word is not of that form.
    """
    pairs = []
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise UserError(f"'{word}': settings are written key=value, for example recipe=paper or seed=1")
        if "${" in value or value.strip() == "???":
            raise UserError(f"'{word}': values are written out; there are no references here")
        if "\0" in value:
            raise UserError(f"'{word}': a NUL cannot stand in a value")
        pairs.append((key.lstrip("+"), value))
    return pairs


def words_of_file(path: Path) -> list[str]:
    """The settings in a YAML or JSON file, as words: nested or dotted, as `derain config --schema` describes.

        model: {name: esdnet, dim: 24}
        data: rain200h
        recipe: {name: paper, optimizer: {lr: 5e-4}}
        seed: 1

    What runs keep (config.yaml in their folders) is read as well.

    Raises:
        UserError: there is no such file, it cannot be read, or it is no mapping.
    """
    try:
        told = read.plain_of(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({' '.join(str(error).split())})") from None
    if not isinstance(told, Mapping):
        raise UserError(f"{path}: settings are a mapping, for example model: esdnet")
    pairs = []
    for key, value in _flat(told):
        key = key.replace("model.options.", "model.", 1)
        if key == "model.options" and value == {}:
            continue
        if isinstance(value, Mapping) or (isinstance(value, list) and any(_nested(v) for v in value)):
            raise UserError(f"{path}: {key}: one value or a list of values is needed here, not {value!r}")
        pairs.append((key, read.written(value)))
    named = {f"{key}.name": key for key in _CHOOSING}
    every = {key for key in KEYS if key.startswith("recipe.")} <= {key for key, _ in pairs}
    if every and dict(pairs).get("recipe.name") not in (*recipes(), "authors"):
        del named["recipe.name"]  # a recipe of somebody's own, all of which is written here
    return [f"{named.get(key, key)}={value}" for key, value in pairs]


def _nested(value: Any) -> bool:
    return isinstance(value, (Mapping, list))


def _with_study(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs with `study=NAME row=NAME` replaced by the settings of that row, as a table of the study has them."""
    chosen = {key: value for key, value in pairs if key in ("study", "row")}
    if not chosen:
        return pairs
    if len(chosen) < 2:
        raise UserError("study and row go together, for example study=table3 row=SRB")
    study = catalog.study(chosen["study"])
    variants = {v.name: v for v in study.variants}
    if chosen["row"] not in variants:
        raise unknown(f"row of study {study.name}", chosen["row"], variants)
    given = [(key, value) for key, value in pairs if key not in chosen]
    own = dict(variants[chosen["row"]].settings)
    for key, value in given:
        if key in own:
            raise UserError(
                f"'{key}={value}': row {chosen['row']} of study {study.name} sets it; leave one out"
            )
    settings = [[(key, read.written(value)) for key, value in part.items()] for part in (study.base, own)]
    return [("model", study.model), *settings[0], *given, *settings[1]]


def resolve(words: Iterable[str] = ()) -> RunSpec:
    """The run that a list of `key=value` words asks for.

    `model=NAME`, `data=NAME` and `recipe=NAME` choose; `model.OPTION=…` sets a constructor option;
    `recipe.optimizer.lr=…` and the like change one value; `study=table3 row=SRB` stands for the settings of that row
    of an ablation study. Later words win.

    Raises:
        UserError: an unknown key or name (the nearest is given), a wrong type or an impossible value.
    """
    pairs = _with_study(pairs_of(words))
    chosen = {k: v for k, v in pairs if k in _CHOOSING}
    entry = catalog.network(chosen.get("model", RunSpec().model.name))
    values: dict[str, Any] = {"model.name": entry.name}
    if "data" in chosen:
        values["data.name"] = chosen["data"]
    if "recipe" in chosen:
        own = entry.name if chosen["recipe"] == "authors" else ""
        for key, text in _recipe(chosen["recipe"], own).items():
            values[key] = _value(key, text)
        values["recipe.name"] = chosen["recipe"]
    options: dict[str, Any] = {}
    for key, text in pairs:
        if key in chosen:
            continue
        if key.startswith("model.") and key != "model.name":
            option = key.removeprefix("model.")
            options[option] = model_option(entry, option, text)
        elif key in KEYS:
            values[key] = _value(key, text)
        else:
            named = [f"model.{option}" for option in entry.options()]
            raise unknown("setting", key, [*KEYS, *_CHOOSING, "study", "row", *named])
    spec = _made({**_nest(values), "model": {"name": entry.name, "options": options}}, values)
    rules.check(spec)
    return spec


def _value(key: str, text: str) -> Any:
    """A setting's value, read by its type.

    Raises:
        UserError: the text is no such value.
    """
    try:
        value = read.typed(TYPES[key], text)
    except ValueError as error:
        raise UserError(f"{key}={text}: {error}") from None
    if key in _PATHS and value is not None:
        return [read.path(v) for v in value] if isinstance(value, list) else read.path(value)
    return value


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        functools.reduce(lambda part, parent: part.setdefault(parent, {}), parents, nested)[name] = value
    return nested


def _made(nested: Mapping[str, Any], values: Mapping[str, Any]) -> RunSpec:
    try:
        return _SPEC.validate_python(nested)
    except ValidationError as error:
        raise _refused(error, values) from None


def recipe_of(data: Mapping[str, Any]) -> RecipeSpec:
    """A recipe of plain data, which may leave out what is as the paper has it.

    Raises:
        UserError: a value that cannot be.
    """
    return _made({"recipe": dict(data)}, dict(_flat({"recipe": data}))).recipe


def _refused(error: ValidationError, values: Mapping[str, Any]) -> UserError:
    """The first thing that is wrong, in a line: the setting, its value and what would be right."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    key = next((".".join(place[:n]) for n in range(len(place), 0, -1) if ".".join(place[:n]) in TYPES), "")
    value, kind, bound = values.get(key, first["input"]), first["type"], first.get("ctx", {})
    if kind == "literal_error":
        return unknown(key, str(first["input"]), choices(key))
    said = {
        "greater_than": "must be greater than {gt}",
        "greater_than_equal": "must be at least {ge}",
        "less_than": "must be below {lt}",
        "less_than_equal": "at most {le}",
        "finite_number": "must be a finite number",
        "too_short": "one or several of " + ", ".join(choices(key) if key else ()),
        "string_too_short": "it must have a name, for example {0}",
    }.get(kind)
    if said is None:
        return UserError(f"{key or '.'.join(place)}: {first['msg']}")
    bound = {name: f"{b:g}" if isinstance(b, float) else b for name, b in bound.items()}
    return UserError(f"{key}={value}: {said.format(getattr(RunSpec(), key, ''), **bound)}")


def from_plain(data: Mapping[str, Any]) -> RunSpec:
    """The run that `RunSpec.plain` made plain.

    Raises:
        UserError: it is none of this suite's, or there are references in it.
    """
    try:
        read.refuse_references(dict(data))
        return _SPEC.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"not a configuration of a run: {where}: {first['msg']}") from None
    except ValueError as error:
        raise UserError(f"not a configuration of a run: {first_line(error)}") from None


def model_option(entry: catalog.Network, option: str, text: str) -> Any:
    """The value of a constructor option, read by the kind of its default.

    Raises:
        UserError: the network has no such option (the nearest is given), or it cannot be that.
    """
    catalog.check_options(entry, {option: text})
    value = read.like(entry.options()[option], text)
    rules.check_option(entry, option, value)
    return value


def settings_of(spec: RunSpec) -> dict[str, Any]:
    """Every setting under its name on the command line: `model`, `model.dim`, `recipe`, `recipe.batch`, `seed`, …"""
    found: dict[str, Any] = {"model": spec.model.name}
    options = {**default_options(spec.model.name), **spec.options}
    found |= {f"model.{name}": value for name, value in listed(options).items() if value is not ...}
    found |= {"data": spec.data.name, "recipe": spec.recipe.name}
    return found | {k: v for k, v in leaves(spec) if k in KEYS and k not in ("data.name", "recipe.name")}


def sources(
    words: Sequence[str], spec: RunSpec, of_file: Sequence[str] = (), file: Path | None = None
) -> dict[str, str]:
    """Where the value of every setting comes from.

    Args:
        words: the `key=value` words of the command line.
        spec: what all words resolve to.
        of_file: those of a file of settings, which stand before them.
        file: its name.

    Returns:
        For each name in `settings_of(spec)`: "command line", the file's name, "study NAME", a recipe's file, "embedded
        variant" (of the network), "environment NAME", "network's default" or "default".
    """
    pairs = pairs_of([*of_file, *words])
    given = dict(pairs)
    in_study = {key for key, _ in _with_study(pairs)} - given.keys()
    found = {key: "network's default" if key.startswith("model.") else "default" for key in settings_of(spec)}
    if spec.recipe.embedded:
        found |= {f"model.{option}": "embedded variant" for option in spec.network.embedded}
    if "recipe" in given:
        own = spec.model.name if given["recipe"] == "authors" else ""
        where = f"recipe of {own}" if own else f"recipe/{given['recipe']}.yaml"
        found |= {key: where for key in _recipe(given["recipe"], own) if key in found}
    if os.environ.get(CACHE):
        found["data.cache"] = f"environment {CACHE}"
    found |= {key: f"study {given['study']}" for key in found if key in in_study}
    on_line = dict(pairs_of(words))
    return found | {key: "command line" if key in on_line else str(file) for key in found if key in given}


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def schema() -> dict[str, Any]:
    """A JSON schema of files of settings (`words_of_file`): types, bounds, choices, defaults and what each is for."""
    told = _SPEC.json_schema()
    names = {
        "model": sorted(catalog.networks()),
        "data": list(catalog.datasets()),
        "recipe": [*recipes(), "authors"],
    }
    for group, known in names.items():
        own = told["$defs"][f"{group.title()}Spec"]
        own["properties"]["name"] |= {"examples": known}
        plain = {"type": "string", "description": own["properties"]["name"]["description"], "examples": known}
        told["properties"][group] = {"anyOf": [plain, {"$ref": f"#/$defs/{group.title()}Spec"}]}
    # a network's options stand beside its name
    del told["$defs"]["ModelSpec"]["additionalProperties"]
    told |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Settings of a run"}
    return told
