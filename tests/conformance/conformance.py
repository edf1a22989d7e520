"""Every network with public code beside its authors': outputs, numbers of parameters, names of weights.

    make conformance                    clones their repositories at the commits of starts.json
    make conformance AUTHORS=FOLDER     takes clones that lie there already, at whatever commit (it is shown)

Each of their networks runs aside (`authors.py`), with weights drawn from its keys' names; ours loads these weights as a
user's file of theirs and restores the same picture. Exit status 0 if all that could be had agree and none is missing,
else 1. Nothing of theirs is changed or kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-3  # of the norm of the output; what is seen is 1e-6 and less

# below or above these gains of the drawn weights an output is all rain, or none
GAINS = {
    "rescan": 3.5,
    "prenet": 1.2,
    "rcdnet": 0.5,
    "mprnet": 0.7,
    "efficientderain": 1.4,
    "nafnet": 1.0,
    "sfnet": 0.95,
    "drt": 0.35,
    "elformer": 0.85,
    "hpcnet": 0.9,
    "esdnet": 0.475,
    "spikerain": 0.1,
    "vlif": -1.0,
}
OPTIONS: dict[str, dict[str, Any]] = {"drt": {"window_size": 7}, "vlif": {"refinement": False}}
_SIDES = {"drt": 56}  # their network is made for one size
_ALSO = {"spikerain": ["ChrisChen1023/VLIF"], "esdnet": ["ChrisChen1023/VLIF"]}  # SpikingJelly of that time


@dataclass
class Compared:
    """What came out for one network."""

    name: str
    code: str
    error: float | None = None
    parameters: tuple[int, int] | None = None
    keys: str = ""
    fault: str = ""

    @property
    def agrees(self) -> bool:
        """Whether everything is as the authors have it."""
        same = self.parameters is not None and self.parameters[0] == self.parameters[1]
        return not self.fault and same and not self.keys and self.error is not None and self.error < TOLERANCE


def main() -> int:
    """Compare, print, say whether all agree."""
    parser = argparse.ArgumentParser(description="parity with the authors' own code")
    parser.add_argument(
        "authors", nargs="?", type=Path, help="a folder of clones, by the repositories' names"
    )
    parser.add_argument("--only", default="", help="networks, commas between")
    given = parser.parse_args()
    pinned = {n: e["code"] for n, e in json.loads((HERE / "starts.json").read_text())["networks"].items()}
    asked = given.only.split(",") if given.only else list(pinned)
    if wrong := [n for n in asked if n not in pinned]:
        parser.error(f"no network {', '.join(wrong)} with public code: {', '.join(pinned)}")
    if given.authors is not None and not given.authors.is_dir():
        parser.error(f"{given.authors}: no such folder")
    found = []
    with _folder(given.authors) as folder:
        for name in asked:
            one = Compared(name, pinned[name])
            found.append(one)
            for code in [
                pinned[name],
                *(c for c in pinned.values() if c.partition("@")[0] in _ALSO.get(name, ())),
            ]:
                one.fault = one.fault or _have(folder, code, clone=given.authors is None)
            if not one.fault:
                one.code = f"{one.code.partition('@')[0]}@{_commit(folder / _repository(one.code)) or '?'}"
                _compare(one, folder)
            print(_row(one), flush=True)
    agree = sum(one.agrees for one in found)
    print(f"{agree} of {len(found)} networks agree with their authors' code in outputs, parameters and keys")
    for one in found:
        if one.fault:
            print(f"not compared: {one.name}: {one.fault}")
    return 0 if agree == len(found) else 1


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given.resolve()
    else:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)


def _repository(code: str) -> str:
    return code.partition("@")[0].partition("/")[2]


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], capture_output=True, text=True, timeout=600)


def _commit(folder: Path) -> str:
    return (
        _git("-C", str(folder), "rev-parse", "--short=7", "HEAD").stdout.strip()
        if (folder / ".git").exists()
        else ""
    )


def _have(folder: Path, code: str, clone: bool) -> str:
    """Clone a repository at its commit where it is not there; why it cannot be had, or nothing."""
    address, _, commit = code.partition("@")
    place = folder / _repository(code)
    if place.is_dir():
        return ""
    if not clone:
        return f"no folder {place.name} in {folder}"
    try:
        for words in (
            [
                "clone",
                "--quiet",
                "--filter=blob:limit=2m",
                "--no-checkout",
                f"https://github.com/{address}",
                str(place),
            ],
            ["-C", str(place), "checkout", "--quiet", commit],
        ):
            done = _git(*words)
            if done.returncode:
                return f"{code} cannot be had: {(done.stderr.strip().splitlines() or ['git failed'])[-1]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{code} cannot be had: {error}"
    return ""


def _compare(one: Compared, folder: Path) -> None:
    import torch

    from benchmark import create_model
    from benchmark.checkpoints import in_our_names, load_checkpoint

    options = OPTIONS.get(one.name, {})
    side = _SIDES.get(one.name, 64)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as made:
        asked, answered = Path(made) / "x.pt", Path(made) / "y.pt"
        torch.save({"x": image, "gain": GAINS[one.name]}, asked)
        words = [str(HERE / "authors.py"), one.name, str(folder), json.dumps(options), "restore"]
        theirs = subprocess.run(
            [sys.executable, "-B", *words, str(asked), str(answered)],
            capture_output=True,
            text=True,
            cwd=made,
        )
        if theirs.returncode:
            one.fault = f"their code failed: {(theirs.stderr.strip().splitlines() or ['no word'])[-1]}"
            return
        answer = torch.load(answered, weights_only=True)
        model = create_model(one.name, **options)
        file = Path(made) / "theirs.pth"
        torch.save(answer["state"], file)
        try:
            load_checkpoint(model, file)
        except Exception as error:
            one.fault = f"their weights do not load: {error}"
            return
    named = in_our_names(model, answer["state"])
    ours = model.state_dict()
    odd = sorted(k for k in {*named} ^ {*ours} if "relative_position_index" not in k)
    one.keys = f"{len(odd)} differ ({odd[0]})" if odd else ""
    count = sum(answer["state"][k].numel() for k in answer["trained"])
    one.parameters = sum(p.numel() for p in model.parameters()), count
    with torch.no_grad():
        restored = model.eval()(image)
    one.error = float((restored - answer["y"]).norm() / answer["y"].norm())


def _row(one: Compared) -> str:
    if one.fault:
        return f"{one.name:<16} {one.code:<38} not compared"
    assert one.parameters is not None and one.error is not None
    counts = f"{one.parameters[0]:,}" + (
        f" (theirs {one.parameters[1]:,})" if len({*one.parameters}) > 1 else ""
    )
    verdict = "agrees" if one.agrees else "DIFFERS"
    return (
        f"{one.name:<16} {one.code:<38} {one.error:8.1e}  {counts:>12}  keys {one.keys or 'equal'}  {verdict}"
    )


if __name__ == "__main__":
    sys.exit(main())
