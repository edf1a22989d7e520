"""`derain cost` on networks of the user's: whatever their own code raises is one line with the place, or they work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmark.cli import main

NETWORKS = """
import sys
from torch import nn
import torch

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3, padding=1)
    def forward(self, x):
        return self.c(x)

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.n = nn.LazyConv2d(4, 3, padding=1), nn.LazyBatchNorm2d()
    def forward(self, x):
        return self.n(self.c(x))

class Asserts(Net):
    def forward(self, x):
        assert x.shape[-1] % 100 == 0, "a multiple of 100"

class Bare(Net):
    def forward(self, x):
        assert False

class Key(Net):
    def forward(self, x):
        return {}["a"]

class Leaves(Net):
    def forward(self, x):
        sys.exit("no licence")

class Endless(Net):
    def forward(self, x):
        return self.forward(x)

class Grey(Net):
    def forward(self, x):
        return self.c(x[:, :1])

class Two(Net):
    def forward(self, x, mask):
        return x

class Huge(Net):
    def forward(self, x):
        return torch.empty(2**50) + x

class Wants(Net):
    def __init__(self, dim):
        super().__init__()

class Broken(Net):
    def __init__(self):
        raise KeyError("depth")

class Quits(Net):
    def __init__(self):
        sys.exit(3)

def make():
    return Net()

def nothing():
    return None

net, number = Net(), 3
"""


@pytest.fixture
def cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "my_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)

    def run(target: str) -> tuple[int, str, str]:
        status = main(["cost", "--model", target, "--size", "16", "--convention", "full"])
        out, err = capsys.readouterr()
        return status, out, err

    yield run
    sys.modules.pop("my_networks", None)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Asserts", r"AssertionError: a multiple of 100 (my_networks.py, line 22)"),
        ("Bare", "AssertionError (my_networks.py, line 26)"),
        ("Key", "KeyError: 'a' (my_networks.py, line 30)"),
        ("Leaves", "SystemExit: no licence (my_networks.py, line 34)"),
        ("Endless", "RecursionError: maximum recursion depth"),
        ("Grey", "does not take an input of shape (1, 3, 16, 16): RuntimeError: Given groups=1"),
        ("Two", "missing 1 required positional argument: 'mask'"),
        ("Wants", "missing 1 required positional argument: 'dim'; give module:function that makes it"),
        ("Broken", "making it failed: KeyError: 'depth'"),
        ("Quits", "making it failed: SystemExit: 3"),
        ("nothing", "this is a NoneType, not a torch.nn.Module"),
        ("number", "this is a int, nothing that makes a torch.nn.Module"),
        ("Nett", "did you mean"),
        ("", "my_networks"),
    ],
)
@pytest.mark.parametrize("source", ["my_networks", "./my_networks.py"])
def test_what_it_raises_is_one_line(cost, source: str, name: str, told: str) -> None:
    status, out, err = cost(f"{source}:{name}")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith("derain: ") and told in err


def test_memory_is_failed_work(cost) -> None:
    status, _, err = cost("my_networks:Huge")
    assert status == 1 and err.count("\n") == 1 and "out of memory at (1, 3, 16, 16)" in err


@pytest.mark.parametrize(
    "target", ["my_networks:Net", "my_networks.py:make", "./my_networks.py:net", "{}:Net"]
)
def test_these_work(cost, tmp_path: Path, target: str) -> None:
    status, out, _ = cost(target.format(tmp_path / "my_networks.py"))
    assert status == 0 and "112" in out


def test_lazy_layers_get_their_shapes(cost) -> None:
    status, out, _ = cost("my_networks:Lazy")
    assert status == 0 and "120" in out


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("my_networks.py", "say which of its networks: my_networks.py:Class"),
        ("./none.py:Net", "no such file"),
        ("no_such_module_at_all:Net", "no such module"),
        (".relative:Net", "no such module"),
        (":Net", "no such module"),
        ("broken.py:Net", "importing it failed: SyntaxError"),
        ("broken:Net", "importing it failed: SyntaxError"),
        (
            "needs.py:Net",
            "importing it failed: ModuleNotFoundError: No module named 'not_installed_here' (needs.py, line 1)",
        ),
        (
            "needs:Net",
            "importing it failed: ModuleNotFoundError: No module named 'not_installed_here' (needs.py, line 1)",
        ),
        ("exits.py:Net", "importing it failed: SystemExit: 4 (exits.py, line 1)"),
    ],
)
def test_files_and_modules_that_cannot_be_imported(cost, tmp_path: Path, target: str, told: str) -> None:
    (tmp_path / "broken.py").write_text("class Net(:\n")
    (tmp_path / "needs.py").write_text("import not_installed_here\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(4)\n")
    status, out, err = cost(target)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and told in err


def test_a_file_named_like_a_part_of_the_suite_takes_nobodys_place(cost, tmp_path: Path) -> None:
    import esdnet

    (tmp_path / "esdnet.py").write_text(NETWORKS)
    status, out, _ = cost("./esdnet.py:Net")
    assert status == 0 and "112" in out
    assert sys.modules["esdnet"] is esdnet
