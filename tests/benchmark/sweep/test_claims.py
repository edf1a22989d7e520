"""Claims: one owner at a time, whatever dies, and whoever comes at the same moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import files
from benchmark.errors import DiskFull
from benchmark.files import clean_leftovers, storage_time, temporary_name
from benchmark.run import claims
from benchmark.run.claims import Claim, Claimed, Owner, holder, left_open


def _files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_claimed_run_is_refused_and_its_owner_named(tmp_path: Path) -> None:
    with Claim(tmp_path) as claim:
        claim.step, claim.steps = 3, 10
        assert claim.beat()
        held = holder(tmp_path)
        assert held is not None and held.owner == Owner.here() and (held.step, held.steps) == (3, 10)
        with pytest.raises(Claimed, match=rf"done by process {os.getpid()} on .* at step 3 of 10"):
            Claim(tmp_path).take()
    assert holder(tmp_path) is None
    assert _files(tmp_path) == [], "nothing is left of a claim whose run is done"


def test_a_claim_makes_its_folder_and_clears_what_a_dead_process_left(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with Claim(folder):
        assert _files(folder) == ["claim-1.json"]
        ended = subprocess.Popen([sys.executable, "-c", "pass"])
        ended.wait()
        left = temporary_name(folder)
        left = left.with_name(left.name.replace(str(os.getpid()), str(ended.pid)))
        left.write_text("half")
        os.utime(left, (1, 1))
    Claim(folder).take()
    assert _files(folder) == ["claim-1.json"], "and nothing of the dead one's"


def test_a_process_that_forgets_its_claim_ends_all_the_same(tmp_path: Path) -> None:
    code = (
        "from benchmark.run.claims import Claim; from pathlib import Path; "
        f"Claim(Path({str(tmp_path)!r})).__enter__()"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_a_claim_given_up_leaves_the_run_free_but_its_number_taken(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Claim(tmp_path):
        raise RuntimeError
    assert holder(tmp_path) is None and left_open(tmp_path) is None
    assert json.loads((tmp_path / "claim-1.json").read_text()) == {"given_up": True}
    with Claim(tmp_path) as again:
        assert again.number == 2
        assert _files(tmp_path) == ["claim-2.json"]


def test_a_dead_owner_of_this_machine_is_seen_at_once(tmp_path: Path) -> None:
    code = (
        f"from benchmark.run.claims import Claim; from pathlib import Path; Claim(Path({str(tmp_path)!r})).take()\n"
        "print('held', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(Claimed, match=f"process {other.pid} "):
        Claim(tmp_path).take()
    other.kill()
    assert _until(lambda: holder(tmp_path) is None), "a zombie is no owner"
    other.communicate()
    assert left_open(tmp_path)
    assert Claim(tmp_path).take().number == 2


def _until(true: object, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.05)
    return bool(true())  # type: ignore[operator]


def _elsewhere(folder: Path, silent: float) -> None:
    """A claim by a process of another machine that was last heard of `silent` seconds ago."""
    Claim(folder, owner=replace(Owner.here(), host="far", machine="far", pid=1)).take()
    (path,) = folder.glob("claim-*.json")
    then = storage_time(folder) - silent
    os.utime(path, (then, then))


def test_an_owner_elsewhere_is_believed_until_it_was_silent_for_long(tmp_path: Path) -> None:
    _elsewhere(tmp_path / "live", claims.PATIENCE - 30)
    with pytest.raises(Claimed, match="on far"):
        Claim(tmp_path / "live").take()
    _elsewhere(tmp_path / "dead", claims.PATIENCE + 30)
    assert left_open(tmp_path / "dead")
    assert Claim(tmp_path / "dead").take().number == 2


def test_silence_is_two_minutes_by_the_storages_clock(tmp_path: Path, monkeypatch) -> None:
    """Whatever this machine's own clock says when the claim is taken."""
    assert claims.BEAT == 1.0
    _elsewhere(tmp_path / "dead", 125)
    assert holder(tmp_path / "dead") is None
    _elsewhere(tmp_path / "live", 110)
    assert holder(tmp_path / "live") is not None and left_open(tmp_path / "live") is None
    tomorrow = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    with pytest.raises(Claimed):
        Claim(tmp_path / "live").take()
    assert holder(tmp_path / "live", storage_time(tmp_path / "live")) is not None


