"""Rows that nobody trained here: released weights, weights that ship, pictures; from a file to tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import create_model, shipped
from benchmark.cli import main
from benchmark.data.images import read_image, write_image
from benchmark.report.parts import Grid
from benchmark.run.records import RECORD, Record, read_record
from benchmark.sweep import rows


def kept_below(folder: Path) -> list[Record]:
    """All records below a folder."""
    found = (read_record(path.parent) for path in sorted(folder.rglob(RECORD)))
    return [record for record in found if record is not None]


SIZE = (24, 32)
PRENET = {"channels": 4, "stages": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test sets of two pairs, weights of two small networks, and pictures that somebody restored."""
    place = tmp_path_factory.mktemp("released")
    rng = np.random.default_rng(0)
    for name in ("Rain12", "Rain200L"):
        for i in (1, 2):
            clean = rng.integers(0, 200, (*SIZE, 3), dtype=np.uint8)
            write_image(place / "data" / name / "target" / f"{i}.png", clean)
            write_image(place / "data" / name / "input" / f"{i}.png", clean + 20)
            write_image(place / "pictures" / name / f"{i}_out.png", clean + 3)
    for seed, name in enumerate(("light", "heavy")):
        torch.manual_seed(seed)
        torch.save(create_model("prenet", **PRENET).state_dict(), place / f"{name}.pth")
    for i in range(2):
        write_image(place / "rain" / f"{i}.png", rng.integers(0, 255, (32, 40, 3), dtype=np.uint8))
    return place


def _file(place: Path, *given: str, name: str = "rows.yaml", head: str = "format: 1\n") -> Path:
    path = place / name
    path.write_text(f"{head}rows:\n" + "".join(f"- {row}\n" for row in given))
    return path


PRENET_ROW = (
    "{name: PReNet A, model: prenet, options: {channels: 4, stages: 2}, weights: ["
    "{file: light.pth, trained_on: rain200l, on: [rain200l], printed: {rain200l: [33.3, 0.9]}, truncated: true}, "
    "{file: heavy.pth, trained_on: rain100h, on: [rain12, photographs], source: somebody/there@abc, licence: none}]}"
)
PICTURES_ROW = "{name: Theirs, pictures: {rain12: pictures/Rain12, rain200l: pictures/Rain200L}}"


def _table(place: Path, file: Path, runs: Path, *words: str) -> int:
    command = ["table", "1", "--models", "none", "--released", str(file), "--data", str(place / "data")]
    command += ["--datasets", "rain12,rain200l", "--runs", str(runs), "--out", str(runs / "out"), *words]
    return main(command)


