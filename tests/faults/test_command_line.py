"""Fault 17: wrong words are answered before torch is imported, and `--dry-run` writes nothing.

Further: `test_mistakes_end_with_one_line_and_status_2`, `test_answers_without_torch`, `test_help_is_short_and_quick`,
`test_a_mistake_is_named_in_one_line` (settings).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmark.cli import main

# what is typed: what the answer must hold
WRONG = {
    "trian": "did you mean 'train'",
    "train modle=esdnet": "unknown setting 'modle'",
    "train model=esdnt": "did you mean 'esdnet'",
    "train data=rain200": "did you mean 'rain200",
    "train recipe=papre": "did you mean 'paper'",
    "train recipe.lr=1": "did you mean 'recipe.optimizer.lr'",
    "train recipe.loss=sim": "did you mean 'ssim'",
    "train recipe.batch=0": "must be greater than 0",
    "train recipe.batch=many": "recipe.batch",
    "train recipe.patch=63": "64",
    "train model.tim_steps=2": "did you mean 'time_steps'",
    "train seed": "key=value",
    "train seed=[": "a whole number",
    "train logger=wandbb": "did you mean 'wandb'",
    "train --dryrun": "--dryrun",
    "config recipe.steps=x": "recipe.steps",
    "evaluate --model prenet --data .": "--checkpoint",
    "evaluate --model prenett --checkpoint x --data .": "did you mean 'prenet'",
    "evaluate --model prenet --checkpoint none.pth --data .": "no such file",
    "evaluate --model prenet --checkpoint none.pth --data . --tile big": "--tile big",
    "restore --model prenet --checkpoint none.pth a.png -o out": "no such file",
    "restore --model prenet --checkpoint none.pth a.png": "none.pth: no such file",
    "restore": "inputs",
    "restore a.png --model prenett": "did you mean 'prenet'",
    "restore a.png --model prenet": "no weights ship",
    "restore a.png --tile 80 --overlap 90x": "--overlap",
    "demo --port 80": "--port 80: is for --serve",
    "demo --serve --out a.html": "--out a.html: is for the page without --serve",
    "demo --out a.png": "must end in .html",
    "table 9": "unknown table '9'",
    "table 1 --models prenett": "did you mean 'prenet'",
    "table 1 --seeds a": "--seeds a",
    "table 1 --recipe papr": "did you mean 'paper'",
    "table 1 --data /nowhere": "no such folder",
    "table 1 --values 1,2": "--values",
    "table 1 --seeds=-1": "from 0 to 4294967295",
    "table 1 --seeds 4294967296": "from 0 to 4294967295",
    "table 1 --seeds 0..4294967296": "at most 10000 seeds",
    "table 1 --seeds 0..99999999999999999999": "at most 10000 seeds",
    "table 1 --seeds 1_0": "--seeds 1_0",
    "table 1 --seeds 0,00": "different whole numbers",
    "table 1 --workers 0": "--workers: 0: at least 1",
    "table 1 --workers 1e9": "--workers: 1e9: a whole number",
    "table 1 --data ~nobody-is-called-so/x": "home folder is not known",
    "table 1 recipe.batch=1000000000": "recipe.batch=1000000000: at most 65536",
    "table 1 model.dim=1000000000 --models esdnet": "model.dim=1000000000: must be at most",
    "table 1 recipe.steps=99999999999999999999": "at most 1000000000000",
    "train trainer.devices=5": "cannot be shared evenly by 5 processes",
    "train recipe.precision=64-true": "recipe.precision",
    "train seed=-1": "seed=-1: must be at least 0",
    "train seed=4294967296": "must be below 4294967296",
    "cost --model prenet --size 1000000000": "--size: 1000000000: at most 16384",
    "cost --model prenet --size 0": "--size: 0: at least 1",
    "cost --scalability --time-limit nan": "--time-limit: nan: must be a finite number",
    "cost --model prenet --limit 0": "--limit: 0: at least 1",
    "bench --rounds 1": "--rounds: 1: at least 2",
    "inspect --model esdnet --above 255": "--above: 255: at most 254",
    "restore a.png --overlap -1": "--overlap: -1: at least 0",
    "data render . -o out --seed 4294967296": "--seed: 4294967296: at most 4294967295",
    "data import a.zip -o out --max-size inf": "--max-size: inf: must be a finite number",
    "data import a.zip -o out --max-size 1e300": "--max-size: 1e300: at most 1048576",
    "data import a.zip -o out --max-size 0": "--max-size: 0: must be greater than 0",
    "data import a.zip -o out --max-ratio nan": "--max-ratio: nan: must be a finite number",
    "data import a.zip -o out --max-files 1e3": "--max-files: 1e3: a whole number",
    "table neuronn": "did you mean 'neuron'",
    "ablations tabel3": "table3",
    "data chek .": "check",
    "data check /nowhere": "/nowhere",
    "data import none.zip -o out": "no such file",
    "data import none.zip": "-o",
    "data render /nowhere -o out": "/nowhere",
    "data render . -o out --regime heavyy": "did you mean 'heavy'",
    "figures --runs /nowhere": "/nowhere",
    "report --runs /nowhere --models prenett": "did you mean 'prenet'",
    "inspect --model esdnet": "--image",
    f"data check {'x' * 5000}": "the name is too long",
    f"train out={'x' * 5000} --dry-run": "the name is too long",
    f"table 1 --data {'x' * 5000}": "the name is too long",
    f"table 1 --datasets ./{'x' * 5000}": "the name is too long",
    f"figures --runs {'x' * 5000}": "the name is too long",
    "models nafnett": "did you mean 'nafnet'",
    "--nonsense": "--nonsense",
}

HARNESS = """
import contextlib, io, json, sys
from benchmark.cli import main
answers = []
for line in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        status = main(line.split())
    heavy = sorted({"torch", "torchvision", "pytorch_lightning", "wandb", "pyiqa", "ray"} & set(sys.modules))
    answers.append([status, said.getvalue(), heavy])
