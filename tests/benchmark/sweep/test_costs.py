"""Counts and timed forwards that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.cost import scaling
from benchmark.data.images import write_image
from benchmark.run import costs
from benchmark.spec import resolve


def test_a_table_of_forwards_that_was_cut_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []

    def forward(target: str, size: int, limit: float) -> scaling.Run:
        made.append((target, size))
        if size == 512 and made.count((target, size)) == 1:
            raise KeyboardInterrupt
        return scaling.Run(size / 1e3, None, "a note")

    monkeypatch.setattr(scaling, "run_once", forward)
    first = costs.KeptForwards(tmp_path)
    assert first("prenet", 256, 300).seconds == 0.256
    with pytest.raises(KeyboardInterrupt):
        first("prenet", 512, 300)

    again = costs.KeptForwards(tmp_path)
    assert again("prenet", 256, 300) == scaling.Run(0.256, None, "a note")
    assert again("prenet", 512, 300).seconds == 0.512
    assert again("prenet", 256, 10).seconds == 0.256
    assert made == [("prenet", 256), ("prenet", 512), ("prenet", 512), ("prenet", 256)]

    monkeypatch.setattr(costs, "counting_digest", lambda target="": "other")
    assert costs.KeptForwards(tmp_path)("prenet", 256, 10).seconds == 0.256
    assert made[4:] == [("prenet", 256)], "other code"
    again.forget()
    assert not list(tmp_path.iterdir())


def test_a_count_is_kept_for_the_code_that_made_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit says nothing: it is the same in a changed checkout, none in an installed wheel."""
    from benchmark import cost as counting

    measured: list[str] = []
    measure = counting.measure_cost

    def counted(network: object, *words: object, **options: object) -> object:
        measured.append(type(network).__name__)
        return measure(network, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(counting, "measure_cost", counted)
    first = costs.full_costs(["prenet"], tmp_path, 64)
    assert costs.full_costs(["prenet"], tmp_path, 64) == first and len(measured) == 1
    with monkeypatch.context() as patch:
        patch.setattr(costs, "counting_digest", lambda target="": "other")
        costs.full_costs(["prenet"], tmp_path, 64)
        assert len(measured) == 2
    (kept,) = tmp_path.rglob(costs.COST)
    kept.write_text(kept.read_text()[:40])
    assert costs.full_costs(["prenet"], tmp_path, 64) == first and len(measured) == 3


def test_rates_of_a_network_of_photographs_are_of_what_it_was_tested_on(tmp_path: Path) -> None:
    for i in range(3):
        for side in ("input", "target"):
            write_image(tmp_path / "mine" / side / f"{i}.png", np.full((40, 50, 3), 40 + i, np.uint8))
    words = ["data=photographs", f"data.root={tmp_path}", "evaluation.tile=whole"]
    tiles = costs._test_tiles(resolve([*words, f"evaluation.also=[{tmp_path}/mine]"]), 32)
    assert tiles.shape == (3, 3, 32, 32) and float(tiles[2].max()) * 255 == pytest.approx(42)
    embedded = costs._test_tiles(resolve(words), 32)
    assert embedded.shape == (8, 3, 32, 32)
    for name in ("embedded", "embedded-heavy"):
        assert costs._test_tiles(resolve([f"data={name}", "evaluation.tile=whole"]), 32).shape == (
            8,
            3,
            32,
            32,
        )
