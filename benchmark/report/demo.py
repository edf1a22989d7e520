"""The pages of `derain demo`: before and after by the weights that ship, and where to drop a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from benchmark.report.pagepictures import JPEG, encoded, in_script
from benchmark.report.parts import Comparison
from benchmark.shipped import Shipped

MARK = '<meta name="generator" content="derain demo">'
"""What a page that was written before is known by."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_TITLE = "Rain out of photographs"


@dataclass(frozen=True)
class Served:
    """What a page that restores pictures has to know: the largest body, names of the samples, and their titles."""

    limit: int
    samples: Mapping[str, str]


def shown_page(comparison: Comparison, weights: Sequence[Shipped], made: str, credits: Sequence[str]) -> str:
    """One file that fetches nothing.

    Args:
        comparison: the sample pictures, before, by each of the weights, and clean.
        weights: those that made them.
        made: when, where and how long it took, in words.
        credits: whose photographs they are, a line each.
    """
    height, width = comparison.pictures[0][1][0].picture.shape[:2]
    names = " and ".join(f"<b>{escape(w.name)}</b>" for w in weights)
    body = [
        f"<header><h1>{_TITLE}</h1>",
        f'<p class="lead">The weights that ship with <code>derain</code>, {names}, on photographs that they never '
        "saw in training, with rain rendered over them. Pull the line; choose another picture, or what stands left "
        "and right of it.</p></header><main>",
        _slider(0, height, width),
        '<p class="soft">On each picture: PSNR-Y (dB) / SSIM-Y against the photograph without rain. '
        f"{escape(made)}</p>",
        *_weights(weights),
        "<h2>Your own pictures</h2>",
        "<pre>derain restore photo.jpg                  # photo-derained.png beside it\n"
        "derain restore --model esdnet photo.jpg   # photo-esdnet-derained.png, by the spiking network\n"
        "derain restore holiday/ rain.mp4          # a folder, a video\n"
        "derain demo --serve                       # a page to drop pictures on; they stay on this machine</pre>",
        "<h2>The photographs</h2><ul>",
        *(f"<li>{escape(line)}</li>" for line in credits),
        '</ul><p class="soft">Nothing on this page is fetched: all of it is in this one file.</p></main>',
        _pictures_data([comparison]),
    ]
    return _filled("demo.html", TITLE=_TITLE, POLICY=_POLICY, BODY="\n".join(body), DROP="")


def served_page(weights: Sequence[Shipped], served: Served) -> str:
    """The page of the server: a picture is dropped, goes to this machine's own server and comes back restored."""
    chosen = "".join(
        f'<option value="{escape(w.name)}">{escape(w.name)} ({_speed(w)} a megapixel)</option>'
        for w in weights
    )
    samples = "".join(
        f'<button type="button" data-sample="{escape(name)}">{escape(title)}</button>'
        for name, title in served.samples.items()
    )
    known = in_script({"limit": served.limit, "weights": [w.name for w in weights]})
    body = [
        f"<header><h1>{_TITLE}</h1>",
        '<p class="lead">Drop a photograph taken in the rain. It is restored on this machine and goes nowhere '
        "else.</p></header><main>",
        '<label class="drop" id="drop"><b>Drop pictures here, or choose them</b>',
        f'<span class="soft">JPEG, PNG, WebP, TIFF, …; up to {served.limit >> 20} MiB each</span>',
        '<input type="file" id="file" multiple></label>',
        f'<div class="row"><label>by <select id="network">{chosen}</select></label></div>',
        f'<div class="row"><span class="soft">No rain at hand?</span>{samples}</div>',
        '<div id="entries"></div>',
        '<template id="entry"><article class="entry"><h3></h3><p class="status" role="status"></p>'
        '<progress max="1" value="0" aria-label="how much is done"></progress>'
        '<div class="row"><button type="button" class="cancel">Cancel</button></div>'
        f'<div class="result" hidden>{_slider(None)}<div class="row"><a class="button first download">Download PNG</a>'
        '<button type="button" class="again"></button></div></div></article></template>',
        *_weights(weights),
        "</main>",
        f'<script type="application/json" id="served">{known}</script>',
    ]
    policy = f"{_POLICY} blob: 'self'; connect-src 'self'"
    drop = Path(__file__).with_name("drop.js").read_text(encoding="utf-8").rstrip()
    return _filled("demo.html", TITLE=_TITLE, POLICY=policy, BODY="\n".join(body), DROP=drop)


