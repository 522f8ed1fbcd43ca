"""The packets of a program stream: where they are and when they are shown.

What is not simple is left to FFmpeg: packets without a time, headers that it may read in another
way, streams that begin in mid-file, damage, and packets that are not one picture each.

Source: ISO/IEC 13818-1, 2.5.3 (packs), 2.4.3.6 (PES packets); ISO/IEC 11172-1, 2.4.3 (both of
MPEG-1); FFmpeg 8, libavformat/mpeg.c (what it reads), libavcodec/parser.c (whose time is whose).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.video.pyav.nal_units import Bytes, PacketBytes, Places, start_codes
from data.video.pyav.packets import PacketFacts
from data.video.pyav.sample_tables.access_units import SHORT_CODE, CutPackets, Flags, cuts_of
from data.video.pyav.sample_tables.pes import (
    FAR,
    NEAR,
    ROUND,
    SECOND,
    TIME_BYTES,
    times,
    unrolled,
)
from data.video.pyav.sample_tables.program_table import (
    END,
    LENGTH_BYTES,
    PACK,
    PACK_BYTES,
    ProgramTable,
)
from data.video.pyav.sample_tables.table import UnusualTable

if TYPE_CHECKING:
    from av.video.stream import VideoStream

# So much of a file is read at a time, and so much may be left of one picture.
BATCH_BYTES = 4 << 20
MOST_PICTURE_BYTES = 64 << 20
# The most bytes of a PES packet or pack, and of what follows a start code that is looked at.
MOST_BYTES = LENGTH_BYTES + 0xFFFF
_BEHIND_CODE = 16
# Of MPEG-1's packets: bytes of 255 before the rest of a header.
_MOST_STUFFING = 16
NO_TIME = -1

_SYSTEM, _MAP, _PRIVATE_1, _PRIVATE_2, _EXTENDED = 0x1BB, 0x1BC, 0x1BD, 0x1BF, 0x1FD
# What FFmpeg keeps of the latest pieces, to know whose time is whose.
_PIECES_KEPT = 4
# Of MPEG's video: headers that tell the rate of frames.
_SEQUENCE, _EXTENSION = 0xB3, 0xB5


def find_samples(path: Path, stream: VideoStream, fewest: int) -> ProgramTable:
    """Return the packets of a stream as a table of samples.

    Args:
        path: The file.
        stream: Its stream.
        fewest: Fewest packets that make a table.

    Raises:
        UnusualTable: There are fewer, or they are not simple.
        OSError: The file cannot be read.
    """
    cut = CutPackets(stream)
    if stream.id >> 4 != 0x1E or _told_frames(stream) < fewest:
        raise UnusualTable
    with open(path, "rb", buffering=0) as file:
        packets = _Packets(file.fileno(), stream, cut)
    position = np.concatenate(packets.position)
    if len(position) < fewest:
        raise UnusualTable
    return ProgramTable(
        path,
        position=position,
        size=np.concatenate(cut.size).astype(np.int32),
        pts=packets.shown(stream),
        key=np.concatenate(cut.key),
        facts=PacketFacts.joined(cut.facts),
        left=np.concatenate(packets.left).astype(np.int32),
        stream=stream.id & 0xFF,
        end=packets.end,
    )


def _told_frames(stream: VideoStream) -> float:
    """Return about how many frames there are, by the times at the start and the end of the file."""
    seconds = float((stream.duration or 0) * (stream.time_base or 0))
    return seconds * float(stream.average_rate or 0)


@dataclass(frozen=True)
class _Pieces:
    """The payloads of PES packets; all arrays are int64 (n,).

    Attributes:
        place: Where each begins in the file.
        size: Its bytes.
        pts: When what begins in it is shown; `NO_TIME` where it does not say.
        dts: When that is decoded.
        offset: Where it begins in the stream.
    """

    place: Places
    size: Places
    pts: Places
    dts: Places
    offset: Places

    def __getitem__(self, chosen: slice) -> _Pieces:
        return _Pieces(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def __add__(self, other: _Pieces) -> _Pieces:
        both = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return _Pieces(*(np.concatenate(arrays) for arrays in both))

    def holding(self, byte: Places) -> Places:
        """Return in which piece each byte of the stream is."""
        return np.searchsorted(self.offset, byte, side="right") - 1


class _Program:
    """A file of packs and PES packets.

    Attributes:
        first: The first time that is in it; `NO_TIME` before one is read.
    """

    def __init__(self, file: int, stream: VideoStream) -> None:
        self._file, self._size = file, os.fstat(file).st_size
        self._wanted = stream.id & 0xFF
        self._known = np.zeros(0x200, np.bool_)
        self._known[[other.id for other in stream.container.streams if other.id < 0x200]] = True
        self._seen_private_2 = False
        self.first = NO_TIME

    def batches(self) -> Iterator[tuple[list[memoryview], _Pieces, Places]]:
        """Yield the payloads of the stream's packets, what is known of each, and the start codes.

        The bytes are valid until the next batch. Codes that lie in two payloads are left out.

        Raises:
            UnusualTable: FFmpeg may read the file in another way.
        """
        buffer, at, offset = bytearray(BATCH_BYTES + MOST_BYTES), 0, 0
        view, data = memoryview(buffer), np.frombuffer(buffer, np.uint8)
        while at < self._size:
            size = os.preadv(self._file, [view[:BATCH_BYTES]], at)
            view[size : size + _BEHIND_CODE * 2] = bytes(_BEHIND_CODE * 2)
            codes = start_codes(data[:size])
            head, end, read = self._chain(data, codes, size, first=at == 0)
            if not read or (at + size >= self._size and read < size):
                raise UnusualTable  # the file has become shorter, or ends in a packet
            begin, end, pts, dts = self._payloads(data, head, end)
            ends = np.cumsum(end - begin)
            pieces = _Pieces(at + begin, end - begin, pts, dts, offset + ends - (end - begin))
            owner = np.searchsorted(begin, codes, side="right") - 1
            inside = (owner >= 0) & (codes + SHORT_CODE <= end[owner])
            codes, owner = codes[inside], owner[inside]
            content = [view[a:b] for a, b in zip(begin.tolist(), end.tolist(), strict=True)]
            yield content, pieces, codes - begin[owner] + pieces.offset[owner]
            at, offset = at + read, offset + int((end - begin).sum())

    def _chain(
        self, data: Bytes, codes: Places, size: int, *, first: bool
    ) -> tuple[Places, Places, int]:
        """Return where packets and packs begin and end, and where the last whole one ends."""
        kind = data[codes + SHORT_CODE].astype(np.int64) | 0x100
        number = np.flatnonzero(kind >= END)
        head, kind = codes[number], kind[number]
        if not len(head) or (head[0] > 0 and not first):
            raise UnusualTable
        end = head + LENGTH_BYTES + _length(data, head)
        packs = np.flatnonzero(kind == PACK)
        end[packs] = head[packs] + _pack_length(data, head[packs])
        end[kind == END] = head[kind == END] + 4
        # What looks like a header may lie in the payload of another packet.
        following = np.searchsorted(head, end)
        found = head[np.minimum(following, len(head) - 1)] == end
        breaks = np.flatnonzero(~found | (following != np.arange(1, len(head) + 1)))
        chain, at = [], 0
        while True:
            last = int(breaks[np.searchsorted(breaks, at)])
            chain.append(np.arange(at, last + 1))
            if not found[last]:
                break
            at = int(following[last])
        chosen = np.concatenate(chain)
        if end[last] + 4 <= size:
            raise UnusualTable
        if end[last] > size or (kind[last] == PACK and head[last] + PACK_BYTES[1] > size):
            chosen, read = chosen[:-1], int(head[last])
        else:
            read = int(end[last])
        head, end, kind, number = head[chosen], end[chosen], kind[chosen], number[chosen]
        # FFmpeg does not know how long these are, but looks for the next start code.
        scanned = (kind == PACK) | (kind == _SYSTEM) | ((kind > 0x1EF) & (kind != _EXTENDED))
        if bool((np.searchsorted(codes, end[scanned]) != number[scanned] + 1).any()):
            raise UnusualTable
        return head, end, read

    def _payloads(
        self, data: Bytes, head: Places, end: Places
    ) -> tuple[Places, Places, Places, Places]:
        """Return where the payloads of the stream begin and end, with their times."""
        kind = data[head + SHORT_CODE].astype(np.int64) | 0x100
        for place in head[kind == _MAP].tolist():
            _check_map(data[place : place + MOST_BYTES].tobytes())
        self._check_private_2(_length(data, head[kind == _PRIVATE_2]))
        is_packet = (kind == _PRIVATE_1) | ((kind >= 0x1C0) & (kind <= 0x1EF))
        if bool((kind == _EXTENDED).any()):
            raise UnusualTable
        head, end, kind = head[is_packet], end[is_packet], kind[is_packet]
        begin, pts, dts = _headers(data, head, end)
        private = np.flatnonzero(kind == _PRIVATE_1)
        if bool((begin[private] + 1 >= end[private]).any()):
            raise UnusualTable
        kind[private] = data[begin[private]]
        raw = (kind[private] == 0x0B) & (data[begin[private] + 1] == 0x77)  # AC-3 without a number
        kind[private[raw]] = 0x80
        if not bool(self._known[kind].all()) or bool((kind == 0xFF).any()):
            raise UnusualTable
        timed = np.flatnonzero(pts != NO_TIME)
        if self.first == NO_TIME and len(timed):
            self.first = int(dts[timed[0]])
        chosen = (kind == 0x100 | self._wanted) & (end > begin)
        return begin[chosen], end[chosen], pts[chosen], dts[chosen]

    def _check_private_2(self, length: Places) -> None:
        """Raise UnusualTable if FFmpeg may make a stream of a DVD's navigation only later."""
        if len(length) and not self._seen_private_2:
            self._seen_private_2 = True
            if int(length[0]) in (980, 1018) and not self._known[_PRIVATE_2]:
                raise UnusualTable


