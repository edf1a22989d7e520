"""NIR: the encoder of a spiking network as a graph that snnTorch's reader runs with the same spikes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmark import create_model
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.neuromorphic import differing_spikes, encoder_graph, write_nir
from esdnet.neurons import LeakySequence

nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")

SMALL: dict[str, Any] = {
    "dim": 4,
    "encoder_blocks": [1, 2, 1],
    "bottleneck_blocks": 1,
    "decoder_blocks": [0, 1],
    "time_steps": 3,
}


def _network(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network = create_model(name, **{**SMALL, **options}).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.05)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.02, 0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.bias, -0.05, 0.05)
    return network


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("esdnet-s", {}),
        ("esdnet", {"block": "ms"}),
        ("esdnet", {"block": "sew"}),
        ("esdnet", {"attention": False}),
        ("esdnet", {"block": "ms", "decay_input": True, "beta": 0.25, "norm": "bn"}),
    ],
)
def test_snntorchs_reader_fires_the_same_spikes(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    network = _network(name, **options)
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "net.nir"
    write_nir(encoder_graph(network, (16, 24), {"title": name}), path)
    rates = []
    for module in network.modules():
        if isinstance(module, LeakySequence):
            module.register_forward_hook(lambda *seen: rates.append(float(seen[-1].mean())))
    differ, of = differing_spikes(network, path, image)
    assert differ == 0 and of > 1000
    assert 0.02 < sum(rates) / len(rates) < 0.9

    told = json.loads(nir.read(str(path)).metadata["derain"])
    assert told["time_steps"] == 3 and list(told["levels"]) == ["level1", "level2", "level3"]


def test_another_weight_is_another_spike(tmp_path: Path) -> None:
    network = _network("esdnet-s")
    path = tmp_path / "net.nir"
    write_nir(encoder_graph(network, (16, 16), {"title": "ESDNet-S"}), path)
    with torch.no_grad():
        network.get_submodule("encoder2.0.residual.0.norm").bias.add_(0.05)  # type: ignore[operator, union-attr]
    differ, _ = differing_spikes(network, path, torch.rand(1, 3, 16, 16))
    assert differ > 0


def test_a_neuron_at_its_threshold_fires() -> None:
    """NIR's fires above it, the authors' at it."""
    network = _network("esdnet-s")
    node = encoder_graph(network, (16, 16), {"title": "ESDNet-S"}).nodes["encoder1.0.residual.0.activation"]
    (threshold,) = set(node.v_threshold.flatten().tolist())
    wanted = torch.tensor(0.15)
    assert threshold < wanted and torch.nextafter(torch.tensor(threshold), wanted) == wanted


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("esdnet", {}, r"encoder1\.0\.attention multiplies features"),
        ("esdnet", {"block": "ms", "reset_mechanism": "subtract"}, r"activation resets by 'subtract'"),
        ("esdnet", {"block": "ms", "beta": 1.0}, r"activation does not leak"),
        ("esdnet", {"block": "ann"}, "ReLU.*no spiking neuron"),
    ],
)
def test_what_has_no_primitive_is_named(name: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        encoder_graph(_network(name, **options), (16, 16), {"title": "ESDNet"})


@pytest.mark.parametrize("name", ["vlif", "spikerain", "nafnet"])
def test_other_networks_are_a_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.nir"
    assert main(["export", "--model", name, "--format", "nir", "--size", "32", "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert "is no NIR graph" in said and len(said.strip().splitlines()) == 1
    assert not out.exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.nir"
    words = [f"{k}={str(v).replace(' ', '')}" for k, v in SMALL.items()]
    line = [
        "export",
        "--model",
        "esdnet-s",
        "--format",
        "nir",
        "--size",
        "16",
        "-o",
        str(out),
        "--set",
        *words,
    ]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "wrote" in said and "by snnTorch's reader" in said and "it is the encoder" in said
    assert main(line) == 2  # it is there already


def test_a_rest_that_the_reader_does_not_know_is_said(tmp_path: Path) -> None:
    network = _network("esdnet", block="ms", v_reset=-0.1)
    path = tmp_path / "net.nir"
    write_nir(encoder_graph(network, (16, 16), {"title": "ESDNet"}), path)
    with pytest.raises(UserError, match="v_leak not supported"):
        differing_spikes(network, path, torch.rand(1, 3, 16, 16))