def test_the_storages_clock_makes_the_folder_and_leaves_nothing(tmp_path: Path) -> None:
    before = time.time()
    assert abs(storage_time(tmp_path / "new" / "folder") - before) < 60
    assert _files(tmp_path / "new" / "folder") == []


def test_what_a_claim_says_at_its_beginning(tmp_path: Path) -> None:
    Claim(tmp_path).take()
    held = holder(tmp_path)
    assert held is not None and (held.step, held.steps, held.place) == (0, 0, str(tmp_path))
    assert held.owner == Owner.here() and held.owner.host == (platform.node() or "unknown")
    assert abs(held.since - time.time()) < 60
    assert "at step" not in str(held) and "at step" not in str(claims.Holder(Owner.here()))
    assert str(claims.Holder(None)) == "another process"


def test_who_never_took_a_claim_has_none(tmp_path: Path) -> None:
    assert not Claim(tmp_path).beat()
    Claim(tmp_path).take()
    assert not Claim(tmp_path).beat(), "it is another's"


def test_a_listing_that_is_late_loses_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File servers' clients keep old listings for a while; the file itself is asked for, too."""
    claim = Claim(tmp_path).take()
    with monkeypatch.context() as patch:
        patch.setattr(claims, "_numbers", lambda folder: [])
        assert claim.beat()
    (tmp_path / "claim-1.json").unlink()
    assert not claim.beat()


def test_a_claim_seen_from_elsewhere(tmp_path: Path) -> None:
    """A copy is nobody's only where its owner is of this machine and its folder is there."""
    _elsewhere(tmp_path / "theirs", 0)
    shutil.copytree(tmp_path / "theirs", tmp_path / "mirror")
    assert holder(tmp_path / "mirror") is not None
    Claim(tmp_path / "mine").take()
    told = json.loads((tmp_path / "mine" / "claim-1.json").read_text())
    for place in ("/no/such/folder", ""):
        (tmp_path / "mine" / "claim-1.json").write_text(json.dumps({**told, "place": place}))
        assert holder(tmp_path / "mine") is not None


