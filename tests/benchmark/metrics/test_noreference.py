from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark.errors import UserError
from benchmark.metrics.noreference import METAIQA_VARIABLE, metaiqa, metaiqa_checkpoint, piqe


@pytest.mark.parametrize("implementation", ["pyiqa", "reference"])
def test_piqe_of_each_image(implementation: str) -> None:
    images = torch.rand(3, 3, 40, 55)
    scores = piqe(images, implementation)  # type: ignore[arg-type]
    assert scores.shape == (3,) and scores.dtype == torch.float64
    assert ((scores >= 0) & (scores <= 100)).all()
    for i in range(3):
        single = piqe(images[i : i + 1], implementation)  # type: ignore[arg-type]
        torch.testing.assert_close(single[0], scores[i], rtol=0, atol=1e-3)


def test_the_reference_counts_incomplete_blocks() -> None:
    # noise in the last columns alone: they are an incomplete block, which pyiqa drops at this width
    image = torch.full((1, 3, 32, 33), 0.5)
    image[..., 32:] = torch.rand(1, 3, 32, 1)
    assert piqe(image).item() == 100
    assert piqe(image, "reference").item() != 100


@pytest.mark.parametrize("implementation", ["pyiqa", "reference"])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_even_pictures_have_no_nan(implementation: str, level: float) -> None:
    assert piqe(torch.full((1, 3, 32, 48), level), implementation).item() == 100  # type: ignore[arg-type]


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        piqe(torch.rand(1, 3, 15, 40))
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        piqe(torch.rand(3, 40, 40))
    with pytest.raises(UserError, match="did you mean 'reference'"):
        piqe(torch.rand(1, 3, 40, 40), "referense")  # type: ignore[arg-type]


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(METAIQA_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path


def test_without_weights_says_how_to_get_them(no_weights: Path) -> None:
    with pytest.raises(UserError, match=r"Metaiqa_livec\.pth.*DERAIN_METAIQA"):
        metaiqa(torch.rand(1, 3, 32, 32))


def test_where_weights_are_looked_for(no_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = no_weights / "cache" / "derain" / "metaiqa.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert metaiqa_checkpoint() == cached
    named = no_weights / "named.pth"
    monkeypatch.setenv(METAIQA_VARIABLE, str(named))
    with pytest.raises(UserError, match=r"named\.pth \(from DERAIN_METAIQA\): no such file"):
        metaiqa_checkpoint()
    named.touch()
    assert metaiqa_checkpoint() == named
    assert metaiqa_checkpoint(cached) == cached


def test_weights_in_pyiqas_and_the_authors_names(no_weights: Path) -> None:
    from pyiqa.archs.metaiqa_arch import MetaIQA

    network = MetaIQA(pretrained=False).eval()
    weights = {k: v for k, v in network.state_dict().items() if k not in ("mean", "std")}
    image = torch.rand(2, 3, 50, 60)
    with torch.no_grad():
        expected = network(image)[:, 0].double()
    for i, (saved, options) in enumerate(
        [
            ({"params": network.state_dict()}, {}),
            ({k.replace("head.", "net."): v for k, v in weights.items()}, {}),
            ({f"module.{k}".replace("head.", "net."): v for k, v in weights.items()}, {}),
        ]
    ):
        path = no_weights / f"{i}.pth"
        torch.save(saved, path, **options)
        assert torch.equal(metaiqa(image, path), expected)


def test_other_files(no_weights: Path) -> None:
    other = no_weights / "other.pth"
    torch.save({"conv.weight": torch.zeros(3)}, other)
    with pytest.raises(UserError, match="another network"):
        metaiqa(torch.rand(1, 3, 32, 32), other)
    pickled = no_weights / "pickled.pth"
    torch.save(torch.nn.Linear(2, 2), pickled)  # as the authors distribute theirs
    with pytest.raises(UserError, match="state_dict"):
        metaiqa(torch.rand(1, 3, 32, 32), pickled)


def test_a_replaced_file_is_read_again(no_weights: Path) -> None:
    from pyiqa.archs.metaiqa_arch import MetaIQA

    image = torch.rand(1, 3, 32, 32)
    path = no_weights / "weights.pth"
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(MetaIQA(pretrained=False).state_dict(), path)
        scores.append(metaiqa(image, path).item())
    assert scores[0] != scores[1]


def test_imports_are_lazy() -> None:
    # each in its own process: what a package imports cannot be seen once everything is imported
    script = "import sys, benchmark.metrics, benchmark.restoration; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
    script = (
        "import sys; from benchmark.metrics import psnr_y, piqe\n"
        "from benchmark.restoration import restore, restore_files\n"
        "from benchmark.run.evaluate import summary\n"
        "assert not {'pyiqa', 'torchvision', 'torchmetrics', 'rich.progress'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
