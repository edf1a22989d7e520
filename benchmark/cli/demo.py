"""`derain demo`: a page of before and after by the weights that ship, or a server to drop pictures on."""

from __future__ import annotations

import datetime
import functools
import math
import os
import sys
import time
import webbrowser
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark import shipped
from benchmark.errors import UserError, printable
from benchmark.files import require_output, require_writable, write_text
from benchmark.shipped import Shipped
from benchmark.text.progress import bar

Picture = NDArray[np.uint8]

PAGE = Path("derain-demo.html")


@dataclass(frozen=True)
class Sample:
    """A photograph that a package ships and that nobody trained on, with rain over it or (None) without."""

    name: str
    scene: str
    title: str
    regime: str | None
    seed: int
    credit: str

    @functools.cached_property
    def clean(self) -> Picture:
        """uint8 (H, W, 3)."""
        from benchmark.data.embedded import photograph

        return photograph(self.scene)

    @functools.cached_property
    def rainy(self) -> Picture:
        """uint8 (H, W, 3)."""
        from benchmark.data.rain import rain_over

        return self.clean if self.regime is None else rain_over(self.clean, self.regime, self.seed)


_ROCKET = "rocket: SpaceX, public domain; ships with scikit-image"
_COFFEE = "coffee: Rachel Michetti, CC0; ships with scikit-image"
_CHINA = "china: danielbuechele, CC BY 2.0; ships with scikit-learn; here with rendered rain over it"
SAMPLES = (
    Sample("rocket.png", "rocket", "rocket, light rain", "light", 11, _ROCKET),
    Sample("china.png", "china", "temple, fine rain", "mixed", 12, _CHINA),
    Sample("coffee.png", "coffee", "coffee, heavy rain", "heavy", 13, _COFFEE),
    Sample("no-rain.png", "china", "temple, no rain: to stay as it is", None, 0, _CHINA),
)


def demo(options: Namespace) -> int:
    """`derain demo`: returns the exit status."""
    if not shipped.shipped():
        raise UserError("derain demo: no weights ship with this installation")
    if options.serve:
        if options.out is not None:
            raise UserError(f"--out {options.out}: is for the page without --serve, which writes nothing")
        from benchmark.cli.serving import serve

        return serve(options.port or 0, options.device, None if options.no_open else open_page)
    if options.port is not None:
        raise UserError(f"--port {options.port}: is for --serve")
    out: Path = PAGE if options.out is None else options.out
    _require_page(out)
    require_writable(out.parent)
    write_text(out, _page(options.device))
    print(printable(out))
    if not options.no_open:
        open_page(out.resolve().as_uri())
    return 0


def _require_page(path: Path) -> None:
    """Refuse to write over anything but a page of this command."""
    from benchmark.report.demo import MARK

    require_output("--out", path, ".html")
    if path.exists():
        with path.open("rb") as file:
            if MARK.encode() not in file.read(500):
                raise UserError(f"--out {path}: exists and is no page of derain demo; give another name")


def open_page(address: str) -> None:
    """Show a page in the browser, where there is a screen; else its address is said."""
    there = sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))
    try:
        opened = there and webbrowser.open(address)
    except webbrowser.Error:
        opened = False
    if not opened:
        print(f"open it in a browser: {address}")


def _page(device: str) -> str:
    from benchmark.cli.loading import device_named
    from benchmark.models import create_model
    from benchmark.report.demo import shown_page
    from benchmark.report.page import Comparison, Shown
    from benchmark.resident import keep_freed_memory
    from benchmark.restoration.restoring import as_pixels, restore_pixels
    from benchmark.run.evaluate import measure_pictures

    keep_freed_memory()
    where = device_named(device)
    ships = list(shipped.shipped().values())
    began = time.perf_counter()
    panels: dict[str, list[Shown]] = {}
    jobs = [(ship, sample) for ship in ships for sample in SAMPLES]
    with bar("restore", sum(_takes(*job) for job in jobs), counted=False) as step:
        for sample in SAMPLES:
            caption = _caption(measure_pictures([(sample.rainy, sample.clean)], workers=1)[0])
            panels[sample.name] = [Shown("before", sample.rainy, caption if sample.regime else "")]
        for ship in ships:
            network = create_model(ship.network, pretrained=ship.weights).to(where)
            for sample in SAMPLES:
                restored = as_pixels(restore_pixels(network, sample.rainy)[0])
                caption = _caption(measure_pictures([(restored, sample.clean)], workers=1)[0])
                panels[sample.name].append(Shown(ship.name, restored, caption))
                step.advance(_takes(ship, sample))
                step.update(note=f"{sample.scene} by {ship.name}")
    for sample in SAMPLES:
        if sample.regime is not None:
            panels[sample.name].append(Shown("without rain", sample.clean))
    made = f"Restored on {datetime.date.today().isoformat()} in {time.perf_counter() - began:.0f} s"
    comparison = Comparison("samples", [(sample.title, panels[sample.name]) for sample in SAMPLES])
    credits = list(dict.fromkeys(sample.credit for sample in SAMPLES))
    return shown_page(comparison, ships, f"{made} on this machine.", credits)


def _caption(measured: Any) -> str:
    psnr = measured["psnr_esdnet"]
    return f"{psnr:.1f} / {measured['ssim_esdnet']:.3f}" if math.isfinite(psnr) else "the same"


def _takes(ship: Shipped, sample: Sample) -> float:
    """How long a picture takes, beside others."""
    return float(ship.card["seconds_per_megapixel"]["seconds"]) * sample.clean.size
