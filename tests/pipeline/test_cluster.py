"""Ray clusters: what their nodes have room for, and what is said where there is none."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.errors import HeliographError, InvalidValueError
from pipeline import cluster
from pipeline.cluster import Cluster, Room, gpus_of_worker, rooms


class FakeRay:
    """The list of a cluster's nodes, as `ray.nodes` gives it."""

    def __init__(self, **nodes: tuple[float, float]) -> None:
        self._nodes = nodes
        self.address = ""

    def init(self, address: str, **_: object) -> None:
        self.address = address

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


@pytest.mark.parametrize(
    "address",
    ["", " ", "nonsense", "host:", ":6379", "host:0", "host:99999", "host:x", "http://host:8265"],
)
def test_an_address_is_host_and_port(address):
    with pytest.raises(InvalidValueError, match="is HOST:PORT, as 10"):
        Cluster(address)


@pytest.mark.parametrize("gpus", [-1, 1.5, float("inf"), float("nan")])
def test_no_such_gpus(gpus):
    with pytest.raises(InvalidValueError, match="a part of a GPU, or whole ones, not"):
        Cluster(gpus=gpus)


def test_the_client_of_ray_is_not_supported():
    with pytest.raises(InvalidValueError, match="Ray's client, which is not supported: give HOST"):
        Cluster("ray://10.0.0.1:10001")


@pytest.mark.parametrize("is_named", [True, False])
def test_where_nothing_answers(is_named, monkeypatch):
    pytest.importorskip("ray", reason="the package ray is not installed")
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", "" if is_named else address)
        with (
            pytest.raises(HeliographError, match=f"the Ray cluster {address} cannot be reached: "),
            Cluster(address if is_named else None).connected(),
        ):
            pass


def test_which_cluster_it_is_is_said(capsys, monkeypatch):
    ray = FakeRay(a=(4, 0), b=(8, 2), dead=(96, 8))
    Cluster("local")._connect(ray)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", address := f"127.0.0.1:{server.getsockname()[1]}")
        Cluster()._connect(ray)
    assert ray.address == address
    here, there = capsys.readouterr().err.splitlines()
    assert here == "on a Ray of this machine: 2 nodes, 12 cores, 2 GPUs"
    assert there == f"on the Ray cluster {address}: 2 nodes, 12 cores, 2 GPUs"


def test_ray_finds_the_cluster_of_this_machine_itself(capsys, monkeypatch):
    """With an address it does without the token that it made."""
    ray = FakeRay(a=(4, 0))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "_address_of_running", lambda _: "10.0.0.1:6379")
    Cluster()._connect(ray)
    assert ray.address == "auto"
    assert capsys.readouterr().err == "on the Ray cluster 10.0.0.1:6379: 1 node, 4 cores\n"


@pytest.mark.slow
def test_a_cluster_that_wants_a_token(tmp_path):
    pytest.importorskip("ray", reason="the package ray is not installed")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(64 * "5")
    others = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}

    def connect(address: str | None, **more: str) -> str:
        opened = f"with Cluster({address!r}).connected(): pass"
        words = [sys.executable, "-c", f"from pipeline.cluster import Cluster\n{opened}"]
        done = subprocess.run(words, env=environment | more, capture_output=True, text=True)
        return done.stderr.splitlines()[-1]

    with tempfile.TemporaryDirectory() as folder:  # the name of a socket is short
        environment = others | {"HOME": str(tmp_path), "RAY_TMPDIR": folder}
        words = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", "0"]
        options = ["--include-dashboard", "false", "--disable-usage-stats"]
        with subprocess.Popen([sys.executable, *words, *options], env=environment) as started:
            try:
                while not (Path(folder) / "ray/ray_current_cluster").exists():
                    assert started.poll() is None, "Ray did not start"
                    time.sleep(0.1)
                found = connect(None)
                assert ": 1 node, " in found
                address = found.removeprefix("on the Ray cluster ").partition(": ")[0]
                assert connect(address, RAY_AUTH_MODE="token") == found
                refused = connect(address)
                assert f"{address} cannot be reached: it wants a token" in refused
                assert "set RAY_AUTH_MODE=token" in refused
            finally:
                started.terminate()


def test_a_cluster_that_is_gone_is_not_waited_for(monkeypatch):
    def find(*_: object) -> str:
        return "127.0.0.1:1"

    services = SimpleNamespace(get_ray_address_from_environment=find)
    gone = SimpleNamespace(_private=SimpleNamespace(services=services))
    assert cluster._address_of_running(gone) is None
