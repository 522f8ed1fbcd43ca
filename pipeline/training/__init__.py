"""TODO"""

from pipeline.training.fit import fit
from pipeline.training.sweep import show_sweep, split_words, sweep
from pipeline.training.train import train

__all__ = ["fit", "show_sweep", "split_words", "sweep", "train"]
