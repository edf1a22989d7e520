"""Weights that ship with the suite: which there are, what they were trained on, how good they are.

Each is two files in `benchmark/weights/`: NETWORK-WEIGHTS.safetensors and NETWORK-WEIGHTS.json, its card, which
`derain ship` writes. Imports no torch.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UserError, unknown
from benchmark.files import file_digest
from benchmark.text.words import short

FOLDER = Path(__file__).parent / "weights"
DEFAULT = "nafnet"


@dataclass(frozen=True)
class Shipped:
    """One set of weights.

    `card` is plain data: training (data, recipe, command, commit, machine, hours, curve), scores by test set, what the
    weights do to photographs without rain and with, seconds a megapixel, costs, limits, terms.
    """

    network: str  # name in the catalogue
    weights: str  # "general"
    path: Path
    card: Mapping[str, Any]

    @property
    def name(self) -> str:
        """NETWORK-WEIGHTS, such as nafnet-general."""
        return f"{self.network}-{self.weights}"

    @property
    def options(self) -> dict[str, Any]:
        """Constructor options of the network."""
        return dict(self.card["options"])

    def require_whole(self) -> None:
        """Refuse a file that is not the one that was shipped.

        Raises:
            UserError: it is missing or its digest differs from the card's.
        """
        if not self.path.is_file():
            raise UserError(f"{self.path}: the shipped weights are missing; install the suite again")
        if file_digest(self.path) != self.card["sha256"]:
            raise UserError(f"{self.path}: not the weights that were shipped; install the suite again")

    def in_words(self, tiled: bool = False) -> list[str]:
        """Lines for people: which weights and how good, what they cannot do, and what tiles change where there were."""
        sets = ", ".join(
            f"{s['title']} {float(s['psnr_esdnet']):.1f} dB (rainy {float(s['rainy_psnr_esdnet']):.1f})"
            for s in self.card["scores"].values()
        )
        lines = [f"{self.name}: PSNR-Y {sets}", f"{self.name} cannot: {'; '.join(self.card['limits'])}"]
        tiles = self.card.get("tiles")
        if tiled and tiles:
            ways = {"together": "that pool over the whole picture", "alone": "by themselves"}
            apart = [
                f"{short(tiles[way]['most'])} in tiles {told}" for way, told in ways.items() if tiles.get(way)
            ]
            lines.append(
                f"{self.name}, where measured, differs from the whole picture by at most {', '.join(apart)} (of 255)"
            )
        return lines


@functools.cache
def shipped() -> Mapping[str, Shipped]:
    """All shipped weights by name (NETWORK-WEIGHTS), the default first."""
    found = {}
    for file in sorted(FOLDER.glob("*.json"), key=lambda f: (not f.stem.startswith(f"{DEFAULT}-"), f.stem)):
        card = json.loads(file.read_text(encoding="utf-8"))
        entry = Shipped(card["network"], card["weights"], file.with_suffix(".safetensors"), card)
        found[entry.name] = entry
    return found


def default() -> Shipped:
    """What `derain restore` takes where nothing is said."""
    return for_network(DEFAULT)


def for_network(network: str, weights: str = "general") -> Shipped:
    """The shipped weights of a network.

    Raises:
        UserError: none ship for it; what does is named.
    """
    if f"{network}-{weights}" in shipped():
        return shipped()[f"{network}-{weights}"]
    of_network = [s.weights for s in shipped().values() if s.network == network]
    if of_network:
        raise unknown(f"weights of '{network}' that ship", weights, of_network)
    if not shipped():
        raise UserError(
            "no weights ship with this installation: give --model NAME --checkpoint FILE (derain models lists networks)"
        )
    have = ", ".join(dict.fromkeys(s.network for s in shipped().values()))
    raise UserError(f"no weights ship for '{network}' (they do for {have}): give --checkpoint FILE")
