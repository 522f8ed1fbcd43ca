"""Disentanglement of messages, by position (PosDis) and by bag of symbols (BosDis).

Both compare, for each position or symbol, the property with which it shares most information and
the property that comes second. `wmcp` is the code of the paper
(github.com/TomekKaszynski/emergent-physics-comm, `wmcp/metrics.py`), `chaabouni2020` is Chaabouni
et al., "Compositionality and Generalization in Emergent Languages" (ACL 2020), as EGG computes it
(github.com/facebookresearch/EGG, `egg/core/language_analysis.py`). Shapes as in
`pipeline.metrics.information`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.metrics.information import (
    Floats,
    Integers,
    check,
    entropy_of,
    information_of,
    joint_counts,
    one_hot,
    ratio,
    scalar,
)
from pipeline.metrics.metric import Metric

NEGLIGIBLE_NATS = 1e-10
"""The wmcp definitions treat a mutual information up to this as none."""


def posdis_wmcp(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Any:
    """Return the positional disentanglement of the paper's code; see `POSDIS_WMCP`.

    0 for messages of one position, NaN for one attribute.

    >>> posdis_wmcp([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    counts = joint_counts(*check(tokens, attributes), weights)
    several_positions = counts.shape[-4] > 1
    return scalar(_wmcp(counts, only_informative=False) * several_positions)


def posdis_chaabouni2020(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Any:
    """Return the positional disentanglement of Chaabouni et al.; see `POSDIS_CHAABOUNI2020`.

    NaN for one attribute; 0 where no position varies (EGG divides 0 by 0 there).

    >>> posdis_chaabouni2020([[0, 0], [0, 1], [1, 0], [1, 1]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    return scalar(_chaabouni2020(joint_counts(*check(tokens, attributes), weights)))


def bosdis_wmcp(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Any:
    """Return the bag-of-symbols disentanglement of the paper's code; see `BOSDIS_WMCP`.

    NaN for one attribute, 0 where no symbol informs.

    >>> bosdis_wmcp([[0, 2], [0, 3], [1, 2], [1, 3]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    messages, bins = check(tokens, attributes)
    present = np.minimum(_bags(messages), 1)
    return scalar(_wmcp(joint_counts(present, bins, weights), only_informative=True))


def bosdis_chaabouni2020(
    tokens: ArrayLike, attributes: ArrayLike, *, weights: ArrayLike | None = None
) -> Any:
    """Return the bag-of-symbols disentanglement of Chaabouni et al.; see `BOSDIS_CHAABOUNI2020`.

    NaN for one attribute, 0 where nothing varies.

    >>> bosdis_chaabouni2020([[0, 2], [0, 3], [1, 2], [1, 3]], [[0, 0], [0, 1], [1, 0], [1, 1]])
    1.0
    """
    messages, bins = check(tokens, attributes)
    return scalar(_chaabouni2020(joint_counts(_bags(messages), bins, weights)))


def _bags(messages: Integers) -> Integers:
    """Return how often each symbol is in each message: (..., N, P) to (..., N, V)."""
    hot = one_hot(messages).reshape(*messages.shape, -1)  # (..., N, P, V)
    return hot.sum(-2).astype(np.int64)


def _lead(information: Floats) -> tuple[Floats, Floats]:
    """Return the largest over attributes and by how much it leads, (..., K, A) to (..., K) each."""
    if information.shape[-1] < 2:
        undefined = np.full(information.shape[:-1], np.nan)
        return undefined, undefined
    ordered = np.sort(information, axis=-1)
    return ordered[..., -1], ordered[..., -1] - ordered[..., -2]


def _wmcp(counts: Integers, *, only_informative: bool) -> Floats:
    best, lead = _lead(information_of(counts))
    informative = ~(best <= NEGLIGIBLE_NATS)  # true for NaN: one attribute stays NaN
    share = ratio(lead, best, informative)
    if not only_informative:
        return share.mean(-1)
    number = informative.sum(-1)
    return ratio(share.sum(-1), number, number > 0)


def _chaabouni2020(counts: Integers) -> Floats:
    _, lead = _lead(information_of(counts))
    uncertainty = entropy_of(counts[..., 0, :, :].sum(-1))
    varied = uncertainty > 0
    number = varied.sum(-1)
    score = ratio(ratio(lead, uncertainty, varied).sum(-1), number, number > 0)
    return np.where(np.isnan(lead).any(-1), np.nan, score)


PAPER = "the paper's code, wmcp/metrics.py"
CHAABOUNI = "Chaabouni et al. 2020 (ACL), as EGG computes it, egg/core/language_analysis.py"

POSDIS_WMCP = Metric(
    name="posdis_wmcp",
    title="PosDis, as in the paper's code",
    function=posdis_wmcp,
    definition="(I1 - I2) / I1, averaged over positions, with I1 and I2 the largest and the second "
    "largest mutual information of the position with a property; a position with I1 up to 1e-10 "
    "nats counts 0. 0 for messages of one position.",
    chance="far above 0, since the ratio does not ask how large I1 is: about 0.25 for 8 symbols, "
    "0.3 for 5, 0.4 for 3 and 0.5 for 2, with 5 bins",
    source=f"{PAPER}, compute_posdis",
    undefined="for one property",
    properties=2,
    structural=True,
    lies="It does not ask how much a position tells, only that it tells one property more than "
    "another: a code that says almost nothing can have 1.",
    liked="positional",
    fooled="first levels",
    vectorised=True,
)

POSDIS_CHAABOUNI2020 = Metric(
    name="posdis_chaabouni2020",
    title="PosDis, Chaabouni et al. 2020",
    function=posdis_chaabouni2020,
    definition="(I1 - I2) / H, averaged over the positions that vary, with I1 and I2 as in "
    "posdis_wmcp and H the entropy of the position's symbols. 0 where no position varies.",
    chance="close to 0; more for few clips",
    source=f"{CHAABOUNI}, Disent.posdis",
    undefined="for one property",
    properties=2,
    structural=True,
    lies="Positions that never change are left out, and no property has to be told: a code about"
    " one property alone can have 1. Few clips raise I1 and I2 alike.",
    liked="positional",
    fooled="one property",
    vectorised=True,
)

BOSDIS_WMCP = Metric(
    name="bosdis_wmcp",
    title="BosDis, as in the paper's code",
    function=bosdis_wmcp,
    definition="(I1 - I2) / I1, averaged over the symbols with I1 above 1e-10 nats, with I1 and I2 "
    'the largest and the second largest mutual information of "the message has this symbol, at any '
    'position" with a property. 0 where no symbol informs.',
    chance="far above 0, as for posdis_wmcp",
    source=f"{PAPER}, compute_bosdis",
    undefined="for one property",
    properties=2,
    structural=True,
    lies="As posdis_wmcp: it does not ask how much a symbol tells. Codes whose positions share "
    "their symbols come out low, however plain they are.",
    liked="any order",
    fooled="first levels, by letters",
    vectorised=True,
)

BOSDIS_CHAABOUNI2020 = Metric(
    name="bosdis_chaabouni2020",
    title="BosDis, Chaabouni et al. 2020",
    function=bosdis_chaabouni2020,
    definition="(I1 - I2) / H, averaged over the symbols whose count varies, with I1 and I2 the "
    'largest and the second largest mutual information of "how often the message has this symbol" '
    "with a property, and H the entropy of that count. Every symbol counts; EGG leaves out symbol "
    "0, its end of message, and gives the same for tokens + 1. 0 where nothing varies.",
    chance="close to 0; more for few clips",
    source=f"{CHAABOUNI}, Disent.bosdis",
    undefined="for one property",
    properties=2,
    structural=True,
    lies="As posdis_chaabouni2020: no property has to be told. Codes whose positions share their"
    " symbols come out low, however plain they are.",
    liked="any order",
    fooled="one property",
    vectorised=True,
)
