"""What agents make of pure noise: no verdict and no sure word, beyond chance.

Their accuracy on training clips is far above chance, and so is the structure of messages there.
"""

from pathlib import Path

import numpy as np
import pytest

from data import cache
from data.cache import Features
from pipeline.dataset import build_examples
from pipeline.evaluation.context import MessageContext
from pipeline.evaluation.structure import NullSeed, assess_messages
from pipeline.message import load_lexicon
from pipeline.runs import load_inputs
from pipeline.training import train

CLIPS, STEPS, DIMENSIONS = 60, 4, 16
NULLS = 39
POSITIVE = ("compositional", "informative, not compositional")


def most(runs: int) -> float:
    """5 % of the runs, and two standard errors."""
    return 0.05 * runs + 2 * np.sqrt(0.05 * 0.95 * runs)


def claims(folder: Path, number: int, **settings) -> tuple[bool, bool]:
    """Whether agents of noise get a positive verdict, and whether they get a sure word."""
    rng = np.random.default_rng(number)
    names = [f"clip_{clip:02d}" for clip in range(CLIPS)]
    features = Features(
        features=rng.normal(size=(CLIPS, STEPS, DIMENSIONS)).astype(np.float32),
        clip_id=names,
        object=names,
        scenario=["noise"] * CLIPS,
        labels={name: rng.normal(size=CLIPS) for name in ("mass", "volume")},
        fingerprint={"imported": True, "source": "noise.pt", "sha256": "0" * 64},
    )
    cache.save(features, folder / f"{number}.h5")
    run = train(
        folder / f"{number}.h5", folder / str(number), seeds=1, null=NULLS, vocab=5, **settings
    )
    inputs = load_inputs(run)
    context = MessageContext.of(run, build_examples(inputs.caches, run.config.properties))
    found = assess_messages(context, NullSeed.all_of(run), permutations=99)
    words = [entry.get("verdict") for entry in found["compositionality"].values()]
    lexicon = load_lexicon(run)
    assert lexicon is not None
    sure = any(one.is_sure(m) for one in lexicon.positions for m in one.meanings)
    return any(word in POSITIVE for word in words), sure


@pytest.mark.slow
def test_noise_gets_no_verdict_and_no_sure_word(tmp_path):
    brief = {"preset": "ridge", "epochs": 30, "refit": False}
    found = np.array([claims(tmp_path, number, **brief) for number in range(15)])
    assert (found.sum(0) <= most(len(found))).all(), found.sum(0)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_a_hundred_runs_on_noise(tmp_path):
    learned = {"preset": "default", "epochs": 100, "oracle_epochs": 25}
    found = np.array([claims(tmp_path, 1000 + number, **learned) for number in range(100)])
    assert (found.sum(0) <= most(len(found))).all(), found.sum(0)
