"""The study's tables and verdicts, from kept runs of known differences."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark import catalog
from benchmark.cli import main
from benchmark.cli.drawing import draw
from benchmark.cli.study import declared
from benchmark.errors import UserError
from benchmark.files import write_json
from benchmark.report.hypotheses import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Claim,
    claims,
    claims_table,
    comparable,
)
from benchmark.report.intervals import Estimate
from benchmark.report.study import (
    PRIMARY,
    Study,
    at_energies,
    at_equal_score,
    length_curves,
    read_study,
    shares,
)
from benchmark.report.studytables import (
    ablation,
    differences,
    equal_score_table,
    matched_table,
    networks_table,
    saving_table,
)

PICTURES = [f"p{i}" for i in range(12)]
SETS = {PRIMARY: {"pictures": PICTURES, "psnr": [13.0] * 12, "ssim": [0.4] * 12}}
SCENES = np.linspace(-3, 3, 12)


def kept(rows: list[list[str]], model: str, seed: int, psnr: float, steps: int = 2000) -> dict[str, Any]:
    noise = np.random.default_rng([seed, zlib.crc32(rows[0][1].encode()), steps]).normal(0, 0.05, 12)
    return {
        "rows": rows,
        "model": model,
        "seed": seed,
        "steps": steps,
        "rate": 0.001,
        "parameters": 37_809,
        "scores": {PRIMARY: {"psnr": list(psnr + SCENES + noise), "ssim": [0.5 + psnr / 100] * 12}},
        "cost": {"operations": 2e9, "macs": 1e9, "rate": 0.2, "energy_uj": 900.0},
        "command": "derain study",
        "commit": "abc",
        "code": "c",
        "machine": {"processor": "p", "cores": 2},
        "versions": {"torch": "2"},
        "date": "2026-01-01T00:00:00",
        "training": {},
    }


def study(seeds: int = 5, **better: float) -> Study:
    runs = []
    for seed in range(seeds):
        runs += [kept([["networks", n]], n, seed, 20 + better.get(n, 0.0)) for n in catalog.networks()]
        whole = [["table3", "SRB"], ["table4", "4"], ["table5", "f"], ["loss", "L1 + 0.2 (1 − SSIM)"]]
        runs.append(kept(whole, "esdnet", seed, 20))
        runs.append(kept([["table3", "SEW-ResNet"]], "esdnet", seed, 21))
        runs.append(kept([["table3", "ANN-ResNet"]], "esdnet", seed, 20.1))
        runs[-1]["cost"] |= {"rate": None}
        runs.append(kept([["table4", "2"]], "esdnet", seed, 19))
    runs += [kept([["lengths", f"prenet@{s}"]], "prenet", 0, s / 1000, s) for s in (500, 4000)]
    return Study(runs, SETS)


def verdicts(of: Study) -> dict[str, str]:
    return dict(zip([c.words for c in claims()], claims_table(of)[1], strict=True))


def test_verdicts_follow_from_the_differences() -> None:
    found = verdicts(study(vlif=1.0, spikerain=-1.0, nafnet=2.0))
    assert found["VLIF is above ESDNet"] == SUPPORTED
    assert found["SpikeRain is above ESDNet"] == CONTRADICTED
    assert found["SRB is above SEW-ResNet"] == CONTRADICTED
    assert found["SRB is comparable to ANN-ResNet"] == SUPPORTED
    assert found["ESDNet is comparable to NAFNet"] == CONTRADICTED
    assert found["ESDNet is comparable to PReNet"] == SUPPORTED
    assert found["T = 4 is above T = 2"] == SUPPORTED
    assert found["T = 2 is above T = 1"] == UNDECIDED, "nobody ran T = 1"


def test_one_seed_decides_nothing() -> None:
    of = study(seeds=1, vlif=3.0)
    assert set(verdicts(of).values()) == {UNDECIDED}
    row = next(r for r in networks_table(of, 5).rows if r.label == "VLIF")
    assert row.cells["difference"].value == pytest.approx(3, abs=0.1)
    assert row.cells["difference"].mark == "" and row.cells["difference"].interval is None
    assert "seed" in row.cells["p"].reason and row.cells["psnr"].n == 1 and row.cells["psnr"].wanted == 5


def above_esdnet(of: Study, network: str) -> Estimate | None:
    return of.contrast({("networks", network): 1.0, ("networks", "esdnet"): -1.0})


def test_two_seeds_have_a_wide_interval_and_can_still_decide() -> None:
    few = above_esdnet(study(seeds=2, vlif=3.0), "vlif")
    many = above_esdnet(study(seeds=5, vlif=3.0), "vlif")
    assert few is not None and many is not None and few.low is not None and many.low is not None
    assert few.withheld and not many.withheld
    assert few.mean - few.low > 2 * (many.mean - many.low)


def test_tables_mark_what_is_told_and_name_the_reference() -> None:
    of = study(vlif=1.0)
    rows = {r.label: r.cells for r in networks_table(of, 5).rows}
    assert rows["VLIF"]["difference"].mark == "best" and (rows["VLIF"]["p"].value or 1) < 0.05
    assert rows["PReNet"]["difference"].mark == "tied"
    assert (
        rows["ESDNet"]["difference"].value is None and "compared with" in rows["ESDNet"]["difference"].reason
    )
    blocks = {r.label: r.cells for r in ablation(of, "table3", 5).rows}
    assert set(blocks) == {"SRB", "SEW-ResNet", "ANN-ResNet"}
    assert blocks["SEW-ResNet"]["difference"].value == pytest.approx(1, abs=0.1)
    assert length_curves(of)["prenet"].keys() == {500, 2000, 4000}


def test_below_five_seeds_there_is_no_mark() -> None:
    few, many = study(seeds=4, vlif=3.0), study(seeds=5, vlif=3.0)
    marks = [{r.label: r.cells["difference"].mark for r in networks_table(of, 5).rows} for of in (few, many)]
    assert set(marks[0].values()) == {""} and marks[1]["VLIF"] == "best"


def test_equalities_of_one_hypothesis_are_judged_by_intervals_that_hold_together() -> None:
    one = Claim("H1", "", {}, alike=True)
    estimate = above_esdnet(study(), "prenet")
    assert estimate is not None and estimate.interval is not None
    alone, together = one.interval(estimate, 1), one.interval(estimate, 11)
    assert alone == estimate.interval and together is not None
    half = estimate.resolution(0.05 / 11)
    assert together == pytest.approx((estimate.mean - half, estimate.mean + half))
    assert together[0] < alone[0] and together[1] > alone[1]
    assert (
        one.verdict(None, None, (0.6, 1.0)) == CONTRADICTED
        and one.verdict(None, None, (0.4, 1.0)) == UNDECIDED
    )
    (row,) = (r for r in claims_table(study())[0].rows if "comparable to PReNet" in r.label)
    assert "judged by its interval of 99.5 %" in row.cells["p"].reason
    shown, against = row.cells["difference"].interval, above_esdnet(study(), "prenet")
    assert shown is not None and against is not None and against.low is not None and against.high is not None
    assert shown[1] - shown[0] > 1.1 * (against.high - against.low)


def test_claims_of_a_hypothesis_are_corrected_by_holm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 0.01, 0.02 and 0.04 Holm makes 0.03, 0.04 and 0.04, Bonferroni 0.03, 0.06 and 0.12."""
    raw = {("table4", "2"): 0.04, ("table4", "4"): 0.01, ("table4", "6"): 0.02}
    contrast = Study.contrast

    class Told(Estimate):
        @property
        def bound_p(self) -> float:
            return self.given

    def told(self: Study, weights: dict[tuple[str, str], float], metric: str = "psnr") -> Estimate | None:
        above = next(key for key, weight in weights.items() if weight > 0)
        if above not in raw:
            return None
        found = contrast(self, {("table4", "4"): 1.0, ("table4", "2"): -1.0})
        assert found is not None
        made = Told(**{f.name: getattr(found, f.name) for f in dataclasses.fields(found)})
        object.__setattr__(made, "given", raw[above])
        return made

    monkeypatch.setattr(Study, "contrast", told)
    table, said = claims_table(study())
    rows = {r.label: r.cells for r in table.rows if r.label.startswith("H5")}
    assert [cells["p"].value for cells in rows.values()] == pytest.approx([0.04, 0.03, 0.04])
    assert said.count(SUPPORTED) == 3 and all(SUPPORTED in label for label in rows)
    raw[("table4", "2")] = 0.03  # after 0.02, which makes 0.04, it is no less; by itself it would be
    (two, _, _) = [r.cells["p"].value for r in claims_table(study())[0].rows if r.label.startswith("H5")]
    assert two == pytest.approx(0.04)
    raw[("table4", "4")] = 0.02  # 3 × 0.02 is above 5 %: so are those that come after it
    assert claims_table(study())[1].count(SUPPORTED) == 0, "uncorrected all three would be"


