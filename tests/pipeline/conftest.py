"""Small features with something to learn, and their cache."""

from pathlib import Path

import pytest

from data import cache
from data.cache import Features
from tests.helpers.features import make_features


@pytest.fixture(scope="session")
def features() -> Features:
    return make_features()


@pytest.fixture
def cache_path(features: Features, tmp_path: Path) -> Path:
    path = tmp_path / "made.h5"
    cache.save(features, path)
    return path
