"""Text for a terminal that has not every character: what it lacks is spelt with those that it has."""

from __future__ import annotations

import codecs

_SPELT = {
    "−": "-",
    "–": "-",
    "—": "-",
    "±": "+/-",
    "≈": "~",
    "≤": "<=",
    "≥": ">=",
    "×": "x",
    "·": "*",
    "…": "...",
    "∞": "inf",
    "²": "^2",
    "³": "^3",
    "µ": "u",
    "μ": "u",
    "Σ": "sum",
    "Δ": "difference",
    "→": "->",
    "←": "<-",
    "↑": "(higher is better)",
    "↓": "(lower is better)",
    "†": "[+]",
    "‡": "[++]",
    "§": "[s]",
    "√": "sqrt",
    "½": "1/2",
    "÷": "/",
    "α": "alpha",
    "β": "beta",
    "ε": "epsilon",
    "θ": "theta",
    "σ": "sigma",
    "τ": "tau",
    "χ": "chi",
    "─": "-",
    "‾": "-",
    "’": "'",
    "“": '"',
    "”": '"',
}
HANDLER = "derain.plain"


def spelt(character: str) -> str:
    """One character in ASCII: a sign by what it means; a letter, which may be of a file's name, by its number.

    >>> spelt("−"), spelt("é")
    ('-', '\\\\xe9')
    """
    return _SPELT.get(character) or character.encode("ascii", "backslashreplace").decode()


def plain(text: str, encoding: str | None) -> str:
    """The text, what an encoding has no character for spelt in ASCII.

    >>> plain("29.5 ± 0.1", "ascii"), plain("29.5 ± 0.1", "latin-1")
    ('29.5 +/- 0.1', '29.5 ± 0.1')
    """
    return text.encode(encoding or "utf-8", HANDLER).decode(encoding or "utf-8", "replace")


def _handler(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(spelt, error.object[error.start : error.end])), error.end


codecs.register_error(HANDLER, _handler)

__all__ = ["HANDLER", "plain", "spelt"]