def test_rows_at_equal_energy_are_set_against_the_whole_network() -> None:
    runs = [kept([["matched", "table4/2"]], "esdnet", seed, 20.5) for seed in range(5)]
    for run in runs:
        run["options"] = {"dim": 8}
    of = study()
    rows = {
        r.label: r.cells for r in matched_table(Study([*of.runs, *runs], SETS), ("table3", "SRB"), 5).rows
    }
    assert list(rows) == ["SRB", "T = 2, dim 8"]
    assert rows["T = 2, dim 8"]["difference"].value == pytest.approx(0.5, abs=0.1)
    assert rows["T = 2, dim 8"]["difference"].mark == "best"
    assert "compared with" in rows["SRB"]["difference"].reason


def spiking(score: float, energy: float, seeds: int = 5) -> Study:
    """The study with ESDNet-S at so much of the score and the energy of the whole network."""
    rows = [kept([["table3", "ESDNet-S"]], "esdnet", seed, 20 + score) for seed in range(seeds)]
    runs = [*study().runs, *rows]
    for run in runs:
        run["cost"] |= {"energy_uj": 800.0, "energy_lemaire_uj": 8000.0}
    for run in rows:
        run["cost"] |= {"energy_uj": 800 * energy, "energy_lemaire_uj": 1600.0}
    return Study(runs, SETS)


