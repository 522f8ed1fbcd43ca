"""A hub on this machine, and a run in which the user's own names are planted everywhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch

from data import cache
from pipeline.runs import Run
from pipeline.training import train
from tests.helpers.features import make_features
from tests.helpers.hub import TOKEN, Hub, serve_hub
from tests.helpers.runs import reseal

HOST = "planted-host"
CLIP, OBJECT, PLACE = "planted_clip", "planted_object", "planted place"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty hub, which huggingface_hub asks; nobody is logged in."""
    hub = Hub()
    with serve_hub(hub, monkeypatch, tmp_path / "hub cache"):
        yield hub


@pytest.fixture
def logged_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:  # the hub begins without one
    """Give huggingface_hub a token."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a control and a null seed; no test changes it.

    Names of clips, objects, folders and of this host are in each of its files that can hold text.
    """
    folder = tmp_path_factory.mktemp("runs") / PLACE
    made = make_features()
    made.clip_id[:] = [f"{CLIP}s/{CLIP}_{number}.mp4" for number in range(len(made))]
    made.object[:] = [f"{OBJECT}_{name}" for name in made.object]
    cache.save(made, folder / "made.h5")
    run = train(
        folder / "made.h5",
        folder / "run",
        properties=["mass"],
        seeds=2,
        epochs=2,
        null=1,
        control=True,
    )
    sentence = f"{folder}/videos/{made.clip_id[0]} of {made.object[0]} on {HOST}, {CLIP}_1.mp4"
    spread = {"mean": 0.5, "std": 0.0, "per_seed": [0.5, 0.5], "interval": [0.4, 0.6]}
    run.add_metrics(
        {
            "notes": [*run.metrics().notes, f"note: {sentence}"],
            "leaks": {"same_content": 1, "near_duplicates": 0, "examples": [sentence]},
            "baselines": {"majority": spread, "ridge": spread, "pixels": None},
            "missing_baselines": {"pixels": f"no video: {sentence}"},
            "imported_from": f"{folder}/old run/phase54b.pt",
            "transfer": {
                f"{folder}/other.h5": {
                    "clips": 1,
                    "objects": 1,
                    "known_messages": 0.5,
                    "accuracy": spread,
                    "new_objects": None,
                    "ridge": spread,
                }
            },
        }
    )
    for path in sorted(run.folder.rglob("model.safetensors")):
        weights = safetensors.torch.load_file(path)
        safetensors.torch.save_file(weights, path, metadata={"host": HOST, "made in": str(folder)})
    reseal(run.folder / "control")
    reseal(run.folder)
    return Run.open(run.folder)
