"""Makers of recordings as cameras, recorders, cutters and copies leave them: unusual, and whole."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.helpers.clips import X264, encode, patched, remuxed
from tests.helpers.fields import h264_fields, mpeg2_fields, stamped

TAG = "a tag of any kind"


def jpegs(path: Path, *, frames: int = 20, size: tuple[int, int] = (96, 64)) -> list[bytes]:
    """Return `frames` JPEGs that are made in a file at `path`."""
    encode(path, codec="mjpeg", pixels="yuvj420p", frames=frames, size=size, format="mjpeg")
    return [b"\xff\xd8" + image for image in path.read_bytes().split(b"\xff\xd8")[1:]]


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """Return a JPEG with an EXIF segment that says how the camera was held."""
    tag = struct.pack(">HHHIHH", 1, 0x112, 3, 1, orientation, 0)
    body = b"Exif\0\0MM\0*\0\0\0\x08" + tag + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def multipart(images: list[bytes]) -> bytes:
    """Return JPEGs as a camera sends them over HTTP."""
    head = b"--frame\r\nContent-type: image/jpeg\r\nContent-length: %d\r\n\r\n%b\r\n"
    return b"".join(head % (len(image), image) for image in images)


def _exif(path: Path, orientation: int) -> Path:
    images = jpegs(path.with_suffix(".plain.mjpeg"))
    if path.suffix == ".mjpeg":
        return _written(path, b"".join(with_exif(image, orientation) for image in images))
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for n, image in enumerate(images):
            packet = av.Packet(with_exif(image, orientation))
            packet.stream, packet.is_keyframe, packet.duration = stream, True, 1
            packet.pts = packet.dts = n
            packet.time_base = Fraction(1, 25)
            out.mux(packet)
    return path


def _tagged(path: Path) -> Path:
    """A clip with a tag that is Latin-1, as old cameras and editors write it."""
    made = encode(path.with_suffix(f".utf8{path.suffix}"), options=X264)
    tagged = path.with_suffix(f".tagged{path.suffix}")
    with av.open(str(made)) as given, av.open(str(tagged), "w") as out:
        out.metadata["title"] = TAG
        copy: Any = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)

    def edit(data: bytearray) -> None:
        at = data.index(TAG.encode())
        data[at : at + len(TAG)] = TAG.replace("a", "\xe9").encode("latin-1")

    return patched(tagged, path, edit)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _raw_jpegs(path: Path) -> list[bytes]:
    return jpegs(path.with_suffix(".plain.mjpeg"))


def _duplicate_times(path: Path) -> Path:
    """Two frames of one time, as of a recorder with a coarse clock."""
    times: list[int | None] = []

    def change(n: int, packet: Any) -> bool:
        times.append(packet.pts)
        if n % 13 == 7:
            packet.pts = packet.dts = times[n - 1]
        return True

    made = encode(path.with_suffix(".mp4"), options=X264 | {"bf": "0", "g": "12"})
    return remuxed(made, path, change=change)


def _part(path: Path, number: int, first: int, **options: Any) -> Path:
    """Encode a part of a recording whose first frame is at tick `first`."""
    name = path.with_suffix(f".part{number}{path.suffix}")
    count = options.setdefault("frames", 25)
    return encode(name, rate=25, pts=list(range(first, first + count)), **options)


def joined(path: Path, firsts: list[int], **options: Any) -> Path:
    """Return parts that begin at these frames of a clock of 25 ticks, one after the other."""
    parts = [_part(path, number, first, **options) for number, first in enumerate(firsts)]
    return _written(path, b"".join(part.read_bytes() for part in parts))


def _restarted_clusters(path: Path, **options: Any) -> Path:
    """A Matroska file whose clock goes back by ten seconds after its 30th frame."""
    options["container_options"] = {"cluster_time_limit": "1"}
    made = _part(path, 0, 250, frames=60, **options)

    def edit(data: bytearray) -> None:
        at = data.find(b"\x1f\x43\xb6\x75")
        while at >= 0:
            time = at + 4 + 9 - data[at + 4].bit_length()  # after an id and a length
            time += 2 + 6 * (data[time] == 0xBF)  # the same once more, after a checksum if any
            length = data[time - 1] & 0x7F
            milliseconds = int.from_bytes(data[time : time + length], "big")
            if milliseconds >= 11_200:
                data[time : time + length] = (milliseconds - 11_200).to_bytes(length, "big")
            at = data.find(b"\x1f\x43\xb6\x75", at + 4)

    return patched(made, path, edit)


def cut_at(source: Path, path: Path, number: int) -> Path:
    """Copy the packets of `source` from the keyframe `number` on, as cutters without loss do."""
    seen = -1

    def from_there(_: int, packet: Any) -> bool:
        nonlocal seen
        seen += packet.is_keyframe
        return seen >= number

    return remuxed(source, path, change=from_there)


def _open_mpeg2(path: Path) -> Path:
    options = {"g": "12", "bf": "2", "sc_threshold": "1000000000"}
    return encode(path.with_suffix(".whole.mkv"), codec="mpeg2video", rate=25, options=options)


def _open_h264(path: Path) -> Path:
    options = X264 | {"g": "12", "x264-params": "open-gop=1"}
    return encode(path.with_suffix(".whole.mkv"), frames=60, options=options)


def _open_hevc(path: Path) -> Path:
    options = {"x265-params": "log-level=none:keyint=12:min-keyint=12:open-gop=1"}
    return encode(path.with_suffix(".whole.mkv"), codec="libx265", frames=60, options=options)


def _late(path: Path, **options: Any) -> Path:
    """A recording that began in the middle of a group of pictures, as of a broadcast."""
    made = encode(path.with_suffix(f".whole{path.suffix}"), rate=25, frames=50, **options)
    return remuxed(made, path, change=lambda n, _: n >= 5)


def _spliced_hevc(path: Path) -> Path:
    """HEVC whose later starts are marked as splices: their leading pictures are not shown."""

    def splice(n: int, packet: Any) -> bool:
        content, at = bytearray(bytes(packet)), 0
        while at < len(content):
            if n and content[at + 4] >> 1 & 63 == 21:  # a CRA picture becomes a BLA picture
                content[at + 4] = 16 << 1
            at += 4 + int.from_bytes(content[at : at + 4], "big")
        packet.update(bytes(content))
        return True

    spliced = path.with_suffix(".spliced.mkv")
    remuxed(_open_hevc(path), spliced, change=splice)
    return spliced.rename(path) if path.suffix == ".mkv" else remuxed(spliced, path)


def _ended_hevc(path: Path) -> Path:
    """HEVC whose sequence ends in mid-file, before an open start: what waits there is not shown."""
    number = 0
    with av.open(str(_open_hevc(path))) as given, av.open(str(path), "w") as out:
        copy: Any = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            number += packet.is_keyframe
            if number == 3:  # the end goes before its units
                number, ended = 4, av.Packet(b"\0\0\0\2\x48\1" + bytes(packet))
                ended.pts, ended.dts, ended.time_base = packet.pts, packet.dts, packet.time_base
                packet, ended.is_keyframe = ended, True
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    return path


def _without_delay(path: Path, first: bool) -> Path:
    """MPEG-2 of which a part says that no frame waits: a frame is left out there, or comes twice.

    Args:
        path: The file to write.
        first: Whether it is the first part that says so.
    """

    def say(n: int, packet: Any) -> bool:
        content = bytearray(bytes(packet))
        at = content.find(b"\0\0\1\xb5")
        if content.startswith(b"\0\0\1\xb3") and (n < 24) == first:
            content[at + 9] |= 0x80  # low_delay of the sequence extension
            packet.update(bytes(content))
        return True

    options = {"g": "12", "sc_threshold": "1000000000"}
    source = path.with_suffix(".whole.mkv")
    encode(source, codec="mpeg2video", rate=25, frames=48, options=options)
    return remuxed(source, path, change=say)


def _dropped_frames(path: Path, codec: str, pixels: str) -> Path:
    """An AVI whose recorder wrote an empty chunk for each frame that it dropped."""
    kept = [n for n in range(50) if n % 5 != 3]
    return encode(path, codec=codec, pixels=pixels, rate=25, frames=len(kept), pts=kept)


VOP = b"\0\0\1\xb6"  # the start of a picture of MPEG-4
USER_DATA = b"\0\0\1\xb2"
NOT_CODED = VOP + bytes([0b01010000, 0b01011111])  # at 24 to 31 pictures a second


def packed(
    path: Path,
    *,
    said: bytes = b"DivX503b1393p",
    edit: Callable[[list[bytes]], object] | None = None,
    **options: Any,
) -> Path:
    """MPEG-4 as DivX packs it: a B-picture is behind the one before it, and leaves one not coded.

    Args:
        path: The file to write; the one without packing is next to it, `.plain` in its name.
        said: What the user data of its headers say.
        edit: Changes the contents of the packets.
        **options: As of `clips.encode`.
    """
    plain = encode(path.with_suffix(f".plain{path.suffix}"), codec="mpeg4", **options)
    with av.open(str(plain)) as given, av.open(str(path), "w") as out:
        stream = given.streams.video[0]
        packets = [packet for packet in given.demux(stream) if packet.size]
        pictures = [bytes(packet) for packet in packets]
        is_b = [picture[picture.index(VOP) + 4] >> 6 == 2 for picture in pictures]
        contents: list[bytes] = []
        for n, picture in enumerate(pictures):
            behind = pictures[n + 1] if [*is_b, False][n + 1] else b""
            contents.append((b"" if is_b[n] else picture) + behind or NOT_CODED)
        copy: Any = out.add_stream_from_template(stream)
        headers = copy.codec_context.extradata
        ours = headers[: headers.index(USER_DATA)] + USER_DATA + said
        contents = [content.replace(headers, ours) for content in contents]
        # An AVI has no headers but those in its packets.
        copy.codec_context.extradata = None if path.suffix == ".avi" else ours
        if edit is not None:
            edit(contents)
        for packet, content in zip(packets, contents, strict=True):
            made: Any = av.Packet(content)
            made.stream, made.time_base = copy, packet.time_base
            made.pts = made.dts = packet.dts
            made.is_keyframe = packet.is_keyframe
            out.mux(made)
    return path


class _Pipe:
    """What a program writes that cannot go back to fill in lengths."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, content: bytes) -> int:
        self.content += content
        return len(content)


