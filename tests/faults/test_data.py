"""Faults 12 and 13: datasets that are not what they should be. One audit lists all; training needs an explicit flag.

Further: `test_everything_that_is_wrong_is_listed_at_once`, `test_overlap_is_found_through_changes`,
`test_overlap_is_found_through_compression_in_photographs`, `test_bad_folders_get_one_line` (layouts),
`test_pairing_gives_a_rainy_name_one_partner_and_loses_no_name`; pictures: `tests/benchmark/data/test_images.py`, where
each kind of the list in `benchmark/data/images.py` has its outcome.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.data import RainDataModule, audit
from benchmark.data.audit import check
from benchmark.data.images import read_image, write_image
from benchmark.errors import UserError
from benchmark.run.execute import execute
from benchmark.run.records import FAILURE, RECORD
from benchmark.spec import resolve


def _scene(seed: int) -> np.ndarray:
    """Something smooth, with a hash of its own."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 200, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((64, 48), Image.Resampling.BICUBIC))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A sound set of 6 training and 2 test pairs."""
    root = tmp_path / "set"
    for split, seeds in (("train", range(6)), ("test", range(10, 12))):
        for i, seed in enumerate(seeds):
            clean = _scene(seed)
            write_image(root / split / "target" / f"{i}.png", clean)
            write_image(
                root / split / "input" / f"{i}.png", np.minimum(clean.astype(int) + 40, 255).astype(np.uint8)
            )
    return root


def _words(root: Path, out: Path, *more: str) -> list[str]:
    return [
        *("model=prenet", "model.stages=1", "model.channels=4", "model.residual_blocks=1"),
        *(
            "data=folder",
            f"data.root={root}",
            f"data.cache={out / 'cache'}",
            "recipe=embedded",
            "recipe.steps=1",
        ),
        *(
            "recipe.batch=1",
            "recipe.patch=16",
            "logger=csv",
            "trainer.accelerator=cpu",
            "evaluation.tile=whole",
        ),
        *(f"out={out}", *more),
    ]


def test_a_sound_set_trains_without_a_word(dataset: Path, tmp_path: Path, monkeypatch) -> None:
    record = execute(resolve(_words(dataset, tmp_path / "runs")))
    assert record["training"]["data"]["problems"] == []
    # looked at once: a second run finds the answer, unless other code may answer otherwise
    monkeypatch.setattr(audit, "_look", lambda pair: pytest.fail("looked at again"))
    execute(resolve(_words(dataset, tmp_path / "runs", "seed=1")))
    monkeypatch.setattr(audit, "code_digest", lambda: "other")
    with pytest.raises(pytest.fail.Exception, match="looked at again"):
        execute(resolve(_words(dataset, tmp_path / "runs", "seed=2")))


