"""Torch datasets: whole pairs, whole photographs, and random crops as a pure function of (seed, draw)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from benchmark.data.cache import files_digest, open_cache, pair_size, read_pair
from benchmark.data.embedded import Rendered, render_split
from benchmark.data.images import read_image
from benchmark.data.layouts import Pair, dataset_of, list_photographs, pairs_of
from benchmark.data.specs import DATASETS, Dataset, dataset_spec, scene_of
from benchmark.errors import UserError, unknown

Picture = NDArray[np.uint8]

AUGMENTATIONS = ("none", "horizontal", "flips", "dihedral")


class Source(Protocol):
    """Where pairs come from."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each pair."""
        ...

    @property
    def groups(self) -> tuple[str, ...]:
        """Background of each pair: pairs of one group share it."""
        ...

    def pair(self, index: int) -> tuple[Picture, Picture]:
        """Rainy and clean, uint8 (H, W, 3)."""
        ...

    @property
    def digest(self) -> str:
        """A hash of the pixels, or of the files where they are not all read."""
        ...


class Files:
    """Pairs decoded from their files whenever they are asked for."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = tuple(pairs)
        self.names = tuple(p.name for p in pairs)
        self.groups = self.names

    def pair(self, index: int) -> tuple[Picture, Picture]:
        """Rainy and clean, uint8 (H, W, 3)."""
        return read_pair(self.pairs[index])

    @property
    def digest(self) -> str:
        """A hash of the files' contents."""
        return files_digest(self.pairs)


class InMemory:
    """The rendered pairs of an embedded dataset."""

    def __init__(self, rendered: Rendered) -> None:
        self.names, self.groups = rendered.names, rendered.groups
        self._rendered = rendered

    def pair(self, index: int) -> tuple[Picture, Picture]:
        """Rainy and clean, uint8 (H, W, 3)."""
        return self._rendered.rainy[index], self._rendered.target[index]

    @property
    def digest(self) -> str:
        """A hash of the pixels."""
        digest = hashlib.sha256()
        for index in range(len(self.names)):
            for array in self.pair(index):
                digest.update(array.tobytes())
        return digest.hexdigest()[:20]


def to_tensor(picture: Picture) -> Tensor:
    """uint8 (H, W, 3) to float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float().div_(255)


class PairedImages(TorchDataset[dict[str, Any]]):
    """Whole pairs: {"rainy", "target": float32 (3, H, W) in [0, 1], "name": str, "scene": str or None}.

    The scene is what the set's entry tells from a name (`benchmark.data.specs.scene_of`), None where it tells none.
    `remarks` are lines a user should see (a count that differs from the published one).
    """

    def __init__(
        self, source: Source, spec: Dataset, split: str, indices: Sequence[int] | None = None
    ) -> None:
        self.source, self.spec, self.split = source, spec, split
        self.indices = tuple(range(len(source.names)) if indices is None else indices)
        self.remarks: list[str] = []
        published = spec.published.get(split)
        if indices is None and published is not None and published != len(source.names):
            self.remarks.append(
                f"{spec.title} {split}: {len(source.names)} pairs here, {published} published"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        rainy, target = self.arrays(index)
        name = self.source.names[self.indices[index]]
        scene = scene_of(self.spec, name)
        return {"rainy": to_tensor(rainy), "target": to_tensor(target), "name": name, "scene": scene}

    def arrays(self, index: int) -> tuple[Picture, Picture]:
        """Rainy and clean as uint8 (H, W, 3)."""
        return self.source.pair(self.indices[index])

    @property
    def names(self) -> list[str]:
        """Name of each pair."""
        return [self.source.names[i] for i in self.indices]

    @property
    def groups(self) -> list[str]:
        """Background of each pair; pairs over the same one share it."""
        return [self.source.groups[i] for i in self.indices]

    def select(self, indices: Sequence[int]) -> PairedImages:
        """Some of the pairs."""
        return PairedImages(self.source, self.spec, self.split, [self.indices[i] for i in indices])


def open_pairs(
    name: str,
    root: str | Path | None = None,
    split: str = "test",
    *,
    cache: str | Path | None = None,
    cached: bool = False,
    strict: bool = True,
    progress: bool = True,
    exclude: Sequence[str] = (),
    least: int = 1,
) -> PairedImages:
    """The pairs of one split of a dataset; of a set of clean photographs, each with itself.

    Args:
        name: a dataset's name ("rain200h", "embedded-light", "folder").
        root: where it lies, or a folder above it; not used by embedded ones.
        split: "train" or "test".
        cache: folder of the decoded cache.
        cached: read through the decoded cache (training); else decode when asked (testing).
        strict: refuse unpaired names; else leave them out.
        progress: show a bar while the cache is built.
        exclude: names of clean photographs to leave out.
        least: pixels that the sides of what is decoded when asked for must have.

    Raises:
        UserError: no such dataset, split or folder, or pairs that do not match or are too small.
    """
    spec = dataset_spec(name)
    if not spec.paired:
        raise UserError(
            f"dataset '{name}' has no clean images; it can only be restored, not trained on or compared"
        )
    if spec.embedded:
        return PairedImages(InMemory(render_split(name, split)), spec, split)
    if split not in spec.splits:
        raise UserError(
            f"dataset '{name}' has no split '{split}' ({', '.join(spec.splits)}); "
            f"its model trains on '{spec.training}'"
        )
    pairs = pairs_of(spec, root, split, strict, exclude)
    if not pairs:
        raise UserError(f"{spec.root or root}: the '{split}' split of '{name}' has no pairs")
    source: Source
    if cached:
        source = open_cache(f"{name}-{split}", pairs, cache, progress)
    else:
        for pair in pairs:
            height, width = pair_size(pair)
            if min(height, width) < least:
                raise UserError(
                    f"{pair.rainy}: is {width}×{height} pixels; metrics need pictures of at least {least}×{least}"
                )
        source = Files(pairs)
    return PairedImages(source, spec, split)


class Photographs(TorchDataset[dict[str, Any]]):
    """Rainy photographs alone: {"rainy": float32 (3, H, W) in [0, 1], "name": str, "path": str}."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.remarks: list[str] = []

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.paths[index]
        return {"rainy": to_tensor(read_image(path)), "name": path.stem, "path": str(path)}


