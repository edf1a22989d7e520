"""ESDNet as a whole: parity with the released code, sizes, variants, state."""

from __future__ import annotations

import copy
import gc
import importlib.util
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from benchmark.catalog import network as network_entry
from esdnet import ESDNet, LeakySequence, SequenceNeuron
from esdnet.blocks import PostActivationBlock

SMALL: dict[str, Any] = {
    "dim": 8,
    "encoder_blocks": [1, 1, 1],
    "bottleneck_blocks": 1,
    "decoder_blocks": [1, 1],
    "time_steps": 2,
}
BLOCKS = ("srb", "ms", "sew", "ann")


def small(**options: Any) -> ESDNet:
    return ESDNet(**{**SMALL, **options})


@pytest.mark.parametrize("name", ["esdnet", "esdnet-small"])
def test_parity_with_the_released_code(shared: Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location("parity", shared / "parity" / "parity.py")
    assert spec is not None and spec.loader is not None
    parity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parity)
    assert parity.check(name)


@pytest.mark.parametrize("name", ["esdnet", "esdnet-small"])
def test_parameters_are_the_released_codes(shared: Path, name: str) -> None:
    card = json.loads((shared / "parity" / name / "card.json").read_text())
    network = ESDNet(**card["overrides"])
    assert sum(p.numel() for p in network.parameters()) == card["params"]


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 12_811_463),
        ({"refinement": False}, 12_811_463 - 106_296),
        ({"block": "ms"}, 8_684_427),
        ({"block": "sew"}, 8_684_427),
        ({"block": "ann"}, 8_684_427),
        ({"attention": False, "shortcut": False}, 8_684_427),
    ],
)
def test_parameters_of_the_full_variants(options: dict[str, Any], parameters: int) -> None:
    assert sum(p.numel() for p in ESDNet(**options).parameters()) == parameters


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 30), (33, 16), (21, 23)])
def test_any_size(height: int, width: int) -> None:
    rainy = torch.rand(2, 3, height, width)
    assert small().eval()(rainy).shape == rainy.shape


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_any_number_of_steps(steps: int) -> None:
    network = small(time_steps=steps)
    frames: list[Tensor] = []
    network.encoder1.register_forward_hook(lambda *a: frames.append(a[2]))
    assert torch.isfinite(network(torch.rand(1, 3, 16, 16))).all()
    assert len(frames[0]) == steps
    assert network.encoder1[0].attention.temporal.squeeze.in_channels == steps


def test_the_defaults_are_the_released_configuration() -> None:
    network = ESDNet()
    counts = [
        len(getattr(network, stage))
        for stage in ("encoder1", "encoder2", "encoder3", "bottleneck", "decoder2", "decoder1")
    ]
    assert counts == [4, 4, 8, 2, 2, 2]
    assert network.embedding.out_channels == 48
    assert network.output.in_channels == 96
    neuron = network.down1.activation
    assert (neuron.beta.item(), neuron.threshold.item()) == pytest.approx((0.5, 0.15))
    assert (neuron.surrogate, neuron.alpha, neuron.reset_mechanism, neuron.detach_reset) == (
        "sigmoid",
        4.0,
        "zero",
        False,
    )


def test_the_rainy_image_is_added_at_the_end() -> None:
    network = small().eval()
    nn.init.zeros_(network.output.weight)
    nn.init.zeros_(network.output.bias)
    rainy = torch.rand(1, 3, 18, 19)
    assert torch.equal(network(rainy), rainy)


@pytest.mark.parametrize("name", ["esdnet", "spikerain", "vlif"])
def test_embedded_variants_start_as_the_identity_and_are_small(name: str) -> None:
    entry = network_entry(name)
    network = entry.load_class()(**entry.embedded).eval()
    rainy = torch.rand(1, 3, 16, 20)
    assert torch.equal(network(rainy), rainy)
    assert 20_000 < sum(p.numel() for p in network.parameters()) < 150_000


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_reach_every_parameter(block: str) -> None:
    network = small(block=block)
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # one hidden unit behind a ReLU (temporal and channel MLPs of so small a network) may be off for every image
    assert [n for n in missing if ".temporal." not in n and ".channel." not in n] == []
    assert all(p.grad is not None for p in network.parameters())


def test_learned_neuron_constants_get_gradients_and_are_saved() -> None:
    network = small(learn_beta=True, learn_threshold=True)
    network(torch.rand(2, 3, 16, 16)).mean().backward()
    learned = {n: p for n, p in network.named_parameters() if n.endswith((".beta", ".threshold"))}
    neurons = [m for m in network.modules() if isinstance(m, LeakySequence)]
    assert len(learned) == 2 * len(neurons) > 0
    assert all(p.grad is not None and p.grad != 0 for p in learned.values())
    assert learned.keys() <= network.state_dict().keys()


def test_neuron_options_reach_every_neuron() -> None:
    network = small(
        beta=0.25, threshold=0.5, reset_mechanism="subtract", surrogate="atan", alpha=2.0, detach_reset=True
    )
    neurons = [m for m in network.modules() if isinstance(m, LeakySequence)]
    assert {
        (n.beta.item(), n.threshold.item(), n.reset_mechanism, n.surrogate, n.alpha, n.detach_reset)
        for n in neurons
    } == {(0.25, 0.5, "subtract", "atan", 2.0, True)}
    assert network.down1.norm.weight[0].item() == pytest.approx(0.5 / 2**0.5)


