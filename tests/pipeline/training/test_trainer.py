"""Evaluations during training: those of all seeds at once are those of each by itself."""

import numpy as np
import pytest
import torch

from pipeline.config import build_config
from pipeline.dataset import build_examples
from pipeline.training.trainer import MultiSeedTrainer


@pytest.mark.parametrize(
    "settings",
    [{"tie_margin": {"mass": 0.0}}, {"game": "referential", "game_settings": {"distractors": 1}}],
)
def test_the_evaluations_of_seeds_are_those_of_each_alone(features, settings):
    config = build_config("default", ("mass",), epochs=2, vocab=4, **settings)
    trainer = MultiSeedTrainer(
        build_examples(features, ("mass",)), config, [3, 0, 5], width=5, device=torch.device("cpu")
    )
    trainer.run()
    messages, game = trainer._final_messages(), trainer.game
    for n, tracker in enumerate(trainer.trackers):
        receivers = {name: value.detach()[n : n + 1] for name, value in trainer.receivers.items()}
        scores = []
        for clips in (tracker.split.validation, tracker.split.test):
            read = trainer.channel.read(torch.from_numpy(messages[n][clips]))
            answers = game.answer(receivers, read, clips, tracker.windows)
            scores.append(game.accuracy(answers, tracker.table, clips))
        published = game.published_accuracy(answers, tracker.table, clips)
        assert len(tracker.history) == 2
        assert tracker.last is not None
        assert not any(np.isnan(score.together) for score in scores)
        assert [tracker.last.validation, tracker.last.test] == scores
        assert tracker.history[-1].accuracy_test == scores[1].together
        assert (published is None) == ("game" in settings)
        assert tracker.published is None or published is not None
        assert np.array_equal(tracker.last.messages, messages[n])
