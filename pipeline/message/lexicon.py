"""What symbols mean: for each position and symbol a word, and the evidence for it.

The lexicon is learnt from the training clips of the run's chosen seed and from their labels, which
are in `messages.jsonl`, so it needs neither cache nor videos. Held-out clips, which nothing was
trained or chosen on, only check it. `train` writes it to `lexicon.json`, `message` and `report`
read it there.

A position is about the property with which it shares most information above chance: by how many
standard deviations its mutual information exceeds that of labels permuted across objects. The null
takes the largest excess over all positions and properties in each permutation (Westfall and Young
1993), so one p-value holds for the whole table. A position that does not beat it is about nothing.

A symbol means low, middle or high (thirds of the training clips) where at least half of its clips
are in that third. How surprising that is, given the objects of its clips, has its own p-value: one
heavy object is little evidence for "heavy".

Agents remember what they were trained on, noise too. A word is therefore sure only where it holds
on held-out clips: at least half of those with its symbol are in its third, and the words of its
position are right about more held-out clips than they are when the labels are permuted across
objects. That null takes the largest excess over all positions in each permutation, so that one
p-value holds for the whole lexicon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import drawn
from pipeline.message.learnt_files import load_learnt, write_learnt
from pipeline.message.matching import matched_words
from pipeline.message.meanings import ALPHA, LEAST_SHARE, Lexicon, Meaning, Position
from pipeline.message.wording import BANDS
from pipeline.metrics import (
    bin_property,
    joint_counts,
    mutual_information,
    p_value,
    permutation_null,
    permutations,
)
from pipeline.runs import Run

BINS = 5
PERMUTATIONS = 999  # of labels across objects
MOST_CLIPS = 4000  # of more training clips, or held-out ones, as many drawn ones are enough
QUANTILES = (0.1, 0.5, 0.9)  # the range of a symbol, and its median

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def load_lexicon(run: Run) -> Lexicon | None:
    """Return the lexicon of a run's chosen seed: from `lexicon.json`, or learnt anew without one.

    None where no training clip has every label, as of an imported checkpoint with messages for
    clips without labels.

    Raises:
        HeliographError: for a run with a continuous channel, and for a damaged file.
    """
    return load_learnt(run, "lexicon.json", _parse, learn_lexicon)


def write_lexicon(run: Run) -> Lexicon | None:
    """Learn the lexicon of a run and write `lexicon.json`; None where there is none to learn."""
    return write_learnt(run, "lexicon.json", learn_lexicon)


def _parse(stored: Mapping[str, Any], run: Run) -> Lexicon | None:
    """Return the lexicon in a run's file; None for an older one, whose words were not checked."""
    config = run.config
    if any("held_out_p" not in entry for entry in stored["positions"]):
        return None
    lexicon = Lexicon.from_json(stored)
    heads = [(agent, head) for agent in range(config.agents) for head in range(config.heads)]
    if [(one.agent, one.head) for one in lexicon.positions] != heads:
        raise ValueError("its positions are not those of the run's agents")
    if lexicon.properties != config.properties:
        raise ValueError("its properties are not those of the run")
    return lexicon


def learn_lexicon(run: Run) -> Lexicon | None:
    """Return the lexicon of a run's chosen seed: a pure function of its `messages.jsonl`.

    None where no training clip has every label.

    Raises:
        HeliographError: for a run with a continuous channel.
    """
    tokens, lines = run.tokens(), run.messages()
    properties = run.config.properties
    labels = np.array(
        [[line["labels"][name] for name in properties] for line in lines],
        dtype=np.float64,
    )
    objects = [line["object"] or line["clip"] for line in lines]
    known = ~np.isnan(labels).any(axis=1)
    is_train = np.array([line["part"] == "train" for line in lines])
    is_unseen = np.array([line["part"] in ("test", "structure") for line in lines])
    train, held_out = (
        drawn(np.flatnonzero(part & known), MOST_CLIPS) for part in (is_train, is_unseen)
    )
    if not len(train):
        return None
    return build_lexicon(
        tokens[train],
        labels[train],
        [objects[clip] for clip in train],
        properties,
        held_out=(tokens[held_out], labels[held_out], [objects[clip] for clip in held_out]),
    )


