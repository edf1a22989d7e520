"""Videos: what a restored one keeps, damage that is found before any work, tracks that a container cannot hold."""

from __future__ import annotations

import builtins
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.errors import UserError, WorkError
from benchmark.restoration import restoring, videos
from benchmark.restoration.containers import first_damage
from benchmark.restoration.restoring import Outcome, restore_files
from benchmark.restoration.videos import Encoding, frames, look_through, restore_video

av = pytest.importorskip("av")
LOSSLESS = Encoding(lossless=True)


class Invert(nn.Module):
    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        return 1 - rainy


class Same(nn.Module):
    def forward(self, rainy: torch.Tensor) -> torch.Tensor:
        return rainy


def pictures(count: int, height: int = 36, width: int = 50) -> list[np.ndarray]:
    """Smooth colours that move, as H.264 can keep them."""
    rows, columns = np.mgrid[0:height, 0:width]
    return [
        np.stack([90 + rows + 3 * i, 110 + columns // 2, 150 - rows // 2], -1).astype(np.uint8)
        for i in range(count)
    ]


def film(
    path: Path,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    count: int = 12,
    sound: tuple[str, ...] = (),
    subtitles: str | None = None,
    times: list[int] | None = None,
    size: tuple[int, int] = (36, 50),
    options: dict[str, str] | None = None,
    **context: Any,
) -> list[np.ndarray]:
    """A video of `count` frames at 10 a second; returns the pictures that went into it."""
    made = pictures(count, *size)
    with av.open(str(path), "w", options=options or {}) as file:
        track = file.add_stream(codec, rate=10)
        track.height, track.width, track.pix_fmt = *size, pix_fmt
        turned = context.pop("rotation", None)
        if turned is not None:
            track.set_display_rotation(turned)
        for name, value in context.items():
            setattr(track.codec_context, name, value)
        track.codec_context.time_base = Fraction(1, 1000)
        voices = []
        for number, kind in enumerate(sound):
            voice = file.add_stream(kind, rate=8000, layout="mono")
            voice.metadata["language"] = ("eng", "deu")[number]
            voices.append(voice)
        words = file.add_stream(subtitles) if subtitles else None
        if words is not None:
            words.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n"
            words.time_base = words.codec_context.time_base = Fraction(1, 1000)
        file.start_encoding()
        for number, picture in enumerate(made):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if context.get("colorspace") == 1:
                frame = frame.reformat(format=pix_fmt, dst_colorspace="itu709", dst_color_range=1)
            frame.pts = times[number] if times else 100 * number
            frame.time_base = Fraction(1, 1000)
            file.mux(track.encode(frame))
        for voice in voices:
            for number in range(count):
                samples = np.full((1, 800), 50 * number, np.int16)
                chunk = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                chunk.rate, chunk.pts, chunk.time_base = 8000, 800 * number, Fraction(1, 8000)
                file.mux(voice.encode(chunk))
            file.mux(voice.encode())
        if words is not None:
            from av.subtitles.subtitle import SubtitleSet

            packet = words.codec_context.encode_subtitle(
                SubtitleSet.create(b"0,0,Default,,0,0,0,,Rain again", 0, 500, 200)
            )
            packet.stream, packet.time_base = words, Fraction(1, 1000)
            packet.pts = packet.dts = 200
            packet.duration = 500
            file.mux(packet)
        file.mux(track.encode())
    return made


def restored(source: Path, model: nn.Module | None = None, encoding: Encoding | None = None) -> Outcome:
    return restore_files(
        model or Same(), [source], source.parent / "out", progress=False, encoding=encoding, overwrite=True
    )


def times(path: Path) -> list[float]:
    with av.open(str(path)) as file:
        return [float(f.time) for f in file.decode(video=0)]


def test_without_loss_the_frames_are_those_of_the_network(tmp_path: Path) -> None:
    made = film(tmp_path / "rain.mkv", "ffv1", "bgr0", sound=("pcm_s16le",))
    out = tmp_path / "out"
    outcome = restore_files(Invert(), [tmp_path], out, progress=False, compare=True, encoding=LOSSLESS)
    assert not outcome.failed and not outcome.lost and outcome.written == [out / "rain.mkv"]
    for ours, rainy in zip(frames(out / "rain.mkv"), made, strict=True):
        np.testing.assert_array_equal(ours, 255 - rainy)
    assert next(iter(frames(out / "compare" / "rain.mkv"))).shape == (36, 108, 3)
    assert times(out / "rain.mkv") == pytest.approx([i / 10 for i in range(12)], abs=0.001)
    with av.open(str(out / "rain.mkv")) as file:
        assert sum(f.samples for f in file.decode(audio=0)) == 12 * 800


def test_h264_in_mp4_is_what_people_get(tmp_path: Path) -> None:
    made = film(tmp_path / "rain.mkv", "ffv1", "bgr0")
    assert restored(tmp_path / "rain.mkv").written == [tmp_path / "out" / "rain.mp4"]
    with av.open(str(tmp_path / "out" / "rain.mp4")) as file:
        assert file.streams.video[0].codec_context.name == "h264"
        assert "mp4" in file.format.name
    for ours, rainy in zip(frames(tmp_path / "out" / "rain.mp4"), made, strict=True):
        assert np.abs(ours.astype(int) - rainy).mean() < 2.5
    data = (tmp_path / "out" / "rain.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "a player need not read to the end"


def test_quality_is_asked_of_the_encoder(tmp_path: Path) -> None:
    film(tmp_path / "rain.mkv", "ffv1", "bgr0", size=(96, 128))
    sizes = []
    for quality in (0, 18, 51):
        restored(tmp_path / "rain.mkv", encoding=Encoding(quality=quality))
        sizes.append((tmp_path / "out" / "rain.mp4").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


def test_where_there_is_no_encoder_of_h264_nothing_is_lost(tmp_path: Path, monkeypatch) -> None:
    film(tmp_path / "rain.mp4")
    monkeypatch.setattr(videos, "has_h264", lambda: False)
    assert restored(tmp_path / "rain.mp4").written == [tmp_path / "out" / "rain.mkv"]


@pytest.mark.parametrize("encoding", [Encoding(), LOSSLESS])
def test_every_track_of_sound_and_subtitles_stays(tmp_path: Path, encoding: Encoding) -> None:
    film(tmp_path / "rain.mkv", sound=("aac", "pcm_s16le"), subtitles="subrip")
    outcome = restored(tmp_path / "rain.mkv", encoding=encoding)
    assert not outcome.failed and not outcome.lost
    with av.open(str(outcome.written[0])) as file:
        assert [s.codec_context.name for s in file.streams.audio] == ["aac", "pcm_s16le"]
        assert [s.language for s in file.streams.audio] == ["eng", "deu"]
        assert len(file.streams.subtitles) == 1
        shown = [
            (float(p.pts * p.time_base), p.decode())
            for p in file.demux(file.streams.subtitles[0])
            if p.size > 2
        ]
    assert len(shown) == 1 and shown[0][0] == pytest.approx(0.2)
    assert b"Rain again" in shown[0][1][0].ass
    with av.open(str(outcome.written[0])) as file:
        assert sum(f.samples for f in file.decode(file.streams.audio[1])) == 12 * 800


def test_what_a_container_cannot_hold_is_named_and_the_rest_goes_on(shared: Path, tmp_path: Path) -> None:
    clips = shared / "cases" / "C07" / "clips"
    outcome = restore_files(Same(), [clips], tmp_path, progress=False)
    assert sorted(p.name for p in outcome.written) == ["a.mp4", "b.mp4", "c.mp4"] and not outcome.failed
    assert outcome.lost == [(clips / "a.avi", "without sound track 1 (adpcm_ms): MP4 cannot hold it")]


def test_a_track_that_only_matroska_holds_says_so(tmp_path: Path) -> None:
    film(tmp_path / "rain.mkv", sound=("pcm_u8",))
    (lost,) = restored(tmp_path / "rain.mkv").lost
    assert lost[1] == "without sound track 1 (pcm_u8): MP4 cannot hold it; --lossless writes MKV, which can"
    assert not restored(tmp_path / "rain.mkv", encoding=LOSSLESS).lost


@pytest.mark.parametrize("encoding", [Encoding(), LOSSLESS])
def test_shape_of_pixels_and_colour_tags_stay(tmp_path: Path, encoding: Encoding) -> None:
    tags = {"color_primaries": 1, "color_trc": 1, "colorspace": 1, "color_range": 1}
    film(tmp_path / "rain.mp4", sample_aspect_ratio=Fraction(4, 3), **tags)
    rainy = list(frames(tmp_path / "rain.mp4"))
    (path,) = restored(tmp_path / "rain.mp4", encoding=encoding).written
    with av.open(str(path)) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        frame = next(file.decode(video=0))
        kept = (int(frame.color_primaries), int(frame.color_trc))
        assert kept == (1, 1)
        if encoding.by_h264:  # colours without loss are RGB's
            assert (int(frame.colorspace), int(frame.color_range)) == (1, 1)
    for ours, theirs in zip(frames(path), rainy, strict=True):
        assert np.abs(ours.astype(int) - theirs).mean() < 2


@pytest.mark.parametrize("range_", [1, 2])
@pytest.mark.parametrize("matrix", [1, 2, 6])
def test_colours_come_back_whatever_the_tags(tmp_path: Path, matrix: int, range_: int) -> None:
    film(tmp_path / "rain.mp4", colorspace=matrix, color_range=range_)
    (path,) = restored(tmp_path / "rain.mp4", encoding=Encoding(quality=4)).written
    for ours, theirs in zip(frames(path), frames(tmp_path / "rain.mp4"), strict=True):
        # full range is squeezed by swscale, which rounds otherwise on every kind of CPU; a tag misread is 10 or more
        assert abs(float(ours.mean()) - float(theirs.mean())) < 1.5
        assert np.abs(ours.astype(int) - theirs).mean() < 2


def test_a_turned_video_comes_out_upright(tmp_path: Path) -> None:
    film(tmp_path / "rain.mp4", rotation=90, sample_aspect_ratio=Fraction(4, 3))
    clip = look_through(tmp_path / "rain.mp4")
    assert (clip.width, clip.height) == (36, 50)
    (path,) = restored(tmp_path / "rain.mp4").written
    with av.open(str(path)) as file:
        track, frame = file.streams.video[0], next(file.decode(video=0))
        assert (track.width, track.height, frame.rotation) == (36, 50, 0)
        assert track.sample_aspect_ratio == Fraction(3, 4)
    turned = next(iter(frames(path))).astype(int) - next(iter(frames(tmp_path / "rain.mp4")))
    assert np.abs(turned).mean() < 2.5


@pytest.mark.parametrize("name", ["rain.mp4", "rain.mkv", "rain.ts"])
@pytest.mark.parametrize("encoding", [Encoding(), LOSSLESS])
def test_uneven_times_of_frames_stay(tmp_path: Path, name: str, encoding: Encoding) -> None:
    uneven = [0, 100, 130, 400, 410, 420, 900, 1000, 1400, 1500, 1600, 2000]
    film(tmp_path / name, times=uneven)
    (path,) = restored(tmp_path / name, encoding=encoding).written
    first = times(path)[0]
    assert first < 0.2
    assert [t - first for t in times(path)] == pytest.approx([t / 1000 for t in uneven], abs=0.0011)


def test_odd_sides_stay(tmp_path: Path) -> None:
    film(tmp_path / "rain.mkv", "ffv1", "bgr0", size=(35, 51))
    (path,) = restored(tmp_path / "rain.mkv").written
    assert next(iter(frames(path))).shape == (35, 51, 3)


def test_what_cannot_be_kept_by_its_nature_is_told(tmp_path: Path) -> None:
    film(tmp_path / "rain.mkv", "ffv1", "yuv420p10le")
    assert restored(tmp_path / "rain.mkv").remarks == [(tmp_path / "rain.mkv", "10 bits a channel become 8")]


KINDS = {
    "a.mp4": ("libx264", "yuv420p", {"movflags": "faststart"}),
    "b.mov": ("mjpeg", "yuvj420p", {"movflags": "faststart"}),
    "c.mp4": ("libx264", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
    "d.mkv": ("libx264", "yuv420p", {}),
    "e.webm": ("libvpx-vp9", "yuv420p", {}),
    "f.avi": ("mpeg4", "yuv420p", {}),
    "g.avi": ("mjpeg", "yuvj420p", {}),
    "h.ts": ("libx264", "yuv420p", {}),
    "i.mpg": ("mpeg2video", "yuv420p", {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_ends_too_early_is_named_before_any_work(tmp_path: Path, name: str) -> None:
    codec, pix_fmt, options = KINDS[name]
    path = tmp_path / name
    if codec == "mpeg2video":  # which knows no 10 frames a second
        with av.open(str(path), "w") as file:
            track = file.add_stream(codec, rate=25)
            track.height, track.width, track.pix_fmt = 36, 50, pix_fmt
            for picture in pictures(12):
                file.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(track.encode())
    else:
        film(path, codec, pix_fmt, options=options)
    assert look_through(path).frames == 12
    data = path.read_bytes()
    calls = []

    class Counting(Same):
        def forward(self, rainy: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return rainy

    for share in (0.97, 0.8, 0.6):
        path.write_bytes(data[: int(len(data) * share) | 1])
        outcome = restored(path, Counting())
        ((source, reason),) = outcome.failed
        assert source == path and "damaged after frame " in reason
        assert 0 <= int(reason.split("after frame ")[1].split()[0]) <= 12
        assert not list((tmp_path / "out").glob("*"))
    assert not calls


def test_the_truncated_video_of_a_report(shared: Path, tmp_path: Path) -> None:
    case = shared / "cases" / "C11"
    outcome = restore_files(Same(), [case], tmp_path, progress=False)
    ((source, reason),) = outcome.failed
    assert source.name == "fstrunc.mp4" and "damaged after frame 2" in reason
    assert [p.name for p in outcome.written] == ["fs.mp4"]


def test_zeros_amid_a_matroska_are_damage(tmp_path: Path) -> None:
    film(tmp_path / "rain.mkv", "mjpeg", "yuvj420p")
    data = bytearray((tmp_path / "rain.mkv").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    (tmp_path / "rain.mkv").write_bytes(data)
    assert first_damage(tmp_path / "rain.mkv") is not None
    with pytest.raises(UserError, match=r"damaged after frame [1-9]"):
        look_through(tmp_path / "rain.mkv")


def test_no_frames_no_pictures_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    (tmp_path / "b.mp4").write_bytes(b"")
    with av.open(str(tmp_path / "c.mkv"), "w") as file:
        voice = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        chunk = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        chunk.rate = 8000
        file.mux(voice.encode(chunk))
    film(tmp_path / "d.avi", "mjpeg", "yuvj420p", count=0)
    film(tmp_path / "good.mp4")
    outcome = restore_files(Same(), [tmp_path], tmp_path / "out", progress=False)
    assert [p.name for p in outcome.written] == ["good.mp4"]
    told = {p.name: reason for p, reason in outcome.failed}
    assert "not a readable video" in told["a.mp4"] and "is empty" in told["b.mp4"]
    assert "has no picture track" in told["c.mkv"]
    assert "holds no frames" in told["d.avi"] or "not a readable video" in told["d.avi"]
    assert all(reason.count("\n") == 0 for reason in told.values())


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    film(tmp_path / "rain.mkv", "ffv1", "bgr0")

    def full(self: Any, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(videos._Writer, "write", full)
    with pytest.raises(WorkError, match="the disk is full"):  # the next would find no room either
        restored(tmp_path / "rain.mkv")
    assert not list((tmp_path / "out").iterdir())


def test_what_fails_in_a_thread_ends_both_and_leaves_nothing(tmp_path: Path) -> None:
    film(tmp_path / "rain.mkv", "ffv1", "bgr0", count=40)
    clip = look_through(tmp_path / "rain.mkv")
    seen: list[int] = []

    def fails(picture: np.ndarray) -> np.ndarray:
        seen.append(1)
        if len(seen) == 7:
            raise WorkError("enough")
        return picture

    with pytest.raises(WorkError, match="enough"):
        restore_video(clip, tmp_path / "out" / "rain.mkv", fails, LOSSLESS)
    assert not list((tmp_path / "out").iterdir())
    assert not [t for t in threading.enumerate() if t.name in ("decode", "encode")]
    assert len(seen) == 7


def test_decoding_and_encoding_go_on_beside_the_network(tmp_path: Path) -> None:
    film(tmp_path / "rain.mkv", "ffv1", "bgr0")
    threads: set[str] = set()
    write, upright = videos._Writer.write, videos._upright

    def noted(made: Any) -> Any:
        def call(*words: Any) -> Any:
            threads.add(threading.current_thread().name)
            return made(*words)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(videos._Writer, "write", noted(write))
        patch.setattr(videos, "_upright", noted(upright))
        restore_video(look_through(tmp_path / "rain.mkv"), tmp_path / "out.mkv", noted(lambda p: p), LOSSLESS)
    assert threads == {"decode", "MainThread", "encode"}


def test_an_estimate_comes_before_the_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "rain.mkv", "ffv1", "bgr0")
    restore_files(Same(), [tmp_path / "rain.mkv"], tmp_path / "out")
    assert "rain.mkv: 12 frames of 50×36, about 0 s" in capfd.readouterr().err
    monkeypatch.setattr(restoring, "_speed", lambda *_: 0.01)
    monkeypatch.setattr(restoring, "_times", lambda *_: 5.0)
    restore_files(Same(), [tmp_path / "rain.mkv"], tmp_path / "again")
    assert "about 18 min" in capfd.readouterr().err  # 12 · 50 · 36 · 0.01 s · 5


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def none(name: str, *rest: object) -> object:
        if name == "av":
            raise ImportError
        return real(name, *rest)  # type: ignore[arg-type]

    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr(builtins, "__import__", none)
    outcome = restore_files(Same(), [tmp_path], tmp_path / "out", progress=False)
    assert "pip install av" in outcome.failed[0][1]
