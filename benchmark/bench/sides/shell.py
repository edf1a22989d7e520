"""Cold starts: a whole process from the shell, imports, compilation and all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmark.bench.case import Body, NotMeasured, Setting
from benchmark.bench.sides.pictures import clean_and_rainy


def _derain(*words: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotMeasured(f"derain {words[0]} failed: {done.stderr.strip()[-200:]}")


def help_text(setting: Setting) -> Body:
    """`derain --help`."""
    return lambda: _derain("--help")


def restore_one(setting: Setting) -> Body:
    """`derain restore` of one picture of 128×128 with a checkpoint of the full ESDNet (random weights)."""
    import torch

    from benchmark.data.images import write_image
    from benchmark.models import create_model

    torch.manual_seed(0)
    checkpoint, picture = setting.scratch / "esdnet.ckpt", setting.scratch / "one.png"
    torch.save({"state_dict": create_model("esdnet").state_dict()}, checkpoint)
    write_image(picture, clean_and_rainy(1)[0][0][:128, :128])
    words: list[str | Path] = [
        "restore",
        "--model",
        "esdnet",
        "--checkpoint",
        checkpoint,
        picture,
        "--device",
        setting.device,
    ]
    return lambda: _derain(*words, "-o", setting.scratch / "restored", "--overwrite")
