"""`derain demo --serve`: a page on this machine alone, where pictures are dropped and come back restored.

| asked | answer |
| --- | --- |
| GET / | the page |
| GET /samples/NAME | a rainy sample picture |
| POST /restore?weights=NAME&name=FILE, the file as body | lines of JSON, then two PNGs, before and after |

The lines: {"waiting": pictures before it}, {"seconds": expected}, {"tile": done, "of": all}, and at last
{"error": why} or {"done": true, "rainy": bytes, "restored": bytes, …}, after which the two PNGs come.

Nothing of the disk is served and nothing of a picture is kept. A page of another site cannot ask: its Host (a name
that it has pointed at this machine), Origin or Sec-Fetch-Site gives it away.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmark import shipped
from benchmark.errors import UserError, WorkError, out_of_memory, printable
from benchmark.restoration.restoring import Restored, restore_picture
from benchmark.shipped import Shipped

HOST = "127.0.0.1"
LIMIT = 128 << 20
"""Bytes of a body, at most: a photograph of 24 megapixels with 16 bits a channel has 137 MiB, as JPEG some 10."""

_WAITING = 4  # pictures that are held at once
_PATIENCE = 60.0  # seconds for a request to arrive
_TELLING = 0.05  # megapixels that say how fast this machine is
_GRACE = 1.0  # seconds to stop in
_BEAT = 0.5  # seconds between two lines to a browser that may have gone away


class _GaveUp(Exception):  # noqa: N818
    """Nobody waits for this picture any more."""


@dataclass(frozen=True)
class _Made:
    """A restored picture, and the seconds it took."""

    picture: Restored
    seconds: float


@dataclass(eq=False)
class _Job:
    """A picture to restore, and what is told of it: messages, and at last the result or an error."""

    name: str
    ship: Shipped
    data: bytes = b""
    told: queue.Queue[Mapping[str, Any] | _Made | Exception] = field(default_factory=queue.Queue)
    given_up: threading.Event = field(default_factory=threading.Event)

    def tile(self, done: int, of: int) -> None:
        """Called as tiles are done."""
        if self.given_up.is_set():
            raise _GaveUp
        self.told.put({"tile": done, "of": of})


class Restorer:
    """Restores one picture after another in a thread of its own.

    Args:
        device: where networks work.
    """

    def __init__(self, device: str = "auto") -> None:
        from benchmark.cli.loading import device_named

        self._device = device_named(device)
        self._networks: dict[str, Any] = {}
        self._speed = {
            ship.name: float(ship.card["seconds_per_megapixel"]["seconds"])
            for ship in shipped.shipped().values()
        }
        self._jobs: queue.Queue[_Job] = queue.Queue()
        self._open: list[_Job] = []
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        threading.Thread(target=self._work, name="restore", daemon=True).start()

    def enter(self, job: _Job) -> None:
        """Put a picture at the end of the queue."""
        self._jobs.put(job)

    def admit(self, job: _Job) -> bool:
        """Make room for a picture that is about to be sent; False: there is none."""
        with self._lock:
            if len(self._open) >= _WAITING:
                return False
            self._open.append(job)
            return True

    def before(self, job: _Job) -> int:
        """How many pictures come before this one."""
        with self._lock:
            return self._open.index(job) if job in self._open else 0

    def leave(self, job: _Job) -> None:
        """Nobody waits for this picture any more."""
        job.given_up.set()
        with self._lock:
            if job in self._open:
                self._open.remove(job)

    def close(self, patience: float) -> bool:
        """Stop at the next tile; False: it did not within so many seconds."""
        with self._lock:
            for job in self._open:
                job.given_up.set()
        return self._idle.wait(patience)

    def _work(self) -> None:
        from benchmark.resident import keep_freed_memory

        keep_freed_memory()
        while True:
            job = self._jobs.get()
            if job.given_up.is_set():
                continue
            self._idle.clear()
            try:
                job.told.put(self._restored(job))
            except _GaveUp:
                continue
            except Exception as error:
                job.told.put(error)
            finally:
                self._idle.set()

    def _restored(self, job: _Job) -> _Made:
        from benchmark.models import create_model

        name, began, megapixels = job.ship.name, 0.0, 0.0

        def opened(height: int, width: int) -> None:
            nonlocal began, megapixels
            began, megapixels = time.perf_counter(), height * width / 1e6
            job.told.put({"seconds": round(self._speed[name] * megapixels, 2)})

        if name not in self._networks:
            network = create_model(job.ship.network, pretrained=job.ship.weights)
            self._networks[name] = network.to(self._device)
        made = restore_picture(self._networks[name], job.data, job.name, progress=job.tile, opened=opened)
        taken = time.perf_counter() - began
        if megapixels > _TELLING:
            self._speed[name] = taken / megapixels
        return _Made(made, taken)


class Server(ThreadingHTTPServer):
    """The server; it listens as soon as it is made, on this machine alone.

    Args:
        port: 0 for any that is free.
        restorer: what does the work.

    Raises:
        UserError: the port is taken or not for this user.
    """

    daemon_threads = True

    def __init__(self, port: int, restorer: Restorer) -> None:
        from benchmark.cli.samples import SAMPLES
        from benchmark.data.images import encode_png
        from benchmark.report.demo import Served, served_page

        self.restorer = restorer
        self.samples = {sample.name: encode_png(sample.rainy) for sample in SAMPLES}
        titles = {sample.name: sample.title for sample in SAMPLES}
        ships = list(shipped.shipped().values())
        self.page = served_page(ships, Served(LIMIT, titles)).encode()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UserError(f"--port {port}: is taken; leave it out for one that is free") from None
            raise UserError(
                f"--port {port}: {error.strerror or error}; leave it out for a free one"
            ) from None

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no matter."""


