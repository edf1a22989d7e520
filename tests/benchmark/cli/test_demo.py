"""`derain demo`: the page that fetches nothing, and the server that answers to its own page alone."""

from __future__ import annotations

import functools
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import webbrowser
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import create_model
from benchmark.cli import demo, main, samples, serving
from benchmark.errors import UserError
from benchmark.restoration import restoring

PIXELS = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
PIXELS.flags.writeable = False  # as the photographs are


@pytest.fixture(autouse=True)
def _small(ships: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small of a few pixels."""
    small = [
        samples.Sample("rain.png", "rocket", "in <rain>", "light", 1, "by <somebody>"),
        samples.Sample("dry.png", "rocket", "dry", None, 0, "by <somebody>"),
    ]
    for sample in small:
        sample.__dict__["clean"] = PIXELS
    monkeypatch.setattr(samples, "SAMPLES", tuple(small))


def png(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def restored_by(name: str, pixels: np.ndarray) -> np.ndarray:
    image = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        made = create_model(name, pretrained="general")(image)[0].clamp(0, 1).mul(255).round()
    return made.permute(1, 2, 0).byte().numpy()


@pytest.mark.filterwarnings("error")
def test_one_page_shows_before_and_after_and_fetches_nothing(ships: Path, capsys) -> None:
    assert main(["demo", "--no-open"]) == 0
    assert capsys.readouterr().out == "derain-demo.html\n"
    text = Path("derain-demo.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", text) and "url(" not in text
    assert "http" not in text.replace("http-equiv", "") and "connect-src" not in text
    assert "default-src 'none'" in text
    told = (
        "nafnet-general",
        "esdnet-general",
        "34.1",
        "30.1",
        "41.5",
        "see through fog",
        "spike rate 14 %",
    )
    for words in (*told, "for &lt;research&gt; &amp; education", "by &lt;somebody&gt;"):
        assert words in text
    (pictures,) = json.loads(re.search(r'id="picture-data">(.*?)</script>', text)[1])  # type: ignore[index]
    assert [p["name"] for p in pictures] == ["in <rain>", "dry"]
    names = [[s["name"] for s in p["shown"]] for p in pictures]
    assert names == [
        ["before", "nafnet-general", "esdnet-general", "without rain"],
        ["before", "nafnet-general", "esdnet-general"],
    ]
    from benchmark.run.evaluate import measure_pictures

    rainy = samples.SAMPLES[0].rainy
    for shown, pixels in zip(
        pictures[0]["shown"],
        (rainy, restored_by("nafnet", rainy), restored_by("esdnet", rainy)),
        strict=False,
    ):
        measured = measure_pictures([(pixels, PIXELS)], workers=1)[0]
        assert shown["caption"] == f"{measured['psnr_esdnet']:.1f} / {measured['ssim_esdnet']:.3f}"
        assert shown["data"].startswith("data:image/jpeg;base64,")


def test_a_page_is_replaced_nothing_else_is(ships: Path, capsys) -> None:
    Path("mine.html").write_text("<html>mine</html>")
    assert main(["demo", "--no-open", "-o", "mine.html"]) == 2
    assert "is no page of derain demo" in capsys.readouterr().err
    assert Path("mine.html").read_text() == "<html>mine</html>"
    assert main(["demo", "--no-open", "-o", "ours.html"]) == 0
    before = Path("ours.html").read_bytes()
    assert main(["demo", "--no-open", "-o", "ours.html"]) == 0
    assert Path("ours.html").read_bytes()[:500] == before[:500]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "80"], "--port 80: is for --serve"),
        (["--serve", "-o", "x.html"], "--out x.html: is for the page without --serve"),
        (["-o", "x.png"], "must end in .html"),
        (["--serve", "--port", "65536"], "at most 65535"),
        (["--device", "cudda"], "--device cudda: no such device"),
    ],
)
def test_wrong_words(words: list[str], told: str, capsys) -> None:
    assert main(["demo", *words]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert not list(Path().iterdir())


def test_it_is_opened_where_there_is_a_screen(capsys, monkeypatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: asked.append(address) is None)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    demo.open_page("file:///a.html")
    assert not asked and capsys.readouterr().out == "open it in a browser: file:///a.html\n"
    monkeypatch.setenv("DISPLAY", ":0")
    demo.open_page("file:///a.html")
    assert asked == ["file:///a.html"] and not capsys.readouterr().out


@pytest.fixture
def server() -> Iterator[serving.Server]:
    with serving.Server(0, serving.Restorer("cpu")) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def ask(
    server: serving.Server, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, Any]:
    """Status, body, headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    given = {
        "Host": f"127.0.0.1:{server.server_port}",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    if body is not None and "Content-Length" not in given:
        given["Content-Length"] = str(len(body))
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def restored(
    server: serving.Server, data: bytes, name: str = "photo.png", weights: str = "nafnet-general"
) -> Any:
    """The last line of the answer, the two pictures, and the lines before."""
    status, body, _ = ask(server, "POST", f"/restore?weights={weights}&name={name}", data)
    assert status == 200
    lines = []
    while True:
        line, _, body = body.partition(b"\n")
        lines.append(json.loads(line))
        if lines[-1].keys() & {"error", "done"}:
            return lines[-1], body, lines[:-1]


def test_a_picture_comes_back_restored_whole_and_with_its_metadata(server: serving.Server) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    data = png(PIXELS, exif=exif)
    for weights in ("nafnet", "esdnet"):
        last, body, before = restored(server, data, weights=f"{weights}-general")
        assert before and before[0].keys() == {"seconds"}
        assert (last["width"], last["height"], last["remarks"]) == (60, 40, [])
        assert len(body) == last["rainy"] + last["restored"]
        with Image.open(io.BytesIO(body[: last["rainy"]])) as image:
            np.testing.assert_array_equal(np.array(image), PIXELS)
        with Image.open(io.BytesIO(body[last["rainy"] :])) as image:
            np.testing.assert_array_equal(np.array(image), restored_by(weights, PIXELS))
            assert image.getexif()[0x010F] == "a camera"


def test_bad_pictures_are_a_line_each_and_the_next_is_served(server: serving.Server) -> None:
    whole = png(PIXELS)
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    huge = whole[:8] + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]
    moving = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    wanted = {
        b"": "is empty",
        b"no picture": "is not a picture",
        b"<html>not found": "web page",
        whole[: len(whole) // 2]: "damaged",
        huge: "million pixels; refused",
        moving.getvalue(): "2 frames or pages",
    }
    for data, words in wanted.items():
        last, rest, _ = restored(server, data, "a%0Ab%3Cc%3E.png")
        assert words in last["error"] and last["error"].startswith("a\\nb<c>.png: ") and not rest
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    assert restored(server, imagecodecs.png_encode(deep))[0]["remarks"] == ["16 bits a channel become 8"]
    last, _, _ = restored(server, png(PIXELS[:5, :4]))
    assert (last["height"], last["width"]) == (5, 4) and "smaller than 16 pixels" in last["remarks"][0]
    glass = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 90, np.uint8)])
    assert restored(server, png(glass))[0]["remarks"] == ["transparent parts are shown over white"]


