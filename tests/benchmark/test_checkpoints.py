"""Checkpoints: every wrapping loads, everything else is refused with its name and nothing half loaded."""

from __future__ import annotations

import os
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from benchmark import create_model, load_checkpoint
from benchmark.checkpoints import (
    carried,
    described,
    options_in,
    read_checkpoint,
    save_weights,
)
from benchmark.errors import UserError
from benchmark.models import open_network

OPTIONS = {"stages": 2, "channels": 4, "residual_blocks": 1}


@pytest.fixture
def network() -> torch.nn.Module:
    return create_model("prenet", **OPTIONS)


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return dict(create_model("prenet", **OPTIONS).state_dict())


def _same(network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(v, weights[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {f"module.{k}": v for k, v in w.items()},
        lambda w: {"state_dict": w, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}, "epoch": 3},
        lambda w: {"params": w},
        lambda w: {"params_ema": w, "params": {k: v * 0 for k, v in w.items()}},
        lambda w: {"model": {f"module.{k}": v for k, v in w.items()}},
        lambda w: {"net": w, "clock": {"step": 1}, "opt": {}},
        lambda w: {"state_dict": {f"network.{k}": v for k, v in w.items()}},
    ],
)
def test_every_usual_wrapping_loads(network, weights, wrap, tmp_path) -> None:
    torch.save(wrap(weights), tmp_path / "c.pth")
    assert not _same(network, weights)
    load_checkpoint(network, tmp_path / "c.pth")
    assert _same(network, weights)


def test_safetensors_load(network, weights, tmp_path) -> None:
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "c.safetensors")
    load_checkpoint(network, tmp_path / "c.safetensors")
    assert _same(network, weights)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_code_in_a_checkpoint_is_not_executed(network, tmp_path) -> None:
    torch.save({"state_dict": _Evil(tmp_path / "executed")}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"Python objects.*system"):
        load_checkpoint(network, tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


def test_files_that_are_no_checkpoints_are_named(network, weights, tmp_path) -> None:
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>Not found</html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save(weights, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:1000])
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "bare.pth")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    for name in ("page", "empty", "cut", "zip", "list", "bare", "absent"):
        with pytest.raises(UserError) as error:
            load_checkpoint(network, tmp_path / f"{name}.pth")
        assert f"{name}.pth" in str(error.value)
        assert "\n" not in str(error.value)
    assert _same(network, before)


def test_another_network_is_refused_with_the_first_keys(network, tmp_path) -> None:
    torch.save(create_model("rescan", channels=4, stages=2, depth=3).state_dict(), tmp_path / "c.pth")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(UserError, match=r"missing: .*unexpected: .*more"):
        load_checkpoint(network, tmp_path / "c.pth")
    assert _same(network, before)


def test_another_width_is_refused_with_the_shapes(network, tmp_path) -> None:
    torch.save(create_model("prenet", **{**OPTIONS, "channels": 6}).state_dict(), tmp_path / "c.pth")
    with pytest.raises(UserError, match=r"of another shape: .* is \(6, .* must be \(4, "):
        load_checkpoint(network, tmp_path / "c.pth")


def test_our_checkpoints_carry_their_options() -> None:
    from benchmark.catalog import network as entry

    plain = {"derain": {"model": {"name": "prenet", "options": OPTIONS}}, "state_dict": {}}
    assert options_in(entry("prenet"), plain) == OPTIONS
    with pytest.raises(UserError, match="of model 'prenet', not 'rescan'"):
        options_in(entry("rescan"), plain)


def test_the_released_prenet_weights_load_unmodified(shared) -> None:
    for name in ("Rain100H", "Rain100L", "Rain1400"):
        path = shared / "data" / "weights" / "prenet" / f"{name}.pth"
        if not path.is_file():
            pytest.skip(f"no {path}")
        network = create_model("prenet")
        load_checkpoint(network, path)
        assert sum(p.numel() for p in network.parameters()) == 168_963
        assert len(read_checkpoint(path)) == len(network.state_dict())


def _prefixed(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + k: v for k, v in weights.items()}


def _in_mid_name(key: str) -> str:
    first, _, rest = key.partition(".")
    return f"_orig_mod.{first}._checkpoint_wrapped_module.{rest}"


def _zeros(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v * 0 for k, v in weights.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"epoch": 3, "best_acc1": torch.tensor(0.5), "state_dict": _prefixed(w, "module.")},
        lambda w: {"params": w, "epoch": torch.tensor(3)},
        lambda w: {"n_averaged": torch.tensor(9), **_prefixed(w, "module.")},
        lambda w: {"state_dict": {**_prefixed(w, "net."), "perceptual.conv.weight": torch.ones(3)}},
        lambda w: _prefixed(w, "anything.at.all."),
        lambda w: {
            **w,
            "total_ops": torch.zeros(1),
            **{k.rpartition(".")[0] + ".total_ops": torch.zeros(1) for k in w},
        },
        lambda w: {_in_mid_name(k): v for k, v in w.items()},
        lambda w: {
            "generator": w,
            "discriminator": _zeros(w),
            "optimizer_g": {"state": {0: {"avg": torch.ones(2)}}},
        },
        lambda w: {"discriminator": {"state_dict": _zeros(w)}, "netG": {"state_dict": w}},
        lambda w: {"module": w, "ds_version": "0.1"},
        lambda w: {"something": {"new": w}},
        lambda w: {"model": _zeros(w), "model_ema": w},
        lambda w: {"state_dict": {**_prefixed(_zeros(w), "model."), **_prefixed(w, "model_ema.")}},
        lambda w: {
            **_prefixed(_zeros(w), "online_model."),
            **_prefixed(w, "ema_model."),
            "step": torch.tensor(1),
        },
        lambda w: {"state_dict": _zeros(w), "callbacks": {"EMA": {"ema_state_dict": w}}},
        lambda w: {"model": _zeros(w), "shadow": w},
    ],
)
def test_what_people_have_loads(network, weights, wrap, tmp_path) -> None:
    torch.save(wrap(weights), tmp_path / "c.pth")
    load_checkpoint(network, tmp_path / "c.pth")
    assert _same(network, weights)