class _Refused(Exception):  # noqa: N818
    """A request that is answered by a line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "derain", ""
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's matter."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library itself refuses is answered by a line too."""
        self._send(code, "text/plain; charset=utf-8", f"{message or code}\n".encode(), last=True)

    def do_GET(self) -> None:
        """The page, or a sample."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """A picture to restore."""
        self._answer(self._post)

    def _answer(self, answer: Callable[[str, dict[str, list[str]]], None]) -> None:
        try:
            self._require_own_page()
            asked = urlsplit(self.path)
            answer(asked.path, parse_qs(asked.query))
        except (_Refused, ValueError) as refused:
            status = refused.status if isinstance(refused, _Refused) else 400
            self.send_error(status, printable(refused))
        except OSError:  # the browser went away
            self.close_connection = True

    def _require_own_page(self) -> None:
        """Refuse what a page of another site asks, whatever name it has given this machine."""
        port = self.server.server_port
        own = {f"{name}:{port}" for name in (HOST, "localhost")} | (
            {HOST, "localhost"} if port == 80 else set()
        )
        if self.headers.get_all("Host", []) not in [[host] for host in own]:
            raise _Refused(403, f"this server answers to {self.server.address} alone")
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "none")
        if origin not in (None, *(f"http://{host}" for host in own)) or site not in ("none", "same-origin"):
            raise _Refused(403, f"this server answers to its own page alone: {self.server.address}")

    def _get(self, path: str, _: dict[str, list[str]]) -> None:
        if path == "/":
            self._send(200, "text/html; charset=utf-8", self.server.page)
        elif path.startswith("/samples/") and path[9:] in self.server.samples:
            self._send(200, "image/png", self.server.samples[path[9:]])
        else:
            raise _Refused(404, f"nothing is there; the page is {self.server.address}")

    def _post(self, path: str, query: dict[str, list[str]]) -> None:
        if path != "/restore":
            raise _Refused(404, "pictures go to /restore")
        weights = query.get("weights", [""])[0]
        if weights not in shipped.shipped():
            raise _Refused(404, f"no weights '{weights}': one of {', '.join(shipped.shipped())}")
        size = self.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdigit()) or "Transfer-Encoding" in self.headers:
            raise _Refused(411, "the size of the picture is not said")
        if int(size[:20]) > LIMIT:
            raise _Refused(413, f"{int(size[:20]) / 2**20:.0f} MiB are too large; at most {LIMIT >> 20} MiB")
        name = printable(query.get("name", ["picture"])[0])[:200]
        job = _Job(name, shipped.shipped()[weights])
        if not self.server.restorer.admit(job):
            raise _Refused(503, f"busy: {_WAITING} pictures are being restored; wait for one of them")
        try:
            job.data = self._body(int(size))
            self._restore(job)
        finally:
            self.server.restorer.leave(job)

    def _body(self, size: int) -> bytes:
        parts, until = [], time.monotonic() + _PATIENCE
        while size:
            part = self.rfile.read1(min(size, 1 << 20))
            if not part or time.monotonic() > until:
                raise _Refused(400, "the picture did not arrive whole")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _restore(self, job: _Job) -> None:
        self._begin(200, "application/x-ndjson", None, last=True)
        self.server.restorer.enter(job)
        while True:
            try:
                told = job.told.get(timeout=_BEAT)
            except queue.Empty:
                told = {"waiting": self.server.restorer.before(job)}
            if isinstance(told, _Made):
                return self._give(job, told)
            if isinstance(told, Exception):
                return self._line({"error": _in_words(told, job.name)})
            self._line(told)

    def _give(self, job: _Job, made: _Made) -> None:
        from benchmark.data.images import encode_png

        picture = made.picture
        rainy, restored = encode_png(picture.rainy), encode_png(picture.pixels, picture.metadata)
        height, width = picture.rainy.shape[:2]
        remarks = list(picture.remarks)
        if picture.tile is not None:
            remarks.insert(0, f"in tiles of {picture.tile}")
        print(f"{job.name}: {width}×{height} by {job.ship.name} in {made.seconds:.1f} s", flush=True)
        sizes = {"rainy": len(rainy), "restored": len(restored), "width": width, "height": height}
        self._line({"done": True, **sizes, "seconds": round(made.seconds, 2), "remarks": remarks})
        self.wfile.write(rainy)
        self.wfile.write(restored)

    def _line(self, told: Mapping[str, Any]) -> None:
        self.wfile.write(json.dumps(told).encode() + b"\n")

    def _send(self, status: int, kind: str, body: bytes, last: bool = False) -> None:
        self._begin(status, kind, len(body), last)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: int, kind: str, size: int | None, last: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if size is not None:
            self.send_header("Content-Length", str(size))
        if last:
            self.send_header("Connection", "close")
        for header, value in _HEADERS.items():
            self.send_header(header, value)
        self.end_headers()


_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def _in_words(error: Exception, name: str) -> str:
    if isinstance(error, (UserError, WorkError)):
        return str(error)
    if out_of_memory(error):
        return f"{name}: out of memory"
    return printable(f"{name}: {type(error).__name__}: {error}")


def serve(port: int, device: str, show: Callable[[str], None] | None) -> int:
    """Serve until somebody interrupts.

    Args:
        port: 0 for any that is free.
        device: where networks work.
        show: called with the page's address.
    """
    with Server(port, Restorer(device)) as server:
        print(f"{server.address}  (Ctrl-C ends it)", flush=True)
        if show is not None:
            show(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            if not server.restorer.close(_GRACE):
                # a forward cannot be stopped, and Python cannot end beside one as it should
                print("derain: interrupted", file=sys.stderr, flush=True)
                os._exit(130)
            raise
    return 0
