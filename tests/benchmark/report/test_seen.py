"""What is said of figures to those who do not see them."""

from __future__ import annotations

from benchmark.report import seen
from benchmark.text.table import Cell, Column, Row, Table


def test_a_ranking_names_the_best_the_last_and_the_input() -> None:
    values = {"a": 20.0, "b": 22.0, "c": 21.0, "d": 19.0, "nan": float("nan"), "Rainy input": 20.5}
    assert seen.ranking(values) == (
        "Highest: b 22.00 dB, c 21.00 dB, a 20.00 dB; lowest of 4: d 19.00 dB; Rainy input: 20.50 dB, 2 of 4 above it."
    )
    assert seen.ranking({}) == ""


def test_intervals_are_told_by_their_side_of_nothing() -> None:
    def row(label: str, low: float, high: float) -> Row:
        return Row(label, {"difference": Cell((low + high) / 2, interval=(low, high))})

    rows = [row("up", 0.5, 1.5), row("down", -2.0, -1.0), row("none", -1.0, 1.0), Row("empty")]
    table = Table("t", "t", [Column("difference", "Difference")], rows)
    assert seen.of_differences([table]) == (
        "Interval above 0: up +1.00; interval below 0: down \u22121.50; interval across 0: none +0.00 dB."
    )


def test_the_front_is_of_rows_that_none_of_less_energy_beats() -> None:
    rows = [
        Row(label, {"psnr": Cell(psnr), "e": Cell(energy)})
        for label, psnr, energy in (("cheap", 20.0, 1e3), ("dear", 22.0, 9e3), ("worse", 19.0, 5e3))
    ]
    said = seen.against_energy(Table("t", "t", [], rows), "psnr", ("none", "e"), "45nm")
    assert "scores higher than: cheap (1 mJ, 20.00 dB), dear (9 mJ, 22.00 dB)." in said


def test_losses_are_told_from_their_first_to_their_last_tenth() -> None:
    falling = [(float(i), 1.0 - i / 20) for i in range(20)]
    assert seen.of_losses({"n": falling}).endswith("n 0.97 to 0.075.")
