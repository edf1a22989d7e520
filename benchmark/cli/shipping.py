"""`derain ship`: a run's weights measured, and put among those that ship, with a card for people and for programs."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmark import catalog, shipped
from benchmark.cli.gallery import Run
from benchmark.cost.conventions import CONVENTIONS
from benchmark.errors import UserError
from benchmark.files import file_digest, write_json, write_text
from benchmark.means import identical, mean_of
from benchmark.reading import path as expanded
from benchmark.run.records import RECORD, in_words, read_record, shared_provenance, without_folders
from benchmark.text.markup import markdown_rows
from benchmark.text.words import commit_in_words, several, short

if TYPE_CHECKING:
    from torch import Tensor, nn

LARGEST = 4_000_000  # bytes of a weights file
_MEGAPIXEL = (1000, 1000)
_UNCHANGED = 40.0  # dB against itself of a photograph that is left as it is
_ALONE = 384  # pixels, side of tiles by themselves
_BRIGHTNESS = 0.03  # change of mean luma that goes unseen
LIMITS = (
    "drops and streams of water on the lens or a pane",
    "splashes, wet ground and reflections",
    "fog and mist (left as they are)",
    "streaks wider than some 10 pixels: make a large photograph smaller first",
)
TERMS = (
    "The weights are under this suite's licence. They were trained on photographs of BSDS500 (Arbeláez et al., TPAMI "
    "2011), which its authors offer for non-commercial research and education: take that as the terms of what is "
    "made with them."
)


@dataclass(frozen=True)
class Sets:
    """What the weights are measured on: folders that a user names, none of which ships."""

    paired: Mapping[str, Path] = field(default_factory=dict)  # title -> rainy and clean pictures
    clean: Path | None = None  # photographs without rain
    rainy: Path | None = None  # photographs of rain
    limit: int | None = None  # of the photographs without rain, how many


def ship(folder: Path, weights: str, sets: Sets, out: Path, docs: Path, first: Path | None = None) -> Path:
    """Measure a run's weights and write them, their card and their page.

    Args:
        folder: of the run, with record, weights and log.
        weights: what they are called beside their network's name ("general").
        sets: what to measure on.
        out: folder for NETWORK-WEIGHTS.safetensors and .json.
        docs: folder for NETWORK-WEIGHTS.md and its curve; what was seen stands there, in NETWORK-WEIGHTS-seen.md.
        first: folder of the run whose weights this one went on from (`recipe.start_from`).

    Returns:
        The page.

    Raises:
        UserError: no such run, its weights are larger than what may ship, or it went on from others than `first`'s.
    """
    record = read_record(folder)
    run = Run(folder, record) if record is not None else None
    if run is None or record is None or run.weights is None:
        raise UserError(f"{folder}: no run with a {RECORD} and its weights")
    from benchmark.checkpoints import load_checkpoint
    from benchmark.models import create_model

    training = [_training(record, folder)]
    if first is not None or "start_from" in record["training"]["data"]:
        training = [_started(record, first), *training]
    seen = _seen(docs / f"{run.model}-{weights}-seen.md")
    options = record["model_options"]
    network = create_model(run.model, **options)
    load_checkpoint(network, run.weights)
    network.eval()
    name = f"{run.model}-{weights}"
    file = out / f"{name}.safetensors"
    _write_weights(network, file, run, weights)
    card = {
        "network": run.model,
        "weights": weights,
        "title": catalog.network(run.model).title,
        "options": options,
        "parameters": record["parameters"]["trained"],
        "bytes": file.stat().st_size,
        "sha256": file_digest(file),
        "licence": "MIT; photographs: research and education",
        "terms": TERMS,
        "seen": seen,
        "training": training[-1],
        "before": training[:-1],
        "scores": {title: _paired(network, title, path) for title, path in sets.paired.items()},
        "embedded": _embedded(network),
        "clean": _clean(network, sets.clean, sets.limit) if sets.clean else None,
        "rainy": _rainy(network, sets.rainy) if sets.rainy else None,
        "seconds_per_megapixel": _speed(network),
        "tiles": _tiles(network),
        "cost": _cost(network),
        "measured": shared_provenance(),
    }
    card["limits"] = _limits(card)
    _draw(card, docs / f"{name}.png")
    return _write_card(card, out / f"{name}.json", docs)


def _write_card(card: Mapping[str, Any], path: Path, docs: Path) -> Path:
    """The card at `path`, and its page in `docs`, which is returned."""
    write_json(path, card)
    page = docs / f"{path.stem}.md"
    write_text(page, page_of(card, f"{path.stem}.png"))
    shipped.shipped.cache_clear()
    return page


def _limits(card: Mapping[str, Any]) -> list[str]:
    """What the weights cannot do: what no such network can, and what these were measured to do wrong."""
    found = list(LIMITS)
    clean, rainy = card["clean"], card["rainy"]
    if clean and clean["psnr_esdnet"] < _UNCHANGED:
        found.append(
            f"leaving photographs without rain as they are ({clean['psnr_esdnet']:.1f} dB against themselves)"
        )
    if rainy and abs(rainy["luma_change_mean"]) > _BRIGHTNESS:
        found.append(f"keeping the brightness (mean luma {100 * rainy['luma_change_mean']:+.1f} %)")
    return found


def draw_again(folder: Path, weights: str, out: Path, docs: Path) -> Path:
    """Put into card and page of shipped weights what was seen since, measuring nothing.

    Args:
        folder: of the run that they are of.
        weights: as for `ship`.
        out: where the card is.
        docs: where the page and NETWORK-WEIGHTS-seen.md are.

    Returns:
        The page.

    Raises:
        UserError: no such run or card, the card is of another run, or what was seen is no text.
    """
    record = read_record(folder)
    if record is None:
        raise UserError(f"{folder}: no run with a {RECORD}")
    name = f"{Run(folder, record).model}-{weights}"
    path = out / f"{name}.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: no card to draw; leave out --page to measure and make it") from None
    if card["training"]["date"] != record["date"]:
        raise UserError(f"{path}: the card is of another run than {folder}; leave out --page to measure it")
    card["seen"], card["limits"] = _seen(docs / f"{name}-seen.md"), _limits(card)
    return _write_card(card, path, docs)


def _seen(path: Path) -> str | None:
    """What somebody wrote who looked at results one by one, Markdown; None where nobody did."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def _write_weights(network: nn.Module, file: Path, run: Run, weights: str) -> None:
    from benchmark.checkpoints import save_weights
    from benchmark.files import atomic

    told = {"model": {"name": run.model, "options": run.record["model_options"]}, "weights": weights}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as temporary:
        save_weights(network, temporary, told)
        temporary.chmod(0o644)  # it is everybody's, whatever the umask
        if temporary.stat().st_size > LARGEST:
            raise UserError(
                f"{file.name}: {temporary.stat().st_size / 1e6:.1f} MB; what ships is at most {LARGEST / 1e6:.0f} MB: "
                "train a smaller network"
            )