def test_what_the_spiking_design_saves_and_loses() -> None:
    of = spiking(-0.1, 0.05)
    assert verdicts(of)["ESDNet-S loses at most 0.3 dB"] == SUPPORTED
    assert verdicts(spiking(-0.5, 0.05))["ESDNet-S loses at most 0.3 dB"] == CONTRADICTED
    assert verdicts(spiking(-0.3, 0.05))["ESDNet-S loses at most 0.3 dB"] == UNDECIDED
    assert verdicts(study())["ESDNet-S loses at most 0.3 dB"] == UNDECIDED
    told = [row.label for row in claims_table(of)[0].rows if row.label.startswith("H8")]
    assert told == [
        f"H8: ESDNet-S needs at most an eighth of ESDNet's energy, 45nm (1/20.0) — {SUPPORTED}",
        f"H8: ESDNet-S needs at most an eighth of ESDNet's energy, lemaire (1/5.0) — {CONTRADICTED}",
    ]
    assert all(UNDECIDED in row.label for row in claims_table(study())[0].rows if row.label.startswith("H8"))


def test_other_rows_of_the_spiking_design_have_their_share_and_their_loss() -> None:
    of = spiking(-0.1, 0.05)
    rows = [kept([["energy", "ESDNet-S, T = 1"]], "esdnet", seed, 18) for seed in range(5)]
    widths = [kept([["energy", "esdnet-s@3"]], "esdnet-s", seed, 19) for seed in range(3)]
    for run in [*rows, *widths]:
        run["cost"] |= {"energy_uj": 20.0, "energy_lemaire_uj": 800.0}
        run["parameters"] = 5_000
    table = saving_table(Study([*of.runs, *rows, *widths], SETS), ("table3", "SRB"), 5)
    cells = {row.label: row.cells for row in table.rows}
    assert list(cells) == ["SRB", "ESDNet-S, T = 1"], "widths of S1 were trained otherwise"
    row = cells["ESDNet-S, T = 1"]
    assert row["difference"].value == pytest.approx(-2, abs=0.1) and row["parameters_k"].value == 5
    assert (row["share_45nm"].value, row["share_lemaire"].value) == (2.5, 10.0)
    assert cells["SRB"]["share_45nm"].value == 100 and "compared with" in cells["SRB"]["p"].reason
    assert f"ESDNet-S, T = 1: {CONTRADICTED}" in table.notes[-2] + table.notes[-1]


