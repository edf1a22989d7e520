"""Crops as a function of (seed, draw), held-out backgrounds, and resumption through a real Trainer."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.data import RainDataModule, open_pairs, write_image
from benchmark.data.datasets import InMemory, PairedImages, RandomCrops, hold_out
from benchmark.data.embedded import Rendered
from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError


def coordinates(height: int, width: int, image: int) -> np.ndarray:
    """A picture that says of each pixel where it is: (row, column, image)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.full_like(y, image)], axis=-1).astype(np.uint8)


def memory(sizes: list[tuple[int, int]], groups: list[str] | None = None) -> PairedImages:
    target = tuple(coordinates(h, w, i) for i, (h, w) in enumerate(sizes))
    names = tuple(f"image-{i}" for i in range(len(sizes)))
    rainy = tuple(np.bitwise_xor(t, 255) for t in target)
    rendered = Rendered(names, tuple(groups or names), rainy, target)
    return PairedImages(InMemory(rendered), dataset_spec("folder"), "train")


def bytes_of(tensor: torch.Tensor) -> np.ndarray:
    return (tensor * 255).round().to(torch.uint8).numpy()


@given(
    draw=st.integers(0, 10**9),
    patch=st.integers(1, 40),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    how=st.sampled_from(["none", "horizontal", "flips", "dihedral"]),
)
@settings(max_examples=60, deadline=None)
def test_a_crop_is_one_window_of_both_pictures(
    draw: int, patch: int, height: int, width: int, how: str
) -> None:
    crops = RandomCrops(memory([(height, width)]), patch, how, seed=3)
    item = crops[draw]
    target, rainy = bytes_of(item["target"]), bytes_of(item["rainy"])
    assert target.shape == (3, patch, patch)
    np.testing.assert_array_equal(rainy, np.bitwise_xor(target, 255))
    if min(height, width) >= patch:
        rows, columns = np.unique(target[0]), np.unique(target[1])
        assert len(rows) == len(columns) == patch  # contiguous window, each row and column once
        assert rows[-1] - rows[0] == columns[-1] - columns[0] == patch - 1
        if how in ("none", "horizontal"):
            assert (target[0] == rows[:, None]).all()
        if how == "none":
            assert (target[1] == columns[None]).all()


def test_augmentations_reach_all_their_orientations_and_no_others() -> None:
    expected = {"none": 1, "horizontal": 2, "flips": 4, "dihedral": 8}
    for how, count in expected.items():
        crops = RandomCrops(memory([(9, 9)]), 9, how, seed=1)
        assert len({bytes_of(crops[n]["target"]).tobytes() for n in range(200)}) == count


def test_every_image_comes_once_a_pass_and_passes_differ() -> None:
    crops = RandomCrops(memory([(8, 8)] * 10), 4, seed=5)
    passes = [[crops[p * 10 + i]["name"] for i in range(10)] for p in range(3)]
    for names in passes:
        assert sorted(names) == sorted(passes[0])
    assert passes[0] != passes[1] != passes[2]


def test_draws_do_not_depend_on_what_was_asked_before_and_do_depend_on_the_seed() -> None:
    images = memory([(30, 30)] * 7)
    one, two = RandomCrops(images, 8, "dihedral", seed=9), RandomCrops(images, 8, "dihedral", seed=9)
    forward = [one[n] for n in range(40)]
    backward = [two[n] for n in reversed(range(40))][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert a["name"] == b["name"]
        assert torch.equal(a["rainy"], b["rainy"])
    other = RandomCrops(images, 8, "dihedral", seed=10)
    assert any(not torch.equal(other[n]["rainy"], forward[n]["rainy"]) for n in range(40))


def test_small_images_are_reflected() -> None:
    item = RandomCrops(memory([(3, 5)]), 8)[0]
    rows = bytes_of(item["target"])[0][:, 0]
    assert rows.tolist() == [0, 1, 2, 1, 0, 1, 2, 1]


def test_unknown_augmentation_names_the_nearest() -> None:
    with pytest.raises(UserError, match="dihedral"):
        RandomCrops(memory([(9, 9)]), 4, "dihedrl")


@given(
    groups=st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=40),
    share=st.floats(0, 0.9),
    most=st.integers(1, 10),
)
@settings(max_examples=100, deadline=None)
def test_held_out_backgrounds_are_never_trained_on(groups: list[str], share: float, most: int) -> None:
    images = memory([(1, 1)] * len(groups), groups)
    kept, held = hold_out(images, share, most)
    assert not {groups[i] for i in kept} & {groups[i] for i in held}
    assert kept
    assert len(held) <= most
    assert bool(held) == (share > 0 and len(set(groups)) > 1)


