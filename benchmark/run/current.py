"""Whether a record's data are still those that it was made of: an old figure is never shown as a current one."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from benchmark.data.cache import files_digest
from benchmark.data.layouts import pairs_of
from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError
from benchmark.run.records import RECORD
from benchmark.spec import RunSpec


def training_digest(config: RunSpec) -> str | None:
    """A hash of the files that a run trains on; None where they are not on this machine, or come with the suite."""
    name = dataset_spec(config.data.name).training
    return _now(name, config.data.root, "train", tuple(config.data.exclude), config.data.cache)


def test_digests(config: RunSpec, names: Iterable[str]) -> dict[str, str]:
    """A hash of the files of each test set that is on this machine and does not come with the suite."""
    found = {name: _now(name, config.data.root, "test", (), config.data.cache) for name in names}
    return {name: digest for name, digest in found.items() if digest is not None}


def forget() -> None:
    """Look at the files anew when asked next."""
    _now.cache_clear()


@functools.cache
def _now(name: str, root: str | None, split: str, exclude: tuple[str, ...], cache: str | None) -> str | None:
    spec = dataset_spec(name)
    if spec.embedded or (spec.root or root) is None:
        return None
    try:
        return files_digest(pairs_of(spec, root, split, strict=False, exclude=exclude), cache)
    except UserError:  # not there (any more): a record stands for itself
        return None


def changed(record: Mapping[str, Any]) -> str | None:
    """In what the data differ from those that a record was made of; None where they are the same, or cannot be seen."""
    then = record.get("data")
    if not then:
        return None
    data = record["config"]["data"]
    name, where = data["name"], (data.get("root"), data.get("cache"))
    trained_on = dataset_spec(name).training
    now = _now(trained_on, where[0], "train", tuple(data.get("exclude") or ()), where[1])
    if now and then.get("train") and now != then["train"]:
        return f"{trained_on}'s training set has changed since"
    for tested_on, digest in then.get("test", {}).items():
        now = _now(tested_on, where[0], "test", (), where[1])
        if now and now != digest:
            return f"{tested_on}'s test set has changed since"
    return None


def require_current(record: Mapping[str, Any], folder: object) -> None:
    """Refuse a record whose data are others now.

    Raises:
        UserError: they are.
    """
    told = changed(record)
    if told:
        raise UserError(
            f"{folder}/{RECORD}: {told}; move {folder} away to do the run again, or bring the data back"
        )