def _length(data: Bytes, head: Places) -> Places:
    """Return the length that each packet says to have."""
    return data[head + 4].astype(np.int64) << 8 | data[head + 5]


def _pack_length(data: Bytes, head: Places) -> Places:
    """Return the bytes of the headers of packs."""
    newer = data[head + 4] >> 6 == 1
    return np.where(newer, PACK_BYTES[1] + (data[head + 13] & 7), PACK_BYTES[0]).astype(np.int64)


def _check_map(data: bytes) -> None:
    """Raise UnusualTable if FFmpeg finds another end of a map of streams than it says (2.5.4)."""
    length, of_program = (int.from_bytes(data[at : at + 2], "big") for at in (4, 8))
    left, at = length - of_program - 10, 12 + of_program
    while left >= 4:
        of_stream = 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        left, at = left - of_stream, at + of_stream
    if left:
        raise UnusualTable


def _headers(data: Bytes, head: Places, end: Places) -> tuple[Places, Places, Places]:
    """Return where the payloads of PES packets begin, and their times.

    Raises:
        UnusualTable: A header is not as it has to be.
    """
    begin = head + LENGTH_BYTES
    newer = data[begin] >> 6 == 2
    older = np.flatnonzero(~newer)
    place, kind = begin + 3, data[begin + 1] >> 6
    marks = data[begin + 1] & 0x3F
    begin += 3 + data[begin + 2].astype(np.int64)
    if len(older):
        place[older], kind[older], begin[older] = _older_headers(data, head[older])
        marks[older] = 0
    needed = np.where(kind == 3, 2 * TIME_BYTES, np.where(kind == 2, TIME_BYTES, 0))
    extended = (marks & 1 != 0) & (begin > place + needed)
    unusual = (begin > end) | (place + needed > begin) | (kind == 1)
    if bool((unusual | (extended & (data[place + needed] & 1 != 0))).any()):
        raise UnusualTable
    timed = np.flatnonzero(kind >= 2)
    fields = data[place[timed, None] + np.arange(2 * TIME_BYTES)].astype(np.int64)
    pts, dts = np.full(len(head), NO_TIME), np.full(len(head), NO_TIME)
    pts[timed] = times(fields)
    dts[timed] = np.where(kind[timed] == 3, times(fields[:, TIME_BYTES:]), pts[timed])
    apart = np.minimum((pts - dts) % ROUND, (dts - pts) % ROUND)
    if bool((apart >= FAR).any()):
        raise UnusualTable
    return begin, pts, dts


