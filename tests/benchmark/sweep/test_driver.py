"""What the driver decides, on an executor that does nothing but what it is told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import tables
from benchmark.errors import Interrupted, UserError
from benchmark.files import storage_time
from benchmark.run import ends
from benchmark.run.claims import Claim, Holder, Owner, holder
from benchmark.run.ends import End, end_of
from benchmark.run.records import FAILURE, read_record, write_record
from benchmark.run.states import State, failure_digest, retried, state_of
from benchmark.sweep import driver as driving
from benchmark.sweep.driver import drive
from benchmark.sweep.executors import Job
from benchmark.sweep.plan import Plan, Planned


def done(run: Planned) -> End:
    write_record(run.folder, {"identity": run.identity, "name": run.name})
    return End("failed", "")


def failing(state: str) -> Callable[[Planned], End]:
    def fail(run: Planned) -> End:
        write_record(run.folder, {"state": state, "reason": "so", "traceback": ["a", "b"]}, FAILURE)
        return End("failed", "")

    return fail


@dataclass
class Told:
    """A job that ends as it was told, at the next look."""

    run: Planned
    how: Callable[[Planned], End | None]
    stopped: bool = False

    def ended(self) -> End | None:
        if self.stopped:
            return failing("interrupted")(self.run)
        return self.how(self.run)

    def holder(self) -> Holder | None:
        return holder(self.run.folder)

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.stopped = True


@dataclass
class Teller:
    """An executor whose runs end as they are told: each by what is next for it in `how`, else done."""

    how: dict[int, list[Callable[[Planned], End | None]]] = field(default_factory=dict)  # by seed
    places: int = 2
    restarts: int = 0
    where: str = ""
    started: list[int] = field(default_factory=list)
    most: int = 0
    closed: bool = False
    _now: list[Told] = field(default_factory=list)

    def start(self, run: Planned) -> Job:
        seed = run.spec.seed
        self.started.append(seed)
        told = self.how.get(seed, [])
        job = Told(run, told.pop(0) if told else done)
        self._now.append(job)
        return job

    def wait(self, jobs: Sequence[Job], seconds: float) -> None:
        self.most = max(self.most, len(jobs))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def runs(tmp_path: Path, tools: Any) -> list[Planned]:
    return [tools.planned(tmp_path, seed=seed) for seed in range(5)]


def _names(states: dict[str, State]) -> list[str]:
    return [s.name for s in states.values()]


def test_failures_do_not_stop_the_others_and_are_not_repeated_unasked(runs: list[Planned]) -> None:
    ways = {0: "failed", 1: "diverged", 2: "out of memory", 3: "interrupted"}
    first = Teller({seed: [failing(state)] for seed, state in ways.items()})
    assert _names(drive(runs, first)) == [*ways.values(), "done"]
    assert first.closed and first.most == 2
    again = Teller()
    states = drive(runs, again)
    assert again.started == [3], "what was interrupted goes on, what failed does not by itself"
    assert _names(states) == ["failed", "diverged", "out of memory", "done", "done"]
    assert states[runs[0].name].traceback == ("a", "b")
    chosen = Teller({1: [failing("diverged")]})
    assert _names(drive(runs, chosen, retry=retried("diverged,out-of-memory"))) == [
        "failed", "diverged", "done", "done", "done",
    ]  # fmt: skip
    assert chosen.started == [1, 2], "and once each"
    assert _names(drive(runs, Teller(), retry=retried("all"))) == ["done"] * 5


def test_a_rerun_counts_what_is_left(
    runs: list[Planned], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drive(runs[:3], Teller())
    monkeypatch.setattr(tables, "open_executor", lambda *given: Teller())
    assert _names(tables.do(Plan(tuple(runs)), tables.Request())) == ["done"] * 5
    said = capsys.readouterr().err
    assert said.startswith("3 of 5 runs ended earlier\n[1/2] ")
    assert "[2/2] " in said and "/5]" not in said
    assert _names(tables.do(Plan(tuple(runs)), tables.Request())) == ["done"] * 5
    assert not capsys.readouterr().err


def test_states_to_retry_are_checked() -> None:
    assert retried(None) == ()
    with pytest.raises(UserError, match="did you mean 'failed'"):
        retried("faild")
    with pytest.raises(UserError, match="goes on without being asked"):
        retried("interrupted")


def test_a_run_that_left_no_word_has_the_reason_of_its_process(runs: list[Planned]) -> None:
    said = End("out of memory", "killed by the system")
    drive(runs, Teller({0: [lambda run: said]}))
    failure = read_record(runs[0].folder, FAILURE)
    assert failure is not None and (failure["state"], failure["reason"]) == (said.state, said.reason)
    assert state_of(runs[0]) == State(said.state, said.reason)
    # also where its claim was left behind: the word came later
    Claim(runs[1].folder, owner=replace(Owner.here(), pid=2**22 + 1)).take()
    (runs[1].folder / "record.json").unlink()
    assert state_of(runs[1]).name == "interrupted"
    write_record(runs[1].folder, {"state": "out of memory", "reason": ""}, FAILURE)
    assert state_of(runs[1]).name == "out of memory"


def test_a_clock_that_goes_back_makes_no_old_reason_of_a_killed_run(runs: list[Planned]) -> None:
    """Its process was killed by today's clock; the reason that is there is of tomorrow's, from before."""
    folder = runs[0].folder
    (folder / "record.json").unlink(missing_ok=True)
    write_record(folder, {"state": "diverged", "reason": "diverged at step 3"}, FAILURE)
    tomorrow = storage_time(folder) + 86400
    os.utime(folder / FAILURE, (tomorrow, tomorrow))
    gone = replace(Owner.here(), pid=2**22 + 1)
    Claim(folder, owner=gone, failure=failure_digest(folder)).take()
    assert state_of(runs[0]) == State("interrupted", "its process is gone")
    write_record(folder, {"state": "diverged", "reason": "diverged at step 5"}, FAILURE)
    assert state_of(runs[0]) == State("diverged", "diverged at step 5")
    # claims of before did not tell what was there
    (claim,) = folder.glob("claim-*.json")
    claim.write_text(json.dumps({k: v for k, v in json.loads(claim.read_text()).items() if k != "failure"}))
    os.utime(claim, (tomorrow, tomorrow))
    assert state_of(runs[0]).name == "interrupted"


def test_what_a_signal_says_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert end_of(-signal.SIGTERM, 0).state == end_of(143, 0).state == "interrupted"
    assert end_of(-signal.SIGSEGV, 0) == End("failed", "its process was killed by SIGSEGV")
    assert end_of(0, 0).state == "failed" and end_of(75, 0).claimed
    monkeypatch.setattr(ends, "memory_kills", lambda: 7)
    assert end_of(-signal.SIGKILL, 7).state == "interrupted"
    assert end_of(-signal.SIGKILL, 6).state == "out of memory"


def test_a_run_lost_with_its_node_is_started_again_so_often(runs: list[Planned]) -> None:
    lost = End("interrupted", "node lost")
    executor = Teller(
        {0: [lambda run: lost] * 2, 1: [lambda run: lost] * 9, 2: [failing("failed")]}, restarts=2
    )
    assert _names(drive(runs, executor)) == ["done", "interrupted", "failed", "done", "done"]
    assert [executor.started.count(seed) for seed in range(3)] == [3, 3, 1]


def test_a_run_that_another_does_is_waited_for(runs: list[Planned], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "LOOK_AROUND", 0.0)
    monkeypatch.setattr(driving, "GLANCE", 0.01)
    others = {seed: Claim(runs[seed].folder).take() for seed in (0, 1, 2)}
    seen: list[str] = []

    def see(run: Planned, state: State) -> None:
        seen.append(f"{run.spec.seed} {state.name}")
        if run.spec.seed == 4 and state.name == "done":  # now the others end: one well, one badly, one dies
            done(runs[0])
            others[0].give_up(done=True)
            failing("diverged")(runs[1])
            others[1].give_up(done=False)
            path = runs[2].folder / "claim-1.json"
            path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {2**22 + 1}'))

    executor = Teller()
    assert _names(drive(runs, executor, see)) == ["done", "diverged", "done", "done", "done"]
    assert sorted(executor.started) == [2, 3, 4], "none that another did was done here"
    assert seen[:3] == ["0 running", "1 running", "2 running"]


def test_a_claim_lost_by_a_hair_is_no_failure(runs: list[Planned], monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's claim came between the driver's look and the run's own claim, and went again."""
    executor = Teller({0: [lambda run: End("interrupted", "", claimed=True)]})
    assert _names(drive(runs[:1], executor)) == ["done"]
    assert executor.started == [0, 0] and read_record(runs[0].folder, FAILURE) is None


