"""W&B agents: the sweeps in `benchmark/sweeps/`, whose every run is a `derain train` that leaves the same record.

A grid can be done without W&B as well: its points are the runs of a plan (`benchmark.sweep.planfile`).
"""

from __future__ import annotations

import itertools
import math
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, unknown
from benchmark.reading import path as expanded
from benchmark.reading import read_yaml, whole
from benchmark.run.records import command_line
from benchmark.run.tracking import has_key, project
from benchmark.sweep import planfile
from benchmark.sweep.plan import Planned, Planner, unique
from benchmark.text.output import remark

METHODS = ("grid", "random", "bayes")
FOLDER = Path(__file__).resolve().parents[1] / "sweeps"
_ARGUMENTS = "${args_no_hyphens}"  # in a sweep's command, where W&B's agent puts KEY=VALUE words
_TABLES = {"table1": "derain table 1", **{f"table{n}": f"derain table {n}" for n in (3, 4, 5)}}


def sweeps() -> dict[str, Path]:
    """The sweeps that are shipped, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


@dataclass(frozen=True)
class Sweep:
    """A sweep as its file has it.

    Attributes:
        path: of the file.
        title: its name, for people.
        method: grid, random or bayes.
        command: of a run, as a list of words with `${args_no_hyphens}` for what differs.
        parameters: by name W&B's description of the values, such as {"values": [0, 1]}.
        most: runs in all, where the file limits them.
        early: when W&B's server ends a run that is behind the others, such as {"type": "hyperband"}; empty: never.
    """

    path: Path
    title: str
    method: str
    command: list[str]
    parameters: Mapping[str, Mapping[str, Any]]
    most: int | None
    early: Mapping[str, Any]

    @staticmethod
    def read(name_or_path: str) -> Sweep:
        """One that ships, or the user's YAML.

        Raises:
            UserError: no such sweep, no YAML that is read here, or not a sweep.
        """
        given = name_or_path.endswith((".yaml", ".yml"))
        path = Path(expanded(name_or_path)) if given else sweeps().get(name_or_path)
        if path is None:
            raise unknown("sweep", name_or_path, sweeps())
        told = read_yaml(path, references=True)
        if not isinstance(told, dict) or not isinstance(told.get("parameters"), dict):
            raise UserError(f"{path}: not a sweep: it has no parameters")
        for name, space in told["parameters"].items():
            values = space.get("values", [0]) if isinstance(space, dict) else None
            if not isinstance(values, list) or not values:
                raise UserError(f"{path}: {name}: has values, value, or min and max")
        method = str(told.get("method"))
        if method not in METHODS:
            raise UserError(f"{path}: {unknown('method', method, METHODS)}")
        early = told.get("early_terminate") or {}
        if not isinstance(early, dict):
            raise UserError(f"{path}: early_terminate: has a type, such as hyperband, and its settings")
        command = told.get("command") or []
        return Sweep(
            path=path,
            title=str(told.get("name") or path.stem),
            method=method,
            command=[str(word) for word in command] if isinstance(command, list) else [],
            parameters=told["parameters"],
            most=told.get("run_cap"),
            early=early,
        )

    @property
    def size(self) -> int | None:
        """How many runs it has; None where nothing limits them."""
        if self.method != "grid":
            return self.most
        points = math.prod(len(space.get("values", [None])) for space in self.parameters.values())
        return points if self.most is None else min(points, self.most)

    def plan(self) -> tuple[Planned, ...]:
        """The runs of a grid, in the order in which W&B's server gives them.

        Raises:
            UserError: it is not a grid, its command is not a `derain train`, or a setting in it is wrong.
        """
        if self.method != "grid":
            raise UserError(
                f"{self.path}: method {self.method}: the values are chosen by W&B's server; a plan has those of a grid"
            )
        if self.command[:2] != ["derain", "train"] or self.command.count(_ARGUMENTS) != 1:
            raise UserError(
                f"{self.path}: a plan is made of a command [derain, train, …, '{_ARGUMENTS}'], not {self.command}"
            )
        spaces: list[list[str]] = []
        for name, space in self.parameters.items():
            if "values" not in space and "value" not in space:
                raise UserError(f"{self.path}: {name}: a grid has values, or a value")
            spaces.append([f"{name}={value}" for value in space.get("values", [space.get("value")])])
        at = self.command.index(_ARGUMENTS)
        planner = Planner(())
        runs = []
        for point in itertools.islice(itertools.product(*spaces), self.size):
            words = [*self.command[2:at], *point, *self.command[at + 1 :]]
            seeds = [w.removeprefix("seed=") for w in words if w.startswith("seed=")]
            try:
                seed = whole(seeds[-1]) if seeds else 0
            except ValueError:
                raise UserError(f"{self.path}: seed={seeds[-1]}: not a whole number") from None
            runs.append(planner.plan([w for w in words if not w.startswith("seed=")], seed))
        return unique(runs)

    def in_words(self) -> str:
        """What W&B would be asked to create, and what each of its agents would do."""
        size = "as many as its agents are left to do" if self.size is None else f"{self.size} runs"
        rows = [("sweep", f"{self.title} ({self.method}, {size}), in the project {project()}")]
        rows += [(name, _values(space)) for name, space in self.parameters.items()]
        if self.early:
            rows.append(("ended early", ", ".join(f"{key} {value}" for key, value in self.early.items())))
        command = " ".join(word for word in self.command if word != _ARGUMENTS)
        chosen = " ".join(f"{name}=…" for name in self.parameters)
        rows.append(("each run", f"{command} {chosen}"))
        width = max(len(key) for key, _ in rows)
        return "\n".join(f"  {key:<{width}}  {what}" for key, what in rows)


def _values(space: Mapping[str, Any]) -> str:
    if "values" in space or "value" in space:
        return ", ".join(str(value) for value in space.get("values", [space.get("value")]))
    return f"{space.get('min')} to {space.get('max')} ({space.get('distribution', 'uniform')})"


def start(name_or_path: str) -> int:
    """Register a sweep at W&B, which prints how to start agents; returns the exit status.

    Without a key nothing is created: it is said what would be, and what does the same without W&B.

    Raises:
        UserError: no such sweep, or no sweep that is read here.
    """
    sweep = Sweep.read(name_or_path)
    if not has_key():
        print(_without_key(sweep, name_or_path))
        return 0
    command = [sys.executable, "-m", "wandb", "sweep", "--project", project(), str(sweep.path)]
    return int(bool(subprocess.run(command, check=False).returncode))


def _without_key(sweep: Sweep, called: str) -> str:
    if sweep.method != "grid":
        local = (
            f"W&B's server chooses each run's values itself (method {sweep.method}), which nothing does without it.\n"
            f"A grid of values needs no server: in a copy of {sweep.path}\n"
            "put method: grid, and values: […] for each parameter, then\n\n"
            "  derain sweep copy.yaml --save-plan plan.yaml\n"
            "  derain run plan.yaml"
        )
    else:
        sweep.plan()  # a mistake in it is told now
        local = "The same runs without W&B, on this machine, Ray or Slurm (--plan shows first what they will take):\n\n"
        if called in _TABLES:
            seeds = sweep.parameters["seed"]["values"]
            local += f"  {_TABLES[called]} --seeds {seeds[0]}..{seeds[-1]}"
        else:
            local += f"  derain sweep {shlex.quote(called)} --save-plan plan.yaml\n  derain run plan.yaml"
    return (
        "No key for W&B (WANDB_API_KEY, or: wandb login), so nothing was created. With one, this would be created:\n\n"
        f"{sweep.in_words()}\n\n"
        f"and done by any number of: wandb agent ENTITY/{project()}/ID\n\n{local}"
    )


def save_plan(name_or_path: str, path: Path) -> int:
    """Write the runs of a grid as a plan for `derain run`; returns the exit status.

    Raises:
        UserError: as `Sweep.read` and `Sweep.plan`, or the file cannot be written.
    """
    runs = Sweep.read(name_or_path).plan()
    recipes = {run.spec.recipe.name for run in runs}
    heading = planfile.Heading(
        tables=[], data=None, recipe=recipes.pop() if len(recipes) == 1 else "embedded"
    )
    planfile.save(path, heading, runs, f"Made by: {command_line()}")
    remark(f"wrote {path}: {len(runs)} runs; to do it: derain run {path}")
    return 0
