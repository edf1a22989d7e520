"""Checkpoint files: whole or not there, with what they were made by, gone on from only where that is the same."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from benchmark import catalog
from benchmark.checkpoints import read_checkpoint
from benchmark.errors import UserError
from benchmark.files import atomic, require_room
from benchmark.sources import code_digest
from benchmark.spec import RunSpec, differences


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own way goes through the system's folder for temporary files, which may lie on another disk: the file
    is then copied to its place, and a kill in between leaves half of it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            WorkError: the disk is full.
        """
        # in memory first: torch's writer hides what the system said when a disk is full
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())


def require_room_for(network: nn.Module, checkpoints: Path, averaged: bool) -> None:
    """Refuse a training whose checkpoints would not fit on the disk.

    Weights, Adam's two moments and an average of the weights make a file; there are the last, the best and, while it
    is written, a third one. What a training that goes on has written already needs no room any more.

    Raises:
        DiskFull: there is not enough room.
    """
    weights = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    there = sum(path.stat().st_size for path in checkpoints.glob("*.ckpt"))
    needed = max(3 * (3 + averaged) * weights - there, 0)
    require_room(checkpoints, needed, "the checkpoints", "out=FOLDER (of a table: --runs FOLDER)")


def description(config: RunSpec, options: dict[str, Any]) -> dict[str, Any]:
    """Plain data that a checkpoint carries, so that a file says what it is of and what made it."""
    return {
        "identity": config.identity,
        "model": {"name": config.model.name, "options": options},
        "config": config.plain(),
        "code": [code_digest(catalog.network(config.model.name).target)],
    }


def may_go_on(last: Path, config: RunSpec, here: dict[str, Any]) -> None:
    """Let a training go on from `last` only if the same configuration and the same code made it.

    With `trainer.accept_changed_code` other code is accepted; what it was is added to `here["code"]`.

    Raises:
        UserError: it was made by another configuration, of other data or by other code; the difference is told.
    """
    if not last.is_file():
        return
    found = read_checkpoint(last).get("derain", {})
    if found.get("identity") != here["identity"]:
        told = "; ".join(differences(found.get("config", {}), config)) or f"identity {found.get('identity')}"
        raise UserError(
            f"{last} was made by another configuration ({told}); choose another out=… or remove that folder"
        )
    if found.get("data", here["data"]) != here["data"]:
        raise UserError(
            f"{last} was trained on other data (digest {found['data']}, here {here['data']}): bring them back, or "
            "start anew in another out=…"
        )
    if found.get("model", here["model"]) != here["model"]:
        raise UserError(
            f"{last} is of the network {found['model']}, here it is {here['model']}: the catalogue has changed; start "
            "anew in another out=…"
        )
    earlier = [code for code in found.get("code", []) if code not in here["code"]]
    if earlier and not config.trainer.accept_changed_code:
        raise UserError(
            f"{last} was made by other code (digest {earlier[-1]}, here {here['code'][0]}): go back to that code, "
            "start anew in another out=…, or set trainer.accept_changed_code=true, which the record keeps"
        )
    here["code"] = earlier + here["code"]
