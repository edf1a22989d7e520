"""Figures: files, embedded fonts, labels and boxes where they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.report import figures
from benchmark.report.figures import Panel, Point


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """A flat picture, and the same with rain and texture in one place."""
    target = np.full((80, 96, 3), 90, np.uint8)
    target[40:60, 48:72:2] = 200
    rainy = target.copy()
    rainy[40:60, 50:70] = np.clip(rainy[40:60, 50:70].astype(int) + 50, 0, 255)
    return rainy, target


def _whole(paths: list[Path], folder: Path, name: str) -> None:
    assert paths == [folder / f"{name}.{suffix}" for suffix in ("pdf", "png", "svg")]
    pdf = paths[0].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # TrueType, embedded
    with Image.open(paths[1]) as image:
        image.load()
        assert image.width >= 1200


def test_figure_1(tmp_path: Path) -> None:
    points = [Point("ESDNet", "Spiking", 0.165, 7.32, 35.5), Point("MPRNet", "CNN", 3.6, 548.7, 35.4)]
    _whole(figures.complexity(points, tmp_path, "f", "title", "mean"), tmp_path, "f")


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    values = {"A": [20.0, 22.0, 100.0]}
    for folder in ("a", "b"):
        figures.distributions(values, [12.0, 13.0, 14.0], tmp_path / folder, "f", "title")
    for suffix in ("pdf", "png"):
        assert (tmp_path / "a" / f"f.{suffix}").read_bytes() == (tmp_path / "b" / f"f.{suffix}").read_bytes()


@pytest.mark.parametrize("count", [3, 9])
def test_comparison(tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], count: int) -> None:
    rainy, target = pictures
    panels = [Panel(f"network {i}", rainy, "20.00 / 0.9") for i in range(count - 1)] + [
        Panel("Target", target)
    ]
    _whole(
        figures.comparison(panels, figures.telling_boxes(rainy, target), tmp_path, "f", "title"),
        tmp_path,
        "f",
    )


def test_the_insets_are_where_rain_meets_detail(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    first, *others = figures.telling_boxes(*pictures)
    assert first.of(pictures[0]).shape == (20, 20, 3)
    assert 30 <= first.top <= 50 and 40 <= first.left <= 60
    assert all(max(abs(first.top - o.top), abs(first.left - o.left)) >= first.side for o in others)


def test_curves(tmp_path: Path) -> None:
    lines = {f"n{i}": [(0.0, 1.0), (10.0, 0.5)] for i in range(14)}
    _whole(figures.curves(lines, tmp_path, "f", "title", "loss"), tmp_path, "f")


def test_every_network_has_a_line_of_its_own() -> None:
    assert len({*map(tuple, figures._cycle(14))}) == 14


def test_names_do_not_cover_each_other() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = Figure(figsize=(7, 4), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlim(0.1, 100)
    axes.set_ylim(25, 35)
    figure.canvas.draw()
    figures._labels(axes, [Point(f"network{i}", "CNN", 1.0 + 0.01 * i, 10, 30 + 0.01 * i) for i in range(5)])
    figure.canvas.draw()  # places the texts
    boxes = [Text.get_window_extent(t) for t in axes.texts]  # an annotation's own includes its line
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
