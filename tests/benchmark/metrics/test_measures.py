"""Metrics as objects: LPIPS, DISTS and the NTIRE score with weights of the user's, pyiqa's, other packages'."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import create_model
from benchmark.cli import main
from benchmark.data.images import write_image
from benchmark.errors import UserError
from benchmark.metrics import measures
from benchmark.metrics.fidelity import Convention, psnr_y, ssim_y
from benchmark.run.evaluate import evaluate, summary

RNG = torch.Generator().manual_seed(3)
TARGET = torch.rand(2, 3, 48, 40, generator=RNG).mul(255).round().div(255)
RESTORED = (TARGET + 0.1 * torch.randn(2, 3, 48, 40, generator=RNG)).clamp(0, 1)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def local(own: socket.socket, *words: object) -> None:
        assert own.family == socket.AF_UNIX, "a connection"
        connect(own, *words)

    monkeypatch.setattr(socket.socket, "connect", local)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """AlexNet and VGG16 with random weights, in files as torchvision's are (the classifiers left out: 500 MB)."""
    import torchvision

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    found = {}
    for name in ("alexnet", "vgg16"):
        with torch.device("meta"):
            features = getattr(torchvision.models, name)(weights=None).features
        features.to_empty(device="cpu")
        for part in features:
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
                nn.init.zeros_(part.bias)
        path = folder / f"{name}.pth"
        torch.save({f"features.{k}": v for k, v in features.state_dict().items()}, path)
        found[name], found[f"{name}_file"] = features, path
    return SimpleNamespace(**found)


def _measure(word: str) -> measures.Measure:
    (ready,), _ = measures.opened([word])
    return ready


def _seen(image: torch.Tensor) -> torch.Tensor:
    return image.mul(255).round().div(255)


