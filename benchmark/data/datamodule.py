"""The LightningDataModule of every training: crops that go on from any step, held-out images to judge by."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from benchmark.data.audit import scenes_trained_on, training_problems
from benchmark.data.datasets import AUGMENTATIONS, PairedImages, RandomCrops, hold_out, open_pairs
from benchmark.data.layouts import list_pairs
from benchmark.data.specs import Dataset, dataset_spec, test_sets
from benchmark.data.wet import WetCrops, WetPictures
from benchmark.errors import UserError, WorkError, unknown

_KEPT = 20  # problems that a record lists


class _Draws:
    """Batches of draw numbers for one epoch, from the step at which training is now.

    Step s takes draws s·B … s·B + B − 1, whatever happened before: a training that goes on from a checkpoint,
    at the start of an epoch or inside one, sees what an uninterrupted one would have seen. Several processes
    share each batch.
    """

    def __init__(self, data: RainDataModule) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.steps_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        data, step = self.data, self.data.step()
        rank, processes = data.place()
        share = data.batch // processes
        for s in range(step, (step // len(self) + 1) * len(self)):
            first = s * data.batch + rank * share
            yield list(range(first, first + share))


class _CropLoader(DataLoader[dict[str, Any]]):
    """A loader whose position follows from the trainer's step; its state only says what it counts over."""

    def __init__(self, crops: RandomCrops, draws: _Draws, workers: int, pin: bool) -> None:
        super().__init__(
            crops,
            batch_sampler=draws,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin,
            generator=torch.Generator(),  # an iterator draws a seed: not from the stream that networks draw from
        )
        self._counts = {
            "images": len(crops),
            "batch": draws.data.batch,
            "seed": crops.seed,
            "patch": crops.patch,
        }

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps: enough to notice that the data are no longer the same."""
        return dict(self._counts)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Compare with what the checkpoint was made with.

        Raises:
            UserError: the number of images, the batch, the patch or the seed is another one.
        """
        for key, value in self._counts.items():
            if state.get(key, value) != value:
                raise UserError(
                    f"the checkpoint was trained with {key} {state[key]}, here it is {value}: "
                    "training cannot go on from it; start anew in another out=FOLDER"
                )


def _as_it_is(batch: Any) -> Any:
    return batch


def _only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    item = batch[0]
    return {"rainy": item["rainy"][None], "target": item["target"][None], "name": [item["name"]]}


_STRICT = re.compile(r"data\.accept_problems=true(, which the record keeps)?")
_SETTING = re.compile(
    r"(?<![\w./-])(?:data|recipe)\."
    r"(root|cache|workers|exclude|rain|batch|patch|augmentation|steps_per_epoch|validation)\b"
)


@contextmanager
def _told_of(data: RainDataModule) -> Iterator[None]:
    """Within the block, what is wrong with a setting (`data.root`) is told of the argument (`root`)."""
    try:
        yield
    except (UserError, WorkError) as error:
        if not data.of_settings:
            error.args = (_SETTING.sub(r"\1", _STRICT.sub("strict=False", str(error))),)
        raise


