"""TODO"""

from pipeline.message.lexicon import Lexicon, Position, lexicon_of
from pipeline.message.speaker import Message, Speaker, load, speak_all
from pipeline.message.wording import BANDS, Words, words_for

__all__ = [
    "BANDS",
    "Lexicon",
    "Message",
    "Position",
    "Speaker",
    "Words",
    "lexicon_of",
    "load",
    "speak_all",
    "words_for",
]
