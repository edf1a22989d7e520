"""Which tests can fail: break the modules that everything rests on, one small change at a time.

    python tests/mutants/mutants.py [MODULE …] [--each 50] [--seed 1] [--out docs/mutants.json]    # make mutants

A mutant is a copy of the repository in which one operator, constant, condition or statement of one module is another.
Its tests are run until one fails (it is killed) or all pass (it survives; the line is printed). Mutants are drawn with
a seed from all that there are, so that two runs try the same ones. Those whose survival is known to mean nothing
are listed in `EQUIVALENT` with the reason. Ends with status 1 where a module's share of killed ones is below --least.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = "tests/benchmark"
MODULES = {
    "benchmark/evaluation/metrics.py": [
        f"{BENCH}/evaluation/test_fidelity_metrics.py",
        f"{BENCH}/evaluation/test_evaluate.py",
        "tests/faults/test_numbers.py",
    ],
    "benchmark/cost/counter.py": [
        f"{BENCH}/cost/test_counter_closed_forms.py",
        f"{BENCH}/cost/test_counter_spiking.py",
        f"{BENCH}/cost/test_cost_command.py",
    ],
    "benchmark/report/statistics.py": [
        f"{BENCH}/report/test_statistics.py",
        f"{BENCH}/report/test_table.py",
        f"{BENCH}/report/test_ablation_tables.py",
    ],
    "benchmark/sweep/claims.py": [f"{BENCH}/sweep/test_claims.py", f"{BENCH}/sweep/test_processes.py"],
    "benchmark/sweep/records.py": [
        "tests/faults/test_runs.py",
        "tests/faults/test_numbers.py",
        f"{BENCH}/sweep",
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
TIME_LIMIT = 600  # seconds; a mutant that hangs is killed

# (module, the changed line) -> why no test can tell it from the original
_COUNTER = "benchmark/cost/counter.py"
EQUIVALENT: dict[tuple[str, str], str] = {
    (_COUNTER, "elements: int = 1"): "a rate that the elements do not give is taken from the sops",
    (_COUNTER, "silent_elements: int = 1"): "the same",
    (_COUNTER, "self.batch = 2"): "set before every forward",
    (
        _COUNTER,
        "if packet not in PRODUCTS or classify(func) == 'unknown':",
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


def mutants_of(module: str) -> list[Mutant]:
    """All mutants of a module, in the order of its source."""
    source = (ROOT / module).read_text(encoding="utf-8")
    tree = ast.parse(source)
    skipped, lines = _skipped(tree), source.splitlines()
    plain = ast.unparse(tree)
    order: list[ast.AST] = []

    class _List(ast.NodeVisitor):
        def visit(self, node: ast.AST) -> None:
            order.append(node)
            self.generic_visit(node)

    _List().visit(tree)
    found = []
    for position, node in enumerate(order):
        if id(node) in skipped:
            continue
        for new in _changes(node):
            changed = ast.unparse(
                ast.fix_missing_locations(_Replace(position, new).visit(copy.deepcopy(tree)))
            )
            differ = [
                (a, b) for a, b in zip(plain.splitlines(), changed.splitlines(), strict=False) if a != b
            ]
            line = getattr(node, "lineno", 0)
            before, after = differ[0] if differ else (lines[line - 1], "(left out)")
            found.append(Mutant(module, line, before.strip(), after.strip(), changed))
    return found


def killed_by(mutant: Mutant, folder: Path) -> str:
    """The first test that fails for the mutant; empty if it survives."""
    path = folder / mutant.module
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.source, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *MODULES[mutant.module]]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "no answer in time"
    finally:
        path.write_text(original, encoding="utf-8")
    if done.returncode == 0:
        return ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0][:160] if failed else f"pytest ended with {done.returncode}"


def _copy(folder: Path) -> None:
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
        else:
            shutil.copy(source, target)


def main() -> int:
    """Try the mutants; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help=", ".join(MODULES))
    parser.add_argument("--each", type=int, default=50, help="mutants of each module (50)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=float, default=0.9, help="share that tests must kill (0.9)")
    parser.add_argument("--out", type=Path, help="also write the outcome as JSON")
    options = parser.parse_args()
    unknown = [m for m in options.modules if m not in MODULES]
    if unknown:
        parser.error(f"{unknown[0]}: one of {', '.join(MODULES)}")
    outcome, status = {}, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy(folder)
        for module in options.modules or MODULES:
            every = mutants_of(module)
            source = (ROOT / module).read_text(encoding="utf-8")
            if failure := killed_by(Mutant(module, 0, "", "", source), folder):
                parser.error(f"{module}: its tests fail without any change ({failure})")
            chosen = random.Random(options.seed).sample(every, min(options.each, len(every)))
            chosen = [m for m in chosen if (module, m.after) not in EQUIVALENT]
            survived = []
            for number, mutant in enumerate(sorted(chosen, key=lambda m: m.line), 1):
                if not killed_by(mutant, folder):
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
            outcome[module] = {"of": len(every), "tried": len(chosen), "killed": len(chosen) - len(survived)}
            outcome[module] |= {"survived": survived}
            status |= share < options.least
    if options.out:
        options.out.write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
