"""Videos through PyAV (the extra `video`): looked through first, then decoded, restored and encoded at the same time.

What a restored video keeps, and how:

| of the video | in the restored one |
| --- | --- |
| times of the frames, their rate | the same; the whole is moved so that it starts at 0 where it starts later |
| rotation | carried out: the frames are upright |
| sample aspect ratio, colour tags | the same; a matrix without a tag is BT.709 from 720 lines on, else BT.601 |
| sound, subtitles | every track, as it is; text in another kind where the container needs that |
| languages, dispositions, title, chapters | the same |
| tracks that the container cannot hold | named |
| more than 8 bits a channel | 8 bits, with a word |
| further picture tracks, data, attachments | left out, with a word |
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError, WorkError
from benchmark.files import atomic
from benchmark.restoration.containers import first_damage
from benchmark.threads import ended

Picture = NDArray[np.uint8]
Progress = Callable[[int, int], None]

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"}
)
QUALITY = 18
"""H.264's constant rate factor where nothing is said: hardly to be told from the frames themselves."""

_AHEAD = 4  # frames that wait between decoding, restoring and encoding
# by AVColorSpace: 1 BT.709, 4 FCC, 5 and 6 BT.601, 7 SMPTE 240M, 9 and 10 BT.2020
_MATRICES = {1: "itu709", 4: "fcc", 5: "itu601", 6: "itu601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_UNTAGGED = 2
_HD = 720
_NOT_COPIED = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")
_NAMES = {"mp4": "MP4", "matroska": "Matroska"}
_TEXT = {
    "mp4": "mov_text",
    "matroska": "subrip",
}  # what subtitles of text become where they cannot stay as they are
_LIMITED, _FULL = 1, 2  # AVColorRange
_RATE = 25  # frames a second, where the file does not say


@dataclass(frozen=True)
class Clip:
    """A video that was looked through and is whole.

    Attributes:
        source: the file.
        frames: how many it shows.
        width: of a frame as it is seen (upright), in pixels.
        height: of a frame as it is seen.
        remarks: what the restored video cannot keep by its nature, in words.
    """

    source: Path
    frames: int
    width: int
    height: int
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Encoding:
    """How restored videos are written: H.264 in MP4, or without loss in Matroska.

    Attributes:
        lossless: FFV1, or H.264 without loss where pixels are not square; also where there is no H.264 encoder.
        quality: H.264's constant rate factor, 0 (no loss) to 51.
    """

    lossless: bool = False
    quality: int = QUALITY

    @property
    def by_h264(self) -> bool:
        """Whether H.264 is written."""
        return not self.lossless and has_h264()

    @property
    def extension(self) -> str:
        """Of the files."""
        return ".mp4" if self.by_h264 else ".mkv"

    @property
    def container(self) -> str:
        """FFmpeg's name of the format."""
        return "mp4" if self.by_h264 else "matroska"


def has_h264() -> bool:
    """Whether PyAV is there and its FFmpeg has an encoder of H.264; where PyAV is not, the answer does not matter."""
    try:
        import av
        from av.codec.codec import UnknownCodecError
    except ImportError:
        return True
    try:
        av.Codec("libx264", "w")
    except UnknownCodecError:
        return False
    return True


def look_through(source: Path, progress: Progress | None = None) -> Clip:
    """Decode a video from end to end, which takes a small part of what restoring it does.

    Args:
        source: a video.
        progress: called with frames done and their number as the file says or estimates it.

    Raises:
        UserError: PyAV is not installed, not a video, no picture track, no frames, frames of several sizes, or damaged
            ("damaged after frame N"): an error or a gap while decoding, or a file that ends before its container does.
    """
    from benchmark.data.images import require_file

    av = _av(source)
    require_file(source)
    if not source.stat().st_size:
        raise UserError(f"{source}: is empty (0 bytes); copy or download it again")
    try:
        damage = first_damage(source)
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from None
    good = whole = 0  # frames decoded, packets before the damage
    sizes: list[tuple[int, int]] = []
    wrong = ""
    with contextlib.ExitStack() as stack:
        try:
            given = stack.enter_context(av.open(str(source)))
        except (av.FFmpegError, ValueError) as error:
            raise UserError(f"{source}: not a readable video ({_short(error)})") from None
        track = _picture_track(source, given)
        track.thread_type = "AUTO"
        total = track.frames or _estimated(given, track)
        if damage is None and any(e.pos + e.size > source.stat().st_size for e in track.index_entries):
            damage = source.stat().st_size
        try:
            for packet in given.demux(track):
                if packet.is_corrupt:
                    wrong = "a part of it is missing"
                elif packet.size and (damage is None or packet.pos is None or packet.pos < damage):
                    whole += 1
                # what comes before the damage is decoded to its end
                for frame in track.codec_context.decode(None) if wrong else packet.decode():
                    if frame.is_corrupt:
                        wrong = wrong or "a frame cannot be decoded whole"
                        break
                    good += 1
                    if not sizes or sizes[-1] != _shown_size(frame):
                        sizes.append(_shown_size(frame))
                    if progress is not None:
                        progress(good, max(total, good))
                if wrong:
                    break
        except av.FFmpegError as error:
            wrong = _short(error)
        remarks = _remarks(given, track)
    if damage is not None:
        good = min(good, whole)
        wrong = wrong or (
            "the file ends too early" if damage >= source.stat().st_size else "its structure breaks"
        )
    if wrong:
        raise UserError(f"{source}: damaged after frame {good} ({wrong}); copy or download it again")
    if not good:
        raise UserError(f"{source}: holds no frames")
    if len(sizes) > 1:
        raise UserError(
            f"{source}: the frames' size changes within the video ({_x(sizes[0])}, then {_x(sizes[1])})"
        )
    return Clip(source, good, sizes[0][0], sizes[0][1], remarks)


def restore_video(
    clip: Clip,
    destination: Path,
    restore_frame: Callable[[Picture], Picture],
    encoding: Encoding | None = None,
    compare: Path | None = None,
    side_by_side: Callable[[Picture, Picture], Picture] | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Restore a video into a new one, whole or not at all.

    Args:
        clip: from `look_through`.
        destination: of the restored one, with the extension of `encoding`.
        restore_frame: uint8 (H, W, 3) RGB to the same; called from this thread.
        encoding: how to write; None: H.264, where there is no encoder FFV1.
        compare: where to write a second video, of frames from `side_by_side`.
        side_by_side: of (rainy, restored).
        progress: called with frames done and their number.

    Returns:
        The tracks of sound and subtitles that are not kept, in words.

    Raises:
        UserError: it cannot be decoded any more.
        WorkError: the disk is full, the encoder or the container refuses.
    """
    av = _av(clip.source)
    encoding = encoding or Encoding()
    count = 0
    try:
        with contextlib.ExitStack() as stack:
            given = stack.enter_context(av.open(str(clip.source)))
            track = _picture_track(clip.source, given)
            track.thread_type = "AUTO"
            main = stack.enter_context(_writing(av, destination, given, track, encoding))
            both = None
            if compare is not None and side_by_side is not None:
                both = stack.enter_context(_writing(av, compare, given, track, encoding, alone=True))
            put = stack.enter_context(_behind())
            items = stack.enter_context(_ahead(_read(clip.source, given, track, list(main.copied))))
            for thing, rainy in items:
                if rainy is None:
                    put(functools.partial(main.copy, thing))
                    continue
                restored = restore_frame(rainy)
                put(functools.partial(main.write, restored, thing))
                if both is not None and side_by_side is not None:
                    put(functools.partial(both.write, side_by_side(rainy, restored), thing))
                count += 1
                if progress is not None:
                    progress(count, max(clip.frames, count))
    except av.FFmpegError as error:
        raise WorkError(f"{clip.source}: cannot be written ({_short(error)})") from None
    return main.lost


def _read(source: Path, given: Any, track: Any, copied: list[Any]) -> Iterator[tuple[Any, Picture | None]]:
    """(packet, None) of the copied tracks and (frame, its pixels), in the file's order."""
    import av

    count = 0
    try:
        for packet in given.demux(track, *copied):
            if packet.stream.index != track.index:
                yield packet, None
                continue
            for frame in packet.decode():
                yield frame, _upright(frame)
                count += 1
    except av.FFmpegError as error:
        raise UserError(f"{source}: damaged after frame {count} ({_short(error)})") from None


@contextlib.contextmanager
def _ahead(items: Iterable[Any]) -> Iterator[Iterator[Any]]:
    """What `items` gives, made by another thread that is a few items ahead."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def hand(message: tuple[str, Any]) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(message, timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not hand(("item", item)):
                    return
            hand(("end", None))
        except BaseException as error:
            hand(("error", error))

    def given() -> Iterator[Any]:
        while (message := waiting.get())[0] == "item":
            yield message[1]
        if message[0] == "error":
            raise message[1]

    thread = threading.Thread(target=work, name="decode", daemon=True)
    try:
        thread.start()
        yield given()
    finally:
        stopped.set()
        ended(thread)


@contextlib.contextmanager
def _behind() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Gives a function that has another thread do what it is given, in order; errors come out of it, or at the end."""
    waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(_AHEAD)
    failed: list[BaseException] = []

    def work() -> None:
        while (call := waiting.get()) is not None:
            if not failed:  # after an error the rest is only taken off, so that nobody waits
                try:
                    call()
                except BaseException as error:
                    failed.append(error)

    def put(call: Callable[[], None]) -> None:
        if failed:
            raise failed[0]
        waiting.put(call)

    thread = threading.Thread(target=work, name="encode", daemon=True)
    try:
        thread.start()
        yield put
    finally:
        waiting.put(None)
        ended(thread)
    if failed:
        raise failed[0]


@contextlib.contextmanager
def _writing(
    av: Any, path: Path, given: Any, track: Any, encoding: Encoding, alone: bool = False
) -> Iterator[_Writer]:
    """A file that is there, whole, when the block ends well, and not there when not."""
    with atomic(path) as temporary:
        # the index in front, so that a player need not read to the end
        options = {"movflags": "+faststart"} if encoding.by_h264 else {}
        file = av.open(str(temporary), "w", format=encoding.container, container_options=options)
        try:
            writer = _Writer(av, file, given, track, encoding, alone)
            yield writer
            writer.end()
        finally:
            with contextlib.suppress(Exception):
                file.close()


class _Writer:
    """The tracks of one output file: the pictures', and those that are copied into it (`alone`: none)."""

    def __init__(
        self, av: Any, file: Any, given: Any, track: Any, encoding: Encoding, alone: bool = False
    ) -> None:
        self._av, self._file, self._given, self._like, self._encoding = av, file, given, track, encoding
        self.copied: dict[Any, Any] = {}  # stream of the source: stream of this file
        self.lost: list[str] = []
        self._as_text: set[int] = set()  # subtitles that are written in this container's own kind
        self._refused: set[int] = set()
        self._waiting: list[Any] = []
        self._last: int | None = None
        self._ratio = track.sample_aspect_ratio
        # Matroska gets no shape of pixels from PyAV; H.264 says it itself, and can be without loss
        square = self._ratio is None or self._ratio == 1 or not has_h264()
        self._codec = "libx264" if encoding.by_h264 else "ffv1" if square else "libx264rgb"
        self._track = file.add_stream(self._codec, rate=track.average_rate or _RATE)
        file.metadata.update({k: v for k, v in given.metadata.items() if k.lower() not in _NOT_COPIED})
        if not alone:
            self._add_tracks()
            if chapters := given.chapters():
                file.set_chapters(chapters)

    def _add_tracks(self) -> None:
        for kind in ("audio", "subtitles"):
            for number, stream in enumerate(getattr(self._given.streams, kind), start=1):
                try:
                    self.copied[stream] = copy = self._added(stream)
                except (ValueError, self._av.FFmpegError):
                    self.lost.append(f"without {_called(stream, number)}: {self._cannot(stream)}")
                    continue
                told = {k: v for k, v in stream.metadata.items() if k.lower() in ("language", "title")}
                copy.metadata.update(told)
                copy.disposition = stream.disposition

    def _cannot(self, stream: Any) -> str:
        container = self._encoding.container
        better = container == "mp4" and _holds(self._av, "matroska", stream)
        return f"{_NAMES[container]} cannot hold it" + (
            "; --lossless writes MKV, which can" if better else ""
        )

    def _added(self, stream: Any) -> Any:
        container = self._encoding.container
        if stream.type != "subtitle" or _holds(self._av, container, stream):
            return self._file.add_stream_from_template(stream)
        decoder = stream.codec_context
        if decoder is not None:
            decoder.open(strict=False)
        if decoder is None or decoder.subtitle_header is None:
            raise ValueError("pictures, not text")
        copy = self._file.add_stream(_TEXT[container])
        copy.codec_context.subtitle_header = decoder.subtitle_header
        copy.codec_context.time_base = copy.time_base = stream.time_base
        self._as_text.add(stream.index)
        return copy

    def write(self, picture: Picture, like: Any) -> None:
        """Encode a frame, with the time and the tags of the one it was made from."""
        if self._last is None:
            self._begin(picture, like)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        if self._encoding.by_h264:
            frame = frame.reformat(
                format=self._track.pix_fmt,
                dst_colorspace=_matrix(like),
                dst_color_range=_FULL if like.color_range == _FULL else _LIMITED,
                interpolation=_careful(),
            )
        else:
            frame = frame.reformat(format="bgr0")
        if like.pts is not None:
            moment = self._moved(like.pts, like.time_base)
        else:
            step = 1 / (like.time_base * Fraction(self._like.average_rate or _RATE))
            moment = 0 if self._last is None else self._last + max(1, round(step))
        if self._last is not None:
            moment = max(moment, self._last + 1)
        self._last = moment
        frame.pts, frame.time_base, frame.duration = moment, like.time_base, like.duration or 0
        self._file.mux(self._track.encode(frame))

    def _begin(self, picture: Picture, like: Any) -> None:
        """The picture track, when the first frame tells what it is."""
        context = self._track.codec_context
        context.height, context.width = picture.shape[:2]
        context.time_base = self._track.time_base = like.time_base
        if self._ratio:
            context.sample_aspect_ratio = 1 / self._ratio if _turns(like) % 2 else self._ratio
        context.color_primaries, context.color_trc = like.color_primaries, like.color_trc
        if self._encoding.by_h264:
            even = picture.shape[0] % 2 == picture.shape[1] % 2 == 0
            context.pix_fmt = "yuv420p" if even else "yuv444p"  # halved colour needs even sides
            context.colorspace = like.colorspace if like.colorspace in _MATRICES else _UNTAGGED
            context.color_range = like.color_range
            context.options = {"crf": str(self._encoding.quality)}
        else:
            context.pix_fmt = "bgr0"
            context.options = {"qp": "0"} if self._codec == "libx264rgb" else {}
        self._file.start_encoding()
        for packet in self._waiting:
            self._mux(packet)
        self._waiting.clear()

    def copy(self, packet: Any) -> None:
        """Sound and subtitles; what comes before the first frame waits for the file's header."""
        if packet.size and (packet.pts is not None or packet.dts is not None):
            if self._last is None:
                self._waiting.append(packet)
            else:
                self._mux(packet)

    def _mux(self, packet: Any) -> None:
        stream, base, duration = packet.stream, packet.time_base, packet.duration
        if stream.index in self._refused:
            return
        pts = packet.pts if packet.pts is not None else packet.dts
        dts = packet.dts if packet.dts is not None else packet.pts
        try:
            if stream.index in self._as_text:
                text = stream.codec_context.decode2(packet)
                if text is None:
                    return
                packet = self.copied[stream].codec_context.encode_subtitle(text)
                packet.time_base = base
            packet.pts, packet.dts, packet.duration = self._moved(pts, base), self._moved(dts, base), duration
            packet.stream = self.copied[stream]
            self._file.mux(packet)
        except self._av.FFmpegError as error:
            if isinstance(error, OSError):  # the disk's
                raise
            self._refused.add(stream.index)
            at = float(pts * base)
            number = [s.index for s in self._given.streams if s.type == stream.type].index(stream.index) + 1
            self.lost.append(f"without {_called(stream, number)} from {at:.1f} s on: {_short(error)}")

    def _moved(self, moment: int, base: Fraction) -> int:
        """The moment in a video that starts at 0, where this one starts later."""
        begin = self._given.start_time
        return (
            moment - round(Fraction(begin, 1_000_000) / base) if begin is not None and begin > 0 else moment
        )

    def end(self) -> None:
        """Write what the encoder holds back, and the index."""
        self._file.mux(self._track.encode())
        self._file.close()


def _called(stream: Any, number: int) -> str:
    return f"{'sound' if stream.type == 'audio' else 'subtitle'} track {number} ({_codec(stream)})"


def _holds(av: Any, container: str, stream: Any) -> bool:
    """Whether a container takes a stream as it is: found by trying."""
    with av.open(os.devnull, "w", format=container) as file:
        try:
            file.add_stream_from_template(stream)
        except (ValueError, av.FFmpegError):
            return False
    return True


def _picture_track(source: Path, given: Any) -> Any:
    """The first picture track that is a film and not a cover.

    Raises:
        UserError: there is none, or nothing here decodes it.
    """
    films = [s for s in given.streams.video if not _is_cover(s)]
    if not films:
        raise UserError(f"{source}: has no picture track")
    if films[0].codec_context is None:
        raise UserError(f"{source}: its picture track is of a kind that cannot be decoded here")
    return films[0]


def _is_cover(stream: Any) -> bool:
    return bool(int(stream.disposition) & (1 << 10))


def _remarks(given: Any, track: Any) -> list[str]:
    """What a restored video cannot keep, in words."""
    found = []
    left = [s for s in given.streams if s.type not in ("audio", "subtitle") and s.index != track.index]
    if left:
        kinds = ", ".join(sorted({"cover" if s.type == "video" and _is_cover(s) else s.type for s in left}))
        found.append(f"{len(left)} further track{'s' if len(left) > 1 else ''} left out ({kinds})")
    bits = (
        max((c.bits for c in track.codec_context.format.components), default=8)
        if track.codec_context.format
        else 8
    )
    if bits > 8:
        found.append(f"{bits} bits a channel become 8")
    return found


def _codec(stream: Any) -> str:
    return stream.codec_context.name if stream.codec_context is not None else "of an unknown kind"


def _av(source: Path) -> Any:
    try:
        import av
    except ImportError:
        raise UserError(f"{source}: videos need PyAV: pip install av") from None
    av.logging.set_level(None)
    return av


def _careful() -> int:
    """How pixels are converted: no shortcuts that cost accuracy."""
    from av.video.reformatter import Interpolation

    return int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)


def _matrix(frame: Any) -> str:
    """Of luma and colour: the frame's, or what players take where it is not tagged."""
    return _MATRICES.get(int(frame.colorspace), "itu709" if frame.height >= _HD else "itu601")


def _turns(frame: Any) -> int:
    """Quarter turns, counter-clockwise as numpy's, until the frame is upright."""
    return (getattr(frame, "rotation", 0) // 90) % 4


def _shown_size(frame: Any) -> tuple[int, int]:
    return (frame.height, frame.width) if _turns(frame) % 2 else (frame.width, frame.height)


def _upright(frame: Any) -> Picture:
    """The frame as it is meant to be seen; phones write upright videos as lying ones with a note."""
    if frame.format.is_rgb:
        picture = frame.to_ndarray(format="rgb24")
    else:
        picture = frame.reformat(
            format="rgb24", src_colorspace=_matrix(frame), interpolation=_careful()
        ).to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, _turns(frame)))


def _estimated(container: Any, track: Any) -> int:
    seconds = float(container.duration or 0) / 1e6
    return round(seconds * float(track.average_rate or 0))


def _x(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _short(error: BaseException) -> str:
    told = getattr(error, "strerror", None) or str(error)
    return " ".join(told.split())[:120] or type(error).__name__


def frames(path: Path) -> Iterator[Picture]:
    """The frames of a video, uint8 (H, W, 3) RGB.

    Raises:
        UserError: PyAV is not installed.
    """
    with _av(path).open(str(path)) as container:
        for frame in container.decode(_picture_track(path, container)):
            yield _upright(frame)
