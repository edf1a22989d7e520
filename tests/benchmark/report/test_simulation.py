"""The committed simulation of the intervals: it runs, and says what the tables rest on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

HERE = Path(__file__).resolve().parents[3] / "results" / "statistics"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("simulate", HERE / "simulate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["simulate"]


def test_a_mark_is_made_only_where_the_interval_errs_as_often_as_it_says() -> None:
    found = pd.read_csv(HERE / "simulation.csv")
    made = found["mark"].str.startswith("made")
    assert made.any() and (~made).any()
    assert found[made]["error_t"].between(4, 6).all()
    assert (found[found["seeds"] == 1]["mark"].str.startswith("withheld: one seed")).all()
    assert (found[found["seeds"] > 1]["error_bound"] <= 5.5).all()


def test_the_cases_that_were_asked_for_are_there(script: Any) -> None:
    cases = script.cases()
    told = pd.read_csv(HERE / "simulation.csv")
    assert len(told) == len(list(cases))
    assert {"8 pictures of 8 scenes", "9 pictures of 3 scenes", "200 pictures of 200 scenes"} <= set(
        told["design"]
    )
    whole = told[told["design"] == "200 pictures of 200 scenes"]
    assert {(n, s) for n in (1, 3, 5) for s in (0.1, 0.3, 1.0)} <= set(
        zip(whole["seeds"], whole["seed_spread"], strict=True)
    )


def test_it_tells_intervals_that_err_from_those_that_do_not(script: Any) -> None:
    rng = np.random.default_rng(0)
    alone = next(c for c in script.cases() if c.seeds is None and c.scenes == 8 and c.scenes_from == "normal")
    windows = next(c for c in script.cases() if c.seeds is None and c.scenes == 3)
    rows = [script.simulate(case, 2_000, rng) for case in (alone, windows)]
    assert 3.5 < rows[0]["error_t"] < 6.5 and rows[0]["power"] > 50
    assert rows[1]["error_t"] < 7 < 15 < rows[1]["error_pictures"], "windows of one scene are not independent"
