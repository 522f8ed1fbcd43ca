"""Where the actors of an extraction live: on the nodes of a Ray cluster, or one for each device."""

from __future__ import annotations

import os
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from backbones import Backbone
from data.cores import available_cores
from data.errors import HeliographError, InvalidValueError
from data.processes import Child
from pipeline.cluster import Room, gpus_of_worker, rooms
from pipeline.console import Loudness, loudness
from pipeline.extraction.extractor import Extractor, ExtractorSettings

MAX_CORES = 16  # of an actor


class ActorLostError(Exception):
    """An actor has ended, with all that it had; the text says how."""


class Hosts(ABC):
    """Where actors live, each of which is an `Extractor` and is asked for one thing at a time.

    Attributes:
        name: What is waited for where no actor starts.
        remedy: What to look at where none lives long.
    """

    name: str
    remedy: str

    @abstractmethod
    def rooms(self) -> list[Room]:
        """Return the room for actors that there is now.

        Raises:
            HeliographError: there is none at the start.
        """

    @abstractmethod
    def start(self, room: Room) -> Any:
        """Start an actor and return what stands for it."""

    @abstractmethod
    def ask(self, actor: Any, method: str, *arguments: Any, **options: Any) -> Any:
        """Have an actor call one of its methods; return what stands for the call."""

    @abstractmethod
    def answered(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        """Return the calls that are answered, after so many seconds at most."""

    @abstractmethod
    def answer(self, call: Any) -> Any:
        """Return what a call returned.

        Raises:
            HeliographError: of the actor.
            ActorLostError: it has ended.
        """

    @abstractmethod
    def end(self, actor: Any) -> None:
        """Kill an actor."""


class RayHosts(Hosts):
    """The nodes of a Ray cluster."""

    name = "the Ray cluster"
    remedy = (
        "each node needs the same Python and packages, and memory for a backbone; --ray-address "
        "names another cluster, `ray stop` ends one that is not wanted"
    )

    def __init__(
        self,
        ray: Any,
        load: Callable[[], Backbone],
        settings: ExtractorSettings,
        *,
        gpus: float | None,
        cores: int | None,
    ) -> None:
        """Start nothing yet.

        Args:
            ray: the package, connected to the cluster.
            load: gives the backbone, in each actor.
            settings: of the extraction.
            gpus: what each gets of a GPU, as `Cluster.gpus`.
            cores: what each gets of its node; None: what there is, 16 at most.

        Raises:
            HeliographError: no node has so many GPUs.
        """
        self._ray, self._load, self._settings = ray, load, settings
        self._gpus, self._cores = gpus_of_worker(ray, gpus), cores
        self._has_looked = False

    def rooms(self) -> list[Room]:
        """Return the room for actors on the nodes that live."""
        first, self._has_looked = not self._has_looked, True
        found = rooms(self._ray, self._gpus, self._cores, MAX_CORES)
        if first and not found:
            raise HeliographError(
                f"no node of the Ray cluster has {self._cores or 1} cores: ask for fewer --workers"
            )
        return found

    def start(self, room: Room) -> Any:
        """Start an actor of Ray."""
        make = self._ray.remote(Extractor).options(**room.options(self._ray))
        where = {"node": room.node}
        return make.remote(self._load, self._settings, cores=room.whole_cores, where=where)

    def ask(self, actor: Any, method: str, *arguments: Any, **options: Any) -> Any:
        """Return Ray's reference to what will be returned."""
        return getattr(actor, method).remote(*arguments, **options)

    def answered(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        """Return the references that are ready."""
        ready, _ = self._ray.wait(list(calls), num_returns=len(calls), timeout=seconds)
        return list(ready)

    def answer(self, call: Any) -> Any:
        """Return what a reference refers to."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(call)
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, HeliographError) else error) from None
        except errors.RayError as error:
            raise ActorLostError(str(error)) from None

    def end(self, actor: Any) -> None:
        """Let Ray kill the actor."""
        with suppress(Exception):
            self._ray.kill(actor)


class DeviceHosts(Hosts):
    """Devices of this machine, each with a process of its own; they share its cores."""

    name = "the devices"
    remedy = "the same with one --device says more"

    def __init__(
        self,
        devices: Sequence[str],
        load: Callable[..., Backbone],
        settings: ExtractorSettings,
        *,
        cores: int | None,
    ) -> None:
        """Start nothing yet.

        Args:
            devices: as `backbones.resolve_device` takes them; several processes may share one.
            load: gives the backbone on the `device` that it is called with, in each process.
            settings: of the extraction.
            cores: what the processes have together; None: all that there are, 16 each at most.

        Raises:
            InvalidValueError: another process cannot be sent `load`.
        """
        self._load, self._settings = load, settings
        most = cores or min(available_cores(), MAX_CORES * len(devices))
        each = max(1, most // len(devices))
        self._rooms = [
            Room(device, device, cores=each, gpus=float(not device.startswith("cpu")))
            for device in devices
        ]
        self._is_quiet = loudness() is Loudness.QUIET
        if not _can_be_imported(load):
            raise InvalidValueError(
                "the process of a device cannot import what a script or a function defines: give "
                "the backbone's name, or a function of a module"
            )

    def rooms(self) -> list[Room]:
        """Return a room for each device."""
        return self._rooms

    def start(self, room: Room) -> DeviceProcess:
        """Start a process."""
        load = partial(self._load, device=room.node)
        made = pickle.dumps((load, self._settings, room.whole_cores, {"device": room.node}))
        heard, self._is_quiet = not self._is_quiet, True  # one is enough
        return DeviceProcess(made, is_heard=heard)

    def ask(self, actor: DeviceProcess, method: str, *arguments: Any, **options: Any) -> Any:
        """Return the future of what will be returned."""
        return actor.thread.submit(actor.call, method, *arguments, **options)

    def answered(self, calls: Sequence[Future[Any]], seconds: float) -> list[Any]:
        """Return the futures that are done."""
        return list(wait(calls, seconds, FIRST_COMPLETED).done)

    def answer(self, call: Future[Any]) -> Any:
        """Return what a future returns."""
        return call.result()

    def end(self, actor: DeviceProcess) -> None:
        """Kill the process."""
        actor.child.kill()
        actor.thread.shutdown(cancel_futures=True)
        actor.child.close()


def _can_be_imported(load: Callable[..., Backbone]) -> bool:
    try:
        pickle.dumps(load)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return bool(getattr(load, "func", load).__module__ != "__main__")  # `func` of a `partial`


class DeviceProcess:
    """A process with an `Extractor`; a thread waits for its answers, so that Ctrl-C breaks none."""

    def __init__(self, made: bytes, *, is_heard: bool) -> None:
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        self.child = Child(
            "pipeline.extraction.device_process",
            environment={"PYTHONPATH": path},
            is_heard=is_heard,
        )
        self.thread = ThreadPoolExecutor(1, "device")
        self._made = made

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Return what the process answers.

        Raises:
            HeliographError: of the extractor.
            ActorLostError: it has ended.
        """
        connection = self.child.connection
        try:
            if self._made:
                connection.send_bytes(self._made)
                self._made = b""
            connection.send((method, arguments, options))
            answer = connection.recv()
        except (EOFError, OSError):
            raise ActorLostError(f"its process {self.child.ending()}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer
