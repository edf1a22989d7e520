"""Networks, datasets and metrics that other packages register by an entry point.

    [project.entry-points."derain.datasets"]
    mine = "my_package:ENTRY"

A package that cannot be loaded, or registers what cannot be used, is left out with one line on standard error that
names it; everything else works.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

from benchmark.errors import UserError


class Named(Protocol):
    """What is registered has a name."""

    @property
    def name(self) -> str:
        """How it is called on the command line."""
        ...


T = TypeVar("T", bound=Named)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def registered(
    group: str, kind: type[T], ours: Iterable[T], fault_of: Callable[[T], str] = lambda entry: ""
) -> dict[str, T]:
    """Ours and those of other packages by name; ours first.

    Args:
        group: of entry points, such as "derain.networks".
        kind: what an entry point's object must be.
        ours: those of this suite, whose names nobody else can have.
        fault_of: what else is wrong with another package's; empty: nothing.
    """
    found = {entry.name: entry for entry in ours}
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value)):
        entry, fault = _loaded(point, kind)
        if entry is not None and entry.name in found:
            fault = f"the name '{entry.name}' is taken"
        if entry is not None and not fault:
            fault = fault_of(entry)
        if entry is None or fault:
            package = point.dist.name if point.dist is not None else point.module
            told = UserError(f"package {package} is left out ({group}: {point.value}): {fault}")
            print(f"derain: {told}", file=sys.stderr)
            continue
        found[entry.name] = entry
    return found


def _loaded(point: EntryPoint, kind: type[T]) -> tuple[T | None, str]:
    """What an entry point stands for, and what is wrong with it."""
    try:
        entry = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a package may exit while it is imported
        reason = str(error).strip().splitlines()
        return None, f"{type(error).__name__}{f': {reason[0][:160]}' if reason else ''}"
    if not isinstance(entry, kind):
        return None, f"is a {type(entry).__name__}, not a {kind.__module__}.{kind.__qualname__}"
    if not isinstance(entry.name, str) or not _NAME.fullmatch(entry.name):
        return None, f"{entry.name!r} is no name: letters, digits, dots, hyphens and underscores"
    return entry, ""