def _piped(path: Path, form: str, **options: Any) -> Path:
    made = encode(path.with_suffix(f".seekable{path.suffix}"), **options)
    pipe = _Pipe()
    with av.open(str(made)) as given, av.open(pipe, "w", format=form) as out:
        copy: Any = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    return _written(path, bytes(pipe.content))


def _duration_for_count(path: Path) -> Path:
    """An IVF in milliseconds whose header has its duration where others have a frame count."""
    made = encode(
        path.with_suffix(".whole.ivf"), codec="libvpx", rate=25, frames=20,
        pts=[40 * n for n in range(20)], time_base=Fraction(1, 1000),
    )  # fmt: skip
    return patched(made, path, lambda data: struct.pack_into("<I", data, 24, 800))


def without_durations(path: Path, **options: Any) -> Path:
    """An MP4 whose table of durations says that every frame lasts no time."""
    made = encode(path.with_suffix(".whole.mp4"), frames=50, options=X264 | options)

    def edit(data: bytearray) -> None:
        at = data.index(b"stts") + 8
        entries, count = struct.unpack_from(">II", data, at)
        assert (entries, count) == (1, 50)
        struct.pack_into(">I", data, at + 8, 0)

    return patched(made, path, edit)


def cut_in_last_frame(source: Path, path: Path) -> Path:
    """Copy a file up to the middle of its last packet, as a recorder leaves it that loses power."""
    with av.open(str(source)) as opened:
        packets = [(p.pos or 0, p.size) for p in opened.demux(video=0) if p.size]
    at, size = max(packets)
    end = at + size // 2
    if source.suffix == ".ts":
        end = end // 188 * 188
    return _written(path, source.read_bytes()[:end])


