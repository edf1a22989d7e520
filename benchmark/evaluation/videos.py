"""Videos, frame by frame, through PyAV (the extra `video`): one frame is in memory at a time.

Written losslessly (FFV1 in Matroska, RGB), with the times of the frames as they were and the sound copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError, WorkError
from benchmark.files import atomic

Picture = NDArray[np.uint8]

VIDEO_EXTENSIONS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts"})


def restore_video(
    source: Path,
    destination: Path,
    restore_frame: Callable[[Picture], Picture],
    compare: Path | None = None,
    side_by_side: Callable[[Picture, Picture], Picture] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Restore a video into a new one, whole or not at all.

    Args:
        source: a video.
        destination: of the restored one (.mkv).
        restore_frame: uint8 (H, W, 3) RGB to the same.
        compare: where to write a second video, of frames from `side_by_side`.
        side_by_side: of (rainy, restored).
        progress: called with frames done and their number (an estimate; 0 where the file does not say).

    Returns:
        The number of frames.

    Raises:
        UserError: PyAV is not installed, not a video, no picture track, damaged (the frame is named).
        WorkError: the disk is full.
    """
    av = _av(source)
    count = 0
    with contextlib.ExitStack() as stack:
        try:
            given = stack.enter_context(av.open(str(source)))
        except (av.FFmpegError, ValueError) as error:
            raise UserError(f"{source}: not a readable video ({_short(error)})") from None
        if not given.streams.video:
            raise UserError(f"{source}: has no picture track")
        track = given.streams.video[0]
        track.thread_type = "AUTO"
        total = track.frames or _estimated(given, track)
        sound = given.streams.audio[0] if given.streams.audio else None
        outputs: list[_Writer] = []
        for path in (destination, compare):
            if path is not None:
                temporary = stack.enter_context(atomic(path))
                outputs.append(
                    stack.enter_context(
                        _Writer(av, temporary, path, track, sound if path == destination else None)
                    )
                )
        try:
            for packet in given.demux(*([track] if sound is None else [track, sound])):
                if sound is not None and packet.stream.index == sound.index:
                    outputs[0].copy(packet)
                    continue
                for frame in packet.decode():
                    rainy = _upright(frame)
                    restored = restore_frame(rainy)
                    outputs[0].write(restored, frame)
                    if compare is not None and side_by_side is not None:
                        outputs[1].write(side_by_side(rainy, restored), frame)
                    count += 1
                    if progress is not None:
                        progress(count, max(total, count))
        except av.FFmpegError as error:
            if isinstance(error, OSError) and error.errno == 28:
                raise WorkError(f"{destination}: the disk is full") from None
            raise UserError(f"{source}: is damaged after frame {count} ({_short(error)})") from None
        if not count:
            raise UserError(f"{source}: holds no frames")
    return count


class _Writer:
    """One output file; the picture track is made when the first frame tells the size."""

    def __init__(self, av: Any, temporary: Path, path: Path, like: Any, sound: Any) -> None:
        self._av, self._path, self._like = av, path, like
        self._container = av.open(str(temporary), "w", format="matroska")
        self._track: Any = None
        self._sound = self._container.add_stream_from_template(sound) if sound is not None else None
        self._waiting: list[Any] = []

    def __enter__(self) -> _Writer:
        return self

    def write(self, picture: Picture, like: Any) -> None:
        if self._track is None:
            self._track = self._container.add_stream("ffv1", rate=self._like.average_rate or 25)
            self._track.height, self._track.width = picture.shape[:2]
            self._track.pix_fmt = "bgr0"
            self._track.codec_context.time_base = like.time_base
            self._track.time_base = like.time_base
            for packet in self._waiting:
                self._container.mux(packet)
        elif picture.shape[:2] != (self._track.height, self._track.width):
            raise UserError(f"{self._path}: the frames' size changes within the video")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = like.pts, like.time_base
        self._container.mux(self._track.encode(frame.reformat(format="bgr0")))

    def copy(self, packet: Any) -> None:
        """Sound as it is; what comes before the first frame waits for the file's header."""
        if self._sound is None or packet.dts is None:
            return
        packet.stream = self._sound
        if self._track is None:
            self._waiting.append(packet)
        else:
            self._container.mux(packet)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._track is not None:
            self._container.mux(self._track.encode())
        with contextlib.suppress(*(() if kind is None else (Exception,))):
            self._container.close()


def _av(source: Path) -> Any:
    try:
        import av
    except ImportError:
        raise UserError(
            f"{source}: videos need PyAV: pip install 'esdnet-benchmark[video]' (or pip install av)"
        ) from None
    av.logging.set_level(None)
    return av


def _upright(frame: Any) -> Picture:
    """The frame as it is meant to be seen; phones write upright videos as lying ones with a note."""
    picture = frame.to_ndarray(format="rgb24")
    turns = (getattr(frame, "rotation", 0) // 90) % 4  # counter-clockwise, as numpy turns
    return np.ascontiguousarray(np.rot90(picture, turns))


def _estimated(container: Any, track: Any) -> int:
    seconds = float(container.duration or 0) / 1e6
    return round(seconds * float(track.average_rate or 0))


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def frames(path: Path) -> Iterator[Picture]:
    """The frames of a video, uint8 (H, W, 3) RGB.

    Raises:
        UserError: PyAV is not installed.
    """
    with _av(path).open(str(path)) as container:
        for frame in container.decode(video=0):
            yield _upright(frame)
