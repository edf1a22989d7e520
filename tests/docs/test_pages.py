"""README and the documentation: short, whole, and their commands are commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmark.cli import build_parser, parse
from benchmark.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_COMMAND = re.compile(r"^(?:    |)derain (?!\[)(.*?)(?:\s+#.*)?$", re.MULTILINE)
_INLINE = re.compile(r"`derain ([^`\n]+)`")
_MORE = re.compile(r"[…*\[\]]|\bFILE, |, or ")  # a pattern, not a line to type
_TARGET = re.compile(r"\bmake ([a-z][a-z0-9]*)\b")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def _lines() -> list[tuple[str, str, bool]]:
    """Page, command, and whether it stands in a sentence, which may leave out what is clear."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for inline, pattern in ((False, _COMMAND), (True, _INLINE)):
            found += [(page.name, line, inline) for line in pattern.findall(text) if not _MORE.search(line)]
    return found


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 900


def test_every_command_is_one() -> None:
    lines, parser = _lines(), build_parser()
    assert len(lines) > 60
    wrong = []
    for page, line, inline in lines:
        try:
            parse(parser, shlex.split(line))
        except UserError as error:
            if not (inline and "required" in str(error)):
                wrong.append(f"{page}: derain {line}: {error}")
        except SystemExit as end:
            assert end.code == 0, line
    assert not wrong, "\n".join(wrong)


def test_every_target_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9]+):", makefile, re.MULTILINE))
    code = re.compile(r"`([^`\n]+)`|^    (.*)$", re.MULTILINE)
    named = {
        t
        for page in PAGES
        for inline, block in code.findall(page.read_text(encoding="utf-8"))
        for t in _TARGET.findall(inline or block)
        if (inline or block).lstrip().startswith("make")
    }
    assert named and named <= targets, named - targets


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        generated = page.parent.name in ("docs",) and link in (
            "reference/commands.md",
            "reference/settings.md",
        )
        assert generated or (page.parent / link).exists(), link


def _built(folder: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """The site of `folder`, by the words of `make docs`."""
    (words,) = re.findall(r"\$\(BIN\)/mkdocs (build.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    build = [sys.executable, "-m", "mkdocs", *words.split(), "--site-dir", str(to)]
    return subprocess.run(build, cwd=folder, capture_output=True, text=True)


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    kept = ("site_name", "strict", "validation", "use_directory_urls")
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump({k: settings[k] for k in kept} | {"theme": "mkdocs"}))
    (tmp_path / "docs" / "index.md").write_text(
        "[a](nowhere.md) [b](#not-here) [c](index.md#nor-here)\n\n# Home\n"
    )
    done = _built(tmp_path, tmp_path / "site")
    assert done.returncode != 0, done.stderr
    assert all(link in done.stderr for link in ("nowhere.md", "#not-here", "#nor-here")), done.stderr


def test_the_site_is_built_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("material")
    done = _built(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    settings = (tmp_path / "reference" / "settings.html").read_text(encoding="utf-8")
    assert "recipe.optimizer.lr" in settings and "learning rate" in settings
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text):
            assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), f"{page.name}: {tag}"
