"""A Ray cluster: connected to, or started on this machine, and what its nodes have."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from data.cores import available_cores
from data.errors import HeliographError, InvalidValueError, OutOfMemoryError
from data.wording import counted
from pipeline.console import log

ANSWER_SECONDS = 10  # for a port to be open; Ray itself tries for minutes
OBJECT_STORE_BYTES = 128 << 20  # of a Ray started here: frames and features never pass through it


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster that is to do the work.

    Attributes:
        address: Where it is, as HOST:PORT, or `local`: one is started on this machine. None: the
            one that `RAY_ADDRESS` names, else the one that runs here, else as `local`.
        gpus: What a worker gets of a GPU: 1, a part such as 0.5, or several. 0: none. None: one
            where a node has one, else none.
    """

    address: str | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        if self.address not in (None, "local"):
            _host_and_port(self.address)
        gpus = self.gpus or 0.0
        if not 0 <= gpus < math.inf or (gpus > 1 and gpus % 1):
            raise InvalidValueError(
                f"a worker gets a part of a GPU, or whole ones, not {self.gpus:g} (--ray-gpus)"
            )

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Connect to the cluster, unless this process is already, and give the package `ray`.

        Raises:
            HeliographError: The package is not installed, or the cluster cannot be reached.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise HeliographError(
                "many machines need the package ray: pip install 'heliograph[ray]'"
            ) from error
        if ray.is_initialized():
            yield ray
            return
        with _own_signals():
            self._connect(ray)
        try:
            yield ray
        finally:
            ray.shutdown()

    def _connect(self, ray: Any) -> None:
        quiet = {"log_to_driver": False, "logging_level": "error"}
        address = self.address or os.environ.get("RAY_ADDRESS", "").strip()
        is_named = address not in ("", "auto")
        if not is_named:
            address = _address_of_running(ray) or "local"
        is_found = not is_named and address != "local"
        refusal, cause = "" if address == "local" else _refusal(address), None
        here = {
            "num_cpus": available_cores(),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
        try:
            if not refusal:
                given = "auto" if is_found else address  # with its token, which no other gets
                ray.init(address=given, **quiet, **here if address == "local" else {})
        except Exception as error:
            refusal, cause = _reason(error), error
        what = "a Ray of this machine" if address == "local" else f"the Ray cluster {address}"
        if refusal:
            way = "" if is_named else "; --ray-address names another, or `local`, which starts one"
            raise HeliographError(f"{what} cannot be reached: {refusal}{way}") from cause
        nodes = _living(ray)
        cores, gpus = (int(sum(_resource(node, kind) for node in nodes)) for kind in ("CPU", "GPU"))
        has = ", ".join(
            counted(count, kind)
            for count, kind in ((len(nodes), "node"), (cores, "core"), (gpus, "GPU"))
            if count
        )
        log(f"on {what}: {has}")


def _host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT.

    Raises:
        InvalidValueError: It is none.
    """
    if address.startswith("ray://"):
        raise InvalidValueError(
            f"{address} is an address of Ray's client, which is not supported: give HOST:PORT on a "
            "machine that is a node of the cluster, or use `ray job submit`"
        )
    host, _, port = address.strip().rpartition(":")
    is_port = port.isdecimal() and 0 < int(port) < 1 << 16
    if not host or not is_port or "/" in host:
        raise InvalidValueError(
            f"a Ray cluster's address is HOST:PORT, as 10.0.0.1:6379, or local, not {address!r}"
        )
    return host.strip("[]"), int(port)


def _refusal(address: str) -> str:
    """Return why nothing answers at an address; empty: something does."""
    try:
        with socket.create_connection(_host_and_port(address), ANSWER_SECONDS):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _reason(error: BaseException) -> str:
    """Return why Ray did not connect, in a line."""
    if "AuthenticationError" in "".join(traceback.format_exception(error)):
        return (
            "it wants a token, and this process has none or another one: set RAY_AUTH_MODE=token, "
            "and RAY_AUTH_TOKEN_PATH where the token is not in ~/.ray/auth_token"
        )
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _address_of_running(ray: Any) -> str | None:
    """Return the address of the Ray that runs on this machine; None: there is none that answers."""
    try:
        address = ray._private.services.get_ray_address_from_environment("auto", None)
        return address if not _refusal(address) else None
    except (AttributeError, ConnectionError, InvalidValueError):
        return None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Set what happens at a signal back to what it was: Ray sets what it does at SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Room:
    """Room for a worker on a node: logical cores, and GPUs."""

    node: str
    host: str
    cores: float
    gpus: float

    @property
    def whole_cores(self) -> int:
        """The cores that a worker makes use of, at least 1."""
        return max(1, int(self.cores))

    def options(self, ray: Any) -> dict[str, Any]:
        """Return what Ray is told of a worker that is to have this room."""
        on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        return {
            "num_cpus": self.cores,
            "num_gpus": self.gpus,
            "scheduling_strategy": on_node(self.node, soft=False),
        }


def gpus_of_worker(ray: Any, gpus: float | None) -> float:
    """Return what a worker gets of a GPU where `Cluster.gpus` are asked for.

    Raises:
        HeliographError: No node that lives has so many.
    """
    most = max((_resource(node, "GPU") for node in _living(ray)), default=0)
    if gpus is None:
        return float(most >= 1)
    if gpus > most:
        lacking = f"{gpus:g} GPUs" if gpus > 1 else "a GPU"
        fewer = f"ask for {most:g} at most, or " if most else ""
        raise HeliographError(
            f"no node of the Ray cluster has {lacking}: {fewer}leave --ray-gpus out, which takes "
            f"{'one each' if most else 'CPUs'}"
        )
    return gpus


def most_cores(ray: Any) -> float:
    """Return the logical cores of the largest node that lives."""
    return max((_resource(node, "CPU") for node in _living(ray)), default=0)


def rooms(ray: Any, gpus: float, cores: int | None, most_cores: int) -> list[Room]:
    """Return the room for workers on the nodes that live.

    A node with GPUs has as many workers as these serve, which share its cores. Without GPUs a
    worker has as many cores as are asked for, or those of its node.

    Args:
        ray: The package, connected.
        gpus: What a worker gets of a GPU; 0: none.
        cores: What a worker gets; None: what there is.
        most_cores: Of a worker, where none are asked for.
    """
    found = []
    for node in _living(ray):
        there = _resource(node, "CPU")
        if gpus:
            count = int(_resource(node, "GPU") / gpus)
            share = there / max(1, count)
            each = min(share if share < 1 else int(share), cores or most_cores)
        else:
            each = cores or min(there, most_cores)
            count = int(there / each) if each else 0
        found += [Room(node["NodeID"], node["NodeManagerHostname"], each, gpus)] * count
    return found


def portable(error: HeliographError, where: str = "") -> HeliographError:
    """Return an error of which another process can make the same, with where it was."""
    kinds = (OutOfMemoryError, InvalidValueError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), HeliographError)
    return kind(f"{error} (on {where})" if where else str(error))


def _living(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _resource(node: dict[str, Any], name: str) -> float:
    return float(node["Resources"].get(name, 0))
