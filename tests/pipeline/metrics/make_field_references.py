"""Reference values of the field's metrics, by their authors' code: field_references.json.

    git clone https://github.com/bcarmeli/cbm CBM
    git clone https://github.com/tomekkorbak/measuring-non-trivial-compositionality KORBAK
    git clone https://github.com/backpropper/cbc-emecom RESNICK
    git clone https://github.com/jacobandreas/tre ANDREAS
    pip install torch scipy
    python -m tests.pipeline.metrics.make_field_references CBM KORBAK RESNICK ANDREAS

Takes a few minutes. The values in the repository were made from CBM at 0e2d0a2, KORBAK at 2b36562,
RESNICK at 6d01f0c and ANDREAS at c47b02c. Nothing of their code is here: it is imported from the
clones. The inputs are `codes()` and `bits()`, which the tests call too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np

from tests.pipeline.metrics.make_metric_references import cases

PATH = Path(__file__).with_name("field_references.json")
FIELD = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
CLIPS_OF_ANDREAS = 25
"""His code takes one clip at a time."""


def codes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Tokens (N, P) and attributes (N, A) of each shared input, by name."""
    return {name: (tokens, attributes) for name, (tokens, attributes, _) in cases().items()}


def bits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Bits (200, P) about two digits (200, 2), each ten times in each place: what Resnick's has."""
    rng = np.random.RandomState(1910)
    digits = np.stack(np.meshgrid(range(10), range(10), indexing="ij"), axis=-1).reshape(-1, 2)
    digits = np.repeat(digits, 2, axis=0)
    binary = (digits[..., None] >> np.arange(4)) & 1  # (200, 2, 4)
    noise = rng.random_sample((200, 8)) < 0.1
    each = binary.reshape(200, 8)
    return {
        "four bits for each digit": (each, digits),
        "with noise": (np.where(noise, 1 - each, each), digits),
        "one digit": (each[:, :4], digits),
        "three bits for each digit": (each[:, [0, 1, 2, 4, 5, 6]], digits),
    }


class _Pairs:
    """Derivations and messages, as a protocol that may have a meaning several times."""

    def __init__(self, pairs: list[tuple[Any, str]]) -> None:
        self._pairs = pairs

    def items(self) -> list[tuple[Any, str]]:
        return self._pairs

    def keys(self) -> list[Any]:
        return [derivation for derivation, _ in self._pairs]

    def values(self) -> list[str]:
        return [message for _, message in self._pairs]


def _import(folder: Path, name: str) -> ModuleType:
    """Import a module from a clone, and forget it, since others have names like `utils`."""
    sys.path.insert(0, str(folder))
    module = importlib.import_module(name)
    sys.path.remove(str(folder))
    for known in [known for known in sys.modules if known.split(".")[0] in ("util", "utils")]:
        del sys.modules[known]
    return module


def _nested(names: list[str]) -> Any:
    return names[0] if len(names) == 1 else (names[0], _nested(names[1:]))


def _concepts(attributes: np.ndarray) -> list[list[str]]:
    return [[f"{place}-{level}" for place, level in enumerate(clip)] for clip in attributes]


def _best_matching(cbm: ModuleType, tokens: np.ndarray, attributes: np.ndarray) -> dict[str, int]:
    words = [".".join(f"{place}-{symbol}" for place, symbol in enumerate(clip)) for clip in tokens]
    phrases = [".".join(names) for names in _concepts(attributes)]
    pairs = [list(pair) for pair in zip(words, phrases, strict=True)]
    found = cbm.ConceptBestMatch(pairs, words_eos=False).calc_best_match()
    return {"good": int(found["Good_edges"]), "all": int(found["Total_edges"])}


def _context_independence(korbak: ModuleType, tokens: np.ndarray, attributes: np.ndarray) -> float:
    width = int(tokens.max()) + 1
    messages = ["".join(chr(65 + place * width + s) for place, s in enumerate(c)) for c in tokens]
    concepts = _concepts(attributes)
    pairs = [(_nested(names), text) for names, text in zip(concepts, messages, strict=True)]
    number = len({name for names in concepts for name in names})
    return float(korbak.ContextIndependence(number).measure(_Pairs(pairs)))


def _reconstruction(andreas: ModuleType, tokens: np.ndarray, attributes: np.ndarray) -> float:
    """The sum of squared errors of the best sums, of the first clips in a fixed order."""
    hot = np.eye(int(tokens.max()) + 1)[tokens].reshape(len(tokens), -1)
    errors = andreas.evaluate(
        list(hot),
        [tuple(names) for names in _concepts(attributes)],
        lambda *parts: sum(parts),
        lambda one, other: ((one - other) ** 2).sum(),
        quiet=True,
    )
    return float(sum(errors))


def some_clips(clips: int) -> np.ndarray:
    """The clips on which Andreas's code is run, (25,) or fewer."""
    return np.random.RandomState(0).permutation(clips)[:CLIPS_OF_ANDREAS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("cbm", "korbak", "resnick", "andreas"):
        parser.add_argument(name, type=Path, help="a clone")
    folders = parser.parse_args()
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    for unused in ("jsonlines", "tabulate"):  # imported there, for files and tables
        sys.modules[unused] = MagicMock()
    cbm = _import(folders.cbm, "concept_best_match")
    korbak = _import(folders.korbak, "metrics.context_independence")
    andreas = _import(folders.andreas, "evals2")
    resnick = _import(folders.resnick, "utils")
    for unused in ("jsonlines", "tabulate"):
        del sys.modules[unused]
    values: dict[str, Any] = {"codes": {}, "bits": {}}
    for name, (tokens, attributes) in codes().items():
        some = some_clips(len(tokens))
        values["codes"][name] = {
            "best_matching": _best_matching(cbm, tokens, attributes),
            "context_independence": _context_independence(korbak, tokens, attributes),
            "reconstruction": _reconstruction(andreas, tokens[some], attributes[some]),
        }
        print(name, values["codes"][name])
    for name, (tokens, digits) in bits().items():
        values["bits"][name] = float(resnick.get_residual_entropy(tokens, np.add(digits, [0, 10])))
        print(name, values["bits"][name])
    PATH.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
