"""Trainings as tasks on the nodes of a Ray cluster: cells of a sweep, runs of an experiment.

A task is `train`, in a folder that all nodes see, with as many threads as this process has: the
results are those of this machine, to the bit where the processors are alike. A task whose node is
lost is begun again elsewhere, and goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data import cache
from data.copies import address_of, is_copy
from data.errors import HeliographError
from data.files import path_of
from pipeline.cluster import Cluster, gpus_of_worker, most_cores, portable
from pipeline.training.train import train

MOST_LOSSES = 3  # of the node or the process of a training


@dataclass(frozen=True)
class Training:
    """A call of `train`: its caches, its folder, and its settings."""

    caches: Sequence[str]
    folder: Path
    settings: dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """What became of a training: its lines for people, and why it failed."""

    lines: Sequence[str]
    error: HeliographError | None


def train_all(
    trainings: Sequence[Training], cluster: Cluster, *, device: str
) -> Iterator[tuple[int, Trained]]:
    """Train on a cluster; yield the number of each training and what became of it, as they end.

    Args:
        trainings: in folders that all nodes see.
        cluster: where.
        device: `auto` (a GPU for each where the cluster has some) or `cpu`.

    Raises:
        HeliographError: the cluster cannot be reached or has no such GPUs, or a training loses its
            process too often.
    """
    threads = torch.get_num_threads()
    with cluster.connected() as ray:
        gpus = 0 if device == "cpu" else gpus_of_worker(ray, cluster.gpus)
        task = ray.remote(_train).options(
            num_cpus=1 if gpus else min(threads, most_cores(ray)),
            num_gpus=gpus,
            max_retries=MOST_LOSSES,
        )
        waiting = {
            task.remote(
                [_place(word) for word in one.caches],
                one.folder.absolute(),
                one.settings | {"device": "auto" if gpus else "cpu"},
                threads,
            ): number
            for number, one in enumerate(trainings)
        }
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=1)
            for call in ready:
                number = waiting.pop(call)
                try:
                    trained = ray.get(call)
                except ray.exceptions.RayTaskError:
                    raise
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().partition("\n")[0]
                    trained = Trained((), HeliographError(f"its process was lost: {reason}"))
                yield number, trained


def _train(
    caches: Sequence[tuple[str, str]], folder: Path, settings: dict[str, Any], threads: int
) -> Trained:
    """Train in a process of a node, which copies what is at addresses itself."""
    torch.set_num_threads(threads)
    lines: list[str] = []
    try:
        here = [f"{name}{cache.copy_of(path_of(place))}" for name, place in caches]
        train(here, folder, log=lines.append, **settings)
    except HeliographError as error:
        return Trained(lines, portable(error))
    return Trained(lines, None)


def _place(word: str) -> tuple[str, str]:
    """Return what is before the path of a cache, `NAME=` or nothing, and what it is to all nodes.

    That is its absolute path; of a copy, which is on this machine alone, the address.
    """
    name, equals, text = word.rpartition("=")
    if Path(word).exists() or not equals:
        name, equals, text = "", "", word
    path = Path(text)
    return name + equals, address_of(path) if is_copy(path) else str(path.absolute())
