"""Marks of tables: scenes are drawn together, all comparisons are corrected, marks are withheld."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmark.data.specs import dataset_spec, scene_of
from benchmark.report import comparison
from benchmark.report.comparison import Family, Scenes, Scores, beside, compare, marked, scores, sentences
from benchmark.report.tables import ranks, table1
from benchmark.sweep.plan import table_datasets
from benchmark.text.table import BEST, TIED, Cell, markdown, read_table, write


def _record(model: str, data: str, seed: int, psnr: list[float], tested: tuple[str, ...] = ()) -> dict:
    rows = [
        {"name": str(i), "clean": f"c{i}", "psnr_esdnet": p, "ssim_esdnet": p / 40}
        for i, p in enumerate(psnr)
    ]
    mean = {"n": len(psnr), "psnr_esdnet": float(np.mean(psnr)), "ssim_esdnet": float(np.mean(psnr)) / 40}
    mean |= {"rainy_psnr_esdnet": 20.0, "rainy_ssim_esdnet": 0.7, "infinite": {}}
    return {
        "config": {"model": {"name": model, "options": {}}, "data": {"name": data}, "seed": seed},
        "results": {name: {"mean": mean, "images": rows} for name in (data, *tested)},
        "missing": {},
        "commit": "abc",
    }


def _sweep(offset: dict[str, float], seeds: int = 3) -> list[dict]:
    rng = np.random.default_rng(0)
    records = []
    for data, tested in (("rain200l", ("rain12",)), ("rain200h", ()), ("rain1200", ())):
        images = rng.normal(30, 3, 12)
        for seed in range(seeds):
            for model, shift in offset.items():
                own = images + shift + 0.1 * (seed - 1) * (-1 if model == "esdnet" else 1)
                records.append(_record(model, data, seed, [*own], tested))
    return records


def test_table_1_marks_the_best_and_what_cannot_be_told_from_it(tmp_path) -> None:
    datasets = table_datasets(embedded=False)
    records = _sweep({"esdnet": 0.0, "prenet": 0.001, "rescan": -20.0}, 5)
    table = table1("t", datasets, records, models=["rescan", "prenet", "esdnet"], seeds=5)
    _, rescan, prenet, esdnet = table.rows
    for key in ("rain200h_psnr", "average_psnr", "rain12_ssim"):
        assert {prenet.cells[key].mark, esdnet.cells[key].mark} == {BEST, TIED}, key
        assert rescan.cells[key].mark == "", key
    text = markdown(table)
    assert "30 comparisons of this table" in text and "Resolution, the smallest" in text and "≈" in text
    places = ranks("table1_ranks", datasets, records, models=["rescan", "prenet", "esdnet", "drt"])
    assert places is not None
    assert (places.rows[0].cells["psnr_rank"].value, places.rows[0].cells["psnr_rank"].interval) == (
        3.0,
        (3, 3),
    )
    assert places.rows[1].cells["psnr_rank"].interval == (1, 2)
    assert places.rows[3].cells["psnr_rank"].reason == "not measured on all test sets"
    write(places, tmp_path)
    assert markdown(read_table(tmp_path / "table1_ranks.json")) == markdown(places)


@pytest.mark.parametrize(("seeds", "why"), [(1, "one seed"), (3, "3 seeds, 5 are needed")])
def test_few_seeds_have_no_marks_and_no_ranks(seeds: int, why: str) -> None:
    datasets = table_datasets(embedded=False)
    records = _sweep({"esdnet": 0, "prenet": 20}, seeds)
    table = table1("t", datasets, records, models=["esdnet", "prenet"], seeds=seeds)
    assert not any(c.mark for row in table.rows for c in row.cells.values())
    notes = " ".join(table.notes)
    assert f"No marks: {why}" in notes and "Resolution" in notes
    assert ("these very weights" in notes) == (seeds == 1)
    assert ranks("r", datasets, records, models=["esdnet", "prenet"]) is None


@pytest.mark.parametrize(("seeds", "shown"), [(4, False), (5, True)])
def test_embedded_tables_of_few_seeds_have_no_printed_figures(seeds: int, shown: bool) -> None:
    datasets = table_datasets(embedded=True)
    training = dataset_spec(datasets[0]).training
    records = [_record("esdnet", training, s, [30.0, 31.0], tuple(datasets)) for s in range(seeds)]
    costs = {"esdnet": {"params": 73_000, "operations": 2e9}}
    table = table1("t", datasets, records, models=["esdnet"], seeds=seeds, costs=costs, variants=["esdnet"])
    cells = table.rows[-1].cells
    assert any(c.paper is not None for c in cells.values()) == shown
    assert cells["params_m"].value == 0.073 and cells["params_m"].paper is None
    assert any("variants that were trained" in n for n in table.notes)


def test_a_missing_seed_shows_in_the_average_too() -> None:
    datasets = table_datasets(embedded=False)
    records = [
        r
        for r in _sweep({"esdnet": 0.0, "prenet": 1.0})
        if not (
            r["config"]["seed"] == 1
            and r["config"]["data"]["name"] == "rain1200"
            and r["config"]["model"]["name"] == "esdnet"
        )
    ]
    esdnet = table1("t", datasets, records, models=["esdnet", "prenet"], seeds=3).rows[1]
    assert (esdnet.cells["rain1200_psnr"].n, esdnet.cells["average_psnr"].n) == (2, 2)
    assert esdnet.cells["rain200h_psnr"].n == 3
    assert esdnet.cells["average_psnr"].deviation is not None


def test_records_without_images_are_not_compared() -> None:
    record = _record("esdnet", "rain200h", 0, [30.0])
    record["results"]["rain200h"]["images"] = []
    assert scores([record], "rain200h", "psnr_esdnet") is None
    assert compare({"esdnet": [record]}, "rain200h", "psnr_esdnet").means == {}


def test_names_tell_scenes() -> None:
    def told(dataset: str, name: str) -> str | None:
        return scene_of(dataset_spec(dataset), name)

    assert told("rain200l", "17x2") == told("rain200h", "norain-017") == "rain200:17"
    assert told("embedded-mixed", "002-coffee-medium") == told("embedded-12", "05-coffee") == "shipped:coffee"
    assert told("rain1400", "902_1") == told("test2800", "902_14") == "rain1400:902"
    assert told("gt-rain", "Park/Park-R-003") == "gt-rain:Park/Park"
    assert told("rain12", "001") is None
    with pytest.raises(ValueError, match="one group"):
        dataclasses.replace(dataset_spec("rain12"), scene="a")


def _row(name: str, **said: str) -> dict:
    return {"name": name, "psnr_esdnet": 30.0, **said}


def test_pictures_of_the_same_clean_pixels_are_one_scene_across_sets() -> None:
    results = {
        "rain12": {"images": [_row("001", clean="x"), _row("002", clean="y")]},
        "rain200l": {"images": [_row("7", clean="x"), _row("8", clean="z", scene="rain200:8")]},
        "rain200h": {"images": [_row("8", clean="other")]},
    }
    scenes = Scenes([{"results": results}], results)
    assert scenes.of("rain12", "001") == scenes.of("rain200l", "7") != scenes.of("rain12", "002")
    assert scenes.of("rain200l", "8") == scenes.of("rain200h", "8")
    assert scenes.told_by("rain12") == ()


def test_records_from_before_scenes_stay_readable_and_say_so() -> None:
    results = {
        "embedded-light": {"images": [_row("001-china"), _row("004-china"), _row("002-coffee")]},
        "rain800": {"images": [_row("1"), _row("2")]},
    }
    scenes = Scenes([{"results": results}], results)
    assert scenes.of("embedded-light", "001-china") == scenes.of("embedded-light", "004-china")
    assert scenes.of("rain800", "1") != scenes.of("rain800", "2")
    assert "names of the pictures tell" in scenes.told_by("embedded-light")[0]
    assert "every picture is taken for one" in scenes.told_by("rain800")[0]


def _beside(values: dict[str, np.ndarray]) -> Family:
    images = tuple(str(i) for i in range(next(iter(values.values())).shape[1]))
    found = {n: Scores(tuple(range(len(v))), images, v) for n, v in values.items()}
    return Family({"psnr": beside(found, dict(zip(images, images, strict=True)))}, "ours", {"psnr": "PSNR-Y"})


def test_a_column_can_be_compared_with_a_proposed_row() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(30, 2, (5, 20))
    family = _beside({"ours": values, "same": values, "better": values + 1})
    cells = {n: Cell(m) for n, m in family.columns["psnr"].means.items()}
    result = marked(cells, family, "psnr", "ours")
    assert {n: c.mark for n, c in result.items()} == {"ours": "", "same": TIED, "better": BEST}
    assert family.count == 2


def test_infinite_scores_are_left_out_for_all_and_counted() -> None:
    values = np.full((5, 6), 30.0)
    other = values.copy()
    other[1, 2] = np.inf
    compared = _beside({"ours": values, "other": other}).columns["psnr"]
    assert (len(compared.scenes), compared.left_out) == (5, 1)


def test_the_resolution_is_what_would_just_have_been_told() -> None:
    rng = np.random.default_rng(1)
    ours, other = rng.normal(30, 1, (2, 5, 20))
    (least, _), *_ = _beside({"ours": ours, "other": other}).resolutions().values()
    apart = other.mean() - ours.mean()
    for shift, told in ((1.01 * least, True), (0.99 * least, False)):
        family = _beside({"ours": ours, "other": other - apart + shift})
        assert family.told("psnr")[frozenset(("ours", "other"))] is told


def test_weights_that_nobody_trained_here_have_no_seeds_of_their_own() -> None:
    """Beside trained ones they are the same for each of their seeds."""
    psnr = [30.0, 31.5, 29.0, 33.0]
    given = {**_record("esdnet", "rain200h", 0, psnr), "row": "released"}
    trained = [
        _record("prenet", "rain200h", s, [p - 0.3 + 0.1 * s * (-1) ** i for i, p in enumerate(psnr)])
        for s in range(3)
    ]
    column = ("rain200h", "psnr_esdnet")
    for records, seeds in (([given], None), (trained[:1], (0,)), (trained, (0, 1, 2))):
        found = scores(records, *column)
        assert found is not None and found.seeds == seeds
    repeated = [_record("esdnet", "rain200h", s, psnr) for s in range(3)]
    for first, second in ((given, trained), (trained, given)):
        names = ("a", "b")
        ones = [r if isinstance(r, list) else [r] for r in (first, second)]
        same = [r if isinstance(r, list) else repeated for r in (first, second)]
        pair = compare(dict(zip(names, ones, strict=True)), *column).pairs()[names]
        assert pair == compare(dict(zip(names, same, strict=True)), *column).pairs()[names]
    alone = compare({"a": [given], "b": [given]}, *column).pairs()["a", "b"]
    assert alone != pair and alone.mean == 0


def test_what_a_table_says_of_its_comparisons() -> None:
    """One column with marks and a picture left out, two that have too few seeds."""
    rng = np.random.default_rng(0)
    ours = rng.normal(30, 2, (5, 20))
    lost = ours + rng.normal(0, 0.2, ours.shape)
    lost[2, 3] = np.inf
    whole = _beside({"ours": ours, "lost": lost}).columns["psnr"]
    few = _beside({"ours": ours[:2], "lost": ours[:2] + 1}).columns["psnr"]
    family = Family({"a": whole, "b": few, "c": few}, None, dict.fromkeys("abc", "PSNR-Y"))
    said = " ".join(sentences(family, {"PSNR-Y": 3}))
    assert "over the 3 comparisons of this table; the best is found by looking" in said
    assert "No marks in 2 of 3 columns: 2 seeds" in said
    assert "19 to 20 pictures of 19 to 20 scenes a column" in said
    assert "are not compared (up to 1)." in said
    (middle, most) = family.resolutions()["PSNR-Y"]
    small = comparison._small
    assert f": PSNR-Y {small(middle, 3)} (median; {small(most, 3)} at most)." in said
    unsaid = " ".join(sentences(family, {}))
    assert f": PSNR-Y {small(middle, 2)} (median; {small(most, 2)} at most)." in unsaid
    assert "20 pictures of 20 scenes a column" in " ".join(sentences(Family({"b": few}), {}))


def test_what_could_have_been_told_is_rounded_upwards() -> None:
    for value, digits, printed in (
        (0.25, 2, "0.25"),
        (0.07, 2, "0.07"),
        (0.25005, 2, "0.26"),
        (1.2301, 3, "1.231"),
    ):
        assert comparison._small(value, digits) == printed


def test_a_row_that_is_not_compared_has_no_mark() -> None:
    """It has a figure and no pictures, as records of long ago."""
    rng = np.random.default_rng(0)
    values = rng.normal(30, 2, (5, 20))
    family = _beside({"ours": values, "same": values + rng.normal(0, 1, values.shape)})
    cells = {n: Cell(m) for n, m in family.columns["psnr"].means.items()} | {"old": Cell(29.0)}
    *compared, old = (c.mark for c in marked(cells, family, "psnr").values())
    assert {*compared} == {BEST, TIED} and old == ""


def test_one_network_alone_on_all_sets_is_not_the_best() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(30, 2, (5, 20))
    sets = [_beside({"ours": values, n: values + 1}).columns["psnr"] for n in ("a", "b")]
    labels = {"ours": "Ours", "a": "A", "b": "B"}
    table = comparison.rank_table("r", "R", {"PSNR-Y": sets}, labels)
    assert table is not None
    assert [row.cells["psnr_rank"].mark for row in table.rows] == ["", "", ""]
    both = comparison.rank_table("r", "R", {"PSNR-Y": [sets[0]]}, {"ours": "Ours", "a": "A"})
    assert both is not None and [row.cells["psnr_rank"].mark for row in both.rows] == ["", BEST]
