"""Scaling and the price of a reproduction: points in processes of their own, tables drawn from what they measured."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.bench import memory, points, reproduction, results, scaling
from benchmark.bench.case import NotMeasured, Setting
from benchmark.bench.points import Point, measure_point
from benchmark.bench.power import Power
from esdnet import winograd

_PROVENANCE = {
    "command": "derain bench",
    "commit": "abc",
    "machine": {"processor": "P", "cores": 2, "memory_gib": 4.0},
    "versions": {},
    "date": "2030-01-02",
    "threads": 1,
}
_TAKEN = {"date": "2030-01-02", "commit": "abc", "threads": 1, "load": {"before": [0.5], "after": [9.0]}}
_SMALL = {"dim": 8, "encoder_blocks": [1, 1, 1], "bottleneck_blocks": 0, "decoder_blocks": [1, 1]}


def test_a_point_is_measured_in_its_own_process() -> None:
    point = Point("esdnet", _SMALL, batch=1, patch=32, least=2, seconds=0, details=True)
    found = measure_point(point)
    assert len(found["steps"]) == 2 and min(found["steps"]) <= found["seconds"] <= max(found["steps"])
    assert found["watts"] is None and found["macs"] > 1e6 and found["energy_uj"] > 0
    assert 0 < found["convolutions"] < 1 and 2**20 < found["peak"] < 2**31


@pytest.mark.parametrize("channels", [64, 3])  # by esdnet.winograd, where there is a compiler, and by torch
def test_a_convolution_is_all_convolution(channels: int) -> None:
    images = torch.rand(2, channels, 96, 96).contiguous(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    for call in (winograd.convolved, torch.nn.Module.__call__):
        with torch.no_grad():
            call(conv, images)
            assert points._share_of_convolutions(functools.partial(call, conv, images), "cpu") > 0.6


def test_a_point_that_fails_says_why() -> None:
    with pytest.raises(NotMeasured, match="dim"):
        measure_point(Point("esdnet", {"dim": 0}))


def test_memory_of_a_side_is_of_that_side(tmp_path: Path) -> None:
    peak = memory.peak_memory("sides.metrics:loss", Setting("cpu", 1, tmp_path))
    assert 2**20 < peak < 2**30
    with pytest.raises(NotMeasured, match="no_such"):
        memory.peak_memory("sides.metrics:no_such", Setting("cpu", 1, tmp_path))


def test_power_of_a_cpu_is_not_known() -> None:
    with Power("cpu") as power:
        pass
    assert power.watts is None


def _row(axis: str, value: int, seconds: float, macs: float, base: bool = False) -> dict[str, Any]:
    return {"axis": axis, "value": value, "seconds": seconds, "macs": macs, "base": base, "peak": 2**20 * value,
            "energy_uj": 1e3 * macs, "convolutions": 0.5, "steps": [seconds], "watts": None,
            "taken": _TAKEN}  # fmt: skip


def test_the_line_goes_through_the_base() -> None:
    rows = [_row("T", 1, 0.5, 1), _row("T", 4, 1.0, 4, base=True), _row("T", 8, 2.1, 8)]
    assert [r["line"] for r in scaling.beside_the_line(rows, "T")] == pytest.approx([2, 1, 1.05])
    said = scaling.why(rows, "T")
    assert "at 1 a step takes 2.00 of it" in said and "at 8" not in said
    assert "within 20 %" in scaling.why(rows[1:], "T")
    assert "not measured" in scaling.why(rows[:1], "T")


def test_scaling_is_drawn(tmp_path: Path) -> None:
    rows = []
    for axis, values in scaling.VALUES["cpu"].items():
        base = scaling.BASE["cpu"][axis]
        rows += [_row(axis, v, 0.1 * v, v, v == base) for v in values]
    rows[0] = {"axis": "T", "value": 1, "base": False, "reason": "out of memory", "taken": _TAKEN}
    data = {"format": results.FORMAT, "device": "cpu", "provenance": _PROVENANCE, "rows": rows}
    paths = scaling.write(tmp_path, "p", data)
    assert {p.name for p in paths} == {"scaling-p.md", "scaling-p.pdf", "scaling-p.png", "scaling-p.svg"}
    text = paths[0].read_text()
    assert "not measured: out of memory" in text and "| batch | 2 (base) | 200 ms | 1.00 | 2 MiB |" in text
    assert paths[2].stat().st_size < 2**20


def test_every_axis_has_its_base() -> None:
    for device, axes in scaling.VALUES.items():
        assert all(scaling.BASE[device][axis] in values for axis, values in axes.items())


def test_the_papers_schedule() -> None:
    assert [reproduction.steps(n) for n in reproduction.IMAGES.values()] == [150_000, 150_000, 1_000_000]
    assert reproduction.hours({"seconds": 3.6}) == pytest.approx(1300)
    assert reproduction.hours({"reason": "x"}) is None


def test_the_price_is_drawn_of_all_machines(tmp_path: Path) -> None:
    measured = {
        "seconds": 0.36,
        "steps": [0.3, 0.36, 0.4],
        "peak": 2**30,
        "processor": 0.2,
        "watts": None,
        "taken": _TAKEN,
    }
    rows = [
        {"network": "vlif", "title": "VLIF", "in_table_1": False, **measured},
        {"network": "esdnet", "title": "ESDNet", "in_table_1": True, **measured},
        {
            "network": "mprnet",
            "title": "MPRNet",
            "in_table_1": True,
            "reason": "out of memory",
            "taken": _TAKEN,
        },
    ]
    for name, watts in (("cpu", None), ("gpu", 500.0)):
        rows = [{**r, "watts": watts} if "seconds" in r else r for r in rows]
        machine = {**_PROVENANCE["machine"], "accelerator": name}  # type: ignore[dict-item]
        data = {"format": results.FORMAT, "device": "cpu", "provenance": {**_PROVENANCE, "machine": machine},
                "rows": rows}  # fmt: skip
        (tmp_path / f"reproduction-{name}.json").write_text(json.dumps(data))
    text = reproduction.write(tmp_path).read_text()
    assert "| ESDNet | 360 ms (300 ms to 400 ms) | 200 ms | 3 | 1.00 GiB | 15 | 15 | 100 | 130 |  |" in text
    assert "| 130 | 65 |" in text and "not measured: out of memory" in text
    assert text.count("Energy is left empty") == 1 and "**Table 1, 1 of its " in text
    assert "2030-01-02 at abc, 1 thread. One-minute load average 0.5 to 9: other programs" in text
    assert "| PReNet | not measured: derain bench --only reproduction/prenet |" in text
    assert "VLIF (not in Table 1)" in text
    assert (
        "holds out 5 % of the pairs, at most 100, to choose a checkpoint by: 1,275,000 steps in place of 1,300,000)"
        in text
    )
