"""Words that say what is so: of commits, counts, released weights, times, and whose help to read."""

from __future__ import annotations

import pytest

from benchmark import catalog
from benchmark.cli import main
from benchmark.cli.planning import _total
from benchmark.cli.reporting import _not_made
from benchmark.cli.tables import made_by
from benchmark.report.models import listed
from benchmark.sweep.executors import ExecutorConfig


def test_a_wheel_has_no_commit_and_says_so() -> None:
    record = {
        "command": "derain train",
        "commit": None,
        "config": {"recipe": {"name": "paper"}, "model": {"name": "prenet"}},
        "machine": {"processor": "a", "cores": 2},
        "versions": {"torch": "2"},
        "date": "2026-01-01T00:00",
        "training": {},
    }
    (said, *_) = made_by([record])
    assert "commit unknown (installed without its history)" in said and "None" not in said


def test_released_weights_that_do_not_fit_are_not_said_to_be_had() -> None:
    networks = listed(list(catalog.networks().values()))["networks"]
    told = {n["name"]: n["released weights"] for n in networks}
    assert told["esdnet"] == "do not fit" and told["nafnet"] == "not for rain" and told["prenet"] == "yes"
    assert told["rescan"] == "no"


def test_a_time_that_nobody_knows_is_not_zero() -> None:
    config = ExecutorConfig()
    assert _total(0.0, 3, None, config, None) == "how long is not known; 3 runs are not counted"
    assert _total(90.0, 0, None, config, None).startswith("about 2 min of work")


def test_tables_that_nobody_made_are_named() -> None:
    said = dict(_not_made({"table1", "table1_ranks", "table2_mine"}, {"table1", "table4"}))
    assert list(said) == ["Table 3", "Table 4", "Table 5"]
    assert "kept with the suite" in said["Table 4"] and "kept" not in said["Table 3"]


@pytest.mark.parametrize("command", ["train", "models", "bench"])
def test_a_wrong_flag_is_answered_with_the_help_of_its_command(command: str, capsys) -> None:
    assert main([command, "--no-such-flag"]) == 2
    assert f"(see derain {command} --help)" in capsys.readouterr().err