def _older_headers(data: Bytes, head: Places) -> tuple[Places, Bytes, Places]:
    """Return where the times of MPEG-1's packets are, which there are, and where payloads begin."""
    place = head + LENGTH_BYTES
    stuffing = data[place[:, None] + np.arange(_MOST_STUFFING + 1)] == 0xFF
    place = place + np.argmin(stuffing, axis=1)
    place += 2 * (data[place] >> 6 == 1)
    kind = data[place] >> 4
    if bool(stuffing.all(axis=1).any() or ((data[place] != 0x0F) & (kind >> 1 != 1)).any()):
        raise UnusualTable
    return place, kind * (kind >> 1), place + np.where(kind == 0, 1, np.where(kind == 2, 5, 10))


class _Packets:
    """The packets of one stream, read from the first to the last.

    Attributes:
        position: Where the first byte of each lies, batch by batch.
        left: How many bytes of its first piece there are from there on.
        end: Where the last piece ends.
    """

    def __init__(self, file: int, stream: VideoStream, cut: CutPackets) -> None:
        self._cut, self._of_pictures = cut, cut.codec.startswith("mpeg")
        none = np.zeros(0, np.int64)
        # What is not taken in yet: bytes, where these begin in the stream, codes in them, pieces.
        self._open, self._base, self._codes = np.zeros(0, np.uint8), 0, none
        self._pieces, self._numbers = _Pieces(*[none] * 5), 1
        # Of the packet with which the bytes begin, by which byte FFmpeg saw that it begins.
        self._seen, self._before, self._claimed = 0, -1, 0
        self._taken: set[int] = set()  # pieces whose times an unusual picture before has taken
        self.position: list[Places] = []
        self.left: list[Places] = []
        # Of each packet its times, and those of the piece in which FFmpeg sees its end.
        self._times: list[Places] = []
        self._rates: set[int] = set()
        self._repeats = False
        program = _Program(file, stream)
        for content, pieces, codes in program.batches():
            self._take(content, pieces, codes)
        self._first = program.first
        self.end = int(self._pieces.place[-1] + self._pieces.size[-1]) if len(self._open) else 0
        self._divide(last=True)

    def shown(self, stream: VideoStream) -> Places:
        """Return when the packets of the stream are shown, in ticks as FFmpeg counts them."""
        ticks = np.concatenate(self._times)
        first = int(ticks[0, 0])
        if first == NO_TIME or abs(first - self._first) > NEAR // 3:
            raise UnusualTable
        ticks = np.where(ticks == NO_TIME, NO_TIME, unrolled(ticks.clip(0), first))
        if not bool((ticks[:, 0] == NO_TIME).any()):
            return ticks[:, 0]
        rate = stream.codec_context.framerate
        if not self._of_pictures or stream.codec_context.has_b_frames != 1 or not rate:
            raise UnusualTable
        step = SECOND / rate
        if self._repeats or len(self._rates) > 2 or step.denominator > 1:
            raise UnusualTable
        bidirectional = np.concatenate([facts.bidirectional for facts in self._cut.facts])
        return _filled(ticks, bidirectional, int(step))

    def _take(self, content: list[memoryview], pieces: _Pieces, codes: Places) -> None:
        """Take in pieces of the stream."""
        begins = pieces.offset - self._base
        self._open = np.frombuffer(b"".join([self._open.data, *content]), np.uint8)
        self._pieces += pieces
        # Codes that lie in two pieces, or more of one byte.
        between = np.concatenate([begins - 2, begins - 1])
        between = between[(between >= 0) & (between + 2 < len(self._open))]
        three = self._open[between[:, None] + np.arange(3)]
        between = np.unique(between[(three == (0, 0, 1)).all(axis=1)])
        codes = np.concatenate([self._codes, codes - self._base])
        self._codes = np.insert(codes, np.searchsorted(codes, between), between)
        self._divide(last=False)
        if len(self._open) > MOST_PICTURE_BYTES:
            raise UnusualTable

    def _divide(self, *, last: bool) -> None:
        """Divide the bytes into packets, and take in those that are complete."""
        data = self._open
        known = self._codes[self._codes + (6 if last else _BEHIND_CODE) <= len(data)]
        begins, seen = cuts_of(self._cut.codec, data, known)
        begins, seen = np.append(0, begins), np.append(self._seen - self._base, seen)
        ends = np.append(begins[1:], len(data))
        if not last:
            begins, ends = begins[:-1], ends[:-1]
        if not len(begins) or not len(data):
            return
        stop = int(ends[-1])
        inside = self._codes < stop
        codes = self._codes[inside]
        self._cut.take(PacketBytes(data[:stop], begins, ends, codes))
        base = self._base
        piece = self._pieces.holding(base + begins)
        into = base + begins - self._pieces.offset[piece]
        self.position.append(self._pieces.place[piece] + into)
        self.left.append(self._pieces.size[piece] - into)
        kind = data[np.minimum(codes + SHORT_CODE, stop - 1)]
        self._note_rates(data, codes[kind == _SEQUENCE], codes[kind == _EXTENSION])
        seen = np.append(base + seen, NO_TIME) if last else base + seen
        self._date(base + begins, seen, base + codes[kind == 0], base + stop)
        self._open, self._codes = data[stop:].copy(), self._codes[~inside] - stop
        self._base, self._seen = base + stop, int(seen[-1])
        self._before = base + int(begins[-1])
        done = max(int(self._pieces.holding(np.array([self._base]))[0]) - _PIECES_KEPT, 0)
        self._pieces, self._numbers = self._pieces[done:], self._numbers + done

    def _note_rates(self, data: Bytes, sequences: Places, extensions: Places) -> None:
        """Note what tells how long pictures are shown (ISO/IEC 13818-2, 6.2.2, 6.2.3.1)."""
        last = len(data) - 1
        kind = data[np.minimum(extensions + 4, last)] >> 4
        rates = data[np.minimum(sequences + 7, last)] & 0x0F
        further = data[np.minimum(extensions[kind == 1] + 9, last)] | 0x80
        self._rates |= {*np.unique(rates).tolist(), *np.unique(further).tolist()}
        self._repeats |= bool((data[np.minimum(extensions[kind == 8] + 7, last)] & 2).any())

    def _date(self, begins: Places, seen: Places, pictures: Places, stop: int) -> None:
        """Find out when packets are shown: whose time is whose.

        Args:
            begins: int64 (n,), where they begin in the stream.
            seen: (n + 1,), by which byte FFmpeg sees that, also of the packet after these.
            pictures: (n,), where the start code of each picture is, in MPEG-1 and MPEG-2.
            stop: Where the last one ends.
        """
        pieces = self._pieces
        before = np.append(self._before, begins[:-1])
        # What is cut behind the end of a sequence is seen at that end.
        cuts = pieces.holding(seen - (seen == np.append(begins, stop)))
        ends_in = np.where(cuts[1:] > cuts[:-1], cuts[1:], -1)
        seen = seen[:-1]
        piece = pieces.holding(seen)
        timed = pieces.offset[piece] > before
        pts = np.where(timed, pieces.pts[piece], NO_TIME)
        dts = np.where(timed, pieces.dts[piece], NO_TIME)
        if self._of_pictures:
            self._check_claims(begins, stop)
            end = pieces.offset[piece] + pieces.size[piece]
            plain = (pieces.offset[piece] <= begins) & (pictures + SHORT_CODE < end)
            after = np.append(bool(self._taken), ~plain[:-1])
            for n in np.flatnonzero(~plain | after).tolist():
                if not after[n]:
                    self._taken = set()
                found = self._dated(int(before[n]), int(begins[n]), int(seen[n]), int(pictures[n]))
                pts[n], dts[n] = found
            if plain[-1]:
                self._taken = set()
        following = (np.where(ends_in < 0, NO_TIME, t[ends_in]) for t in (pieces.pts, pieces.dts))
        self._times.append(np.stack([pts, dts, *following], axis=1))

    def _check_claims(self, begins: Places, stop: int) -> None:
        """Raise UnusualTable if a piece has a time, and no packet begins in it."""
        pieces = self._pieces
        whole = (pieces.offset >= self._claimed) & (pieces.offset + pieces.size <= stop)
        timed = np.flatnonzero(whole & (pieces.pts != NO_TIME))
        claimed = np.zeros(len(pieces.offset), np.bool_)
        claimed[pieces.holding(begins)] = True
        if not bool(claimed[timed].all()):
            raise UnusualTable
        self._claimed = int(pieces.offset[whole][-1]) + 1 if whole.any() else self._claimed

    def _dated(self, before: int, begin: int, seen: int, picture: int) -> tuple[int, int]:
        """Return the times of a picture whose headers lie in several pieces.

        FFmpeg looks twice, where the packet begins and at the picture's own code, among the latest
        pieces in an order that depends on how many there were.
        """
        pieces, found = self._pieces, (NO_TIME, NO_TIME)
        for at_picture, code in ((False, seen), (True, picture + SHORT_CODE)):
            newest = int(pieces.holding(np.array([code]))[0])
            start = max(begin, int(pieces.offset[newest]))
            at = picture if at_picture else start
            keeps = at_picture and picture > start
            if not keeps:
                found = NO_TIME, NO_TIME
            latest = range(max(newest - _PIECES_KEPT + 1, 0), newest + 1)
            for n in sorted(latest, key=lambda n: (self._numbers + n) % _PIECES_KEPT):
                offset, end = int(pieces.offset[n]), int(pieces.offset[n] + pieces.size[n])
                if not before < offset <= at or self._numbers + n in self._taken:
                    continue
                if not keeps or pieces.pts[n] != NO_TIME:
                    found = int(pieces.pts[n]), int(pieces.dts[n])
                if at_picture:
                    self._taken.add(self._numbers + n)
                if at < end:
                    break
        return found


