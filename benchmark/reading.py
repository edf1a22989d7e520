"""What users write, read: values by the type that they are wanted as, YAML and JSON files within limits.

Text stays the text that was written; numbers are decimal; nothing is guessed. Files are read with the scalars of YAML
1.2's core schema (no sexagesimals, octals, dates or underscores, and `no` is a word), to a size and a depth, without
tags and without references (`${…}`). Imports no torch.
"""

from __future__ import annotations

import json
import math
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.files import home

_WHOLE = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NULL = ("null", "Null", "NULL")
_DIGITS = 400  # Python refuses to convert some thousands of them
MOST_BYTES = 32 << 20  # a plan of a hundred thousand runs has a third of it
MOST_DEPTH = 64
MOST_ALIASED = 1000  # values that a file has by its aliases; anchors that double would be millions


class UnreadableError(ValueError):
    """A file that is not what it should be; in one line."""


def whole(text: str) -> int:
    """A whole number, decimal.

    >>> whole("010")
    10

    Raises:
        ValueError: it is none.
    """
    if not _WHOLE.fullmatch(text.strip()) or len(text) > _DIGITS:
        raise ValueError("a whole number is needed here")
    return int(text)


def number(text: str) -> float:
    """A finite decimal number.

    Raises:
        ValueError: it is none.
    """
    plain = text.strip()
    if not _NUMBER.fullmatch(plain) or len(plain) > _DIGITS:
        endless = plain.lstrip("+-.").lower() in ("inf", "infinity", "nan")
        raise ValueError(
            "must be a finite number" if endless else "a number is needed here, such as 0.5 or 1e-3"
        )
    if not math.isfinite(float(plain)):
        raise ValueError("must be a finite number")
    return float(plain)


def truth(text: str) -> bool:
    """true or false; yes, no, on and off will do, in any case.

    Raises:
        ValueError: it is none of them.
    """
    try:
        return _TRUTH[text.strip().lower()]
    except KeyError:
        raise ValueError("true or false") from None


_ITEM = re.compile(
    r"""\s*(?:("(?:[^"\\]|\\.)*")|'((?:[^']|'')*)'|([^,\[\]{}"'][^,\[\]{}]*))\s*(?:,|$)""", re.DOTALL
)


def items(text: str) -> list[tuple[str, bool]]:
    """The items of a list as it is written, `[a, b]`, each with whether it stood in quotes.

    Raises:
        ValueError: that is no list.
    """
    plain = text.strip()
    if plain[:1] != "[" or plain[-1:] != "]":
        raise ValueError("a list is needed here, such as [a,b]")
    inside, at, found = plain[1:-1], 0, []
    while at < len(inside.rstrip()):
        item = _ITEM.match(inside, at)
        if item is None:
            raise ValueError(
                "a list is needed here, such as [a,b]; quotes around what has commas or brackets"
            )
        double, single, bare = item.groups()
        if bare is not None:
            found.append((bare.strip(), False))
        else:
            found.append((json.loads(double, strict=False) if double else single.replace("''", "'"), True))
        at = item.end()
    return found


def typed(hint: Any, text: str) -> Any:
    """A value of a type, from text.

    Args:
        hint: str, int, float, bool, a list of one of them, words (`Literal`, which others hold them to), or one of
            these or None.
        text: as it was written. For a type that may be None, nothing and `null` are None.

    Raises:
        ValueError: the text is no such value; says what is needed.
    """
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        if not text.strip() or text.strip() in _NULL:
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if typing.get_origin(hint) is list:
        (kind,) = typing.get_args(hint)
        if typing.get_origin(kind) is typing.Literal and text.strip()[:1] != "[":
            return [name.strip() for name in text.split(",")]  # such words have no commas
        return [typed(kind, item) for item, _ in items(text)]
    if typing.get_origin(hint) is typing.Literal:
        return text
    readers: Mapping[type, Any] = {str: str, int: whole, float: number, bool: truth}
    return readers[hint](text)