def open_photographs(name_or_path: str | Path, root: str | Path | None = None) -> Photographs:
    """Rainy photographs without clean ones.

    Args:
        name_or_path: a dataset without clean pictures (with `root`), such as "rw-data", or a picture or folder.
        root: where the named dataset lies.

    Raises:
        UserError: nothing there.
    """
    name = str(name_or_path)
    if name in DATASETS and not DATASETS[name].paired:
        spec = dataset_spec(name)
        root = spec.root or root
        if root is None:
            raise UserError(f"dataset '{name}' needs data.root=FOLDER: the folder that holds its photographs")
        photographs = Photographs(list_photographs(_named_below(Path(root), spec)))
        published = spec.published.get("test", len(photographs))
        if len(photographs) != published:
            photographs.remarks.append(
                f"{spec.title}: {len(photographs)} photographs here, {published} published"
            )
        return photographs
    return Photographs(list_photographs(name_or_path))


def _named_below(root: Path, spec: Dataset) -> Path:
    """The folder directly below root that is named after the dataset, else root."""
    if root.is_dir():
        for folder in sorted(p for p in root.iterdir() if p.is_dir()):
            if dataset_of([folder.name]) == spec.name:
                return folder
    return root


class RandomCrops(TorchDataset[dict[str, Any]]):
    """Random crops of pairs, numbered by draw: item n is the same whenever and by whomever it is asked for.

    Draw n belongs to pass n // len(images); within a pass every image comes once, in an order of its own.
    Where the crop lies and how it is turned is drawn from (seed, n) alone: training can go on anywhere.
    `crops[[n, n + 1, …]]` gives a batch {"rainy", "target": float32 (N, 3, P, P) in [0, 1], "name": [str]}.

    Args:
        images: the training pairs.
        patch: side P of a crop; a smaller image is reflected at its borders first.
        augmentation: "none"; "horizontal": mirrored, p ½; "flips": also upside down, p ½; "dihedral": one of
            the eight turns and mirrorings.
        seed: of the order, places and turns.
    """

    def __init__(self, images: PairedImages, patch: int, augmentation: str = "none", seed: int = 0) -> None:
        if augmentation not in AUGMENTATIONS:
            raise unknown("augmentation", augmentation, AUGMENTATIONS)
        if patch < 1:
            raise UserError(f"recipe.patch must be at least 1, got {patch}")
        self.images, self.patch, self.augmentation, self.seed = images, patch, augmentation, seed
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: int) -> dict[str, Any]:
        batch = self.__getitems__([draw])
        return {"rainy": batch["rainy"][0], "target": batch["target"][0], "name": batch["name"][0]}

    def __getitems__(self, draws: Sequence[int]) -> dict[str, Any]:
        """A batch of draws; the loader calls this once a batch."""
        both = np.empty((2, len(draws), self.patch, self.patch, 3), dtype=np.uint8)
        names = []
        for k, draw in enumerate(draws):
            index = self._image(draw)
            both[0, k], both[1, k] = self._crop(index, draw)
            names.append(self.images.source.names[self.images.indices[index]])
        # one transposing copy for the whole batch
        tensor = (
            torch.from_numpy(both)
            .permute(0, 1, 4, 2, 3)
            .to(torch.float32, memory_format=torch.contiguous_format)
        )
        tensor = tensor.contiguous().div_(255)
        return {"rainy": tensor[0], "target": tensor[1], "name": names}

    def _image(self, draw: int) -> int:
        count = len(self.images)
        turn = draw // count
        if self._order is None or self._order[0] != turn:
            stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, 1, turn))))
            self._order = (turn, stream.permutation(count))
        return int(self._order[1][draw % count])

    def _crop(self, index: int, draw: int) -> tuple[Picture, Picture]:
        raw = np.random.PCG64(np.random.SeedSequence((self.seed, 2, draw))).random_raw(3)
        rainy, target = self.images.arrays(index)
        P, (height, width) = self.patch, rainy.shape[:2]
        top = int(raw[0]) % (max(height - P, 0) + 1)
        left = int(raw[1]) % (max(width - P, 0) + 1)
        turn = int(raw[2]) >> 61  # three bits
        flip_x, flip_y, transpose = bool(turn & 1), bool(turn & 2), bool(turn & 4)
        if self.augmentation == "none":
            flip_x = flip_y = transpose = False
        elif self.augmentation == "horizontal":
            flip_y = transpose = False
        elif self.augmentation == "flips":
            transpose = False
        crops = []
        for picture in (rainy, target):
            crop = picture[top : top + P, left : left + P]
            if crop.shape[:2] != (P, P):
                crop = np.pad(crop, ((0, P - crop.shape[0]), (0, P - crop.shape[1]), (0, 0)), mode="reflect")
            if transpose:
                crop = crop.transpose(1, 0, 2)
            crops.append(crop[:: -1 if flip_y else 1, :: -1 if flip_x else 1])
        return crops[0], crops[1]


