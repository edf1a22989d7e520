"""The harness: fake cases of known times and results, what is written, and what it says where nothing is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.bench import case as cases_module
from benchmark.bench import measure as measuring
from benchmark.bench import results
from benchmark.bench.case import Body, Case, NotMeasured, Peer, Setting
from benchmark.bench.measure import measure
from benchmark.errors import UserError


class Clock:
    """A clock that calls of the fake sides move on."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, []
        self.used = 0.0

    def takes(self, name: str, seconds: float, result: object = 1.0) -> Body:
        def call() -> object:
            self.now += seconds
            self.used += seconds / 2 if name == "ours" else seconds
            self.calls.append(name)
            return result

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    sides = {
        "ours": lambda setting: fake.takes("ours", 0.25),
        "slower": lambda setting: fake.takes("slower", 1.0, 1.0 + 1e-7),
        "wrong": lambda setting: fake.takes("wrong", 0.5, 2.0),
        "absent": _absent,
        "broken": _broken,
    }
    monkeypatch.setattr(measuring, "load", sides.__getitem__)
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: fake.now)
    monkeypatch.setattr(measuring.time, "process_time", lambda: fake.used)
    return fake


def _absent(setting: Setting) -> Body:
    raise NotMeasured("its back-end is not there")


def _broken(setting: Setting) -> Body:
    raise RuntimeError("no kernel\nmore")


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("cpu", 1, tmp_path)


def test_the_ratio_is_the_peers_time_for_the_same_work(clock: Clock, setting: Setting) -> None:
    peers = (Peer("slower", "slower", asked=3), Peer("wrong", "wrong", asked=3, agreement=1e-6))
    first, second = measure(Case("fake/speed", "", "ours", peers), setting, rounds=3, least=0.1)
    assert first["ratio"]["median"] == pytest.approx(4) and first["reached"] is True
    assert second["ratio"]["median"] == pytest.approx(2) and second["reached"] is False
    assert second["difference"] == pytest.approx(1) and "differ" in results.reached(second)
    assert first["processor_ratio"]["median"] == pytest.approx(8) and results.processor_ratio(first) == "8×"
    assert first["rounds"] == 3 and len(first["ratio"]["each"]) == 3


def test_work_is_taken_into_account(clock: Clock, setting: Setting) -> None:
    peer = Peer("slower", "slower", asked=10, work=2)
    (row,) = measure(
        Case("fake/rate", "", "ours", (peer,), unit="crops/s", work=8), setting, rounds=2, least=0.1
    )
    assert row["ratio"]["median"] == pytest.approx(16)  # 32 a second beside 2
    assert results.amount(row, "ours") == "32 crops/s" and results.amount(row, "theirs") == "2 crops/s"


def test_sides_alternate_and_every_second_round_is_reversed(clock: Clock, setting: Setting) -> None:
    case = Case("fake/order", "", "ours", (Peer("slower", "slower"),))
    measure(case, setting, rounds=2, least=0.1)
    assert clock.calls == ["ours"] * 2 + ["slower"] * 2 + ["ours", "slower", "slower", "ours"]


def test_quick_calls_are_repeated(clock: Clock, setting: Setting) -> None:
    measure(Case("fake/quick", "", "ours"), setting, rounds=2, least=1.0)
    assert clock.calls == ["ours"] * (2 + 2 * 4)


def test_a_limit_in_seconds(clock: Clock, setting: Setting) -> None:
    (row,) = measure(Case("fake/start", "", "ours", limit=0.2), setting, rounds=2, least=0.1)
    assert row["reached"] is False and results.asked(row) == "≤ 0.2 s" and row["peer"] is None


