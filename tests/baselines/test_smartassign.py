"""SmartAssign (rebuilt): its size is what is printed, its shares are apart."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines.smartassign import Assignment
from benchmark import catalog, create_model
from benchmark.training.losses import get_loss

SMALL = {"channels": 8, "groups": 2, "blocks": 1, "heads": 2, "expansion": 2.0}


def test_size_and_cost_are_within_a_hundredth_of_the_printed_ones() -> None:
    model = create_model("smartassign").eval()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(1.359e6, rel=0.01)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.rand(1, 3, 32, 32))
    # everything but the gates is done for each pixel, so 32×32 tells 256×256
    assert counter.get_total_flops() / 2 * 64 == pytest.approx(90.386e9, rel=0.01)


def test_it_says_that_it_is_a_rebuilding() -> None:
    entry = catalog.network("smartassign")
    assert entry.title == "SmartAssign (rebuilt)"
    assert "not the authors'" in (__import__("baselines.smartassign").smartassign.__doc__ or "")


def test_gates_are_a_share_for_each_map_task_and_image() -> None:
    layer = Assignment(maps=6, hidden=4, tasks=2)
    knowledge = torch.rand(3, 6, 5, 7) + 0.1
    shares = [layer(knowledge, task) / knowledge for task in (0, 1)]
    for share in shares:
        torch.testing.assert_close(share, share[..., :1, :1].expand_as(share))
        assert share.min() > 0 and share.max() < 1
    assert not torch.allclose(shares[0], shares[1])
    assert not torch.allclose(shares[0][0], shares[0][1])


def test_both_tasks_see_the_same_knowledge_through_other_gates() -> None:
    model = create_model("smartassign", **SMALL).eval()
    rainy = torch.rand(2, 3, 16, 17)
    with torch.no_grad():
        model.snow.weight.copy_(model.rain.weight)
        model.assign.gates[1].load_state_dict(model.assign.gates[0].state_dict())
        without_snow, restored = model.training_outputs(rainy)
        torch.testing.assert_close(without_snow, restored)
        torch.testing.assert_close(model(rainy), restored)
        model.assign.gates[1].bias.add_(3.0)
        without_snow, again = model.training_outputs(rainy)
    torch.testing.assert_close(again, restored)
    assert not torch.allclose(without_snow, restored)


def test_long_range_reaches_across_the_image() -> None:
    model = create_model("smartassign", **SMALL).eval().double()
    rainy = torch.rand(1, 3, 48, 48).double().requires_grad_()
    model.groups[0](model.extract(rainy))[0, :, 0, 0].sum().backward()
    assert rainy.grad[..., 40:, 40:].abs().max() > 0  # further than the convolutions reach


def test_contrast_keeps_the_shares_apart() -> None:
    loss = get_loss("smartassign")
    rainy, target = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    rain = rainy - target
    apart = torch.randn_like(rain)
    apart = (
        apart
        - (apart * rain).flatten(1).sum(1).view(-1, 1, 1, 1)
        / rain.square().flatten(1).sum(1).view(-1, 1, 1, 1)
        * rain
    )
    best = loss([rainy - apart, target], rainy, target).item()
    assert best == pytest.approx(0.1 * torch.nn.functional.softplus(torch.tensor(-2.0)).item(), rel=1e-3)
    for same in (rain, -rain):
        assert loss([rainy - same, target], rainy, target).item() > best + 0.03
    assert loss([rainy - apart, target + 0.1], rainy, target).item() > best + 0.09


@pytest.mark.parametrize("name", ["mprnet", "elformer", "smartassign"])
def test_a_network_started_as_the_identity_is_nearly_that(name: str) -> None:
    embedded = catalog.network(name).embedded
    assert embedded["start_as_identity"]
    rainy = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        started, fresh = (
            (create_model(name, **embedded | {"start_as_identity": s}).eval()(rainy) - rainy).abs().mean()
            for s in (True, False)
        )
    assert started < 0.02 and started < fresh / 10
