"""`derain`: `line` parses and knows the room of each command."""

from benchmark.cli.line import build_parser, main, parse

__all__ = ["build_parser", "main", "parse"]
