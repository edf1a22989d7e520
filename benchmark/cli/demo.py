"""`derain demo`: a page of before and after by the weights that ship, or a server to drop pictures on."""

from __future__ import annotations

import datetime
import math
import os
import sys
import time
import webbrowser
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmark import shipped
from benchmark.cli import samples
from benchmark.errors import UserError, printable
from benchmark.files import require_output, require_writable, write_text
from benchmark.shipped import Shipped
from benchmark.text.progress import bar

PAGE = Path("derain-demo.html")


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
    from benchmark.report.parts import Comparison, Shown
    from benchmark.resident import keep_freed_memory
    from benchmark.restoration.restoring import as_pixels, restore_pixels
    from benchmark.run.evaluate import measure_pictures

    keep_freed_memory()
    where = device_named(device)
    ships = list(shipped.shipped().values())
    began = time.perf_counter()
    panels: dict[str, list[Shown]] = {}
    jobs = [(ship, sample) for ship in ships for sample in samples.SAMPLES]
    with bar("restore", sum(_takes(*job) for job in jobs), counted=False) as step:
        for sample in samples.SAMPLES:
            caption = _caption(measure_pictures([(sample.rainy, sample.clean)], workers=1)[0])
            panels[sample.name] = [Shown("before", sample.rainy, caption if sample.regime else "")]
        for ship in ships:
            network = create_model(ship.network, pretrained=ship.weights).to(where)
            for sample in samples.SAMPLES:
                restored = as_pixels(restore_pixels(network, sample.rainy)[0])
                caption = _caption(measure_pictures([(restored, sample.clean)], workers=1)[0])
                panels[sample.name].append(Shown(ship.name, restored, caption))
                step.advance(_takes(ship, sample))
                step.update(note=f"{sample.scene} by {ship.name}")
    for sample in samples.SAMPLES:
        if sample.regime is not None:
            panels[sample.name].append(Shown("without rain", sample.clean))
    made = f"Restored on {datetime.date.today().isoformat()} in {time.perf_counter() - began:.0f} s"
    comparison = Comparison("samples", [(sample.title, panels[sample.name]) for sample in samples.SAMPLES])
    credits = list(dict.fromkeys(sample.credit for sample in samples.SAMPLES))
    return shown_page(comparison, ships, f"{made} on this machine.", credits)


def _caption(measured: Any) -> str:
    psnr = measured["psnr_esdnet"]
    return f"{psnr:.1f} / {measured['ssim_esdnet']:.3f}" if math.isfinite(psnr) else "the same"


def _takes(ship: Shipped, sample: samples.Sample) -> float:
    """How long a picture takes, beside others."""
    return float(ship.card["seconds_per_megapixel"]["seconds"]) * sample.clean.size
