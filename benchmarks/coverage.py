"""How often 95 % intervals of accuracies hold the truth: `python benchmarks/coverage.py`.

Made-up agents judge pairs of clips by what they see of an object: its property, plus what is wrong
about the object for all seeds, about the object in one seed, and about the clip. Some seeds are
worse than others. The truth is the share of right answers over 1,500 pairs of new objects in each
of 60 new seeds. Objects and seeds are new in each of the samples; what other training objects would
change is not in it. `--samples N` (300), `--quick` (a few cases); one line a case.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.pair_scores import PairCounts, PairScorer, Scores, count_pairs, score_pairs
from pipeline.evaluation.power import SEED_DEVIATION
from pipeline.evaluation.probes import retained

NOISES = {"poor": (1.2, 0.8, 1.0), "usual": (0.5, 0.3, 0.5), "good": (0.15, 0.1, 0.2)}
"""Of the object, of the object in one seed, of the clip; the property has the deviation 1."""
TRUE_PAIRS, TRUE_SEEDS = 1500, 60


@dataclass(frozen=True)
class Case:
    """A run: of how many objects how many are tested, in how many seeds, with how many clips.

    `alike`: every seed tests the same objects.
    """

    objects: int
    tested: int
    seeds: int
    clips: int
    alike: bool

    def __str__(self) -> str:
        which = "the same" if self.alike else f"of {self.objects}"
        return f"{self.tested} {which}, {self.seeds} seeds, {self.clips} clips"


CASES = (
    Case(5, 5, 5, 4, alike=True),
    Case(5, 5, 40, 4, alike=True),
    Case(10, 10, 20, 4, alike=True),
    Case(20, 20, 20, 1, alike=True),
    Case(30, 30, 5, 1, alike=True),
    Case(9, 4, 5, 4, alike=False),
    Case(12, 4, 80, 2, alike=False),
    Case(26, 5, 5, 4, alike=False),
    Case(26, 5, 20, 4, alike=False),
)
QUICK = (CASES[0], CASES[2], CASES[5])


def sample(
    case: Case,
    noise: tuple[float, float, float],
    number: int,
    *,
    value: np.ndarray | None = None,
) -> tuple[Scores, Scores]:
    """Return the scores of one run, and of one more with other noise of clips and seeds.

    `value` is the property of each object; None draws it.
    """
    rng = np.random.default_rng(number)
    value = rng.normal(size=case.objects) if value is None else value
    look = value + noise[0] * rng.normal(size=case.objects)
    objects = np.repeat(np.arange(case.objects), case.clips)
    same = rng.permutation(case.objects)[: case.tested]
    tests, counts = [], ([], [])
    for _ in range(case.seeds):
        chosen = same if case.alike else rng.permutation(case.objects)[: case.tested]
        clips = np.flatnonzero(np.isin(objects, chosen))
        tests.append(clips)
        for side in counts:
            seen = _seen(rng, look, noise, objects[clips])
            side.append(_count(seen, value[objects[clips]], objects[clips]))
    scorer = PairScorer([f"{one:06}" for one in objects], tests)  # numbered in this order
    first, second = (scorer.score(side) for side in counts)
    return first, second


def _seen(
    rng: np.random.Generator,
    look: np.ndarray,
    noise: tuple[float, float, float],
    objects: np.ndarray,
) -> np.ndarray:
    worse = np.exp(SEED_DEVIATION * rng.normal())
    of_seed = look + worse * noise[1] * rng.normal(size=len(look))
    return of_seed[objects] + worse * noise[2] * rng.normal(size=len(objects))


def _count(seen: np.ndarray, value: np.ndarray, objects: np.ndarray) -> PairCounts:
    says_more = (seen[:, None] > seen)[..., None]
    right, asked = score_pairs(says_more, value[:, None], (0.0,))
    return count_pairs(right[..., :1], asked[..., :1], objects)


def truth(noise: tuple[float, float, float]) -> float:
    """Return the accuracy over new objects and new seeds."""
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(TRUE_SEEDS):
        value = rng.normal(size=2 * TRUE_PAIRS)
        look = value + noise[0] * rng.normal(size=len(value))
        seen = _seen(rng, look, noise, np.arange(len(value)))
        shares.append(((seen[::2] > seen[1::2]) == (value[::2] > value[1::2])).mean())
    return float(np.mean(shares))


def coverage(
    case: Case, noise: tuple[float, float, float], samples: int
) -> tuple[float, float, float]:
    """Return how often the intervals hold the truth: of an accuracy, a difference, a ratio.

    Difference and ratio are of two equals. A ratio (`retained`) is stated where the second of them
    is above chance; NaN where it never is.
    """
    true, held, apart, ratios = truth(noise), 0, 0, []
    for number in range(samples):
        first, second = sample(case, noise, number)
        low, high = first.interval()[0]
        held += low <= true <= high
        low, high = (first - second).interval()[0]
        apart += low <= 0 <= high
        ratio = retained(first, second)
        if ratio is not None:
            ratios.append(ratio["interval"][0] <= 1 <= ratio["interval"][1])
    return held / samples, apart / samples, float(np.mean(ratios)) if ratios else np.nan


def rows(samples: int, cases: tuple[Case, ...]) -> Iterator[str]:
    """Yield a line of a table for each case: coverages by noise, as `coverage` returns them."""
    for case in cases:
        shares = [coverage(case, noise, samples) for noise in NOISES.values()]
        cells = (", ".join(f"{share:.2f}" for share in own) for own in shares)
        yield f"| {case} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    accuracies = (f"{name} ({truth(noise):.2f})" for name, noise in NOISES.items())
    print("| test objects | " + " | ".join(accuracies) + " |")
    print("|---|" + "---|" * len(NOISES))
    for line in rows(given.samples, QUICK if given.quick else CASES):
        print(line, flush=True)


if __name__ == "__main__":
    main()