def test_ann_has_no_neuron_and_one_step() -> None:
    network = small(block="ann", time_steps=4)
    assert not any(isinstance(m, SequenceNeuron) for m in network.modules())
    assert network.time_steps == 1
    activations = [m for m in network.modules() if isinstance(m, nn.ReLU)]
    assert len(activations) > 12
    assert all(type(m) is nn.BatchNorm2d for m in network.modules() if isinstance(m, nn.BatchNorm2d))


def test_sew_residuals_are_sums_of_spikes() -> None:
    network = small(block="sew", encoder_blocks=[2, 2, 1])
    seen: list[tuple[Tensor, Tensor]] = []
    blocks = [m for m in network.modules() if isinstance(m, PostActivationBlock)]
    for block in blocks:
        block.register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    network(torch.rand(1, 3, 16, 16))
    assert len(seen) == len(blocks) == 8
    for before, after in seen:
        assert torch.equal(before, before.round()) and before.min() >= 0
        assert set((after - before).unique().tolist()) <= {0.0, 1.0}


def test_membrane_shortcut_has_no_attention_and_no_convolution_beside() -> None:
    block = small(block="ms").encoder1[0]
    assert block.attention is None and block.shortcut is None
    both = small(block="ms", attention=True, shortcut=True)
    assert both.state_dict().keys() == small().state_dict().keys()


def test_parts_can_be_left_out() -> None:
    bare = small(attention=False, shortcut=False, refinement=False, norm="bn")
    names = [n for n, _ in bare.named_parameters()]
    assert not any("attention" in n or "shortcut" in n or "refinement" in n for n in names)
    assert bare.down1.norm.weight[0] == 1
    assert small(attention=["channel"]).encoder1[0].attention.spatial is None


@pytest.mark.parametrize(
    "options",
    [
        {"block": "resnet"},
        {"norm": "ln"},
        {"attention": ["colour"]},
        {"block": "sew", "attention": True},
        {"block": "ann", "shortcut": True},
        {"block": "ann", "norm": "tdbn"},
        {"encoder_blocks": [1, 1]},
        {"decoder_blocks": [1, -1]},
        {"time_steps": 0},
        {"dim": 0},
        {"surrogate": "step"},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|has neither|has no"):
        small(**options)


def test_a_forward_is_a_pure_function_of_its_input() -> None:
    network = small().eval()
    a, b = torch.rand(1, 3, 16, 20), torch.rand(1, 3, 16, 20)
    with torch.no_grad():
        first, second = network(a), network(b)
        assert torch.equal(network(a), first)
        assert torch.equal(network(b), second)
        together = network(torch.cat([a, b]))
    torch.testing.assert_close(together, torch.cat([first, second]), rtol=1e-4, atol=1e-5)


def test_nothing_grows_with_forwards() -> None:
    network = small(dim=4, encoder_blocks=[1, 0, 0], bottleneck_blocks=0, decoder_blocks=[0, 1]).eval()
    rainy = torch.rand(1, 3, 16, 16)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    with torch.no_grad():
        network(rainy)
        before, neurons = tensors(), len(SpikingNeuron.instances)
        for _ in range(200):
            network(rainy)
    assert tensors() <= before
    assert len(SpikingNeuron.instances) == neurons


def test_copies_and_pickles_are_the_same_network() -> None:
    network, rainy = small().eval(), torch.rand(1, 3, 16, 16)
    before = len(SpikingNeuron.instances)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(rainy), network(rainy))
    assert len(SpikingNeuron.instances) == before


def test_state_dict_round_trip() -> None:
    network, other = small(), small()
    network(torch.rand(2, 3, 16, 16))  # moves the running statistics
    other.load_state_dict(network.state_dict(), strict=True)
    rainy = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(network.eval()(rainy), other.eval()(rainy))
    assert not any(key.endswith((".mem", ".threshold", ".beta")) for key in network.state_dict())


@pytest.mark.parametrize("block", BLOCKS)
def test_bfloat16_is_finite_and_keeps_its_dtype(block: str) -> None:
    network = small(block=block).bfloat16().eval()
    restored = network(torch.rand(1, 3, 16, 16).bfloat16())
    assert restored.dtype == torch.bfloat16
    assert torch.isfinite(restored).all()


def test_work_that_every_step_repeats_is_declared() -> None:
    network, calls = small(time_steps=3), []
    network.embedding.register_forward_hook(lambda *a: calls.append(a[2].shape[0]))
    network(torch.rand(2, 3, 16, 16))
    assert network.executed_once == {"embedding": 3}
    assert calls == [2]


def test_the_package_is_imported_without_torch() -> None:
    code = "import sys, esdnet; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": "ann", "rate_weight": 0.05}, "no spikes for rate_weight"),
        ({"rate_weight": float("nan")}, "rate_weight must be a number"),
        ({"rate_weight": float("inf")}, "rate_weight must be a number"),
        ({"temporal_reduction": 0}, "temporal_reduction must be at least 1"),
        ({"beta": 2.0}, "beta must be at least 0 and at most 1"),
        ({"beta": float("nan")}, "beta must be at least 0 and at most 1"),
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"threshold": -1.0}, "threshold must be above 0"),
    ],
)
def test_what_no_neuron_and_no_price_can_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small(**options)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_a_membrane_may_forget_all_or_nothing(beta: float) -> None:
    assert torch.isfinite(small(beta=beta).eval()(torch.rand(1, 3, 16, 16))).all()
