"""Networks start as their authors' do: the distribution of every parameter of a fresh network.

`starts.json` has the figures of the authors' constructors; `authors.py` measured them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark import catalog, create_model
from benchmark.checkpoints import in_our_names

SOURCE = json.loads((Path(__file__).parent / "starts.json").read_text())
THEIRS: dict[str, dict[str, list[float]]] = {
    name: entry["parameters"] for name, entry in SOURCE["networks"].items()
}
OPTIONS = {"drt": {"window_size": 7}}  # their notebook's
SEEDS = range(2)

WITHOUT_CODE = ("smartassign", "esdnet-s")


def fresh(name: str) -> dict[str, list[Tensor]]:
    drawn: dict[str, list[Tensor]] = {}
    for seed in SEEDS:
        torch.manual_seed(seed)
        for key, parameter in create_model(name, **OPTIONS.get(name, {})).named_parameters():
            drawn.setdefault(key, []).append(parameter.detach().flatten().double())
    return drawn


# RCDNet's dictionary starts from a file of its authors'; ours is drawn to be like it (`rain_kernels`)
ALIKE = {"rcdnet": ("first_kernels", "kernels")}


def differences(ours: Mapping[str, list[Tensor]], theirs: Mapping[str, list[float]]) -> list[str]:
    """Parameters of ours that are drawn from another distribution."""
    found = []
    for key, (count, mean, deviation, _, _, kurtosis) in theirs.items():
        values = torch.cat(ours[key])
        # trunc_normal_ rounds a draw in a million to its bound, a hundred deviations out
        values = values[(values - values.mean()).abs() <= 30 * values.std(correction=0)]
        n = min(len(values), int(count))
        here = float(values.mean()), float(values.std(correction=0))
        spread = math.sqrt(max(kurtosis - 1, 0.1) / 4)  # of a standard deviation's estimate, times √n
        told = f"{key}: mean {here[0]:.4g}, deviation {here[1]:.4g}; theirs {mean:.4g}, {deviation:.4g}"
        if deviation == 0:
            same = values.numpy() == pytest.approx(mean, rel=1e-3, abs=1e-9)
        else:
            same = (
                abs(here[0] - mean) <= 8 * deviation / math.sqrt(n) + 1e-4 * abs(mean)
                and abs(here[1] / deviation - 1) <= 8 * spread / math.sqrt(n)
                and here[1] > 0
            )
            if n > 1000:
                shape = float(((values - values.mean()) ** 4).mean()) / here[1] ** 4
                same = same and abs(shape / kurtosis - 1) < 0.2
        if not same:
            found.append(told)
    return found


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_a_fresh_network_is_as_its_authors(name: str) -> None:
    model = create_model(name, **OPTIONS.get(name, {}))
    as_tensors = {key: torch.tensor(values) for key, values in THEIRS[name].items()}
    theirs = {key: values.tolist() for key, values in in_our_names(model, as_tensors).items()}
    ours = fresh(name)
    assert set(theirs) == set(ours)
    for key in ALIKE.get(name, ()):
        _, mean, deviation, least, greatest, _ = theirs.pop(key)
        values = ours[key][0]
        assert float(values.mean()) == pytest.approx(mean, rel=0.05)
        assert float(values.std()) == pytest.approx(deviation, rel=0.15)
        assert least <= float(values.min()) < 1e-3 and float(values.max()) <= 1.1 * greatest
    assert differences(ours, theirs) == []


def test_every_network_with_public_code_is_compared() -> None:
    own = [n for n, e in catalog.networks().items() if e.target.split(".")[0] in ("esdnet", "baselines")]
    assert sorted(own) == sorted([*THEIRS, *WITHOUT_CODE])


def test_what_has_no_code_starts_from_torchs_own() -> None:
    torch.manual_seed(0)
    model = create_model("smartassign")
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert 0.8 * bound < float(module.weight.detach().abs().max()) <= bound, name


def test_the_comparison_notices() -> None:
    torch.manual_seed(0)
    ours = {"a": [torch.rand(4000).double() - 0.5], "b": [torch.zeros(3).double()]}
    uniform = [4000, 0.0, 0.2887, -0.5, 0.5, 1.8]
    assert differences(ours, {"a": uniform, "b": [3, 0.0, 0.0, 0.0, 0.0, 0.0]}) == []
    for wrong in ([4000, 0.06, *uniform[2:]], [4000, 0.0, 0.31, *uniform[3:]], [*uniform[:5], 3.0]):
        assert differences(ours, {"a": wrong})
    assert differences(ours, {"b": [3, 0.0, 0.1, -0.2, 0.2, 1.8]})
    assert differences(ours, {"b": [3, 1.0, 0.0, 1.0, 1.0, 0.0]})