def _restarted_flv(path: Path) -> Path:
    """An FLV whose clock goes back to zero after 30 frames."""
    options = X264 | {"g": "10", "bf": "0"}
    made = encode(path.with_suffix(".whole.flv"), rate=25, frames=60, options=options)

    def edit(data: bytearray) -> None:
        at = 13
        while at + 11 < len(data):
            size, time = (int.from_bytes(data[at + n : at + n + 3], "big") for n in (1, 4))
            if data[at] == 9 and time >= 1200:
                data[at + 4 : at + 7] = (time - 1200).to_bytes(3, "big")
            at += 11 + size + 4

    return patched(made, path, edit)


def _shares(data: bytes) -> list[int]:
    """Return where the packets of a transport stream begin that hold video."""
    starts = range(0, len(data), 188)
    pids = (int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF for at in starts)
    return [at for at, pid in zip(starts, pids, strict=True) if pid == 256 and data[at + 3] & 0x10]


def _going_on(path: Path, firsts: list[int]) -> Path:
    """Joined transport streams whose clock goes on; the count of their packets does not."""
    whole = b""
    for number, first in enumerate(firsts):
        made = bytearray(_part(path, number, first, options=X264 | {"g": "12"}).read_bytes())
        shares = _shares(made)
        # How many packets a part has is the encoder's choice: by chance the count would go on.
        if whole and (whole[_shares(whole)[-1] + 3] + 1 - made[shares[0] + 3]) % 16 == 0:
            for at in shares:
                made[at + 3] = made[at + 3] & 0xF0 | (made[at + 3] + 1) % 16
        whole += made
    return _written(path, whole)


