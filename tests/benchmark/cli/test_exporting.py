"""`derain export`: files that other programs run, what they say of themselves, and what is refused."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmark import catalog, create_model, restore
from benchmark.checkpoints import read_checkpoint
from benchmark.cli import main
from benchmark.errors import UserError
from benchmark.exported import TOLERANCE, Difference, WithoutKernels, difference, open_exported, to_onnx
from esdnet.native import portable
from esdnet.neurons import IntegerSequence, LeakySequence
from esdnet.sizes import pad_to_multiple

PRENET = {"stages": 1, "channels": 4, "residual_blocks": 1}
ESDNET = {
    "dim": 4,
    "encoder_blocks": [1, 0, 0],
    "bottleneck_blocks": 0,
    "decoder_blocks": [0, 1],
    "time_steps": 2,
}
SMALL = {"dim": 4, "bottleneck_blocks": 0, "time_steps": 2}
SPIKING = {
    "esdnet": ESDNET,
    "esdnet-s": ESDNET,
    "spikerain": {**SMALL, "encoder_blocks": [1, 0, 0], "decoder_blocks": [0, 1], "layers": 1, "growth": 4},
    "vlif": {
        **SMALL,
        "encoder_blocks": [1, 0, 0],
        "decoder_blocks": [0, 0],
        "decoder_units": 0,
        "threshold": 0.05,
        "norm": "bn",
    },
}
ALL = os.environ.get("DERAIN_EXPORT_TESTS") == "1"


def _weights(folder: Path, name: str, options: dict) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(1)
    network = create_model(name, **options).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.05 * torch.randn_like(value))
    path = folder / f"{name}.safetensors"
    save_file(network.state_dict(), path)
    return path, network


def _export(path: Path, name: str, options: dict, out: Path, *more: str) -> int:
    words = ["export", "--model", name, "--checkpoint", str(path), "-o", str(out), *more]
    return main([*words, "--set", *(f"{k}={str(v).replace(' ', '')}" for k, v in options.items())])


@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize(("name", "options"), [("prenet", PRENET), ("esdnet", ESDNET)])
def test_a_file_does_what_the_network_does(
    name: str, options: dict, form: str, tmp_path: Path, capsys
) -> None:
    path, network = _weights(tmp_path, name, options)
    out = tmp_path / f"net.{form}"
    assert _export(path, name, options, out, "--format", form, "--size", "32x48") == 0
    said = capsys.readouterr().out
    assert "on a picture of noise it differs from the network" in said and "on a rainy photograph by" in said
    exported = open_exported(out)
    about = exported.about
    tried = about["tried"]
    assert tried["noise"]["largest"] <= TOLERANCE and set(tried["photograph"]) == {"largest", "share"}
    assert ("kernels" in tried) == ("this machine's kernels" in said) == (name == "esdnet")
    if form == "pt2":  # the same operations of torch, those of the network without kernels
        assert tried["noise"]["largest"] == tried["photograph"]["largest"] == 0
    assert out.stat().st_size < 2**20  # no frames of indices, which took several
    assert [p.name for p in tmp_path.iterdir() if p.suffix not in (".safetensors", f".{form}")] == []
    assert about["size"] == [32, 48] and about["range"] == [0.0, 1.0] and about["name"] == name
    assert about["tile"] == (catalog.network(name).tile or (None,))[0]
    rainy = torch.rand(2, 3, 32, 48)
    assert difference(network, exported, rainy).largest <= TOLERANCE
    with torch.no_grad():
        assert (network(rainy) - rainy).abs().max() > 1e-3  # it does something
    with pytest.raises(UserError, match=r"exported for pictures of \(N, 3, 32, 48\), not \(1, 3, 48, 32\)"):
        exported(torch.rand(1, 3, 48, 32))
    with pytest.raises(UserError, match=r"floating point in \[0, 1\], not torch.uint8: divide by 255"):
        exported((255 * rainy).to(torch.uint8))
    with pytest.raises(UserError, match=r"in \[0, 1\], not up to 2.*: divide by 255"):
        exported(255 * rainy)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_file_for_any_size_takes_those_that_fit(form: str, tmp_path: Path, capsys) -> None:
    options = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
    path, network = _weights(tmp_path, "nafnet", options)
    out = tmp_path / f"net.{form}"
    assert _export(path, "nafnet", options, out, "--format", form, "--size", "any") == 0
    assert "sides of multiples of 2 pixels" in capsys.readouterr().out
    exported = open_exported(out)
    assert exported.about["size"] is None and exported.about["multiple"] == 2
    for size in ((16, 42), (70, 18)):
        assert difference(network, exported, torch.rand(1, 3, *size)).largest <= TOLERANCE
    with pytest.raises(UserError, match=r"H and W from 16 to 8192, not \(1, 3, 15, 32\)"):
        exported(torch.rand(1, 3, 15, 32))
    picture = torch.rand(1, 3, 17, 33)
    with torch.no_grad():
        padded = network(pad_to_multiple(picture, 2))  # by reflection; NAFNet by itself pads with zeros
    assert torch.allclose(exported(picture), padded[..., :17, :33], atol=TOLERANCE)
    assert restore(exported, picture[0]).shape == (3, 17, 33)
    assert _export(path, "nafnet", options, tmp_path / "net.nir", "--format", "nir", "--size", "any") == 2
    assert "a NIR graph has one size" in capsys.readouterr().err


def test_a_photograph_is_restored_in_its_tiles(tmp_path: Path, capsys) -> None:
    path, network = _weights(tmp_path, "prenet", PRENET)
    table = tmp_path / "tried.csv"
    words = ("--size", "40", "--json", "--csv", str(table))
    assert _export(path, "prenet", PRENET, tmp_path / "net.onnx", *words) == 0
    found = json.loads(capsys.readouterr().out)  # nothing else may stand there
    assert found["bytes"] == (tmp_path / "net.onnx").stat().st_size and found["size"] == [40, 40]
    rows = list(csv.DictReader(table.open()))
    assert [row["compared"] for row in rows] == ["noise", "photograph"] and found["not_tried"] is None
    assert [float(row["largest"]) for row in rows] == [
        found["tried"][row["compared"]]["largest"] for row in rows
    ]
    photograph = torch.rand(3, 75, 103)
    tiled = restore(open_exported(tmp_path / "net.onnx"), photograph, tile=40, overlap=8)
    assert tiled.shape == photograph.shape
    assert torch.allclose(tiled, restore(network, photograph, tile=40, overlap=8), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "prenett", "-o", "a.onnx"], "did you mean 'prenet'"),
        (["--model", "prenet", "--format", "onx", "-o", "a.onnx"], "did you mean 'onnx'"),
        (["--model", "prenet", "-o", "a.pt2"], "must end in .onnx"),
        (["--model", "esdnet", "--size", "81", "-o", "a.onnx"], "--size 84x84 is the next"),
        (["--model", "esdnet", "--size", "8x80", "-o", "a.onnx"], "--size 16x80 is the next"),
        (["--model", "prenet", "--size", "a", "-o", "a.onnx"], "HEIGHTxWIDTH"),
        (["--model", "prenet", "-o", "there.onnx"], "exists already"),
        (["-o", "a.onnx"], "give --model NAME"),
        (["--model", "prenet", "--checkpoint", "no.pth", "-o", "a.onnx"], "no such file"),
    ],
)
def test_mistakes(words: list[str], said: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").write_bytes(b"mine")
    assert main(["export", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["there.onnx"] and (
        tmp_path / "there.onnx"
    ).read_bytes() == b"mine"


def test_a_file_is_there_once_it_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = _weights(tmp_path, "prenet", PRENET)
    monkeypatch.setattr("benchmark.exported.difference", lambda *_: Difference(0.1, 0.2))
    assert _export(path, "prenet", PRENET, tmp_path / "net.pt2", "--format", "pt2", "--size", "32") == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_an_exported_file_is_no_checkpoint(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"net{suffix}").write_bytes(b"\x08\x0a\x12\x07pytorch")
    with pytest.raises(UserError, match="exported, not weights"):
        read_checkpoint(tmp_path / f"net{suffix}")


@pytest.mark.parametrize(
    "neuron", [LeakySequence(), LeakySequence(reset_mechanism="subtract"), IntegerSequence()]
)
def test_neurons_fire_alike_in_a_file(neuron: torch.nn.Module, tmp_path: Path) -> None:
    class Fires(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = neuron

        def forward(self, rainy: torch.Tensor) -> torch.Tensor:
            return self.neuron(torch.stack([rainy, 2 * rainy - 0.5, rainy])).mean(0)

    about = {"title": "neurons", "size": [16, 16], "multiple": 1}
    rainy = torch.rand(1, 3, 16, 16)
    to_onnx(Fires().eval(), rainy, about)(tmp_path / "net.onnx", about)
    with torch.no_grad():
        expected = Fires()(rainy)
    assert 0 < expected.mean() < 1
    assert torch.equal((3 * open_exported(tmp_path / "net.onnx")(rainy)).round(), (3 * expected).round())


class Watched(torch.nn.Module):
    """What a network restores, and after it all that its neurons fire, as one list of numbers."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        fired: list[torch.Tensor] = []
        neurons = [m for m in self.network.modules() if isinstance(m, (LeakySequence, IntegerSequence))]
        handles = [m.register_forward_hook(lambda *seen: fired.append(seen[-1])) for m in neurons]
        try:
            restored = self.network(rainy)
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat([made.flatten() for made in (restored, *fired)])


