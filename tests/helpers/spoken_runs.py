"""Runs whose messages tell numbers: a trained one, and seeds of made-up ones."""

from pathlib import Path

import numpy as np

from data import cache
from data.cache import Features
from pipeline.message import SpokenClips
from pipeline.runs import Run
from pipeline.training import train

VOCAB = 5


def made_seeds(
    number: int, *, objects: int, seeds: int, clips: int, new_objects: int, noise: float = 0.6
) -> tuple[list[SpokenClips], SpokenClips]:
    """Return the clips of a run with each seed's messages, and new objects' with the first's.

    What is seen of an object differs from its property by the object, by the clip, and by the seed
    in each object. A seed holds out a fifth of the objects, and cuts what its two agents see into
    five symbols, at quantiles of its training clips.
    """
    rng = np.random.default_rng(number)
    every = objects + new_objects
    value = rng.normal(size=every)
    look = value + noise * rng.normal(size=every)  # the same for all seeds
    owner = np.repeat(np.arange(every), clips)
    names = tuple(f"object {of}" for of in owner.tolist())
    made = []
    for _ in range(seeds):
        of_seed = look + 0.3 * noise * rng.normal(size=every)
        seen = of_seed[owner, None] + noise * rng.normal(size=(len(owner), 2))
        out = rng.choice(objects, max(4, objects // 5), replace=False)
        old = owner < objects
        held_out = np.flatnonzero(old & np.isin(owner, out))
        train = np.flatnonzero(old & ~np.isin(owner, out))
        cuts = np.quantile(seen[train], np.arange(1, VOCAB) / VOCAB, axis=0)
        tokens = (seen[:, :, None] > cuts.T).sum(-1)
        made.append(SpokenClips(tokens, value[owner][:, None], names, train, held_out))
    new = np.flatnonzero(owner >= objects)
    first = made[0]
    others = SpokenClips(
        first.tokens[new], first.labels[new], tuple(names[clip] for clip in new), new[:0], new
    )
    return made, others


def train_on_made_objects(folder: Path) -> Run:
    """Train on thirty objects of three clips, whose features tell their mass and their size."""
    rng = np.random.default_rng(0)
    mass = np.repeat(np.exp(rng.uniform(0, 5, 30)), 3)
    size = np.repeat(rng.uniform(0, 1, 30), 3)
    features = rng.normal(0, 0.3, (90, 4, 6)).astype(np.float32)
    features[:, :, 0] += np.log(mass)[:, None]
    features[:, :, 1] += size[:, None]
    made = Features(
        features=features,
        clip_id=[f"clip {clip}" for clip in range(90)],
        object=[f"object {clip // 3}" for clip in range(90)],
        scenario=["made"] * 90,
        labels={"mass": mass, "size": size},
        fingerprint={"imported": True, "source": "made.pt", "sha256": "0" * 64},
    )
    cache.save(made, folder / "made.h5")
    named = {"properties": ["mass", "size"], "preset": "ridge", "split": "objects"}
    return train(folder / "made.h5", folder / "run", seeds=4, epochs=5, **named)
