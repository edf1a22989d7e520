"""What every network of the catalogue must do, whichever it is: a new entry gets these tests for free.

The networks are the small variants that the embedded tables train, built as users build them.
"""

from __future__ import annotations

import io
import re

import pytest
import torch
from torch import Tensor, nn

from benchmark import catalog, create_model, list_models

# trainable parameters that get no gradient for a reason: (network, pattern of names) -> the reason
NO_GRADIENT: dict[tuple[str, str], str] = {}

# networks that torch.export cannot take -> why
NO_EXPORT: dict[str, str] = {}

NETWORKS = [
    name for name in list_models() if catalog.network(name).target.split(".")[0] in ("esdnet", "baselines")
]


def build(name: str) -> nn.Module:
    """The small variant with weights under which every branch is alive.

    Initial zeros switch branches off; initial norms of some spiking networks are so small that few neurons fire;
    gates of one or two hidden ReLUs are dead in half of all draws (their inputs are mostly positive).
    """
    model = create_model(name, **catalog.network(name).embedded)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("norm.weight"):
                parameter.uniform_(1.0, 3.0)
            elif not parameter.any():
                parameter.normal_(std=0.05)
            elif "squeeze" in key:
                parameter.abs_()
    return model


def outputs_of(model: nn.Module, rainy: Tensor) -> list[Tensor]:
    """Everything that training may supervise."""
    supervised = getattr(model, "training_outputs", None)
    return [model(rainy)] if supervised is None else supervised(rainy)


@pytest.mark.parametrize("name", NETWORKS)
def test_any_size_in_the_same_size_out(name: str) -> None:
    model = build(name).eval()
    with torch.no_grad():
        for shape in ((1, 3, 17, 16), (2, 3, 33, 50)):
            rainy = torch.rand(shape)
            given = rainy.clone()
            restored = model(rainy)
            assert restored.shape == rainy.shape and restored.dtype == rainy.dtype
            assert restored.isfinite().all()
            assert torch.equal(rainy, given), "the input was written to"


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name: str) -> None:
    without: set[str] | None = None
    # a draw of weights may still leave a unit silent: what no draw reaches is out of reach
    for _ in range(8):
        model = build(name).train()
        outputs = outputs_of(model, torch.rand(2, 3, 32, 32))
        torch.stack([(o * torch.randn_like(o)).sum() for o in outputs]).sum().backward()
        trained = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        assert all(g is None or g.isfinite().all() for g in trained.values())
        silent = {n for n, g in trained.items() if g is None or not g.any()}
        without = silent if without is None else without & silent
        if not without:
            break
    excuses = [pattern for network, pattern in NO_GRADIENT if network == name]
    assert {n for n in without or () if not any(re.search(e, n) for e in excuses)} == set()
    assert all(any(re.search(e, n) for n in without or ()) for e in excuses), "an excuse is out of date"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_training_output_is_the_restored_image(name: str) -> None:
    model = build(name).eval()
    rainy = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(outputs_of(model, rainy)[-1], model(rainy))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_is_restored_alike_again_and_beside_others(name: str) -> None:
    model = build(name).eval().double()
    rainy, other = torch.rand(1, 3, 32, 32).double(), torch.rand(1, 3, 32, 32).double()
    with torch.no_grad():
        restored = model(rainy)
        model(other)
        assert torch.equal(model(rainy), restored)
        together = model(torch.cat((other, rainy)))
    # in double precision, so that rounding does not flip spikes
    torch.testing.assert_close(together[1:], restored, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_saved_and_loaded_restore_alike(name: str) -> None:
    model, other = build(name).eval(), build(name).eval()
    rainy = torch.rand(1, 3, 32, 32)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        assert torch.equal(model(rainy), other(rainy))
    assert all(
        p.data_ptr() != q.data_ptr() for p, q in zip(model.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_is_finite(name: str) -> None:
    model = build(name).eval()
    rainy = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert model(rainy).isfinite().all()
        restored = model.bfloat16()(rainy.bfloat16())
    assert restored.dtype == torch.bfloat16 and restored.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_export(name: str) -> None:
    model = build(name).eval()
    rainy = torch.rand(1, 3, 32, 32)
    if name in NO_EXPORT:
        with pytest.raises(Exception, match=NO_EXPORT[name]):
            torch.export.export(model, (rainy,))
        return
    with torch.no_grad():
        exported = torch.export.export(model, (rainy,)).module()
        torch.testing.assert_close(exported(rainy), model(rainy), rtol=1e-4, atol=1e-4)
