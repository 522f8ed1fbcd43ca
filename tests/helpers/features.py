"""Small features with something to learn."""

import numpy as np

from data.cache import Features


def make_features(
    *, objects: int = 14, each: int = 4, steps: int = 4, dim: int = 12, seed: int = 0
) -> Features:
    """Clips whose mass shows in their features, through noise; the last clip's mass is unknown."""
    rng = np.random.RandomState(seed)
    identity = np.repeat(np.arange(objects), each)
    mass = 10.0 * (1 + identity)
    direction = rng.randn(dim)
    features = rng.randn(len(identity), steps, dim) * 0.3
    features += (mass / mass.max() * 2 - 1)[:, None, None] * direction
    mass[-1] = np.nan
    names = [f"object_{number:02d}" for number in identity]
    return Features(
        features=features.astype(np.float32),
        clip_id=[f"{name}/{number % each}" for number, name in enumerate(names)],
        object=names,
        scenario=["spring"] * len(names),
        labels={"mass": mass, "volume": identity % 5 + 1.0},
        fingerprint={"imported": True, "source": "made.pt", "sha256": "0" * 64},
    )
