"""Conventions put prices on counts, and say what is wrong with a file of one's own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from benchmark.cost import CONVENTIONS, convention, measure_cost
from benchmark.cost.conventions import COUNTS, describe
from benchmark.errors import UserError


def test_prices_are_the_papers_and_the_usual_ones() -> None:
    assert dict(CONVENTIONS["paper"].picojoules) == {"mac": 12.5}
    assert dict(CONVENTIONS["paper-text"].picojoules) == {"mac": 12.5, "sop": 0.077, "update": 3.7}
    assert dict(CONVENTIONS["full"].picojoules) == {"mac": 12.5, "sop": 0.077}
    assert dict(CONVENTIONS["45nm"].picojoules) == {"mac": 4.6, "sop": 0.9}
    assert next(iter(CONVENTIONS)) == "45nm"
    assert "12.5 pJ per mac" in describe()


def test_the_columns_of_table_1_are_flops_times_12_5_pj() -> None:
    from benchmark.report.paper import printed

    for row in printed("table1").values():
        energy = CONVENTIONS["paper"].energy_uj({"mac": row["flops_g"] * 1e9})
        assert energy == pytest.approx(row["energy_uj"], rel=1e-3)  # four digits, cut


def test_ones_own(tmp_path) -> None:
    file = tmp_path / "chip.yaml"
    file.write_text("title: A chip\npicojoules: {mac: 2, sop: 0.5, update: 1, norm: 0.25}\n")
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    cost = measure_cost(network, images=torch.rand(1, 2, 4, 4), convention=file)
    assert cost.convention.name == "chip"
    assert cost.energy_uj == pytest.approx((2 * 96 + 0.25 * 48) * 1e-6)
    assert convention(cost.convention) is cost.convention


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picojoules: {macs: 1}", "did you mean 'mac'"),
        ("picojoules: {mac: cheap}", r"picojoules\.mac is 'cheap'"),
        ("picojoules: {mac: -1}", "at least 0"),
        ("picojoules: {mac: .nan}", "at least 0"),
        ("picojoule: {mac: 1}", "did you mean 'picojoules'"),
        ("title: nothing", "must map kinds of work"),
        ("- mac", "mapping"),
        ("picojoules: {mac: 1}\ncounter: top", "did you mean 'thop'"),
        ("a: [", "not a YAML file"),
    ],
)
def test_mistakes_in_ones_own(tmp_path, text, message) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        convention(file)
    assert "\n" not in str(error.value)
    assert "mine.yaml" in str(error.value)


def test_a_missing_file_and_an_unknown_name() -> None:
    with pytest.raises(UserError, match="no such convention file"):
        convention("missing.yaml")
    with pytest.raises(UserError, match="did you mean '45nm'"):
        convention("45 nm")


def test_every_kind_of_work_is_counted_somewhere() -> None:
    from benchmark.cost.result import Layer

    assert set(Layer("a", "b").counts()) == set(COUNTS)


def test_no_torch_for_conventions() -> None:
    code = (
        "import sys, benchmark.cost.conventions as c; c.convention('45nm'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
