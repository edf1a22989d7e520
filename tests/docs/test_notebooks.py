"""The notebooks run as they stand, and what is kept of their results tells nothing of where they ran."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [_printed(cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    again = [_printed(cell) for cell in notebook["cells"]]
    assert [bool(text) for text in printed] == [bool(text) for text in again]


def _printed(cell: dict) -> str:
    outputs = cell.get("outputs", [])
    return "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")


def test_they_are_there_with_results_and_without_paths() -> None:
    assert len(NOTEBOOKS) == 2
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        assert '"output_type"' in text and '"ename"' not in text
        assert "site-packages" not in text
