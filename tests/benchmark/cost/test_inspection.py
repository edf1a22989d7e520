"""Looking at neurons: activity of a layer, and rates on rain and on the background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmark.cli import main
from benchmark.cost.inspection import activity, neurons, rain_rates, together, wettest
from benchmark.errors import UserError
from esdnet.neurons import LeakySequence


class Bright(nn.Module):
    """Fires where the picture is bright: at full size from the first step, at half size from the second."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.fine = LeakySequence(beta=0.0, threshold=0.9)
        self.coarse = LeakySequence(beta=1.0, threshold=1.5, reset_mechanism="none")

    def forward(self, image: Tensor) -> Tensor:
        frames = image.expand(2, *image.shape) * self.weight
        self.fine(frames)
        self.coarse(F.avg_pool2d(image, 2).expand(2, 1, 3, 8, 8))
        return image


def pair(rain: tuple[slice, slice]) -> dict[str, Tensor]:
    target = torch.zeros(3, 16, 16)
    rainy = target.clone()
    rainy[:, rain[0], rain[1]] = 1.0
    return {"rainy": rainy, "target": target}


def test_rates_are_exact_on_a_network_that_fires_in_rain_alone() -> None:
    pairs = [pair((slice(0, 4), slice(0, 16))), pair((slice(0, 8), slice(0, 8)))]
    rates, share, by_pair = rain_rates(Bright(), pairs)
    fine, coarse = rates
    assert (fine.layer, fine.rain, fine.background) == ("fine", 1.0, 0.0)
    assert [r.tolist() for r in coarse.by_step] == [[0.0, 1.0], [0.0, 0.0]]
    assert share == (64 + 64) / 512
    both = together(rates, "all")
    # fine counts four times as many neurons as coarse
    assert both.rain == pytest.approx((4 * 1.0 + 1 * 0.5) / 5)
    assert by_pair == pytest.approx(np.array([[both.rain, 0, 0]] * 2)), (
        "a black picture: none fires without rain"
    )


def test_the_same_places_without_rain_are_looked_at() -> None:
    dark = pair((slice(0, 4), slice(0, 16)))
    dark["target"][:, 0:4] = 1.0  # rain that darkens: the place fires without it alone
    dark["rainy"][:, 0:4] = 0.0
    dry = pair((slice(0, 0), slice(0, 0)))
    by_pair = rain_rates(Bright(), [dark, dry]).pairs
    assert by_pair[0] == pytest.approx([0, 0, (4 * 1.0 + 1 * 0.5) / 5])
    assert np.isnan(by_pair[1]).tolist() == [True, False, True], "no rain, no place of it"


def test_a_coarse_neuron_belongs_to_rain_by_its_area() -> None:
    odd = pair((slice(0, 16), slice(0, 1)))  # half of the first column of coarse neurons
    coarse = rain_rates(Bright(), [odd])[0][1]
    assert coarse.neurons == (pytest.approx(3 * 8 * 0.5), pytest.approx(3 * (64 - 4)))


def test_what_counts_as_rain_and_how_much_is_looked_at() -> None:
    faint = pair((slice(0, 16), slice(0, 4)))
    faint["rainy"] *= 10 / 255
    assert rain_rates(Bright(), [faint])[1] == 0.25
    assert rain_rates(Bright(), [faint], above=10)[1] == 0.0
    assert rain_rates(Bright(), [faint, pair((slice(0, 16), slice(0, 16)))], limit=1)[1] == 0.25
    # full windows only
    wide = {k: F.pad(v, (0, 10)) for k, v in faint.items()}
    assert rain_rates(Bright(), [wide], tile=16)[1] == 0.25


def test_activity_is_the_neurons_own() -> None:
    model = Bright()
    picture = torch.rand(3, 16, 16)
    seen = activity(model, picture, "fine")
    frames = picture.expand(2, 1, 3, 16, 16)
    assert seen.membrane is not None
    assert np.allclose(seen.membrane, model.fine.membrane(frames)[:, 0].numpy())
    assert np.array_equal(seen.spikes, model.fine(frames)[:, 0].numpy())
    assert seen.rates.shape == (2, 16, 16) and seen.threshold == pytest.approx(0.9)
    assert activity(model, picture).layer == "fine"
    assert not model.fine._forward_hooks, "nothing is left behind"


def test_wrong_layers_and_networks_are_named() -> None:
    with pytest.raises(UserError, match="coarse"):
        activity(Bright(), torch.rand(3, 16, 16), "coarze")
    with pytest.raises(UserError, match="no spiking neurons"):
        neurons(nn.Conv2d(3, 3, 1))
    with pytest.raises(UserError, match="no pairs"):
        rain_rates(Bright(), [])


def test_the_wettest_window_is_found() -> None:
    difference = np.zeros((20, 30), np.float32)
    difference[7:11, 15:19] = 1
    assert wettest(difference, 4) == (15, 7)


def test_inspect_draws_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = np.random.default_rng(0)
    for split in ("input", "target"):
        (tmp_path / split).mkdir()
        Image.fromarray(numbers.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(
            tmp_path / split / "1.png"
        )
    rainy, clean = tmp_path / "input" / "1.png", tmp_path / "target" / "1.png"
    Image.fromarray(
        np.where(np.arange(48)[None, :, None] < 24, np.array(Image.open(clean)), np.array(Image.open(rainy)))
    ).save(rainy)
    tiny = ["dim=4", "encoder_blocks=[1,1,1]", "bottleneck_blocks=0", "decoder_blocks=[1,1]", "time_steps=2"]
    words = ["inspect", "--model", "esdnet", "--tile", "16", "--device", "cpu", "--set", *tiny]
    drawn, table = tmp_path / "a.png", tmp_path / "a.csv"
    more = ["--image", str(rainy), "--clean", str(clean), "-o", str(drawn)]
    assert main([*words, *more, "--data", str(tmp_path), "--csv", str(table)]) == 0
    out = capsys.readouterr().out
    assert "weights are random" in out and "50.0% of the pixels" in out
    assert "rain less background, by picture: " in out and "points (1 pictures; " in out
    assert Image.open(drawn).format == "PNG"
    assert main([*words, *more[:-1], str(tmp_path / "a.pdf")]) == 0
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert main([*words, *more[:-1], str(tmp_path / "a.gif")]) == 2
    assert "a .png or a .pdf" in capsys.readouterr().err
    assert "encoder1.0.residual.0.activation" in table.read_text()
    assert main([*words, "--image", str(rainy), "--patch", "40,0,16", "-o", str(drawn)]) == 2
    assert "beyond the picture" in capsys.readouterr().err
    assert main([*words, "--layers"]) == 0
    assert "decoder1.0.residual.1.activation" in capsys.readouterr().out
    assert main(["inspect", "--model", "prenet", "--layers"]) == 2
    assert "no spiking neurons" in capsys.readouterr().err
    assert main(["inspect", "--model", "esdnet"]) == 2


def test_pictures_of_one_scene_are_drawn_together_in_a_difference() -> None:
    from benchmark.cli.inspecting import _difference, _told

    values = np.array([0.01, 0.03, 0.05, np.nan])
    # of scenes 2 and 5 points, weighing two and one pictures: the mean is of pictures
    assert _told(_difference(values, ["a", "a", "b", "b"])).startswith(
        "+3.00 points (3 pictures of 2 scenes; 95 %"
    )
    assert "(3 pictures; 95 %" in _told(_difference(values, ["a", "b", "c", "c"]))
    assert _told(_difference(values[3:], ["a"])) == "no picture has both"
