"""What the hypotheses of results/study/protocol.md came to: H1 to H9, by its rules, from the runs that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark import catalog
from benchmark.report.intervals import LEVEL, Estimate, holm
from benchmark.report.study import Study, shares
from benchmark.text.table import Cell, Column, Row, Table

COMPARABLE = 0.5
"""dB: an interval within ± this supports that two are comparable."""
LOST = 0.3
"""dB: what ESDNet-S may lose (H9)."""
SHARE = 1 / 8
"""Of the whole network's energy: what ESDNet-S may need (H8)."""

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decided"


def verdict(estimate: Estimate | None, p: float | None) -> str:
    """Of a claim that something is above something: by the sign of what is told from zero."""
    if estimate is None or p is None or p >= 0.05:
        return UNDECIDED
    return SUPPORTED if estimate.mean > 0 else CONTRADICTED


def comparable(interval: tuple[float, float] | None) -> str:
    """Of a claim that two are alike: whether the interval lies within ± `COMPARABLE`, or outside."""
    if interval is None:
        return UNDECIDED
    low, high = interval
    if low > -COMPARABLE and high < COMPARABLE:
        return SUPPORTED
    return CONTRADICTED if low > COMPARABLE or high < -COMPARABLE else UNDECIDED


def no_further_below(interval: tuple[float, float] | None, lost: float) -> str:
    """Of a claim that something is at most so much below: whether the interval lies above that, or below."""
    if interval is None:
        return UNDECIDED
    low, high = interval
    return SUPPORTED if low > -lost else CONTRADICTED if high < -lost else UNDECIDED


@dataclass(frozen=True)
class Claim:
    """A hypothesis of the protocol: what is above what, or alike, or at most `lost` below."""

    key: str
    words: str
    weights: Mapping[tuple[str, str], float]
    metric: str = "psnr"
    alike: bool = False
    lost: float | None = None

    @property
    def by_interval(self) -> bool:
        """Whether its interval decides, and not a p."""
        return self.alike or self.lost is not None

    def interval(self, estimate: Estimate | None, alike: int) -> tuple[float, float] | None:
        """What decides, or is shown: of one of several equalities, an interval that holds together with theirs.

        Args:
            estimate: of the difference.
            alike: how many equalities the hypothesis has.
        """
        if estimate is None or not self.alike or alike < 2:
            return None if estimate is None else estimate.interval
        half = estimate.resolution((1 - LEVEL) / alike)
        return None if half is None else (estimate.mean - half, estimate.mean + half)

    def verdict(
        self, estimate: Estimate | None, p: float | None, interval: tuple[float, float] | None
    ) -> str:
        """What it came to; `p` and `interval` are corrected for the comparisons of the hypothesis."""
        if self.alike:
            return comparable(interval)
        if self.lost is not None:
            return no_further_below(interval, self.lost)
        return verdict(estimate, p)


def claims() -> list[Claim]:
    """H1 to H7 and H9 of results/study/protocol.md: those about scores."""
    found: list[Claim] = []
    for name, entry in catalog.networks().items():
        if _claimed(entry) and entry.family != "Spiking":
            pair = {("networks", "esdnet"): 1.0, ("networks", name): -1.0}
            found.append(Claim("H1", f"ESDNet is comparable to {entry.title}", pair, alike=True))
    spiking = [n for n, e in catalog.networks().items() if _claimed(e) and e.family == "Spiking"]
    others = [n for n, e in catalog.networks().items() if _claimed(e) and e.family != "Spiking"]
    family = {("networks", n): -1 / len(spiking) for n in spiking}
    family |= {("networks", n): 1 / len(others) for n in others}
    found.append(Claim("H2", "networks that do not spike are above those that do", family))
    found += [
        Claim("H3", "VLIF is above ESDNet", _above("networks", "vlif", "esdnet")),
        Claim("H3", "SpikeRain is above ESDNet", _above("networks", "spikerain", "esdnet")),
        Claim("H4", "SRB is above SEW-ResNet", _above("table3", "SRB", "SEW-ResNet")),
        Claim("H4", "SEW-ResNet is above MS-ResNet", _above("table3", "SEW-ResNet", "MS-ResNet")),
        Claim("H4", "SRB is comparable to ANN-ResNet", _above("table3", "SRB", "ANN-ResNet"), alike=True),
        *(Claim("H5", f"T = {b} is above T = {a}", _above("table4", b, a)) for a, b in ("12", "24", "46")),
        Claim("H6", "tdBN is above BN", _above("table5", "b", "a")),
        Claim("H6", "MAU helps", _above("table5", "e", "b")),
        Claim("H6", "FRB helps", _above("table5", "d", "b")),
        *(Claim("H6", f"the whole is above ({row})", _above("table5", "f", row)) for row in "abcde"),
        Claim("H7", "1 − SSIM is above L1 in SSIM-Y", _above("loss", "1 − SSIM", "L1"), "ssim"),
        Claim("H7", "1 − SSIM is above L1 in PSNR-Y", _above("loss", "1 − SSIM", "L1")),
        Claim("H9", f"ESDNet-S loses at most {LOST} dB", _above("table3", "ESDNet-S", "SRB"), lost=LOST),
    ]
    return found


