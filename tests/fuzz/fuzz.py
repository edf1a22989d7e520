"""Fuzz one reader by hand: `python tests/fuzz/fuzz.py TARGET --inputs N`, or `make fuzz N=100000` for all.

Bytes are mutated by atheris (libFuzzer, guided by the coverage of the reader's Python code), names and configurations
are drawn by hypothesis. Prints how many inputs were tried; ends with status 1 at the first finding, which is kept.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

TARGETS = ("image", "checkpoint", "archive", "pairing", "configuration")


def _bytes(name: str, inputs: int, seed: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["benchmark", "zipfile", "tarfile"]):
        import benchmark.checkpoints
        import benchmark.data.archives
        import benchmark.data.images  # noqa: F401
    import targets

    target, seeds = targets.BYTES[name]
    place = targets.Place()
    corpus = place.folder / "corpus"
    corpus.mkdir()
    for i, data in enumerate(seeds()):
        (corpus / str(i)).write_bytes(data)
    work = place.folder / "work"
    work.mkdir()
    tried, began = 0, time.monotonic()

    def one(data: bytes) -> None:
        nonlocal tried
        tried += 1
        try:
            target(work, data)
        except targets.Finding as finding:
            kept = Path(f"finding-{name}-{tried}")
            kept.write_bytes(data)
            print(f"{name}: input {tried}, kept as {kept}: {finding}", flush=True)
            raise
        if tried % 10_000 == 0 or tried == inputs:
            print(f"{name}: {tried} inputs, {time.monotonic() - began:.0f} s", flush=True)

    words = [
        f"-atheris_runs={inputs}",
        f"-seed={seed}",
        "-max_len=16384",
        "-print_final_stats=0",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *words, str(corpus)], one)
    atheris.Fuzz()
    return 0


def _drawn(name: str, inputs: int, seed: int) -> int:
    import strategies
    import targets
    from hypothesis import HealthCheck, Phase, Verbosity, given, settings
    from hypothesis import seed as seeded

    target = {"pairing": targets.pairing, "configuration": targets.configuration}[name]
    tried, began = 0, time.monotonic()

    @seeded(seed)
    @settings(
        max_examples=-(-inputs // strategies.AT_ONCE),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(strategies.inputs(name))
    def some(drawn: list[object]) -> None:
        nonlocal tried
        for one in drawn:
            tried += 1
            try:
                target(Path(), one)
            except targets.Finding as finding:
                print(f"{name}: input {tried}, {one!r}: {finding}", flush=True)
                raise
        if tried % 10_000 < strategies.AT_ONCE:
            print(f"{name}: {tried} inputs, {time.monotonic() - began:.0f} s", flush=True)

    some()
    print(f"{name}: {tried} inputs, {time.monotonic() - began:.0f} s, nothing found", flush=True)
    return 0


def main() -> int:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # readers that report damage of their own accord
    kind = _drawn if options.target in ("pairing", "configuration") else _bytes
    return kind(options.target, options.inputs, options.seed)


if __name__ == "__main__":
    sys.exit(main())