def test_what_differs_in_the_test_alone_waits_for_the_training(tmp_path: Path, tools: Any) -> None:
    twins = [tools.planned(tmp_path, f"evaluation.tile={tile}") for tile in ("whole", "64", "80")]
    waited: list[int] = []

    def end(run: Planned) -> End | None:
        waited.append(run.spec.evaluation.overlap)
        return done(run) if len(waited) > 3 else None

    executor = Teller({0: [end]}, places=3)
    drive(twins, executor)
    assert executor.most == 2, "the first alone, then the two others"


def test_a_signal_has_everything_saved_and_says_what_is_left(runs: list[Planned]) -> None:
    def end(run: Planned) -> End | None:
        os.kill(os.getpid(), signal.SIGTERM)
        return None

    before = signal.getsignal(signal.SIGTERM)
    executor = Teller({1: [lambda run: None], 2: [end]})
    with pytest.raises(Interrupted, match="2 runs stopped, saved; 4 of 5 are left") as stopped:
        drive(runs, executor)
    assert stopped.value.status == 143
    assert [state_of(r).name for r in runs] == ["done", "interrupted", "interrupted", "waiting", "waiting"]
    assert signal.getsignal(signal.SIGTERM) is before
    assert _names(drive(runs, Teller())) == ["done"] * 5


def test_an_error_of_the_driver_leaves_nothing_running(runs: list[Planned]) -> None:
    def break_down(run: Planned, state: State) -> None:
        raise ZeroDivisionError

    executor = Teller({1: [lambda run: None]})
    with pytest.raises(ZeroDivisionError):
        drive(runs, executor, break_down)
    assert all(job.stopped for job in executor._now if job.run.spec.seed == 1) and executor.closed