@pytest.fixture(scope="module")
def runs(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    assert _table(place, _file(place, PRENET_ROW, PICTURES_ROW), runs) == 0
    return runs


def _cells(runs: Path, name: str, row: str) -> dict:
    table = json.loads((runs / "out" / f"{name}.json").read_text())
    return next(r["cells"] for r in table["rows"] if r["label"] == row)


def test_each_leaves_a_record_as_runs_do(runs: Path) -> None:
    records = {(r["row"]["name"], r["row"]["file"]): r for r in kept_below(runs)}
    assert set(records) == {("PReNet A", "light.pth"), ("PReNet A", "heavy.pth"), ("Theirs", None)}
    light, heavy = records["PReNet A", "light.pth"], records["PReNet A", "heavy.pth"]
    assert light["row"]["trained_on"] == ["rain200l"] and light["config"]["recipe"]["name"] == "unknown"
    assert heavy["row"]["source"] == "somebody/there@abc" and len(heavy["row"]["sha256"]) == 64
    assert set(light["results"]) == {"rain200l"} and set(heavy["results"]) == {"rain12"}
    assert light["parameters"]["trained"] == sum(
        p.numel() for p in create_model("prenet", **PRENET).parameters()
    )
    assert (
        records["Theirs", None]["parameters"] == {} and light["command"] and light["data"]["test"]["rain200l"]
    )


def test_figures_are_those_of_evaluate_and_score(
    place: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", "channels=4", "stages=2", "--checkpoint", str(place / "heavy.pth"), "--model", "prenet"]
    rows_file = runs / "evaluate.csv"
    assert main(["evaluate", *words, "--data", str(place / "data/Rain12"), "--csv", str(rows_file)]) == 0
    found = list(csv.DictReader(rows_file.open()))
    (record,) = [r for r in kept_below(runs) if r["row"]["file"] == "heavy.pth"]
    for there, here in zip(found, record["results"]["rain12"]["images"], strict=True):
        words = {k for k in there if isinstance(here[k], str)}
        assert {k: there[k] for k in words} == {k: here[k] for k in words} and "name" in words
        assert {k: float(v) for k, v in there.items() if k not in words} == pytest.approx(
            {k: float(here[k]) for k in there if k not in words}, abs=1e-9
        )
    mean = _cells(runs, "table1", "PReNet A †")["rain12_psnr"]["value"]
    assert mean == pytest.approx(np.mean([float(r["psnr_esdnet"]) for r in found]))
    capsys.readouterr()
    assert main(["score", str(place / "pictures/Rain12"), str(place / "data/Rain12/target"), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)["mean"]
    for convention, name in (
        ("esdnet", "table1"),
        ("float", "table1_float"),
        ("statistic", "table1_statistic"),
    ):
        cell = _cells(runs, name, "Theirs ‡")["rain12_psnr"]["value"]
        assert cell == pytest.approx(scored[f"psnr_{convention}"], abs=1e-9)


def test_truncated_pictures_are_measured_beside_the_rounded_ones(runs: Path) -> None:
    (record,) = [r for r in kept_below(runs) if r["row"]["file"] == "light.pth"]
    folder = runs / "released" / record["name"]
    rounded, cut = (
        read_image(folder / kind / "rain200l" / "1.png").astype(int) for kind in ("restored", "truncated")
    )
    assert set(np.unique(rounded - cut)) == {0, 1}
    row = record["results"]["rain200l"]["images"][0]
    assert row["truncated_psnr_float"] != row["psnr_float"]
    labels = [r["label"] for r in json.loads((runs / "out" / "released.json").read_text())["rows"]]
    assert "Rain200L: PReNet A †, light.pth, 8 bits by truncation" in labels


def test_tables_mark_what_a_row_is_and_say_what_is_known(runs: Path) -> None:
    text = (runs / "out" / "table1.md").read_text()
    assert "| PReNet A † |" in text and "| Theirs ‡ |" in text
    assert "heavy.pth, sha256 " in text and "trained on Rain100H (old); from somebody/there@abc" in text
    assert (
        "what it was trained on is not known" in text
        and "its publisher printed 33.3 / 0.9 on Rain200L" in text
    )
    assert "Rain12: 2 pairs here, 12 published" in text
    assert "No marks: 2 scenes under given weights" in text  # they take part in the comparison
    released = _cells(runs, "released", "Rain200L: PReNet A †, light.pth")
    assert (released["psnr_publisher"]["value"], released["psnr_paper"]["value"]) == (
        33.3,
        None,
    )  # 2 of 200 pairs
    assert not (runs / "out" / "table1_ranks.md").exists(), "ranks too are withheld for so few pictures"
    header = (runs / "out" / "table1.csv").read_text().splitlines()[0]
    assert "rain12_psnr" in header


def test_what_is_measured_is_not_measured_again(
    place: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.cli import released

    monkeypatch.setattr(released, "_measure", lambda *_: pytest.fail("measured again"))
    assert _table(place, _file(place, PICTURES_ROW, PRENET_ROW), runs) == 0
    assert [r["label"] for r in json.loads((runs / "out" / "table1.json").read_text())["rows"]] == [
        "Rainy input",
        "Theirs ‡",
        "PReNet A †",
    ]


def test_a_restoring_that_was_cut_off_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.cli import released

    (folder,) = [
        e.folder(tmp_path) for e in rows.load(_file(place, PRENET_ROW), None)[0].entries if "light" in e.name
    ]
    restored = folder / "restored" / "rain200l"
    whole = released._measure

    def cut_off(*words: object) -> None:
        whole(*words)
        (restored / "2.png").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(released, "_measure", cut_off)
    assert _table(place, _file(place, PRENET_ROW), tmp_path) == 130
    monkeypatch.setattr(released, "_measure", whole)
    before = (restored / "1.png").stat().st_mtime_ns
    assert _table(place, _file(place, PRENET_ROW), tmp_path) == 0
    assert (restored / "1.png").stat().st_mtime_ns == before and (restored / "2.png").is_file()
    # other code: what it left of a set is not mixed with what this code makes
    (restored / released._MADE_BY).write_text("other")
    (folder / "record.json").unlink()
    assert _table(place, _file(place, PRENET_ROW), tmp_path) == 0
    assert (restored / "1.png").stat().st_mtime_ns > before


def test_pictures_of_other_pairs_are_not_shown_as_current(place: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(place / "data", tmp_path / "data")
    file = _file(place, PRENET_ROW)
    words = ["table", "1", "--models", "none", "--released", str(file), "--datasets", "rain12", "--runs"]
    words += [str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    assert main(words) == 0
    write_image(tmp_path / "data/Rain12/input/1.png", np.zeros((*SIZE, 3), np.uint8))
    assert main(words) == 2


def test_weights_that_ship_are_a_row_by_one_word(place: Path, tmp_path: Path) -> None:
    (row,) = rows.load(_file(place, "nafnet-general"), None)
    (entry,) = row.entries
    assert (row.kind, entry.model, entry.path) == (
        "shipped",
        "nafnet",
        shipped.shipped()["nafnet-general"].path,
    )
    assert _table(place, _file(place, "nafnet-general"), tmp_path) == 0
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "| nafnet-general § |" in text and "this suite, recipe general" in text
    (record,) = kept_below(tmp_path)
    assert (
        set(record["results"]) == {"rain12", "rain200l"} and record["config"]["recipe"]["name"] == "general"
    )
    assert record["row"]["sha256"] == shipped.shipped()["nafnet-general"].card["sha256"]


def test_a_row_that_fails_leaves_its_reason_and_the_others_go_on(place: Path, tmp_path: Path) -> None:
    network = create_model("prenet", **PRENET)
    for parameter in network.parameters():
        parameter.data.fill_(float("nan"))
    torch.save(network.state_dict(), place / "nan.pth")
    nan = "{name: NaN, model: prenet, options: {channels: 4, stages: 2}, weights: nan.pth, trained_on: rain200l}"
    assert _table(place, _file(place, nan, PICTURES_ROW), tmp_path) == 1
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "diverged: 1: the network's output has NaN or infinite values" in text and "| Theirs ‡ |" in text
    assert next(tmp_path.rglob("failure.json")).is_file()


BAD = {
    "weights without a set": (
        "{name: A, model: prenet, weights: light.pth}",
        "light.pth: trained_on: says on which sets",
    ),
    "no such set": (
        "{name: A, model: prenet, weights: light.pth, trained_on: rain200}",
        "did you mean 'rain200l'",
    ),
    "no such file": (
        "{name: A, model: prenet, weights: none.pth, trained_on: rain200l}",
        "none.pth: no such file",
    ),
    "no network": (
        "{name: A, weights: light.pth, trained_on: rain200l}",
        "does not say of which network it is",
    ),
    "another network": ("{name: A, model: rescan, weights: light.pth, trained_on: rain200l}", "does not fit"),
    "another file": (
        f"{{name: A, model: prenet, weights: light.pth, trained_on: rain200l, sha256: {'0' * 64}}}",
        "is another file: sha256",
    ),
    "no such option": (
        "{name: A, model: prenet, options: {stage: 2}, weights: light.pth, trained_on: rain200l}",
        "stages",
    ),
    "no such key": ("{name: A, model: prenet, weight: light.pth}", "unknown key of a row 'weight'"),
    "no such shipped": ("nafnet-generel", "did you mean 'nafnet-general'"),
    "no such folder": ("{name: A, pictures: {rain12: nowhere}}", "nowhere: no such folder"),
    "both": ("{name: A, weights: light.pth, pictures: {rain12: pictures}}", "either weights or pictures"),
    "no name": ("{pictures: {rain12: pictures/Rain12}}", "name: how tables call it"),
    "two files for one set": (
        "{name: A, model: prenet, weights: [{file: light.pth, trained_on: rain200l}, "
        "{file: heavy.pth, trained_on: rain200l}]}",
        "would both restore rain12",
    ),
    "a tag": ("!!python/object/apply:os.getcwd []", "not a readable file of rows"),
    "a list of numbers": (
        "{name: A, pictures: {rain12: pictures/Rain12}, printed: {rain12: high}}",
        "PSNR-Y, SSIM-Y",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_one_line_and_nothing_is_written(
    case: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, said = BAD[case]
    assert _table(place, _file(place, row, name="bad.yaml"), tmp_path / "runs") == 2
    told = capsys.readouterr().err
    assert said in told and len(told.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [("Theirs", "theirs"), ("PReNet", "Theirs"), ("nafnet-general", "NAFNet-General")],
)
def test_two_rows_of_one_name_are_refused(
    first: str, second: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"{{name: {n}, pictures: {{rain12: pictures/Rain12}}}}" for n in (first, second)]
    assert _table(place, _file(place, *given, name="bad.yaml"), tmp_path / "runs") == 2
    assert "two rows are called" in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_folder_that_lacks_pictures_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "some" / "1.png", np.zeros((*SIZE, 3), np.uint8))
    file = _file(tmp_path, "{name: A, pictures: {rain12: some}}")
    assert _table(place, file, tmp_path / "runs") == 2
    told = capsys.readouterr().err
    assert "has 1 of 2 pictures of rain12; missing: 2" in told and not (tmp_path / "runs").exists()
    write_image(tmp_path / "some" / "2.png", np.zeros((24, 30, 3), np.uint8))
    assert _table(place, file, tmp_path / "runs") == 2
    assert "2.png: 30×24, but rain12 has 32×24 there" in capsys.readouterr().err


def test_no_rows_at_all_and_no_file(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "1", "--models", "none", "--runs", str(tmp_path / "runs")]) == 2
    assert "--models none" in capsys.readouterr().err
    assert _table(place, tmp_path / "none.yaml", tmp_path / "runs") == 2
    assert "no such file" in capsys.readouterr().err and not (tmp_path / "runs").exists()
    below = _file(place, PICTURES_ROW, head="format: 1\nbelow: data\n", name="below.yaml")
    assert (
        main(["table", "1", "--models", "none", "--released", str(below), "--runs", str(tmp_path / "runs")])
        == 2
    )
    assert "give --data FOLDER" in capsys.readouterr().err


def test_a_plan_keeps_its_rows(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.yaml"
    assert _table(place, _file(place, PICTURES_ROW), tmp_path / "runs", "--save-plan", str(plan)) == 0
    assert "and 1 rows that nobody trained here" in capsys.readouterr().out
    assert main(["run", str(plan), "--runs", str(tmp_path / "runs"), "--dry-run"]) == 0
    assert "Theirs: to be measured on rain12, rain200l" in capsys.readouterr().out
    assert main(["run", str(plan), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert "| Theirs ‡ |" in (tmp_path / "out" / "table1.md").read_text()


def test_photographs_of_table_2(place: Path, tmp_path: Path) -> None:
    file = _file(place, PRENET_ROW, PICTURES_ROW, "nafnet-general")
    words = ["table", "2", "--models", "none", "--released", str(file), f"photographs={place / 'rain'}"]
    assert main([*words, "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    table = json.loads(next((tmp_path / "out").glob("table2*.json")).read_text())
    rows_found = {r["label"]: r["cells"] for r in table["rows"]}
    assert list(rows_found) == ["Rainy input", "PReNet A †", "Theirs ‡", "nafnet-general §"]
    change = rows_found["PReNet A †"]["piqe_pyiqa_change"]
    scores = {r: rows_found[r]["piqe_pyiqa"]["value"] for r in ("Rainy input", "PReNet A †")}
    assert change["value"] == pytest.approx(scores["PReNet A †"] - scores["Rainy input"])
    assert change["interval"][0] <= change["value"] <= change["interval"][1]
    assert rows_found["Theirs ‡"]["piqe_pyiqa"]["reason"] == "nothing of Theirs is for it"
    assert any(n.startswith("† ") and "heavy.pth" in n and "light.pth" not in n for n in table["notes"])


def test_figures_and_report_show_the_rows_by_what_they_are(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = {"params": 1_000_000, "operations": 10**9}  # counting the full networks takes a minute
    monkeypatch.setattr("benchmark.cli.showing.full_costs", lambda names, _: dict.fromkeys(names, cost))
    monkeypatch.setattr(
        "benchmark.cli.reporting._layers", lambda name, _: Grid(name, "1 M parameters", ["name"], [])
    )
    monkeypatch.setattr("benchmark.cli.showing.COMPARED", 1)
    out = tmp_path / "report"
    words = ["--runs", str(runs), "--recipe", "paper", "--out"]
    assert main(["report", *words, str(out)]) == 0, capsys.readouterr().err
    page = (out / "report.html").read_text()
    for said in (
        "PReNet A †",
        "Theirs ‡",
        "by others, not known",
        "0 runs of 0 networks and 2 rows that nobody",
    ):
        assert said in page
    assert "not run with recipe" not in page
    sliders = json.loads(page.split('id="picture-data">')[1].split("</script>")[0])
    shown = [one["name"] for one in sliders[0]["pictures"][0]["shown"]]
    assert shown == ["Rainy input", "PReNet A †", "Theirs ‡", "Target"]
    drawn = {p.name for p in (out / "figures").glob("*.png")}
    assert {"figure1_measured.png", "comparison_rain12_1.png", "distribution_rain200l.png"} <= drawn


def test_rows_on_published_sets_are_no_rows_of_the_embedded_benchmark(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--runs", str(runs), "--recipe", "embedded"]) == 2
    assert "no runs are done" in capsys.readouterr().err


def test_evaluate_leaves_the_record_that_a_row_of_the_same_weights_takes(
    place: Path,
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["evaluate", "--model", "prenet", "--set", "channels=4", "stages=2", "--trained-on", "rain200l"]
    words += ["--checkpoint", str(place / "light.pth"), "--data", str(place / "data" / "Rain200L")]
    assert main([*words, "--record", str(tmp_path), "--as", "rain200l", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["n"] == 2 and "as a row of derain table 1 --released" in said.err
    (record,) = kept_below(tmp_path)
    of_table = next(r for r in kept_below(runs) if r["row"]["file"] == "light.pth")
    ours, theirs = (r["results"]["rain200l"]["mean"]["psnr_float"] for r in (record, of_table))
    assert (
        ours == theirs and record["row"]["kind"] == "weights" and record["row"]["trained_on"] == ["rain200l"]
    )
    monkeypatch.setattr("benchmark.cli.released._measure", None)  # a table measures nothing of it again
    options = "options: {channels: 4, stages: 2}, on: [rain200l]"
    row = f"{{name: Called otherwise, model: prenet, {options}, weights: light.pth, trained_on: rain100l}}"
    assert _table(place, _file(place, row, name="evaluated.yaml"), tmp_path) == 0
    assert _cells(tmp_path, "table1", "Called otherwise †")["rain200l_psnr"]["value"] is not None
    assert "trained on Rain100L (old)" in (tmp_path / "out" / "table1.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--as", "rain12"], "--as is for --record"),
        (["--trained-on", "rain12"], "--trained-on is for --record"),
        (["--record", "RUNS"], "trained_on: says on which sets"),
        (["--record", "RUNS", "--trained-on", "rain200l", "--as", "rain122"], "did you mean"),
        (["--record", "RUNS", "--trained-on", "rain200l", "--as", "rw-data"], "no clean pictures"),
        (["--record", "RUNS", "--trained-on", "rain200x"], "did you mean"),
        (["--record", "RUNS", "--trained-on", "rain200l", "--save", "RUNS"], "--save: with --record"),
    ],
)
def test_a_record_that_cannot_be_is_one_line_and_nothing_is_written(
    place: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    command = ["evaluate", "--model", "prenet", "--set", "channels=4", "stages=2", "--checkpoint"]
    command += [str(place / "light.pth"), "--data", str(place / "data" / "Rain12")]
    assert main([*command, *(str(runs) if w == "RUNS" else w for w in words)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not runs.exists()
