"""Counts on hand-made layers and spikes equal closed forms, to the operation."""

from __future__ import annotations

import pytest
import snntorch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmark.cost import measure_cost
from benchmark.errors import UserError


def spikes(*shape: int, rate: float = 0.3) -> Tensor:
    return (torch.rand(*shape) < rate).float()


def row(cost, name):
    return next(r for r in cost.rows if r.name == name)


def reached(x: Tensor, layer: nn.Module) -> int:
    """Outputs that each spike reaches, by convolving with ones: what SpikingJelly calls synaptic operations."""
    ones = {n: torch.ones_like(p, dtype=torch.float64) for n, p in layer.named_parameters() if n == "weight"}
    bare = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in layer.named_parameters() if n == "bias"}
    with torch.no_grad():
        return round(float(torch.func.functional_call(layer, {**ones, **bare}, (x.double(),)).sum()))


def test_linear_of_spikes() -> None:
    x = spikes(1, 40)
    cost = measure_cost(nn.Linear(40, 7), images=x)
    assert (cost.params, cost.macs, cost.accumulates) == (287, 0, 280)
    assert cost.spikes == int(x.sum())
    assert cost.sops == cost.events == int(x.sum()) * 7
    assert cost.energy_uj == pytest.approx(cost.sops * 0.9e-6, rel=1e-12)


def test_linear_of_real_values() -> None:
    cost = measure_cost(nn.Linear(40, 7), images=torch.rand(1, 5, 40))
    assert (cost.macs, cost.accumulates, cost.sops, cost.spikes) == (5 * 280, 0, 0, 0)
    assert cost.energy_uj == pytest.approx(1400 * 4.6e-6, rel=1e-12)


convolutions = st.fixed_dictionaries(
    {
        "dims": st.sampled_from([1, 2, 3]),
        "kernel": st.integers(1, 4),
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 3),
        "dilation": st.integers(1, 2),
        "groups": st.sampled_from([1, 2, 4]),
        "size": st.integers(8, 10),
        "transposed": st.booleans(),
        "bias": st.booleans(),
    }
)


