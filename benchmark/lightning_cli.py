"""LightningCLI over this suite's modules, where a mistake in a YAML is one line and exit status 2.

    from benchmark import DerainCLI
    DerainCLI()                                          # python script.py fit --config c.yaml

or, without a script, `python -m benchmark.lightning_cli fit --config c.yaml`.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from benchmark.data import RainDataModule
from benchmark.errors import UserError, WorkError, out_of_memory, unknown
from benchmark.files import explained
from benchmark.lightning import RestorationModule

_NO_OPTION = re.compile(r"does not accept option '([^']+)'|nrecognized arguments: --([\w.]+)")


class _Parser(LightningArgumentParser):
    """Says what is wrong in one line, a misspelt option with the nearest that there is."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong.

        Raises:
            UserError: always.
        """
        refused = _NO_OPTION.search(message)
        if refused is not None:
            given = refused.group(1) or refused.group(2)
            raise unknown("option", given, self._options_beside(given))
        prog = self.prog.replace(" [options]", "")
        raise UserError(f"{' '.join(message.split())} (see {prog} --help)")

    def _options_beside(self, given: str) -> list[str]:
        """The options of the part that a misspelt one is of (`model.…`), of all parts where there is none."""
        parsers: list[Any] = [self]
        for action in self._actions:
            choices = action.choices
            if isinstance(choices, dict):
                parsers += choices.values()
        actions = [action for parser in parsers for action in parser._actions]
        names = {a.dest for a in actions if a.option_strings and not a.dest.endswith(".help")}
        part, dot, _ = given.partition(".")
        beside = {name for name in names if name.startswith(f"{part}.")} if dot else set()
        return sorted(beside or names)


class DerainCLI(LightningCLI):
    """LightningCLI whose user gets a line and an exit status where LightningCLI prints a traceback or its usage.

    All of LightningCLI's arguments, by keyword; `model_class` is `RestorationModule` and `datamodule_class`
    `RainDataModule` unless others are given. Exit status: 2, the command line, the YAML or a file in it is wrong;
    1, the work failed (diverged, memory, disk).

    Raises:
        SystemExit: with that status, after the line on standard error.
    """

    def __init__(
        self, model_class: Any = RestorationModule, datamodule_class: Any = RainDataModule, **options: Any
    ) -> None:
        options.setdefault("parser_class", _Parser)
        if importlib.util.find_spec("jsonargparse") is None:
            _end(UserError("LightningCLI needs jsonargparse: pip install 'jsonargparse[signatures]'"))
        try:
            super().__init__(model_class, datamodule_class, **options)
        except (UserError, WorkError) as error:
            _end(error)
        except (MemoryError, OSError, RuntimeError) as error:
            told = explained(error, Path.cwd())
            if out_of_memory(error):
                told = WorkError(f"out of memory ({' '.join(str(error).split())[:120]}): use smaller batches")
            if isinstance(error, FileNotFoundError) and error.errno is None:  # Lightning's, of --ckpt_path
                told = UserError(str(error))
            if told is None:
                raise
            _end(told)


def _end(error: UserError | WorkError) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
    raise SystemExit(error.status)


__all__ = ["DerainCLI"]

if __name__ == "__main__":
    DerainCLI()
