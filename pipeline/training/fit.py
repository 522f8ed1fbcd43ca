"""Train the agents of many seeds on cached features, a chunk of seeds at a time.

A seed's result depends on nothing but its own number: on a CPU seeds are trained in chunks of a
fixed size, filled up where there are fewer, so that every kernel always sees the same shapes; each
seed has its own generators, its own optimiser, and its own failures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from backbones import fast_float32
from data.errors import HeliographError
from data.wording import counted
from pipeline.config import TrainConfig
from pipeline.dataset import Examples, Split
from pipeline.game import Accuracy, ClipTable, build_game
from pipeline.runs import HistoryRow, SeedResult
from pipeline.training.callbacks import Progress
from pipeline.training.checkpoints import TrainingCheckpointer
from pipeline.training.trainer import MultiSeedTrainer, derived_seed

SEEDS_PER_CHUNK = 5
NULL_DRAWS = 100  # permutations that a null seed may need
SEEDS_ON_A_GPU = 80  # where launching kernels is the cost, and chunks are not padded


def fit(
    examples: Examples,
    config: TrainConfig,
    seeds: Sequence[int],
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], None] | None = None,
    checkpointer: TrainingCheckpointer | None = None,
    null: Sequence[int] = (),
) -> Iterator[SeedResult]:
    """Train every seed; yield results in the order of the seeds, a chunk at a time.

    The seeds of `null` come after the others; each learns from labels permuted by object.
    `checkpointer` stores the states of unfinished chunks and returns those that are stored.
    Raises HeliographError where the clips cannot be split, or their labels leave nothing to
    compare.
    """
    torch_device, seeds = torch.device(device), [*seeds, *null]
    for seed in seeds[: len(seeds) - len(null)]:
        check_split(examples, config, seed, examples.split(config.split, seed))
    examples_of = {seed: null_examples(examples, config, seed) for seed in null}
    size = SEEDS_PER_CHUNK if torch_device.type == "cpu" else SEEDS_ON_A_GPU
    width = size if torch_device.type == "cpu" else 0
    for number, start in enumerate(range(0, len(seeds), size)):
        chunk = seeds[start : start + size]
        with fast_float32(torch_device), _sentence_without_memory(config, chunk, torch_device):
            trainer = MultiSeedTrainer(
                examples, config, chunk, width=width, device=torch_device, null=examples_of
            )
            if not config.refit or not all(len(split.validation) for split in trainer.splits):
                _train(trainer, number, progress, checkpointer)
                yield from trainer.results()
                continue
            _train(trainer, 2 * number, _part_of_two(progress, 0), checkpointer)
            chosen = [tracker.kept() for tracker in trainer.trackers]
            epochs = [kept.epoch for kept in chosen]
            validations = [kept.validation for kept in chosen]
            histories = [tracker.history for tracker in trainer.trackers]
            del trainer, chosen  # and what it holds, before another holds as much
            refitted = MultiSeedTrainer(
                examples,
                config,
                chunk,
                width=width,
                device=torch_device,
                chosen=epochs,
                null=examples_of,
            )
            _train(refitted, 2 * number + 1, _part_of_two(progress, 1), checkpointer)
            for of_seed in zip(refitted.results(), validations, histories, strict=True):
                yield _with_validation(*of_seed)


@contextmanager
def _sentence_without_memory(
    config: TrainConfig, seeds: Sequence[int], device: torch.device
) -> Iterator[None]:
    """Raise HeliographError where the memory of the machine or of its GPU is too small."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and "can't allocate memory" not in str(error):
            raise
        where = "the machine" if device.type == "cpu" else f"the GPU ({device})"
        raise HeliographError(
            f"{where} has too little memory to train {counted(len(seeds), 'seed')} at once: lower "
            f"--seeds, --batch ({config.batch}), --receivers ({config.receivers}) or --hidden-dim "
            f"({config.hidden_dim}), or read fewer dimensions with --axes"
        ) from error


def _with_validation(
    result: SeedResult, validation: Accuracy, before: Sequence[HistoryRow]
) -> SeedResult:
    """Return a seed that was trained again, with the validation accuracies of the first time."""
    history = [
        dataclasses.replace(row, accuracy_validation=own.accuracy_validation)
        for row, own in zip(result.history, before, strict=True)
    ]
    return dataclasses.replace(result, accuracy_validation=validation, history=history)


def _part_of_two(
    progress: Callable[[Progress], None] | None, part: int
) -> Callable[[Progress], None] | None:
    """Report one of two trainings as half of a whole."""
    if progress is None:
        return None

    def report(now: Progress) -> None:
        where = f"{now.where}, again with the validation clips" if part else now.where
        epoch, epochs = part * now.epochs + now.epoch, 2 * now.epochs
        progress(dataclasses.replace(now, epoch=epoch, epochs=epochs, where=where))

    return report


def _train(
    trainer: MultiSeedTrainer,
    number: int,
    progress: Callable[[Progress], None] | None,
    checkpointer: TrainingCheckpointer | None,
) -> None:
    if checkpointer is None:
        trainer.run(progress)
        return
    state = checkpointer.load(number)
    if state is not None:
        with checkpointer.reading(number):
            trainer.restore(state)

    def pause() -> None:
        if checkpointer.due() or trainer.epoch == trainer.config.epochs:
            checkpointer.save(number, trainer.state())

    trainer.run(progress, pause)


def null_examples(examples: Examples, config: TrainConfig, seed: int) -> Examples:
    """Return the clips with labels permuted by object, from which a null seed learns.

    What a seed of the run may not have, it may not have either: the permutation is drawn again
    where it leaves no grid, or nothing to compare.

    Raises:
        HeliographError: No permutation of many leaves anything.
    """
    for number in range(NULL_DRAWS):
        permuted = examples.permuted(derived_seed(seed, number + 1))
        try:
            check_split(permuted, config, seed, permuted.split(config.split, seed))
        except HeliographError as reason:
            error = reason
        else:
            return permuted
    raise HeliographError(
        f"no labels permuted by object leave seed {seed} anything to learn ({error}): leave out "
        "--null"
    )


def check_split(examples: Examples, config: TrainConfig, seed: int, split: Split) -> None:
    """Raise HeliographError where training or test clips leave nothing to play."""
    game, table = build_game(config), ClipTable.of(examples.labels, examples.objects)
    for part, clips in (("training", split.train), ("test", split.test)):
        for obstacle in game.obstacles(table, clips):
            raise HeliographError(
                f"seed {seed}: the {counted(len(clips), f'{part} clip')} {obstacle}: nothing to "
                "compare; take clips of more objects, or another --split"
            )
