"""A network's card says what its class takes, and a folder is all that a network needs."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

import baselines
from benchmark import catalog
from benchmark.spec import resolve

OURS = [name for name, entry in catalog.networks().items() if entry.is_ours()]


@pytest.mark.parametrize("name", OURS)
def test_a_card_has_the_options_of_the_class(name: str) -> None:
    entry = catalog.network(name)
    assert entry.declared is not None
    parameters = inspect.signature(entry.load_class()).parameters.values()
    assert [(p.name, p.default) for p in parameters] == list(entry.options().items())
    for option, declared in entry.declared.items():
        numbers = isinstance(declared.default, (int, float, tuple)) and not isinstance(declared.default, bool)
        assert (declared.least is not None) == (declared.most is not None) == numbers, option


def test_the_rows_of_tables_stay_in_their_order() -> None:
    families = [catalog.network(name).family for name in OURS]
    assert families == ["CNN"] * 7 + ["Transformer"] * 4 + ["Spiking"] * 4
    assert (OURS[0], OURS[3], OURS[11], OURS[-1]) == ("rescan", "mprnet", "esdnet", "vlif")


CARD = """
name: mine
title: Mine
target: "baselines.mine:Mine"
family: CNN
order: 99
year: 2026
venue: none
citation: none
code: this folder
licence: MIT
weights: none
loss: "baselines.mine.loss:twice"
recipe: recipe.yaml
options:
  width: {default: 4, least: 2, most: 8}
"""


def test_a_folder_is_all_that_a_network_with_a_loss_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmark import create_model
    from benchmark.cli import main
    from benchmark.training.losses import get_loss

    home = tmp_path / "mine"
    home.mkdir()
    (home / "card.yaml").write_text(CARD)
    (home / "recipe.yaml").write_text("loss: own\nepochs: null\nsteps: 5\n")
    (home / "__init__.py").write_text(
        "from torch import nn\n\nclass Mine(nn.Sequential):\n"
        "    def __init__(self, width=4):\n"
        "        super().__init__(nn.Conv2d(3, width, 1), nn.Conv2d(width, 3, 1))\n"
    )
    (home / "loss.py").write_text(
        "def twice(outputs, rainy, target):\n    return 2 * (outputs[-1] - target).abs().mean()\n"
    )
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
    monkeypatch.setattr(baselines.__spec__, "submodule_search_locations", baselines.__path__)
    catalog.networks.cache_clear()
    try:
        spec = resolve(["model=mine", "recipe=authors"])
        assert (spec.recipe.loss, spec.recipe.steps) == ("own", 5)
        network = create_model("mine", width=8)
        picture = torch.rand(1, 3, 16, 16)
        loss = get_loss("own", network)([network(picture)], picture, picture)
        assert float(loss.detach()) == pytest.approx(
            2 * float((network(picture) - picture).abs().mean().detach())
        )
        assert main(["config", "model=mine", "model.width=9"]) == 2
        assert capsys.readouterr().err == "derain: model.width=9: must be at most 8\n"
    finally:
        monkeypatch.undo()
        catalog.networks.cache_clear()
