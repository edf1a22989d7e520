"""The neuron's GPU kernels: interpreted on a CPU, compiled for a GPU that is not there, and on one that is."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

from esdnet import LeakySequence, gpu, native

triton = pytest.importorskip("triton")

INTERPRETED = """
import torch
from esdnet import gpu, kernels, native

torch.manual_seed(0)
native.library = lambda dtype: None
for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
    for reset, surrogate, detach in zip(gpu.RESETS, gpu.SURROGATES, (False, False, True)):
        for shape, constants in (((4, 2, 3, 4, 5), (3, 1, 1)), ((1, 9), ()), ((3, 1100), ())):
            beta, threshold = torch.rand(constants).to(dtype), torch.rand(constants).to(dtype)
            current, gradient = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
            spikes = gpu.forward(current, beta, threshold, reset)
            plain = kernels.membrane(current, beta, threshold, reset).ge_(threshold)
            assert torch.equal(spikes, plain), (dtype, reset, shape)
            options = (reset, surrogate, 4.0, detach)
            ours = gpu.backward(current, gradient, beta, threshold, *options, True, True)
            asked = [x.detach().requires_grad_() for x in (current, beta, threshold)]
            made = kernels.leaky_spikes(*asked, *options)
            theirs = torch.autograd.grad(made, asked, gradient)
            if dtype.itemsize < 4:  # the plain one rounds at every operation, these at the end
                continue
            close = dict(rtol=1e-4, atol=1e-5) if dtype == torch.float32 else dict(rtol=1e-6, atol=1e-6)
            for got, expected in zip(ours, theirs):
                torch.testing.assert_close(got.sum_to_size(expected.shape), expected, **close)
print("same")
"""


def test_interpreted_kernels_are_the_definition() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], capture_output=True, text=True, env=environment, timeout=250
    )
    assert done.stdout.strip() == "same", done.stderr[-2000:]


def test_they_compile_and_fuse_no_rounding() -> None:
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from esdnet import triton_lif

    pointers = dict.fromkeys(("x", "g", "out", "beta", "theta"), "*bf16")
    signature = {
        **pointers,
        "to_beta": "*fp32",
        "to_theta": "*fp32",
        "n": "i32",
        "stride": "i32",
        "alpha": "fp32",
    }
    constants = {
        "T": 4, "EACH": 0, "RESET": 0, "SURROGATE": 0, "DETACH": False, "BETA": False, "THETA": False,
        "R": tl.float32, "BLOCK": 1024,
    }  # fmt: skip
    source = ASTSource(
        triton_lif.backward,
        signature={**signature, **dict.fromkeys(constants, "constexpr")},
        constexprs=constants,
    )
    try:
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
    except RuntimeError as error:
        pytest.skip(f"Triton has no assembler here: {error}")
    assert made.asm["cubin"]
    assert not re.search(r"\bfma\.", made.asm["ptx"])


def test_a_cpu_is_not_for_them() -> None:
    assert not gpu.usable(torch.ones(2, 3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_gpu_the_spikes_are_those_of_the_cpu(dtype: torch.dtype) -> None:
    neuron = LeakySequence(0.7, 0.3)
    current = torch.randn(4, 2, 5, 33, 31).to(dtype)
    there = current.cuda().requires_grad_()
    assert gpu.usable(there) and not native.usable(there)
    spikes = neuron.cuda()(there)
    assert torch.equal(spikes.cpu(), neuron.cpu()(current))
    spikes.sum().backward()
    assert there.grad is not None and torch.isfinite(there.grad).all()
