"""Reference values of the metrics, computed with other people's code: metric_references.json.

    git clone https://github.com/TomekKaszynski/emergent-physics-comm PAPER
    git clone https://github.com/facebookresearch/EGG EGG
    pip install torch scipy scikit-learn editdistance wandb rich
    python tests/pipeline/metrics/make_metric_references.py PAPER EGG

Takes about ten seconds. The values in the repository were made from PAPER at ca36be0 and EGG at
54eb11c; the versions of the packages are in the file. Nothing of their code is here:
`wmcp/metrics.py` and `egg.core.language_analysis` are imported from the clones. The inputs are
those of `cases()`, which the tests call too; RandomState, because its stream never changes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

PAPER_PAIRS = 4000
PATH = Path(__file__).with_name("metric_references.json")
REFERENCES = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}


def cases() -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """Tokens (N, P), attributes (N, A) and vocabulary of each shared input, by name."""
    rng = np.random.RandomState(2020)
    grid = np.stack(np.meshgrid(range(5), range(5), indexing="ij"), axis=-1).reshape(-1, 2)
    grid = np.repeat(grid, 6, axis=0)  # (150, 2)
    noise = rng.random_sample((150, 2)) < 0.2
    codebook = rng.permutation(25)
    holistic = codebook[grid[:, 0] * 5 + grid[:, 1]]
    partly = np.stack([grid[:, 0], rng.randint(0, 3, 150)], axis=1)
    return {
        "random": (rng.randint(0, 5, (120, 4)), rng.randint(0, 5, (120, 2)), 5),
        "random, few clips": (rng.randint(0, 8, (20, 2)), rng.randint(0, 3, (20, 2)), 8),
        "random, three attributes": (rng.randint(0, 4, (90, 3)), rng.randint(0, 4, (90, 3)), 4),
        "compositional": (grid[:, ::-1].copy(), grid, 5),
        "compositional, noisy": (np.where(noise, rng.randint(0, 5, grid.shape), grid), grid, 5),
        "holistic": (np.stack([holistic // 5, holistic % 5], axis=1), grid, 5),
        "one position says nothing": (np.insert(partly, 1, 2, axis=1), grid, 5),
        "one position": (grid[:, :1], grid, 5),
        "skewed": (
            np.minimum(rng.geometric(0.6, (80, 4)) - 1, 6),
            rng.binomial(4, 0.2, (80, 2)),
            7,
        ),
    }


def masses() -> np.ndarray:
    """Masses in grams of 206 clips of 26 objects: (206,)."""
    rng = np.random.RandomState(101)
    return np.round(rng.lognormal(4.0, 0.9, 26), 1)[rng.randint(0, 26, 206)]


def scores() -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties (200,) and labels (200,)."""
    rng = np.random.RandomState(7)
    labels = rng.randint(0, 2, 200)
    return np.round(rng.normal(labels, 1.5), 1), labels


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("paper_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _paper(paper: ModuleType, tokens: np.ndarray, attributes: np.ndarray, vocab: int) -> dict:
    posdis, information, entropies = paper.compute_posdis(tokens, attributes, vocab)
    two = attributes[:, 0], attributes[:, 1]
    return {
        "posdis": posdis,
        "bosdis": paper.compute_bosdis(tokens, attributes, vocab),
        "mutual_information_nats": information.tolist(),
        "entropies_over_log_vocab": entropies,
        "topsim_of_two": paper.compute_topsim(tokens, *two, n_pairs=PAPER_PAIRS, seed=42),
    }


def _egg(egg: Any, tokens: np.ndarray, attributes: np.ndarray, vocab: int) -> dict:
    import torch

    messages, meanings = torch.tensor(tokens), torch.tensor(attributes)
    return {
        "posdis": egg.Disent.posdis(meanings, messages),
        "bosdis_shifted": egg.Disent.bosdis(meanings, messages + 1, vocab + 1),
        "message_entropy_bits": egg.calc_entropy(messages),
        "topsim": egg.TopographicSimilarity.compute_topsim(
            attributes, tokens, lambda one, other: np.abs(one - other).sum(), "hamming"
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paper", type=Path, help="a clone of emergent-physics-comm")
    parser.add_argument("egg", type=Path, help="a clone of EGG")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.egg))
    import egg.core.language_analysis as egg
    import scipy
    import sklearn
    import torch
    from sklearn.metrics import adjusted_mutual_info_score, roc_auc_score

    paper = _module(arguments.paper / "wmcp" / "metrics.py")
    values: dict[str, Any] = {
        "versions": {m.__name__: m.__version__ for m in (np, scipy, sklearn, torch)},
        "mass_bins": paper.make_attributes(masses(), ["object"] * len(masses()))[:, 0].tolist(),
        "auc": roc_auc_score(scores()[1], scores()[0]),
        "cases": {},
    }
    for name, (tokens, attributes, vocab) in cases().items():
        values["cases"][name] = {
            "paper": _paper(paper, tokens, attributes, vocab),
            "egg": _egg(egg, tokens, attributes, vocab),
            "adjusted_mutual_information": [
                [adjusted_mutual_info_score(attribute, position) for attribute in attributes.T]
                for position in tokens.T
            ],
        }
    PATH.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {PATH}")


if __name__ == "__main__":
    main()
