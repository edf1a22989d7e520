"""What the site has beside the pages in this folder: reference pages from the code, and the committed results."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
_BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_SHOWN = (".md", ".png", ".csv", ".pdf", ".json", ".yaml", ".txt")
_UP = re.compile(r"\]\((?:\.\./)+(results/[^)#]*|[A-Z]+\.md)((?:#[^)]*)?)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, the committed results and what lies beside the README."""
    for name, text in (("commands", _commands()), ("settings", _settings())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=_notebook(path)))
    found = [p for p in sorted((ROOT / "results").rglob("*")) if p.suffix in _SHOWN and p.is_file()]
    for path in [*found, *(ROOT / name for name in _BESIDE)]:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/ lead to the copies in the site, notebooks to their pages; code, which has none, is named."""
    source = page.file.src_uri
    inside = not source.startswith("results/") and source not in _BESIDE
    up = "../" * source.count("/")

    def place(path: str) -> str:
        return f"{path}README.md" if path.endswith("/") and (ROOT / path / "README.md").is_file() else path

    if inside:
        markdown = re.sub(r"\]\(notebooks/([\w-]+)\.ipynb\)", r"](notebooks/\1.md)", markdown)
        markdown = _UP.sub(lambda m: f"]({up}{place(m[1])}{m[2]})", markdown)
    else:
        markdown = re.sub(r"\]\(((?:\.\./)*)docs/", rf"]({up}", markdown)
    return re.sub(
        r"\[([^\]]*)\]\((?:\.\./)*(?:benchmark|esdnet|baselines|ablations|tests)/[^)]*\)", r"\1", markdown
    )


def _notebook(path: Path) -> str:
    """A notebook as a page: its words, its code, and what was printed and drawn when it was last run."""
    lines = [f"[Download this notebook]({path.name})", ""]
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        lines += [source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```", ""]
        for shown in cell.get("outputs", []):
            if "image/png" in shown.get("data", {}):
                lines += [
                    f"![drawn](data:image/png;base64,{''.join(shown['data']['image/png']).strip()})",
                    "",
                ]
            elif "text" in shown:
                lines += [f"```text\n{''.join(shown['text']).rstrip()}\n```", ""]
    return "\n".join(lines)


def _commands() -> str:
    from benchmark.cli import build_parser

    lines = ["# Commands", "", "What `derain COMMAND --help` says.", ""]
    main = build_parser()
    (chosen,) = (a for a in main._actions if isinstance(a, argparse._SubParsersAction))
    for name, sub in _every(chosen, "derain"):
        lines += [f"## {name}", "", "```text", _help(sub), "```", ""]
    return "\n".join(lines)


def _every(chosen: Any, prefix: str) -> list[tuple[str, argparse.ArgumentParser]]:
    found = []
    for name, sub in chosen.choices.items():
        inner = [a for a in sub._actions if isinstance(a, argparse._SubParsersAction)]
        found += _every(inner[0], f"{prefix} {name}") if inner else [(f"{prefix} {name}", sub)]
    return found


def _help(sub: argparse.ArgumentParser) -> str:
    sub.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)  # type: ignore[assignment]
    return sub.format_help().rstrip()


def _settings() -> str:
    from benchmark.reading import written
    from benchmark.spec.resolve import KEYS, choices, schema
    from benchmark.spec.schema import RunSpec, leaves

    defaults, told = dict(leaves(RunSpec())), schema()
    lines = [
        "---\nhide: [toc]\n---\n",
        "# Settings",
        "",
        "`KEY=VALUE` on the command line, or in a file (`derain train -c FILE`, `derain config --schema`). "
        "`model=NAME`, `data=NAME`, `recipe=NAME` and `study=NAME row=NAME` choose; a network's own options are "
        "`model.OPTION` (`derain models NAME`).",
        "",
        "| setting | default | what it is | can be |",
        "| --- | --- | --- | --- |",
    ]
    for key in KEYS:
        own = _of_schema(told, key)
        kinds = ", ".join(choices(key)) if key != "data.name" else "derain data list"
        bounds = kinds or ", ".join(_bounds(own))
        lines.append(f"| `{key}` | `{written(defaults[key])}` | {own.get('description', '')} | {bounds} |")
    return "\n".join([*lines, ""])


def _of_schema(told: dict[str, Any], key: str) -> dict[str, Any]:
    *groups, name = key.split(".")
    place = told if not groups else told["$defs"][f"{groups[-1].title()}Spec"]
    return dict(place["properties"][name])


def _bounds(own: dict[str, Any]) -> list[str]:
    kinds = [own, *own.get("anyOf", [])]
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return [f"{sign} {kind[word]:,}" for kind in kinds for word, sign in words.items() if word in kind]
