"""Which tests can fail: break the modules that everything rests on, one small change at a time.

    python tests/mutants/mutants.py [MODULE …] [--each 50] [--seed 1] [--out docs/mutants.json]    # make mutants

A mutant is a copy of the repository in which one operator, constant, condition or statement of one module is another.
Its tests are run, the quick files first, until one fails (it is killed) or all pass (it survives; the line is printed).
Mutants are drawn with a seed from all that there are, so that two runs try the same ones. Those whose survival is known
to mean nothing are listed in `EQUIVALENT` with the reason. Every outcome is kept in `--journal` as soon as it is known:
a run that was cut goes on; what survived is tried again when a test has changed, everything when the module has.
Ends with status 1 where a module's share of killed ones is below --least.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BENCH = "tests/benchmark"
MODULES = {
    "benchmark/metrics/fidelity.py": [
        f"{BENCH}/metrics/test_fidelity_metrics.py",
        f"{BENCH}/run/test_evaluate.py",
        "tests/faults/test_numbers.py",
    ],
    "benchmark/cost/counter.py": [
        f"{BENCH}/cost/test_counter_closed_forms.py",
        f"{BENCH}/cost/test_counter_details.py",
        f"{BENCH}/cost/test_counter_spiking.py",
        f"{BENCH}/cost/test_cost_command.py",
        f"{BENCH}/cost/test_cost_conventions.py",
        f"{BENCH}/cost/test_memory.py",
        f"{BENCH}/cost/test_neurobench.py",
        f"{BENCH}/cost/test_users_networks.py",
    ],
    "benchmark/report/intervals.py": [
        f"{BENCH}/report/test_intervals.py",
        f"{BENCH}/report/test_comparison.py",
        f"{BENCH}/report/test_table.py",
        f"{BENCH}/report/test_ablation_tables.py",
    ],
    "benchmark/report/comparison.py": [
        f"{BENCH}/report/test_comparison.py",
        f"{BENCH}/report/test_table.py",
        f"{BENCH}/report/test_ablation_tables.py",
    ],
    "benchmark/run/claims.py": [f"{BENCH}/sweep/test_claims.py"],
    "benchmark/run/records.py": [
        "tests/faults/test_records.py",
        f"{BENCH}/sweep/test_driver.py",
    ],
}
COPIED = (
    "benchmark",
    "baselines",
    "esdnet",
    "ablations",
    "results/paper",
    "results/cost",
    "tests",
    "pyproject.toml",
)
LEFT_OUT = (
    "tests/faults/test_numbers.py::test_two_processes_average_to_what_one_does",
)  # slow, and of other modules
# what tests import and mutants cannot change; a fork has it already
PRELOADED = (
    "hypothesis",
    "numpy",
    "omegaconf",
    "orjson",
    "pytest",
    "pytorch_lightning",
    "torch",
    "torchmetrics",
)

# (module, the changed line) -> why no test can tell it from the original
_COUNTER = "benchmark/cost/counter.py"
_CLAIMS, _RECORDS = "benchmark/run/claims.py", "benchmark/run/records.py"
_METRICS = "benchmark/metrics/fidelity.py"
_COMPARISON, _INTERVALS = "benchmark/report/comparison.py", "benchmark/report/intervals.py"
EQUIVALENT: dict[tuple[str, str], str] = {
    (
        _METRICS,
        "weights = (ctypes.c_double * (WINDOW * 2 + 1))(*_weights()[:WINDOW // 2 + 1])",
    ): "a longer array with the same beginning, which is what is read",
    (
        _METRICS,
        "if image.device.type != 'mps':",
    ): "no machine of the tests has MPS; on a CPU .cpu() does nothing",
    (
        _CLAIMS,
        "print('derain: another process has taken this run over, or its folder was moved; ended without saving', "
        "file=sys.stderr, flush=False)",
    ): "standard error is written line by line in any case",
    (
        _RECORDS,
        "if abs(true - told) >= _ROUNDING * max(1.0, abs(told)):",
    ): "differs where they are apart by the very limit",
    (
        _METRICS,
        "return torch.stack([_mean_similarity(one, other) for one, other in zip(a, b, strict=False)])",
    ): "shapes were compared before",
    (_INTERVALS, "@dataclass(frozen=False)"): "nothing sets its fields",
    (_METRICS, "return (0.01, 1.0)"): "the least value is only compared with -1",
    (
        _COMPARISON,
        "weights: Array = field(default_factory=lambda: np.zeros(1))",
    ): "of no networks, where nothing is weighed",
    (_COMPARISON, "left_out: int = 1"): "of no networks, whose column is not looked at",
    (
        _INTERVALS,
        "reached = self.bound_half_width(1 + np.exp(middle), np.exp(middle)) >= np.abs(self.mean)",
    ): "the level is not looked at where what is outside is given",
    (_INTERVALS, "adjusted = [1.11] * len(ps)"): "each is written over",
    (
        _INTERVALS,
        "better = sum((means[o] >= means[name] for o in apart))",
    ): "those told apart have unlike means",
    (_COUNTER, "elements: int = 1"): "a rate that the elements do not give is taken from the sops",
    (_COUNTER, "silent_elements: int = 1"): "the same",
    (_COUNTER, "reach: tuple[int, int] = (0, 1)"): "of rows without products, where nothing is reached",
    (
        _COUNTER,
        "self.largest[memory] = max(self.largest.get(memory, 1), WORD * words)",
    ): "no product asks for less than a word",
    (_COUNTER, "proved: bool | None = False"): "what comparisons made is looked through then, and is 0 and 1",
    (
        _COUNTER,
        "elif name in KEEPING or 'max_pool' in name or getattr(func, 'is_view', True):",
    ): "every operator of this torch says whether it is a view",
    (
        _COUNTER,
        "steps = (-(-k // s) for k, s in zip(shape.kernel, shape.stride, strict=False))",
    ): "a convolution has as many strides as axes",
    (
        _COUNTER,
        "place = _Place(path, module, 2, '', 0, 0)",
    ): "of layers that did nothing, whose repetitions are not looked at",
    (_CLAIMS, "@dataclass(frozen=False)"): "nothing sets its fields",
    (
        _CLAIMS,
        "return abs(now - beaten) <= PATIENCE",
    ): "differs where the silence is the very limit",
    (
        _CLAIMS,
        "if (sure or _clock() - self._beaten >= PATIENCE / 4) and (not self._mine()):",
    ): "differs where the silence is the very limit",
    (
        _CLAIMS,
        "_path(self.folder, lower).unlink(missing_ok=False)",
    ): "who has the highest number alone clears the lower ones",
    (_COUNTER, "self.batch = 2"): "set before every forward",
    (
        _COUNTER,
        "return max(1, lead * self.batch) if lead % self.batch == 0 else 1",
    ): "pictures go through one by one",
    (
        _COUNTER,
        "if not done or classify(func) == 'unknown':",
    ): "takes apart what has a rule as well; its pieces come to the same",
}

_COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A changed module: its whole source, and the line that differs."""

    module: str
    line: int
    before: str
    after: str
    source: str

    @property
    def means_nothing(self) -> bool:
        """Whether it is listed as one that no test can tell from the original."""
        return (self.module, self.after) in EQUIVALENT

    @property
    def key(self) -> str:
        """Tells it from the other mutants of its line."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]


def _changes(node: ast.AST) -> Iterator[ast.AST | None]:
    """What a node may become; None: a statement that is left out."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        new = copy.deepcopy(node)
        new.ops = [_COMPARE[type(node.ops[0])]()]
        yield new
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        new_op = copy.deepcopy(node)
        new_op.op = _ARITHMETIC[type(node.op)]()
        yield new_op
    elif isinstance(node, ast.BoolOp):
        new_bool = copy.deepcopy(node)
        new_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield new_bool
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int):
            yield ast.Constant(node.value + 1)
        elif isinstance(node.value, float):
            yield ast.Constant(node.value * 1.1 + 0.01)
    elif isinstance(node, ast.IfExp):
        swapped = copy.deepcopy(node)
        swapped.body, swapped.orelse = swapped.orelse, swapped.body
        yield swapped
    elif isinstance(node, (ast.Raise, ast.AugAssign, ast.Continue, ast.Break)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield None


class _Replace(ast.NodeTransformer):
    def __init__(self, position: int, new: ast.AST | None) -> None:
        self.position, self.new, self.seen = position, new, -1

    def visit(self, node: ast.AST) -> ast.AST:
        self.seen += 1
        if self.seen == self.position:
            return ast.copy_location(self.new or ast.Pass(), node)
        return self.generic_visit(node)


def _skipped(tree: ast.Module) -> set[int]:
    """Nodes whose change means nothing: annotations, docstrings, imports for types."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            parts.append(node.returns)
            arguments = node.args
            parts += [a.annotation for a in arguments.args + arguments.kwonlyargs + arguments.posonlyargs]
        elif isinstance(node, ast.AnnAssign):
            parts.append(node.annotation)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            parts.append(node)
        for part in parts:
            if part is not None:
                skipped |= {id(n) for n in ast.walk(part)}
    return skipped


def mutants_of(module: str, most: int | None = None, seed: int = 1) -> tuple[list[Mutant], int]:
    """The mutants of a module in the order of its source, `most` of them drawn by `seed`; and how many there are."""
    source = (ROOT / module).read_text(encoding="utf-8")
    tree = ast.parse(source)
    skipped, lines = _skipped(tree), source.splitlines()
    plain = ast.unparse(tree).splitlines()
    order: list[ast.AST] = []

    class _List(ast.NodeVisitor):
        def visit(self, node: ast.AST) -> None:
            order.append(node)
            self.generic_visit(node)

    _List().visit(tree)
    every = [
        (position, node, new)
        for position, node in enumerate(order)
        if id(node) not in skipped
        for new in _changes(node)
    ]
    chosen = every if most is None else random.Random(seed).sample(every, min(most, len(every)))
    found = []
    for position, node, new in chosen:
        changed = ast.unparse(ast.fix_missing_locations(_Replace(position, new).visit(copy.deepcopy(tree))))
        differ = [(a, b) for a, b in zip(plain, changed.splitlines(), strict=False) if a != b]
        line = getattr(node, "lineno", 0)
        before, after = differ[0] if differ else (lines[line - 1], "(left out)")
        found.append(Mutant(module, line, before.strip(), after.strip(), changed))
    return sorted(found, key=lambda m: m.line), len(every)


class _Durations:
    """A plug-in of pytest: seconds that each file of tests took, and what failed."""

    def __init__(self) -> None:
        self.files: dict[str, float] = {}
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.partition("::")[0]
        self.files[name] = self.files.get(name, 0.0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def tried(mutant: Mutant, folder: Path, tests: list[str], limit: float) -> tuple[str, dict[str, float]]:
    """The first test that fails for the mutant, empty if it survives; and seconds by file of tests."""
    path, told = folder / mutant.module, folder / "told.json"
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.source, encoding="utf-8")
    told.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _test(folder, tests, told)
        finally:
            os._exit(70)
    try:
        ends = time.monotonic() + limit
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > ends:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "no answer in time", {}
            time.sleep(0.05)
    except BaseException:
        os.killpg(child, signal.SIGKILL)
        raise
    finally:
        path.write_text(original, encoding="utf-8")
    if not told.exists():
        return "the process ended", {}
    outcome = json.loads(told.read_text(encoding="utf-8"))
    return outcome["failed"], outcome["files"]


def _test(folder: Path, tests: list[str], told: Path) -> None:
    """In a process of its own: run the tests on the copy."""
    import pytest

    os.setsid()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # as tests expect them, however this was started
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.dont_write_bytecode = True
    sys.path[:] = [str(folder), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    log = os.open(folder / "tests.log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(log, 1), os.dup2(log, 2)
    durations = _Durations()
    words = ["-q", "-x", "-p", "no:cacheprovider", *(f"--deselect={test}" for test in LEFT_OUT), *tests]
    status = int(pytest.main(words, plugins=[durations]))
    failed = "" if status == 0 else next(iter(durations.failed), f"pytest ended with {status}")
    told.write_text(json.dumps({"failed": failed, "files": durations.files}), encoding="utf-8")
    os._exit(0)


def _copy(folder: Path) -> None:
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
        else:
            shutil.copy(source, target)


def _digest(*names: str) -> str:
    found = hashlib.sha256()
    for name in names:
        found.update((ROOT / name).read_bytes())
    return found.hexdigest()[:16]


def _known(journal: Path, module: str) -> dict[tuple[int, str], dict[str, Any]]:
    """Outcomes that were kept of the module as it is: by line and mutant; survivors' of the same tests."""
    found = {}
    if journal.exists():
        for text in journal.read_text(encoding="utf-8").splitlines():
            row = json.loads(text)
            same_tests = row["tests"] == _digest(*MODULES[module])
            if row["module"] == module and row["source"] == _digest(module) and (row["by"] or same_tests):
                found[row["line"], row["mutant"]] = row
    return found


def main() -> int:
    """Try the mutants; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help=", ".join(MODULES))
    parser.add_argument("--each", type=int, default=50, help="mutants of each module (50)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=float, default=0.9, help="share that tests must kill (0.9)")
    parser.add_argument("--journal", type=Path, default=ROOT / "build" / "mutants.jsonl", help="%(default)s")
    parser.add_argument("--out", type=Path, help="also write the outcome as JSON")
    options = parser.parse_args()
    unknown = [m for m in options.modules if m not in MODULES]
    if unknown:
        parser.error(f"{unknown[0]}: one of {', '.join(MODULES)}")
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in PRELOADED:
        importlib.import_module(name)
    options.journal.parent.mkdir(parents=True, exist_ok=True)
    outcome, status = {}, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy(folder)
        for module in options.modules or MODULES:
            chosen, of = mutants_of(module, options.each, options.seed)
            chosen = [m for m in chosen if not m.means_nothing]
            known = _known(options.journal, module)
            tests, limit, survived = MODULES[module], 900.0, []
            if any((m.line, m.key) not in known for m in chosen):
                source = (ROOT / module).read_text(encoding="utf-8")
                failure, files = tried(Mutant(module, 0, "", "", source), folder, tests, limit)
                if failure:
                    parser.error(f"{module}: its tests fail without any change ({failure})")
                tests = sorted(tests, key=lambda test: files.get(test, 0.0))
                limit = 60 + 10 * sum(files.values())
            for number, mutant in enumerate(chosen, 1):
                row = known.get((mutant.line, mutant.key))
                if row is None:
                    by, _ = tried(mutant, folder, tests, limit)
                    row = {"module": module, "source": _digest(module), "tests": _digest(*MODULES[module])}
                    row |= {"line": mutant.line, "mutant": mutant.key, "by": by}
                    row |= {"before": mutant.before, "after": mutant.after}
                    with options.journal.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                if not row["by"]:
                    survived.append({"line": mutant.line, "before": mutant.before, "after": mutant.after})
                    print(
                        f"survives: {module}:{mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True
                    )
                if sys.stderr.isatty():
                    print(f"\r{module} {number}/{len(chosen)}", end="", file=sys.stderr, flush=True)
            share = 1 - len(survived) / len(chosen)
            print(
                f"{module}: {len(chosen) - len(survived)} of {len(chosen)} killed ({share:.0%})", flush=True
            )
            outcome[module] = {"of": of, "tried": len(chosen), "killed": len(chosen) - len(survived)}
            outcome[module] |= {"survived": survived}
            status |= share < options.least
    if options.out:
        options.out.write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
