"""EfficientDeRain: a filter for every pixel, at four dilations."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from baselines.efficientderain import filter_pixels
from benchmark import catalog, create_model
from benchmark.checkpoints import options_in
from benchmark.errors import UserError


@pytest.mark.parametrize("fixture", ["efficientderain", "efficientderain-k3"])
def test_computes_what_the_authors_code_does(
    shared: Path, monkeypatch: pytest.MonkeyPatch, fixture: str
) -> None:
    monkeypatch.syspath_prepend(shared / "parity")
    parity = importlib.import_module("parity")
    card = parity.card
    monkeypatch.setattr(parity, "card", lambda name: card(name) | {"tolerance": 1e-5})
    assert parity.check(fixture)


@pytest.mark.parametrize(("kernel_size", "parameters"), [(5, 27_654_510), (3, 27_395_406)])
def test_parameter_count(kernel_size: int, parameters: int) -> None:
    model = create_model("efficientderain", kernel_size=kernel_size)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_filtering_is_a_weighted_sum_of_distant_pixels() -> None:
    image, filters = torch.rand(2, 3, 6, 7), torch.randn(2, 3, 9, 6, 7)
    filtered = filter_pixels(image, filters, dilation=2)
    for n, c, i, j in [(0, 0, 3, 3), (1, 2, 0, 0), (1, 1, 5, 6), (0, 2, 2, 5)]:
        expected = 0.0
        for tap in range(9):
            y, x = i + 2 * (tap // 3 - 1), j + 2 * (tap % 3 - 1)
            if 0 <= y < 6 and 0 <= x < 7:
                expected += (filters[n, c, tap, i, j] * image[n, c, y, x]).item()
        assert filtered[n, c, i, j].item() == pytest.approx(expected, abs=1e-5)


def test_a_fresh_network_passes_the_image_on_where_asked() -> None:
    model = create_model("efficientderain", kernel_size=3, width=4, start_as_identity=True).eval()
    rainy = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        difference = (model(rainy) - rainy).abs().mean()
    assert difference < 0.25 * rainy.mean()


def test_released_weights_are_known_by_their_small_filters() -> None:
    entry = catalog.network("efficientderain")
    assert options_in(entry, {"outc.weight": torch.zeros(27, 27, 1, 1)}) == {"kernel_size": 3}
    assert options_in(entry, {"outc.weight": torch.zeros(75, 75, 1, 1)}) == {}


def test_filters_have_a_centre() -> None:
    with pytest.raises(UserError, match="kernel_size must be odd"):
        create_model("efficientderain", kernel_size=4)