def like(default: Any, text: str) -> Any:
    """A value of the kind that a default is of; the text itself where it is none, for others to refuse.

    A whole number stays one where the default is a fraction. For a default that says nothing (None), what the text
    looks like: null, true, false, a number, a list, or text.
    """
    try:
        if isinstance(default, bool):
            return truth(text)
        if isinstance(default, (int, float)):
            return whole(text) if _WHOLE.fullmatch(text.strip()) else number(text)
        if isinstance(default, (tuple, list)):
            kind = default[0] if default else None
            return [item if quoted else like(kind, item) for item, quoted in items(text)]
        if isinstance(default, str):
            return text
        if text.strip()[:1] == "[":
            return [item if quoted else like(None, item) for item, quoted in items(text)]
    except ValueError:
        return text
    return _scalar(text)


def written(value: Any) -> str:
    """A value as `typed` and `like` read it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        inside = (json.dumps(v, ensure_ascii=False) if isinstance(v, str) else written(v) for v in value)
        return f"[{','.join(inside)}]"
    return str(value)


def path(text: str) -> str:
    """A path with the home folder put in for a `~` at its beginning.

    Raises:
        UserError: it is not known whose home is meant, or where that is.
    """
    if not text.startswith("~"):
        return text
    whose, slash, rest = text.partition("/")
    place = home() if whose == "~" else os.path.expanduser(whose)  # noqa: PTH111 (pathlib raises RuntimeError)
    if place is None or str(place) == whose:
        raise UserError(
            f"{text}: the home folder is not known; write the path out, or ./{text} for what is called so"
        )
    return f"{str(place).rstrip('/')}{slash}{rest}" or "/"


class _Int(int):
    """A whole number that remembers how it was written: a setting that is text keeps its text."""

    text: str

    def __str__(self) -> str:
        return self.text


class _Float(float):
    """As `_Int`, for fractions."""

    text: str

    def __str__(self) -> str:
        return self.text


def _scalar(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2; octal and hexadecimal numbers stay text."""
    if text in ("", "~", *_NULL):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if len(text) > _DIGITS or not _NUMBER.fullmatch(text):
        return text
    value = _Int(text) if _WHOLE.fullmatch(text) else _Float(text)
    value.text = text
    if str(plain := int(value) if isinstance(value, int) else float(value)) == text:
        return plain
    return value


class _Builder:
    """Plain data out of the events of a YAML parser, without recursion."""

    def __init__(self, references: bool) -> None:
        self.references = references
        self.frames: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.aliased = 0
        self.documents: list[Any] = []

    def take(self, event: Any) -> None:
        """The next event of the parser."""
        kind = type(event).__name__
        if kind == "ScalarEvent":
            self._put(self._of_scalar(event), event.anchor, 1, 0, event)
        elif kind == "AliasEvent":
            if event.anchor not in self.anchors:
                raise _at(event, f"the alias *{event.anchor} stands for nothing, or for what it is in")
            value, count, depth = self.anchors[event.anchor]
            self.aliased += count
            if self.aliased > MOST_ALIASED:
                raise _at(event, f"aliases that stand for more than {MOST_ALIASED} values")
            self._put(value, None, count, depth, event)
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            if event.tag not in (None, "!"):
                raise _at(event, f"the tag {event.tag} is not read")
            if len(self.frames) >= MOST_DEPTH:
                raise _at(event, f"nested deeper than {MOST_DEPTH}")
            self.frames.append(_Frame({} if kind.startswith("Map") else [], event))
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            frame = self.frames.pop()
            self._put(frame.value, frame.start.anchor, frame.count, frame.depth, frame.start)

    def _of_scalar(self, event: Any) -> Any:
        if not self.references and "${" in event.value:
            raise _at(event, "${…}: values are written out; there are no references here")
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise _at(event, f"the tag {event.tag} is not read")
        is_key = self.frames and isinstance(self.frames[-1].value, dict) and self.frames[-1].key is None
        if is_key or event.tag or event.style or not event.implicit[0]:
            return event.value
        return _scalar(event.value)

    def _put(self, value: Any, anchor: str | None, count: int, depth: int, event: Any) -> None:
        if anchor is not None:
            self.anchors[anchor] = (value, count, depth)
        if not self.frames:
            self.documents.append(value)
            return
        frame = self.frames[-1]
        frame.count += count
        frame.depth = max(frame.depth, depth + 1)
        if len(self.frames) + depth > MOST_DEPTH:
            raise _at(event, f"nested deeper than {MOST_DEPTH}")
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.key is None:
            if not isinstance(value, str):
                raise _at(event, "a key must be a word")
            if value in frame.value:
                raise _at(event, f"'{value}' is given twice")
            frame.key = value
        else:
            frame.value[frame.key] = value
            frame.key = None