def _overlap(root: Path) -> None:
    clean = read_image(root / "train" / "target" / "3.png")[:, ::-1]  # mirrored, and a little darker
    write_image(root / "test" / "target" / "7.png", np.ascontiguousarray(clean) // 8 * 7)
    write_image(root / "test" / "input" / "7.png", np.ascontiguousarray(clean) // 2)


def _lone(root: Path) -> None:
    (root / "train" / "target" / "2.png").unlink()


def _twice(root: Path) -> None:
    for side in ("input", "target"):
        picture = read_image(root / "test" / side / "0.png")
        write_image(root / "test" / side / "8.png", np.clip(picture.astype(int) + 1, 0, 255).astype(np.uint8))


def _same(root: Path) -> None:
    write_image(root / "train" / "input" / "4.png", read_image(root / "train" / "target" / "4.png"))


FAULTS = {
    "a test scene is trained on": (_overlap, "show a scene that is trained on too"),
    "a name has no partner": (_lone, "no clean image of that name"),
    "a test picture comes twice": (_twice, "nearly what another shows"),
    "rainy is clean": (_same, "rainy and clean image are the same"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_training_goes_on_only_with_the_flag_which_the_record_keeps(
    dataset: Path, tmp_path: Path, fault: str
) -> None:
    spoil, words = FAULTS[fault]
    spoil(dataset)
    assert any(words in line for line in check(dataset).problems)
    config = resolve(_words(dataset, tmp_path / "runs"))
    with pytest.raises(UserError, match=words) as raised:
        execute(config)
    assert "data check" in str(raised.value) and "\n" not in str(raised.value)
    assert (config.folder / FAILURE).is_file() and not (config.folder / RECORD).exists()
    accepted = resolve(_words(dataset, tmp_path / "runs", "data.accept_problems=true"))
    record = json.loads(json.dumps(execute(accepted)))
    assert record["config"]["data"]["accept_problems"] is True
    assert any(words in line for line in record["training"]["data"]["problems"])
    assert str(tmp_path) not in json.dumps(record["training"])
    assert accepted.folder != config.folder, "another identity: its figures are no other run's"


def _further(place: Path, *scenes: np.ndarray) -> Path:
    for i, clean in enumerate(scenes):
        write_image(place / "target" / f"{i}.png", clean)
        write_image(place / "input" / f"{i}.png", np.minimum(clean.astype(int) + 30, 255).astype(np.uint8))
    return place


def test_what_a_further_test_set_shows_is_not_trained_on_unasked(
    dataset: Path, tmp_path: Path, monkeypatch
) -> None:
    clear = _further(tmp_path / "clear", _scene(50))
    shared = _further(tmp_path / "shared", _scene(51), np.ascontiguousarray(_scene(2)[::-1]))
    words = _words(dataset, tmp_path / "runs")
    asked = f"evaluation.also=[{clear},{shared}]"
    line = "shared: 1 of 2 test images show a scene that is trained on too"
    first = execute(resolve([*words, f"evaluation.also=[{clear}]"]))
    assert first["training"]["data"]["problems"] == []
    with pytest.raises(UserError, match=f"{line}.*shared/target/1.png shows.*accept_problems=true"):
        execute(resolve([*words, asked]))
    # what is trained on was looked at once, for all sets
    monkeypatch.setattr(audit, "_look", lambda pair: pytest.fail("looked at again"))
    accepted = [*words, "data.accept_problems=true"]
    assert execute(resolve(accepted))["training"]["data"]["problems"] == []
    record = execute(resolve([*accepted, asked]))
    assert "trained_as" in record["training"], "of the same weights, tested on more"
    assert (
        record["training"]["data"]["problems"][0] == line and len(record["training"]["data"]["problems"]) == 2
    )
    assert str(tmp_path) not in json.dumps(record["training"])


def test_published_sets_that_one_training_stands_for_are_looked_at(dataset: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    dataset.rename(root / "Rain200L")
    _further(root / "Rain12", _scene(1), _scene(3), _scene(60))
    words = [w if w != "data=folder" else "data=rain200l" for w in _words(root, tmp_path / "runs")]
    record = execute(resolve([*words, "data.accept_problems=true"]))
    line = "Rain12: 2 of 3 test images show a scene that is trained on too"
    assert line in record["training"]["data"]["problems"]


def test_photographs_that_are_tested_on_are_not_trained_on_unless_left_out(tmp_path: Path) -> None:
    for i in range(4):
        write_image(tmp_path / "clean" / f"{i}.png", _scene(i))
    shared = _further(tmp_path / "shared", _scene(2))
    data = RainDataModule("photographs", tmp_path / "clean", cache=tmp_path / "cache", also=[str(shared)])
    with pytest.raises(UserError, match=r"shared: 1 of 1 test images.*shows the same as .*2\.png"):
        data.audit()
    left_out = RainDataModule(
        "photographs", tmp_path / "clean", cache=tmp_path / "cache", exclude=["2"], also=[str(shared)]
    )
    left_out.audit()
    assert left_out.problems == []


def test_a_set_that_is_not_as_published_needs_the_flag(dataset: Path, tmp_path: Path) -> None:
    named = dataset.rename(dataset.with_name("Rain200H"))
    words = [w if w != "data=folder" else "data=rain200h" for w in _words(named, tmp_path / "runs")]
    with pytest.raises(UserError, match="Rain200H train: 6 here, 1800 published"):
        execute(resolve(words))


def test_one_audit_lists_all_faults(dataset: Path, capsys) -> None:
    for spoil, _ in FAULTS.values():
        spoil(dataset)
    (dataset / "train" / "input" / "5.png").write_bytes(b"")
    (dataset / "train" / "target" / "0.png").write_bytes(
        (dataset / "train" / "target" / "0.png").read_bytes()[:-80]
    )
    (dataset / "lonely" / "input").mkdir(parents=True)
    write_image(dataset / "lonely" / "input" / "1.png", _scene(30))
    assert main(["data", "check", str(dataset)]) == 1
    said = capsys.readouterr().out
    others = ("is empty (0 bytes)", "damaged", "without a folder of their partners")
    for words in (*(w for _, w in FAULTS.values()), *others):
        assert words in said


def test_a_test_picture_below_the_metrics_window_is_named_before_work_starts(
    dataset: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    from benchmark.run import evaluate
    from benchmark.run import execute as run

    for side in ("input", "target"):
        write_image(dataset / "test" / side / "1.png", _scene(3)[:18])
    monkeypatch.setattr(run, "_trained", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: pytest.fail("measured"))
    words = "test/input/1.png: is 64×18 pixels; metrics need pictures of at least 19×19"
    with pytest.raises(UserError, match=words):
        execute(resolve(_words(dataset, tmp_path / "runs")))
    (tmp_path / "x.pth").write_bytes(b"")
    asked = ["evaluate", "--model", "prenet", "--checkpoint", str(tmp_path / "x.pth"), "--data", str(dataset)]
    assert main(asked) == 2
    assert words in capsys.readouterr().err


def test_a_missing_test_set_is_said_before_the_training(dataset: Path, tmp_path: Path, monkeypatch) -> None:
    from benchmark.run import execute as run

    (dataset / "test").rename(dataset / "validation")
    monkeypatch.setattr(run, "_trained", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match="has no 'test' split"):
        execute(resolve(_words(dataset, tmp_path / "runs")))


def test_held_out_pictures_below_the_window_judge_nothing(dataset: Path, tmp_path: Path) -> None:
    for i in range(6):
        for side in ("input", "target"):
            picture = read_image(dataset / "train" / side / f"{i}.png")
            write_image(dataset / "train" / side / f"{i}.png", picture[: 18 if i else 48])
    words = _words(
        dataset, tmp_path / "runs", "recipe.select=best", "recipe.validation=0.9", "recipe.validate_every=1"
    )
    record = execute(resolve(words))
    assert any("judge nothing" in line for line in record["training"]["data"]["remarks"])


def _darker(path: Path) -> None:
    write_image(path, read_image(path) // 2)


def test_data_changed_after_the_record_are_noticed_and_the_old_figure_is_not_shown(
    dataset: Path, tmp_path: Path, capsys
) -> None:
    from benchmark.run import current

    config = resolve(_words(dataset, tmp_path / "runs"))
    record = {"format": 1, **execute(config)}
    assert record["data"]["train"] and list(record["data"]["test"]) == ["folder"]
    assert str(tmp_path) not in json.dumps(
        {k: v for k, v in record.items() if k not in ("config", "command")}
    )
    assert execute(config) == record
    before = {path: path.read_bytes() for path in dataset.rglob("*.png")}
    shown = ["figures", "--runs", str(tmp_path / "runs")]
    for place, words in (
        ("test/target/1.png", "test set has changed"),
        ("train/input/3.png", "training set has changed"),
    ):
        _darker(dataset / place)
        current.forget()
        with pytest.raises(UserError, match=f"folder's {words} since; move .* away to do the run again"):
            execute(config)
        assert main(shown) == 2
        assert words in capsys.readouterr().err
        (dataset / place).write_bytes(before[dataset / place])
    current.forget()
    assert execute(config) == record, "as they were: other times, the same data"
    dataset.rename(tmp_path / "elsewhere")
    current.forget()
    assert execute(config) == record, "a record stands for itself where the data are not at hand"


def test_data_changed_between_interruption_and_resumption_are_refused(dataset: Path, tmp_path: Path) -> None:
    words = _words(dataset, tmp_path / "runs", "recipe.steps=4", "trainer.checkpoint_every=2")
    config = resolve(words)

    def cut(step: int, steps: int) -> None:
        if step == 3:
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        execute(config, cut)
    whole = (dataset / "train" / "input" / "3.png").read_bytes()
    _darker(dataset / "train" / "input" / "3.png")
    with pytest.raises(UserError, match=r"last\.ckpt was trained on other data .*bring them back"):
        execute(config)
    (dataset / "train" / "input" / "3.png").write_bytes(whole)
    assert execute(config)["training"]["steps"] == 4


def test_weights_of_other_data_are_not_tested_for_a_run_that_differs_in_the_test(
    dataset: Path, tmp_path: Path
) -> None:
    first = execute(resolve(_words(dataset, tmp_path / "runs")))
    again = execute(resolve(_words(dataset, tmp_path / "runs", "evaluation.tile=32")))
    assert again["training"]["trained_as"] == first["name"]
    _darker(dataset / "train" / "input" / "3.png")
    other = execute(resolve(_words(dataset, tmp_path / "runs", "evaluation.tile=40")))
    assert "trained_as" not in other["training"] and other["data"]["train"] != first["data"]["train"]