def test_embedded_validation_holds_out_whole_scenes() -> None:
    data = RainDataModule("embedded", validation=0.1, patch=32, batch=4)
    data.setup("fit")
    assert data.held_out is not None
    train, held = set(data.train_images.groups), set(data.held_out.groups)
    assert held and not train & held
    assert data.steps_per_epoch == len(data.train_images) // 4
    assert data.provenance()["images"] + data.provenance()["held_out"] == 96


def test_rain12_trains_on_the_set_it_names() -> None:
    data = RainDataModule("embedded-12", patch=32, batch=4)
    assert data.provenance()["trained_on"] == "embedded"
    assert len(data.test_dataloader()) == 13
    with pytest.raises(UserError, match="trains on 'embedded'"):
        open_pairs("embedded-12", split="train")


def folder_of_pairs(root: Path, count: int, size: tuple[int, int] = (24, 20)) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        target = rng.integers(0, 200, (*size, 3), dtype=np.uint8)
        write_image(root / "target" / f"{i + 1}.png", target)
        write_image(root / "input" / f"{i + 1}.png", target + 20)
    return root


def test_a_folder_that_is_both_trained_on_and_tested_is_refused(tmp_path: Path) -> None:
    root = folder_of_pairs(tmp_path / "pairs", 3)
    with pytest.raises(UserError, match="trained on and tested"):
        RainDataModule("folder", root, cache=tmp_path / "cache").setup("fit")
    RainDataModule("folder", root, cache=tmp_path / "cache", strict=False).setup("fit")


class Recorder(pl.LightningModule):
    """Learns nothing; remembers what it was shown, and stops where it is told to."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, float]] = []
        self.stop_after = stop_after

    def training_step(self, batch: dict, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.global_step, batch["rainy"].double().sum().item()))
        return self.weight.sum() * batch["rainy"].mean()

    def on_train_batch_end(self, *_: object) -> None:
        if self.global_step == self.stop_after:
            raise KeyboardInterrupt

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        assert batch["rainy"].shape[0] == 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path, steps: int, stop_after: int | None, resume: bool, workers: int = 0
) -> list[tuple[int, float]]:
    data = RainDataModule(
        "embedded-light",
        patch=16,
        batch=8,
        augmentation="flips",
        steps_per_epoch=5,
        validation=0.05,
        workers=workers,
    )
    save = pl.callbacks.ModelCheckpoint(
        folder,
        filename="last",
        every_n_train_steps=1,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[save],
        val_check_interval=4,
        check_val_every_n_epoch=None,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    module = Recorder(stop_after)
    last = folder / "last.ckpt"
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        trainer.fit(module, datamodule=data, ckpt_path=last if resume else None, weights_only=True)
    return module.seen


@pytest.mark.parametrize("stop", [3, 5, 7, 8, 10])
@pytest.mark.filterwarnings("ignore")
def test_training_goes_on_with_the_very_batches_it_would_have_had(tmp_path: Path, stop: int) -> None:
    whole = fit(tmp_path / "whole", 13, None, resume=False)
    assert [s for s, _ in whole] == list(range(13))
    assert len({total for _, total in whole}) == 13
    first = fit(tmp_path / "cut", 13, stop, resume=False)
    assert len(first) == stop
    done = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["global_step"]
    second = fit(tmp_path / "cut", 13, None, resume=True)
    assert second == whole[done:]


def test_a_checkpoint_of_other_data_is_refused() -> None:
    data = RainDataModule("embedded-light", patch=16, batch=8)
    loader = data.train_dataloader()
    state = loader.state_dict()  # type: ignore[attr-defined]
    loader.load_state_dict(state)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="images 7"):
        loader.load_state_dict({**state, "images": 7})  # type: ignore[attr-defined]


def test_processes_share_one_global_batch() -> None:
    data = RainDataModule("embedded-light", patch=16, batch=6, steps_per_epoch=4)
    data.set_step(2)
    whole = list(data.train_dataloader().batch_sampler)  # type: ignore[arg-type]
    assert whole == [list(range(12, 18)), list(range(18, 24))]
    parts = []
    for rank in range(3):
        data.place = lambda rank=rank: (rank, 3)  # type: ignore[method-assign]
        parts.append(list(data.train_dataloader().batch_sampler))  # type: ignore[arg-type]
    assert [[draw for p in parts for draw in p[s]] for s in range(2)] == whole


def test_workers_give_the_same_batches_and_the_cache_travels_by_place(tmp_path: Path) -> None:
    root = folder_of_pairs(tmp_path / "set" / "train", 6).parent
    batches = []
    for workers in (0, 2):
        data = RainDataModule(
            "folder", root, patch=16, batch=2, steps_per_epoch=4, workers=workers, cache=tmp_path / "cache"
        )
        batches.append([b["rainy"] for b in data.train_dataloader()])
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a, b)
    source = data.train_images.source
    assert len(pickle.dumps(source)) < 1000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).pair(3)[0], source.pair(3)[0])