class _Normed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)


def test_counters_of_batch_norms_may_be_missing() -> None:
    given = {k: v for k, v in _Normed().state_dict().items() if "num_batches" not in k}
    given["norm.weight"] = torch.tensor([1.0, 2.0, 3.0])
    network = _Normed()
    load_checkpoint(network, given)
    assert torch.equal(network.norm.weight, given["norm.weight"])
    del given["norm.running_mean"]
    with pytest.raises(UserError, match=r"1 missing: norm\.running_mean"):
        load_checkpoint(network, given)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\n <!doctype html><html>Not found</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"", "an empty file"),
        (b"\x89PNG\r\n", "a picture"),
    ],
)
def test_other_files_are_called_what_they_are(network, content, told, tmp_path) -> None:
    for name in ("c.pth", "c.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=told):
            load_checkpoint(network, tmp_path / name)


def test_torchscript_folders_and_zips_are_called_what_they_are(network, tmp_path) -> None:
    with pytest.warns(DeprecationWarning):
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("input/1.png", "")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")
    for name, told in {
        "script.pt": "TorchScript",
        "set.zip": "ZIP archive of other files",
        "folder": "a folder without",
        "pipe.pth": "not a file",
    }.items():
        with pytest.raises(UserError, match=told):
            load_checkpoint(network, tmp_path / name)


def test_files_are_known_by_their_content(network, weights, tmp_path) -> None:
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "c.pth")
    load_checkpoint(network, tmp_path / "c.pth")
    assert _same(network, weights)


def test_what_holds_itself_ends(network, tmp_path) -> None:
    endless: dict[str, object] = {}
    endless["state_dict"] = endless
    torch.save(endless, tmp_path / "c.pth")
    with pytest.raises(UserError, match="no weights in it"):
        load_checkpoint(network, tmp_path / "c.pth")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.to_sparse(), "sparse_coo, not dense"),
        (lambda t: t.to("meta"), "without values"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "quantised"),
        (lambda t: (t * 100).to(torch.int8), "of int8, not float32"),
        (lambda t: t.to(torch.complex64), "of complex64"),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused(network, weights, change, told, tmp_path) -> None:
    before = {k: v.clone() for k, v in network.state_dict().items()}
    key = next(iter(weights))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        changed = {**weights, key: change(weights[key])}
        torch.save(changed, tmp_path / "net.pth")
    with warnings.catch_warnings(record=True) as heard:
        for given in (changed, tmp_path / "net.pth"):
            with pytest.raises(UserError, match=f"not loadable: {key} is .*{told}"):
                load_checkpoint(network, given)
    assert not heard, "one line is enough"
    assert _same(network, before)


def test_a_run_says_what_it_is_of(weights, tmp_path) -> None:
    about = {"model": {"name": "prenet", "options": OPTIONS}, "recipe": "general", "commit": "abc"}
    made = create_model("prenet", **OPTIONS)
    made.load_state_dict(weights)
    save_weights(made, tmp_path / "run" / "weights.safetensors", about)
    (tmp_path / "run" / "checkpoints").mkdir()
    torch.save(
        {"derain": about, "state_dict": {f"network.{k}": v for k, v in weights.items()}},
        tmp_path / "best.ckpt",
    )
    for path in (tmp_path / "run", tmp_path / "run" / "weights.safetensors", tmp_path / "best.ckpt"):
        assert described(path) == ("prenet", OPTIONS)
        assert carried(path)["recipe"] == "general"
        opened = open_network(path)
        assert (opened.name, opened.options) == ("prenet", OPTIONS)
        assert _same(opened.network, weights)
    torch.save(weights, tmp_path / "bare.pth")
    assert described(tmp_path / "bare.pth") is None
    with pytest.raises(UserError, match="give --model"):
        open_network(tmp_path / "bare.pth")


@pytest.mark.parametrize(
    "options",
    [{"channels": 10**9}, {"stages": [[[[[[1]]]]]]}, {"stages": float("inf")}, {7: 1}],
)
def test_impossible_options_are_refused(weights, options, tmp_path) -> None:
    carrying = {"derain": {"model": {"name": "prenet", "options": options}}, "state_dict": weights}
    torch.save(carrying, tmp_path / "c.ckpt")
    with pytest.raises(UserError, match="is not possible"):
        open_network(tmp_path / "c.ckpt")


def test_a_network_far_larger_than_its_weights_is_not_built(weights, tmp_path) -> None:
    for options in ({"channels": 60_000}, {"residual_blocks": 60_000, "channels": 64}):
        carrying = {"derain": {"model": {"name": "prenet", "options": options}}, "state_dict": weights}
        torch.save(carrying, tmp_path / "c.ckpt")
        with pytest.raises(UserError, match="far larger network"):
            open_network(tmp_path / "c.ckpt")


def test_the_cases_that_people_reported_load(shared) -> None:
    cases = sorted((shared / "cases" / "C08").glob("c*"))
    if not cases:
        pytest.skip(f"no {shared}/cases/C08")
    wanted = torch.load(shared / "cases" / "id.pth", weights_only=True)
    for path in cases:
        network = create_model("prenet")
        load_checkpoint(network, path)
        assert _same(network, wanted), path.name
