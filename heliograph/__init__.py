"""Heliograph: raw video into short discrete messages about the physics in it.

    import heliograph

    heliograph.extract("clips.csv", "clips.h5", backbone="dinov2_vits14")
    run = heliograph.train("clips.h5", "runs/mine", properties=["mass"], agents=2)
    heliograph.evaluate(run)
    message = heliograph.Speaker(run)("new_clip.mp4")

These are the functions that the commands call; each is imported when it is first used. All else is
in `data`, `backbones` and `pipeline`, by those names.
"""

from typing import TYPE_CHECKING

__all__ = [
    "Speaker",
    "__version__",
    "evaluate",
    "extract",
    "load_backbone",
    "load_cache",
    "load_run",
    "metrics",
    "read_video",
    "train",
]

if TYPE_CHECKING:  # for type checkers and editors: the same names as in ORIGINS
    from backbones import load as load_backbone
    from data.cache import load as load_cache
    from data.video import read as read_video
    from pipeline import metrics
    from pipeline.evaluation import evaluate
    from pipeline.extraction import extract
    from pipeline.message import Speaker
    from pipeline.runs import load as load_run
    from pipeline.training import train

    __version__: str
else:
    ORIGINS = {
        "Speaker": ("pipeline.message", "Speaker"),
        "evaluate": ("pipeline.evaluation", "evaluate"),
        "extract": ("pipeline.extraction", "extract"),
        "load_backbone": ("backbones", "load"),
        "load_cache": ("data.cache", "load"),
        "load_run": ("pipeline.runs", "load"),
        "metrics": ("pipeline.metrics", ""),
        "read_video": ("data.video", "read"),
        "train": ("pipeline.training", "train"),
    }

    def __getattr__(name):
        from importlib import import_module
        from importlib.metadata import version

        from heliograph.preconditions import obstacle

        if name == "__version__":
            value = version("heliograph")
        elif name in ORIGINS:
            if reason := obstacle():
                raise ImportError(reason)
            module, original = ORIGINS[name]
            value = import_module(module)
            if original:
                value = getattr(value, original)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value  # the next use is a plain look-up
        return value

    def __dir__():
        return __all__