def test_tiles_are_told_as_they_are_done(server: serving.Server, monkeypatch) -> None:
    monkeypatch.setattr(restoring, "choose_tile", lambda *_: 128)
    last, _, before = restored(server, png(np.tile(PIXELS, (4, 3, 1))))
    tiles = [told["tile"] for told in before if "tile" in told]
    assert (
        len(tiles) > 1 and tiles == list(range(1, len(tiles) + 1)) and last["remarks"][0] == "in tiles of 128"
    )


def test_nobody_but_its_own_page_is_answered(server: serving.Server) -> None:
    port = server.server_port
    assert server.server_address[0] == "127.0.0.1"
    restore = "/restore?weights=nafnet-general"
    other = [
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": f"127.0.0.1:{port + 1}"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ]
    for headers in other:
        for method, path, body in (
            ("GET", "/", None),
            ("GET", "/samples/rain.png", None),
            ("POST", restore, b"x"),
        ):
            status, said, _ = ask(server, method, path, body, **headers)
            assert status == 403 and said.count(b"\n") == 1 and b"alone" in said, headers
    own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}", "Sec_Fetch_Site": "same-origin"}
    status, page, headers = ask(server, "GET", "/", **own)
    assert status == 200 and b"nafnet-general" in page and b"in &lt;rain&gt;" in page
    assert not re.search(rb"(src|href)\s*=\s*[\"'](?!data:|#)", page)
    assert headers["X-Content-Type-Options"] == "nosniff" and "Access-Control-Allow-Origin" not in headers
    assert ask(server, "POST", restore, png(PIXELS), **own)[0] == 200
    status, sample, _ = ask(server, "GET", "/samples/rain.png")
    with Image.open(io.BytesIO(sample)) as image:
        np.testing.assert_array_equal(np.array(image), samples.SAMPLES[0].rainy)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/samples/../../../etc/passwd",
        "/samples/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/samples/",
        "/samples/other.png",
        "/restore",
        "/derain-demo.html",
        "/[",
    ],
)
def test_there_is_nothing_else(server: serving.Server, path: str) -> None:
    Path("derain-demo.html").write_text("mine")
    status, said, _ = ask(server, "GET", path)
    assert status == (400 if "[" in path and path.startswith("//") else 404) and said.count(b"\n") == 1


