"""What is known about files of unknown origin: `probe`, in a process that can be killed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.errors import HeliographError
from data.video.backends import DECODERS, REFERENCE
from data.video.decoder_pool import TIMEOUT, DecoderEnded, DecoderPool, Outcome, ProbeJob
from data.video.frames import Limits
from data.video.info import VideoInfo
from data.video.reader import UNCHECKED


def probe_files(
    paths: Iterable[Path], *, decode: bool = True, limits: Limits | None = None
) -> Iterator[VideoInfo | HeliographError]:
    """Yield for each file what is known about it, or the reason why nothing is.

    Args:
        paths: The files.
        decode: Decode them, as `probe` does.
        limits: Limits on reading each; None for those in force.

    A decoder that crashes on a file is named as such next to the others; a file that takes too long
    to decode is described from what its container says.
    """
    with DecoderPool(workers=1) as pool:
        for path in paths:
            yield _probe(pool, path, decode, limits or Limits.in_force())


def _probe(
    pool: DecoderPool, path: Path, decode: bool, limits: Limits
) -> VideoInfo | HeliographError:
    def look(**arguments: Any) -> Outcome:
        return next(pool.map([ProbeJob(path=path, limits=limits, **arguments)]))

    whole = look(decode=decode)
    if not decode or not isinstance(whole.error, DecoderEnded):
        return _result(whole)
    if whole.error.reason.startswith(TIMEOUT):
        info = look(decode=False).info
        if info is None:
            return whole.error
        note = f"not decoded, which takes more than {limits.wall_seconds:g} s"
        return replace(info, notes=(*(n for n in info.notes if n != UNCHECKED), note))
    reference = look(decoders=())
    if reference.info is None:
        return _result(reference)
    agreement = {}
    for name in DECODERS:
        if name != REFERENCE:
            compared = _result(look(decoders=[name]))
            agreement[name] = (
                compared.agreement[name]
                if isinstance(compared, VideoInfo)
                else getattr(compared, "reason", str(compared))
            )
    return replace(reference.info, agreement=agreement)


def _result(outcome: Outcome) -> VideoInfo | HeliographError:
    result = outcome.info or outcome.error
    assert result is not None
    return result
