"""`derain completion`: the command line for a shell's own completion, with the names that it takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmark import catalog
from benchmark.data.specs import DATASETS
from benchmark.errors import UserError, unknown
from benchmark.spec import recipes


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What a shell reads to complete `derain`.

    Args:
        parser: of the command line; its actions are given the names to choose from, so it is not to parse after.
        shell: bash, zsh, fish, tcsh or powershell.

    Raises:
        UserError: another shell, or shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise UserError("derain completion needs shtab: pip install shtab") from None
    if shell not in shtab.SUPPORTED_SHELLS:
        raise unknown("shell", shell, shtab.SUPPORTED_SHELLS)
    names = _names()
    for command, action in _actions(parser):
        if isinstance(action, argparse._SubParsersAction):
            continue
        chosen = names.get(f"{command} {action.dest}", names.get(action.dest))
        if chosen:
            action.choices = chosen
        elif getattr(action.type, "__name__", "") in ("_path", "_text_path"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def _names() -> dict[str, list[str]]:
    networks = list(catalog.networks())
    settings = [
        *(f"model={n}" for n in networks),
        *(f"data={n}" for n in DATASETS),
        *(f"recipe={n}" for n in [*recipes(), "authors"]),
    ]
    return {
        "model": networks,
        "models": networks,
        "models name": networks,
        "list name": list(DATASETS),
        "datasets": list(DATASETS),
        "recipe": [*recipes(), "authors"],
        "train settings": settings,
        "config settings": settings,
        "table number": ["1", "2", "3", "4", "5", *catalog.studies()],
        "device": ["auto", "cpu", "cuda"],
        "shell": ["bash", "zsh", "fish", "tcsh", "powershell"],
    }


def _actions(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Every action of a parser and of those below it, with the last word of its command."""
    for action in parser._actions:
        yield (parser.prog or "").split()[-1], action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