def _by_argument(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def told(self: RainDataModule, *arguments: Any, **named: Any) -> Any:
        with _told_of(self):
            return method(self, *arguments, **named)

    return told


class RainDataModule(pl.LightningDataModule):
    """Training crops, held-out validation images and test pairs of one dataset.

    A dataset without training images of its own (Rain12) trains on the one that it names.

    Args:
        dataset: a dataset's name.
        root: where it lies, or a folder above it; not used by embedded ones.
        patch: side of the training crops, pixels.
        batch: crops a step, over all processes.
        augmentation: "none", "horizontal", "flips" or "dihedral".
        steps_per_epoch: None: one crop of each image (what does not fill a batch comes in the next epoch).
        validation: share of the training pairs held out to choose a checkpoint by; 0: none.
        seed: of the crops; which images are held out does not depend on it.
        workers: loader processes.
        cache: folder of the decoded cache.
        strict: refuse what the audit finds wrong: names without a partner, counts that are not the published ones,
            test images that are trained on. Without it the record lists what was accepted.
        progress: show a bar while the cache is built.
        exclude: names of clean photographs not to train on.
        rain: regimes of `benchmark.data.rain` that alone fall over clean photographs, in equal parts; empty: all kinds
            that `benchmark.data.wet` knows.
        least: pixels that the sides of a picture must have to be judged by.
        also: test sets, or folders of pairs, beside the dataset's own: what they show is not to be trained on either.

    Raises:
        UserError: no such dataset, or a value that cannot be; the argument is named.
    """

    of_settings = False  # whether messages name the settings of `derain train` that the arguments are from

    def __init__(
        self,
        dataset: str,
        root: str | Path | None = None,
        patch: int = 64,
        batch: int = 12,
        augmentation: str = "none",
        steps_per_epoch: int | None = None,
        validation: float = 0.0,
        seed: int = 0,
        workers: int = 0,
        cache: str | Path | None = None,
        strict: bool = True,
        progress: bool = True,
        exclude: Sequence[str] = (),
        rain: Sequence[str] = (),
        least: int = 1,
        also: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.spec = dataset_spec(dataset)
        with _told_of(self):
            if augmentation not in AUGMENTATIONS:
                raise unknown("augmentation", augmentation, AUGMENTATIONS)
            if patch < 1:
                raise UserError(f"recipe.patch must be at least 1, got {patch}")
            if batch < 1:
                raise UserError(f"recipe.batch must be at least 1, got {batch}")
            if steps_per_epoch is not None and steps_per_epoch < 1:
                raise UserError(f"recipe.steps_per_epoch must be at least 1, got {steps_per_epoch}")
            if not 0 <= validation < 1:
                raise UserError(f"recipe.validation must be at least 0 and below 1, got {validation}")
        self.root, self.patch, self.batch, self.augmentation = root, patch, batch, augmentation
        self.validation, self.seed, self.workers = validation, seed, workers
        self.cache, self.strict, self.progress, self.exclude = cache, strict, progress, exclude
        self.rain, self.least = tuple(sorted(rain)), least
        self.also = also
        self._steps_per_epoch = steps_per_epoch
        self._step = 0
        self.crops: RandomCrops | None = None
        self.held_out: PairedImages | None = None
        self.remarks: list[str] = []
        self.problems: list[str] = []

    @_by_argument
    def setup(self, stage: str | None = None) -> None:
        """Read (or render, or decode into the cache) the training split; once.

        Raises:
            UserError: the dataset is not there, is damaged, or its test split shares training files.
            WorkError: the disk is full.
        """
        if self.crops is not None or stage in ("test", "predict"):
            return
        self._require_root(dataset_spec(self.spec.training))
        self.audit()
        images = open_pairs(
            self.spec.training,
            self.root,
            "train",
            cache=self.cache,
            cached=True,
            strict=self.strict,
            progress=self.progress,
            exclude=self.exclude,
        )
        self.remarks = list(images.remarks)
        if self.strict:
            self._refuse_overlap()
        kept, held = hold_out(images, self.validation)
        small = [i for i in held if min(images.arrays(i)[1].shape[:2]) < self.least]
        if small:
            held = [i for i in held if i not in small]
            self.remarks.append(
                f"{len(small)} of the held-out images judge nothing, their sides being below {self.least} pixels "
                f"({images.names[small[0]]})"
            )
        train, self.held_out = images.select(kept), images.select(held)
        if self.spec.rendered:
            self.crops = WetCrops(train, self.patch, self.augmentation, self.seed, self.rain)
            self.held_out = PairedImages(WetPictures(self.held_out, self.rain), self.spec, "train")
        else:
            self.crops = RandomCrops(train, self.patch, self.augmentation, self.seed)

    def _require_root(self, spec: Dataset) -> None:
        if not (spec.embedded or spec.root or self.root is None or Path(self.root).is_dir()):
            raise UserError(f"data.root={self.root}: no such folder")

    @_by_argument
    def audit(self) -> None:
        """Look for what speaks against training; kept for the record where it is accepted.

        Raises:
            UserError: something does, and it is not accepted.
        """
        spec = dataset_spec(self.spec.training)
        if spec.embedded or self.root is None:
            return
        own = [] if spec.rendered else training_problems(spec, self.root, self.cache, self.progress)
        tests = [
            name for name in dict.fromkeys([*test_sets(self.spec.name), *self.also]) if name != spec.name
        ]
        self.problems = own + scenes_trained_on(
            spec, self.root, tests, self.cache, self.progress, self.exclude
        )
        if self.problems and self.strict:
            first, *others = self.problems
            if own:
                more = f" (and {len(others)} more)" if others else ""
                more += f"; 'derain data check {self.root}' lists all"
            else:
                more = "".join(f"; {line}" for line in others[:1])
            raise UserError(
                f"{first}{more}. To train all the same set data.accept_problems=true, which the record keeps"
            )

    def _refuse_overlap(self) -> None:
        spec = dataset_spec(self.spec.training)
        if spec.embedded or spec.rendered:
            return
        train = {p.clean.resolve() for p in list_pairs(spec, self.root, "train", strict=False)}
        try:
            test = {p.clean.resolve() for p in list_pairs(spec, self.root, "test", strict=False)}
        except UserError:  # no test split: that is for the evaluation to say
            return
        both = sorted(train & test)
        if both:
            raise UserError(
                f"{both[0]} would be trained on and tested ({len(both)} such pairs): "
                f"put the pairs into {self.root}/train and {self.root}/test"
            )

    @property
    def train_images(self) -> PairedImages:
        """The pairs that crops are taken from."""
        self.setup("fit")
        assert self.crops is not None
        return self.crops.images

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        if self._steps_per_epoch is not None:
            return self._steps_per_epoch
        return max(1, len(self.train_images) // self.batch)

    def step(self) -> int:
        """Batches already trained on: the trainer's count, or what `set_step` said."""
        trainer = self.trainer
        return trainer.global_step * trainer.accumulate_grad_batches if trainer is not None else self._step

    def set_step(self, step: int) -> None:
        """For a loop without a Trainer: the step that the next pass over the training loader starts at."""
        self._step = step

    @_by_argument
    def place(self) -> tuple[int, int]:
        """(rank, number of processes) of this process.

        Raises:
            UserError: the batch cannot be shared evenly.
        """
        trainer = self.trainer
        rank, processes = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        if self.batch % processes:
            raise UserError(f"recipe.batch {self.batch} cannot be shared evenly by {processes} processes")
        return rank, processes

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches {"rainy", "target": float32 (N, 3, P, P) in [0, 1], "name": [str]} of one epoch."""
        self.setup("fit")
        assert self.crops is not None
        trainer = self.trainer
        pin = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return _CropLoader(self.crops, _Draws(self), self.workers, pin)

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        """The held-out images, whole, one a batch; nothing where none are held out."""
        self.setup("fit")
        assert self.held_out is not None
        if not len(self.held_out):
            return []
        own = torch.Generator()  # as in training: validation must not move the global random state
        return DataLoader(self.held_out, batch_size=1, shuffle=False, collate_fn=_only, generator=own)

    @_by_argument
    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The test pairs, whole, one a batch."""
        self._require_root(self.spec)
        images = open_pairs(self.spec.name, self.root, "test", strict=self.strict)
        return DataLoader(images, batch_size=1, shuffle=False, collate_fn=_only)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The test pairs, of which a network is to see the rainy picture."""
        return self.test_dataloader()

    def provenance(self) -> dict[str, Any]:
        """What a record says of the training data: plain data, without paths."""
        images = self.train_images
        return {
            "dataset": self.spec.name,
            "trained_on": self.spec.training,
            "images": len(images),
            "held_out": 0 if self.held_out is None else len(self.held_out),
            "published": dataset_spec(self.spec.training).published.get("train"),
            "digest": images.source.digest,
            "strict": self.strict,
            "remarks": list(self.remarks),
            **self.accepted(),
        }

    def accepted(self) -> dict[str, Any]:
        """What a record says of the problems that `audit` found: the first of them, and how many there are."""
        return {
            # a record tells no folder of the user's
            "problems": [p.replace(str(self.root), "data.root") for p in self.problems[:_KEPT]],
            "problems_in_all": len(self.problems),
        }


class SettingsDataModule(RainDataModule):
    """`RainDataModule` made of a run's settings, which its messages name (`data.root`, `recipe.batch`)."""

    of_settings = True
