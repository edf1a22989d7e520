"""Words that say what is so: of commits, counts, released weights, times, and whose help to read."""

from __future__ import annotations

import pytest

from benchmark import catalog
from benchmark.cli import main
from benchmark.cli.planning import _total
from benchmark.cli.reporting import _measured, _not_made
from benchmark.cli.tables import made_by
from benchmark.report.models import listed
from benchmark.run.records import _changed
from benchmark.sweep.executors import ExecutorConfig
from benchmark.text.table import Cell, Column, Row, Table


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
    assert told["rescan"] == "not by its authors" and told["spikerain"] == "no"


def test_a_citation_names_what_the_entry_has() -> None:
    told = {n["name"]: n["citation"] for n in listed(list(catalog.networks().values()))["networks"]}
    assert told["esdnet-s"] == "The authors of derain, 2026"
    assert told["esdnet"] == "Song et al., IJCAI 2024"
    assert not any("{" in citation or "–" in citation for citation in told.values())


def test_weights_are_said_with_an_address() -> None:
    for entry in catalog.networks().values():
        assert "the authors' " not in entry.weights, entry.name


def test_what_others_trained_has_no_recipe_to_name() -> None:
    record = {
        "command": "derain table 1",
        "commit": "a",
        "config": {"recipe": {"name": "unknown"}, "model": {"name": "prenet"}},
        "machine": {"processor": "a", "cores": 2},
        "versions": {"torch": "2"},
        "date": "2026-01-01T00:00",
    }
    known = {**record, "config": {"recipe": {"name": "general"}, "model": {"name": "nafnet"}}}
    assert "recipe" not in made_by([record])[0] and "recipe general, on" in made_by([record, known])[0]


def test_results_that_a_command_wrote_do_not_change_the_commit() -> None:
    assert not _changed(" M results/real/table1.md\n M results/real/released/a/record.json\n")
    for changed in ("results/paper/table1.csv", "results/embedded/default.py", "esdnet/blocks.py"):
        assert _changed(f" M results/real/table1.md\n M {changed}\n")


def test_the_report_says_what_table_1_has() -> None:
    cell = Cell(30.0)
    table = Table(
        "table1",
        "",
        [Column("a_psnr", "a"), Column("b_psnr", "b"), Column("average_psnr", "Average")],
        [
            Row("Rainy input", {"a_psnr": cell, "b_psnr": cell}),
            Row("RESCAN", {"a_psnr": cell, "b_psnr": cell}),
            Row("PReNet", {"a_psnr": cell}),
            Row("NAFNet", {"a_psnr": Cell(reason="not run")}),
        ],
    )
    (said,) = _measured([table])
    assert said.startswith("2 rows measured on 2 test sets. Not on all of them: PReNet. Not run: RCDNet,")
    assert "NAFNet" in said and not _measured([])


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
