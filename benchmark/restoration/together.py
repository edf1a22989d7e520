"""A picture too large for the memory, in tiles that pool over the whole of it.

Many networks weigh their features by means over the whole picture (channel attention). In tiles by themselves they
weigh by the tile's means, and the result differs from tile to tile. Here each tile is a thread, one of which runs at
a time; where the network pools over height and width, a tile adds what is its own and waits until all have, and all
go on with the pool of the whole picture. Only what is alive at a pool is held for a tile, a small part of what a whole
picture needs at its peak. Tiles for which there is no room even so hold nothing: they begin anew for every pool, with
those that are known by then.

The result is that of the whole picture as far as convolutions do not reach across a tile's overlap.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmark.errors import OutOfMemory, out_of_memory
from benchmark.resident import hand_back_freed_memory
from benchmark.restoration.memory import Live, bytes_per_pixel, free_on, looks_at_all
from benchmark.restoration.tiling import Progress, feather_weights, in_eval_mode
from benchmark.threads import ended

OVERLAP = 128
"""Pixels that the tiles share: enough for the reach of the convolutions of the networks that ship."""

_STEP = 32  # tiles begin and end at multiples of it, so that their features do too
_SHARE = 0.75  # of the free memory
_UNSEEN = 1.3  # times what is counted
_SAME = 0.5 / 255  # the result on a small picture may differ by no more from that of the whole
_SMALL = (256, 384)  # the small picture, two tiles of its height
_STACK = (
    1 << 20
)  # bytes of a tile's thread: the system's 8 MiB, times hundreds, count where `ulimit` bounds memory

_MEANS = (torch.Tensor.mean, torch.mean)
_MAXIMA = (torch.Tensor.amax, torch.amax)


@dataclass(frozen=True)
class _Need:
    """What a network needs: bytes a pixel alive at a pool, the most; for each pool, whether it is its features' last.

    A mean and a maximum of the same features are two pools, for which nobody need begin twice.
    """

    held: float
    last: tuple[bool, ...]


_measured: weakref.WeakKeyDictionary[nn.Module, _Need | None] = weakref.WeakKeyDictionary()


class _Stopped(BaseException):
    """Another tile failed. No `Exception`: networks that catch these let it through, as the next."""


class _Later(BaseException):
    """A tile that holds nothing has come to a pool that is not known yet."""


class _Meeting:
    """Takes turns among tiles: each goes on to its next pool, the first again when the last has come there."""

    def __init__(self, tiles: int) -> None:
        self._tiles, self._turn = tiles, 0
        self._changed = threading.Condition()
        self._parts: list[tuple[Tensor, int]] = []
        self.pools: list[Tensor] = []  # of the whole picture, those that are known
        self._failed = False

    def wait(self, tile: int) -> None:
        """Until it is this tile's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._turn == tile)
            if self._failed:
                raise _Stopped

    def leave(self, tile: int) -> None:
        """The next tile's turn."""
        with self._changed:
            self._turn = (tile + 1) % self._tiles
            self._changed.notify_all()

    def fail(self) -> None:
        """Nobody goes on."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()

    def pool(self, tile: int, part: Tensor, count: int, largest: bool) -> None:
        """Add to the next pool and wait until it is known: the mean of sums over `count` values, or the largest."""
        self._parts.append((part, count))
        if tile == self._tiles - 1:
            parts = torch.stack([p for p, _ in self._parts])
            self.pools.append(parts.amax(0) if largest else parts.sum(0) / sum(n for _, n in self._parts))
            self._parts = []
        self.leave(tile)
        self.wait(tile)


@dataclass(frozen=True)
class _Side:
    """A tile along one side of the picture, in pixels: where it begins and how long it is.

    `own` is the part from and to (None: to the end, with what the network pads) that no other tile counts.
    """

    start: int
    length: int
    own: tuple[int, int | None]

    def of(self, features: int) -> slice:
        """What is its own of so many features, which are as many as pixels, a half, a quarter, …"""
        scale = 2.0 ** round(math.log2(features / self.length))
        first, last = self.own
        return slice(round(first * scale), None if last is None else round(last * scale))


def _sides(length: int, tile: int, overlap: int) -> list[_Side]:
    """The tiles along a side: they begin at multiples of 32, where the whole picture's features do."""
    starts = [0]
    if length > tile:
        starts = [*range(0, length - tile, tile - overlap), -(-(length - tile) // _STEP) * _STEP]
    ends = [min(start + tile, length) for start in starts]
    # half of an overlap is the one's, half the other's
    middle = [
        start + (end - start) // 2 // _STEP * _STEP for start, end in zip(starts[1:], ends, strict=False)
    ]
    firsts, lasts = [0, *middle], [*middle, None]
    return [
        _Side(start, end - start, (first - start, None if last is None else last - start))
        for start, end, first, last in zip(starts, ends, firsts, lasts, strict=True)
    ]


_Parts = dict[int, tuple[Tensor, int, bool]]  # of a tile, by pool: see `_Meeting.pool`


class _Pools(TorchFunctionMode):
    """Replaces pools over height and width of one tile by those of all."""

    def __init__(self, pool: Callable[[Tensor, tuple[int, ...], bool, bool], Tensor]) -> None:
        super().__init__()
        self._pool = pool

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.adaptive_avg_pool2d and args[0].ndim == 4:
            size = kwargs.get("output_size", args[1] if len(args) > 1 else None)
            if size in (1, (1, 1), [1, 1]):
                return self._pool(args[0], (2, 3), True, False)
        if func in _MEANS or func in _MAXIMA:
            features = args[0]
            dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if isinstance(dims, (tuple, list)) and features.ndim >= 4:
                axes = tuple(sorted(d % features.ndim for d in dims))
                if set(axes) >= {features.ndim - 2, features.ndim - 1}:
                    keep = bool(kwargs.get("keepdim", args[2] if len(args) > 2 else False))
                    return self._pool(features, axes, keep, func in _MAXIMA)
        return func(*args, **kwargs)


def restore_together(
    model: nn.Module,
    image: Tensor,
    tile: int,
    overlap: int = OVERLAP,
    progress: Progress | None = None,
    hold: int | None = None,
) -> Tensor:
    """Restore a picture (3, H, W) in tiles that pool over the whole of it.

    Args:
        model: a network without state between calls, in whatever mode.
        image: floating point in [0, 1]; sides of at least 32.
        tile: side of the tiles, rounded down to a multiple of 32; at least twice `overlap`.
        overlap: pixels that neighbouring tiles share at least.
        progress: called with tiles done, as far as their parts come to that, and their number.
        hold: how many tiles hold what is alive at a pool; the others begin anew for each. None: as many as fit.

    Returns:
        (3, H, W) as `image`, not clamped; the same for every `hold`.

    Raises:
        OutOfMemory: what the tiles hold does not fit.
    """
    need = _need(model)
    if hold is None and need is not None:
        hold = _room(model, need, tile, next(model.parameters(), image).device)
    try:
        return _restored(model, image, tile, overlap, progress, need.last if need else (), hold)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory restoring tiles of {tile} together: give a smaller tile") from error


def _parts(tiles: int, held: int, last: tuple[bool, ...]) -> int:
    """All the work, in such parts as `_Progress` counts."""
    whole = len(last) + 1
    anew = whole + sum(n for n, ends in enumerate(last, start=1) if ends)
    return held * whole + (tiles - held) * anew


class _Progress:
    """Counts work, a tile's forward in as many parts as there are pools, and one: beginning anew repeats parts."""

    def __init__(self, progress: Progress | None, tiles: int, held: int, last: tuple[bool, ...]) -> None:
        self._progress, self._tiles, self._done, self._told = progress, tiles, 0, 0
        self._total = _parts(tiles, held, last)

    def passed(self, parts: int) -> None:
        self._done += parts
        tiles = self._tiles * self._done // self._total
        if self._progress is not None and tiles > self._told:
            self._progress(tiles, self._tiles)
        self._told = tiles


def _restored(
    model: nn.Module,
    image: Tensor,
    tile: int,
    overlap: int,
    progress: Progress | None,
    last: tuple[bool, ...],
    hold: int | None,
) -> Tensor:
    tile, overlap = tile // _STEP * _STEP, overlap // _STEP * _STEP
    rows, columns = (_sides(length, tile, overlap) for length in image.shape[-2:])
    down, across = (
        feather_weights([side.start for side in sides], tile, overlap).to(image) for sides in (rows, columns)
    )
    canvas = torch.zeros_like(image)
    total = canvas.new_zeros(image.shape[-2:])
    example = next(model.parameters(), image)
    places = list(product(range(len(rows)), range(len(columns))))
    held = len(places) if hold is None else min(hold, len(places))
    meeting, errors = _Meeting(len(places)), []
    count = _Progress(progress, len(places), held, last)

    def forward(number: int, high: _Side, wide: _Side, rainy: Tensor, known: _Parts) -> Tensor | None:
        """The tile's result; None where it holds nothing and has come to a pool whose part is in `known` now."""
        reached = 0

        def pool(features: Tensor, axes: tuple[int, ...], keep: bool, largest: bool) -> Tensor:
            nonlocal reached
            reached += 1
            if reached <= len(meeting.pools):
                return meeting.pools[reached - 1]
            own = features[..., high.of(features.shape[-2]), wide.of(features.shape[-1])]
            part = own.amax(axes, keepdim=keep) if largest else own.sum(axes, keepdim=keep)
            values = own.numel() // max(1, part.numel())
            if number < held:
                count.passed(1)
                meeting.pool(number, part, values, largest)
                return meeting.pools[reached - 1]
            known[reached - 1] = part, values, largest
            if last[reached - 1]:
                count.passed(reached)
                raise _Later
            return part  # which nobody uses: the next pool is of the same features

        try:
            with torch.inference_mode(), _Pools(pool):
                made = model(rainy)[0].to(canvas)
        except _Later:
            return None
        count.passed(1 if number < held else len(last) + 1)
        return made

    def work(number: int, row: int, column: int) -> None:
        high, wide = rows[row], columns[column]
        here = slice(high.start, high.start + high.length), slice(wide.start, wide.start + wide.length)
        known: _Parts = {}
        try:
            meeting.wait(number)
            rainy = image[None, :, *here].to(example)
            while (restored := forward(number, high, wide, rainy, known)) is None:
                while len(meeting.pools) in known:
                    meeting.pool(number, *known.pop(len(meeting.pools)))
            weight = down[row][: high.length, None] * across[column][: wide.length]
            canvas[:, *here] += restored * weight
            total[here] += weight
            meeting.leave(number)
        except _Stopped:
            pass
        except BaseException as error:
            errors.append(error)
            meeting.fail()

    hand_back_freed_memory()  # else every tile's thread would keep what it needed at its peak
    with in_eval_mode(model):
        threads = [
            threading.Thread(target=work, args=(n, *place), name=f"tile {n}", daemon=True)
            for n, place in enumerate(places)
        ]
        try:
            usual = threading.stack_size(_STACK)
            try:
                for thread in threads:
                    thread.start()
            finally:
                threading.stack_size(usual)
            for thread in threads:
                thread.join()
        except BaseException:  # Ctrl-C: Python must not end while a thread is amid a forward
            meeting.fail()
            for thread in threads:
                ended(thread)
            raise
    if errors:
        raise errors[0]
    return canvas.div_(total)


def fits_together(model: nn.Module, height: int, width: int, tile: int, device: torch.device) -> bool:
    """Whether a picture can be restored so: a tile fits, and the network's pools are found.

    The second is tried on a small picture, whose result must be that of the whole.
    """
    if tile < 2 * OVERLAP or min(height, width) < _STEP or not looks_at_all(model):
        return False
    need = _need(model)
    if need is None:
        return False
    return _room(model, need, tile, device) >= 0


def times_the_whole(model: nn.Module, height: int, width: int, tile: int, device: torch.device) -> float:
    """How much more work a picture is so than whole: what tiles share is done twice, what begins anew more often."""
    need = _need(model)
    if need is None:
        return 1.0
    tiles = len(_sides(height, tile, OVERLAP)) * len(_sides(width, tile, OVERLAP))
    held = max(0, min(tiles, _room(model, need, tile, device)))
    return _parts(tiles, held, need.last) / (len(need.last) + 1) * tile**2 / (height * width)


def _room(model: nn.Module, need: _Need, tile: int, device: torch.device) -> int:
    """How many tiles can hold what is alive at a pool beside one in work; below 0: not even that fits."""
    left = _SHARE * free_on(device) - bytes_per_pixel(model) * tile**2
    return math.floor(left / (need.held * tile**2))


def _need(model: nn.Module) -> _Need | None:
    """What a network needs; None where tiles are not the whole picture for it."""
    if model not in _measured:
        _measured[model] = _tried_out(model)
    return _measured[model]


def _tried_out(model: nn.Module) -> _Need | None:
    example = next(model.parameters(), torch.zeros(()))
    height, width = _SMALL
    picture = torch.rand((3, height, width), generator=torch.Generator().manual_seed(0))
    picture = (0.3 * picture + 0.7 * torch.linspace(0, 1, width)).to(example)  # its ends differ
    alive: list[int] = []
    last: list[bool] = []
    before: tuple[Any, int] | None = None  # features of the last pool, and how often they had been changed
    with in_eval_mode(model), torch.no_grad(), Live() as live:

        def pool(features: Tensor, axes: tuple[int, ...], keep: bool, largest: bool) -> Tensor:
            nonlocal before
            alive.append(live.now)
            if before is not None:
                last.append(before[0]() is not features or before[1] != features._version)
            before = weakref.ref(features), features._version
            return features.amax(axes, keepdim=keep) if largest else features.mean(axes, keepdim=keep)

        with _Pools(pool):
            whole = model(picture[None])[0].clamp(0, 1)
    if not alive:
        return None
    together = _restored(model, picture, height, OVERLAP, None, (), None).clamp(0, 1)
    if not bool((together - whole).abs().max() <= _SAME):
        return None
    return _Need(_UNSEEN * max(alive) / (height * width), (*last, True))