def build_lexicon(
    tokens: Integers,
    labels: Floats,
    objects: Sequence[str],
    properties: Sequence[str],
    *,
    held_out: tuple[Integers, Floats, Sequence[str]] | None = None,
) -> Lexicon:
    """Return the lexicon of messages.

    Args:
        tokens: (N, agents, heads) of the training clips.
        labels: (N, properties), without NaN.
        objects: Of each clip, (N,): the null permutes labels across objects.
        properties: Their names.
        held_out: Tokens, labels and objects of clips that nothing was trained or chosen on.
    """
    heads = tokens.shape[2]
    symbols = tokens.reshape(len(tokens), -1)  # (N, P)
    thirds = [_thirds(column) for column in labels.T]
    bands = np.stack([_bands(c, t) for c, t in zip(labels.T, thirds, strict=True)], axis=1)
    check: tuple[Integers, Integers] | None = None
    unseen = np.full((symbols.shape[1], len(properties)), np.nan)
    bins = np.stack([bin_property(column, bins=BINS) for column in labels.T], axis=1)
    if held_out is not None and len(held_out[0]):
        held_out_bands = [_bands(c, t) for c, t in zip(held_out[1].T, thirds, strict=True)]
        check = held_out[0].reshape(len(held_out[0]), -1), np.stack(held_out_bands, axis=1)
        held_out_bins = [bin_property(column, bins=BINS) for column in held_out[1].T]
        unseen = np.asarray(mutual_information(check[0], np.stack(held_out_bins, axis=1)))
    information, chance, excess, p_values = _above_chance(symbols, bins, objects)
    best = excess.argmax(1)  # (P,)
    informs = p_values[np.arange(len(best)), best] <= ALPHA
    meanings = [
        _meanings(
            symbols[:, number],
            labels[:, own] if informs[number] else np.full(len(labels), np.nan),
            bands[:, own],
            objects,
            check and (check[0][:, number], check[1][:, own]),
        )
        for number, own in enumerate(best.tolist())
    ]
    held_out_p = np.full(len(best), np.nan)
    if held_out is not None and check is not None:
        held_out_p = _held_out_p(meanings, check[0], check[1][:, best], held_out[2])
    positions = [
        Position(
            agent=number // heads,
            head=number % heads,
            information=tuple(information[number].tolist()),
            chance=tuple(chance[number].tolist()),
            p_values=tuple(p_values[number].tolist()),
            held_out_information=tuple(unseen[number].tolist()),
            held_out_p=float(held_out_p[number]),
            about=properties[own] if informs[number] else None,
            meanings=meanings[number],
        )
        for number, own in enumerate(best.tolist())
    ]
    return Lexicon(
        properties=tuple(properties),
        positions=tuple(positions),
        clips=len(tokens),
        objects=len(set(objects)),
        thirds=dict(zip(properties, thirds, strict=True)),
        dictionary=matched_words(symbols, bands, properties, heads=heads),
    )


def _held_out_p(
    meanings: Sequence[tuple[Meaning, ...]],
    symbols: Integers,
    bands: Integers,
    objects: Sequence[str],
) -> Floats:
    """Of the number of held-out clips that the words of each position are right about: p, (P,).

    Args:
        meanings: Of each position, learnt on training clips.
        symbols: Of held-out clips, (N, P).
        bands: Of the property that each position is about, (N, P).
        objects: Of each clip, (N,).
    """
    said = np.full(symbols.shape, -1)  # the band that the word of each clip's symbol names
    for number, of_position in enumerate(meanings):
        for meaning in of_position:
            if meaning.band is not None:
                said[symbols[:, number] == meaning.symbol, number] = BANDS.index(meaning.band)
    orders = permutations(len(symbols), n=PERMUTATIONS, groups=np.asarray(objects))
    right = (said == bands).sum(0)  # (P,)
    null = np.stack([(said == bands[order]).sum(0) for order in orders])  # (n, P)
    deviation = null.std(0)
    scale = np.where(deviation > 0, deviation, np.inf)
    largest = ((null - null.mean(0)) / scale).max(1)
    p_values = p_value((right - null.mean(0)) / scale, np.tile(largest[:, None], len(right)))
    return np.where(deviation > 0, np.asarray(p_values), 1.0)