print(json.dumps(answers))
"""


def test_every_wrong_line_is_answered_in_one_line_without_torch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, json.dumps(list(WRONG))], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for (line, words), (status, said, heavy) in zip(WRONG.items(), json.loads(done.stdout), strict=True):
        assert status == 2, (line, said)
        assert said.startswith("derain: ") and said.count("\n") == 1, (line, said)
        assert words in said, (line, said)
        assert not heavy, (line, heavy)
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_a_link_to_itself_is_no_folder(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for line in (
        "train data=folder data.root=loop",
        "table 1 --data loop --dry-run",
        "table 1 --datasets ./loop --dry-run",
        "data check loop",
        "data render loop -o out",
        "evaluate --model prenet --checkpoint loop --data loop",
        "restore a.png --checkpoint loop --model prenet",
        "restore loop -o loop",
        "report --runs loop",
    ):
        assert main(line.split()) == 2, line
        said = capsys.readouterr().err
        assert said.startswith("derain: ") and said.count("\n") == 1, line


def test_a_fault_of_the_machine_is_a_line_too(tmp_path: Path, monkeypatch, capsys) -> None:
    from benchmark.cli import listing

    for error, status, words in (
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory"),
        (OSError(28, "No space left on device", "/full/file"), 1, "/full/file: the disk is full"),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "/root/x: no permission"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ):

        def fail(options: object, error: BaseException = error) -> int:
            raise error

        monkeypatch.setattr(listing, "models", fail)
        assert main(["models"]) == status
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


def _snapshot(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.fixture
def place(tmp_path: Path, small_set: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "weights.pth").write_bytes(b"not looked into")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train model=prenet", "would be done in runs/paper/prenet"),
        ("table 1", "14 runs: 14 waiting; 14 to do"),
        ("table 2", "to do"),
        ("table 4 --values 1,2", "2 runs: 2 waiting; 2 to do"),
        ("ablations", "to do"),
        (
            "evaluate --model prenet --checkpoint weights.pth --data set --csv rows.csv",
            "2 pairs would be measured",
        ),
        (
            "restore --model prenet --checkpoint weights.pth set/input -o out",
            "would be restored to out/0.png",
        ),
        ("data render set/target -o rained", "2 pairs would be written"),
    ],
)
def test_dry_runs_say_what_would_be_done_and_write_nothing(place: Path, line: str, says: str, capsys) -> None:
    before = _snapshot(place)
    assert main([*line.split(), "--dry-run"]) == 0
    assert says in capsys.readouterr().out
    assert _snapshot(place) == before


def test_dry_runs_of_what_draws_from_records(place: Path, capsys) -> None:
    from benchmark.run.execute import execute
    from benchmark.spec import resolve

    words = [
        "model=prenet",
        "model.stages=1",
        "model.channels=4",
        "model.residual_blocks=1",
        "recipe=embedded",
    ]
    words += ["data=embedded-light", "recipe.steps=1", "recipe.batch=1", "recipe.patch=16", "logger=csv"]
    execute(resolve([*words, "out=runs", "trainer.accelerator=cpu", "evaluation.tile=whole"]))
    before = _snapshot(place)
    for name in ("figures", "report"):
        assert main([name, "--dry-run"]) == 0
        assert f"of 1 runs (prenet) would be written to runs/{name}/embedded" in capsys.readouterr().out
    assert main(["train", *words, "out=runs", "evaluation.tile=whole", "--dry-run"]) == 0
    assert "is done in" in capsys.readouterr().out
    assert _snapshot(place) == before


@pytest.mark.parametrize("words", [["models", "--bibtex"], ["--version"]], ids=["much", "little"])
def test_a_reader_that_goes_away_is_no_error(words: list[str]) -> None:
    """Much is written at once, little at the end."""
    reader, writer = os.pipe()
    os.close(reader)
    buffered = {
        k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"
    }  # else nothing is left for the end
    command = [sys.executable, "-m", "benchmark", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=buffered)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_home_folder_is_put_in_wherever_a_path_is_given(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = place / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (place / "set").rename(home / "set")
    (place / "weights.pth").rename(home / "weights.pth")
    for line, says in (
        ("data check ~/set", f"{home}/set"),
        ("train model=prenet data=embedded-light out=~/runs --dry-run", f"would be done in {home}/runs"),
        ("table 1 --runs ~/runs --out ~/tables --plan --dry-run", "14 to do"),
        (
            "evaluate --model prenet --checkpoint ~/weights.pth --data ~/set --csv ~/a.csv --dry-run",
            "2 pairs would",
        ),
        (
            "restore --model prenet --checkpoint ~/weights.pth ~/set/input -o ~/out --dry-run",
            f"{home}/out/0.png",
        ),
        ("data render ~/set/target -o ~/rained --dry-run", f"{home}/rained"),
    ):
        assert main(line.split()) == int(line.startswith("data check")), line  # the pairs are equal
        assert says in capsys.readouterr().out, line
    assert main(["table", "1", "--models", "prenet", "--save-plan", "~/plan.yaml"]) == 0
    assert (home / "plan.yaml").is_file() and main(["run", "~/plan.yaml", "--plan", "--dry-run"]) == 0
    for line in (
        "table ~/none.yaml",
        "run ~/none.yaml",
        "sweep ~/none.yaml",
        "cost --model prenet --convention ~/none.yaml",
    ):
        assert main(line.split()) == 2
        assert str(home / "none.yaml") in capsys.readouterr().err
    assert sorted(p.name for p in place.iterdir()) == ["home"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252:strict", "utf-8"])
def test_a_terminal_that_has_no_character_for_it_is_written_to(encoding: str, place: Path) -> None:
    name = os.fsdecode("Bäche-雨-\udcff".encode("utf-8", "surrogateescape"))
    (place / "set").rename(place / name)
    for words, status in ((["data", "check", name], 1), (["models"], 0), (["data", "check", "雨"], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *words],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr and done.stdout + done.stderr


@pytest.mark.parametrize("words", ["models esdnet", "doctor"])
def test_the_c_locale_without_pythons_utf8_mode(words: str, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *words.split()],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert done.stdout.decode("ascii")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("restore p.png --csv file/x.csv", "--csv file/x.csv: file is a file, not a folder"),
        ("restore p.png --tile 3", "--tile 3: must be larger than --overlap (8)"),
        ("export --model prenet -o file/a.onnx", "-o file/a.onnx: file is a file, not a folder"),
        ("inspect --model esdnet --image p.png -o file/i.png", "--out file/i.png: file is a file"),
        ("cost --model prenet --json c.txt", "--json c.txt: the name must end in .json"),
        ("cost --model prenet --latex file/c.tex", "--latex file/c.tex: file is a file"),
        ("cost --model prenet --plot file", "--plot file: is a file; give a folder"),
        ("table 1 --runs file", "a file stands where a folder of runs is needed"),
        ("train model=prenet data=embedded-light out=file", "a file stands where a folder of runs is needed"),
        ("table 1 --data nope", "below nope: --data nope: no such folder\n"),
    ],
)
def test_what_cannot_be_written_is_told_before_any_work(
    words: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Image.new("RGB", (24, 24)).save("p.png")
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert told in said.err and said.err.count("\n") == 1 and not said.out
    assert {path.name for path in tmp_path.iterdir()} == {"file", "p.png"} and Path(
        "file"
    ).read_text() == "mine"
