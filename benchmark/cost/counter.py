"""Counts what a network does, by watching the tensors of one forward.

A dispatch mode sees every tensor operation, functional calls and attention products included; hooks tell
which module it belongs to; and the input of every product is looked at, so that what is driven by spikes is
found and not assumed.

    for each product (convolution, matrix product, attention):
        A = its multiplications, dense, over all time steps
        input only 0 and 1  ->  accumulates += A,  s = share of ones,  SOPs += s A
        anything else       ->  MACs += A

A network that loops over its time steps calls a layer T times, one that folds them into the batch calls it
once with T times the rows: both give the same totals. A module that computes once what by definition is done
at each of T equal steps says so (`time_invariant_repeats = T`, or `executed_once = {"part": T}` about a
part): that multiplies the counts, not `executed`.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from benchmark.cost import memory, thop_rules
from benchmark.cost.conventions import DEFAULT, Convention
from benchmark.cost.memory import WORD
from benchmark.cost.operators import (
    COMPARISONS,
    KEEPING,
    Product,
    classify,
    passes,
    products,
    written_arguments,
)
from benchmark.cost.pictures import pictures
from benchmark.cost.result import Cost, Layer, Number, Uncounted
from benchmark.cost.spikes import Observation, effective, emitted, inside, observe
from benchmark.errors import OutOfMemory, UserError, WorkError, fault_in_words, out_of_memory

ROOT = "(network)"

_NEURON_BASES = {"SpikingNeuron", "BaseNode"}  # of snnTorch and of SpikingJelly
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
)


@dataclass
class _Row:
    """One layer while it is being counted; all numbers are sums over calls and images."""

    name: str
    kind: str
    product: bool = False
    calls: int = 0
    parameters: int = 0
    real: int = 0
    graded: int = 0
    binary: int = 0
    silent: int = 0  # products whose input was all zeros: spikes or not is decided by the rest
    silent_spikes: bool = False  # the zeros came from neurons
    unseen: int = 0
    spikes: int = 0
    graded_spikes: int = 0
    elements: int = 0
    graded_elements: int = 0
    silent_elements: int = 0
    sops: Fraction = Fraction(0)
    events: Fraction = Fraction(0)
    levels: set[float] = field(default_factory=set)
    work: dict[str, int] = field(default_factory=dict)
    updates: int = 0
    emitted: int = 0
    emitted_levels: set[float] = field(default_factory=set)
    executed: int = 0
    leading: int = 1
    repeats: int = 1
    # for the model of memory: elements of the product's operands, and of one frame of them
    given: int = 0
    made: int = 0
    biased: int = 0
    kernels: int = 0
    reach: tuple[int, int] = (0, 0)
    largest: dict[str, int] = field(default_factory=dict)
    leaks: bool = True
    folds: bool = False
    # as NeuroBench counts: what inputs that are not zero reach, and what all of them do, borders respected
    effective: int = 0
    inside: int = 0

    def needs(self, memory: str, words: int) -> None:
        """A memory must hold so many words at once."""
        self.largest[memory] = max(self.largest.get(memory, 0), WORD * words)

    def add(self, work: str, elements: int) -> None:
        self.work[work] = self.work.get(work, 0) + elements


@dataclass
class _Place:
    """A module on the stack of those that are running."""

    path: str
    module: nn.Module
    repeats: int
    role: str  # "neuron", "norm" or ""
    elementwise: int  # of its row when it was entered
    pool: int


def is_neuron(module: nn.Module) -> bool:
    """Whether a module declares itself a spiking neuron.

    It does by descending from snnTorch's or SpikingJelly's base class, or by an attribute
    `is_spiking_neuron`. A module that does neither is still found by what it does, see `_Recorder`.
    """
    if getattr(module, "is_spiking_neuron", False):
        return True
    return any(base.__name__ in _NEURON_BASES for base in type(module).__mro__)


def _is_norm(module: nn.Module) -> bool:
    if isinstance(module, _NORMS):
        return True
    return "norm" in type(module).__name__.lower() and not any(
        isinstance(m, nn.modules.conv._ConvNd | nn.Linear) for m in module.modules()
    )


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple):
        return next((t for t in map(_first_tensor, value) if t is not None), None)
    return None


class _Recorder(TorchDispatchMode):
    """Watches one or more forwards of `model`, each of one image."""

    def __init__(self, model: nn.Module, look: bool) -> None:
        super().__init__()
        self.look = look
        self.rows: dict[tuple[str, ...], _Row] = {}
        self.unknown: dict[str, list[Any]] = {}
        self.calls: list[thop_rules.Call] = []
        self.slopes: dict[str, int] = {}
        self.stack: list[_Place] = []
        self.batch = 1
        # Tensors known to be spikes by where they come from: whether a comparison made them, and how often
        # their storage had been written to. Origin decides where no spike came, and spares a second look
        # where the values cannot be others than 0 and 1.
        self.origins: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.writes: dict[int, int] = {}
        self.once = _executed_once(model)
        self.paused = False  # while the counter itself looks at tensors
        self.paths: dict[nn.Module, str] = {m: p for p, m in model.named_modules()}
        self.weights: dict[int, str] = {}
        self.by_shape: dict[tuple[str, str], int] = {}
        for name, parameter in model.named_parameters():
            self.weights.setdefault(_storage(parameter), name)
        self.constants = {_storage(tensor) for tensor in _constants(model)}
        self.model = model

    # modules

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Follow which module is running, for the time of the context."""
        handles = []
        for module in self.paths:
            handles.append(module.register_forward_pre_hook(self._enter, prepend=True))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()
            self.stack.clear()

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        outer = self.stack[-1] if self.stack else None
        role = outer.role if outer and outer.role else ""
        if not role:
            role = "neuron" if is_neuron(module) else "norm" if _is_norm(module) else ""
        repeats = self.once.get(module, 1) * (outer.repeats if outer else 1)
        path = self.paths[module]
        known = self.rows.get((path,))
        before = known.work if known else {}
        self.stack.append(
            _Place(path, module, repeats, role, before.get("elementwise", 0), before.get("pool", 0))
        )

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.paused = True
        try:
            self._left(module, args, output)
        finally:
            self.paused = False

    def _left(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self.stack or self.stack[-1].module is not module:
            return
        place = self.stack.pop()
        given, made = _first_tensor(args), _first_tensor(output)
        if made is None:
            return
        if given is not None:
            self.calls.append(thop_rules.Call(module, tuple(given.shape), tuple(made.shape)))
        outermost = not (self.stack and self.stack[-1].role)
        if place.role == "neuron" and outermost:
            self._neuron(place, made)
        elif place.role == "norm" and outermost:
            row = self._row(place)
            row.calls += 1
            row.add("norm", made.numel() * place.repeats)
            row.folds = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
            row.needs("input_bytes", self._frame(made, row))
        elif self.look and given is not None and self._acts_like_a_neuron(place, given, made):
            row = self._row(place)
            row.work["elementwise"], row.work["pool"] = place.elementwise, place.pool
            row.calls -= 1
            self._neuron(place, made)

    def _acts_like_a_neuron(self, place: _Place, given: Tensor, made: Tensor) -> bool:
        """A module without parts that turns real values into spikes, by element-wise work of its own."""
        row = self.rows.get((place.path,))
        if row is None or row.product or any(True for _ in place.module.children()):
            return False
        if type(place.module).__module__.startswith("torch.nn") or given.shape != made.shape:
            return False
        if row.work.get("elementwise", 0) == place.elementwise:
            return False
        fired = observe(made).flow
        spiking = fired == "binary" or (fired == "zero" and self._origin_of(made) is not None)
        return spiking and observe(given).flow in ("real", "graded")

    def _neuron(self, place: _Place, made: Tensor) -> None:
        row = self._row(place)
        row.calls += 1
        row.updates += made.numel() * place.repeats
        row.leading = max(row.leading, self._leading(made))
        row.needs("potential_bytes", self._frame(made, row))
        row.leaks = not type(place.module).__name__.startswith("IF")
        if self.look:
            spikes, levels = emitted(made, self._origin_of(made) is True)
            row.emitted += spikes * place.repeats
            row.emitted_levels |= set(levels)
            if self._origin_of(made) is None:
                self._mark(made, proved=False)

    # operations

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return (
            False  # torch would import its compiler, seconds of work, to keep it away from the method below
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.paused or not isinstance(func, torch._ops.OpOverload) or func.namespace == "prim":
            return func(*args, **kwargs)
        packet = func.overloadpacket
        # composite operations arrive whole in inference mode: take them apart until every piece is known
        done = passes(func, args)
        if not done and classify(func) == "unknown":
            with self:
                pieces = func.decompose(*args, **kwargs)
                if pieces is not NotImplemented:
                    return pieces
        work = classify(func)
        if work == "product":
            out = func(*args, **kwargs)
            for number, product in enumerate(products(func, args, out)):
                self._product(func, product, out, number)
            return out
        out = func(*args, **kwargs)
        if self.look:
            self._origin(func, args, out)
        if work == "free" or not self.stack:
            return out
        place = self.stack[-1]
        if done:
            if not place.role:
                self._worked(place, {kind: share * args[0].numel() for kind, share in done.items()})
            return out
        written = sum(t.numel() for t in _tensors(out))
        if work == "unknown":
            if written:
                seen = self.unknown.setdefault(str(packet).removeprefix("aten."), [0, 0, place.path or ROOT])
                seen[0] += 1
                seen[1] += written * place.repeats
            return out
        if place.role:
            return out  # the module is counted as a whole when it ends
        elements = written
        if work in ("pool", "norm"):
            read = _first_tensor(list(args))
            elements = read.numel() if read is not None else written
        elif work in ("elementwise", "resample"):
            first = _first_tensor(out)
            elements = first.numel() if first is not None else 0
        self._worked(place, {work: elements})
        if "prelu" in packet.__name__:
            name = self.weights.get(_storage(args[1]))
            if name is not None:
                self.slopes[name] = self.slopes.get(name, 0) + elements
        return out

    def _worked(self, place: _Place, done: Mapping[str, int]) -> None:
        """A module did work that is no product: elements of each kind."""
        row = self._row(place)
        if not row.product and not row.work and not row.updates:
            row.calls += 1
        for work, elements in done.items():
            row.add(work, elements * place.repeats)
            if not row.product:
                row.needs("input_bytes", elements // max(1, self.batch))

    def _mark(self, tensor: Tensor, proved: bool) -> None:
        self.origins[tensor] = (self.writes.get(_storage(tensor), 0), proved)

    def _origin_of(self, tensor: Tensor) -> bool | None:
        """None: not known to be spikes. True: a comparison made it, False: neurons sent it out."""
        written, proved = self.origins.get(tensor, (-1, False))
        # what was written to since is no longer known
        return proved if written == self.writes.get(_storage(tensor), 0) else None

    def _origin(self, func: Any, args: Any, out: Any) -> None:
        """Comparisons make spikes; views, copies, concatenations and maxima of spikes are spikes."""
        for place in written_arguments(func):
            for tensor in _tensors(args[place] if place < len(args) else out):
                self.writes[_storage(tensor)] = self.writes.get(_storage(tensor), 0) + 1
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if name in COMPARISONS:
            proved: bool | None = True
        elif name in KEEPING or "max_pool" in name or getattr(func, "is_view", False):
            given = [self._origin_of(t) for t in _tensors(args)]
            proved = None if not given or None in given else all(given)
        else:
            return
        if proved is not None:
            for tensor in _tensors(out):
                self._mark(tensor, proved)

    def _leading(self, tensor: Tensor) -> int:
        lead = int(tensor.shape[0]) if tensor.ndim else 1
        return max(1, lead // self.batch) if lead % self.batch == 0 else 1

    def _product(self, func: Any, product: Product, out: Any, number: int) -> None:
        if not self.stack or not product.macs:
            return
        place = self.stack[-1]
        row = self._product_row(place, func, product)
        row.product = True
        row.calls += self._begins(place, product, number)
        factor = place.repeats
        row.repeats = max(row.repeats, factor)
        product = self._whole(place, product)
        macs = product.macs * factor
        row.executed += product.macs
        sides = [
            s
            for s in product.sides
            if s is not None and _storage(s) not in self.weights and _storage(s) not in self.constants
        ]
        if sides:
            row.leading = max(row.leading, self._leading(sides[0]))
        self._remember(row, place, product, sides, out, number, factor)
        if not self.look:
            row.unseen += macs
            return
        origins = [self._origin_of(s) for s in sides]
        seen = [
            observe(s, product.geometry, origin is not None, origin is True)
            for s, origin in zip(sides, origins, strict=True)
        ]
        flows = [o.flow for o in seen]
        if "binary" in flows:
            self._spiking(row, product, macs, factor, seen, out)
        elif "zero" in flows:
            row.silent += macs
            row.silent_elements += seen[flows.index("zero")].elements * factor
            row.silent_spikes = row.silent_spikes or origins[flows.index("zero")] is not None
        elif "graded" in flows:
            graded = seen[flows.index("graded")]
            row.graded += macs
            row.graded_spikes += graded.spikes * factor
            row.graded_elements += graded.elements * factor
            row.levels |= set(graded.levels)
        else:
            row.real += macs
        if "binary" not in flows and "zero" not in flows and sides:
            row.effective += effective(sides[0], product.geometry, product.macs) * factor

    def _begins(self, place: _Place, product: Product, number: int) -> bool:
        """Whether a product is the first of a call of its layer."""
        if isinstance(place.module, nn.RNNCellBase):  # two products a call, of the input and of the state
            weight = product.weight
            return weight is not None and _storage(weight) == _storage(place.module.weight_ih)
        return number == 0 or bool(product.part)

    def _whole(self, place: _Place, product: Product) -> Product:
        """torch makes three convolutions of a complex one; the one of sums stands for two of the four by definition."""
        weight = product.weight
        if (
            product.geometry is None
            or weight is None
            or weight.is_complex()
            or _storage(weight) in self.weights
        ):
            return product
        if not any(p.is_complex() for p in place.module.parameters(recurse=False)):
            return product
        return replace(product, macs=2 * product.macs)

    def _frame(self, tensor: Tensor, row: _Row) -> int:
        """Elements of one step of one image."""
        return tensor.numel() // (self._leading(tensor) * max(1, self.batch))

    def _remember(
        self,
        row: _Row,
        place: _Place,
        product: Product,
        sides: list[Tensor],
        out: Any,
        number: int,
        factor: int,
    ) -> None:
        """What the model of memory asks of a product."""
        made = _first_tensor(out)
        if not sides or made is None:
            return
        given, shape = sides[0], product.geometry
        row.given += given.numel() * factor
        row.needs("input_bytes", self._frame(given, row))
        if product.part != "scores":
            row.made += made.numel() * factor
            row.needs("potential_bytes", self._frame(made, row))
            row.needs("output_bytes", self._frame(made, row))
        weights = product.weight if product.weight is not None else sides[-1]
        bias = getattr(place.module, "bias", None)
        with_bias = isinstance(bias, Tensor) and number == 0 and not product.part
        row.biased += made.numel() * factor if with_bias else 0
        row.needs("parameter_bytes", weights.numel() + (bias.numel() if isinstance(bias, Tensor) else 0))
        if shape is None:
            reach = product.macs // max(1, given.numel())
            row.reach = (reach, reach)
            row.inside += product.macs * factor
            return
        taps = math.prod(shape.kernel)
        steps = (-(-k // s) for k, s in zip(shape.kernel, shape.stride, strict=True))
        row.reach = (shape.channels * (taps if shape.transposed else math.prod(steps)), shape.channels * taps)
        row.kernels += made.shape[1] * taps * factor
        row.inside += inside(shape, given.shape) * factor

    def _spiking(
        self, row: _Row, product: Product, macs: int, factor: int, seen: list[Observation], out: Any
    ) -> None:
        row.binary += macs
        binary = [o for o in seen if o.flow in ("binary", "zero")]
        row.spikes += sum(o.spikes for o in binary) * factor
        row.elements += sum(o.elements for o in binary) * factor
        if len(binary) == 2 and isinstance(out, Tensor) and not product.part:
            # both operands are spikes: an addition is triggered where two of them meet, and the product
            # counts those
            a, b = product.sides
            assert a is not None and b is not None
            met = int(torch.matmul(a.double(), b.double()).sum())
            row.sops += met * factor
            row.events += met * factor
            return
        only = binary[0] if len(binary) == 1 else min(binary, key=lambda o: o.spikes / max(1, o.elements))
        sops = Fraction(only.spikes * macs, only.elements)
        row.sops += sops
        row.events += sops if only.reached is None else only.reached * factor

    # rows

    def _row(self, place: _Place) -> _Row:
        key = (place.path,)
        if key not in self.rows:
            self.rows[key] = _Row(place.path or ROOT, type(place.module).__name__)
        return self.rows[key]

    def _product_row(self, place: _Place, func: Any, product: Product) -> _Row:
        """The row of a product: its module if the weight is the module's own, else by weight or operation."""
        own = [n for n, _ in place.module.named_parameters(recurse=False)]
        name = self.weights.get(_storage(product.weight)) if product.weight is not None else None
        leaf = not any(True for _ in place.module.children())
        operation = func.overloadpacket.__name__.strip("_")
        if leaf and "weight" in own and len(own) <= 2 and not product.part:
            return self._row(place)
        if leaf and isinstance(place.module, nn.RNNBase | nn.RNNCellBase):
            return self._row(place)
        title = _TITLES.get(operation, operation)
        if name is not None:
            owner, _, parameter = name.rpartition(".")
            label = name if owner == place.path else f"{place.path or ROOT}:{name}"
            return self.rows.setdefault((place.path, operation, name), _Row(label, f"{title} ({parameter})"))
        # the shapes of the operands, batch left out, tell two anonymous products of one module apart
        shapes = "x".join(str(tuple(s.shape[1:])) for s in product.sides if s is not None)
        key = (place.path, operation, product.part, shapes)
        if key not in self.rows:
            base = f"{place.path or ROOT}:{product.part or title}"
            number = self.by_shape.get((place.path, base), 0) + 1
            self.by_shape[place.path, base] = number
            self.rows[key] = _Row(base if number == 1 else f"{base}#{number}", title)
        return self.rows[key]


_TITLES = {
    "convolution": "conv",
    "bmm": "matmul",
    "mm": "matmul",
    "addmm": "linear",
    "baddbmm": "matmul",
    "scaled_dot_product_flash_attention_for_cpu": "attention",
    "scaled_dot_product_flash_attention": "attention",
    "scaled_dot_product_efficient_attention": "attention",
    "scaled_dot_product_cudnn_attention": "attention",
}


def _constants(model: nn.Module) -> Iterator[Tensor]:
    """Tensors that modules hold, neurons' states left out: whatever their values, nobody sends them out as spikes."""
    for module in model.modules():
        if not is_neuron(module):
            yield from module.buffers(recurse=False)
            yield from (value for value in vars(module).values() if isinstance(value, Tensor))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


# from rows to layers


def _executed_once(model: nn.Module) -> dict[nn.Module, int]:
    """Modules that do once what stands for several equal time steps, and for how many.

    Declared by a module about itself (`time_invariant_repeats = T`) or about its parts (`executed_once =
    {"embedding": T}`, names relative to the module).

    Raises:
        UserError: a part that does not exist.
    """
    found: dict[nn.Module, int] = {}
    for path, module in model.named_modules():
        if "time_invariant_repeats" in dir(module):
            found[module] = int(cast(Any, module.time_invariant_repeats))
        declared = getattr(module, "executed_once", None)
        if not isinstance(declared, dict):
            continue
        parts = dict(module.named_modules())
        for name, repeats in declared.items():
            if name not in parts:
                raise UserError(f"{path or ROOT}: executed_once names '{name}', which is not a part of it")
            found[parts[name]] = int(repeats)
    return found


def _declared_steps(model: nn.Module) -> int | None:
    steps = getattr(model, "time_steps", None)
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else None


def _time_steps(row: _Row, images: int, declared: int | None) -> int:
    """How many time steps a layer of a spiking network goes through."""
    if row.repeats > 1:
        return row.repeats
    calls = max(1, row.calls // images)
    if declared is not None:
        folded = row.leading % declared == 0 or (calls > 1 and calls % declared == 0)
        return declared if folded else 1
    return calls * row.leading


def _mean(value: int | Fraction, images: int) -> Number:
    mean = Fraction(value) / images
    return int(mean) if mean.denominator == 1 else float(mean)


def _layer(
    row: _Row, images: int, steps: int, measured: bool, reference: Layer | None, spiking: bool
) -> Layer:
    silent_is_binary = row.binary > 0 or row.silent_spikes
    real = row.real + row.graded + (0 if silent_is_binary else row.silent)
    binary = row.binary + (row.silent if silent_is_binary else 0)
    elements = row.elements + (row.silent_elements if silent_is_binary else 0)
    sops: Fraction | float = row.sops
    events: Number | None = _mean(row.events, images) if measured and row.product else None
    kind = "-"
    if row.product:
        kinds = [n for n, c in (("binary", binary), ("graded", row.graded), ("real", real - row.graded)) if c]
        kind = kinds[0] if len(kinds) == 1 else "mixed" if kinds else "unseen"
    rate: float | None = None
    if binary:
        # two spiking operands have no one rate; what the accumulates were thinned by is the same thing
        rate = row.spikes / elements if elements else 0.0
        if row.sops != Fraction(row.spikes * binary, max(1, elements)):
            rate = float(row.sops / binary)
    elif row.graded and not row.real:
        rate = row.graded_spikes / row.graded_elements
    spikes: Number = _mean(row.spikes, images)
    notes = []
    if row.graded:
        notes.append(f"graded input, levels {_levels(row.levels)}: counted as real")
    if len(row.emitted_levels) > 2:
        notes.append(f"graded spikes, levels {_levels(row.emitted_levels)}")
    if row.silent and silent_is_binary and not row.binary:
        notes.append("no spike came")
    if row.repeats > 1:
        notes.append(f"computed once for {row.repeats} equal time steps")
    spikes_in: Number = spikes
    sent: Number = _mean(row.emitted, images)
    if row.unseen:
        # shapes alone were seen: kinds and rates are those of a measurement at another size, layer by layer
        real, binary = row.unseen, 0
        if reference is not None and reference.accumulates + reference.macs:
            binary = round(row.unseen * reference.accumulates / (reference.accumulates + reference.macs))
            real = row.unseen - binary
            kind, rate = reference.input, reference.rate
            notes.append("rate of the reference")
            if binary:
                sops = binary * float(reference.sops / reference.accumulates)
                spikes_in = row.given * (rate or 0.0) * binary / row.unseen
    if not measured and reference is not None and reference.updates:
        sent = row.updates * reference.emitted / reference.updates / images
    return Layer(
        name=row.name,
        kind=row.kind,
        input=kind,
        T=steps,
        calls=_mean(row.calls, images),
        parameters=row.parameters,
        macs=_mean(real, images),
        accumulates=_mean(binary, images),
        rate=rate,
        spikes=spikes,
        sops=_mean(sops, images) if isinstance(sops, Fraction) else sops / images,
        events=events,
        updates=_mean(row.updates, images),
        emitted=_mean(row.emitted, images),
        elementwise=_mean(row.work.get("elementwise", 0), images),
        norm=_mean(row.work.get("norm", 0), images),
        pool=_mean(row.work.get("pool", 0), images),
        resample=_mean(row.work.get("resample", 0), images),
        executed=_mean(row.executed, images),
        note="; ".join(notes),
        effective_macs=_mean(row.effective, images),
        inside=_mean(row.inside, images),
        accesses=_accesses(row, images, real / images, binary / images, spikes_in, sent, spiking),
    )


def _accesses(
    row: _Row, images: int, macs: float, accumulates: float, spikes: Number, sent: Number, spiking: bool
) -> tuple[memory.Accesses, ...]:
    """What the row does in memories for one image."""
    found: list[memory.Accesses] = []
    if row.product:
        found.extend(
            memory.product(
                macs,
                accumulates,
                spikes,
                row.given / images,
                row.made / images,
                row.biased / images,
                row.reach,
                row.kernels / images,
                row.largest,
                written=not spiking,
            )
        )
    if row.updates:
        size = row.largest.get("potential_bytes", 0)
        found.extend(memory.neuron(row.updates / images, sent, row.leaks, size))
    if row.work:
        counts = {k: row.work.get(k, 0) / images for k in ("norm", "elementwise", "pool", "resample")}
        size = row.largest.get("input_bytes", 0)
        found.append(memory.other(**counts, foldable=row.folds, parameters=row.parameters, size=size))
    return tuple(found)


def _levels(levels: set[float]) -> str:
    return ", ".join(f"{v:g}" for v in sorted(levels)[:6]) + (", …" if len(levels) > 6 else "")


def _parameters(recorder: _Recorder) -> None:
    """Give every parameter to the row of the module that owns it, adding rows for modules that did no
    work."""
    seen: set[int] = set()
    for module, path in recorder.paths.items():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(id(p) for p in own)
        if not own:
            continue
        place = _Place(path, module, 1, "", 0, 0)
        recorder._row(place).parameters += sum(p.numel() for p in own)


@contextlib.contextmanager
def _quiet(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, neurons at rest; modes and neurons as they were afterwards."""
    modes = {m: m.training for m in model.modules()}
    states = {m: (dict(m._buffers), dict(m.__dict__)) for m in model.modules() if is_neuron(m)}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused layer would hide the products inside
    model.eval()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if (
                "torch._dynamo" in sys.modules
            ):  # compiled functions hide their operations: run them as written
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, (buffers, attributes) in states.items():
            module.__dict__.clear()  # what the forward added goes too
            module.__dict__.update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)
        for module, training in modes.items():
            module.training = training


def _rest(model: nn.Module) -> None:
    """Put the neurons of this network, and of no other, to rest."""
    for module in model.modules():
        if not is_neuron(module):
            continue
        for method in ("reset_mem", "reset"):
            reset = getattr(module, method, None)
            if callable(reset):
                reset()
                break


def _forward(recorder: _Recorder, model: nn.Module, images: Sequence[Tensor]) -> None:
    for image in images:
        _rest(model)
        recorder.batch = image.shape[0]
        with recorder.watching():
            model(image)


def _forward_shapes(recorder: _Recorder, model: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> None:
    """The same, with tensors that have shapes and no values: no arithmetic is done."""
    state = {
        k: v.detach().to(device="meta", copy=True)
        for k, v in [*model.named_parameters(), *model.named_buffers()]
    }
    for name, tensor in state.items():
        recorder.weights.setdefault(_storage(tensor), name)
    image = torch.empty(*shape, dtype=dtype, device="meta")
    recorder.batch = shape[0]
    with recorder.watching():
        torch.func.functional_call(model, state, (image,))


def _forward_fakes(recorder: _Recorder, model: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> None:
    """The same for networks that make constants on a device as they go; slower."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        state: dict[str, Tensor] = {
            k: fake.from_tensor(v) for k, v in [*model.named_parameters(), *model.named_buffers()]
        }
        for name, tensor in state.items():
            recorder.weights.setdefault(_storage(tensor), name)
        device = next((t.device for t in model.parameters()), torch.device("cpu"))
        image = torch.empty(*shape, dtype=dtype, device=device)
        recorder.batch = shape[0]
        with recorder.watching():
            torch.func.functional_call(model, state, (image,))


def _on_shapes(model: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> _Recorder:
    _rest(model)
    try:
        recorder = _Recorder(model, look=False)
        _forward_shapes(recorder, model, shape, dtype)
    except Exception:
        _rest(model)
        recorder = _Recorder(model, look=False)
        _forward_fakes(recorder, model, shape, dtype)
    return recorder


def measure_cost(
    model: nn.Module,
    size: int | tuple[int, int] = 256,
    convention: str | Path | Convention = DEFAULT,
    images: Tensor | str | Path | Iterable[Tensor] | None = None,
    *,
    limit: int | None = None,
    shapes_only: bool = False,
    rates: Cost | None = None,
) -> Cost:
    """What one forward of a network costs for one image.

    Any `nn.Module` that takes one tensor will do; lazy layers get their shapes from the first image. The network is run
    once an image in evaluation mode; a spiking one starts each image at rest and is left as it was.

    Args:
        model: The network, on any device.
        size: Height and width of the image in pixels, one number for both; without effect where `images` is a
            tensor.
        convention: A name (`benchmark.cost.CONVENTIONS`), a YAML file or a `Convention`.
        images: What the spike rates are measured on, the mean over all of them: a folder or a file of
            pictures (centre crops of `size`), one tensor (N, ...) whose first dimension counts images, or
            several tensors (1, ...). None is one photograph that comes with scikit-image.
        limit: At most so many images of a folder.
        shapes_only: Do no arithmetic: products are counted, but not what flows into them. For networks
            without spikes, and for large sizes.
        rates: With `shapes_only`, a cost of the same network at another size; which layers are driven by
            spikes, and at what rate, is taken from it, layer by layer.

    Returns:
        The counts; `cost.under(other)` shows them under another convention.

    Raises:
        UserError: unknown convention, unreadable images, or a network that does not take such an image (with what it
            raised, and where).
        OutOfMemory: the forward does not fit into memory.
        WorkError: the network cannot run on shapes alone.
    """
    from benchmark.cost.conventions import convention as resolve

    chosen = resolve(convention)
    if not isinstance(model, nn.Module):
        raise UserError(f"measure_cost: the model must be a torch.nn.Module, not {type(model).__name__}")
    model = getattr(model, "_orig_mod", model)  # of a compiled network, what was compiled
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise UserError(f"measure_cost: size must be at least 1, not {size}")
    first = next(model.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    dtype = first.dtype if first is not None and first.is_floating_point() else torch.float32
    started = time.perf_counter()
    if shapes_only:
        shape = tuple(images.shape) if isinstance(images, Tensor) else (1, 3, height, width)
        shape, count, source = (1, *shape[1:]), 1, "shapes only"
        with _quiet(model):
            try:
                _initialise(model, torch.zeros(shape, dtype=dtype, device=device))
                recorder = _on_shapes(model, shape, dtype)
            except (Exception, SystemExit) as error:
                raise WorkError(
                    f"measure_cost: {type(model).__name__} cannot run on shapes alone "
                    f"({fault_in_words(error)}); leave shapes_only out"
                ) from error
    else:
        inputs, source = pictures(images, (height, width), limit)
        inputs = [x.to(device=device, dtype=dtype if x.is_floating_point() else None) for x in inputs]
        count, shape = len(inputs), tuple(inputs[0].shape)
        with _quiet(model):
            try:
                _initialise(model, inputs[0])
                recorder = _Recorder(model, look=True)
                _forward(recorder, model, inputs)
            except (UserError, WorkError):
                raise
            except (Exception, SystemExit) as error:  # a user's network raises what it likes
                if out_of_memory(error):
                    raise OutOfMemory(f"measure_cost: out of memory at {shape}: {_line(error)}") from error
                raise UserError(
                    f"measure_cost: {type(model).__name__} does not take an input of shape {shape}: "
                    f"{fault_in_words(error)}"
                ) from error
    seconds = time.perf_counter() - started
    _parameters(recorder)
    return _cost(recorder, chosen, shape, count, source, seconds, rates)


def _initialise(model: nn.Module, image: Tensor) -> None:
    """Give lazy layers their shapes, as their first forward does."""
    if any(is_lazy(t) for t in [*model.parameters(), *model.buffers()]):
        model(image)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _cost(
    recorder: _Recorder,
    chosen: Convention,
    shape: Sequence[int],
    count: int,
    source: str,
    seconds: float,
    rates: Cost | None,
) -> Cost:
    spiking = any(r.binary or r.updates for r in recorder.rows.values()) or bool(rates and rates.spiking)
    declared = _declared_steps(recorder.model)
    known = {row.name: row for row in rates.rows} if rates is not None else {}
    rows = []
    for row in recorder.rows.values():
        steps = _time_steps(row, count, declared) if spiking and (row.product or row.updates) else 1
        rows.append(_layer(row, count, steps, recorder.look, known.get(row.name), spiking))
    uncounted = tuple(
        Uncounted(n, c // count or 1, e // count, w) for n, (c, e, w) in recorder.unknown.items()
    )
    notes = []
    unseen = sum(row.macs for row in rows if row.input == "unseen")
    if unseen:
        notes.append("shapes only: every product counts as real-valued, spikes were not looked for")
    total = sum(p.numel() for p in recorder.model.parameters())
    counted = sum(row.parameters for row in rows)
    if total != counted:
        raise WorkError(f"parameters do not add up: {counted} in the layers, {total} in the network")
    return Cost(
        convention=chosen,
        rows=tuple(rows),
        thop=tuple(thop_rules.emulate(recorder.model, recorder.calls, count, recorder.slopes)),
        uncounted=uncounted,
        size=tuple(shape[1:]),
        images=source,
        notes=tuple(notes),
        time_steps=declared,
        seconds=seconds,
        spiking=spiking,
    )