def test_bodies_and_methods_that_cannot_be(server: serving.Server) -> None:
    restore = "/restore?weights=nafnet-general&name=a.png"
    for size, status in (
        ("1e3", 411),
        ("-1", 411),
        ("", 411),
        ("9" * 400, 413),
        (str(serving.LIMIT + 1), 413),
    ):
        found, said, _ = ask(server, "POST", restore, b"", Content_Length=size)
        assert found == status and said.count(b"\n") == 1, size
    assert ask(server, "POST", restore, b"", Content_Length="5", Transfer_Encoding="chunked")[0] == 411
    assert ask(server, "POST", "/", b"x")[0] == 404
    status, said, _ = ask(server, "POST", "/restore?weights=prenet", b"x")
    assert status == 404 and b"one of nafnet-general, esdnet-general" in said
    for method in ("PUT", "DELETE", "OPTIONS"):
        status, said, headers = ask(server, method, restore, b"x")
        assert status == 501 and said.count(b"\n") == 1 and "html" not in headers["Content-Type"]
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as raw:
        host = f"Host: 127.0.0.1:{server.server_port}"
        raw.sendall(f"POST {restore} HTTP/1.1\r\n{host}\r\nContent-Length: 50\r\n\r\nabc".encode())
        raw.shutdown(socket.SHUT_WR)
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400") and b"did not arrive whole" in answer
    assert restored(server, png(PIXELS))[0]["done"]


