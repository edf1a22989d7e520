"""How large a tile fits: the memory a network needs for a pixel, and the memory there is."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark import cgroup
from benchmark.restoration.tiling import in_eval_mode

WHOLE = (
    640 * 480
)  # pixels; pictures up to this size are restored whole, without asking how much memory there is
TILES = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128)
OVERLAP = 64  # of tiles that stand in for a whole picture: it hides the seams of networks that look far

# of the free memory, because other programs want some too; on a CPU larger tiles are not faster, so never more than
# leaves a 4K picture, its copies and the program itself below 4 GiB
_SHARE = 0.5
# of the free memory, for a whole picture by a network that looks at all of it: tiles are not the same to it
_SHARE_OF_WHOLE = 0.75
_MOST_ON_CPU = 5 << 29
# what kernels take for themselves (convolution workspaces, re-ordered weights) is not seen by the tracker
_UNSEEN = 2.4
_PROBE = 96  # a multiple of all networks' size multiples
_FAR = 384  # pixels; no convolutions of the catalogue reach from one end to the other

_needs: weakref.WeakKeyDictionary[nn.Module, float] = weakref.WeakKeyDictionary()
_far: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


class Live(TorchDispatchMode):
    """Adds up the bytes of the tensors that are alive, and remembers the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage.data_ptr()
        if not key or key in self._known:
            return
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        self._known[key] = weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.pop(key, None)
        self.now -= size


def looks_at_all(model: nn.Module) -> bool:
    """Whether a pixel's result depends on the whole picture (pooling over it, attention), so that tiles change it.

    Found by changing one end of a long picture and comparing the results at the other.
    """
    if model not in _far:
        example = next(model.parameters(), torch.zeros(()))
        generator = torch.Generator().manual_seed(0)
        picture = torch.rand((1, 3, _PROBE // 3, _FAR), generator=generator).to(example)
        other = picture.clone()
        other[..., -_PROBE // 3 :] = 1 - other[..., -_PROBE // 3 :]
        with in_eval_mode(model), torch.no_grad():
            near, changed = (model(p)[..., : _PROBE // 3] for p in (picture, other))
        _far[model] = not torch.equal(near, changed)
    return _far[model]


def bytes_per_pixel(model: nn.Module) -> float:
    """The most memory that a forward in inference needs at once, for each pixel of the picture.

    Found by restoring one small grey picture while adding up the live tensors; times 2.4 for what cannot be
    seen (measured: 1.3 to 2.3).
    """
    if model not in _needs:
        example = next(model.parameters(), torch.zeros(()))
        picture = torch.full((1, 3, _PROBE, _PROBE), 0.5, device=example.device, dtype=example.dtype)
        with in_eval_mode(model), torch.no_grad(), Live() as live:
            model(picture)
        _needs[model] = max(1.0, _UNSEEN * live.peak / _PROBE**2)
    return _needs[model]


def choose_tile(
    model: nn.Module, height: int, width: int, device: torch.device, free: int | None = None
) -> int | None:
    """The side of the tiles a picture should be restored in; None if it fits whole.

    Args:
        model: a network.
        height: of the picture, in pixels.
        width: of the picture.
        device: where it is restored.
        free: bytes that may be used; None asks the system and takes half of what is free (2.5 GiB at most on a CPU),
            or three quarters for a whole picture where the network looks at all of it.
    """
    if height * width <= WHOLE and free is None:
        return None
    budget = free if free is not None else memory_to_use(device)
    pixels = budget / bytes_per_pixel(model)
    if height * width <= pixels:
        return None
    if free is None and looks_at_all(model):
        most = _SHARE_OF_WHOLE * free_on(device)
        if height * width * bytes_per_pixel(model) <= most:
            return None
    fitting = [t for t in TILES if t * t <= pixels and t < max(height, width)]
    return fitting[0] if fitting else TILES[-1]


def memory_to_use(device: torch.device) -> int:
    """Bytes of the device's memory that restoring may take."""
    budget = int(_SHARE * free_on(device))
    return budget if device.type == "cuda" else min(_MOST_ON_CPU, budget)


def free_on(device: torch.device) -> int:
    """Bytes of the device's memory that are free."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free_memory()


def free_memory() -> int:
    """Bytes of main memory that are free, the limits of a container, a service and `ulimit` respected."""
    free = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        facts = dict(
            line.split(":", 1)
            for line in Path("/proc/meminfo").read_text(encoding="utf-8", errors="replace").splitlines()
        )
        free.append(1024 * int(facts["MemAvailable"].split()[0]))
    if (bounded := cgroup.free_memory()) is not None:
        free.append(bounded)
    free += _below_ulimit()
    if not free:
        with contextlib.suppress(ValueError, OSError, AttributeError):
            free.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    return max(0, min(free, default=4 << 30))


def _below_ulimit() -> list[int]:
    """What `ulimit -v` and `ulimit -d` leave to this process."""
    found = []
    with contextlib.suppress(
        ImportError, OSError, ValueError, IndexError
    ):  # other systems have no resource module
        import resource

        size, *_, data, _ = (
            int(n) * os.sysconf("SC_PAGE_SIZE")
            for n in Path("/proc/self/statm").read_text(encoding="utf-8", errors="replace").split()
        )
        for kind, used in ((resource.RLIMIT_AS, size), (resource.RLIMIT_DATA, data)):
            limit = resource.getrlimit(kind)[0]
            if limit != resource.RLIM_INFINITY:
                found.append(limit - used)
    return found
