"""One audit lists everything that is wrong with a folder; rain over a user's photographs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import audit, check, open_pairs, render
from benchmark.data.audit import difference_hash
from benchmark.data.embedded import render_split
from benchmark.data.images import read_image, write_image
from benchmark.errors import UserError


def scene(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth random picture, unlike every other."""
    grid = np.random.default_rng(seed).integers(0, 200, (6, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def pair_at(folder: Path, name: str, clean: np.ndarray, rain: int = 30) -> None:
    write_image(folder / "target" / f"{name}.png", clean)
    write_image(folder / "input" / f"{name}.png", np.minimum(clean.astype(int) + rain, 255).astype(np.uint8))


@pytest.fixture
def rain200h(tmp_path: Path) -> Path:
    root = tmp_path / "Rain200H"
    for i in range(1, 5):
        pair_at(root / "train", str(i), scene(i))
    for i in range(1, 4):
        pair_at(root / "test", str(i), scene(100 + i))
    return root


def test_a_sound_folder_is_described(rain200h: Path) -> None:
    report = check(rain200h, progress=False)
    assert report.dataset == "rain200h"
    assert {(p.split, p.count) for p in report.parts} == {("train", 4), ("test", 3)}
    assert report.problems == [
        "Rain200H test: 3 here, 200 published",
        "Rain200H train: 4 here, 1800 published",
    ]
    text = "\n".join(report.lines())
    assert "Rain200H test, 3 pairs (64×48, rainy PSNR-Y" in text
    assert text.endswith("2 problem(s)")


def test_everything_that_is_wrong_is_listed_at_once(rain200h: Path) -> None:
    test, train = rain200h / "test", rain200h / "train"
    (train / "input" / "2.png").unlink()
    (test / "target" / "3.png").unlink()
    (train / "input" / "3.png").write_bytes((train / "input" / "3.png").read_bytes()[:-100])
    write_image(train / "input" / "4.png", scene(4, 40, 64))
    pair_at(test, "4", scene(101))  # the first test picture again
    pair_at(test, "5", scene(1))  # a training scene
    pair_at(test, "6", scene(77), rain=0)  # no rain in it
    (rain200h / "old" / "rainy").mkdir(parents=True)
    write_image(rain200h / "old" / "rainy" / "1.png", scene(8))
    write_image(rain200h / "notes" / "1.png", scene(9))
    report = check(rain200h, progress=False)
    text = "\n".join(report.problems)
    for words in (
        "train/target/2.png: no rainy image of that name",
        "test/input/3.png: no clean image of that name",
        "train/input/3.png: is truncated or damaged",
        "a pair must have one size",
        "Rain200H test: 1 image(s) repeat another",
        "1 of 5 test images show a scene that is trained on too",
        "test/target/5.png shows the same as",
        "test/target/6.png: rainy and clean image are the same",
        "old/rainy: 1 rainy pictures without a folder of their partners",
        "Rain200H train: 3 here, 1800 published",
    ):
        assert words in text, words
    assert any("notes: 1 picture(s) that are no pairs, passed over: 1.png" in r for r in report.remarks)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[:, ::-1],
        lambda a: a[::-1],
        lambda a: a.transpose(1, 0, 2),
        lambda a: np.asarray(Image.fromarray(a).resize((96, 72))),
        lambda a: np.clip(a.astype(int) + 9, 0, 255).astype(np.uint8),
    ],
    ids=["mirrored", "upside down", "turned", "resized", "brighter"],
)
def test_overlap_is_found_through_changes(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "Rain200H"
    for i in range(1, 4):
        pair_at(root / "train", str(i), scene(i))
    pair_at(root / "test", "1", np.ascontiguousarray(change(scene(2))))
    pair_at(root / "test", "2", scene(55))
    problems = check(root, progress=False).problems
    assert any("1 of 2 test images show a scene" in p for p in problems)
    assert any("test/target/1.png shows the same as" in p and "train/target/2.png" in p for p in problems)


def test_overlap_is_found_through_compression_in_photographs(tmp_path: Path) -> None:
    targets = render_split("embedded", "train").target[::4]
    root = tmp_path / "set"
    for i in range(6):
        pair_at(root / "train", str(i), targets[i])
    buffer = io.BytesIO()
    Image.fromarray(targets[3]).save(buffer, "JPEG", quality=60)
    pair_at(root / "test", "1", np.asarray(Image.open(buffer)))
    pair_at(root / "test", "2", render_split("embedded-light", "test").target[0])
    problems = check(root, progress=False).problems
    assert [p for p in problems if "scene that is trained on" in p] == [
        "this set: 1 of 2 test images show a scene that is trained on too"
    ]


def test_flat_pictures_do_not_count_as_the_same_scene(tmp_path: Path) -> None:
    pair_at(tmp_path / "train", "1", np.full((30, 30, 3), 10, np.uint8))
    pair_at(tmp_path / "test", "1", np.full((30, 30, 3), 90, np.uint8))
    assert not check(tmp_path, progress=False).problems


def test_repeated_training_backgrounds_are_a_remark(tmp_path: Path) -> None:
    for i in range(3):
        pair_at(tmp_path / "train", str(i), scene(1), rain=10 + i)
    report = check(tmp_path, progress=False)
    assert not report.problems
    assert any("2 image(s) repeat another" in r for r in report.remarks)


def test_missing_numbers_are_named(tmp_path: Path) -> None:
    root = tmp_path / "Rain12"
    for i in set(range(1, 13)) - {4, 9}:
        write_image(root / f"{i:03d}_GT.png", scene(i))
        write_image(root / f"{i:03d}_in.png", scene(i) // 2 + 100)
    report = check(root, progress=False)
    assert report.problems == ["Rain12 test: 10 here, 12 published", f"{root}: without 4, 9"]
    assert report.dataset == "rain12"


def test_photographs_alone(tmp_path: Path) -> None:
    for i in range(3):
        write_image(tmp_path / "RW-Data" / f"{i}.jpg", scene(i))
    (tmp_path / "RW-Data" / "bad.png").write_bytes(b"")
    report = check(tmp_path / "RW-Data", progress=False)
    assert report.dataset == "rw-data"
    assert any("bad.png: is empty" in p for p in report.problems)
    assert any("4 here, 185 published" in p for p in report.problems)


def test_wrong_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        check(tmp_path / "none")
    with pytest.raises(UserError, match="no pictures"):
        check(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check(tmp_path / "file")


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (481, 321), (17, 16)])
def test_hashes_of_any_size(size: tuple[int, int]) -> None:
    assert difference_hash(np.zeros((*size, 3), np.uint8)).shape == (16, 16)


def test_real_pairs_are_sound(shared: Path) -> None:
    for name, dataset, split in (
        ("rain200h_test3", "rain200h", "test"),
        ("rain200h_train3", "rain200h", "train"),
        ("rain200l_test3", "rain200l", "test"),
    ):
        report = check(shared / "data" / "rain_pairs" / name, progress=False)
        assert [(p.dataset, p.split, p.count) for p in report.parts] == [(dataset, split, 3)]
        assert all("published" in p for p in report.problems)


def test_what_was_not_used_is_counted_and_named(rain200h: Path) -> None:
    write_image(rain200h / "train" / "input" / "thumbs" / "1.png", scene(5))
    write_image(rain200h / "preview.png", scene(6))
    (rain200h / "more.zip").write_bytes(b"")
    (rain200h / "a" / "b.mat").parent.mkdir()
    (rain200h / "a" / "b.mat").write_bytes(b"")
    (rain200h / ".DS_Store").write_bytes(b"")
    (rain200h / "/".join("cdefghij")).mkdir(parents=True)
    report = check(rain200h, progress=False)
    said = "\n".join(report.lines())
    assert "train/input/thumbs: 1 picture(s) that are no pairs, passed over: 1.png" in said
    assert f"{rain200h}: 1 picture(s) that are no pairs, passed over: preview.png" in said
    assert (
        "1 file(s) that are no pictures (.zip), passed over: more.zip; an archive: derain data import" in said
    )
    assert "(.mat), passed over: a/b.mat" in said and "lies too deep" in said and "DS_Store" not in said
    assert report.lines()[-1].endswith("2 problem(s); 4 file(s) passed over")
    for i in range(2):
        write_image(rain200h.parent / "photographs" / f"{i}.png", scene(i))
    write_image(rain200h.parent / "photographs" / "more" / "1.png", scene(8))
    last = check(rain200h.parent / "photographs", progress=False).lines()[-1]
    assert last.endswith("no problem found in what was looked at; 1 file(s) passed over")


def photographs(folder: Path) -> Path:
    for i in range(3):
        write_image(folder / f"{i}.png", scene(i, 90, 120))
    write_image(folder / "0.jpg", scene(9, 90, 120))
    return folder


def test_rendering_gives_pairs_that_can_be_read(tmp_path: Path) -> None:
    clean = photographs(tmp_path / "clean")
    assert render(clean, tmp_path / "out", "heavy", seed=4, progress=False) == 4
    images = open_pairs("folder", tmp_path / "out", "test")
    assert images.names == ["0-jpg", "0-png", "1", "2"]
    rainy, target = images.arrays(2)
    np.testing.assert_array_equal(target, read_image(clean / "1.png"))
    rain = (rainy.astype(int) - target).max(axis=2)
    np.testing.assert_array_equal(rainy, np.minimum(255, target.astype(int) + rain[..., None]))
    assert (rain > 0).mean() > 0.5
    render(clean, tmp_path / "again", "heavy", seed=4, progress=False)
    for file in sorted((tmp_path / "out").rglob("*.png")):
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(tmp_path / "out")).read_bytes()
    render(clean, tmp_path / "other", "heavy", seed=5, progress=False)
    assert (tmp_path / "other/input/1.png").read_bytes() != (tmp_path / "out/input/1.png").read_bytes()


