"""The guard against leaks: what is refused before training, and what is marked where it is allowed.

Clips of different objects that are one clip, or look like one, make the best result of all: the
test clips were in training. They are refused, or, with `--allow-leaks`, named with the accuracies.
"""

from __future__ import annotations

from collections.abc import Sequence

from data.cache import Features
from data.errors import HeliographError
from pipeline.dataset import Examples, Lookalikes, RunInputs, Split, unite_objects
from pipeline.runs.metrics_schema import Leaks

NAMED = 3  # pairs in a sentence
WAY_OUT = (
    "give clips of one thing one object (heliograph cache label CACHE TABLE), or go on with "
    "--allow-leaks"
)


def settle_objects(inputs: RunInputs, *, allow_leaks: bool) -> tuple[RunInputs, str, list[str]]:
    """Give clips of equal content one object.

    Args:
        inputs: What a run reads.
        allow_leaks: Accept clips of equal content whose given objects differ.

    Returns:
        The inputs; a sentence about clips that have another object now, or ""; and the clips of
        equal content that were accepted, in words.

    Raises:
        HeliographError: Two given objects differ.
    """
    inputs, found = unite_objects(inputs)
    pairs = {one.later.clip: str(one) for one in found.contradictions}
    if pairs and not allow_leaks:
        names = " and ".join(str(source.path) for source in inputs.sources)
        raise HeliographError(
            f"{names}: {_count(len(pairs), 'clip has', 'clips have')} the content of a clip of "
            f"another object: {_some(list(pairs.values()))}; {WAY_OUT}"
        )
    return inputs, found.note, list(pairs.values())


def find_leaks(
    clips: Features,
    examples: Examples,
    splits: Sequence[Split],
    same_content: Sequence[str] = (),
    *,
    allow_leaks: bool,
) -> Leaks | None:
    """Look for near-duplicates of different objects in different parts of a split.

    Args:
        clips: Ids, and thumbnails if there are any.
        examples: Features and objects of the same clips.
        splits: Of every seed.
        same_content: What `settle_objects` accepted.
        allow_leaks: Accept what is found.

    Returns:
        What was accepted; None where there is nothing.

    Raises:
        HeliographError: There is something, and it is not to be accepted.
    """
    lookalikes = Lookalikes.of(examples, clips)
    found = lookalikes.across_all(splits)
    pairs = [
        f"{clips.clip_id[pair.clip]!r} (object {examples.objects[pair.clip]!r}) and "
        f"{clips.clip_id[pair.other]!r} (object {examples.objects[pair.other]!r}), "
        f"cosine {pair.cosine:.3f}"
        for pair in found
    ]
    if pairs and not allow_leaks:
        raise HeliographError(
            f"{_count(len(pairs), 'pair', 'pairs')} of clips of different objects look the same "
            f"(cosine of at least {lookalikes.bound:.3f}, or equal pictures) and are in different "
            f"parts of a split: {_some(pairs)}; "
            f"{WAY_OUT}"
        )
    return leaks_of(same_content, pairs)


def leaks_of(same_content: Sequence[str], near_duplicates: Sequence[str]) -> Leaks | None:
    """Return the record of what was accepted, both in words; None where there is nothing."""
    if not same_content and not near_duplicates:
        return None
    return Leaks(
        same_content=len(same_content),
        near_duplicates=len(near_duplicates),
        examples=[*same_content[:NAMED], *near_duplicates[:NAMED]],
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _some(pairs: Sequence[str]) -> str:
    more = f"; and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
    return "; ".join(pairs[:NAMED]) + more
