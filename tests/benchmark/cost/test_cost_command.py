"""`derain cost` on our networks and on a spiking one that this suite has never seen."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from benchmark.cli import main

PLAIN_SNNTORCH = '''
import snntorch
import torch
from torch import nn


class Net(nn.Module):
    """Two steps, in a loop, as snnTorch's tutorials do it; the first layer sees the image, the second spikes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.neuron = snntorch.Leaky(beta=0.5, threshold=-1e9 if FIRES else 1e9)
        self.second = nn.Conv2d(4, 3, 1, bias=False)

    def forward(self, x):
        membrane = self.neuron.reset_mem()
        out = 0
        for _ in range(2):
            spikes, membrane = self.neuron(self.first(x), membrane)
            out = out + self.second(spikes)
        return out
'''


@pytest.mark.parametrize("fires", [True, False])
def test_a_network_of_plain_snntorch_gives_closed_forms(fires, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / f"mine_{fires}.py").write_text(f"FIRES = {fires}\n{PLAIN_SNNTORCH}")
    monkeypatch.chdir(tmp_path)
    words = ["cost", "--model", f"mine_{fires}:Net", "--size", "16", "--json", str(tmp_path / "c.json")]
    assert main([*words, "--convention", "full"]) == 0
    (row,) = json.loads((tmp_path / "c.json").read_text())
    steps, pixels = 2, 16 * 16
    assert row["params"] == 4 * 3 * 9 + 3 * 4
    assert row["macs_g"] * 1e9 == pytest.approx(steps * pixels * 4 * 3 * 9)
    assert row["accumulates_g"] * 1e9 == pytest.approx(steps * pixels * 3 * 4)
    assert row["sops_g"] * 1e9 == pytest.approx(steps * pixels * 3 * 4 if fires else 0)
    capsys.readouterr()


def test_layers_files_and_pictures(tmp_path, capsys) -> None:
    small = ["--set", "dim=4", "encoder_blocks=[1,1,1]", "bottleneck_blocks=0", "decoder_blocks=[1,1]"]
    words = ["cost", "--model", "esdnet", "--size", "32", "--per-layer", "--sort", "energy_uj"]
    words += [
        "--csv",
        str(tmp_path / "l.csv"),
        "--latex",
        str(tmp_path / "l.tex"),
        "--plot",
        str(tmp_path / "p"),
    ]
    assert main([*words, *small]) == 0
    assert "executed" in capsys.readouterr().out
    with (tmp_path / "l.csv").open() as file:
        energies = [float(r["energy_uj"]) for r in csv.DictReader(file)]
    assert energies == sorted(energies, reverse=True)
    assert "tabular" in (tmp_path / "l.tex").read_text()
    drawn = {f"{name}.{form}" for name in ("energy-shares", "spike-rates") for form in ("png", "pdf", "svg")}
    assert {p.name for p in (tmp_path / "p").iterdir()} == drawn


def test_rates_on_a_dataset(capsys) -> None:
    words = ["cost", "--model", "esdnet", "--size", "32", "--images", "embedded-heavy", "--limit", "2"]
    small = ["dim=4", "encoder_blocks=[1,1,1]", "bottleneck_blocks=0", "decoder_blocks=[1,1]"]
    assert main([*words, "--set", *small]) == 0
    assert "2 rainy test pictures of embedded-heavy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cost"], "--model"),
        (["cost", "--model", "esdnett"], "did you mean 'esdnet'"),
        (["cost", "--model", "nowhere:Net"], "nowhere"),
        (["cost", "--model", "math:sqr"], "did you mean 'sqrt'"),
        (["cost", "--model", "prenet", "--convention", "papre"], "did you mean 'paper'"),
        (["cost", "--model", "prenet", "--size", "0"], "at least 1"),
        (["cost", "--model", "prenet", "--size", "16", "--images", "/nowhere"], "/nowhere"),
        (["cost", "--networks", "--weights", "esdnet=/nowhere.pth"], "--weights esdnet=/nowhere.pth"),
        (["cost", "--networks", "--weights", f"esdnett={__file__}"], "did you mean 'esdnet'"),
    ],
)
def test_mistakes(words, said, capsys) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_kept_table_is_what_is_counted() -> None:
    """results/cost/table1.csv, which `derain models` prints, against a count made now."""
    from benchmark import catalog, create_model, measure_cost
    from benchmark.report.paper import results

    with results("cost/table1.csv").open(encoding="utf-8", newline="") as file:
        kept = {row["network"]: row for row in csv.DictReader(file)}
    assert set(kept) == {entry.title for entry in catalog.networks().values()}
    for name in ("rescan", "nafnet", "esdnet"):
        counted = measure_cost(create_model(name), 256, shapes_only=True)
        row = kept[catalog.network(name).title]
        assert float(row["params_true_m"]) == pytest.approx(counted.params / 1e6, abs=1e-9)
        if name != "esdnet":  # on shapes alone nothing is known to be a spike, but the sum is the same
            assert float(row["macs_g"]) == pytest.approx(counted.macs / 1e9, rel=1e-9)
        assert float(row["operations_g"]) == pytest.approx(counted.operations / 1e9, rel=1e-9)
    assert Path(results("paper/table1.csv")).is_file()
