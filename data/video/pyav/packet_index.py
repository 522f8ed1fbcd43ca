"""The index of a stream's packets: their times, and what each of them is to the others."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from data.video.frames import LimitExceeded, Limits, VideoError
from data.video.pyav.clock import duration, find_joints
from data.video.pyav.nal_units import PacketBytes
from data.video.pyav.packets import (
    NO_ENTRY,
    OPEN_ENTRY,
    PacketFacts,
    PacketParser,
    facts_of,
    parser_for,
)
from data.video.pyav.picture_structure import (
    BOTH_FIELDS,
    BOTTOM_FIELD,
    TOP_FIELD,
    order_by_type,
    picture_order,
    second_fields,
)
from data.video.pyav.sample_tables import SampleTable
from data.video.pyav.sniffing import ffmpeg_reason

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

# Compressed video is kept in memory up to this size, so that random access needs no seek; packets
# up to this number, since each takes 900 bytes more than its own.
MAX_PACKET_BYTES = 256 << 20
MAX_PACKETS = 50_000

# The time of a packet that has none.
NO_TIME = -1

LEADING_NOTE = "its first {:,} pictures need earlier ones, and are not shown"

# So much of it is parsed at a time.
BATCH_PACKETS = 4096
BATCH_BYTES = 4 << 20


@dataclass(frozen=True)
class PacketIndex:
    """The packets of one video stream in file order, which is decoding order.

    All arrays have shape (n,).

    Attributes:
        pts: int64, in ticks of the stream's clock.
        key: Whether the container marks the packet as a keyframe.
        hidden: Whether the packet is decoded but not shown (edit lists, reference-only frames).
        entry: int8, where decoding may start (`data.video.pyav.packets`).
        droppable: Whether no other packet depends on the packet.
        second: Whether it completes the frame that the packet before it begins: both are fields.
        packets: The packets; None where they are too large to keep, or were not read.
        samples: Where they are in the file, if its own table of them is used; else None.
        rank: int64, the place of each packet in the order of showing, where its time does not tell
            and the pictures do (H.264 in AVI); else None.
        timeless: Whether no packet has a time.
        doubt: Why the shown frames are known only by decoding everything; None where each shown
            packet is one frame with a time of its own.
        whole: Whether each packet is known to be a frame, or one of the two fields of one.
        fields: Whether there is a frame that is coded as two fields.
        packed: Whether packets of the file hold two pictures, and so have to be `unpacked`.
        countable: Whether fewer frames than shown packets mean that frames are lost.
        damage: One sentence per damage.
        corrupt: int64, the numbers of the packets that FFmpeg marks as corrupt, and that of the
            last one where it is a JPEG without an end.
        joints: int64, the numbers of the packets at which the clock goes back.
        notes: What is worth knowing and is not damage.
    """

    pts: npt.NDArray[np.int64]
    key: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.bool_]
    entry: npt.NDArray[np.int8]
    droppable: npt.NDArray[np.bool_]
    second: npt.NDArray[np.bool_]
    packets: list[Packet[VideoStream]] | None
    doubt: str | None
    whole: bool
    countable: bool
    damage: tuple[str, ...]
    corrupt: npt.NDArray[np.int64]
    joints: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()
    samples: SampleTable | None = None
    rank: npt.NDArray[np.int64] | None = None
    timeless: bool = False
    fields: bool = False
    packed: bool = False

    def without_last(self) -> PacketIndex:
        """Return the index without its last frame, which a cut-off file holds in part."""
        count = self.last_frame
        arrays = ("pts", "key", "hidden", "entry", "droppable", "second")
        return replace(
            self,
            **{name: getattr(self, name)[:count] for name in arrays},
            packets=None if self.packets is None else self.packets[:count],
            rank=None if self.rank is None else self.rank[:count],
            corrupt=self.corrupt[self.corrupt < count],
            joints=self.joints[self.joints < count],
            notes=(*self.notes, "its last frame is cut off, and left out"),
        )

    @property
    def last_frame(self) -> int:
        """The number of the packet with which the last frame begins."""
        return len(self.pts) - 1 - int(self.second[-1])

    @property
    def at_hand(self) -> bool:
        """Whether each packet can be had without reading those before it."""
        return self.packets is not None or self.samples is not None

    @property
    def trusted(self) -> bool:
        """Whether each shown packet is known to be one frame with a time of its own."""
        return self.doubt is None

    @property
    def presented_frames(self) -> int:
        """The number of packets that are shown."""
        return int((~self.hidden).sum())

    @property
    def clock(self) -> npt.NDArray[np.int64]:
        """What tells the order of showing of each packet, int64 (n,): its time, or its rank."""
        return self.pts if self.rank is None else self.rank

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Packet numbers of the shown frames in presentation order, int64.

        That is the order of their times, part by part where the clock goes back.
        """
        shown = np.flatnonzero(~self.hidden)
        if len(self.joints):
            part = np.searchsorted(self.joints, shown, side="right")
            return shown[np.lexsort((self.pts[shown], part))]
        return shown[np.argsort(self.clock[shown], kind="stable")]