def _above_chance(
    symbols: Integers, bins: Integers, objects: Sequence[str]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Information and its mean by chance, in nats, the excess in deviations, p: each (P, A)."""
    groups = np.asarray(objects)
    information = mutual_information(symbols, bins)
    null = permutation_null(
        mutual_information, symbols, bins, n=PERMUTATIONS, groups=groups
    )  # (n, P, A)
    mean, deviation = null.mean(0), null.std(0)
    scale = np.where(deviation > 0, deviation, np.inf)
    largest = ((null - mean) / scale).max((1, 2))  # (n,)
    excess = (information - mean) / scale
    p_values = np.asarray(p_value(excess, np.broadcast_to(largest[:, None, None], null.shape)))
    return information, mean, excess, np.where(deviation > 0, p_values, 1.0)


def _thirds(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return float(low), float(high)


def _bands(values: Floats, thirds: tuple[float, float]) -> Integers:
    """0, 1, 2 for low, middle, high; where both edges are one value, that value is the middle."""
    low, high = thirds
    if low == high:
        return (np.sign(values - low) + 1).astype(np.int64)
    return np.where(values <= low, 0, np.where(values >= high, 2, 1))


def _meanings(
    symbols: Integers,
    values: Floats,
    bands: Integers,
    objects: Sequence[str],
    check: tuple[Integers, Integers] | None,
) -> tuple[Meaning, ...]:
    """What each symbol of one position means; `check` has symbols and bands of held-out clips.

    Values that are NaN are those of a position that is about nothing: its symbols have no band.
    """
    names = np.asarray(objects)
    orders = permutations(len(symbols), n=PERMUTATIONS, groups=names)
    shares = _shares(symbols, bands)  # (V, 3)
    null = np.concatenate([_shares(symbols, bands[some]) for some in np.array_split(orders, 10)])
    p_values = np.asarray(p_value(shares.max(-1), null.max(-1)))  # (V,)
    meanings = []
    for symbol in np.unique(symbols).tolist():
        has_symbol = symbols == symbol
        band = int(shares[symbol].argmax())
        clear = shares[symbol, band] >= LEAST_SHARE and not np.isnan(values[has_symbol]).any()
        low, median, high = np.quantile(values[has_symbol], QUANTILES, method="nearest").tolist()
        held_out = check[1][check[0] == symbol] if check else np.zeros(0, np.int64)
        meanings.append(
            Meaning(
                symbol=symbol,
                clips=int(has_symbol.sum()),
                objects=len(np.unique(names[has_symbol])),
                frequency=float(has_symbol.mean()),
                band=BANDS[band] if clear else None,
                share=float(shares[symbol, band]) if clear else math.nan,
                p_value=float(p_values[symbol]) if clear else math.nan,
                low=low,
                median=median,
                high=high,
                held_out_clips=len(held_out),
                held_out_share=float((held_out == band).mean())
                if clear and len(held_out)
                else math.nan,
            )
        )
    return tuple(meanings)


def _shares(symbols: Integers, bands: Integers) -> Floats:
    """Of the clips with each symbol, the share in each band: (..., V, 3) for bands (..., N)."""
    levels = np.concatenate([bands, np.full((*bands.shape[:-1], 1), len(BANDS) - 1)], axis=-1)
    padded = np.append(symbols, symbols.max() + 1)  # one more row, so that every band has a column
    counts = joint_counts(padded[:, None], levels[..., None])[..., 0, 0, :-1, :]
    return counts / np.maximum(counts.sum(-1, keepdims=True), 1)
