"""Messages for new clips, and what their symbols mean.

`load(run)(path)` gives the `Message` for a video: tokens, confidence, a gloss from the run's
`Lexicon`, and how far the clip is from the training data.
"""

from pipeline.message.lexicon import Lexicon, Meaning, Position, load_lexicon, write_lexicon
from pipeline.message.speaker import Message, Speaker, load, messages_for
from pipeline.message.wording import BANDS, PropertyWording, wording_for

__all__ = [
    "BANDS",
    "Lexicon",
    "Meaning",
    "Message",
    "Position",
    "PropertyWording",
    "Speaker",
    "load",
    "load_lexicon",
    "messages_for",
    "wording_for",
    "write_lexicon",
]
