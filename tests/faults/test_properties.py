"""Properties that hold for anything one may draw.

Further: `test_tiles_put_together_again` (tiling any size and back),
`test_pairing_gives_a_rainy_name_one_partner_and_loses_no_name`,
`test_totals_are_the_sums_of_the_layers` (costs), `test_configurations_survive_being_plain_data`.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmark import measure_cost
from benchmark.metrics.fidelity import CONVENTIONS, psnr_y, ssim_y
from benchmark.run.records import read_record, write_record
from benchmark.spec import resolve


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    convention=st.sampled_from(sorted(CONVENTIONS)),
    height=st.integers(24, 60),
    width=st.integers(24, 60),
    noise=st.sampled_from([0.0, 1e-3, 0.1, 1.0]),
)
def test_metrics_are_symmetric_and_bounded(
    seed: int, convention: str, height: int, width: int, noise: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(2, 3, height, width, generator=generator)
    b = (a + noise * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    psnr, ssim = psnr_y(a, b, convention), ssim_y(a, b, convention)
    torch.testing.assert_close(psnr, psnr_y(b, a, convention))
    torch.testing.assert_close(ssim, ssim_y(b, a, convention))
    assert bool((psnr > 0).all()) and bool((ssim <= 1 + 1e-12).all()) and bool((ssim >= -1).all())
    if noise == 0.0:
        assert bool(torch.isinf(psnr).all()) and bool((ssim > 1 - 1e-9).all())
    # each picture by itself: what else is in the batch does not count
    torch.testing.assert_close(psnr[1:], psnr_y(a[1:], b[1:], convention))


class _Chain(nn.Module):
    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        pairs = list(zip([3, *channels], channels, strict=False))
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@settings(max_examples=15)
@given(channels=st.lists(st.integers(1, 6), min_size=1, max_size=5), size=st.integers(8, 24))
def test_costs_add_up_over_layers(channels: list[int], size: int) -> None:
    whole = measure_cost(_Chain(channels), size)
    expected = sum(9 * i * o * size * size for i, o in zip([3, *channels], channels, strict=False))
    assert whole.macs == expected
    assert int(whole.layers["macs"].sum()) == expected


_numbers = st.one_of(
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.sampled_from([math.inf, -math.inf, 1e-320, -0.0]),
)
_plain = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


def _as_text(data: Any) -> Any:
    """Infinite numbers as they stand in a record."""
    if isinstance(data, dict):
        return {k: _as_text(v) for k, v in data.items()}
    if isinstance(data, list):
        return [_as_text(v) for v in data]
    return {math.inf: "inf", -math.inf: "-inf"}.get(data, data) if isinstance(data, float) else data


@settings(max_examples=60)
@given(content=st.dictionaries(st.text().filter(lambda k: k != "format"), _plain, max_size=5))
def test_records_come_back_as_they_were(tmp_path_factory: Any, content: dict[str, Any]) -> None:
    folder = Path(tmp_path_factory.getbasetemp()) / "round"
    write_record(folder, content, "any.json")
    record = read_record(folder, "any.json")
    assert record == {"format": 1, **_as_text(content)}


def test_identities_are_the_same_in_every_process() -> None:
    """Whatever the hash seed and the locale; they are hashes of sorted JSON, so the Python version does not enter."""
    questions = [
        ["model=esdnet", "model.encoder_blocks=[4,4,8]", "data=rain200h", "recipe=paper"],
        ["model=prenet", "data=embedded-light", "recipe=embedded", "seed=3"],
        ["model=vlif", "data=rain1200", "recipe=authors", "recipe.optimizer.lr=0.0003"],
    ]
    here = [resolve(q).identity for q in questions]
    code = (
        "import json, sys; from benchmark.spec import resolve\n"
        "print(json.dumps([resolve(q).identity for q in json.loads(sys.argv[1])]))"
    )
    for environment in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "LC_ALL": "C", "PYTHONUTF8": "0"}):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(questions)],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=True,
        )
        assert json.loads(done.stdout) == here
