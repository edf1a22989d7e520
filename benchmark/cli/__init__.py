"""`derain`: `line` parses, `entry` has a function for each command, the others do the longer work."""

from benchmark.cli.line import build_parser, main, parse

__all__ = ["build_parser", "main", "parse"]