def test_what_cannot_be_measured_says_why(clock: Clock, setting: Setting) -> None:
    peers = (
        Peer("a", "slower", needs=("no_such_package",)),
        Peer("b", "absent"),
        Peer("c", "broken"),
        Peer("d", "slower"),
    )
    rows = measure(Case("fake/peers", "", "ours", peers), setting, rounds=2, least=0.1)
    assert "pip install no_such_package" in rows[0]["reason"]
    assert rows[1]["reason"] == "its back-end is not there"
    assert rows[2]["reason"] == "failed: no kernel"
    assert rows[3]["reason"] is None and rows[3]["ratio"] is not None
    assert all(results.reached(r).startswith("not measured") for r in rows[:3])


def test_a_missing_spikingjelly_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases_module.importlib.util, "find_spec", lambda name: None)
    reason = measuring.why_not(Case("fake/x", "", "ours"), ("spikingjelly",))
    assert reason is not None and "pip install spikingjelly" in reason


def test_gpu_cases_are_empty_without_one(monkeypatch: pytest.MonkeyPatch, setting: Setting) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (row,) = measure(Case("fake/gpu", "", "ours", (Peer("p", "p", 1),), device="cuda"), setting)
    assert row["reason"] == "no GPU on this machine" and row["ours"] is None and row["asked"] == 1


def test_slow_cases_wait_to_be_asked_for(setting: Setting) -> None:
    (row,) = measure(Case("fake/slow", "", "ours", slow=True), setting)
    assert "--slow" in row["reason"]


def test_a_slow_case_is_called_once(clock: Clock, setting: Setting) -> None:
    peers = (Peer("slower", "slower", asked=2, agreement=1e-6),)
    (row,) = measure(Case("fake/slow", "", "ours", peers, warmup=1, slow=True), setting, slow=True)
    assert clock.calls == ["ours", "slower"]
    assert row["rounds"] == 1 and row["reached"] and row["ratio"]["median"] == pytest.approx(4)
    assert row["processor_ratio"]["median"] == pytest.approx(8)


def test_memory_is_ours_over_theirs(clock: Clock, setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "peak_memory", lambda side, setting: {"ours": 200, "slower": 800}[side])
    case = Case("fake/memory", "", "ours", (Peer("p", "slower"),), memory=0.2)
    _, row = measure(case, setting, rounds=2, least=0.1)
    assert row["quantity"] == "memory" and row["ratio"]["median"] == 0.25 and row["reached"] is False
    assert results.asked(row) == "≤ 0.2×"


def test_results_are_merged_by_case_and_explain_themselves(
    clock: Clock, setting: Setting, tmp_path: Path
) -> None:
    case = Case("fake/one", "one thing", "ours", (Peer("slower", "slower", asked=9),))
    taken = {"date": "2030-01-02T00:00:00+00:00", "commit": "abc", "threads": 1}
    rows = [{**r, "taken": taken} for r in measure(case, setting, rounds=2, least=0.1)]
    rows[0]["profile"] = "profiles/x.txt"
    other = {**rows[0], "case": "fake/two", "reason": "no GPU on this machine"}
    merged = results.merge([{**rows[0], "rounds": 7}, other], rows, ["fake/one", "fake/two"])
    assert [(r["case"], r["rounds"]) for r in merged] == [("fake/one", 2), ("fake/two", 2)]
    provenance = {
        "command": "derain bench",
        "commit": "abc",
        "machine": {"processor": "P", "cores": 2, "memory_gib": 4.0},
        "versions": {"torch": "2"},
        "date": "2030-01-02",
        "threads": 1,
    }
    json_path, markdown_path = results.save(tmp_path, "p-2-cores", merged, provenance)
    data = results.read(json_path)
    assert (
        data is not None
        and data["format"] == results.FORMAT
        and data["rows"] == json.loads(json.dumps(merged))
    )
    text = markdown_path.read_text()
    assert (
        "| fake/one | slower | 250 ms | 1 s | 4× (4 to 4) | 8× | ≥ 9× | no ([profile](profiles/x.txt)) |"
        in text
    )
    assert "not measured: no GPU on this machine" in text and "2030-01-02 at abc" in text


def test_a_foreign_results_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="format 1"):
        results.read(tmp_path / "m.json")
    assert results.read(tmp_path / "none.json") is None