@dataclass
class _Reading:
    """What has been read of a stream's packets.

    Attributes:
        parse: The parser of their bitstream.
        extradata: The container's description of the stream.
        pts: The time of each packet, `NO_TIME` for one without.
        key: 1 for each packet that the container marks as a keyframe, else 0.
        hidden: 1 for each packet that the container does not present, else 0.
        facts: What the bitstream of the packets tells, batch by batch; of their parameter sets
            only those that are not the container's.
        batch: Packets that are not parsed yet.
        batch_bytes: Their bytes.
        kept: All packets; None once they are too large to keep.
        kept_bytes: Bytes of all packets.
        pts_missing: Whether a packet has no time.
        latest: The last two packets.
        corrupt: The numbers of packets that FFmpeg marks as corrupt.
        parameters_change: Whether the container changes the decoder's parameters.
        encrypted: Whether a packet is encrypted.
    """

    parse: PacketParser
    extradata: bytes
    pts: array[int] = field(default_factory=lambda: array("q"))
    key: bytearray = field(default_factory=bytearray)
    hidden: bytearray = field(default_factory=bytearray)
    facts: list[PacketFacts] = field(default_factory=list)
    batch: list[Packet[VideoStream]] = field(default_factory=list)
    batch_bytes: int = 0
    kept: list[Packet[VideoStream]] | None = field(default_factory=list)
    kept_bytes: int = 0
    pts_missing: bool = False
    latest: list[Packet[VideoStream]] = field(default_factory=list)
    corrupt: list[int] = field(default_factory=list)
    parameters_change: bool = False
    encrypted: bool = False

    def parse_batch(self) -> None:
        """Take in the packets of the batch, all at once: one by one takes twice the time."""
        batch = self.batch
        if not batch:
            return
        kinds = set(_side_data(batch))
        self.encrypted |= "encryption_info" in kinds
        self.parameters_change |= not kinds.isdisjoint(("new_extradata", "palette"))
        times = [packet.pts for packet in batch]
        self.pts_missing |= None in times
        if any(corrupt := [packet.is_corrupt for packet in batch]):
            self.corrupt += [len(self.pts) + n for n, marked in enumerate(corrupt) if marked]
        self.pts.extend([NO_TIME if time is None else time for time in times])
        self.key.extend([packet.is_keyframe for packet in batch])
        self.hidden.extend([packet.is_discard for packet in batch])
        joined = b"".join(batch)  # each is a buffer of its bytes
        sizes = [packet.size for packet in batch]
        together = PacketBytes.joined(joined, sizes)
        self.facts.append(facts_of(together, self.parse, self.extradata))
        self.kept_bytes += len(joined)
        if self.kept is not None:
            self.kept += batch
            if self.kept_bytes > MAX_PACKET_BYTES or len(self.kept) > MAX_PACKETS:
                self.kept = None
        self.latest = [*self.latest, *batch][-2:]
        self.batch, self.batch_bytes = [], 0