def test_too_many_at_once_are_refused_and_who_went_away_is_forgotten(
    server: serving.Server, monkeypatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    restore_picture = serving.restore_picture

    def slow(*given: Any, **named: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return restore_picture(*given, **named)

    monkeypatch.setattr(serving, "restore_picture", slow)
    monkeypatch.setattr(serving, "_BEAT", 0.02)
    data = png(PIXELS)
    line = "POST /restore?weights=nafnet-general HTTP/1.1\r\n"
    head = f"{line}Host: 127.0.0.1:{server.server_port}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    sockets = []
    for _ in range(4):
        sockets.append(socket.create_connection(("127.0.0.1", server.server_port), timeout=60))
        sockets[-1].sendall(head + data)
        assert b"200" in sockets[-1].recv(12)
    assert begun.wait(60)
    status, said, _ = ask(server, "POST", "/restore?weights=nafnet-general", data)
    assert status == 503 and b"busy: 4 pictures" in said
    received = sockets[3].makefile("rb")
    assert any(json.loads(line) == {"waiting": 3} for line in received if line.startswith(b"{"))
    for one in (received, *sockets):
        one.close()
    go_on.set()
    until = time.monotonic() + 60
    while server.restorer._open and time.monotonic() < until:
        time.sleep(0.01)
    assert not server.restorer._open
    monkeypatch.undo()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("POST", "/restore?weights=nafnet-general", data)
    assert b'"done": true' in connection.getresponse().read()


def test_a_port_that_is_taken_is_a_line(server: serving.Server) -> None:
    with pytest.raises(UserError, match=f"--port {server.server_port}: is taken"):
        serving.Server(server.server_port, server.restorer)


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_ends_it_in_a_line(busy: bool, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import torch
from benchmark import shipped
from benchmark.cli import main
from benchmark.cli import samples, serving
shipped.FOLDER = Path({str(tmp_path / "weights")!r})
samples.SAMPLES = ()
def restore_picture(*_, opened, **__):
    opened(40, 60)
    large = torch.rand(1500, 1500)
    while True:  # amid a forward nothing is looked at
        large = (large @ large).sigmoid()
serving.restore_picture = restore_picture
sys.exit(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, "demo", "--serve", "--no-open"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(demo.__file__).parents[2])},
    ) as process:  # fmt: skip
        first = process.stdout.readline()  # type: ignore[union-attr]
        told = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/  \(Ctrl-C ends it\)\n", first)
        assert told
        if busy:
            connection = http.client.HTTPConnection("127.0.0.1", int(told[1]), timeout=60)
            connection.request("POST", "/restore?weights=nafnet-general", png(PIXELS))
            assert b"seconds" in connection.getresponse().readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "derain: interrupted\n")


@functools.cache
def chromium() -> str | None:
    return next(
        (b for n in ("chromium", "chromium-browser", "google-chrome") if (b := shutil.which(n))), None
    )


def test_a_picture_is_dropped_in_a_browser(server: serving.Server, tmp_path: Path) -> None:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if chromium() is None:
        pytest.skip("there is no Chromium")
    (tmp_path / "photo.jpeg").write_bytes(png(PIXELS))
    (tmp_path / "bad<b>.png").write_bytes(b"no picture")
    with driver.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 400, "height": 900})
        wrong: list[str] = []
        asked: list[str] = []
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(server.address)
        tab.locator("#file").set_input_files([str(tmp_path / "photo.jpeg")])
        entry = tab.locator(".entry").first
        entry.locator(".result").wait_for()
        assert entry.locator(".status").inner_text().startswith("nafnet-general, 60×40, ")
        assert entry.locator(".left").inner_text() == "before"
        assert entry.locator("img.over").evaluate("i => i.naturalWidth") == 60
        with tab.expect_download() as loading:
            entry.locator(".download").click()
        assert loading.value.suggested_filename == "photo-derained.png"
        with Image.open(loading.value.path()) as image:
            np.testing.assert_array_equal(np.array(image), restored_by("nafnet", PIXELS))
        entry.locator(".again").click()
        tab.locator(".entry").first.locator(".result").wait_for()
        assert tab.locator(".entry").first.locator(".status").inner_text().startswith("esdnet-general")
        tab.locator("[data-sample]").first.click()
        tab.locator(".entry h3", has_text="rain.png").wait_for()
        tab.locator(".entry").first.locator(".result").wait_for()
        tab.locator("#file").set_input_files([str(tmp_path / "bad<b>.png")])
        tab.locator(".failed").wait_for()
        assert "bad<b>.png: is not a picture" in tab.locator(".failed").inner_text()
        copies = [tmp_path / f"{i}.png" for i in range(6)]
        for copy in copies:
            copy.write_bytes(png(PIXELS))
        tab.locator("#file").set_input_files([str(p) for p in copies])
        for copy in copies:
            done = tab.locator(".entry", has=tab.locator("h3", has_text=copy.name)).locator(".result")
            done.wait_for()
        assert tab.locator(".failed").count() == 1
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400
        assert not wrong and all(u.startswith((server.address, "data:", "blob:")) for u in asked)
        browser.close()