def test_lpips_is_pyiqas(backbones: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another implementation with the same backbone and the same linear layers."""
    import torchmetrics
    from pyiqa.archs import lpips_arch

    linear = Path(torchmetrics.__file__).parent / "functional/image/lpips_models"
    for net, model in (("alex", "alexnet"), ("vgg", "vgg16")):
        holder = SimpleNamespace(features=getattr(backbones, model))
        monkeypatch.setattr(lpips_arch.models, model, lambda weights, holder=holder: holder)
        reference = lpips_arch.LPIPS(net=net, pretrained=False).eval()
        reference.load_state_dict(
            torch.load(linear / f"{net}.pth", map_location="cpu", weights_only=True), strict=False
        )
        with torch.no_grad():
            wanted = reference(_seen(RESTORED), TARGET).flatten()
        word = f"lpips{'-vgg' * (net == 'vgg')}:{getattr(backbones, f'{model}_file')}"
        got = _measure(word)(RESTORED, TARGET)
        assert got == pytest.approx(wanted.tolist(), rel=1e-4) and min(got) > 1e-3
        assert _measure(word)(TARGET, TARGET) == pytest.approx([0, 0], abs=1e-7)


def test_dists_is_pyiqas(backbones: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchmetrics
    from pyiqa.archs import dists_arch

    kept = torch.load(
        Path(torchmetrics.__file__).parent / "functional/image/dists_models/weights.pt", weights_only=True
    )
    monkeypatch.setattr(dists_arch.models, "vgg16", lambda weights: SimpleNamespace(features=backbones.vgg16))
    reference = dists_arch.DISTS(pretrained=False).eval()
    reference.alpha.data, reference.beta.data = kept["alpha"], kept["beta"]
    with torch.no_grad():
        wanted = reference(_seen(RESTORED), TARGET).flatten()
    got = _measure(f"dists:{backbones.vgg16_file}")(RESTORED, TARGET)
    assert got == pytest.approx(wanted.tolist(), rel=1e-4) and min(got) > 1e-4


def test_the_ntire_score(backbones: SimpleNamespace) -> None:
    plain = Convention("float", False, 0, False, "")
    apart = torch.tensor(_measure(f"lpips:{backbones.alexnet_file}")(RESTORED, TARGET))
    wanted = 10 * psnr_y(RESTORED, TARGET, plain) + 10 * ssim_y(RESTORED, TARGET, plain) - 5 * apart
    measure = _measure(f"ntire:{backbones.alexnet_file}")
    assert measure(RESTORED, TARGET) == pytest.approx(wanted.tolist(), rel=1e-6)
    assert not measure.metric.lower_better and "alexnet.pth, sha256 " in measure.source


def test_one_picture_is_a_batch_of_one(backbones: SimpleNamespace) -> None:
    for word in (f"lpips:{backbones.alexnet_file}", f"dists:{backbones.vgg16_file}"):
        both = _measure(word)(RESTORED, TARGET)
        assert _measure(word)(RESTORED[:1], TARGET[:1]) == pytest.approx(both[:1], rel=1e-4)


def test_why_one_cannot_be_had(backbones: SimpleNamespace, tmp_path: Path, monkeypatch) -> None:
    ready, told = measures.opened(["lpips", "dists"])
    assert not ready and "needs the weights of torchvision's AlexNet" in told["lpips"]["reason"]
    assert "dists:FILE names it" in told["dists"]["reason"] and told["dists"]["lower_better"]
    monkeypatch.setattr(measures.importlib.util, "find_spec", lambda name: None)
    assert "torchmetrics, which is not installed" in measures.metrics()["lpips"].reason(Path("x"))
    monkeypatch.undo()
    for word, why in {
        "lpps": "did you mean 'lpips'",
        "lpips:/none": "no such file",
        f"entropy:{backbones.alexnet_file}": "takes no file",
        f"lpips:{backbones.vgg16_file}": "of another network: features.0.weight is .64, 3, 3, 3., not",
    }.items():
        with pytest.raises(UserError, match=why):
            measures.opened([word])
    with pytest.raises(UserError, match="asked for twice"):
        measures.opened(["lpips", f"lpips:{backbones.alexnet_file}"])
    (tmp_path / "cut.pth").write_bytes(backbones.alexnet_file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut\.pth"):
        measures.opened([f"lpips:{tmp_path / 'cut.pth'}"])


def test_a_replaced_file_is_read_again(backbones: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "alex.pth"
    scores, asked = [], []
    for scale in (1.0, 0.5):
        weights = torch.load(backbones.alexnet_file, weights_only=True)
        weights["features.3.weight"] *= scale
        weights["features.0.bias"] += 1 - scale
        torch.save(weights, path)
        scores.append(_measure(f"lpips:{path}")(RESTORED, TARGET)[0])
        asked.append(measures.question(f"lpips:{path}"))
    assert scores[0] != scores[1] and asked[0] != asked[1]


def test_columns_of_an_evaluation() -> None:
    pairs = [
        {"rainy": r, "target": t, "name": str(i)}
        for i, (r, t) in enumerate(zip(RESTORED, TARGET, strict=True))
    ]
    entropy = _measure("entropy")
    rows = evaluate(nn.Identity(), pairs, measures=[entropy], progress=False)
    assert [r["entropy"] for r in rows] == pytest.approx(entropy(RESTORED, TARGET))
    assert rows[0]["rainy_entropy"] == rows[0]["entropy"], "an identity restores nothing"
    assert summary(rows)["entropy"] == pytest.approx(np.mean([r["entropy"] for r in rows]))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    for i in range(2):
        write_image(
            tmp_path / "mine" / "target" / f"{i}.png", TARGET[i].permute(1, 2, 0).mul(255).byte().numpy()
        )
        write_image(
            tmp_path / "mine" / "input" / f"{i}.png", RESTORED[i].permute(1, 2, 0).mul(255).byte().numpy()
        )
    return tmp_path / "mine"


def test_on_the_command_line(
    backbones: SimpleNamespace, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["stages=1", "channels=4", "residual_blocks=1"]
    network = create_model("prenet", **{o.partition("=")[0]: int(o[-1]) for o in options})
    torch.save(network.state_dict(), mine.parent / "net.pth")
    words = ["evaluate", "--model", "prenet", "--checkpoint", str(mine.parent / "net.pth"), "--set", *options]
    words += ["--data", str(mine), "--csv", str(mine.parent / "rows.csv")]
    assert main([*words, "--metrics", f"lpips:{backbones.alexnet_file},dists"]) == 0
    said = capsys.readouterr().out
    assert "lpips: 0." in said and "(lower is better; torchmetrics " in said
    assert "dists: not measured: needs the weights of torchvision's VGG16" in said
    assert "rainy_lpips" in (mine.parent / "rows.csv").read_text().splitlines()[0]
    assert main([*words, "--metrics", "lipps"]) == 2
    assert "did you mean 'lpips'" in capsys.readouterr().err


def test_a_column_of_table_1(
    backbones: SimpleNamespace, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "recipe.steps=1",
        "recipe.batch=1",
        "recipe.patch=16",
        "--models",
        "prenet",
        "--runs",
        str(mine.parent),
    ]
    words += ["--datasets", f"{mine}", f"metrics=lpips:{backbones.alexnet_file},dists,entropy"]
    assert main(["table", "1", *words]) == 0
    told = json.loads((mine.parent / "tables/embedded/table1.json").read_text())
    (row,) = [r["cells"] for r in told["rows"] if r["label"] == "PReNet"]
    titles = {c["key"]: c["title"].splitlines()[1] for c in told["columns"]}
    key = "mine@embedded"
    assert (titles[f"{key}_lpips"], titles[f"{key}_entropy"]) == ("LPIPS ↓", "entropy ↑")
    assert 0 < row[f"{key}_lpips"]["value"] < 1 and row["average_entropy"]["value"] > 0
    assert (
        row[f"{key}_dists"]["value"] is None and "DISTS: needs the weights" in row[f"{key}_dists"]["reason"]
    )
    rainy = told["rows"][0]["cells"]
    assert 0 < rainy[f"{key}_lpips"]["value"] < 1 and "DISTS: needs" in rainy[f"{key}_dists"]["reason"]
    assert any("LPIPS: torchmetrics" in note for note in told["notes"])
    (matlab,) = [json.loads((mine.parent / "tables/embedded/table1_matlab.json").read_text())]
    assert not [c for c in matlab["columns"] if "lpips" in c["key"]]
    capsys.readouterr()
    assert main(["table", "1", *words[:-1], "metrics=lpips:/none"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["table", "2", *words[:6], f"photographs={mine}/input", "metrics=ntire"]) == 2
    assert "compares with the clean picture" in capsys.readouterr().err
