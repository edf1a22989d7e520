"""Tables of costs: printed, thop's and true, growth with the image, and the files they are written to."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from benchmark.cost import compare, measure_cost, scaling, writing
from benchmark.errors import UserError
from benchmark.models import create_model
from benchmark.report import costs
from benchmark.report.paper import printed


def small(name: str):
    """The embedded variant of a network: cheap enough for a test."""
    from benchmark import catalog

    return create_model(name, **catalog.network(name).embedded), "untrained"


@pytest.fixture(scope="module")
def measured() -> list[compare.Measured]:
    torch.manual_seed(0)
    return compare.measure_networks(["nafnet", "esdnet"], size=32, build=small)


def test_the_corrected_table(measured) -> None:
    table = compare.corrected_table1(measured, printed("table1")).set_index("network")
    esdnet = table.loc["ESDNet"]
    assert (esdnet["params_printed_m"], esdnet["flops_printed_g"]) == (0.165, 7.320)
    assert esdnet["params_thop_m"] < esdnet["params_true_m"]
    assert esdnet["operations_g"] == pytest.approx(esdnet["macs_g"] + esdnet["accumulates_g"])
    assert esdnet["executed_g"] < esdnet["operations_g"]
    assert esdnet["sops_g"] == pytest.approx(esdnet["rate"] * esdnet["accumulates_g"])
    assert esdnet["energy_45nm_uj"] == pytest.approx(
        1e9 * (4.6 * esdnet["macs_g"] + 0.9 * esdnet["sops_g"]) * 1e-6
    )
    assert table.loc["NAFNet", "accumulates_g"] == 0
    assert table.loc["NAFNet", "weights"] == "any"


def test_the_claim(measured) -> None:
    table = compare.energy_claim(measured, printed("table1")).set_index("convention")
    assert table.loc["printed", "saving_percent"] == pytest.approx(54.4, abs=0.1)
    assert {"paper", "full, untrained", "45nm, untrained", "paper-text, untrained"} < set(table.index)
    with pytest.raises(UserError, match="nafnet"):
        compare.energy_claim(measured[1:], printed("table1"))


def test_all_tables_are_written(measured, tmp_path) -> None:
    names = {p.name for p in compare.make_tables(tmp_path / "cost", measured, printed("table1"))}
    assert {"table1.md", "table1.tex", "claim.csv", "layers-esdnet.csv"} <= names
    layers = pd.read_csv(tmp_path / "cost" / "layers-esdnet.csv")
    assert layers["macs"].sum() == measured[1].cost.macs
    assert layers["energy_uj"].sum() == pytest.approx(measured[1].cost.energy_uj)


def test_by_convention(measured) -> None:
    table = compare.by_convention(measured[1].cost, ["full", "paper"]).set_index("convention")
    assert table.loc["paper", "params"] < table.loc["full", "params"]
    assert "FLOP" in table.loc["paper", "counts"] and table.loc["full", "counts"] == "MAC"


def test_every_set_of_weights_has_its_row(measured, tmp_path) -> None:
    trained = compare.Measured("esdnet", measured[1].cost, "60 steps on embedded-heavy")
    claim = compare.energy_claim([*measured, trained], printed("table1"))["convention"].tolist()
    assert "45nm, untrained" in claim and "45nm, 60 steps on embedded-heavy" in claim
    names = {p.name for p in compare.make_tables(tmp_path, [*measured, trained], printed("table1"))}
    assert {"layers-esdnet.csv", "layers-esdnet-60-steps-on-embedded-heavy.csv"} <= names


def test_growth_with_the_image(tmp_path) -> None:
    torch.manual_seed(0)
    table = scaling.scalability(["esdnet"], sizes=(32, 64), build=small, time_limit=None)
    drawn = costs.growth(table, {"ESDNet": "Spiking"}, tmp_path, "growth")
    assert [p.suffix for p in drawn] == [".pdf", ".png", ".svg"]
    first, second = table.iloc[0], table.iloc[1]
    assert second["accumulates_g"] == pytest.approx(4 * first["accumulates_g"])
    assert second["sops_g"] == pytest.approx(4 * first["sops_g"])
    assert second["flops_thop_g"] > first["flops_thop_g"]


def test_a_forward_is_timed_in_its_own_process() -> None:
    run = scaling.run_once("torch.nn:Identity", 64, time_limit=200)
    assert run.seconds is not None and run.seconds >= 0 and run.gigabytes is not None
    told: list[object] = []
    scaling._forward("torch.nn:Linear", 64, SimpleNamespace(send=told.append))
    assert "Linear" in str(told[0]) and not isinstance(told[0], scaling.Run)


def test_any_importable_network(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine_for_cost.py").write_text(
        "from torch import nn\nclass Net(nn.Conv2d):\n    def __init__(self): super().__init__(3, 2, 1)\nx = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert measure_cost(compare.load_target("mine_for_cost:Net"), 8).macs == 64 * 6
    with pytest.raises(UserError, match="did you mean 'Net'"):
        compare.load_target("mine_for_cost:Nett")
    with pytest.raises(UserError, match="module:Class"):
        compare.load_target("no_such_module_at_all:Net")
    with pytest.raises(UserError):
        compare.load_target("mine_for_cost:x")


def test_files(tmp_path) -> None:
    frame = pd.DataFrame({"network": ["A & B", "C|D"], "g": [1234567.25, float("nan")], "n": [3, 4]})
    text = writing.write(frame, tmp_path / "deep" / "t.md", preface="# Costs").read_text()
    assert text.startswith("# Costs\n\n| network | g | n |\n| --- | ---: | ---: |\n| A & B | 1,234,567 | 3 |")
    assert r"C\|D | – |" in text
    tex = writing.write(frame, tmp_path / "t.tex").read_text()
    assert r"A \& B & 1,234,567 & 3 \\" in tex
    assert pd.read_csv(writing.write(frame, tmp_path / "t.csv"))["g"][0] == 1234567.25
    assert json.loads(writing.write(frame, tmp_path / "t.json").read_text())[1]["g"] is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "t.csv", "t.json", "t.tex"]
    with pytest.raises(UserError, match=r"\.md, \.csv, \.tex or \.json"):
        writing.write(frame, tmp_path / "t.xlsx")


def test_plots(measured, tmp_path) -> None:
    cost = measured[1].cost
    assert len([*costs.rates(cost, tmp_path, "rates"), *costs.shares(cost, tmp_path, "shares")]) == 6
    with pytest.raises(UserError, match="no layer"):
        costs.rates(measured[0].cost, tmp_path, "none")


def test_summary_is_plain_data(measured) -> None:
    summary = measured[1].cost.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["operations"] == summary["macs"] + summary["accumulates"]


def test_layers_can_be_sorted(measured) -> None:
    cost = measured[1].cost
    assert cost.sorted("macs")["macs"].is_monotonic_decreasing
    with pytest.raises(UserError, match="did you mean 'macs'"):
        cost.sorted("mac")


@pytest.mark.parametrize("name", ["rescan", "nafnet", "mprnet"])
def test_fvcore_agrees_but_for_its_additions(name) -> None:
    """fvcore counts, beside the products, norms, pooling and interpolation; the products are the same."""
    analysis = pytest.importorskip("fvcore.nn", reason="fvcore is an extra of the tests").FlopCountAnalysis
    network = small(name)[0].eval()
    counter = (
        analysis(network, torch.rand(1, 3, 32, 32))
        .unsupported_ops_warnings(False)
        .uncalled_modules_warnings(False)
    )
    products = {"conv", "linear", "matmul", "addmm", "bmm", "einsum"}
    theirs = sum(count for operation, count in counter.by_operator().items() if operation in products)
    assert measure_cost(network, 32).operations == theirs
