"""Ray clusters: what their nodes have room for, and what is said where there is none."""

import sys

import pytest

from data.errors import HeliographError, InvalidValueError
from pipeline.cluster import Cluster, Room, gpus_of_worker, rooms


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


@pytest.mark.parametrize(("gpus", "expected"), [(None, 1), (1, 1), (0.5, 0.5), (2, 2), (0, 0)])
def test_gpus_of_a_worker(gpus, expected):
    assert gpus_of_worker(FakeRay(a=(4, 0), b=(4, 2), dead=(4, 8)), gpus) == expected


@pytest.mark.parametrize("ray", [FakeRay(a=(4, 0), dead=(4, 1)), FakeRay()])
def test_no_gpus_are_asked_for_where_there_are_none(ray):
    assert gpus_of_worker(ray, None) == gpus_of_worker(ray, 0) == 0


@pytest.mark.parametrize(
    ("ray", "gpus", "said"),
    [
        (FakeRay(a=(4, 0), dead=(4, 1)), 1, "has a GPU: leave --ray-gpus out, which takes CPUs"),
        (FakeRay(a=(4, 0)), 0.5, "has a GPU: leave --ray-gpus out, which takes CPUs"),
        (FakeRay(a=(4, 0)), 2, "has 2 GPUs: leave --ray-gpus out, which takes CPUs"),
        (FakeRay(a=(4, 1)), 2, "has 2 GPUs: ask for 1 at most, or leave --ray-gpus out, which ta"),
    ],
)
def test_gpus_that_no_node_has_are_refused(ray, gpus, said):
    with pytest.raises(HeliographError, match=f"^no node of the Ray cluster {said}"):
        gpus_of_worker(ray, gpus)


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