def test_a_table_says_what_it_could_have_told() -> None:
    of = study(vlif=0.02)
    (note,) = [n for n in networks_table(of, 5).notes if n.startswith("Resolution")]
    least = float(note.partition("PSNR-Y ")[2].split()[0])
    (row,) = [r for r in networks_table(of, 5).rows if r.label == "VLIF"]
    assert row.cells["difference"].mark == "tied" and 0.02 < least < 0.3
    assert not any(n.startswith("Resolution") for n in networks_table(study(seeds=1), 5).notes)
    (told,) = [r for r in claims_table(of)[0].rows if "VLIF" in r.label]
    assert 0.02 < (told.cells["least"].value or 0) < 0.3


def test_a_figure_of_differences_shows_what_was_told() -> None:
    found = {d.label: d for d in differences(ablation(study(), "table3", 5))}
    assert set(found) == {"SEW-ResNet", "ANN-ResNet"}, "not the row that they are compared with"
    sew, ann = found["SEW-ResNet"], found["ANN-ResNet"]
    assert sew.told and sew.low is not None and 0 < sew.low < sew.mean and sew.family == "Spiking"
    assert ann.family == "CNN"
    alone = differences(ablation(study(seeds=1), "table3", 5))
    assert {(d.told, d.low) for d in alone} == {(False, None)}


def test_an_interval_decides_what_is_comparable() -> None:
    near, far, wide = (study(seeds=n, nafnet=d) for n, d in ((5, 0.2), (5, 0.9), (2, 0.45)))
    found = [comparable(e.interval) for s in (near, far, wide) if (e := above_esdnet(s, "nafnet"))]
    assert found == [SUPPORTED, CONTRADICTED, UNDECIDED] and comparable(None) == UNDECIDED


def test_draw_from_what_is_kept_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--draw", "--out", str(tmp_path)]) == 2
    assert "no runs are kept there" in capsys.readouterr().err
    assert main(["study"]) == 2
    assert "BSDS500" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    (tmp_path / "sets.json").write_text(json.dumps(SETS))
    for i, run in enumerate(study(seeds=2).runs):
        (tmp_path / "runs" / f"{i}.json").write_text(json.dumps(run))
    assert main(["study", "--draw", "--out", str(tmp_path)]) == 0
    names = {p.name for p in tmp_path.iterdir()}
    assert {
        "networks.md",
        "networks_sets.csv",
        "table3.tex",
        "table4.json",
        "lengths.png",
        "differences.png",
        "differences-networks.svg",
        "claims.md",
    } <= names
    assert "Made by `derain study`, commit abc" in (tmp_path / "claims.md").read_text()


def with_widths() -> Study:
    """Three networks; ESDNet-S costs least, its narrow NAFNet neighbour costs more and is worse."""
    runs = []
    for seed in range(3):
        for rows, model, psnr, energy in (
            ([["networks", "nafnet"]], "nafnet", 25.0, 900.0),
            ([["networks", "esdnet"]], "esdnet", 24.0, 4000.0),
            ([["energy", "nafnet@10"]], "nafnet", 22.0, 400.0),
            ([["energy", "esdnet-s"]], "esdnet-s", 23.0, 300.0 + seed),
            ([["energy", "ESDNet-S, T = 1"]], "esdnet", 30.0, 1.0),  # of other steps: not in it
        ):
            run = kept(rows, model, seed, psnr)
            run["cost"] = {"energy_uj": energy, "energy_lemaire_uj": 10 * energy}
            run["cost"] |= {"rate": None if model == "nafnet" else 0.2}
            run["options"] = catalog.network(model).embedded | ({"width": 10} if "@10" in rows[0][1] else {})
            runs.append(run)
    return Study(runs, SETS)


