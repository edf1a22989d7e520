"""Limits of memory that a container, a service, a job or a shell sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import cgroup

MIB = 1 << 20


def _group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "own")
    monkeypatch.setattr(cgroup, "_MOUNTED", tmp_path / "mounted")
    return tmp_path


def test_no_limit_is_none(system: Path) -> None:
    assert cgroup.free_memory() is None and cgroup.kills() is None
    (system / "own").write_text("0::/user.slice\n")
    _group(system / "mounted" / "user.slice", memory__max="max", memory__current="5")
    assert cgroup.free_memory() is None


def test_the_group_of_a_service_is_not_the_root_of_all(system: Path) -> None:
    """As `systemd-run -p MemoryMax=` makes it."""
    (system / "own").write_text("0::/system.slice/run-7.service\n")
    service = system / "mounted" / "system.slice" / "run-7.service"
    _group(
        service,
        memory__max=str(500 * MIB),
        memory__current=str(200 * MIB),
        memory__events="low 0\noom_kill 3",
    )
    _group(service.parent, memory__max="max", memory__current=str(900 * MIB))
    assert cgroup.free_memory() == 300 * MIB and cgroup.kills() == 3
    (service / "memory.stat").write_text(f"anon 1\ninactive_file {50 * MIB}\n")
    assert cgroup.free_memory() == 350 * MIB  # the page cache is given back
    _group(service.parent, memory__max=str(950 * MIB))
    assert cgroup.free_memory() == 50 * MIB  # the tightest of all above


def test_a_container_sees_its_own_group_as_the_root(system: Path) -> None:
    (system / "own").write_text("4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n")
    root = system / "mounted" / "memory"
    _group(root, **{"memory__limit_in_bytes": str(400 * MIB), "memory__usage_in_bytes": str(100 * MIB)})
    _group(root, memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2")
    assert cgroup.free_memory() == 300 * MIB and cgroup.kills() == 2


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v is Linux's")
def test_a_shells_limit_bounds_what_is_free() -> None:
    code = (
        "import resource, torch; from benchmark.restoration import memory; before = memory.free_memory(); "
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize(); "
        "resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, resource.RLIM_INFINITY)); "
        "after = memory.free_memory(); assert 0 < after <= 2**28 < before, (before, after)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_cores_are_the_share_of_time_that_a_container_has(system: Path) -> None:
    bound = cgroup.cores()
    assert bound == len(os.sched_getaffinity(0))
    (system / "own").write_text("0::/pod/box\n")
    pod = system / "mounted" / "pod"
    _group(pod / "box", cpu__max="max 100000")
    assert cgroup.cores() == bound
    _group(pod, cpu__max="100000 100000")
    assert cgroup.cores() == 1
    _group(pod / "box", cpu__max="10000 100000")
    assert cgroup.cores() == 1  # a tenth of a core is one thread all the same
    _group(pod, cpu__max="9900000 100000")
    _group(pod / "box", cpu__max="9900000 100000")
    assert cgroup.cores() == bound


def test_cores_of_a_container_of_the_first_version(system: Path) -> None:
    (system / "own").write_text("3:cpu,cpuacct:/docker/abc\n")
    root = system / "mounted" / "cpu"
    _group(root, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cgroup.cores() == len(os.sched_getaffinity(0))
    _group(root, cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert cgroup.cores() == 1