def _training(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """How they came about, with the score on held-out photographs over the hours."""
    training, recipe = record["training"], record["config"]["recipe"]
    curve = []
    log = folder / "metrics.csv"
    if log.is_file():
        with log.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if row.get("validation/psnr_y"):
                    step = int(row["step"]) + 1
                    curve.append([step, round(float(row["validation/psnr_y"]), 3)])
    return {
        "command": without_folders(record["command"]),
        "commit": record["commit"],
        "machine": in_words(record["machine"]),
        "versions": record["versions"],
        "date": record["date"],
        "recipe": recipe,
        "threads": record["config"]["trainer"]["threads"],
        "steps": training["steps"],
        "hours": round(training["seconds"] / 3600, 2),
        "data": training["data"],
        "chosen_psnr_y": training["validation_psnr_y"],
        "curve": curve,
    }


def _started(record: Mapping[str, Any], first: Path | None) -> dict[str, Any]:
    """How the weights came about that a run went on from."""
    wanted = record["training"]["data"].get("start_from")
    if first is None:
        raise UserError(f"the run went on from {wanted['file']}: name its run with --first")
    earlier = read_record(first)
    run = Run(first, earlier) if earlier is not None else None
    if earlier is None or run is None or run.weights is None:
        raise UserError(f"--first {first}: no run with a {RECORD} and its weights")
    if wanted is None or file_digest(run.weights) != wanted["sha256"]:
        raise UserError(f"--first {first}: not the weights that the run went on from")
    return _training(earlier, first)


def _embedded(network: nn.Module) -> dict[str, Any]:
    """On the sets that ship, so that anyone can measure the weights again."""
    from benchmark.data import open_pairs
    from benchmark.data.specs import test_sets
    from benchmark.run.evaluate import evaluate, summary

    sets = {name: open_pairs(name, None, "test") for name in test_sets("embedded")}
    return {name: summary(evaluate(network, pairs, tile=None)) for name, pairs in sets.items()}


def _paired(network: nn.Module, title: str, path: Path) -> dict[str, Any]:
    from benchmark.data import open_pairs
    from benchmark.run.evaluate import evaluate, summary

    rows = evaluate(network, open_pairs("folder", path, "test"), tile=None)
    return {"title": title, **summary(rows)}


def _photographs(path: Path, limit: int | None = None) -> list[tuple[str, Any]]:
    from benchmark.data.images import read_image
    from benchmark.data.layouts import list_photographs

    return [(p.stem, read_image(p)) for p in list_photographs(path)[:limit]]


def _restored(network: nn.Module, pixels: Any) -> tuple[Tensor, Tensor]:
    """The picture and what the network makes of it, (1, 3, H, W), as 8-bit values between 0 and 1."""
    from benchmark.metrics.fidelity import to_8_bit
    from benchmark.restoration.restoring import restore_pixels

    image = torch.tensor(pixels).permute(2, 0, 1)[None].float().div_(255)
    restored, _ = restore_pixels(network, pixels)
    return image, to_8_bit(restored[None]).float().div_(255)


def _clean(network: nn.Module, path: Path, limit: int | None) -> dict[str, Any]:
    """What they do to photographs without rain: PSNR-Y of the result against the photograph itself."""
    from benchmark.metrics.fidelity import psnr_y

    values = []
    for _, pixels in _photographs(path, limit):
        image, restored = _restored(network, pixels)
        values.append(float(psnr_y(restored, image)[0]))
    return {
        "n": len(values),
        "unchanged": identical("psnr_esdnet", values),
        "psnr_esdnet": mean_of("psnr_esdnet", values),
        "least": min(values),
        "above_40": sum(v >= 40 for v in values),
    }


def _rainy(network: nn.Module, path: Path) -> dict[str, Any]:
    """What they do to photographs of rain: PIQE before and after, and the change of mean luma."""
    from benchmark.metrics import piqe

    before, after, luma = [], [], []
    weights = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1) / 255
    for _, pixels in _photographs(path):
        image, restored = _restored(network, pixels)
        before.append(float(piqe(image)[0]))
        after.append(float(piqe(restored)[0]))
        luma.append(float((restored * weights).sum(1).mean() / (image * weights).sum(1).mean() - 1))
    lower = [b > a for b, a in zip(before, after, strict=True)]
    differences = np.subtract(after, before)
    return {
        "n": len(before),
        "piqe_before": float(np.mean(before)),
        "piqe_after": float(np.mean(after)),
        "piqe_difference": float(differences.mean()),
        "piqe_lower": sum(lower),
        "luma_change_mean": float(np.mean(luma)),
        "luma_change_least": min(luma),
        "luma_change_most": max(luma),
    }


