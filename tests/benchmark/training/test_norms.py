"""Batch norms on several processes: gradients and running statistics are those of one process."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmark import catalog, create_model
from benchmark.training.norms import WholeBatch

SMALL = {
    "esdnet": {
        "dim": 4,
        "encoder_blocks": [1, 1, 1],
        "bottleneck_blocks": 0,
        "decoder_blocks": [1, 1],
        "time_steps": 2,
    },
    "rcdnet": catalog.network("rcdnet").embedded,
    "sfnet": catalog.network("sfnet").embedded,
}
ONE_EACH = ("sfnet",)  # pooled filters are one value a picture: one alone cannot be normalised


def _compare(rank: int, meeting: str, networks: dict[str, dict[str, Any]]) -> None:
    """In one of two processes: both halves of a batch give what the whole gives, in double precision."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    for name, each in [*((name, 2) for name in networks), *((name, 1) for name in ONE_EACH)]:
        options = networks[name]
        torch.manual_seed(0)
        one = create_model(name, **options).double().train()
        shared = copy.deepcopy(one)
        rainy = torch.rand(2 * each, 3, 32, 32, dtype=torch.float64)
        one(rainy).square().mean().backward()
        WholeBatch().apply(shared)
        parallel = DistributedDataParallel(shared, find_unused_parameters=True)
        parallel(rainy[each * rank : each * (rank + 1)]).square().mean().backward()
        WholeBatch().revert(shared)
        assert not any("forward" in vars(module) for module in shared.modules())
        gradients = [(p.grad, q.grad) for p, q in zip(one.parameters(), shared.parameters(), strict=True)]
        found = [(a, b) for a, b in gradients if a is not None and b is not None]
        largest = max(a.abs().max() for a, _ in found)
        assert max((a - b).abs().max() for a, b in found) < 1e-10 * largest, name
        for (key, a), b in zip(one.named_buffers(), shared.buffers(), strict=True):
            torch.testing.assert_close(b, a, atol=1e-12, rtol=1e-12, msg=f"{name}: {key}")
    dist.destroy_process_group()


def test_two_halves_of_a_batch_are_normalised_as_the_whole(tmp_path: Path) -> None:
    meeting = (tmp_path / "meeting").as_uri()
    torch.multiprocessing.spawn(_compare, (meeting, SMALL), nprocs=2)


@pytest.mark.parametrize("training", [True, False])
def test_one_process_alone_is_left_as_it_is(tmp_path: Path, training: bool) -> None:
    """With a group of one the same figures, in training and at test time, of norms with and without an affine map."""
    dist.init_process_group("gloo", init_method=(tmp_path / "alone").as_uri(), rank=0, world_size=1)
    try:
        for norm, size in ((nn.BatchNorm2d(3), (4, 3, 5, 6)), (nn.BatchNorm1d(3, affine=False), (4, 3))):
            given = torch.randn(*size) * 2 + 5
            expected, got = copy.deepcopy(norm).train(training), norm.train(training)
            WholeBatch().apply(got)
            torch.testing.assert_close(got(given), expected(given))
            for a, b in zip(got.buffers(), expected.buffers(), strict=True):
                torch.testing.assert_close(a, b)
    finally:
        dist.destroy_process_group()
