"""Words, YAML and JSON as users write them: text stays text, numbers are decimal, files are read within limits."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import catalog
from benchmark import reading as read
from benchmark.errors import UserError
from benchmark.spec import resolve, settings_of
from benchmark.spec.resolve import TYPES
from benchmark.sweep.executors import take_settings
from benchmark.sweep.planfile import load

# each is something else to YAML 1.1 or 1.2
TEXTS = (
    "2024_11_26",
    "no",
    "on",
    "True",
    "12:30",
    "007",
    "0x10",
    "0b1",
    "1e3",
    "1.0",
    ".5",
    "1_000",
    ".inf",
    "2024-11-26",
    "/data/rain #1",
    "a: b",
    "{a: 1}",
    "[a]",
    "'a'",
    "!x",
    "&a",
    "*a",
    "- x",
    "@a",
    "%a",
    "`a",
    "a\\n",
    "=",
    "<<",
    "雨",
)
_FREE = ("data.root", "data.cache", "out")  # text settings that any words are right for


@pytest.mark.parametrize("text", TEXTS)
def test_text_stays_the_text_that_was_written(text: str, tmp_path: Path) -> None:
    for key in _FREE:
        assert settings_of(resolve([f"{key}={text}"]))[key] == text
    assert resolve([f"data.exclude=[{read.written([text])[1:-1]}]"]).data.exclude == [text]
    for executor, key in (("ray", "address"), ("slurm", "partition"), ("slurm", "account")):
        config, _ = take_settings([f"executor={executor}", f"executor.{key}={text}"])
        assert getattr(config, key) == text
    plan = tmp_path / "plan.yaml"
    word = f"data.root={text}".replace("'", "'\\''")
    quoted = f"model=prenet data=rain200l '{word}' seed=1".replace("'", "''")
    plan.write_text(f"format: 1\nrecipe: paper\nruns:\n- '{quoted}'\n", encoding="utf-8")
    _, found = load(plan, str(tmp_path))
    assert found.runs[0].spec.data.root == text


@pytest.mark.parametrize(
    "key", [key for key, kind in TYPES.items() if "str" in str(kind) and key != "model.options"]
)
@pytest.mark.parametrize("text", ["no", "007", "12:30", "2024_11_26"])
def test_every_text_setting_keeps_its_text_or_names_it_as_it_was(key: str, text: str) -> None:
    value = f"[{text}]" if "list" in str(TYPES[key]) else text
    word = key.removesuffix(".name") if key in ("model.name", "data.name") else key
    try:
        found = settings_of(resolve([f"{word}={value}"]))
    except UserError as error:
        assert text.partition(":")[0] in str(error)  # a metric's name ends at a colon
    else:
        shown = key.removesuffix(".name") if key == "recipe.name" else key
        assert found.get(key, found.get(shown)) in (text, [text])


@pytest.mark.parametrize(
    "key", [key for key, kind in TYPES.items() if "int" in str(kind) and key != "recipe.schedule.first"]
)
def test_whole_numbers_are_decimal(key: str) -> None:
    assert settings_of(resolve(["recipe.batch=64", f"{key}=0064"]))[key] in (64, "64")
    for text in ("1:30", "0x10", "0o10", "1_000", "0b11", "1.5", "1e3", "６４", "yes", "[1]", "9" * 5000):
        with pytest.raises(UserError) as error:
            resolve([f"{key}={text}"])
        assert str(error.value).startswith(f"{key}={text}: ")


@pytest.mark.parametrize("key", [key for key, kind in TYPES.items() if "float" in str(kind)])
def test_numbers_are_decimal(key: str) -> None:
    for text in ("1:30", "0x10", "1_0.5", "nan", ".inf", "-inf", "1e999", "true", "12:00:00", "1.5.2"):
        value = f"[{text},{text}]" if "list" in str(TYPES[key]) else text
        with pytest.raises(UserError, match="number") as error:
            resolve([f"{key}={value}"])
        assert str(error.value).startswith(f"{key}={value}: ")


def test_numbers_of_executors_are_decimal() -> None:
    config, _ = take_settings(["executor=slurm", "executor.hours=010", "executor.gpus=08"])
    assert (config.hours, config.gpus) == (10, 8)
    for word in (
        "hours=12:00:00",
        "hours=1_0",
        "gpus=0x1",
        "cpus=1:30",
        "memory=inf",
        "hours=1e9",
        "gpus=1e9",
    ):
        with pytest.raises(UserError, match=f"executor.{word.partition('=')[0]}="):
            take_settings(["executor=slurm", f"executor.{word}"])


def test_options_of_networks_are_decimal() -> None:
    assert resolve(["model=esdnet", "model.dim=012"]).model.options == {"dim": 12}
    assert resolve(["model=esdnet", "model.encoder_blocks=[01, 2,3]"]).model.options == {
        "encoder_blocks": [1, 2, 3]
    }
    for word in ("dim=1:30", "dim=0x10", "dim=1_0", "threshold=1:30", "encoder_blocks=[1:30,1,1]"):
        with pytest.raises(UserError, match="numbers are needed"):
            resolve(["model=esdnet", f"model.{word}"])


def test_a_study_keeps_its_text_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "title: no\nmodel: esdnet\nvariants:\n"
        "  12:30: {data.root: 007, data.exclude: [no, 2024-11-26, 010], recipe.steps: 010}\n"
        "labels: {12:30: on}\n"
    )
    study = catalog.study(str(path))
    assert (study.title, study.variants[0].name, study.variants[0].label) == ("no", "12:30", "on")
    config = resolve([f"study={path}", "row=12:30"])
    assert config.data.root == "007" and config.data.exclude == ["no", "2024-11-26", "010"]
    assert config.recipe.steps == 10
    path.write_text("title: x\nmodel: esdnet\nvariants:\n  a: {recipe.steps: 1:30}\n")
    with pytest.raises(UserError, match=r"recipe\.steps=1:30: a whole number"):
        resolve([f"study={path}", "row=a"])


_TEXT = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn", "Zl", "Zp"))
)  # those that YAML allows as they are
_PLAIN: Any = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _TEXT
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXT, inner, max_size=4)),
    max_leaves=12,
)


@given(_PLAIN)
def test_json_read_as_yaml_is_the_same(data: Any) -> None:
    import json

    text = json.dumps(data, ensure_ascii=False)
    if "${" not in text:
        assert read.yaml_of(text) == read.json_of(text) == data


@given(
    st.one_of(
        st.text(), st.lists(st.text(), max_size=4), st.integers(), st.floats(allow_nan=False), st.none()
    )
)
def test_what_is_written_is_read_again(value: Any) -> None:
    hint = {str: str, list: list[str], int: int, float: float}.get(type(value), float | None)
    if isinstance(value, float) and abs(value) == float("inf"):
        return
    if isinstance(value, int) and len(str(value)) > 300:
        return
    assert read.typed(hint, read.written(value)) == value


def _doubling(levels: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    "anchors that double": _doubling(60) + "\n",
    "anchors in one list": "x: &x [" + "1," * 900 + "]\ny: [*x, *x, *x]\n",
    "an alias of itself": "x: &x [*x]\n",
    "an unknown alias": "x: *y\n",
    "deep lists": "x: " + "[" * 100_000 + "\n",
    "deep mappings": "x: " + "{a: " * 100_000 + "\n",
    "deep by blocks": "\n".join(" " * i + "a:" for i in range(2000)) + "\n",
    "deep by aliases": "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100))])
    + "\n",
    "a tag": "x: !!python/object/apply:os.system [true]\n",
    "a reference to the environment": "x: ${oc.env:HOME}\n",
    "a reference in a key": "${oc.env:HOME}: x\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a key twice": "a: 1\na: 2\n",
    "a key that is a list": "[a, b]: 1\n",
    "no YAML": "a: [\n",
    "no UTF-8": "a: \xff\n",
    "a NUL": "a: \0\n",
}


def _hostile(path: Path, content: str) -> None:
    path.write_bytes(content.encode("latin-1"))


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_yaml_is_refused_in_one_line_at_once(what: str, tmp_path: Path) -> None:
    from benchmark.cost.conventions import convention
    from benchmark.sweep.agents import start

    path = tmp_path / "hostile.yaml"
    readers = {
        "a study": lambda: catalog.study(str(path)),
        "a plan": lambda: load(path, str(tmp_path)),
        "a convention": lambda: convention(str(path)),
    }
    if "reference" not in what:  # W&B's commands have them
        readers["a sweep"] = lambda: start(str(path))
    _hostile(path, HOSTILE[what])
    for name, reader in readers.items():
        begun = time.monotonic()
        with pytest.raises(UserError) as error:
            reader()
        assert "\n" not in str(error.value) and str(path) in str(error.value), name
        assert time.monotonic() - begun < 5, name


def test_hostile_json_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for content in (
        "[" * 100_000 + "]" * 100_000,
        '{"format": 1, "runs": ' + "[" * 500 + "]" * 500 + "}",
        '{"format": 1, "tables": ["${oc.env:HOME}"], "runs": ["model=prenet"]}',
        "{",
    ):
        path.write_text(content)
        with pytest.raises(UserError) as error:
            load(path, str(tmp_path))
        assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_deep_json_in_folders_of_runs_and_caches_is_no_json(tmp_path: Path) -> None:
    from benchmark.run.claims import claimant
    from benchmark.run.records import RECORD, read_record
    from benchmark.text.table import read_table

    deep = "[" * 100_000 + "]" * 100_000
    with pytest.raises(ValueError, match="nested deeper"):
        claimant(deep)
    for name in (RECORD, "table.json"):
        (tmp_path / name).write_text(deep)
    for reader in (lambda: read_record(tmp_path), lambda: read_table(tmp_path / "table.json")):
        with pytest.raises(UserError) as error:
            reader()
        assert "\n" not in str(error.value)


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    endless = tmp_path / "zero.yaml"
    endless.symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "large.yaml").write_text("a: " + "x" * 5000)
    monkeypatch.setattr(read, "MOST_BYTES", 4096)
    for name, said in (
        ("pipe", "no file"),
        ("zero", "no file"),
        ("folder", "no file"),
        ("large", "larger"),
        ("none", "no such file"),
    ):
        for reader in (catalog.study, lambda given: load(Path(given), str(tmp_path))):
            with pytest.raises(UserError, match=said):
                reader(str(tmp_path / f"{name}.yaml"))


def test_anchors_in_measure_are_read() -> None:
    told = read.yaml_of("a: &a [1, {b: x}]\nc: [*a, *a]\n")
    assert told == {"a": [1, {"b": "x"}], "c": [[1, {"b": "x"}]] * 2}


def test_a_study_does_not_say_where_files_go(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for setting in ("out: /elsewhere", "data.cache: /elsewhere", "seed: 3"):
        for content in (
            f"base: {{{setting}}}\nvariants: {{a: {{}}}}",
            f"variants: {{a: {{{setting}}}}}",
            f"vary: {{setting: {setting.partition(':')[0]}, values: [1, 2]}}",
        ):
            path.write_text(f"title: x\nmodel: esdnet\n{content}\n")
            with pytest.raises(UserError, match=f"'{setting.partition(':')[0]}' is no setting of a study"):
                catalog.study(str(path))


def test_a_plan_does_not_say_where_files_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.yaml"
    for content in (
        "runs: ['model=prenet data=embedded-light out=/elsewhere']",
        "settings: [out=/elsewhere]\nruns: ['model=prenet data=embedded-light']",
        "runs: ['model=prenet data=embedded-light +out=/elsewhere']",
    ):
        path.write_text(f"format: 1\n{content}\n")
        with pytest.raises(UserError, match="does not say where runs are kept"):
            load(path, str(tmp_path / "runs"))
    path.write_text("format: 1\nruns: ['model=prenet data=embedded-light data.cache=/elsewhere']\n")
    _, plan = load(path, str(tmp_path / "runs"))
    assert plan.runs[0].spec.out == str(tmp_path / "runs") and plan.runs[0].spec.data.cache is None
    assert "data.cache=/elsewhere is left out" in capsys.readouterr().err


def test_a_saved_plan_is_read_again_whatever_is_in_its_words(tmp_path: Path) -> None:
    from benchmark.sweep.plan import Planner
    from benchmark.sweep.planfile import Heading, save

    for text in (*TEXTS, '"quoted"', '"', "a\u2028b", "a\x7f\x01b", "tab\t", "\U0001f327", "~", "null "):
        words = [
            "model=prenet",
            "data=rain200l",
            f"data.root=./{text}" if text[0] == "~" else f"data.root={text}",
        ]
        planner = Planner(["recipe=paper", f"out={tmp_path}"])
        run = planner.plan(words, 1, "", [])
        for name in ("plan.yaml", "plan.json"):
            save(tmp_path / name, Heading([], None, "paper"), [run])
            _, found = load(tmp_path / name, str(tmp_path))
            assert found.runs[0].spec == run.spec, text
    with pytest.raises(UserError, match="UTF-8"):
        save(tmp_path / "p.yaml", Heading([], "/x\udcff", "paper"), [run])


def test_the_home_folder_is_put_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert read.path("~") == "/home/me" and read.path("~/a b/") == "/home/me/a b/"
    assert read.path("a/~") == "a/~" and read.path("./~") == "./~" and read.path("") == ""
    assert read.path("~root/x").endswith("/x") and not read.path("~root/x").startswith("~")
    for key in ("data.root", "data.cache", "out"):
        assert settings_of(resolve([f"{key}=~/x"]))[key] == "/home/me/x"
    assert take_settings(["executor=ray", "executor.storage=~/x"])[0].storage == "/home/me/x"
    for text in ("~nobody-is-called-so/x", "~+"):
        with pytest.raises(UserError, match="home folder is not known"):
            read.path(text)
    monkeypatch.setenv("HOME", "")
    with pytest.raises(UserError, match="home folder is not known"):
        read.path("~/x")