def _filled(ticks: Places, bidirectional: Flags, step: int) -> Places:
    """Return when pictures are shown, also those without a time, as FFmpeg counts on.

    Args:
        ticks: int64 (n, 4), the times of each packet, `NO_TIME` for none: when it is shown and
            decoded; and those of the piece in which FFmpeg sees its end.
        bidirectional: (n,), whether it may be shown before packets that it follows.
        step: How long each is shown.

    Raises:
        UnusualTable: FFmpeg does not know a time either, or it is not known what it does.
    """
    if not 0 <= ticks[0, 1] < ticks[0, 0]:
        raise UnusualTable
    latest, clock = NO_TIME, NO_TIME  # the time of the latest picture that is not bidirectional
    shown, decoded = ticks[:, 0].tolist(), ticks[:, 1].tolist()
    following = zip(*ticks[:, 2:].T.tolist(), bidirectional.tolist(), strict=True)
    for number, (next_pts, next_dts, is_between) in enumerate(following):
        pts, dts = shown[number], decoded[number]
        if is_between and pts <= dts:
            pts = dts = clock if pts == NO_TIME else pts
            clock = pts + step
        else:
            if dts in (NO_TIME, pts):
                dts = latest if latest != NO_TIME else clock
            clock = dts + step
            if pts == NO_TIME != next_pts != next_dts and -1 <= clock - next_dts <= 1:
                pts = next_dts
            latest = pts
        shown[number], decoded[number] = pts, dts
    # What has no time yet is shown when the next picture of its kind is decoded.
    raw = shown.copy()
    for number in [n for n, pts in enumerate(shown) if pts == NO_TIME]:
        own = decoded[number]
        later = range(number + 1, len(shown))
        after = (n for n in later if (own - decoded[n]) % ROUND > ROUND >> 1)
        found = next((decoded[n] for n in after if raw[n] != decoded[n]), None)
        if found is None:
            last = [n for n in later if (own - decoded[n]) % ROUND > ROUND >> 1]
            found = decoded[last[-1]] + step if last else own + step
        shown[number] = found
    return np.array(shown, np.int64)
