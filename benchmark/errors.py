"""The two ways a command ends badly, and the words for a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The command line, the configuration or the user's files are wrong: one line, exit status 2.

    The message says what is wrong, where, and what would be right.
    """

    status = 2


class WorkError(Exception):
    """The request was right but the work failed (diverged, disk full, out of memory): exit status 1."""

    status = 1


def unknown(kind: str, given: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest one that does.

    >>> str(unknown("model", "prent", ["prenet", "rescan"]))
    "unknown model 'prent': did you mean 'prenet'? (prenet, rescan)"
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(given.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    by_lower = {n.lower(): n for n in names}
    hint = f"did you mean '{by_lower[near[0]]}'? " if near else "one of "
    listed = ", ".join(names) if len(names) <= 40 else ", ".join(names[:40]) + ", …"
    return UserError(f"unknown {kind} '{given}': {hint}({listed})")
