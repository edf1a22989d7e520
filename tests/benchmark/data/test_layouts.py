"""The published folder layouts, found by looking, and pairing by name."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.cli import main
from benchmark.data.datasets import open_pairs, open_photographs
from benchmark.data.images import write_image
from benchmark.data.layouts import (
    Pairing,
    dataset_of,
    file_role,
    find,
    find_split,
    list_pairs,
    pair,
    rainy_half,
    split_of,
)
from benchmark.data.specs import DATASETS, dataset_spec
from benchmark.errors import UserError

SCHEMES = {
    "same": ("{}.png", "{}.png"),
    "extension": ("{}.png", "{}.jpg"),
    "case": ("IMG-{}.PNG", "img-{}.png"),
    "scale": ("{}x2.png", "{}.png"),
    "published": ("norain-{}x2.png", "norain-{}.png"),
    "rain-norain": ("rain-{}.png", "norain-{}.png"),
    "scaled-rain": ("rain-{}x2.png", "norain-{}.png"),
    "zeros": ("rain-{:03d}.png", "norain-{}.png"),
    "gt": ("{:03d}_in.png", "{:03d}_GT.png"),
    "words": ("{}_rainy.png", "{}_clean.png"),
    "input-target": ("input_{}.png", "target_{}.png"),
    "glued": ("rain{}.png", "norain{}.png"),
}


def files(folder: Path, names: list[str], shade: int = 90, size: tuple[int, int] = (6, 8)) -> None:
    for name in names:
        write_image(folder / name, np.full((*size, 3), shade, np.uint8))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(numbers=st.sets(st.integers(1, 2500), min_size=1, max_size=30), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_usual_schemes_pair_completely_in_any_order(scheme: str, numbers: set[int], seed: int) -> None:
    rainy_form, clean_form = SCHEMES[scheme]
    rainy, clean = [rainy_form.format(n) for n in numbers], [clean_form.format(n) for n in numbers]
    random.Random(seed).shuffle(rainy)
    random.Random(seed + 1).shuffle(clean)
    found = pair(rainy, clean)
    assert found.complete
    assert dict(found.pairs) == {rainy_form.format(n): clean_form.format(n) for n in numbers}


names = st.lists(
    st.text(alphabet="ab01-_xrn", min_size=1, max_size=6).map(lambda s: s + ".png")
    | st.sampled_from(
        ["rain-1.png", "norain-1.png", "1x2.png", "01.png", "1.png", "1.jpg", "norain-1x2.png"]
    ),
    max_size=12,
)


@given(rainy=names, clean=names, seed=st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_pairing_gives_a_rainy_name_one_partner_and_loses_no_name(
    rainy: list[str], clean: list[str], seed: int
) -> None:
    found = pair(rainy, clean)
    left, right = [r for r, _ in found.pairs], [c for _, c in found.pairs]
    assert len(set(left)) == len(left)
    doubtful = [n for r, _ in found.ambiguous for n in r], [n for _, c in found.ambiguous for n in c]
    assert sorted([*left, *found.unpaired_rainy, *doubtful[0]]) == sorted(set(rainy))
    assert sorted({*right, *found.unpaired_clean, *doubtful[1]}) == sorted(set(clean))
    for r, c in found.pairs:  # a clean picture is shared by numbered names alone
        if right.count(c) > 1:
            assert re.search(r"[-_ ][a-z]{0,2}\d+$", r.rpartition(".")[0]), (r, c)
    random.Random(seed).shuffle(rainy)
    assert pair(rainy, reversed(clean)) == found


def test_unpaired_and_ambiguous_names_are_told_apart() -> None:
    assert pair(["1.png", "2.png"], ["1.png", "3.png"]) == Pairing(
        (("1.png", "1.png"),), ("2.png",), ("3.png",)
    )
    found = pair(["1x2.png", "1x3.png", "2x2.png"], ["1.png", "2.png"])
    assert found.pairs == (("2x2.png", "2.png"),)
    assert found.ambiguous == ((("1x2.png", "1x3.png"), ("1.png",)),)


def test_positions_in_a_sorted_list_never_decide() -> None:
    assert not pair(["a.png", "b.png"], ["c.png", "d.png"]).pairs


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("norain-1.png", "clean"),
        ("norain-1x2.png", "rainy"),
        ("rain-1.png", "rainy"),
        ("001_GT.png", "clean"),
        ("001_in.png", "rainy"),
        ("1x2.png", "rainy"),
        ("1.png", None),
        ("rainbow.png", None),
        ("inside.png", None),
        ("target.png", None),
    ],
)
def test_roles_of_file_names(name: str, role: str | None) -> None:
    assert file_role(name) == role


def test_the_innermost_folder_says_the_split() -> None:
    assert split_of(["test", "DID-MDN-training"]) == "train"
    assert split_of(["rain_data_test_Heavy", "rain"]) == "test"
    assert split_of(["RainTrainH"]) == "train"
    assert split_of(["latest", "contest"]) is None


def published(root: Path) -> Path:
    """All published layouts below one folder, tiny."""
    h = root / "Rain200H"
    files(h / "train" / "input", ["1.png", "2.png", "3.png"])
    files(h / "train" / "target", ["1.png", "2.png", "3.png"])
    files(h / "test" / "rain" / "X2", ["norain-1x2.png", "norain-2x2.png"])
    files(h / "test" / "norain", ["norain-1.png", "norain-2.png"])
    for split, count in (("train", 3), ("test", 2)):
        light = root / f"rain_data_{split}_Light"
        files(light / "rain_X2", [f"{i}x2.png" for i in range(1, count + 1)])
        files(light / "norain", [f"{i}.png" for i in range(1, count + 1)])
    files(root / "Rain12", [f"{i:03d}_{kind}.png" for i in range(1, 13) for kind in ("GT", "in")])
    rng = np.random.default_rng(1)
    for density in ("Heavy", "Medium", "Light"):
        for i in range(2):
            clean = np.kron(rng.integers(20, 180, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8)
            name = (
                root
                / "DID-MDN-datasets"
                / "DID-MDN-training"
                / f"Rain_{density}"
                / "train2018new"
                / f"{i}.png"
            )
            write_image(name, np.concatenate([clean + 30, clean], axis=1))
    files(root / "DID-MDN-datasets" / "DID-MDN-test" / "rainy", ["1.png", "2.png"])
    files(root / "DID-MDN-datasets" / "DID-MDN-test" / "gt", ["1.png", "2.png"])
    files(root / "RW-Data", [f"{i}.png" for i in range(4)])
    return root


@pytest.mark.parametrize(
    ("dataset", "split", "count"),
    [
        ("rain200h", "train", 3),
        ("rain200h", "test", 2),
        ("rain200l", "train", 3),
        ("rain200l", "test", 2),
        ("rain12", "test", 12),
        ("rain1200", "train", 6),
        ("rain1200", "test", 2),
    ],
)
def test_published_layouts_are_found_below_a_common_folder(
    tmp_path: Path, dataset: str, split: str, count: int
) -> None:
    root = published(tmp_path / "data")
    pairs = list_pairs(dataset_spec(dataset), root, split)
    assert len(pairs) == count
    assert len({p.name for p in pairs}) == count
    images = open_pairs(dataset, root, split)
    expected = dataset_spec(dataset).published[split]
    assert bool(images.remarks) == (count != expected)
    assert images[0]["rainy"].shape == images[0]["target"].shape


def test_the_folder_itself_will_do(tmp_path: Path) -> None:
    root = published(tmp_path / "data")
    assert len(list_pairs(dataset_spec("rain200h"), root / "Rain200H", "train")) == 3
    assert len(list_pairs(dataset_spec("rain200h"), root / "Rain200H" / "test", "test")) == 2
    assert len(list_pairs(dataset_spec("folder"), root / "Rain200H" / "test", "test")) == 2
    assert len(open_photographs("rw-data", root)) == 4
    assert len(open_photographs(root / "RW-Data")) == 4
    files(root / "..", ["Internet-Data/a.jpg"])
    opened = open_photographs("internet-data", root / "..")
    assert len(opened) == 1 and opened.remarks == ["Internet-Data: 1 photographs here, 147 published"]


def test_unnamed_folders_serve_for_the_set_that_is_asked_for(tmp_path: Path) -> None:
    files(tmp_path / "mine" / "train" / "rainy", ["1.png"])
    files(tmp_path / "mine" / "train" / "clean", ["1.png"])
    assert len(list_pairs(dataset_spec("rain200h"), tmp_path / "mine", "train")) == 1
    with pytest.raises(UserError, match="no 'test' split"):
        list_pairs(dataset_spec("rain200h"), tmp_path / "mine", "test")


def _pairs(root: Path) -> set[tuple[str, str]]:
    (found,) = find(root)
    assert not found.problems()
    return {(str(p.rainy.relative_to(root)), str(p.clean.relative_to(root))) for p in found.pairs}


LAYOUTS = {
    "clean names end in a word without separator": (
        ["rain/000.png", "rain/001.png", "gt/000gt.png", "gt/001gt.png"],
        {("rain/000.png", "gt/000gt.png"), ("rain/001.png", "gt/001gt.png")},
    ),
    "clean pictures in the parent": (
        ["rainy/rain-001.png", "rainy/rain-002.png", "norain-001.png", "norain-002.png"],
        {("rainy/rain-001.png", "norain-001.png"), ("rainy/rain-002.png", "norain-002.png")},
    ),
    "rainy pictures in the parent": (
        ["gt/1.png", "gt/2.png", "1.png", "2.png"],
        {("1.png", "gt/1.png"), ("2.png", "gt/2.png")},
    ),
    "one clean picture, many rainy ones": (
        [
            "rainy_image/902_1.jpg",
            "rainy_image/902_14.jpg",
            "rainy_image/9_1.jpg",
            "ground_truth/902.jpg",
            "ground_truth/9.jpg",
        ],
        {
            ("rainy_image/902_1.jpg", "ground_truth/902.jpg"),
            ("rainy_image/902_14.jpg", "ground_truth/902.jpg"),
            ("rainy_image/9_1.jpg", "ground_truth/9.jpg"),
        },
    ),
    "names that end in a word": (
        ["data/0_rain.png", "data/1_rain.png", "gt/0_clean.png", "gt/1_clean.png"],
        {("data/0_rain.png", "gt/0_clean.png"), ("data/1_rain.png", "gt/1_clean.png")},
    ),
    "names that end in a word nobody foresaw": (
        ["input/im12_wet.png", "input/im22_wet.png", "target/im12_dry.png", "target/im22_dry.png"],
        {("input/im12_wet.png", "target/im12_dry.png"), ("input/im22_wet.png", "target/im22_dry.png")},
    ),
    "a folder of frames for each video": (
        [
            "input/0001/1.png",
            "input/0001/2.png",
            "input/0002/1.png",
            "gt/0001/1.png",
            "gt/0001/2.png",
            "gt/0002/1.png",
        ],
        {(f"input/{n}.png", f"gt/{n}.png") for n in ("0001/1", "0001/2", "0002/1")},
    ),
    "one clean picture for the frames of a video": (
        ["input/0001/1.png", "input/0001/2.png", "input/0002/1.png", "gt/0001.png", "gt/0002.png"],
        {
            ("input/0001/1.png", "gt/0001.png"),
            ("input/0001/2.png", "gt/0001.png"),
            ("input/0002/1.png", "gt/0002.png"),
        },
    ),
    "one clean picture in the folder of a video": (
        ["input/a/1.png", "input/a/2.png", "input/b/1.png", "input/b/2.png", "gt/a/0.png", "gt/b/0.png"],
        {(f"input/{v}/{n}.png", f"gt/{v}/0.png") for v in "ab" for n in (1, 2)},
    ),
    "rainy and clean frames of scenes": (
        ["s1/s1-R-000.png", "s1/s1-R-001.png", "s1/s1-C-000.png", "s2/s2-R-000.png", "s2/s2-C-000.png"],
        {
            ("s1/s1-R-000.png", "s1/s1-C-000.png"),
            ("s1/s1-R-001.png", "s1/s1-C-000.png"),
            ("s2/s2-R-000.png", "s2/s2-C-000.png"),
        },
    ),
    "words without separators in one folder": (
        ["1rain.jpg", "2rain.jpg", "1ground_truth.jpg", "2ground_truth.jpg"],
        {("1rain.jpg", "1ground_truth.jpg"), ("2rain.jpg", "2ground_truth.jpg")},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_that_people_have(tmp_path: Path, layout: str) -> None:
    there, expected = LAYOUTS[layout]
    files(tmp_path / "mine", there)
    assert _pairs(tmp_path / "mine") == expected
    names = open_pairs("folder", tmp_path / "mine", "test").names
    assert len(set(names)) == len(names) == len(expected) and not any("/" in n for n in names)


def test_splits_inside_the_roles(tmp_path: Path) -> None:
    files(
        tmp_path,
        [
            f"{side}/{split}/{n}.png"
            for side in ("rainy", "clean")
            for split in ("train", "val")
            for n in (1, 2)
        ],
    )
    assert {(f.split, len(f.pairs)) for f in find(tmp_path)} == {("train", 2), ("validation", 2)}


def test_data_beside_something_clean_that_has_other_names_is_no_set(tmp_path: Path) -> None:
    files(tmp_path, ["data/notes.png", "gt/1.png"])
    assert find(tmp_path) == []


def test_a_lost_clean_picture_takes_its_rainy_ones_alone(tmp_path: Path) -> None:
    files(tmp_path, ["rainy/1_1.png", "rainy/1_2.png", "rainy/2_1.png", "clean/1.png", "clean/3.png"])
    (found,) = find(tmp_path)
    assert len(found.pairs) == 2
    assert [line.rpartition("/")[2] for line in found.problems()] == ["clean", "rainy"]
    assert "2_1.png: no clean image" in found.problems()[0] and "3.png: no rainy image" in found.problems()[1]


def test_what_the_user_named_is_not_guessed_over(tmp_path: Path) -> None:
    mine = tmp_path / "rain200h_project" / "Rain200L-test"
    files(mine, ["train/input/1.png", "train/target/1.png", "test/input/1.png", "test/target/1.png"])
    for split in ("train", "test"):
        assert [f.datasets for f in find_split(dataset_spec("folder"), mine, split)] == [()]
    # the folder itself serves, whatever split it is called after; and it is what it is said to be
    assert len(list_pairs(dataset_spec("folder"), mine / "train", "test")) == 1
    (found,) = find_split(dataset_spec("rain200l"), mine, "train")
    assert found.dataset == "rain200l"


def test_a_name_belongs_to_a_dataset_as_a_whole() -> None:
    for name in ("Rain200H", "rain-200-h", "Rain200H_test", "Rain200H (1)", "official Rain200H dataset"):
        assert dataset_of([name]) == "rain200h", name
    for name in ("rain200h_project", "my-rain200h-run", "rain200hd", "not_Rain200L", "realrain", "test"):
        assert dataset_of([name]) is None, name
    assert dataset_of(["Rain200H", "RealRain-1k-L"]) != "rw-data"


def test_validation_is_not_the_test_set(tmp_path: Path) -> None:
    files(tmp_path, [f"{s}/{side}/1.png" for s in ("training", "validation") for side in ("input", "target")])
    assert {f.split for f in find(tmp_path)} == {"train", "validation"}
    with pytest.raises(UserError, match=r"no 'test' split of 'folder' \(found: train, validation\)"):
        list_pairs(dataset_spec("folder"), tmp_path, "test")


@pytest.mark.parametrize("order", ["left", "right"])
def test_halves_are_told_apart_by_content(tmp_path: Path, order: str) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for i in range(9):
        clean = np.kron(rng.integers(0, 200, (6, 6, 3)), np.ones((5, 5, 1))).astype(np.uint8)
        rainy = np.minimum(clean.astype(int) + rng.integers(0, 40, (30, 30, 1)), 255).astype(np.uint8)
        halves = [rainy, clean] if order == "left" else [clean, rainy]
        paths.append(tmp_path / f"{i}.png")
        write_image(paths[-1], np.concatenate(halves, axis=1))
    assert rainy_half(paths) == order
    (found,) = find(tmp_path)
    assert {p.half for p in found.pairs} == {order}
    rainy_item = open_pairs("folder", tmp_path, "test")[0]
    assert rainy_item["rainy"].mean() > rainy_item["target"].mean()


def test_photographs_are_not_taken_for_halves(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sky = np.linspace(200, 50, 40)[:, None, None]  # tones go together by chance, details do not
    for i in range(5):
        noise = rng.integers(0, 40, (40, 80, 3))
        write_image(tmp_path / f"{i}.png", (sky + noise).astype(np.uint8))
    assert find(tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("unpaired rainy", "no clean image of that name"),
        ("unpaired clean", "no rainy image of that name"),
        ("size", "must have one size"),
        ("truncated", "damaged"),
        ("two rainy folders", "several folders could be the pairs"),
        ("two sets", "several folders could be the 'test' split"),
    ],
)
def test_bad_folders_get_one_line(tmp_path: Path, spoil: str, words: str) -> None:
    root = tmp_path / "pairs"
    files(root / "input", ["1.png", "2.png"])
    files(root / "target", ["1.png", "2.png"])
    if spoil == "unpaired rainy":
        files(root / "input", ["3.png"])
    elif spoil == "unpaired clean":
        files(root / "target", ["3.png"])
    elif spoil == "size":
        files(root / "input", ["2.png"], size=(8, 6))
    elif spoil == "truncated":
        (root / "input" / "2.png").write_bytes((root / "input" / "1.png").read_bytes()[:40])
    elif spoil == "two rainy folders":
        files(root / "rainy", ["1.png", "2.png"])
    else:
        files(root / "more" / "input", ["1.png"])
        files(root / "more" / "target", ["1.png"])
    with pytest.raises(UserError, match=words) as caught:
        images = open_pairs("folder", root, "test")
        [images[i] for i in range(len(images))]
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_unpaired_names_may_be_left_out_on_request(tmp_path: Path) -> None:
    files(tmp_path / "input", ["1.png", "2.png"])
    files(tmp_path / "target", ["1.png"])
    assert open_pairs("folder", tmp_path, "test", strict=False).names == ["1"]


@pytest.mark.parametrize(
    ("dataset", "root", "words"),
    [
        ("rain200h", None, "needs data.root"),
        ("rain200h", "nowhere", "no such folder"),
        ("rain200h", "empty", "no pairs of rainy and clean images"),
        ("rain200hh", "empty", "did you mean 'rain200h'"),
        ("rw-data", "empty", "no clean images"),
    ],
)
def test_wrong_names_and_places(tmp_path: Path, dataset: str, root: str | None, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=words):
        open_pairs(dataset, None if root is None else tmp_path / root, "test")


def test_another_dataset_is_not_taken_for_the_one_that_is_asked_for(tmp_path: Path) -> None:
    files(tmp_path / "Rain200L" / "test" / "input", ["1.png"])
    files(tmp_path / "Rain200L" / "test" / "target", ["1.png"])
    with pytest.raises(UserError, match="holds rain200l, but not 'rain200h'"):
        open_pairs("rain200h", tmp_path, "test")


def test_accents_of_either_form_are_one_name() -> None:
    composed, apart = "caf\u00e9-1.png", "cafe\u0301-1.png"
    assert pair([composed], [apart]).pairs == ((composed, apart),)
    assert pair([composed, apart], [composed, apart]).pairs == ((apart, apart), (composed, composed))
    assert pair([composed, apart], [composed]).unpaired_rainy == (apart,)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    files(tmp_path / "a" / "input", ["1.png"])
    files(tmp_path / "a" / "target", ["1.png"])
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(find(tmp_path)) == 1


def test_published_counts() -> None:
    counts = {
        name: dict(spec.published) for name, spec in DATASETS.items() if spec.published and not spec.embedded
    }
    assert counts == {
        "rain12": {"test": 12},
        "rain200l": {"train": 1800, "test": 200},
        "rain200h": {"train": 1800, "test": 200},
        "rain1200": {"train": 12000, "test": 1200},
        "rain100l": {"train": 200, "test": 100},
        "rain100h": {"train": 1800, "test": 100},
        "rain1400": {"train": 12600, "test": 1400},
        "spa": {"test": 1000},
        "raindrop": {"train": 861},
        "internet-data": {"test": 147},
        "rw-data": {"test": 185},
    }
    assert dataset_spec("rain12").training == "rain200l"
    assert dataset_spec("test100").training == "rain13k" and dataset_spec("rain13k").splits == ("train",)


def _sides(folder: str, *names: str) -> list[str]:
    return [f"{folder}/{side}/{n}" for side in ("input", "target") for n in names or ("1.png", "2.png")]


ATLAS = {  # dataset: (files, split, pairs)
    "rain100h": (["Rain100H/rainy/rain-001.png", "Rain100H/norain-001.png"], "test", 1),
    "rain100l": (["RainTrainL/rain-1.png", "RainTrainL/norain-1.png"], "train", 1),
    "rain1400": (
        ["Rain1400/rainy_image/9_1.jpg", "Rain1400/rainy_image/9_2.jpg", "Rain1400/ground_truth/9.jpg"],
        "test",
        2,
    ),
    "rain13k": ([*_sides("Rain13K/train/Rain13K"), *_sides("Rain13K/test/Test100")], "train", 2),
    "test100": ([*_sides("Rain13K/train/Rain13K"), *_sides("Rain13K/test/Test100")], "test", 2),
    "test1200": (_sides("test/Test1200"), "test", 2),
    "test2800": (_sides("test/Test2800"), "test", 2),
    "spa": (["real_test_1000/rain/000.png", "real_test_1000/gt/000gt.png"], "test", 1),
    "hq-rain": (_sides("HQ-RAIN/train"), "train", 2),
    "gt-rain": (
        ["GT-RAIN_test/a/a-R-000.png", "GT-RAIN_test/a/a-R-001.png", "GT-RAIN_test/a/a-C-000.png"],
        "test",
        2,
    ),
    "lhp-rain": (["LHP-Rain/test/input/1/1.png", "LHP-Rain/test/gt/1/1.png"], "test", 1),
    "realrain-1k": (
        [*_sides("RealRain-1k/RealRain-1k-L/test"), *_sides("RealRain-1k/RealRain-1k-H/test")],
        "test",
        4,
    ),
    "weatherbench": (_sides("WeatherBench/rain/test"), "test", 2),
    "raindrop": (["RainDrop/test_a/data/0_rain.png", "RainDrop/test_a/gt/0_clean.png"], "test", 1),
}


@pytest.mark.parametrize("dataset", ATLAS)
def test_every_set_of_the_atlas_is_recognised(tmp_path: Path, dataset: str) -> None:
    there, split, count = ATLAS[dataset]
    files(tmp_path, there)
    assert len(list_pairs(dataset_spec(dataset), tmp_path, split)) == count
    assert any(dataset in f.datasets for f in find(tmp_path))


def test_rain800_lies_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        clean = np.kron(rng.integers(0, 200, (6, 6, 3)), np.ones((5, 5, 1))).astype(np.uint8)
        write_image(
            tmp_path / "Rain800" / "test" / f"{i}.jpg.png", np.concatenate([clean, clean + 30], axis=1)
        )
    assert len(list_pairs(dataset_spec("rain800"), tmp_path, "test")) == 3


def test_the_atlas_is_listed(capsys) -> None:
    assert main(["data", "list"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(DATASETS)
    assert main(["data", "list", "rain12"]) == 0
    said = capsys.readouterr().out
    assert "33066" in said and "not stated" in said and "test 12" in said
    assert main(["data", "list", "rain13"]) == 2


def test_real_pairs_are_found_and_add_up(shared: Path) -> None:
    for name, count in (("rain200h", 3), ("rain200l", 3)):
        images = open_pairs(name, shared / "data" / "rain_pairs" / f"{name}_test3", "test")
        assert len(images) == count
        for i in range(count):
            rainy, target = (a.astype(int) for a in images.arrays(i))
            rain = (rainy - target).max(axis=2)
            assert rain.min() >= 0
            # a channel below 255 holds the whole of the one grey layer
            np.testing.assert_array_equal(rainy, np.minimum(target + rain[..., None], 255))
