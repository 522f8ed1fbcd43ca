"""The right frames of a video file, and what is known about it.

`read` returns frames by index, `read_sampled` those that a `Sampling` picks, `probe` a `VideoInfo`
that `describe` prints. For files of unknown origin a `DecoderPool` and `probe_files` do the same in
processes that can be killed. `DECODERS` has a record for each file of `backends/`; PyAV (FFmpeg) is
the reference, and another decoder either returns the frames of the reference or raises
`CannotAgree`.
"""

from data.video.backends import DECODERS, Backend, CannotAgree, decoder_record, find_named, name_on
from data.video.decoder_pool import (
    KILLED,
    TIMEOUT,
    DecoderEnded,
    DecoderPool,
    Job,
    NotFetched,
    Outcome,
    WindowsJob,
)
from data.video.frames import FrameBatch, Limits, VideoError
from data.video.info import VideoInfo, describe
from data.video.probing import probe_files
from data.video.pyav import check_regular_file
from data.video.reader import probe, read, read_sampled
from data.video.sampling import SAMPLERS, Sampling
from data.video.window_reader import WindowFrames, read_windows

__all__ = [
    "DECODERS",
    "KILLED",
    "SAMPLERS",
    "TIMEOUT",
    "Backend",
    "CannotAgree",
    "DecoderEnded",
    "DecoderPool",
    "FrameBatch",
    "Job",
    "Limits",
    "NotFetched",
    "Outcome",
    "Sampling",
    "VideoError",
    "VideoInfo",
    "WindowFrames",
    "WindowsJob",
    "check_regular_file",
    "decoder_record",
    "describe",
    "find_named",
    "name_on",
    "probe",
    "probe_files",
    "read",
    "read_sampled",
    "read_windows",
]