def test_a_process_of_another_user_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, signum: int) -> None:
        raise PermissionError

    def missing(pid: int, signum: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", refused)
    assert Owner.here().alive() is True
    assert replace(Owner.here(), began="1").alive() is False, "its number was given to another"
    assert replace(Owner.here(), machine="far").alive() is None
    monkeypatch.setattr(os, "kill", missing)
    assert Owner.here().alive() is False


def test_a_claim_is_given_up_on_a_full_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Claim(tmp_path).take()

    def full(*args: object) -> None:
        raise DiskFull("full")

    with monkeypatch.context() as patch:
        patch.setattr(claims, "write_json", full)
        claim.give_up(done=False)
    assert json.loads((tmp_path / "claim-1.json").read_text()) == {"given_up": True}
    assert holder(tmp_path) is None and left_open(tmp_path) is None


def test_a_claim_is_given_up_only_by_its_owner(tmp_path: Path) -> None:
    claim = Claim(tmp_path).take()
    (tmp_path / "claim-2.json").write_text("{}")
    claim.give_up(done=False)
    assert "owner" in json.loads((tmp_path / "claim-1.json").read_text()), (
        "it was taken over: nothing is written"
    )


def test_a_link_that_was_made_and_is_answered_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("a")
    assert claims._link(tmp_path / "a", tmp_path / "b")
    assert claims._link(tmp_path / "a", tmp_path / "b"), "a file server did it before"
    (tmp_path / "c").write_text("c")
    assert not claims._link(tmp_path / "c", tmp_path / "b")

    def refuse(number: int) -> None:
        def link(*args: object) -> None:
            raise OSError(number, "refused")

        monkeypatch.setattr(os, "link", link)

    for number in (1, 31, 38, 95):  # not permitted, too many links, not there, not supported
        refuse(number)
        target = tmp_path / str(number)
        assert claims._link(tmp_path / "a", target) and target.read_text() == "a"
        assert not claims._link(tmp_path / "a", target)
    refuse(28)
    with pytest.raises(OSError, match="refused"):
        claims._link(tmp_path / "a", tmp_path / "full")


def test_names_of_claims() -> None:
    assert [claims.claim_number(n) for n in ("claim-12.json", "claim-x.json", "claim-1.txt", "1.json")] == [
        12,
        None,
        None,
        None,
    ]


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    """Who decided on an old claim long ago fails, also when the claim it wants to make has come and gone."""
    with pytest.raises(RuntimeError), Claim(tmp_path):
        raise RuntimeError  # 1 is given up
    slow = Claim(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        link = claims._link

        def late(source: Path, target: Path) -> bool:
            patch.undo()
            for _ in range(2):  # meanwhile 2 and 3 are taken, and 2 is gone again
                with pytest.raises(RuntimeError), Claim(tmp_path):
                    raise RuntimeError
            Claim(tmp_path).take()
            return link(source, target)

        patch.setattr(claims, "_link", late)
        with pytest.raises(Claimed):
            slow.take()
    assert _files(tmp_path) == ["claim-4.json"]


def test_an_owner_that_was_taken_over_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.02)
    lost: list[bool] = []
    with Claim(tmp_path, on_loss=lambda: lost.append(True)):
        (tmp_path / "claim-2.json").write_text((tmp_path / "claim-1.json").read_text())
        assert _until(lambda: lost)
    assert (tmp_path / "claim-2.json").is_file()


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    with Claim(tmp_path):
        with pytest.raises(Claimed):
            Claim(tmp_path).take()
        assert holder(tmp_path) is not None


def test_an_unreadable_claim_counts_while_it_is_young(tmp_path: Path) -> None:
    path = tmp_path / "claim-1.json"
    path.write_text("")
    with pytest.raises(Claimed, match="another process"):
        Claim(tmp_path).take()
    os.utime(path, (1, 1))
    assert Claim(tmp_path).take().number == 2


def test_a_process_ends_when_the_one_it_works_for_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.02)
    gone = subprocess.Popen(["true"])
    orphaned: list[bool] = []
    with Claim(
        tmp_path, watch=replace(Owner.here(), pid=gone.pid), on_orphaned=lambda: orphaned.append(True)
    ):
        gone.wait()
        assert _until(lambda: orphaned)
    assert orphaned == [True], "asked once"


def _compete(folders: list[Path], barrier: object, won: object) -> None:
    for i, folder in enumerate(folders):
        barrier.wait()  # type: ignore[attr-defined]
        try:
            claim = Claim(folder).take()
        except Claimed:
            continue
        won.append((i, os.getpid()))  # type: ignore[attr-defined]
        if i % 3 == 0:
            claim.give_up(done=False)


