"""A run whose names would like to be code."""

from dataclasses import replace

import pytest

from data import cache
from data.cache import Features
from pipeline.runs import Run
from pipeline.training import train
from tests.helpers.pages import EVIL, EVIL_REASON, TURNING


@pytest.fixture(scope="package")
def run(tmp_path_factory, features: Features) -> Run:
    """A run on imported features, one clip and one failure of which would like to be code."""
    folder = tmp_path_factory.mktemp("report")
    named = replace(
        features,
        clip_id=[EVIL, TURNING, *features.clip_id[2:]],
        object=[features.object[0], TURNING, *features.object[2:]],
        failures=[("broken/clip.mp4", EVIL_REASON), (TURNING, TURNING)],
    )
    cache.save(named, folder / "made.h5")
    return train(folder / "made.h5", folder / "run", properties=["mass"], seeds=range(3), epochs=10)
