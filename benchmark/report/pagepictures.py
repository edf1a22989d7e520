"""Pictures and figures as the page carries them, each as a data address, within the bytes that a page may have."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.report.pagetables import INPUTS
from benchmark.report.parts import Comparison, Crops, Drawn, Picture, Shown
from benchmark.report.style import in_the_dark

_QUALITIES = (90, 80, 70, 55)
_DRAWING = 400_000  # bytes up to which a figure is shown as its own file

_OF_PHOTOGRAPHS = {"format": "WEBP", "quality": 70, "method": 6}
JPEG: Mapping[str, Any] = {"format": "JPEG", "quality": 90, "subsampling": 0}
TARGET = "Target"


def fitting(comparisons: Sequence[Comparison], room: int) -> tuple[list[dict[str, Any]], int, int]:
    """The pictures in the best quality at which all fit into the room, that quality, how many of a set do not."""
    every = max((len(c.pictures) for c in comparisons), default=0)
    for most in range(every, -1, -1):
        for quality in _QUALITIES:
            found = [_comparison(c, quality, most) for c in comparisons if most]
            if len(in_script(found)) <= room:
                return found, quality, every - most
    return [], 0, every


def _comparison(comparison: Comparison, quality: int, most: int) -> dict[str, Any]:
    options = {"format": "WEBP", "quality": quality, "method": 4}
    pictures = []
    for name, shown in comparison.pictures[:most]:
        height, width = shown[0].picture.shape[:2]
        pictures.append(
            {
                "name": name,
                "width": width,
                "height": height,
                "shown": [
                    {
                        "name": s.name,
                        "caption": s.caption,
                        "data": encoded(s.picture, options),
                        "alt": _alt(s, name, comparison.title),
                    }
                    for s in shown
                ],
            }
        )
    return {"title": comparison.title, "pictures": pictures}


def _alt(shown: Shown, name: str, title: str) -> str:
    if shown.name in INPUTS:
        what = "in the rain, as the networks get it"
    elif shown.name == TARGET:
        what = "without rain: what the networks should restore"
    else:
        what = f"restored by {shown.name}"
    figures = shown.caption and f"; PSNR-Y in dB and SSIM-Y: {shown.caption}"
    return f"Picture {name} of {title}, {what}{figures}"


def encoded(picture: Picture, options: Mapping[str, Any]) -> str:
    """A picture as a data address, by Pillow's options of a format."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, **options)
    kind = str(options["format"]).lower()
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def in_script(data: Any) -> str:
    """Plain data as JSON inside a script element, where only "</" and "<!--" mean something."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")


_EXACT = {"format": "WEBP", "lossless": True, "method": 6, "quality": 100}
_WHOLE = {"format": "WEBP", "quality": 80, "method": 6}


def of_crops(part: Crops) -> dict[str, Any]:
    """A rainy picture and enlarged parts of it: the parts are exact, the whole is compressed."""
    height, width = part.whole.shape[:2]
    return {
        "title": part.title,
        "width": width,
        "height": height,
        "whole": encoded(part.whole, _WHOLE),
        "zoom": part.zoom,
        "side": part.boxes[0][2] if part.boxes else 0,
        "boxes": [
            {
                "left": 100 * left / width,
                "top": 100 * top / height,
                "width": 100 * side / width,
                "height": 100 * side / height,
            }
            for left, top, side in part.boxes
        ],
        "panels": [
            {
                "name": name,
                "said": said,
                "best": name == part.best,
                "crops": [encoded(c, _EXACT) for c in crops],
            }
            for name, said, crops in part.panels
        ],
        "path": part.drawn.path if part.drawn else None,
    }


FIGURE: Mapping[str, Any] = {"src": "", "name": "", "form": "", "pdf": "", "beside": ()}


def drawings(figures: Sequence[Drawn], left: int) -> tuple[dict[Path, dict[str, Any]], int]:
    """The figures as they are looked at, and in a quarter of what is left their PDFs; what does not fit is named.

    Returns:
        The figures, and how many of `left` bytes they leave to the pictures.
    """
    found: dict[Path, dict[str, Any]] = {}
    pdfs: dict[Path, str] = {}
    for figure in figures:
        if figure.path in found:
            continue
        svg, pdf = figure.path.with_suffix(".svg"), figure.path.with_suffix(".pdf")
        form, src = _looked_at(figure.path, svg)
        beside = [_named(svg)] if svg.is_file() and form != "svg" else []
        if len(src) > left:
            form, src, beside = "", "", [_named(figure.path), *beside]
        left -= len(src)
        found[figure.path] = {**FIGURE, "src": src, "name": figure.path.stem, "form": form, "beside": beside}
        if pdf.is_file():
            pdfs[figure.path] = _file("application/pdf", pdf)
    room = left // 4
    for path, data in sorted(pdfs.items(), key=lambda item: len(item[1])):
        if len(data) > room:
            found[path]["beside"].append(_named(path.with_suffix(".pdf")))
            continue
        room -= len(data)
        left -= len(data)
        found[path]["pdf"] = data
    return found, left


def _named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _looked_at(png: Path, svg: Path) -> tuple[str, str]:
    """A figure's form and data address in the page: SVG where it is small, else PNG, or WebP of many photographs."""
    from PIL import Image

    if svg.is_file() and svg.stat().st_size <= _DRAWING:
        drawing = in_both(svg.read_text(encoding="utf-8"))
        return "svg", f"data:image/svg+xml;base64,{base64.b64encode(drawing.encode()).decode()}"
    if png.stat().st_size <= _DRAWING:
        return "png", _file("image/png", png)
    with Image.open(png) as opened:
        return "webp", encoded(np.asarray(opened.convert("RGB")), _OF_PHOTOGRAPHS)


def in_both(svg: str) -> str:
    """A drawing of ours with dark colours too, for a page that is dark; `report.js` takes them out of what is saved."""
    colours = in_the_dark()
    rules = [
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in colours.items()
        for what in ("fill", "stroke")
        if f"{what}: {light}" in svg
    ]
    style = (
        '<style id="dark">@media (prefers-color-scheme:dark){'
        f"svg{{fill:{colours['#000000']}}}{''.join(rules)}}}</style>"
    )
    return svg.replace("</svg>", f"{style}</svg>")


def _file(kind: str, path: Path) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
