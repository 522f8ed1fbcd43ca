"""Ray clusters: what their nodes have room for, and what is said where there is none."""

import sys

import pytest

from data.errors import HeliographError, InvalidValueError
from pipeline.cluster import Cluster, Room, has_gpus, rooms


class FakeRay:
    """The list of a cluster's nodes, as `ray.nodes` gives it."""

    def __init__(self, **nodes: tuple[float, float]) -> None:
        self._nodes = nodes

    def nodes(self) -> list[dict[str, object]]:
        return [
            {
                "NodeID": name,
                "NodeManagerHostname": f"host-{name}",
                "Alive": name != "dead",
                "Resources": {"CPU": cores, **({"GPU": gpus} if gpus else {})},
            }
            for name, (cores, gpus) in self._nodes.items()
        ]


@pytest.mark.parametrize(
    ("node", "gpus", "cores", "expected"),
    [
        ((96, 8), 1, None, 8 * [12]),
        ((96, 8), 0.5, None, 16 * [6]),
        ((96, 8), 2, None, 4 * [16]),
        ((96, 8), 1, 4, 8 * [4]),
        ((4, 8), 1, None, 8 * [0.5]),
        ((96, 0), 1, None, []),
        ((96, 8), 0, None, 6 * [16]),
        ((40, 0), 0, 8, 5 * [8]),
        ((4, 0), 0, None, [4]),
        ((4, 0), 0, 8, []),
        ((0, 0), 0, None, []),
    ],
)
def test_room_for_workers(node, gpus, cores, expected):
    ray = FakeRay(a=node, dead=(96, 8))
    assert rooms(ray, gpus, cores, 16) == [Room("a", "host-a", each, gpus) for each in expected]


def test_a_worker_has_a_core_at_least():
    assert [Room("", "", cores, 1).whole_cores for cores in (0.5, 1, 2.5)] == [1, 1, 2]


def test_gpus_of_a_cluster():
    assert has_gpus(FakeRay(a=(4, 0), b=(4, 1)), 1)
    assert has_gpus(FakeRay(b=(4, 1)), 0.5)
    assert not has_gpus(FakeRay(b=(4, 1)), 2)
    assert not has_gpus(FakeRay(b=(4, 1)), 0)
    assert not has_gpus(FakeRay(dead=(4, 1)), 1)


@pytest.mark.parametrize("gpus", [-1, 1.5])
def test_wrong_gpus(gpus):
    with pytest.raises(InvalidValueError, match=f"a part of a GPU, or whole ones, not {gpus}"):
        Cluster(gpus=gpus)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(HeliographError, match=r"need the package ray: pip install 'heliograph\[ray"),
        Cluster().connected(),
    ):
        pass