@pytest.mark.parametrize(("convention", "factor"), [("45nm", 1), ("lemaire", 10)])
def test_the_front_is_of_networks_that_none_of_less_energy_beats(convention: str, factor: float) -> None:
    found = at_energies(with_widths(), convention)
    assert [(one.label, one.front) for one in found] == [
        ("ESDNet-S (ours)", True),
        ("NAFNet, 10", False),
        ("NAFNet", True),
        ("ESDNet", False),
    ]
    assert found[0].energy_uj == pytest.approx(301 * factor) and found[0].score.seeds == 3
    low, high = found[0].score.low, found[0].score.high
    assert low is not None and high is not None and low < 23 < high


def test_quality_against_energy_is_drawn_from_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "sets.json").write_text(json.dumps(SETS))
    for i, run in enumerate(with_widths().runs):
        (tmp_path / "runs" / f"{i}.json").write_text(json.dumps(run))
    assert main(["study", "--draw", "--out", str(tmp_path)]) == 0
    names = {p.name for p in tmp_path.iterdir()}
    assert {"energy.md", "quality-energy-45nm.png", "quality-energy-lemaire.pdf"} <= names
    lines = (tmp_path / "energy.md").read_text().splitlines()
    (row,) = [line for line in lines if "ESDNet-S (ours)" in line]
    assert "301" in row and "3010" in row


def test_a_spiking_network_is_set_beside_the_width_of_nafnet_that_scores_as_high() -> None:
    runs = list(with_widths().runs)
    for seed in range(3):
        for part, row, model, psnr, energy in (
            ("energy", "spikerain@3", "spikerain", 21.0, 100.0),  # NAFNet's cheapest is above
            ("energy", "vlif@9", "vlif", 26.0, 5000.0),  # NAFNet never gets there
        ):
            run = kept([[part, row]], model, seed, psnr)
            run["cost"] = {"energy_uj": energy, "energy_lemaire_uj": 10 * energy, "rate": 0.2}
            runs.append(run)
    silent = {"esdnet": 3000.0, "esdnet-s": 100.0, "spikerain@3": 20.0, "vlif@9": 1.0}
    of = Study(runs, SETS)
    found = {one.label: one for one in at_equal_score(of, "45nm", silent)}
    assert list(found) == ["SpikeRain, 3", "ESDNet-S (ours)", "ESDNet", "VLIF, 9"]
    ours, whole, below, above = (found[n] for n in ("ESDNet-S (ours)", "ESDNet", "SpikeRain, 3", "VLIF, 9"))
    # a third of the way from 22 dB at 400 µJ to 25 dB at 900
    assert ours.against_uj == pytest.approx(400 * (900 / 400) ** (1 / 3), rel=0.02) and not ours.bounded
    assert ours.meets == pytest.approx(0.2 * (ours.against_uj - 100) / 201, rel=1e-9)
    assert ours.ends is not None and ours.ends[0] < 301 / ours.against_uj < ours.ends[1]
    assert whole.against_uj is not None and whole.meets is None, "NAFNet costs less than its silent part"
    assert below.less is not None and below.less.mean == pytest.approx(-1, abs=0.1) and below.width == 10
    assert ours.less is not None and ours.less.mean == pytest.approx(-2, abs=0.1) and ours.width == 20
    assert (above.width, above.less) == (None, None)
    assert below.bounded and below.against_uj == pytest.approx(400) and above.against_uj is None
    more = kept([["networks", "esdnet"]], "esdnet", 3, 30.0)  # a seed that NAFNet's widths have not
    more["cost"] = {"energy_uj": 1.0, "energy_lemaire_uj": 1.0, "rate": 1.0}
    (same,) = (o for o in at_equal_score(Study([*runs, more], SETS), "45nm", silent) if o.label == "ESDNet")
    assert (same.psnr, same.energy_uj, same.rate) == (whole.psnr, whole.energy_uj, whole.rate)
    table = equal_score_table(of, dict.fromkeys(("45nm", "lemaire"), silent))
    cells = {row.label: row.cells for row in table.rows}
    assert "without any spike" in cells["ESDNet"]["45nm_meets"].reason
    assert "no width" in cells["VLIF, 9"]["45nm_ratio"].reason
    assert "than SpikeRain, 3: there" in table.notes[-1]