def test_rendering_never_overwrites(tmp_path: Path) -> None:
    clean = photographs(tmp_path / "clean")
    write_image(tmp_path / "out" / "target" / "2.png", scene(0))
    before = (tmp_path / "out" / "target" / "2.png").read_bytes()
    with pytest.raises(UserError, match="is there already"):
        render(clean, tmp_path / "out", progress=False)
    assert [p.name for p in (tmp_path / "out").rglob("*.png")] == ["2.png"]
    assert (tmp_path / "out" / "target" / "2.png").read_bytes() == before


def test_rendering_with_wrong_words(tmp_path: Path) -> None:
    clean = photographs(tmp_path / "clean")
    for options, words in [
        ({"regime": "hevy"}, "did you mean 'heavy'"),
        ({"composition": "multiply"}, "additive or screen"),
        ({"density": "some"}, "unknown density"),
    ]:
        with pytest.raises(UserError, match=words):
            render(clean, tmp_path / "out", progress=False, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no such folder"):
        render(tmp_path / "none", tmp_path / "out", progress=False)
    (clean / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bad\.png: is not a picture"):
        render(clean, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    render(clean / "1.png", tmp_path / "one", composition="screen", density="light", progress=False)
    assert (tmp_path / "one" / "input" / "1.png").is_file()


def test_alike_pictures_are_counted_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks, and without a list of pairs: of 65,000 frames of films it would have 10⁹."""
    monkeypatch.setattr(audit, "_BLOCK", 16)
    rng = np.random.default_rng(0)
    bases = rng.integers(0, 256, (12, 32), dtype=np.uint8)
    pictures = []
    for _ in range(75):
        bits = np.unpackbits(bases[rng.integers(12)])
        bits[rng.choice(256, rng.integers(0, 16), replace=False)] ^= 1
        hashes = np.stack([np.packbits(bits)] * 8)
        pictures.append(audit._Looked("", (1, 1), hashes, 99, int(rng.integers(60)), None))

    def apart(i: int, j: int) -> int:
        return int(np.unpackbits(pictures[i].hashes[0] ^ pictures[j].hashes[0]).sum())

    pairs = [
        (i, j)
        for i in range(75)
        for j in range(i + 1, 75)
        if apart(i, j) <= audit._NEAR and pictures[i].pixels != pictures[j].pixels
    ]
    assert audit._shown_before(pictures) == (len({j for _, j in pairs}), pairs[0])
    assert audit._shown_before(pictures[:1]) == audit._shown_before([]) == (0, None)