def _claimed(entry: catalog.Network) -> bool:
    return entry.is_ours() and entry.published


def _above(part: str, one: str, other: str) -> dict[tuple[str, str], float]:
    return {(part, one): 1.0, (part, other): -1.0}


def savings(study: Study) -> list[tuple[str, float | None, int]]:
    """H8: words, the share of the whole ESDNet's energy that ESDNet-S needs, of means over the seeds that both have."""
    own, whole = ("table3", "ESDNet-S"), ("table3", "SRB")
    seeds = {run["seed"] for run in study.of(*own)} & {run["seed"] for run in study.of(*whole)}
    return [
        (
            f"ESDNet-S needs at most an eighth of ESDNet's energy, {convention}",
            ratio,
            len(seeds) if ratio else 0,
        )
        for convention, ratio in shares(study, own, whole).items()
    ]


def _savings_rows(study: Study) -> list[Row]:
    rows = []
    for words, ratio, seeds in savings(study):
        met = UNDECIDED if ratio is None else SUPPORTED if ratio <= SHARE else CONTRADICTED
        said = "" if ratio is None else f" (1/{1 / ratio:.1f})"
        why = Cell(reason="of mean energies, without an interval")
        cells = {"difference": why, "p": why, "least": why, "seeds": Cell(float(seeds))}
        rows.append(Row(f"H8: {words}{said} — {met}", cells))
    return rows


def claims_table(study: Study, notes: Sequence[str] = ()) -> tuple[Table, list[str]]:
    """What each hypothesis came to, and the verdicts alone.

    Within a hypothesis p is after Holm, and the intervals of several equalities hold together (Bonferroni).
    """
    every = claims()
    found = [study.contrast(c.weights, c.metric) for c in every]
    verdicts, rows = [], []
    for key in dict.fromkeys(c.key for c in every):
        if key == "H9":
            rows += _savings_rows(study)
        own = [(c, e) for c, e in zip(every, found, strict=True) if c.key == key]
        tested = [e.bound_p for c, e in own if not c.by_interval and e is not None and e.bound_p is not None]
        corrected = iter(holm([p for p in tested if p is not None]))
        alike = sum(claim.alike and estimate is not None for claim, estimate in own)
        for claim, estimate in own:
            p, interval = None, claim.interval(estimate, alike)
            if not claim.by_interval and estimate is not None and estimate.bound_p is not None:
                p = next(corrected)
            verdicts.append(claim.verdict(estimate, p, interval))
            cells: dict[str, Cell] = {}
            if estimate is not None:
                cells["difference"] = Cell(estimate.mean, interval=interval)
                level = 1 - (1 - LEVEL) / alike if claim.alike and alike > 1 else LEVEL
                reason = (
                    f"judged by its interval of {100 * level:.3g} %"
                    if claim.by_interval
                    else estimate.withheld
                )
                least = None if p is None else estimate.resolution((1 - LEVEL) / len(tested))
                cells["p"], cells["least"] = Cell(p, reason=reason), Cell(least, reason=reason)
                cells["seeds"] = Cell(float(estimate.seeds or 0))
            rows.append(Row(f"{key}: {claim.words} — {verdicts[-1]}", cells))
    columns = (
        Column("difference", "Difference\n(dB; SSIM where named)", 3, difference=False),
        Column("p", "p (Holm)", 3, difference=False),
        Column("least", "Smallest\ntold", 3, difference=False),
        Column("seeds", "Seeds", 0, difference=False),
    )
    return Table("claims", "What the hypotheses came to", columns, rows, notes), verdicts
