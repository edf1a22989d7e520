"""Whether the file of a video is whole: what its container says about lengths, against what is there.

Demuxers read a file that was cut off to its end and call that its end. The containers say more: boxes (MP4, MOV),
chunks (AVI), elements (Matroska, WebM) and packets (MPEG) each tell their length.

    ISO/IEC 14496-12 4.2 (boxes) · RIFF (Microsoft, 1991) · RFC 8794 (EBML) · ISO/IEC 13818-1 2.4.3, 2.5.3 (MPEG)
"""

from __future__ import annotations

import mmap
from pathlib import Path

_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"sidx", b"pnot")
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_SYNC = 0x47
_PACKETS = ((188, 0), (192, 4), (204, 0))  # length of a transport packet, place of its sync byte


def first_damage(path: Path) -> int | None:
    """The byte at which the container's structure ends too early or breaks; None where it is whole or not known.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if not file.read(1):
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] in _BOXES:
                return _boxes(data)
            if data[:4] == b"RIFF":
                return _riff(data)
            if data[:4] == b"\x1a\x45\xdf\xa3":
                return _ebml(data)
            if data[:4] == b"\0\0\x01\xba":
                return _program(data)
            for length, sync in _PACKETS:
                if len(data) > 2 * length and data[sync] == data[sync + length] == _SYNC:
                    return len(data) if len(data) % length else None
    return None


def _boxes(data: mmap.mmap) -> int | None:
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size == 0:  # to the end of the file; or zeros behind the last box
            return None
        if size < 8:
            return position
        position += size
    return None if position == len(data) else len(data)


def _riff(data: mmap.mmap) -> int | None:
    position = 0
    while data[position : position + 4] == b"RIFF":
        position += 8 + int.from_bytes(data[position + 4 : position + 8], "little")
        if position > len(data) + 8:  # some writers count the first eight bytes
            return len(data)
        position += position % 2
    return None


def _ebml(data: mmap.mmap) -> int | None:
    position, end = 0, len(data)
    while position < end:
        begin = position
        length = 9 - data[position].bit_length()
        if length > 4:
            return begin
        identity = int.from_bytes(data[position : position + length], "big")
        position += length
        if position >= len(data):
            return len(data)
        length = 9 - data[position].bit_length()
        if length > 8:
            return begin
        size = int.from_bytes(data[position : position + length], "big") & ((1 << 7 * length) - 1)
        position += length
        unknown = size == (1 << 7 * length) - 1  # written while it was not known, as live streams are
        if not unknown and position + size > len(data):
            return len(data)
        if identity == _SEGMENT and not unknown:
            end = position + size
        if identity not in (_SEGMENT, _CLUSTER):
            if unknown:
                return begin
            position += size
    return None


def _program(data: mmap.mmap) -> int | None:
    position = 0
    while position < len(data):
        kind = data[position + 3] if data[position : position + 3] == b"\0\0\x01" else 0
        if kind == 0xBA and position + 14 <= len(data):
            second = data[position + 4] >> 6 == 1  # MPEG-2
            position += 14 + (data[position + 13] & 7) if second else 12
        elif kind == 0xB9:
            position += 4
        elif kind > 0xBA:
            position += 6 + int.from_bytes(data[position + 4 : position + 6], "big")
        else:  # padding; what is damaged shows in what is decoded
            position = data.find(b"\0\0\x01\xba", position + 1)
            if position < 0:
                return None
    return None if position == len(data) else len(data)