@pytest.mark.parametrize("stale", [False, True])
def test_of_four_that_come_at_once_one_gets_it(tmp_path: Path, stale: bool) -> None:
    folders = [tmp_path / str(i) for i in range(40)]
    if stale:
        for folder in folders:
            _elsewhere(folder, claims.PATIENCE + 30)
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        barrier, won = context.Barrier(4), manager.list()
        processes = [context.Process(target=_compete, args=(folders, barrier, won)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
        winners = [i for i, _ in won]
    held = [i for i in range(40) if i % 3]
    assert sorted(i for i in winners if i % 3) == held, "each claim that is kept has one owner"
    assert set(winners) == set(range(40))


def test_the_thread_keeps_a_claim_alive_while_its_owner_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.02)
    with Claim(tmp_path) as claim:
        os.utime(tmp_path / "claim-1.json", (1, 1))
        assert _until(lambda: (tmp_path / "claim-1.json").stat().st_mtime > 1)
        claim.step = 7
        assert _until(lambda: (holder(tmp_path) or claims.Holder(None)).step == 7)


def test_a_sign_of_life_that_fails_at_first_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried, again, works = [], threading.Event(), Claim.beat

    def beat(self: Claim) -> bool:
        tried.append(1)
        if len(tried) == 1:
            raise OSError(5, "Input/output error")
        again.set()
        return works(self)

    monkeypatch.setattr(claims, "BEAT", 0.01)
    monkeypatch.setattr(Claim, "beat", beat)
    with Claim(tmp_path):
        assert again.wait(60)
    assert "could not be renewed" in capsys.readouterr().err


@pytest.mark.parametrize("then", ["goes on", "has ended", "moved"])
def test_a_suspended_owner_that_wakes_up_after_a_takeover_writes_nothing(tmp_path: Path, then: str) -> None:
    folder = tmp_path / "run"
    code = (
        "import time; from pathlib import Path; from benchmark.run import claims; claims.BEAT = 0.05\n"
        f"with claims.Claim(Path({str(folder)!r})):\n"
        "    print('held', flush=True); time.sleep(300)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    os.kill(other.pid, signal.SIGSTOP)
    if then == "moved":
        folder.rename(tmp_path / "elsewhere")
    else:
        (folder / "claim-2.json").write_text((folder / "claim-1.json").read_text())
        (folder / "claim-1.json").unlink()
    if then == "has ended":
        (folder / "claim-2.json").unlink()
    os.kill(other.pid, signal.SIGCONT)
    _, said = other.communicate(timeout=60)
    assert other.returncode == 1 and "taken this run over, or its folder was moved" in said
    left = _files(folder) if folder.exists() else []
    assert left == (["claim-2.json"] if then == "goes on" else [])


def test_who_was_stopped_for_long_looks_before_the_next_step(tmp_path: Path, monkeypatch) -> None:
    """The thread looks once a second; a step may end and save before."""
    monkeypatch.setattr(claims, "BEAT", 300.0)
    lost: list[bool] = []
    with Claim(tmp_path, on_loss=lambda: lost.append(True)) as claim:
        (tmp_path / "claim-1.json").unlink()
        claim.hold(sure=False)
        assert not lost, "it beat just now"
        now = claim._beaten
        monkeypatch.setattr(claims, "_clock", lambda: now + 0.24 * claims.PATIENCE)
        claim.hold(sure=False)
        assert not lost, "nobody has lost patience"
        monkeypatch.setattr(claims, "_clock", lambda: now + 0.26 * claims.PATIENCE)
        claim.hold(sure=False)
        assert len(lost) == 1
        monkeypatch.undo()
        claim.hold()
        assert len(lost) == 2


def test_a_sign_of_life_on_its_way_is_awaited_at_the_end(tmp_path: Path, monkeypatch) -> None:
    """Else it would be there again when the claim is gone."""
    monkeypatch.setattr(claims, "BEAT", 0.01)
    write, begun = claims.write_json, threading.Event()

    def slowly(path: Path, told: object) -> None:
        if path.name == "claim-1.json":
            begun.set()
            time.sleep(0.3)
        write(path, told)

    with Claim(tmp_path):
        monkeypatch.setattr(claims, "write_json", slowly)
        assert begun.wait(30)
    time.sleep(0.4)
    assert _files(tmp_path) == []


def test_a_folder_that_was_copied_while_its_run_lasted_is_free(tmp_path: Path) -> None:
    with Claim(tmp_path / "run"):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        assert holder(tmp_path / "copy") is None and holder(tmp_path / "run") is not None
        with Claim(tmp_path / "copy"):
            (tmp_path / "link").symlink_to(tmp_path / "run")
            with pytest.raises(Claimed):
                Claim(tmp_path / "link").take()


@pytest.mark.parametrize("readable", [True, False])
def test_a_claim_dated_tomorrow_holds_nobody_up(tmp_path: Path, readable: bool) -> None:
    _elsewhere(tmp_path, -86400)
    if not readable:
        path = tmp_path / "claim-1.json"
        then = path.stat().st_mtime
        path.write_text("")
        os.utime(path, (then, then))
    assert holder(tmp_path) is None
    assert Claim(tmp_path).take().number == 2


def test_temporary_files_of_another_machine_of_this_name_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 4_194_305)  # above any that the system gives
    theirs = [tmp_path / "of an earlier start", tmp_path / "ours"]
    for folder, boot in zip(theirs, ("another", None), strict=True):
        folder.mkdir()
        files.this_machine.cache_clear()
        files._here.cache_clear()
        with monkeypatch.context() as patch:
            if boot:
                patch.setattr(Path, "read_text", lambda path, boot=boot, **how: boot)
            temporary_name(folder).touch()
    files.this_machine.cache_clear()
    files._here.cache_clear()
    assert [clean_leftovers(folder) for folder in theirs] == [0, 1]
