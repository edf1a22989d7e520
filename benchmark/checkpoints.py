"""Reading weights: this suite's files and the authors', whatever they are wrapped in.

Files are read with `weights_only=True`: nothing in them is executed. This suite's own files say what network they
are of, with which options (`described`): a `.ckpt` under its key `derain`, a `.safetensors` in its metadata.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import catalog
from benchmark.errors import UserError, first_line
from benchmark.files import WEIGHTS, atomic

CARRIED = "derain"  # what a file of this suite says of itself stands under this key

# the names under which training scripts of this field put the weights, in the order in which they are preferred
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "params",
    "model",
    "net",
    "network",
    "generator",
    "gen",
    "g",
    "netg",
    "net_g",
    "model_g",
    "g_state_dict",
    "generator_state_dict",
    "weights",
    "module",
    "model_state",
    "model_dict",
    "net_state_dict",
    "network_state_dict",
)
_AVERAGED = re.compile(r"(^|[._-])(ema|swa|averaged|shadow)([._-]|$)", re.IGNORECASE)
_NEVER = re.compile(r"optim|sched|scaler|discriminator|(^|[._-])(d|netd|disc)([._-]|$)|loss", re.IGNORECASE)
# parts of names that parallel, compiled and checkpointed modules put in, wherever they stand
_PUT_IN = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
_BESIDE = ("total_ops", "total_params", "n_averaged")  # buffers of thop and of averaged models
_COUNTER = "num_batches_tracked"  # of batch norms; files of old versions and of other tools lack it
_DEEPEST = 5
_SHOWN = 3
_GREATEST_OPTION = 65_536


def weights_file(path: str | Path) -> Path:
    """The file that a path means: itself, or the weights in a run's folder.

    Raises:
        UserError: there is no such file, or the folder is no run's.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        for inside in (WEIGHTS, "checkpoints/best.ckpt", "checkpoints/last.ckpt", "best.ckpt", "last.ckpt"):
            if (path / inside).is_file():
                return path / inside
        raise UserError(f"checkpoint {path}: a folder without {WEIGHTS} or checkpoints; name the file itself")
    if not path.is_file():
        raise UserError(f"checkpoint {path}: {'not a file' if path.exists() else 'no such file'}")
    return path


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint (a file, or a run's folder) as plain data.

    A safetensors file is a dictionary of tensors, with what it says of itself under `derain`.

    Raises:
        UserError: no such file, not a checkpoint, truncated, or one that needs code to be executed.
    """
    path = weights_file(path)
    try:
        what = _of_another_kind(path)
        if what is not None:
            raise UserError(f"checkpoint {path}: {what}")
        if _is_safetensors(path):
            return _read_safetensors(path)
        with warnings.catch_warnings():  # torch's own about sparse and quantised tensors, for its developers
            warnings.simplefilter("ignore", UserWarning)
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        reason = first_line(error).split(". ")[0]
        if "Unsupported global" in str(error) or "GLOBAL" in str(error):
            needs = re.search(r"GLOBAL (\S+)", str(error))
            what = f" ({needs.group(1)})" if needs else ""
            raise UserError(
                f"checkpoint {path}: it holds Python objects{what}, not only tensors, and is not opened; "
                "ask for the state_dict alone"
            ) from error
        raise UserError(f"checkpoint {path}: not a PyTorch checkpoint ({reason})") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(
            f"checkpoint {path}: damaged or not a PyTorch checkpoint ({first_line(error)})"
        ) from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"checkpoint {path}: holds a {type(loaded).__name__}, not a dictionary of tensors")
    return dict(loaded)


_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it stands for: git lfs pull"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file (of Keras?), not of PyTorch"),
    (b"\x93NUMPY", "a NumPy array, not a state_dict"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"%PDF", "a PDF"),
)


def _of_another_kind(path: Path) -> str | None:
    """What a file is, where it is a known thing that is no checkpoint."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "an empty file (0 bytes)"
    for beginning, what in _BEGINNINGS:
        if start.startswith(beginning):
            return what
    if path.suffix.lower() in (".onnx", ".pt2") or (start[:1] == b"\x08" and b"pytorch" in start[:32]):
        return (
            "a network that was exported, not weights: benchmark.exported.open_exported(FILE) opens it and "
            "benchmark.restore(it, picture, tile=…) restores with it; give the weights that it was made of"
        )
    if re.match(rb"\s*(<!doctype|<html|<\?xml|<head|<!--)", start, re.IGNORECASE):
        return "a web page, not the file that its address promised: download it again"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(n.endswith("serialized_exported_program.json") or "/models/" in n for n in names):
            return "an exported program (torch.export), not a state_dict: save model.state_dict()"
        if any(n.endswith("constants.pkl") for n in names):
            return "a TorchScript archive, not a state_dict: save torch.jit.load(FILE).state_dict()"
        if not any(n.endswith("data.pkl") for n in names):
            return f"a ZIP archive of other files ({', '.join(names[:_SHOWN])}): unpack it first"
    return None


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        size, first = int.from_bytes(file.read(8), "little"), file.read(1)
    return path.suffix == ".safetensors" or (first == b"{" and 2 <= size < path.stat().st_size)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        told = (file.metadata() or {}).get(CARRIED)
    if told is not None:
        found[CARRIED] = _told(told)
    return found


def _told(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def save_weights(network: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Write a network's state_dict as safetensors in one piece, with plain data that says what it is.

    Args:
        network: whose weights.
        path: of the file.
        about: what `carried` gives again: `model` {`name`, `options`}, and what else is known.

    Raises:
        UserError, WorkError: the file cannot be written.
    """
    from safetensors.torch import save

    # a tensor under two names is written twice, so that every key is there when it is read
    whole = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    data = save(whole, {"format": "pt", CARRIED: json.dumps(dict(about), ensure_ascii=False)})
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def carried(path: str | Path) -> dict[str, Any]:
    """What a checkpoint of this suite (or a run's folder) says of itself; empty for other files.

    `model` has the network's `name` and `options`; there may be `recipe`, `data`, `seed`, `commit`, `identity`.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    path = weights_file(path)
    if _of_another_kind(path) is None and _is_safetensors(path):
        from safetensors import safe_open

        try:
            with safe_open(path, framework="np") as file:
                told = (file.metadata() or {}).get(CARRIED)
        except Exception as error:  # it has an exception class of its own
            raise UserError(f"checkpoint {path}: damaged or not a safetensors file ({error})") from None
        return _told(told) if told is not None else {}
    found = read_checkpoint(path).get(CARRIED)
    return dict(found) if isinstance(found, Mapping) else {}


def described(path: str | Path) -> tuple[str, dict[str, Any]] | None:
    """The network and its options that a checkpoint is of, where it says so itself.

    Args:
        path: a run's folder, its `weights.safetensors` or a `.ckpt` of this suite; any other checkpoint gives None.

    Returns:
        (name of the network, constructor options), or None.

    Raises:
        UserError: there is no such file, it cannot be read, or what it says is not possible.
    """
    return _description(carried(path), f"checkpoint {path}")


def description_in(checkpoint: Mapping[str, Any], source: str) -> tuple[str, dict[str, Any]] | None:
    """`described`, of a checkpoint that was read; `source` is what messages call it."""
    return _description(checkpoint.get(CARRIED), source)


def _description(told: Any, source: str) -> tuple[str, dict[str, Any]] | None:
    if not isinstance(told, Mapping) or not isinstance(told.get("model"), Mapping):
        return None
    name, options = told["model"].get("name"), told["model"].get("options", {})
    if not isinstance(name, str) or not isinstance(options, Mapping) or not _plausible(options):
        raise UserError(f"{source}: what it says of its network is not possible ({_short(told['model'])})")
    return name, dict(options)


def _plausible(value: Any, depth: int = 0) -> bool:
    """Whether options are plain data of a size that a network can have."""
    if isinstance(value, Mapping):
        return depth < _DEEPEST and all(
            isinstance(k, str) and _plausible(v, depth + 1) for k, v in value.items()
        )
    if isinstance(value, (list, tuple)):
        return (
            depth < _DEEPEST
            and len(value) <= _GREATEST_OPTION
            and all(_plausible(v, depth + 1) for v in value)
        )
    if isinstance(value, (int, float)):
        return math.isfinite(value) and abs(value) <= _GREATEST_OPTION
    return value is None or isinstance(value, str)


def _short(value: Any) -> str:
    text = repr(value)  # Python marks what holds itself
    return text if len(text) <= 120 else f"{text[:120]}…"


def size_of(checkpoint: Mapping[str, Any]) -> int:
    """How many numbers all the tensors of a checkpoint hold."""
    return sum(t.numel() for _, weights in _found(checkpoint) for t in weights.values())


def weights_of(checkpoint: Mapping[str, Any], source: str = "checkpoint") -> dict[str, Tensor]:
    """The state_dict inside a checkpoint: wrappers and the prefixes of parallel or compiled modules taken off.

    Raises:
        UserError: there are no tensors in it.
    """
    for _, weights in _found(checkpoint):
        while len(first := {k.partition(".")[0] for k in weights}) == 1:
            (word,) = first
            if word not in ("module", "model", "network", "net") or any("." not in k for k in weights):
                break
            weights = {k.partition(".")[2]: v for k, v in weights.items()}
        return weights
    keys = ", ".join(map(str, list(checkpoint)[:_SHOWN])) or "nothing"
    raise UserError(f"{source}: no weights in it (it holds {keys})")


def _found(checkpoint: Mapping[str, Any]) -> list[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dictionary with tensors in a checkpoint: averaged ones first, then by the wrapper's name, then others."""
    found = []
    for place, mapping in _mappings(checkpoint, (), set()):
        weights = {_PUT_IN.sub("", str(k)): v for k, v in mapping.items() if isinstance(v, Tensor)}
        if weights:
            found.append((place, weights))

    def rank(item: tuple[tuple[str, ...], dict[str, Tensor]]) -> tuple[bool, bool, int, int]:
        place, weights = item
        last = place[-1].lower() if place else ""
        # a tensor or two beside a wrapper are a score or an epoch
        named = _WRAPPERS.index(last) if last in _WRAPPERS else len(_WRAPPERS) + bool(place)
        averaged = any(_AVERAGED.search(word) for word in place)
        return any(_NEVER.search(word) for word in place), not averaged, named, -len(weights)

    return sorted(found, key=rank)


def _mappings(
    value: Mapping[Any, Any], place: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    if id(value) in seen or len(place) > _DEEPEST:
        return
    seen.add(id(value))
    yield place, value
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _mappings(inner, (*place, str(key)), seen)


def in_our_names(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under this suite's names: as they are, or through the network's key map."""
    expected = set(model.state_dict())
    if set(weights) == expected:
        return weights
    ignored: tuple[str, ...] = getattr(model, "authors_ignored", ())
    pairs: tuple[tuple[str, str], ...] = getattr(model, "authors_keys", ())
    renamed: dict[str, Tensor] = {}
    for key, value in weights.items():
        if any(re.search(pattern, key) for pattern in ignored):
            continue
        for pattern, replacement in pairs:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    # keys that neither side has under the map are reported in the form that is nearer to what the network expects
    return renamed if len(expected & set(renamed)) >= len(expected & set(weights)) else weights


def _prefixes(weights: Mapping[str, Tensor], least: int) -> list[str]:
    """What may stand before the keys of a network inside a larger one: averaged ones first, then the shortest."""
    counts: dict[str, int] = {"": len(weights)}
    for key in weights:
        words = key.split(".")
        for i in range(1, min(len(words), _DEEPEST)):
            prefix = ".".join(words[:i]) + "."
            counts[prefix] = counts.get(prefix, 0) + 1
    kept = [p for p, n in counts.items() if not p or n >= least]
    return sorted(kept, key=lambda p: (bool(_NEVER.search(p)), not _AVERAGED.search(p), p.count("."), p))


@dataclass
class _Fit:
    """Weights under a network's names, and how they differ from what it expects."""

    weights: dict[str, Tensor]
    faults: list[tuple[str, list[str]]]
    right: int

    @property
    def perfect(self) -> bool:
        return not any(names for _, names in self.faults)


def _fit(model: nn.Module, found: dict[str, Tensor], prefix: str) -> _Fit:
    expected = model.state_dict()
    inside = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
    weights = in_our_names(model, inside)
    for key, value in expected.items():
        if key.rpartition(".")[2] == _COUNTER and key not in weights:
            weights = {**weights, key: value}
    weights = {k: v for k, v in weights.items() if k in expected or k.rpartition(".")[2] not in _BESIDE}
    missing = [k for k in expected if k not in weights]
    surplus = [k for k in weights if k not in expected]
    there = [(k, weights[k], v) for k, v in expected.items() if k in weights]
    shapes = [f"{k} is {tuple(w.shape)}, must be {tuple(v.shape)}" for k, w, v in there if w.shape != v.shape]
    kinds = [f"{k} is {kind}" for k, w, v in there if (kind := _unloadable(w, v))]
    faults = [
        ("missing", missing),
        ("unexpected", surplus),
        ("of another shape", shapes),
        ("not loadable", kinds),
    ]
    return _Fit(weights, faults, len(there) - len(shapes) - len(kinds))


def _unloadable(given: Tensor, wanted: Tensor) -> str:
    """What keeps a tensor's values from being taken over, in a word or two; empty where nothing does."""
    if given.is_meta:
        return "without values (device meta)"
    if given.is_quantized or given.layout != torch.strided or given.is_nested:
        return "quantised" if given.is_quantized else f"{str(given.layout).removeprefix('torch.')}, not dense"
    if (wanted.is_floating_point() and not given.is_floating_point()) or given.is_complex():
        return f"of {str(given.dtype).removeprefix('torch.')}, not {str(wanted.dtype).removeprefix('torch.')}"
    return ""


def load_checkpoint(
    model: nn.Module, path_or_state_dict: str | Path | Mapping[str, Any], source: str = "state_dict"
) -> None:
    """Load weights into a network, strictly: all of them fit or none is loaded.

    Takes this suite's checkpoints, a run's folder, bare state_dicts, safetensors and the authors' released files with
    their own key names, in any of the usual wrappings (`state_dict`, `params`, `model`, `net`, `generator`, …), behind
    any prefix; where a file has averaged weights (EMA, SWA) beside the others, those. What thop and averaging leave
    beside the weights is passed over; the counters of batch norms may be missing.

    Args:
        model: a network from `create_model`.
        path_or_state_dict: a file or a run's folder, or what `torch.load` of a file gives.
        source: what messages call the latter.

    Raises:
        UserError: the file cannot be read, or its keys, shapes or kinds of tensors are not this network's (the first
            ones are named).
    """
    if isinstance(path_or_state_dict, Mapping):
        checkpoint = dict(path_or_state_dict)
    else:
        source, checkpoint = f"checkpoint {path_or_state_dict}", read_checkpoint(path_or_state_dict)
    least = sum(k.rpartition(".")[2] != _COUNTER for k in model.state_dict())
    nearest: _Fit | None = None
    for _, found in _found(checkpoint):
        for prefix in _prefixes(found, least):
            fit = _fit(model, found, prefix)
            if fit.perfect:
                model.load_state_dict(fit.weights, strict=True)
                return
            if nearest is None or fit.right > nearest.right:
                nearest = fit
    if nearest is None:
        weights_of(checkpoint, source)  # says that there are none
        raise AssertionError
    faults = []
    for words, names in nearest.faults:
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            faults.append(f"{len(names)} {words}: {', '.join(names[:_SHOWN])}{more}")
    raise UserError(f"{source} does not fit {type(model).__name__}: {'; '.join(faults)}")


def options_in(
    entry: catalog.Network, checkpoint: Mapping[str, Any], source: str = "checkpoint"
) -> dict[str, Any]:
    """Constructor options that a checkpoint needs: those it carries, or those of the released variant it is.

    This suite's checkpoints carry their configuration; the authors' are recognised by the shape of a tensor.

    Raises:
        UserError: the checkpoint is this suite's, of another network.
    """
    told = description_in(checkpoint, source)
    if told is not None:
        if told[0] != entry.name:
            raise UserError(f"{source} is of model '{told[0]}', not '{entry.name}'")
        return told[1]
    weights = weights_of(checkpoint, source)
    for variant in entry.variants:
        for key, tensor in weights.items():
            if f".{key}".endswith(f".{variant.key}") and tuple(tensor.shape) == tuple(variant.shape):
                return dict(variant.options)
    return {}