MOST_HELD_OUT = 100
"""Pairs that a checkpoint is chosen by, at most."""


def held_out_count(images: int, share: float, most: int = MOST_HELD_OUT) -> int:
    """How many of so many training pairs are to be held out: `share` of them, at least one and at most `most`.

    >>> held_out_count(1800, 0.05), held_out_count(12_000, 0.05)
    (90, 100)
    """
    return min(max(1, round(share * images)), max(most, 1))


def hold_out(images: PairedImages, share: float, most: int = MOST_HELD_OUT) -> tuple[list[int], list[int]]:
    """Indices to train on and to hold out: whole backgrounds, so that no held-out scene is trained on.

    The choice depends on names alone, not on a seed: every network and seed is judged by the same pictures.
    Where only a single background exists nothing is held out.

    Args:
        images: the training pairs.
        share: of the pairs to hold out, 0 to 1; at least one background if above 0.
        most: no further background is held out once this many pairs are; at most this many are used to judge, others
            over the same backgrounds are left out.
    """
    if not 0 <= share < 1:
        raise UserError(f"recipe.validation must be at least 0 and below 1, got {share}")
    groups: dict[str, list[int]] = {}
    for index, group in enumerate(images.groups):
        groups.setdefault(group, []).append(index)
    if share == 0 or len(groups) < 2:
        return list(range(len(images))), []
    names = images.names
    by_lot = sorted(groups, key=lambda g: hashlib.sha256(min(names[i] for i in groups[g]).encode()).digest())
    wanted = held_out_count(len(images), share, most)
    held: list[int] = []
    for group in by_lot[:-1]:
        if len(held) >= wanted:
            break
        held += groups[group]
    kept = sorted(set(range(len(images))) - set(held))
    spread = sorted(held)
    if len(spread) > most:
        spread = [spread[i * len(spread) // most] for i in range(most)]
    return kept, spread


__all__ = [
    "AUGMENTATIONS",
    "PairedImages",
    "Photographs",
    "RandomCrops",
    "held_out_count",
    "hold_out",
    "open_pairs",
    "open_photographs",
    "to_tensor",
]
