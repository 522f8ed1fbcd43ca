"""Excerpts of what commands print, as pages show them."""

import doctest
import re

from pipeline.message.wording import ADJECTIVES

UNSURE = {"-", "–", "perhaps", *(f"any {name}" for name in ADJECTIVES)}
WORDS = UNSURE.union(*ADJECTIVES.values())
"""What the words of a message may be: another training, or another clip, has others."""

MASKED = re.compile(
    r"(?<![\w.])[-±]?\d+(,\d{3})*(\.\d+)?|(?<!\w)("
    + "|".join(map(re.escape, sorted(WORDS, key=len, reverse=True)))
    + r")(?!\w)"
)


def masked(text: str) -> str:
    """Return a text with # for numbers and for words of a clip, several of which are one."""
    return re.sub(r"#([ ,|%–]+#)*", "#", MASKED.sub("#", " ".join(text.split())))


def assert_printed(shown: str, printed: str) -> None:
    """Fail unless the excerpt that a page shows is in what was printed."""
    excerpt = f"...{masked(shown).strip('.')}..."
    same = doctest.OutputChecker().check_output(excerpt, masked(printed), doctest.ELLIPSIS)
    assert same, f"the page shows\n{shown}\nbut this is printed:\n{printed}"
