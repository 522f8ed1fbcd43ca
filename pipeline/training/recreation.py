"""The options of `heliograph train` that make a run again, from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.errors import HeliographError
from pipeline.config import CONTROLLED, PRESETS, build_config
from pipeline.game import GAMES
from pipeline.runs import Run
from pipeline.training.settings import known_settings


def options_of_run(folder: Path | str) -> dict[str, Any]:
    """Return the options that made a run, by their name: caches, seeds, and what its preset lacks.

    Raises:
        HeliographError: it is no run, or one that `train` cannot make.
    """
    run = Run.open(folder)
    config, control = run.config, run.control()
    if config.preset not in PRESETS:
        raise HeliographError(f"{run.folder} was not trained by a preset of this version")
    if run.seeds != tuple(range(len(run.seeds))):
        raise HeliographError(f"{run.folder} has other seeds than 0 .. N-1, which no option gives")
    usual = build_config(
        config.preset, config.properties, **(CONTROLLED if control is not None else {})
    ).model_dump(mode="json")
    stored = config.model_dump(mode="json")  # all: `to_json` leaves some out where they are usual
    changed = {
        name: stored[name]
        for name in known_settings()
        if name in stored and stored[name] != usual[name]
    }
    own = GAMES[config.game].Settings().to_json()
    names = [source.name for source in run.sources]
    return {
        "caches": [
            str(source.path) if source.path.stem == source.name else f"{source.name}={source.path}"
            for source in run.sources
        ],
        "property": list(config.properties),
        "preset": config.preset,
        "seeds": len(run.seeds),
        "agents": [names[number] for number in config.sees] or config.agents,
        "control": control is not None,
        "allow_leaks": run.metrics().leaks is not None,
        "tie_margin": dict(zip(config.properties, config.tie_margins, strict=True)),
        **changed,
        **{name: value for name, value in config.game_settings.items() if value != own.get(name)},
    }