def _speed(network: nn.Module) -> dict[str, Any]:
    """Seconds for a picture of a megapixel, the least of three, with this process's threads."""
    from benchmark.restoration.restoring import restore_pixels

    pixels = np.random.default_rng(0).integers(0, 256, (*_MEGAPIXEL, 3), dtype=np.uint8)
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        restore_pixels(network, pixels)
        taken.append(time.perf_counter() - began)
    return {"seconds": round(min(taken), 2), "threads": torch.get_num_threads(), "cores": os.cpu_count()}


def _tiles(network: nn.Module) -> dict[str, Any]:
    """How far tiles are from the whole picture, in 1/255: the most and the mean over the demo's rainy photographs.

    As small as they get where they pool over the whole picture together, and by themselves.
    """
    from benchmark.cli.samples import SAMPLES
    from benchmark.restoration.memory import OVERLAP as ALONE_OVERLAP
    from benchmark.restoration.tiling import restore
    from benchmark.restoration.together import OVERLAP, fits_together, restore_together

    here = next(network.parameters()).device
    found: dict[str, list[Tensor]] = {"together": [], "alone": []}
    samples = [sample for sample in SAMPLES if sample.regime is not None]
    for sample in samples:
        image = torch.tensor(sample.rainy).permute(2, 0, 1).float().div_(255)
        whole = restore(network, image).clamp(0, 1)
        if fits_together(network, image.shape[1], image.shape[2], 2 * OVERLAP, here):
            tiled = restore_together(network, image, 2 * OVERLAP).clamp(0, 1)
            found["together"].append((tiled - whole).abs().mul_(255))
        alone = restore(network, image, _ALONE, ALONE_OVERLAP, blend="feather").clamp(0, 1)
        found["alone"].append((alone - whole).abs().mul_(255))
    measured: dict[str, Any] = {"photographs": [f"{s.scene}, {s.regime} rain" for s in samples]}
    for (way, differences), tile in zip(found.items(), (2 * OVERLAP, _ALONE), strict=True):
        measured[way] = differences and {
            "tile": tile,
            "most": max(float(d.max()) for d in differences),
            "mean": sum(float(d.mean()) for d in differences) / len(differences),
        }
    return measured


