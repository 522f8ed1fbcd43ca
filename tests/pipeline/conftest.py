"""Small features with something to learn, and their cache."""

from pathlib import Path

import pytest

from data import cache
from data.cache import Features
from pipeline.runs import Run
from tests.helpers.features import make_features
from tests.helpers.spoken_runs import train_on_made_objects


@pytest.fixture(scope="session")
def features() -> Features:
    return make_features()


@pytest.fixture
def cache_path(features: Features, tmp_path: Path) -> Path:
    path = tmp_path / "made.h5"
    cache.save(features, path)
    return path


@pytest.fixture(scope="session")
def spoken_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run about mass and size, whose messages tell both; no test changes it."""
    return train_on_made_objects(tmp_path_factory.mktemp("spoken"))
