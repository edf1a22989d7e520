"""Fault 20: what is installed is pinned, and versions known to be bad are shut out twice: by range and by pin."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
# package: versions that must not be installable, with the reason
BAD = {
    "pytorch-lightning": (("2.6.2", "2.6.3"), "malicious uploads"),
    "pillow": (("11.3.0", "12.0.0", "12.2.0"), "below 12.3"),
    "torch": (("2.5.1",), "weights_only=True could be made to execute code, CVE-2025-32434"),
}


def _required() -> dict[str, list[Requirement]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, list[Requirement]] = {}
    for line in [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]:
        requirement = Requirement(line)
        found.setdefault(_name(requirement.name), []).append(requirement)
    return found


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pinned() -> dict[str, Version]:
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line:
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            found[_name(requirement.name)] = Version(pin.version)
    return found


@pytest.mark.parametrize("package", BAD)
def test_known_bad_versions_are_shut_out(package: str) -> None:
    versions, reason = BAD[package]
    for bad in versions:
        assert any(not r.specifier.contains(bad) for r in _required()[package]), f"{package} {bad}: {reason}"
        assert _pinned()[package] != Version(bad)


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned = _pinned()
    for name, requirements in _required().items():
        for requirement in requirements:
            if requirement.marker is None or requirement.marker.evaluate():
                assert name in pinned, f"{name} has no pin in constraints.txt"
                assert requirement.specifier.contains(pinned[name], prereleases=True), (
                    f"{name} {pinned[name]}"
                )


def test_setup_uses_the_pins() -> None:
    assert "--constraint constraints.txt" in (ROOT / "Makefile").read_text()


def test_the_audit_never_fails_for_want_of_a_network() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert "pip-audit" in text and '"${AUDIT:-}" = 1' in text, "asked for, since it needs the network"
    assert (ROOT / "SECURITY.md").is_file()


def test_no_checkpoint_is_ever_opened_in_the_way_that_executes_code() -> None:
    for folder in ("benchmark", "baselines", "ablations", "esdnet"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and re.search(
                    r"(torch\.load|\.fit|pickle\.loads?)$", ast.unparse(node.func)
                ):
                    assert "weights_only=True" in ast.unparse(node), f"{path}: {ast.unparse(node)}"
            assert "allow_pickle=True" not in text, path
            for call in re.finditer(r"yaml\.load\(.*", text):
                assert "SafeLoader" in text and "Loader=loader" in call.group(), path
