"""Small features with something to learn, and their cache."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


NODES: list[Any] = []  # of the Ray cluster, the first of which is its head


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray cluster on this machine; `nodes` gives it nodes."""
    ray = pytest.importorskip("ray", reason="the package ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster()
        yield cluster
        ray.shutdown()
        cluster.shutdown()
        NODES.clear()


@pytest.fixture
def nodes(ray_cluster: Any) -> Callable[[int], list[Any]]:
    """A function that sees to so many nodes of two cores, and connects to the first."""
    import ray

    def wanted(count: int) -> list[Any]:
        while len(NODES) < count:
            NODES.append(
                ray_cluster.add_node(
                    num_cpus=2, object_store_memory=100 << 20, include_dashboard=False
                )
            )
        while len(NODES) > count:
            ray_cluster.remove_node(NODES.pop(), allow_graceful=False)
        if not ray.is_initialized():
            ray.init(address=ray_cluster.address, log_to_driver=False, logging_level="error")
        return NODES

    return wanted