def read_packet_index(
    path: Path,
    stream: VideoStream,
    packets: Iterator[Packet[VideoStream]],
    limits: Limits,
    *,
    leaps: bool = False,
) -> PacketIndex:
    """Read every packet of a stream once.

    Args:
        path: The file, for errors.
        stream: The stream.
        packets: Its packets that hold data, in file order.
        limits: Limits on reading it.
        leaps: Whether a leap ahead by half of a 33-bit clock is one back (`clock.find_joints`).

    Raises:
        VideoError: There are no packets, they are encrypted, or they exceed the limits.
    """
    import av

    codec = stream.codec_context.codec.canonical_name
    extradata = stream.codec_context.extradata or b""
    reading = _Reading(parser_for(codec, extradata, counts=True), extradata)
    damage: list[str] = []
    count = 0
    try:
        for packet in packets:
            if count == limits.frames:
                raise _too_many(path, limits)
            reading.batch.append(packet)
            reading.batch_bytes += packet.size
            count += 1
            if reading.batch_bytes >= BATCH_BYTES or len(reading.batch) == BATCH_PACKETS:
                reading.parse_batch()
                if reading.encrypted:
                    break
    except (av.error.FFmpegError, MemoryError) as error:
        damage.append(f"reading stopped after {count:,} frames ({ffmpeg_reason(error)})")
    if not count:
        raise VideoError(path, "its video stream holds no frames")
    reading.parse_batch()
    if reading.encrypted:
        raise VideoError(path, "its video stream is encrypted")
    if codec == "mjpeg" and [_has_end(bytes(jpeg)) for jpeg in reading.latest] == [True, False]:
        reading.corrupt.append(count - 1)  # which no decoder reports
    raw_pts, facts = np.array(reading.pts, np.int64), PacketFacts.joined(reading.facts)
    pts, second, whole = _joined_fields(raw_pts, facts)
    timeless = reading.pts_missing and bool((raw_pts == NO_TIME).all())
    pts_missing = reading.pts_missing and bool((raw_pts == NO_TIME)[~second].any())
    joints, rank, kept = np.zeros(0, np.int64), None, reading.kept
    packed = bool(facts.packed.any()) and not bool(facts.ambiguous.any())
    if packed:
        rank = order_by_type(facts.bidirectional)
        kept = None if kept is None else list(unpacked(kept, stream))
    elif whole and facts.counts is not None and (timeless or _in_coding_order(pts, facts, second)):
        rank = picture_order(facts.counts, second)
    if not pts_missing:
        joints = _joints(pts, facts, leaps=leaps)
        check_limits(path, pts, joints, stream, limits)
    return PacketIndex(
        pts=pts,
        key=np.frombuffer(reading.key, np.bool_),
        hidden=np.frombuffer(reading.hidden, np.bool_) | ~facts.shown,
        entry=facts.entry,
        droppable=facts.droppable & (facts.layer == facts.layer.max()),
        second=second,
        packets=kept,
        doubt=_reason_to_doubt(
            pts if rank is None else rank,
            facts,
            second,
            joined=bool(len(joints)),
            pts_missing=rank is None and pts_missing,
            parameters_change=reading.parameters_change,
        ),
        whole=whole,
        countable=not facts.ambiguous.any(),
        damage=tuple(damage),
        corrupt=np.array(reading.corrupt, np.int64),
        joints=joints,
        notes=_notes(pts if rank is None else rank, facts),
        rank=rank,
        timeless=timeless,
        fields=_has_fields(facts),
        packed=packed,
    )


def unpacked(
    packets: Iterable[Packet[VideoStream]], stream: VideoStream
) -> Iterator[Packet[VideoStream]]:
    """Yield packets of one picture each, where DivX has packed two into one.

    Args:
        packets: All packets of the stream, in file order.
        stream: The stream.
    """
    from av.bitstream import BitStreamFilterContext

    unpack = BitStreamFilterContext("mpeg4_unpack_bframes", stream)
    for packet in packets:
        yield from unpack.filter(packet)


def _has_end(jpeg: bytes) -> bool:
    """Return whether there is an end behind the start of a JPEG's last scan."""
    return jpeg.rfind(b"\xff\xd9") > jpeg.rfind(b"\xff\xda")


def leading_packets(
    pts: npt.NDArray[np.int64], entry: npt.NDArray[np.int8]
) -> npt.NDArray[np.int64]:
    """Return the numbers of the packets, int64, that are shown before the entry at the very start.

    They may depend on pictures before it, which a cut has left out.
    """
    if entry[0] != OPEN_ENTRY:
        return np.zeros(0, np.int64)
    return np.flatnonzero(pts[: first_group(entry)] < pts[0])


