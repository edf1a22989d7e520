"""What was counted, layer by layer, and what it comes to under a convention."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cost.conventions import DEFAULT, Convention, convention
from benchmark.cost.memory import Accesses
from benchmark.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

Number = int | float

_NOT_SHOWN = ("effective_macs", "inside", "accesses")  # in tables of layers


@dataclass(frozen=True)
class Layer:
    """The work of one layer for one image: every count covers all time steps and all calls.

    Attributes:
        name: Path of the module, with the operation where the module is not the layer itself.
        kind: The module's class, or the operation.
        input: What entered: binary, graded (several levels), real, mixed, unseen (shapes only), or - (no
            product).
        T: Time steps, from the calls, the leading dimension or what the network declares.
        calls: Times the layer ran for one image.
        parameters: Of the module itself; a shared one counts in its first place alone.
        macs: Multiply-accumulates with a real-valued (or graded) input.
        accumulates: Accumulates with a binary input, counted densely.
        rate: Share of ones in the binary input; for a graded input the share of non-zeros.
        spikes: Ones that entered.
        sops: rate x accumulates, summed over calls.
        events: The same, counting for each spike only the outputs inside the border that it reaches; equal to
            sops where there is no zero padding and the stride divides evenly. None where it was not observed.
        updates: Neurons' membranes updated, one a neuron and time step.
        emitted: Spikes that the neurons sent out.
        elementwise, norm, pool, resample: Elements, as `benchmark.cost.operators` says.
        executed: Products actually made (macs + accumulates); fewer where one computation stands for several
            steps.
        note: What a reader should know.
        effective_macs: Of the macs those whose input is not zero, inside the border; 0 where it was not observed.
        inside: Products inside the border, of macs and accumulates together; both are NeuroBench's and in no table.
        accesses: What it does in memories, see `benchmark.cost.memory`; in no table.
    """

    name: str
    kind: str
    input: str = "-"
    T: int = 1
    calls: Number = 0
    parameters: int = 0
    macs: Number = 0
    accumulates: Number = 0
    rate: float | None = None
    spikes: Number = 0
    sops: Number = 0
    events: Number | None = None
    updates: Number = 0
    emitted: Number = 0
    elementwise: Number = 0
    norm: Number = 0
    pool: Number = 0
    resample: Number = 0
    executed: Number = 0
    note: str = ""
    effective_macs: Number = 0
    inside: Number = 0
    accesses: tuple[Accesses, ...] = ()

    def counts(self) -> dict[str, Number]:
        """The work by the kinds that conventions price."""
        return {
            "mac": self.macs,
            "accumulate": self.accumulates,
            "sop": self.sops,
            "update": self.updates,
            "elementwise": self.elementwise,
            "norm": self.norm,
            "pool": self.pool,
            "resample": self.resample,
        }


@dataclass(frozen=True)
class Uncounted:
    """An operation that ran and has no rule: its work is in no column."""

    operation: str
    calls: int
    elements: int  # written by it
    where: str  # the first module that called it


@dataclass(frozen=True)
class Cost:
    """What one forward of a network costs for one image.

    The counts are those of `convention`: under `paper`, what thop would have seen; under the others,
    everything. `under` shows the same measurement under another convention without measuring again.
    """

    convention: Convention
    rows: tuple[Layer, ...]
    thop: tuple[Layer, ...] = ()
    uncounted: tuple[Uncounted, ...] = ()
    size: tuple[int, ...] = ()  # of the input, without the batch
    images: str = ""  # what the rates were measured on
    notes: tuple[str, ...] = ()
    time_steps: int | None = None
    seconds: float = 0.0  # of the counted forwards; not a latency
    spiking: bool = field(default=False)

    def under(self, given: str | Path | Convention) -> Cost:
        """The same measurement under another convention.

        Raises:
            UserError: no such convention, or it needs thop's count and shapes alone were measured without it.
        """
        return replace(self, convention=convention(given))

    @property
    def counted(self) -> tuple[Layer, ...]:
        """The rows that the convention counts."""
        return self.thop if self.convention.counter == "thop" else self.rows

    def _sum(self, column: str) -> Number:
        return sum(getattr(row, column) or 0 for row in self.counted)

    @property
    def params(self) -> int:
        """Parameters: the sum of numel over all of them, each once (under `paper`, those that thop sees)."""
        return int(self._sum("parameters"))

    @property
    def macs(self) -> Number:
        """Multiply-accumulates with a real-valued input."""
        return self._sum("macs")

    @property
    def accumulates(self) -> Number:
        """Accumulates with a binary input, counted densely over all time steps."""
        return self._sum("accumulates")

    @property
    def operations(self) -> Number:
        """MACs and dense accumulates together: what a counter says that does not look at the values."""
        return self.macs + self.accumulates

    @property
    def executed(self) -> Number:
        """Products actually made; less than `operations` where a repeated frame is computed once."""
        return self._sum("executed")

    @property
    def sops(self) -> Number:
        """Synaptic operations: accumulates x rate, layer by layer."""
        return self._sum("sops")

    @property
    def events(self) -> Number:
        """Synaptic operations with borders respected: outputs that spikes in fact reach."""
        return self._sum("events")

    @property
    def spikes(self) -> Number:
        """Spikes that enter the layers; one that feeds two layers counts in both."""
        return self._sum("spikes")

    @property
    def emitted(self) -> Number:
        """Spikes that leave the neurons."""
        return self._sum("emitted")

    @property
    def updates(self) -> Number:
        """Membranes updated, one a neuron and time step."""
        return self._sum("updates")

    @property
    def elementwise(self) -> Number:
        """Elements written by element-wise operations."""
        return self._sum("elementwise")

    @property
    def norm(self) -> Number:
        """Elements normalised."""
        return self._sum("norm")

    @property
    def pool(self) -> Number:
        """Elements read by pooling and reductions."""
        return self._sum("pool")

    @property
    def resample(self) -> Number:
        """Elements written by interpolation."""
        return self._sum("resample")

    @property
    def rate(self) -> float | None:
        """Share of ones in the binary inputs, weighted by their accumulates: sops / accumulates."""
        return self.sops / self.accumulates if self.accumulates else None

    @property
    def firing_rate(self) -> float | None:
        """Spikes sent out by the neurons for each membrane update."""
        return self.emitted / self.updates if self.updates else None

    @property
    def energy_uj(self) -> float:
        """Energy of one image in microjoules, by the convention's prices."""
        return sum(self.convention.energy_uj(row.counts(), row.accesses) for row in self.counted)

    def energy_at_uj(self, rate: float) -> float:
        """The same, were the spike rate another and every layer's in proportion; the measured one must not be 0."""
        counted = self.counted
        silent = sum(
            self.convention.energy_uj(
                {**row.counts(), "sop": 0}, tuple(a for a in row.accesses if not a.by_spikes)
            )
            for row in counted
        )
        return silent + (self.energy_uj - silent) * rate / (self.rate or 1.0)

    @property
    def energy_parts_uj(self) -> dict[str, float]:
        """The same by part: kinds of work, or what a convention with memories distinguishes."""
        sums: dict[str, float] = {}
        for row in self.counted:
            for part, energy in self.convention.parts_uj(row.counts(), row.accesses).items():
                sums[part] = sums.get(part, 0.0) + energy
        return sums

    @cached_property
    def layers(self) -> pd.DataFrame:
        """A row a layer, in the order of execution; `energy_uj` and `share` are the convention's."""
        import pandas as pd

        names = [f.name for f in fields(Layer) if f.name not in ("note", *_NOT_SHOWN)]
        total = self.energy_uj
        rows = []
        for row in self.counted:
            energy = self.convention.energy_uj(row.counts(), row.accesses)
            cells: dict[str, Any] = {n: getattr(row, n) for n in names}
            rows.append(
                {**cells, "energy_uj": energy, "share": energy / total if total else 0.0, "note": row.note}
            )
        columns = [*names, "energy_uj", "share", "note"]
        table = pd.DataFrame(rows, columns=columns)
        for column in ("rate", "events"):
            table[column] = table[column].astype(float)
        return table

    def sorted(self, by: str = "energy_uj") -> pd.DataFrame:
        """The table of layers, the largest first.

        Raises:
            UserError: no such column.
        """
        if by not in self.layers.columns:
            raise unknown("column", by, [str(c) for c in self.layers.columns])
        return self.layers.sort_values(by, ascending=False, kind="stable")

    def summary(self) -> dict[str, Any]:
        """The totals as plain data, for records, JSON and dashboards."""
        return {
            "convention": self.convention.name,
            "operations_unit": self.convention.operations,
            "size": list(self.size),
            "images": self.images,
            "params": self.params,
            "macs": self.macs,
            "accumulates": self.accumulates,
            "operations": self.operations,
            "executed": self.executed,
            "sops": self.sops,
            "events": self.events,
            "spikes": self.spikes,
            "rate": self.rate,
            "firing_rate": self.firing_rate,
            "updates": self.updates,
            "elementwise": self.elementwise,
            "norm": self.norm,
            "pool": self.pool,
            "resample": self.resample,
            "energy_uj": self.energy_uj,
            "energy_parts_uj": self.energy_parts_uj,
            "uncounted": [
                {"operation": u.operation, "calls": u.calls, "where": u.where} for u in self.uncounted
            ],
            "notes": list(self.notes),
        }

    def neurobench(self, model: nn.Module) -> dict[str, Any]:
        """The totals in NeuroBench's terms (Yik et al., Nature Communications 2025).

        Of all layers and products, while NeuroBench sees modules of a few classes: it skips transposed convolutions,
        functional calls and attention. Weights of exactly zero are not left out of the operations, as they are there.

        Args:
            model: What was measured.

        Returns:
            `footprint` in bytes of parameters and buffers; `connection_sparsity`, the share of weights (of modules with
            a `weight` of two dimensions or more) that are zero; `activation_sparsity`, the share of neurons and time
            steps without a spike, None without neurons; `synaptic_operations` of one image, inside the border:
            `Effective_MACs` and `Effective_ACs` by inputs that are not zero, `Dense` by all; `membrane_updates`.
        """
        from torch import Tensor

        tensors = [*model.parameters(), *model.buffers()]
        weights = [
            w for m in model.modules() if isinstance(w := getattr(m, "weight", None), Tensor) and w.ndim > 1
        ]
        zeros = sum(int((w == 0).sum()) for w in weights)
        return {
            "footprint": sum(t.numel() * t.element_size() for t in tensors),
            "connection_sparsity": zeros / max(1, sum(w.numel() for w in weights)),
            "activation_sparsity": None if self.firing_rate is None else 1 - self.firing_rate,
            "synaptic_operations": {
                "Effective_MACs": sum(row.effective_macs for row in self.rows),
                "Effective_ACs": sum(row.events or 0 for row in self.rows),
                "Dense": sum(row.inside for row in self.rows),
            },
            "membrane_updates": sum(row.updates for row in self.rows),
        }

    def __str__(self) -> str:
        """The totals in a line."""
        text = (
            f"{self.params / 1e6:.6g} M parameters, {self.macs / 1e9:.6g} GMAC, "
            f"{self.accumulates / 1e9:.6g} G accumulates, {self.sops / 1e9:.6g} GSOP, "
            f"{self.energy_uj / 1e3:.6g} mJ ({self.convention.name})"
        )
        return text + (
            f"; uncounted: {', '.join(u.operation for u in self.uncounted)}" if self.uncounted else ""
        )

    __repr__ = __str__


def kept_rates(path: Path) -> Cost:
    """What a kept table of layers (`Cost.layers` as CSV) says of rates: a reference for `measure_cost(rates=...)`.

    Raises:
        UserError: it is not such a table.
    """
    import csv

    texts = ("name", "kind", "input")
    names = [f.name for f in fields(Layer) if f.name not in ("note", *_NOT_SHOWN)]
    rows = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                values: dict[str, Any] = {
                    n: line[n] if n in texts else float(line[n] or "nan") for n in names
                }
                values |= {n: None for n in ("rate", "events") if values[n] != values[n]}
                rows.append(Layer(**values))
    except (KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not a table of layers as derain cost --per-layer --csv writes it"
        ) from error
    return Cost(convention(DEFAULT), tuple(rows), images=path.name, spiking=any(row.updates for row in rows))