@given(convolutions)
@settings(max_examples=60, deadline=None)
def test_any_convolution(case) -> None:
    kinds = (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        if case["transposed"]
        else (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    )
    dims, kernel = case["dims"], case["kernel"]
    padding = min(case["padding"], (kernel - 1) * case["dilation"])
    layer = kinds[dims - 1](
        4,
        8,
        kernel,
        stride=case["stride"],
        padding=padding,
        dilation=case["dilation"],
        groups=case["groups"],
        bias=case["bias"],
    )
    shape = (1, 4, *(case["size"] for _ in range(dims)))
    x = spikes(*shape)
    x.view(-1)[0] = 1
    with torch.no_grad():
        out = layer(x)
    positions = x[0, 0].numel() if case["transposed"] else out[0, 0].numel()
    dense = positions * kernel**dims * 4 * 8 // case["groups"]

    cost = measure_cost(layer, images=x)
    assert (cost.macs, cost.accumulates) == (0, dense)
    assert cost.spikes == int(x.sum())
    assert cost.sops == pytest.approx(float(x.mean(dtype=torch.float64)) * dense, rel=1e-12)
    assert cost.events == reached(x, layer)
    real = measure_cost(layer, images=x + 0.5)
    assert (real.macs, real.accumulates, real.sops) == (dense, 0, 0)
    assert real.params == cost.params == sum(p.numel() for p in layer.parameters())


def test_sops_are_integers_where_every_spike_has_the_same_fan_out() -> None:
    x = spikes(1, 3, 9, 9)
    cost = measure_cost(nn.Conv2d(3, 5, 3), images=F.pad(x, (2, 2, 2, 2)))
    # no spike within two pixels of the border: s T A and the outputs reached differ by the border alone
    assert cost.events == int(x.sum()) * 45
    same = measure_cost(nn.Conv2d(3, 5, 3, padding=1), images=x)
    assert same.sops == int(x.sum()) * 45 and isinstance(same.sops, int)
    assert same.events < same.sops


@pytest.mark.parametrize("layout", ["plain", "channels last", "strided", "expanded"])
def test_memory_layout_changes_nothing(layout) -> None:
    x = spikes(2, 4, 10, 10)
    if layout == "channels last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "strided":
        x = spikes(2, 4, 20, 20)[:, :, ::2, ::2]
    elif layout == "expanded":
        x = spikes(1, 4, 10, 10).expand(2, 4, 10, 10)

    class Same(nn.Conv2d):
        def forward(self, _: Tensor) -> Tensor:
            return super().forward(x)

    cost = measure_cost(Same(4, 3, 3, padding=1), images=torch.zeros(1, 1))
    assert cost.spikes == int(x.sum())
    assert cost.sops == int(x.sum()) * 27
    assert cost.accumulates == 2 * 100 * 4 * 27


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_spikes_of_any_dtype_are_seen(dtype) -> None:
    from benchmark.cost.spikes import observe

    x = spikes(3, 700, 700, rate=0.6).to(dtype)
    seen = observe(x)
    assert (seen.flow, seen.spikes) == ("binary", int(x.double().sum()))


def test_one_real_value_among_a_million_is_found() -> None:
    from benchmark.cost.spikes import observe

    x = spikes(1, 10, 330, 330)
    x.view(-1)[777_777] = 0.5
    assert observe(x).flow == "real"
    x.view(-1)[777_777] = float("nan")
    assert observe(x).flow == "real"


def test_levels_are_graded_and_count_as_real() -> None:
    x = torch.randint(0, 5, (1, 8, 16, 16)) / 4
    cost = measure_cost(nn.Conv2d(8, 2, 1), images=x)
    assert (cost.macs, cost.accumulates, cost.sops) == (8 * 2 * 256, 0, 0)
    layer = cost.rows[0]
    assert layer.input == "graded"
    assert layer.rate == pytest.approx(float((x > 0).double().mean()))
    assert "0, 0.25, 0.5, 0.75, 1" in layer.note


def test_a_few_real_values_are_not_levels() -> None:
    x = torch.zeros(1, 30)
    x[0, :3] = torch.tensor([0.1, 0.2, 0.3])
    assert measure_cost(nn.Linear(30, 2), images=x).rows[0].input == "real"


def test_zeros_of_unknown_origin_are_real() -> None:
    cost = measure_cost(nn.Linear(30, 2), images=torch.zeros(1, 30))
    assert (cost.macs, cost.accumulates) == (60, 0)


class Attention(nn.Module):
    """Three ways to the same product."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        q, k = x.chunk(2, dim=1)
        if self.way == "matmul":
            return q @ k.transpose(-1, -2)
        if self.way == "einsum":
            return torch.einsum("nqd,nkd->nqk", q, k)
        return torch.stack([torch.mm(a, b.T) for a, b in zip(q, k, strict=True)])


@pytest.mark.parametrize("way", ["matmul", "einsum", "loop"])
def test_attention_products(way) -> None:
    real = torch.rand(1, 12, 5)
    assert measure_cost(Attention(way), images=real).macs == 6 * 6 * 5

    half = torch.cat([spikes(1, 6, 5, rate=0.5), torch.rand(1, 6, 5)], dim=1)
    cost = measure_cost(Attention(way), images=half)
    assert (cost.macs, cost.accumulates) == (0, 180)
    assert cost.sops == int(half[:, :6].sum()) * 6

    both = spikes(1, 12, 5, rate=0.5)
    cost = measure_cost(Attention(way), images=both)
    assert cost.accumulates == 180
    # an addition where two spikes meet
    assert cost.sops == int((both[:, :6] @ both[:, 6:].transpose(-1, -2)).sum())


def test_fused_attention_counts_both_products() -> None:
    class Fused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    cost = measure_cost(Fused(), images=torch.rand(1, 2, 6, 4))
    assert cost.macs == 2 * (2 * 6 * 6 * 4)
    assert not cost.uncounted


def test_functional_layers_are_seen_and_named_by_their_parameter() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.rand(4, 3, 3, 3))
            self.mix = nn.Parameter(torch.rand(10, 4 * 64))

        def forward(self, x: Tensor) -> Tensor:
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            return F.linear(F.conv2d(x, self.kernel, padding=1).flatten(1), self.mix)

    cost = measure_cost(Functional(), 4)
    assert cost.macs == 64 * 3 * 4 * 9 + 10 * 256
    assert cost.resample == 3 * 64
    assert row(cost, "kernel").macs == 64 * 108
    assert row(cost, "mix").macs == 2560
    assert cost.params == 108 + 2560


def test_a_module_used_several_times_counts_each_time_and_its_parameters_once() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)
            self.second = self.first
            self.act = nn.PReLU()
            self.places = nn.ModuleList([self.act, nn.Sequential(self.act), nn.Sequential(self.act)])

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = self.second(self.first(x))
            for place in self.places:
                x = place(x)
            return x

    cost = measure_cost(Again(), 5)
    assert cost.macs == 6 * 25 * 9
    assert cost.params == 12 + 1
    assert row(cost, "first").calls == 6
    assert row(cost, "act").elementwise == 3 * 75


def test_totals_are_the_sums_of_the_layers() -> None:
    x = spikes(1, 4, 12, 12)
    parts = [
        nn.Conv2d(4, 6, 3, 2, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 5),
    ]
    whole = nn.Sequential(*parts)
    cost = measure_cost(whole, images=x)
    table = cost.layers
    for name in ("macs", "accumulates", "sops", "spikes", "elementwise", "norm", "pool", "executed"):
        assert table[name].sum() == getattr(cost, name), name
    assert table["parameters"].sum() == cost.params
    assert table["energy_uj"].sum() == pytest.approx(cost.energy_uj)
    assert table["share"].sum() == pytest.approx(1)

    alone, counted = x, []
    for part in parts:
        counted.append(measure_cost(part, images=alone))
        with torch.no_grad():
            alone = part.eval()(alone)
    assert sum(c.macs for c in counted) == cost.macs
    assert sum(c.sops for c in counted) == cost.sops
    assert sum(c.energy_uj for c in counted) == pytest.approx(cost.energy_uj)
    assert (cost.norm, cost.elementwise, cost.pool) == (6 * 36, 6 * 36, 6 * 36)


def test_images_are_averaged() -> None:
    x = spikes(4, 20)
    cost = measure_cost(nn.Linear(20, 3), images=x)
    assert cost.accumulates == 60
    assert cost.sops == float(x.sum()) * 3 / 4
    assert cost.spikes == float(x.sum()) / 4


def test_recurrent_layers() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.gru = nn.LSTM(4, 5, 2), nn.GRU(5, 3, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.gru(self.lstm(x)[0])[0]

    cost = measure_cost(Recurrent(), images=torch.rand(1, 7, 4))
    assert cost.macs == 7 * (4 * 5 * (4 + 5) + 4 * 5 * (5 + 5) + 2 * 3 * 3 * (5 + 3))


def test_the_fused_transformer_layer_is_opened() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    cost = measure_cost(layer, images=torch.rand(1, 5, 8))
    assert cost.macs == 5 * 8 * 8 * 4 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 16
    assert not cost.uncounted
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_has_no_rule_is_listed() -> None:
    class Fourier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.ifft2(torch.fft.fft2(x)).abs()

    cost = measure_cost(nn.Sequential(nn.Conv2d(3, 2, 1), Fourier()), 8)
    assert [u.operation for u in cost.uncounted] == ["_fft_c2c"] or len(cost.uncounted) == 2
    assert cost.uncounted[0].where == "1"
    # complex values in and out: 2 channels of 8 × 8, each time
    assert {u.elements for u in cost.uncounted} == {2 * 64 * (2 if len(cost.uncounted) == 1 else 1)}
    assert "_fft" in str(cost)


def test_work_done_once_for_several_steps_is_counted_by_the_definition() -> None:
    class Once(nn.Module):
        def __init__(self, declare: str) -> None:
            super().__init__()
            self.embed, self.rest = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            if declare == "on the module":
                self.embed.time_invariant_repeats = 4
            else:
                self.executed_once = {"embed": 4}

        def forward(self, x: Tensor) -> Tensor:
            once = self.embed(x)
            return self.rest(once.expand(4, *once.shape).flatten(0, 1))

    for declare in ("on the module", "on its owner"):
        cost = measure_cost(Once(declare), 6)
        assert row(cost, "embed").macs == 4 * 36 * 12
        assert row(cost, "embed").executed == 36 * 12
        assert cost.operations == 4 * 36 * (12 + 8)
        assert cost.executed == 36 * 12 + 4 * 36 * 8
    neuron = snntorch.Leaky(beta=0.5, threshold=-1.0, init_hidden=True)  # which always fires
    neuron.time_invariant_repeats = 3
    fired = row(measure_cost(nn.Sequential(nn.Conv2d(3, 2, 1), neuron), 6), "1")
    assert fired.emitted == fired.updates == 3 * 2 * 36
    network = Once("on its owner")
    network.executed_once = {"embedd": 4}
    with pytest.raises(UserError, match="embedd"):
        measure_cost(network, 6)


def test_shapes_alone_give_the_same_operations() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, 2), nn.AdaptiveAvgPool2d(1)
    )
    real, fake = measure_cost(network, 16), measure_cost(network, 16, shapes_only=True)
    assert fake.macs == real.macs > 0
    assert (fake.pool, fake.elementwise, fake.params) == (real.pool, real.elementwise, real.params)
    assert {r.input for r in fake.rows if r.macs} == {"unseen"}
    assert fake.notes
    assert all(p.device.type == "cpu" and type(p) is nn.Parameter for p in network.parameters())


def test_nothing_is_left_behind() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    network.train()
    network[2].eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    measure_cost(network, 8)
    assert [m.training for m in network.modules()] == [True, True, True, False]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_mistakes_are_told_in_a_line(tmp_path) -> None:
    with pytest.raises(UserError, match=r"torch.nn.Module"):
        measure_cost("esdnet")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"input of shape \(1, 3, 8, 8\)"):
        measure_cost(nn.Conv2d(4, 1, 1), 8)
    with pytest.raises(UserError, match="full"):
        measure_cost(nn.Conv2d(3, 1, 1), 8, "ful")
    with pytest.raises(UserError, match="no pictures"):
        measure_cost(nn.Conv2d(3, 1, 1), 8, images=tmp_path)
    with pytest.raises(UserError, match="no such file"):
        measure_cost(nn.Conv2d(3, 1, 1), 8, images=tmp_path / "missing")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"bad\.png"):
        measure_cost(nn.Conv2d(3, 1, 1), 8, images=tmp_path)


def test_pictures_of_a_folder(tmp_path) -> None:
    import numpy as np
    from PIL import Image

    for n in range(3):
        Image.fromarray(np.full((20, 30, 3), 80 * n, np.uint8)).save(tmp_path / f"{n}.png")
    cost = measure_cost(nn.Conv2d(3, 1, 1), 24, images=tmp_path, limit=2)
    assert cost.size == (3, 24, 24)
    assert cost.images.startswith("2 pictures")
    assert cost.operations == 24 * 24 * 3  # a black picture has no real values, but is work all the same


class _Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(2, 3, 3, 3, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.complex(x, x)
        flat = spectrum.flatten(2)
        return (flat @ flat.transpose(1, 2)).real.sum() + F.conv2d(spectrum, self.weight).real.sum()


def test_a_complex_product_is_four_real_ones_in_convolutions_too() -> None:
    cost = measure_cost(_Complex(), images=torch.rand(1, 3, 8, 8))
    assert cost.macs == 4 * (3 * 3 * 64) + 4 * (2 * 3 * 9 * 36)
    assert not cost.uncounted


@pytest.mark.parametrize("batch_first", [False, True])
def test_all_of_a_gru_is_counted(batch_first: bool) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(5, 7, batch_first=batch_first)

        def forward(self, x: Tensor) -> Tensor:
            return self.gru(x)[0]

    cost = measure_cost(Last(), images=torch.rand(1, 4, 5))
    steps = 4 if batch_first else 1
    assert cost.macs == (20 // 5) * 3 * (7 * 5 + 7 * 7) and not cost.uncounted, steps


@pytest.mark.parametrize("registered", [True, False])
def test_a_mask_of_zeros_and_ones_is_no_spikes(registered: bool) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            mask = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
            if registered:
                self.register_buffer("mask", mask)
            else:
                self.mask = mask

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.mask

    cost = measure_cost(Masked(), images=torch.rand(1, 5, 2))
    assert (cost.macs, cost.accumulates, cost.spiking) == (30, 0, False)
