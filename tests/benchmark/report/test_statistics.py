"""The bootstrap: nothing is found where nothing is, what is there is found, and how often it errs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.report.comparison import compare, marked, rank_table, scores
from benchmark.report.statistics import (
    Resampled,
    Scores,
    distinguishable,
    interval,
    rankings,
    resample,
    undecided,
)
from benchmark.report.table import BEST, TIED, Cell, markdown, read_table, write
from benchmark.report.tables import ranks, table1
from benchmark.sweep.plan import table_datasets


def _scores(values: np.ndarray, seeds: tuple[int, ...] | None = None) -> Scores:
    return Scores(
        seeds or tuple(range(len(values))), tuple(f"{i:04}" for i in range(values.shape[1])), values
    )


def _simulated(rng: np.random.Generator, seeds: int, images: int, shift: float = 0.0) -> np.ndarray:
    """Seeds and their interaction with images; what images have in common is added by the caller."""
    return shift + 0.3 * rng.normal(size=(seeds, 1)) + 0.5 * rng.normal(size=(seeds, images))


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 1000))
def test_a_network_and_itself_are_not_told_apart(seeds: int, images: int, state: int) -> None:
    values = np.random.default_rng(state).normal(30, 3, (seeds, images))
    means = resample({"a": _scores(values), "b": _scores(values.copy())}, resamples=200).means
    assert not distinguishable(means["a"], means["b"])
    assert np.allclose(means["a"], means["b"])


@given(st.integers(1, 5), st.integers(2, 30), st.floats(0.01, 5), st.integers(0, 1000))
def test_a_shift_that_all_images_share_is_found_however_much_they_differ(
    seeds: int, images: int, shift: float, state: int
) -> None:
    """Paired: what images differ by among themselves, 10 dB here, does not hide a tenth of a dB."""
    values = np.random.default_rng(state).normal(30, 10, (seeds, images))
    means = resample({"a": _scores(values), "b": _scores(values + shift)}, resamples=200).means
    assert distinguishable(means["a"], means["b"])
    assert undecided(means, "b") == set()


def test_the_deviation_of_the_resampled_mean_is_the_textbooks() -> None:
    """One seed: s / sqrt(n) over images; one image: over seeds; unbiased for two seeds already (n − 1 drawn of n)."""
    values = np.random.default_rng(0).normal(0, 1, (1, 8))
    drawn = resample({"a": _scores(values)}, resamples=20000).means["a"]
    assert drawn.std() == pytest.approx(values.std(ddof=1) / np.sqrt(8), rel=0.03)
    two = np.array([[29.0], [30.0]])
    drawn = resample({"a": _scores(two)}, resamples=20000).means["a"]
    assert drawn.std() == pytest.approx(two.std(ddof=1) / np.sqrt(2), rel=0.03)


def test_how_often_equals_are_told_apart_is_near_what_is_promised() -> None:
    """No difference in 300 experiments (5 seeds, 40 images): 5 % are expected to show one; 200 resamples each."""
    rng = np.random.default_rng(1)
    wrong = found = 0
    for trial in range(300):
        images = rng.normal(30, 3, (1, 40))
        a, b = _simulated(rng, 5, 40), _simulated(rng, 5, 40)
        data = {"a": _scores(images + a), "b": _scores(images + b), "c": _scores(images + b + 1.5)}
        means = resample(data, f"trial {trial}", f"trial {trial}", resamples=200).means
        wrong += distinguishable(means["a"], means["b"])
        found += distinguishable(means["a"], means["c"])
    assert 0.01 <= wrong / 300 <= 0.15
    assert found / 300 >= 0.95


def test_without_seeds_the_variance_of_seeds_would_be_missed() -> None:
    rng = np.random.default_rng(2)
    images = rng.normal(30, 3, (1, 40))
    a = images + 0.5 * rng.normal(size=(5, 1))
    low, high = interval(resample({"a": _scores(a), "b": _scores(a - 0.01)}).means["a"])
    one = resample({"a": _scores(a[:1]), "b": _scores(a[:1] - 0.01)}).means
    assert high - low > np.ptp(a.mean(axis=1)) / 2
    assert distinguishable(one["a"], one["b"])


def test_a_network_that_lacks_a_seed_is_compared_with_those_it_has() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(30, 1, (5, 20))
    resampled = resample({"a": _scores(values), "b": _scores(values[:3], (0, 2, 4))}, resamples=200)
    assert resampled.observed["b"] == pytest.approx(values[:3].mean())
    assert set(resampled.means) == {"a", "b"}


def test_infinite_scores_are_left_out_for_all_and_counted() -> None:
    values = np.full((2, 4), 30.0)
    other = values.copy()
    other[1, 2] = np.inf
    resampled = resample({"a": _scores(values), "b": _scores(other)}, resamples=10)
    assert (resampled.images, resampled.left_out) == (3, 1)
    assert np.isfinite(resampled.means["b"]).all()
    nothing = resample({"a": _scores(np.full((1, 2), np.inf))}, resamples=10)
    assert nothing.means == {} and nothing.left_out == 2


def test_the_same_records_give_the_same_marks() -> None:
    values = np.random.default_rng(0).normal(30, 1, (3, 10))
    first, second = (resample({"a": _scores(values)}, "x", "y").means["a"] for _ in range(2))
    assert (first == second).all()
    assert not (resample({"a": _scores(values)}, "another", "y").means["a"] == first).all()


@given(st.permutations(["a", "b", "c", "d"]), st.integers(0, 100))
def test_ranks_do_not_depend_on_the_order_and_probabilities_sum_to_one(order: list[str], state: int) -> None:
    rng = np.random.default_rng(state)
    values = {n: _scores(rng.normal(30, 1, (2, 9))) for n in "abcd"}
    values["d"] = values["c"]
    straight = rankings([resample({n: values[n] for n in "abcd"}, s, resamples=100) for s in "xy"])
    shuffled = rankings([resample({n: values[n] for n in order}, s, resamples=100) for s in "xy"])
    assert straight == shuffled
    assert sum(r.best for r in straight.values()) == pytest.approx(1)
    assert straight["c"].mean_rank == straight["d"].mean_rank
    assert sum(r.mean_rank for r in straight.values()) == pytest.approx(10)


def test_only_what_is_on_every_set_is_ranked() -> None:
    one = Resampled({"a": np.zeros(5), "b": np.ones(5)}, {"a": 0.0, "b": 1.0})
    two = Resampled({"a": np.zeros(5)}, {"a": 0.0})
    assert set(rankings([one, two])) == {"a"}
    assert rankings([one])["b"].mean_rank == 1 and rankings([one])["b"].best == 1
    assert rankings([]) == {}


def _record(model: str, data: str, seed: int, psnr: list[float], tested: tuple[str, ...] = ()) -> dict:
    rows = [{"name": str(i), "psnr_esdnet": p, "ssim_esdnet": p / 40} for i, p in enumerate(psnr)]
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
    records = _sweep({"esdnet": 0.0, "prenet": 0.001, "rescan": -2.0})
    table = table1("t", datasets, records, models=["rescan", "prenet", "esdnet"], seeds=3)
    _, rescan, prenet, esdnet = table.rows
    for key in ("rain200h_psnr", "average_psnr", "rain12_ssim"):
        assert {prenet.cells[key].mark, esdnet.cells[key].mark} == {BEST, TIED}, key
        assert rescan.cells[key].mark == "", key
    text = markdown(table)
    assert "2,000 resamples) over images and seeds." in text and "≈" in text and "3 seeds" in text
    places = ranks("table1_ranks", datasets, records, models=["rescan", "prenet", "esdnet", "drt"])
    assert places.rows[0].cells["psnr_rank"].value == 3.0
    assert places.rows[3].cells["psnr_rank"].reason == "not measured on all test sets"
    write(places, tmp_path)
    assert markdown(read_table(tmp_path / "table1_ranks.json")) == markdown(places)
    assert "3.00 [3.00, 3.00]" in markdown(places)


def test_one_seed_is_said_to_be_one() -> None:
    datasets = table_datasets(embedded=False)
    table = table1("t", datasets, _sweep({"esdnet": 0, "prenet": 1}, 1), models=["esdnet", "prenet"])
    assert any("images alone: with one seed each" in note for note in table.notes)
    assert "±" not in markdown(table)


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


def test_a_column_can_be_compared_with_a_proposed_row() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(30, 2, (3, 20))
    data = {"ours": _scores(values), "same": _scores(values), "better": _scores(values + 1)}
    cells = {n: Cell(float(s.values.mean())) for n, s in data.items()}
    result = marked(cells, resample(data, resamples=200), "ours")
    assert {n: c.mark for n, c in result.items()} == {"ours": "", "same": TIED, "better": BEST}


def test_an_empty_rank_table_says_why() -> None:
    table = rank_table("r", "Ranks", {"PSNR-Y": [Resampled({})]}, {"esdnet": "ESDNet"}, "images")
    assert table.rows[0].cells["psnr_rank"].reason
