"""TODO"""

from data.video.decoder_pool import DecoderPool, Job, Outcome
from data.video.frames import FrameBatch, Limits, VideoInfo
from data.video.pyav import checked
from data.video.reader import DECODERS, CannotAgree, VideoError, describe, probe, read, read_sampled
from data.video.sampling import Sampling

__all__ = [
    "DECODERS",
    "CannotAgree",
    "DecoderPool",
    "FrameBatch",
    "Job",
    "Limits",
    "Outcome",
    "Sampling",
    "VideoError",
    "VideoInfo",
    "checked",
    "describe",
    "probe",
    "read",
    "read_sampled",
]