def packets_before_start(
    pts: npt.NDArray[np.int64], entry: npt.NDArray[np.int8]
) -> npt.NDArray[np.int64]:
    """Return the numbers of the packets, int64, that cannot be decoded where no entry is the first.

    They are those in front of it, and those after it that are shown before it.
    """
    entries = np.flatnonzero(entry != NO_ENTRY)
    if not len(entries) or not entries[0]:
        return np.zeros(0, np.int64)
    first = int(entries[0])
    leading = first + leading_packets(pts[first:], entry[first:])
    return np.concatenate([np.arange(first), leading])


def first_group(entry: npt.NDArray[np.int8]) -> int:
    """Return the number of packets before the second entry."""
    entries = np.flatnonzero(entry != NO_ENTRY)
    return int(entries[1]) if len(entries) > 1 else len(entry)


def index_samples(
    samples: SampleTable, stream: VideoStream, limits: Limits, *, leaps: bool = False
) -> PacketIndex | None:
    """Return the index of the packets in a file's own table, of which only the bytes are read.

    None where the table has no decoding times, and packets are doubtful or are keyframes though the
    file calls them none, or the reverse: FFmpeg, which reads more of them, decides.

    Args:
        samples: The table.
        stream: The stream.
        limits: Limits on reading it.
        leaps: As of `read_packet_index`.

    Raises:
        VideoError: They exceed the limits.
        OSError: The file cannot be read.
    """
    path = samples.path
    if len(samples) > limits.frames:
        raise _too_many(path, limits)
    facts = samples.facts
    if facts is None:
        extradata = stream.codec_context.extradata or b""
        parse = parser_for(stream.codec_context.codec.canonical_name, extradata, counts=False)
        batches = samples.batches(BATCH_PACKETS, BATCH_BYTES)
        facts = PacketFacts.joined([facts_of(batch, parse, extradata) for batch in batches])
        differs = facts.ambiguous | (samples.key != (facts.entry != NO_ENTRY))
        if not samples.dated and bool(differs.any()):
            return None
    pts, second, whole = _joined_fields(samples.pts, facts)
    in_coding_order = samples.facts is not None and _in_coding_order(pts, facts, second)
    if in_coding_order or bool(facts.packed.any()):
        return None
    joints = _joints(pts, facts, leaps=leaps)
    check_limits(path, pts, joints, stream, limits)
    return PacketIndex(
        pts=pts,
        key=samples.key,
        hidden=~facts.shown,
        entry=facts.entry,
        droppable=facts.droppable & (facts.layer == facts.layer.max()),
        second=second,
        packets=None,
        doubt=_reason_to_doubt(
            pts, facts, second, joined=bool(len(joints)), pts_missing=False, parameters_change=False
        ),
        whole=whole,
        countable=not facts.ambiguous.any(),
        damage=(),
        corrupt=np.zeros(0, np.int64),
        joints=joints,
        notes=_notes(pts, facts),
        samples=samples,
        fields=_has_fields(facts),
    )


def _joined_fields(
    pts: npt.NDArray[np.int64], facts: PacketFacts
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], bool]:
    """Find the packets that are fields, of which two are one frame.

    In `facts` the second one is no start, is not shown, and is droppable where the first one is.

    Args:
        pts: int64 (n,), the time of each packet.
        facts: What the packets tell.

    Returns:
        The times, those of second fields that of the first; which packets are second fields, (n,);
        and whether each packet is known to be a frame or one of its fields, by parameters that are
        the container's.
    """
    second = None if facts.parameters else second_fields(facts.structure, facts.number)
    if second is None:
        return pts, np.zeros(len(pts), np.bool_), False
    if bool(second.any()):
        other = np.flatnonzero(second)
        first, pts = other - 1, pts.copy()
        pts[other] = pts[first]
        facts.shown[other], facts.entry[other] = False, NO_ENTRY
        facts.droppable[first] &= facts.droppable[other]
        facts.droppable[other] = facts.droppable[first]
    # Pictures that lead the first keyframe may not be decodable, which no count shows of fields.
    leading = facts.entry[0] == OPEN_ENTRY and bool((pts < pts[0])[facts.shown].any())
    return pts, second, not leading


