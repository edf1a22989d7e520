"""Figures: files, embedded fonts, labels that cover nothing, crops pixel for pixel, one colour a family."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from PIL import Image

from benchmark.cli.showing import stand_in
from benchmark.cost import breakeven
from benchmark.report import costs, crops, figures, style
from benchmark.report.crops import Panel
from benchmark.report.figures import Point, Quality, Scores, Training
from benchmark.report.inspection import Patch, draw, known_as
from benchmark.report.pagepictures import in_both
from benchmark.report.style import FAMILIES, Label

FAMILY = ("CNN", "Transformer", "Spiking")
_COSTS = Path(__file__).resolve().parents[3] / "results" / "cost"


def _labels(figure: Figure) -> dict[str, tuple[float, float, float, float]]:
    """The boxes of all labels, in the PNG's pixels."""
    figure.canvas.draw()
    texts = [t for axes in figure.axes for t in axes.texts if isinstance(t, Annotation)]
    # an annotation's own extent would include its line
    return {f"{i} {t.get_text()}": Text.get_window_extent(t).extents for i, t in enumerate(texts)}


def _overlap(a: Any, b: Any) -> bool:
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


def _hidden(figure: Figure) -> list[str]:
    """Labels that cover another or the middle of a marker."""
    labels = _labels(figure)
    wrong = [f"{a}, {b}" for a, b in itertools.combinations(labels, 2) if _overlap(labels[a], labels[b])]
    for axes in figure.axes:
        for line in axes.lines:
            if line.get_marker() not in (None, "None", "", ","):
                for x, y in axes.transData.transform(np.transpose(line.get_data())):
                    wrong += [label for label, box in labels.items() if _overlap(box, (x, y, x, y))]
    return wrong


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Leaves in noise, and the same with rain in one place."""
    rng = np.random.default_rng(0)
    target = np.full((160, 192, 3), 90, np.uint8)
    target[80:120, 96:144:2] = 200
    target[:, :, 0] += rng.integers(0, 9, target.shape[:2], dtype=np.uint8)
    rainy = target.copy()
    rainy[80:120, 100:140] = np.clip(rainy[80:120, 100:140].astype(int) + 50, 0, 255)
    return rainy, target


def _whole(paths: list[Path], folder: Path, name: str, width: int = 1000) -> None:
    assert paths == [folder / f"{name}.{suffix}" for suffix in ("pdf", "png", "svg")]
    pdf = paths[0].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # TrueType, embedded
    with Image.open(paths[1]) as image:
        image.load()
        assert image.width >= width


def _crowd() -> list[Point]:
    """Fourteen networks, most of them in one corner."""
    rng = np.random.default_rng(4)
    return [
        Point(f"Network {i}", FAMILY[i % 3], 1 + 0.2 * rng.random(), 2.0 + i / 9, 30 + 0.2 * rng.random())
        for i in range(9)
    ] + [Point(f"Other {i}", FAMILY[i % 3], 4.0 * (i + 1), 9.0, 28.0 - i) for i in range(5)]


def test_figure_1(tmp_path: Path, drawn: list[Figure]) -> None:
    _whole(figures.complexity(_crowd(), tmp_path, "f", "title", "Rain200L"), tmp_path, "f")
    assert len(_labels(drawn[0])) == 14 and not _hidden(drawn[0])
    best = max(_crowd(), key=lambda p: p.psnr).label
    assert [t.get_text() for t in drawn[0].axes[0].texts if style.BEST in t.get_text()] == [
        next(t for t in (x.get_text() for x in drawn[0].axes[0].texts) if f"{style.BEST} {best}," in t)
    ]
    assert drawn[0].axes[0].get_ylabel() == "PSNR-Y on Rain200L (dB)"


def test_figure_1_is_of_the_light_rain() -> None:
    assert stand_in(["rain12", "rain200h", "rain200l", "rain1200"]) == "rain200l"
    assert stand_in(["embedded-12", "embedded-heavy", "embedded-light"]) == "embedded-light"
    assert stand_in(["rain800", "rain200h"]) == "rain200h", "where it is not there, the first of a column"
    assert stand_in([]) is None


def test_quality_against_energy(tmp_path: Path, drawn: list[Figure]) -> None:
    points = [
        Quality(p.label, p.family, 1e3 * p.params_m, p.psnr, p.psnr - 0.1, p.psnr + 0.1, i == 0)
        for i, p in enumerate(_crowd())
    ]
    _whole(figures.quality(points, tmp_path, "f", "45nm", "Rain200L"), tmp_path, "f")
    assert len(_labels(drawn[0])) == 14 and not _hidden(drawn[0])


@pytest.mark.parametrize("convention", ["45nm", "lemaire"])
def test_energy_against_spike_rate(tmp_path: Path, drawn: list[Figure], convention: str) -> None:
    table = pd.read_csv(_COSTS / "breakeven.csv")
    level = table[table.convention == convention].nafnet_uj.iloc[0]
    lines = breakeven.lines(table, convention)
    paths = costs.against_rate(lines, level, ("NAFNet", "CNN"), convention, tmp_path, "f")
    _whole(paths, tmp_path, "f")
    assert not _hidden(drawn[0])
    said = [label.split(maxsplit=1)[1] for label in _labels(drawn[0])]
    assert {"ESDNet", "ESDNet-S (ours)", "SpikeRain", "VLIF", "NAFNet", "untrained", "120 steps"} < {*said}
    meets = table[(table.convention == convention) & (table.network == "SpikeRain")].nafnet_percent.iloc[0]
    assert f"{meets:.1f} %" in said


def test_growth_has_a_name_at_every_line(tmp_path: Path, drawn: list[Figure]) -> None:
    table = pd.read_csv(_COSTS / "scalability.csv")
    _whole(costs.growth(table, {"ESDNet": "Spiking"}, tmp_path, "f"), tmp_path, "f")
    assert len(_labels(drawn[0])) == 4 * table.network.nunique() and not _hidden(drawn[0])
    assert sum(style.BEST in label for label in _labels(drawn[0])) == 4


def test_lengths_have_their_names_at_their_ends(tmp_path: Path, drawn: list[Figure]) -> None:
    curves = [figures.Lengths(f"N{i}", FAMILY[i % 3], {100: 20.0, 200: 21 + i / 99}) for i in range(9)]
    _whole(figures.lengths(curves, tmp_path, "f", "Rain200L"), tmp_path, "f")
    labels = _labels(drawn[0])
    assert not _hidden(drawn[0])
    heights = {label.split()[-1]: box[1] for label, box in labels.items()}
    assert sorted(heights, key=lambda n: heights[n]) == [f"N{i}" for i in range(9)], "in the lines' order"
    assert sum(style.BEST in label for label in labels) == 1


@pytest.mark.parametrize("family", FAMILY)
def test_a_family_has_one_colour(tmp_path: Path, drawn: list[Figure], family: str) -> None:
    own = FAMILIES[family].colour.lower()
    figures.complexity([Point("A", family, 1, 1, 30), Point("B", family, 2, 1, 31)], tmp_path, "1", "", "")
    figures.quality([Quality("A", family, 1e3, 30, None, None, True)], tmp_path, "2", "45nm", "")
    figures.lengths([figures.Lengths("A", family, {1: 2.0, 2: 3.0})], tmp_path, "3", "")
    figures.distributions([Scores("A", family, [20.0, 21.0])], [15.0, 16.0], tmp_path, "4", "")
    figures.curves([Training("A", family, [(0, 1.0), (1, 0.5)])], tmp_path, "5", "")
    for figure in drawn:
        colours = {to_hex(line.get_color()) for line in figure.axes[0].lines}
        others = {look.colour.lower() for name, look in FAMILIES.items() if name != family}
        assert own in colours and not colours & others
    css = (Path(figures.__file__).parent / "report.css").read_text()
    (page,) = re.findall(rf"--{family.lower()}: light-dark\((#[0-9a-f]{{6}})", css)
    assert page == own, "the page's tables have it too"


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    rows = [Scores("A", "CNN", [20.0, 22.0, 100.0])]
    for folder in ("a", "b"):
        figures.distributions(rows, [12.0, 13.0, 14.0], tmp_path / folder, "f", "title")
    for suffix in ("pdf", "png", "svg"):
        assert (tmp_path / "a" / f"f.{suffix}").read_bytes() == (tmp_path / "b" / f"f.{suffix}").read_bytes()


def test_distributions_are_ranked(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [Scores("worse", "CNN", [20.0, 22.0]), Scores("better", "", [23.0, 24.0])]
    _whole(figures.distributions(rows, [12.0, 13.0], tmp_path, "f", "title"), tmp_path, "f")
    names = [t.get_text() for t in drawn[0].axes[0].get_yticklabels()]
    assert names == [f"{style.BEST} better", "worse", "Rainy input"]


@pytest.mark.parametrize(("count", "zoom"), [(3, 4), (9, 3)])
def test_crops_show_pixel_for_pixel(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], count: int, zoom: int
) -> None:
    rainy, target = pictures
    panels = [Panel(f"network {i}", rainy, "20.00 / 0.9", i == 1) for i in range(count - 1)]
    paths = crops.comparison([*panels, Panel("Target", target)], tmp_path, "f", "title")
    _whole(paths, tmp_path, "f", 1400)
    cell = 1400 // (3 if count == 3 else 5)
    side = (cell - 16) // 2 // zoom
    page = np.asarray(Image.open(paths[1]).convert("RGB"))
    box, _ = crops.telling_boxes(rainy, target, side)
    crop = np.kron(box.of(rainy), np.ones((zoom, zoom, 1), np.uint8))
    top, left = crops._GAP + 2 * crops._TEXT, 2 * cell + crops._GAP
    inner = slice(6, -6)  # without the frame
    there = page[top : top + zoom * side, left : left + zoom * side]
    assert np.array_equal(there[inner, inner], crop[inner, inner])


def test_a_large_picture_is_drawn_smaller_and_says_so(
    tmp_path: Path, pictures: tuple[np.ndarray, np.ndarray], drawn: list[Figure]
) -> None:
    large = [np.kron(p, np.ones((8, 8, 1), np.uint8)) for p in pictures]
    crops.comparison([Panel("a", large[0]), Panel("b", large[1])], tmp_path, "f", "title")
    said = [t.get_text() for t in drawn[0].texts]
    assert "title; crops at 3:1" in said
    assert any(re.fullmatch(r"a, whole \(\d+ × \d+\) at 1:1\.\d\d", t) for t in said), said


def test_an_interval_that_is_cut_has_an_arrow(tmp_path: Path, drawn: list[Figure]) -> None:
    points = [
        Quality("wide", "CNN", 1e3, 20.0, 5.0, 40.0, True),
        Quality("n", "CNN", 2e3, 21.0, 20.9, 21.1, True),
    ]
    figures.quality(points, tmp_path, "f", "45nm", "a set")
    (axes,) = drawn[0].axes
    arrows = {
        line.get_marker(): float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() in "v^"
    }
    assert (arrows["v"], arrows["^"]) == axes.get_ylim()
    assert "PSNR-Y on a set against energy" in axes.get_title(loc="left")
    assert "arrow" in axes.get_title(loc="left")


def test_no_loss_is_cut_off_in_silence(tmp_path: Path, drawn: list[Figure]) -> None:
    def of(first: float) -> Training:
        return Training("n", "CNN", [(0.0, first), *((float(i), 0.1) for i in range(1, 200)), (200.0, 0.0)])

    for first in (0.2, 50.0):
        figures.curves([of(first)], tmp_path, "f", "t")
    seen, cut = (f.axes[0].get_ylim()[1] for f in drawn)
    assert seen > 0.2 and cut < 50
    assert "no images were held out" in drawn[0].get_suptitle()
    assert "beyond the frame" not in drawn[0].get_suptitle()
    assert "up to 50, are beyond the frame" in drawn[1].get_suptitle()


def test_every_colour_has_one_for_the_dark(tmp_path: Path) -> None:
    rows = [Scores(f"n{i}", family, [20.0 + i, 22.0]) for i, family in enumerate((*style.FAMILIES, ""))]
    paths = figures.distributions(rows, [13.0, 14.0], tmp_path, "d", "t")
    points = [Quality(f"q{i}", f, 1e3 + i, 20.0 + i, 19.0, 22.0, i > 1) for i, f in enumerate(style.FAMILIES)]
    paths += figures.quality(points, tmp_path, "q", "45nm", "a set")
    dark = style.in_the_dark()
    for path in (p for p in paths if p.suffix == ".svg"):
        colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", path.read_text()))
        assert colours <= set(dark) and len(colours) > 6
        assert in_both(path.read_text()).count("prefers-color-scheme") == 1

    def light(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.3 * red + 0.59 * green + 0.11 * blue

    paper = light(dark["#ffffff"])
    for family in style.FAMILIES.values():
        assert light(dark[family.ink.lower()]) - paper > 100


def test_the_crops_are_where_rain_meets_detail(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    first, *others = crops.telling_boxes(*pictures, side=40)
    assert first.of(pictures[0]).shape == (40, 40, 3)
    assert 60 <= first.top <= 100 and 80 <= first.left <= 120
    assert len(others) == 1
    assert all(max(abs(first.top - o.top), abs(first.left - o.left)) >= first.side for o in others)
    assert len(crops.telling_boxes(*pictures, side=100)) == 2, "they overlap where there is no room"


def test_curves_are_small_multiples_on_the_same_axes(tmp_path: Path, drawn: list[Figure]) -> None:
    trainings = [
        Training(f"n{i}", FAMILY[i % 3], [(0.0, 1.0), (10.0, 0.1 * i)], [(5.0, 20.0 + i), (9.0, 20.5 + i)])
        for i in range(9)
    ]
    _whole(figures.curves([*trainings, Training("no", "CNN", [(0, 1.0)])], tmp_path, "f", "t"), tmp_path, "f")
    left = [a for a in drawn[0].axes if a.get_visible() and a.get_title(loc="left")]
    right = [a for a in drawn[0].axes if a not in left and a.get_visible()]
    titles = [a.get_title(loc="left") for a in left]
    assert titles == [*(f"n{i}, {20.5 + i:.2f} dB" for i in range(8)), f"{style.BEST} n8, 28.50 dB", "no"]
    assert len({a.get_ylim() for a in left}) == len({a.get_ylim() for a in right}) == 1
    assert [len(a.lines[0].get_xdata()) for a in right] == [2] * 9 + [1]


def test_a_running_mean_shows_where_a_noisy_loss_goes(tmp_path: Path, drawn: list[Figure]) -> None:
    noisy = [(float(i), 1 - i / 40 + 0.3 * (-1) ** i) for i in range(30)]
    _whole(figures.curves([Training("n", "CNN", noisy)], tmp_path, "f", "t"), tmp_path, "f")
    (axes,) = drawn[0].axes
    of_batches, mean = (np.asarray(line.get_ydata()) for line in axes.lines)
    assert np.abs(np.diff(of_batches)).max() > 0.5 and np.abs(np.diff(mean)).max() < 0.15
    assert mean[15] == pytest.approx(of_batches[12:19].mean())


@pytest.mark.parametrize("potentials", [True, False])
def test_figure_2(tmp_path: Path, drawn: list[Figure], potentials: bool) -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((3, 8, 8), np.float32)
    patches = [
        Patch(title, rng.random((8, 8, 3), np.float32) ** 2, maps / n, maps - 0.5 if potentials else None)
        for n, title in ((1, "rainy"), (2, "clean"))
    ]
    _whole(draw(patches, tmp_path, "f", "title", 0.3 if potentials else None), tmp_path, "f")
    assert not _hidden(drawn[0])
    said = [label.split(maxsplit=1)[1] for label in _labels(drawn[0])]
    assert sorted(said) == sorted(
        [*["rainy", "clean"] * (3 if potentials else 2), *["threshold"] * potentials]
    )
    assert not [a for a in drawn[0].axes if a.get_legend()]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("encoder2.3.residual.1.activation", "encoder level 2, block 4, convolution unit 2"),
        ("bottleneck.1.activations.4", "bottleneck, block 2, neurons 5"),
        ("down1.activation", "down-sampling 1"),
        ("encoder1.block.visual.neuron", "encoder level 1, residual block, visual neurons"),
        ("mine.spikes", "mine, spikes"),
        ("neuron", "neuron"),
    ],
)
def test_layers_have_names_that_people_know(layer: str, words: str) -> None:
    assert known_as(layer) == words


def _beside(axes: Any) -> None:
    style.beside(axes, [Label(f"network{i}", 1 + 0.01 * i, 30 + 0.01 * i) for i in range(5)])


def _at_ends(axes: Any) -> None:
    style.at_ends([(axes, [Label(f"network{i}", 100, 25 + 0.01 * i) for i in range(15)])])


@pytest.mark.parametrize("place", [_beside, _at_ends])
def test_names_do_not_cover_each_other(place: Callable[[Any], None]) -> None:
    with style.drawing(7, 4) as figure:
        axes = figure.add_subplot()
        axes.set(xscale="log", xlim=(0.1, 100), ylim=(25, 35))
        place(axes)
        assert len(_labels(figure)) >= 5 and not _hidden(figure)
        assert all(
            box[1] > axes.bbox.y0 - 2 and box[3] < axes.bbox.y1 + 2 for box in _labels(figure).values()
        )


def test_names_keep_clear_of_lines() -> None:
    with style.drawing(7, 4) as figure:
        axes = figure.add_subplot()
        axes.set(xlim=(0, 10), ylim=(0, 10))
        style.beside(axes, [Label("a long name", 5, 5)], [[[0, 10], [5, 5]], [[5, 5], [0, 10]]])
        (box,) = _labels(figure).values()
        x, y = axes.transData.transform((5, 5))
        assert not box[0] < x < box[2] and not box[1] < y < box[3]