@pytest.mark.parametrize("name", SPIKING)
def test_a_spiking_network_fires_alike_in_a_file(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = _weights(tmp_path, name, SPIKING[name])[1]
    rainy, about = torch.rand(1, 3, 16, 16), {"title": name, "size": [16, 16], "multiple": 8}
    to_onnx(Watched(network).eval(), rainy, about)(tmp_path / "net.onnx", about)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    made = torch.from_numpy(session.run(None, {"rainy": rainy.numpy()})[0])
    with torch.no_grad():
        expected = Watched(network)(rainy)
    spikes = expected[rainy.numel() :]
    assert spikes.numel() > 1000 and 0.01 < spikes.count_nonzero() / spikes.numel() < 0.99
    assert torch.allclose(made[: rainy.numel()], expected[: rainy.numel()], atol=TOLERANCE)
    assert torch.equal((4 * made[rainy.numel() :]).round(), (4 * spikes).round())


def test_without_kernels_a_network_is_torchs_operations(tmp_path: Path) -> None:
    network = _weights(tmp_path, "esdnet", ESDNET)[1]
    rainy = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        with portable():
            expected = network(rainy)
        assert torch.equal(WithoutKernels(network)(rainy), expected)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    for name in ("a.onnx", "a.pt2", "a.png"):
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(UserError, match=name):
            open_exported(tmp_path / name)


@pytest.mark.skipif(not ALL, reason="minutes; DERAIN_EXPORT_TESTS=1 runs them")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("any_size", [False, True])
@pytest.mark.parametrize("name", catalog.networks())
def test_every_network_can_be_exported(name: str, any_size: bool, tmp_path: Path) -> None:
    entry = catalog.network(name)
    path, network = _weights(tmp_path, name, dict(entry.embedded))
    side = entry.size_multiple * -(-max(32, entry.minimum_size) // entry.size_multiple)
    words = ("--size", "any" if any_size else str(side))
    assert _export(path, name, dict(entry.embedded), tmp_path / "net.onnx", *words) == 0
    assert (
        difference(network, open_exported(tmp_path / "net.onnx"), torch.rand(1, 3, side, side)).largest
        <= TOLERANCE
    )