def _has_fields(facts: PacketFacts) -> bool:
    return bool(np.isin(facts.structure, (TOP_FIELD, BOTTOM_FIELD, BOTH_FIELDS)).any())


def _notes(pts: npt.NDArray[np.int64], facts: PacketFacts) -> tuple[str, ...]:
    """Return what is worth knowing of pictures that are left out at the start."""
    leading = leading_packets(pts, facts.entry)
    count = int((~facts.shown[leading]).sum())
    return (LEADING_NOTE.format(count),) if count else ()


def _joints(
    pts: npt.NDArray[np.int64], facts: PacketFacts, *, leaps: bool
) -> npt.NDArray[np.int64]:
    reordered = bool(facts.bidirectional.any())
    return find_joints(pts, facts.shown, facts.entry, reordered=reordered, leaps=leaps)


def check_limits(
    path: Path,
    pts: npt.NDArray[np.int64],
    joints: npt.NDArray[np.int64],
    stream: VideoStream,
    limits: Limits,
) -> None:
    """Raise LimitExceeded if a stream has more frames than the limits allow, or lasts longer."""
    if len(pts) > limits.frames:
        raise _too_many(path, limits)
    seconds = float(duration(pts, joints)) * float(stream.time_base or 0)
    if seconds > limits.seconds:
        reason = f"lasts {seconds:,.6g} s, the limit is {limits.seconds:,.10g} s"
        raise LimitExceeded(path, reason, "--max-duration")


def _too_many(path: Path, limits: Limits) -> LimitExceeded:
    reason = f"more than {limits.frames:,} frames, the limit"
    return LimitExceeded(path, reason, "--max-duration")


def _side_data(packets: list[Packet[VideoStream]]) -> Iterator[str]:
    """Yield the kinds of side data that packets have, without those that PyAV has no name for."""
    for packet in packets:
        for data in packet.iter_sidedata():
            with suppress(IndexError):
                yield data.data_type


def _in_coding_order(
    pts: npt.NDArray[np.int64], facts: PacketFacts, second: npt.NDArray[np.bool_]
) -> bool:
    """Return whether times grow from frame to frame though they are shown in another order."""
    return bool((np.diff(pts[~second]) > 0).all()) and bool(facts.bidirectional.any())


def _reason_to_doubt(
    pts: npt.NDArray[np.int64],
    facts: PacketFacts,
    second: npt.NDArray[np.bool_],
    *,
    joined: bool,
    pts_missing: bool,
    parameters_change: bool,
) -> str | None:
    """Return why the packets do not tell which frames are shown in what order; None if they do."""
    if bool(facts.ambiguous.any()):
        return "packets that may not be one frame each"
    if pts_missing:
        return "packets without a timestamp"
    if joined:
        return "the clock goes back in mid-file"
    of_frames = pts[~second]
    growing = bool((np.diff(of_frames) > 0).all())
    if not growing and bool((np.diff(np.sort(of_frames, kind="stable")) == 0).any()):
        return "several packets with the same timestamp"
    if _in_coding_order(pts, facts, second):
        return "timestamps in decoding order in a stream that is shown in another order"
    has_entry = facts.entry != NO_ENTRY
    if not has_entry[0] and bool(has_entry.any()):
        return "it starts in the middle of a group of pictures"
    leading = leading_packets(pts, facts.entry)
    if bool(facts.shown[leading].any()):
        return "it starts with pictures that may need earlier ones"
    # Parameters must be the same wherever decoding starts, and change nowhere else.
    changed = facts.parameters
    at_entries = {sets for number, sets in changed.items() if has_entry[number]}
    if int(has_entry.sum()) > sum(bool(has_entry[number]) for number in changed):
        at_entries.add(())
    elsewhere = {sets for number, sets in changed.items() if not has_entry[number]}
    if parameters_change or len(at_entries) > 1 or elsewhere - at_entries:
        return "the decoder's parameters change in mid-stream"
    return None
