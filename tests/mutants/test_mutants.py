"""The lists of `make mutants` name what is there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def mutants():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("mutants", Path(__file__).with_name("mutants.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module  # whose dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutants"]


def test_every_module_and_test_that_is_named_exists(mutants) -> None:  # type: ignore[no-untyped-def]
    named = [*mutants.MODULES, *(path for tests in mutants.MODULES.values() for path in tests)]
    named += [*mutants.COPIED, *(test.partition("::")[0] for test in mutants.LEFT_OUT)]
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert {module for module, _ in mutants.EQUIVALENT} <= set(mutants.MODULES)