def test_widths_without_nafnet_have_nothing_to_stand_beside() -> None:
    runs = [run for run in with_widths().runs if run["model"] != "nafnet"]
    assert at_equal_score(Study(runs, SETS), "45nm", {"esdnet": 1.0, "esdnet-s": 1.0}) == []


def _kept_at(folder: Path, sets: dict[str, Any] = SETS) -> tuple[Path, Path]:
    """Two runs, tested on the same set; their files."""
    places = []
    for seed in (0, 1):
        told = kept([["networks", "esdnet"]], "esdnet", seed, 20) | {"data": {"test": {PRIMARY: "a"}}}
        places.append(folder / "runs" / f"esdnet-seed{seed}.json")
        write_json(places[-1], told)
    write_json(folder / "sets.json", sets)
    return places[0], places[1]


def test_what_is_kept_is_read_as_it_was_kept(tmp_path: Path) -> None:
    _kept_at(tmp_path)
    of = read_study(tmp_path)
    assert [run["seed"] for run in of.runs] == [0, 1] and of.sets == SETS
    assert len(read_study(Path(__file__).parents[3] / "results" / "study").runs) > 200, (
        "the committed runs have the same test sets"
    )


def _broken(first: Path, second: Path) -> str:
    (first.parent.parent / "sets.json").write_text("{")
    return r"sets\.json: cannot be read"


def _broken_run(first: Path, second: Path) -> str:
    second.write_text("{")
    return r"esdnet-seed1\.json: cannot be read"


def _gone(first: Path, second: Path) -> str:
    (first.parent.parent / "sets.json").unlink()
    return r"sets\.json: cannot be read \(No such file"


def _one_fewer(first: Path, second: Path) -> str:
    told = json.loads(second.read_text())
    told["scores"][PRIMARY]["psnr"].pop()
    second.write_text(json.dumps(told))
    return rf"esdnet-seed1\.json: 11 values of psnr on '{PRIMARY}', whose pictures in .*sets\.json are 12"


def _of_a_set_nobody_knows(first: Path, second: Path) -> str:
    told = json.loads(second.read_text())
    told["scores"]["other"] = told["scores"][PRIMARY]
    second.write_text(json.dumps(told))
    return r"esdnet-seed1\.json: was tested on 'other'"


def _of_another_set(first: Path, second: Path) -> str:
    second.write_text(second.read_text().replace('"a"', '"b"'))
    return rf"esdnet-seed1\.json: its test set '{PRIMARY}' \(b\) is not that of .*esdnet-seed0\.json \(a\)"


@pytest.mark.parametrize(
    "spoil", [_broken, _broken_run, _gone, _one_fewer, _of_a_set_nobody_knows, _of_another_set]
)
def test_what_does_not_fit_together_is_not_drawn(spoil: Callable[[Path, Path], str], tmp_path: Path) -> None:
    words = spoil(*_kept_at(tmp_path))
    with pytest.raises(UserError, match=words) as raised:
        draw(tmp_path, declared())
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("*.csv"))


def test_curves_of_lengths_are_of_the_first_seed_alone() -> None:
    runs = [kept([["lengths", "prenet@500"]], "prenet", seed, 20 + seed, 500) for seed in (0, 1)]
    runs += [kept([["networks", "prenet"]], "prenet", seed, 21 + seed, 800) for seed in (0, 1)]
    curve = length_curves(Study(runs, SETS))["prenet"]
    assert curve == {500: pytest.approx(20, abs=0.1), 800: pytest.approx(21, abs=0.1)}


def test_a_share_of_energy_is_of_means_over_the_seeds_that_both_have() -> None:
    own, whole = ("energy", "ESDNet-S"), ("table3", "SRB")
    runs = []
    for row, energies in ((own, (10.0, 30.0, 900.0)), (whole, (100.0, 60.0))):
        for seed, energy in enumerate(energies):
            runs.append(kept([list(row)], "esdnet", seed, 20))
            runs[-1]["cost"] |= {"energy_uj": energy}
    assert shares(Study(runs, SETS), own, whole) == {"45nm": 0.25, "lemaire": None}