def _m2ts(path: Path) -> Path:
    """Joined transport streams of packets with a time code each, as camcorders write them."""
    data = _going_on(path.with_suffix(".ts"), [5, 30]).read_bytes()
    packets = (data[at : at + 188] for at in range(0, len(data), 188))
    return _written(path, b"".join(bytes(4) + packet for packet in packets))


def _joined_cuts(path: Path) -> Path:
    cuts = [cut_at(_open_mpeg2(path), path.with_suffix(f".{n}{path.suffix}"), n) for n in (1, 2)]
    return _written(path, b"".join(cut.read_bytes() for cut in cuts))


def _raw(path: Path) -> Path:
    return path.with_suffix(".raw")


HEVC = {"codec": "libx265", "options": {"x265-params": "log-level=none"}}
VP8 = {"codec": "libvpx", "options": {"g": "12", "cpu-used": "8"}}
MPEG2 = {"codec": "mpeg2video", "options": {"g": "12"}}

# Recordings by name: the file name extension, and the function that makes it. Each is whole: it
# reads as a sequential decode does, and nothing is called damage.
RECORDINGS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "exif_avi": ("avi", lambda p: _exif(p, 1)),
    "exif_turned_mkv": ("mkv", lambda p: _exif(p, 6)),
    "exif_turned_mov": ("mov", lambda p: _exif(p, 3)),
    "exif_turned_raw": ("mjpeg", lambda p: _exif(p, 8)),
    "latin1_mp4": ("mp4", _tagged),
    "latin1_mkv": ("mkv", _tagged),
    "latin1_avi": ("avi", _tagged),
    "raw_mjpeg": ("mjpeg", lambda p: _written(p, b"".join(_raw_jpegs(p)))),
    "raw_mjpeg_padded": ("jpg", lambda p: _written(p, b"\0\0".join(_raw_jpegs(p)))),
    "restarted_ts": ("ts", lambda p: joined(p, [250, 0], options=X264 | {"g": "12"})),
    "restarted_from_an_hour_ts": ("ts", lambda p: joined(p, [90_000, 0], options=X264)),
    "restarted_twice_mpeg2_ts": ("ts", lambda p: joined(p, [500, 250, 0], **MPEG2)),
    "restarted_vob": ("vob", lambda p: joined(p, [250, 0], format="vob", **MPEG2)),
    "restarted_webm": ("webm", lambda p: _restarted_clusters(p, **VP8)),
    "restarted_mkv": ("mkv", lambda p: _restarted_clusters(p, options=X264 | {"g": "10"})),
    "restarted_hevc_ts": ("ts", lambda p: joined(p, [250, 0], **HEVC)),
    "restarted_from_an_hour_mpg": ("mpg", lambda p: joined(p, [90_000, 0], **MPEG2)),
    "restarted_flv": ("flv", _restarted_flv),
    "restarted_ffv1_mkv": ("mkv", lambda p: _restarted_clusters(p, codec="ffv1")),
    "restarted_mpeg4_mkv": (
        "mkv",
        lambda p: _restarted_clusters(p, codec="mpeg4", options={"g": "10", "bf": "2"}),
    ),
    "joined_cuts_ts": ("ts", _joined_cuts),
    "joined_cuts_mpg": ("mpg", _joined_cuts),
    "going_on_m2ts": ("m2ts", _m2ts),
    "going_on_ts": ("ts", lambda p: _going_on(p, [5, 30, 55])),
    "open_mpeg2_mkv": ("mkv", lambda p: cut_at(_open_mpeg2(p), p, 1)),
    "open_mpeg2_ts": ("ts", lambda p: cut_at(_open_mpeg2(p), p, 2)),
    "open_h264_mkv": ("mkv", lambda p: cut_at(_open_h264(p), p, 1)),
    "open_h264_mp4": ("mp4", lambda p: cut_at(_open_h264(p), p, 2)),
    "open_hevc_mkv": ("mkv", lambda p: cut_at(_open_hevc(p), p, 1)),
    "open_hevc_mp4": ("mp4", lambda p: cut_at(_open_hevc(p), p, 2)),
    "late_h264_ts": ("ts", lambda p: _late(p, options=X264 | {"g": "12", "bf": "2"})),
    "late_mpeg2_ts": ("ts", lambda p: _late(p, **MPEG2)),
    "late_mpeg2_mpg": ("mpg", lambda p: _late(p, codec="mpeg2video", options={"bf": "2"})),
    "spliced_hevc_mkv": ("mkv", _spliced_hevc),
    "spliced_hevc_ts": ("ts", _spliced_hevc),
    "ended_hevc_mkv": ("mkv", _ended_hevc),
    "ended_hevc_ts": ("ts", _ended_hevc),
    "delay_ends_mpeg2_mkv": ("mkv", lambda p: _without_delay(p, first=False)),
    "delay_begins_mpeg2_ts": ("ts", lambda p: _without_delay(p, first=True)),
    "dropped_mjpeg_avi": ("avi", lambda p: _dropped_frames(p, "mjpeg", "yuvj420p")),
    "dropped_mpeg4_avi": ("avi", lambda p: _dropped_frames(p, "mpeg4", "yuv420p")),
    "packed_avi": ("avi", lambda p: packed(p, options={"g": "12", "bf": "1"})),
    "packed_runs_avi": ("avi", lambda p: packed(p, options={"g": "12", "bf": "2"})),
    "packed_mp4": ("mp4", lambda p: packed(p, options={"g": "9", "bf": "1"})),
    "packed_mkv": ("mkv", lambda p: packed(p, options={"g": "9", "bf": "2"})),
    "piped_avi": ("avi", lambda p: _piped(p, "avi", codec="mpeg4")),
    "piped_ivf": ("ivf", lambda p: _piped(p, "ivf", **VP8)),
    "piped_mkv": ("mkv", lambda p: _piped(p, "matroska", options=X264)),
    "duration_ivf": ("ivf", _duration_for_count),
    "no_durations_mp4": ("mp4", lambda p: without_durations(p, bf="0")),
    "no_durations_reordered_mp4": ("mp4", without_durations),
    "fields_h264": ("h264", h264_fields),
    "fields_h264_ts": ("ts", lambda p: stamped(h264_fields(_raw(p)), p, packets=2)),
    "fields_h264_mkv": ("mkv", lambda p: stamped(h264_fields(_raw(p)), p, packets=2)),
    "fields_h264_avi": ("avi", lambda p: stamped(h264_fields(_raw(p)), p, packets=2)),
    "fields_h264_mp4": (
        "mp4",
        lambda p: stamped(h264_fields(_raw(p)), p, packets=2, joined=True),
    ),
    "fields_mpeg2": ("m2v", mpeg2_fields),
    "fields_mpeg2_ts": ("ts", lambda p: stamped(mpeg2_fields(_raw(p)), p, packets=1)),
    "fields_mpeg2_vob": ("vob", lambda p: stamped(mpeg2_fields(_raw(p)), p, packets=1)),
    "duplicate_times": ("mkv", _duplicate_times),
    "multipart_mjpeg": ("bin", lambda p: _written(p, multipart(_raw_jpegs(p)))),
}
