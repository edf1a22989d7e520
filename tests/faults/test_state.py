"""Faults 14 and 15: any size with bounded memory, and results that depend on nothing but the picture.

Further: `test_tiles_put_together_again`, `test_any_size` (networks and files),
`test_a_large_picture_is_tiled_without_seams`,
`test_a_forward_is_a_pure_function_of_its_input`, `test_nothing_is_kept_between_calls`,
`test_snntorch_does_not_hold_the_neurons_of_the_process`.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import snntorch
import torch
from snntorch import SpikingNeuron, utils
from torch import nn

from benchmark import create_model
from benchmark.restoration.tiling import restore
from benchmark.run.evaluate import evaluate

SKELETON = {"dim": 4, "encoder_blocks": [1, 1, 1], "bottleneck_blocks": 0, "decoder_blocks": [1, 1]}
SPIKING: dict[str, dict[str, Any]] = {
    "esdnet": {**SKELETON, "time_steps": 2},
    "spikerain": {**SKELETON, "time_steps": 2},
    "vlif": {**SKELETON, "time_steps": 4},
}


def _network(name: str) -> nn.Module:
    torch.manual_seed(1)
    network = create_model(name, **SPIKING[name])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(
                parameter
            )  # the last layers begin at zero: they would hide a leak
    return network.eval()


def _pairs(count: int) -> list[dict[str, Any]]:
    torch.manual_seed(2)
    sizes = [(32, 32), (32, 40), (32, 32), (27, 35), (32, 32), (32, 40)]
    return [
        {"name": str(i), "rainy": torch.rand(3, *sizes[i % 6]), "target": torch.rand(3, *sizes[i % 6])}
        for i in range(count)
    ]


@pytest.mark.parametrize("name", SPIKING)
def test_a_result_does_not_depend_on_order_mates_or_other_networks(name: str) -> None:
    network, pairs = _network(name), _pairs(6)
    rows = {r["name"]: r for r in evaluate(network, pairs, progress=False)}
    assert len({r["psnr_esdnet"] for r in rows.values()}) == 6
    alone = {p["name"]: evaluate(network, [p], progress=False)[0] for p in pairs}
    backwards = {r["name"]: r for r in evaluate(network, pairs[::-1], progress=False)}
    assert alone == rows and backwards == rows
    # other networks in the process, and what snnTorch does to every neuron that it knows of
    other = create_model(name, **SPIKING[name]).train()
    other(torch.rand(2, 3, 32, 32)).sum().backward()
    stranger = snntorch.Leaky(beta=0.5, init_hidden=True)
    stranger(torch.rand(4))
    utils.reset(nn.Sequential(stranger))
    SpikingNeuron.instances.remove(stranger)
    assert {r["name"]: r for r in evaluate(network, pairs, progress=False)} == rows
    # a training step of its own in between leaves no membrane behind (statistics of norms are put back)
    kept = {k: v.clone() for k, v in network.state_dict().items()}
    network.train()(torch.rand(2, 3, 32, 32)).sum().backward()
    network.load_state_dict(kept)
    assert {r["name"]: r for r in evaluate(network.eval(), pairs, progress=False)} == rows


def _resident() -> int:
    """Bytes of this process in main memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
@pytest.mark.parametrize(("name", "forwards"), [("esdnet", 1000), ("spikerain", 300), ("vlif", 300)])
def test_a_thousand_forwards_do_not_grow(name: str, forwards: int) -> None:
    network, picture = _network(name), torch.rand(1, 3, 16, 16)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    with torch.no_grad():
        for _ in range(100):
            network(picture)
        counted, neurons, resident = tensors(), len(SpikingNeuron.instances), _resident()
        for _ in range(forwards):
            network(picture)
    assert tensors() <= counted
    assert len(SpikingNeuron.instances) == neurons
    assert _resident() - resident < 16 << 20


def test_networks_that_are_dropped_are_freed() -> None:
    neurons = len(SpikingNeuron.instances)
    for _ in range(3):
        for name in SPIKING:
            _network(name)
    gc.collect()
    assert len(SpikingNeuron.instances) == neurons


class _Brighter(nn.Module):
    """Sees no further than its pixel: the tiles must give exactly what the whole would."""

    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        return rainy * 0.5 + 0.25


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (16, 16), (31, 200), (96, 95), (97, 193)])
@pytest.mark.parametrize("tile", [None, 32, 96])
def test_exactly_the_size_that_went_in_comes_out(size: tuple[int, int], tile: int | None) -> None:
    picture = torch.rand(3, *size)
    restored = restore(_Brighter(), picture, tile)
    assert restored.shape == picture.shape
    torch.testing.assert_close(restored, picture * 0.5 + 0.25, atol=1e-6, rtol=0)


def test_8k_in_bounded_memory() -> None:
    """7680 × 4320 in tiles, in a process whose memory may not grow by more than eight such pictures (3.2 GB)."""
    code = (
        "import resource, torch\n"
        "from torch import nn\n"
        "from benchmark.restoration.restoring import restore_pixels\n"
        "class Local(nn.Module):\n"
        "    def forward(self, x): return torch.cat([x * 0.5] * 8).mean(0, keepdim=True)\n"  # 8 × a tile inside
        "import numpy as np\n"
        "pixels = np.zeros((4320, 7680, 3), np.uint8); pixels[::7] = 200\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "restored, tile = restore_pixels(Local(), pixels, 512)\n"
        "assert restored.shape == (3, 4320, 7680) and tile == 512\n"
        "assert abs(float(restored[0, 0, 0]) - 100 / 255) < 1e-6 and float(restored[0, 1, 0]) == 0\n"
        "print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8 * 7680 * 4320 * 3 * 4