def _cost(network: nn.Module) -> dict[str, Any]:
    """Operations and energy at 256² under every named convention, and spike rates, on one photograph."""
    from benchmark.cost.counter import measure_cost

    cost = measure_cost(network, size=256)
    return {
        "macs": float(cost.macs),
        "accumulates": float(cost.accumulates),
        "sops": float(cost.sops),
        "energy_uj": {name: float(cost.under(name).energy_uj) for name in CONVENTIONS},
        "spike_rate": float(cost.sops / cost.accumulates) if cost.accumulates else None,
    }


def _draw(card: Mapping[str, Any], path: Path) -> None:
    """The score on held-out photographs over the hours of training, those of an earlier run before."""
    from benchmark.report.figures import Stage, stages

    trained: list[Stage] = []
    begun, steps = 0.0, 0
    for training in _stages(card):
        hours = [begun + step / training["steps"] * training["hours"] for step, _ in training["curve"]]
        begun, steps = begun + training["hours"], steps + training["steps"]
        trained.append(Stage(hours, [score for _, score in training["curve"]], begun))
    family = catalog.network(card["network"]).family
    stages(trained, family, path.parent, path.stem, f"{card['network']}-{card['weights']}, {steps:,} steps")


def _stages(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The trainings that led to the weights, one after the other."""
    return [*card["before"], card["training"]]


def page_of(card: Mapping[str, Any], curve: str) -> str:
    """The card as a Markdown page; what stands under "Seen" was written by hand."""
    cost = card["cost"]
    name = f"{card['network']}-{card['weights']}"
    options = ", ".join(f"{k}={v}" for k, v in card["options"].items())
    lines = [
        f"# {name}",
        "",
        f"{card['title']} ({options}): {card['parameters']:,} parameters, {card['bytes'] / 1e6:.2f} MB, "
        f"sha256 `{card['sha256'][:16]}…`. Made by `derain ship`; the figures are those of "
        f"`benchmark/weights/{name}.json`.",
        "",
        "## How good",
        "",
        "Whole pictures; convention `esdnet`. No picture of these sets was trained on.",
        "",
        *markdown_rows(
            ("set", "pictures", "rainy PSNR-Y", "PSNR-Y", "rainy SSIM-Y", "SSIM-Y"),
            [_score(title, mean) for title, mean in [*card["scores"].items(), *card["embedded"].items()]],
        ),
    ]
    lines.append("")
    if card["clean"]:
        c = card["clean"]
        lines += [
            f"Photographs without rain ({c['n']}): {float(c['psnr_esdnet']):.2f} dB against themselves in the mean, "
            f"{float(c['least']):.2f} the least, {c['above_40']} of {c['n']} at 40 dB or more.",
            "",
        ]
    if card["rainy"]:
        r = card["rainy"]
        lines += [
            f"Photographs of real rain ({r['n']}): PIQE {r['piqe_before']:.2f} before, {r['piqe_after']:.2f} after "
            f"(difference {r['piqe_difference']:+.2f}, lower is better), lower on "
            f"{r['piqe_lower']} of {r['n']}. Mean luma changes by {100 * r['luma_change_mean']:+.2f} % "
            f"({100 * r['luma_change_least']:+.2f} to {100 * r['luma_change_most']:+.2f}).",
            "",
        ]
    speed, measured = card["seconds_per_megapixel"], card["measured"]
    energy = ", ".join(f"{v / 1e3:,.1f} mJ ({k})" for k, v in cost["energy_uj"].items())
    lines += [
        f"A megapixel takes {speed['seconds']} s by {several(speed['threads'], 'thread')} "
        f"({in_words(measured['machine'])}).",
        "",
        *_in_tiles(card.get("tiles")),
        "## Seen",
        "",
        card.get("seen") or "Nobody has looked at results on photographs of real rain one by one.",
        "",
        "## What they cannot do",
        "",
        *(f"- {limit}" for limit in card["limits"]),
        "",
        "## Cost at 256×256",
        "",
        f"{cost['macs'] / 1e9:.3f} GMAC"
        + (
            f", {cost['accumulates'] / 1e9:.3f} G accumulates of which {cost['sops'] / 1e9:.3f} G come "
            f"(spike rate {100 * cost['spike_rate']:.1f} %)"
            if cost["accumulates"]
            else ""
        )
        + f". Energy: {energy}. [docs/cost.md](../cost.md) has the conventions.",
        "",
        "## How they were made",
        "",
        *(line for i, stage in enumerate(_stages(card)) for line in _made(stage, first=i == 0)),
        "Rain is rendered afresh at every step (`benchmark/data/wet.py`); no rainy photograph was trained on. The "
        "regimes that it is drawn from were fitted to statistics of rain layers (rainy minus clean) of Rain200L, "
        "Rain200H and Rain12.",
        "",
        f"![Score over hours]({curve})",
        "",
        "## Terms",
        "",
        card["terms"],
        "",
        f"Measured at commit {commit_in_words(measured['commit'])}: `{measured['command']}`.",
        "",
    ]
    return "\n".join(lines)


def _in_tiles(tiles: Mapping[str, Any] | None) -> list[str]:
    """The paragraph on pictures that do not fit into memory."""
    if not tiles:
        return []

    def by(way: Mapping[str, Any]) -> str:
        return (
            f"at most {short(way['most'])} of 255, {short(way['mean'])} in the mean (tiles of {way['tile']})"
        )

    alone, together = tiles["alone"], tiles["together"]
    words = f"in tiles by themselves, which differ from the whole by {by(alone)}"
    if together:
        words = (
            "in tiles that pool over the whole picture together, which differ from the whole by "
            f"{by(together)}; where there is no room for such a tile, {words}"
        )
    return [
        f"A picture that does not fit into memory whole is restored {words}; measured on {len(tiles['photographs'])} "
        f"photographs ({'; '.join(tiles['photographs'])}).",
        "",
    ]


def _made(training: Mapping[str, Any], first: bool) -> list[str]:
    """The paragraph on one training of a card."""
    recipe, data = training["recipe"], training["data"]
    return [
        f"    {training['command']}",
        "",
        ("" if first else "This went on from the weights of the former. ")
        + f"Commit {commit_in_words(training['commit'])}, {training['date'][:10]}, {training['machine']}, "
        f"{several(training['threads'], 'thread') if training['threads'] else 'all threads'}, "
        f"{training['hours']} hours, {training['steps']:,} steps; recipe "
        f"`general` (batch {recipe['batch']}, patch {recipe['patch']}, EMA {recipe['ema']}). {data['images']} "
        f"photographs trained on, {data['held_out']} held out to choose by ({training['chosen_psnr_y']:.2f} dB).",
        "",
    ]


def _score(title: str, mean: Mapping[str, Any]) -> list[str]:
    sides = ("rainy_", "")
    psnr = [f"{float(mean[f'{side}psnr_esdnet']):.2f}" for side in sides]
    return [title, str(mean["n"]), *psnr, *(f"{mean[f'{side}ssim_esdnet']:.4f}" for side in sides)]


def sets_of(words: Sequence[str]) -> dict[str, Path]:
    """TITLE=FOLDER words as a mapping.

    Raises:
        UserError: a word is not of that form, or there is no such folder.
    """
    found = {}
    for word in words:
        title, sign, path = word.partition("=")
        if not (title and sign and path):
            raise UserError(f"--set {word}: TITLE=FOLDER, such as Rain12=/data/Rain12")
        path = expanded(path)
        if not Path(path).is_dir():
            raise UserError(f"--set {word}: no such folder")
        found[title] = Path(path)
    return found
