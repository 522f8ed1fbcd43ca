"""Messages for new clips, and what their symbols mean.

`load(run)(path)` gives the `Message` for a video: tokens, confidence, a gloss from the run's
`Lexicon`, an estimate of each property from its `Readout`, and how far the clip is from the
training data.
"""

from pipeline.message.calibration import (
    LEVEL,
    SpokenClips,
    Witnesses,
    band_chances,
    band_edges,
    reads_logarithms,
    to_scores,
    witnesses_of,
)
from pipeline.message.lexicon import Lexicon, Meaning, Position, load_lexicon, write_lexicon
from pipeline.message.readout import (
    PropertyReadout,
    Reading,
    Readout,
    load_readout,
    write_readout,
)
from pipeline.message.speaker import Message, Speaker, load, messages_for
from pipeline.message.wording import BANDS, PropertyWording, wording_for

__all__ = [
    "BANDS",
    "LEVEL",
    "Lexicon",
    "Meaning",
    "Message",
    "Position",
    "PropertyReadout",
    "PropertyWording",
    "Reading",
    "Readout",
    "Speaker",
    "SpokenClips",
    "Witnesses",
    "band_chances",
    "band_edges",
    "load",
    "load_lexicon",
    "load_readout",
    "messages_for",
    "reads_logarithms",
    "to_scores",
    "witnesses_of",
    "wording_for",
    "write_lexicon",
    "write_readout",
]