class _Frame:
    """A list or a mapping of which not all has been read."""

    def __init__(self, value: Any, start: Any) -> None:
        self.value, self.start = value, start
        self.key: str | None = None
        self.count, self.depth = 1, 0


def _at(event: Any, what: str) -> UnreadableError:
    mark = event.start_mark
    return UnreadableError(f"{what} (line {mark.line + 1})" if mark is not None else what)


def yaml_of(text: str, references: bool = False) -> Any:
    """The plain data of a YAML text; keys of mappings are words.

    Args:
        text: one document.
        references: whether `${…}` may stand in it, as in the commands of W&B's sweeps.

    Raises:
        UnreadableError: it is no YAML, or more than is read here (tags, references, deep nesting, many aliases).
    """
    import yaml

    builder = _Builder(references)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.take(event)
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise UnreadableError(" ".join(str(error).split())) from None
    if len(builder.documents) > 1:
        raise UnreadableError("more than one document")
    return builder.documents[0] if builder.documents else None


def json_of(text: str | bytes) -> Any:
    """The plain data of a JSON text, as `json.loads`.

    Raises:
        ValueError: it is no JSON, or nested deeper than is read here.
    """
    try:
        data = json.loads(text)
    except RecursionError:
        raise UnreadableError(f"nested deeper than {MOST_DEPTH}") from None
    for _, depth in _inside(data):
        if depth > MOST_DEPTH:
            raise UnreadableError(f"nested deeper than {MOST_DEPTH}")
    return data


def refuse_references(data: Any) -> None:
    """Refuse plain data with `${…}` in its text.

    Raises:
        UnreadableError: there is some.
    """
    for value, _ in _inside(data):
        if isinstance(value, str) and "${" in value:
            raise UnreadableError("${…}: values are written out; there are no references here")


def _inside(data: Any) -> Iterator[tuple[Any, int]]:
    """All values of plain data, keys too, with their depth."""
    left = [(data, 0)]
    while left:
        value, depth = left.pop()
        yield value, depth
        if isinstance(value, dict):
            left += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            left += [(part, depth + 1) for part in value]


def text_of(file: Path) -> str:
    """The text of a user's file.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        UnreadableError: it is no file (a folder, a pipe, a device), too large, or not UTF-8.
    """
    file.stat()
    if not file.is_file():
        raise UnreadableError("it is no file")
    with file.open("rb") as opened:
        content = opened.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UnreadableError(f"it is larger than {MOST_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it is not UTF-8 ({error})") from None


def plain_of(file: Path) -> Any:
    """The plain data of a user's YAML or JSON file, in which nothing refers to anything.

    Raises:
        FileNotFoundError: there is none.
        OSError, ValueError: it cannot be read.
    """
    text = text_of(file)
    told = json_of(text) if file.suffix == ".json" else yaml_of(text)
    refuse_references(told)
    return told


def read_yaml(file: Path, references: bool = False) -> Any:
    """The plain data of a YAML file; arguments as for `yaml_of`.

    Raises:
        UserError: there is no such file, or it cannot be read; in one line.
    """
    try:
        return yaml_of(text_of(file), references)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except UnreadableError as error:
        raise UserError(f"{file}: not a YAML file that can be read: {error}") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
