"""`derain`: `options` says what can be asked, `line` parses it and knows the room of each command."""

from benchmark.cli.line import main, parse
from benchmark.cli.options import build_parser

__all__ = ["build_parser", "main", "parse"]
