"""Training: caches in, a run folder out; and a grid of runs with one command."""

from pipeline.training.callbacks import Progress
from pipeline.training.fit import fit
from pipeline.training.plan import plan_run
from pipeline.training.recreation import options_of_run
from pipeline.training.settings import group_game_settings, known_settings, setting_choices
from pipeline.training.sweep import show_sweep, split_words, sweep
from pipeline.training.tasks import Trained, Training, train_all
from pipeline.training.train import train

__all__ = [
    "Progress",
    "Trained",
    "Training",
    "fit",
    "group_game_settings",
    "known_settings",
    "options_of_run",
    "plan_run",
    "setting_choices",
    "show_sweep",
    "split_words",
    "sweep",
    "train",
    "train_all",
]