def _weights(weights: Sequence[Shipped]) -> list[str]:
    """A card for each of the weights: what they are, how good, what they cannot do, their terms."""
    terms = dict.fromkeys(str(ship.card["terms"]) for ship in weights)
    return [
        "<h2>The weights</h2>",
        f'<div class="cards">{"".join(map(_card, weights))}</div>',
        *(f'<p class="soft">{escape(text)}</p>' for text in terms),
    ]


def _card(ship: Shipped) -> str:
    card = ship.card
    rows = "".join(
        f"<tr><td>{escape(mean['title'])}</td><td>{mean['rainy_psnr_esdnet']:.1f}</td>"
        f"<td>{mean['psnr_esdnet']:.1f}</td></tr>"
        for mean in card["scores"].values()
    )
    clean = card["clean"]
    if clean:
        rows += f"<tr><td>photographs without rain</td><td>–</td><td>{clean['psnr_esdnet']:.1f}</td></tr>"
    limits = "".join(f"<li>{escape(limit)}</li>" for limit in card["limits"])
    rate = card["cost"]["spike_rate"]
    kind = "ordinary" if rate is None else f"spiking (spike rate {100 * rate:.0f} %)"
    return (
        f'<section class="card"><h3>{escape(ship.name)}</h3>'
        f'<p class="soft">{escape(card["title"])}, {kind}. {card["parameters"]:,} parameters, '
        f"{card['bytes'] / 1e6:.1f} MB; a megapixel takes {_speed(ship)} "
        f"({card['seconds_per_megapixel']['threads']} threads, {escape(card['measured']['machine']['processor'])}).</p>"
        "<table><thead><tr><th>PSNR-Y, dB</th><th>rainy</th><th>restored</th></tr></thead>"
        f"<tbody>{rows}</tbody></table><h4>What it cannot do</h4><ul>{limits}</ul></section>"
    )


def _speed(ship: Shipped) -> str:
    return f"{ship.card['seconds_per_megapixel']['seconds']:.1f} s"


def _filled(template: str, **parts: str) -> str:
    """A page of this folder with its `{{PARTS}}` put in; style and script of the comparisons are the same for all."""
    folder = Path(__file__).parent
    parts["STYLE"], parts["COMPARE"] = (
        (folder / name).read_text(encoding="utf-8").rstrip() for name in ("style.css", "compare.js")
    )
    text = (folder / template).read_text(encoding="utf-8")
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda part: parts[part[1]], text)


def _slider(index: int | None, height: int = 1, width: int = 1) -> str:
    """A box of one picture over another, for the comparison of that number or (None) one that a script fills."""
    which = "" if index is None else f' data-set="{index}"'
    return (
        f'<div class="comparison"{which}><div class="choose">'
        "<label>picture <select></select></label><label>left <select></select></label>"
        "<label>right <select></select></label></div>"
        f'<div class="slider"><img width="{width}" height="{height}" alt=""><img class="over" alt="">'
        '<div class="bar"></div><span class="left"></span><span class="right"></span>'
        '<input type="range" min="0" max="100" value="50" step="0.5" '
        'aria-label="how much of each picture"></div></div>'
    )


def _pictures_data(comparisons: Sequence[Comparison]) -> str:
    """The pictures of the comparisons as the script element that the page's own script reads."""
    return f'<script type="application/json" id="picture-data">{_pictures(comparisons)}</script>'


def _pictures(comparisons: Sequence[Comparison]) -> str:
    data = [
        [
            {
                "name": name,
                "shown": [
                    {"name": s.name, "caption": s.caption, "data": encoded(s.picture, JPEG)} for s in shown
                ],
            }
            for name, shown in comparison.pictures
        ]
        for comparison in comparisons
    ]
    return in_script(data)
