"""Tiers, the sample of the soak tests, and fixtures that every test may use."""

import os

# One thread for each product of matrices, on every machine: several wait for each other, on busy
# cores for minutes. Tests of passes and of extraction set a number of their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import backbones
from backbones import Backbone
from tests.helpers.tiny_backbone import MAPPED_ENTRY, TINY_ENTRY

TESTS = Path(__file__).resolve().parent

INTEGRATION: tuple[str, ...] = (
    "backbones/test_efficientnet.py",
    "backbones/test_parity.py",
    "backbones/test_tensor_files.py",
    "backbones/test_timm_models.py",
    "backbones/test_weights.py",
    "data/cache/test_hdf5_reader.py",
    "data/cache/test_ledger.py",
    "data/cache/test_shard_store.py",
    "data/cache/test_verification.py",
    "data/datasets/test_restitution.py",
    "data/interchange/",
    "data/simulate/rendering/test_render.py",
    "data/simulate/test_generate.py",
    "data/test_clips.py",
    "data/test_lock.py",
    "data/test_screening.py",
    "data/video/backends/test_crosscheck.py",
    "data/video/pyav/test_container.py",
    "data/video/test_decoder_pool.py",
    "data/video/test_decoder_worker.py",
    "data/video/test_reader.py",
    "pipeline/agents/test_pretrained.py",
    "pipeline/agents/test_stacked.py",
    "pipeline/cli/",
    "pipeline/dataset/test_sources.py",
    "pipeline/evaluation/test_compare_runs.py",
    "pipeline/evaluation/test_evaluate.py",
    "pipeline/evaluation/test_fresh_receivers.py",
    "pipeline/evaluation/test_outcome_prediction.py",
    "pipeline/evaluation/test_probes.py",
    "pipeline/experiments/",
    "pipeline/extraction/test_duplicates.py",
    "pipeline/extraction/test_extract.py",
    "pipeline/extraction/test_phase87.py",
    "pipeline/extraction/test_repair.py",
    "pipeline/extraction/test_stages.py",
    "pipeline/game/test_referential.py",
    "pipeline/hub/",
    "pipeline/message/test_lexicon.py",
    "pipeline/message/test_speaker.py",
    "pipeline/metrics/test_significance.py",
    "pipeline/metrics/test_topsim.py",
    "pipeline/report/test_provenance.py",
    "pipeline/report/test_report.py",
    "pipeline/report/test_thumbnails.py",
    "pipeline/runs/test_import_checkpoint.py",
    "pipeline/runs/test_metrics_docs.py",
    "pipeline/runs/test_run.py",
    "pipeline/runs/test_writer.py",
    "pipeline/test_doctor.py",
    "pipeline/runs/test_leaks.py",
    "pipeline/training/test_checkpoints.py",
    "pipeline/training/test_fit.py",
    "pipeline/training/test_sweep.py",
    "pipeline/training/test_train.py",
    "robustness/",
    "test_architecture.py",
    "test_docs.py",
    "test_doctests.py",
    "test_pages.py",
    "tools/",
)
"""Folders and files below tests/ whose tests are integration tests: `make test-unit` leaves them
out. What belongs here follows from `pytest --durations=100` on an idle machine."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that draw a sample of the soak tests."""
    group = parser.getgroup("heliograph")
    group.addoption(
        "--soak-sample", type=int, metavar="N", help="run N of the selected soak tests, drawn by"
        " --soak-seed, and every other selected test",
    )  # fmt: skip
    group.addoption(
        "--soak-seed", metavar="TEXT", help="what draws the sample, for example a commit's hash;"
        " a random one without it",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed where none was given."""
    if config.option.soak_sample is not None and config.option.soak_seed is None:
        config.option.soak_seed = secrets.token_hex(4)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Print how the same sample is drawn again."""
    if config.option.soak_sample is None:
        return None
    options = f"--soak-sample {config.option.soak_sample} --soak-seed {config.option.soak_seed}"
    return f"soak sample, the same again: pytest -m soak {options}"


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of INTEGRATION."""
    if item.path.relative_to(TESTS).as_posix().startswith(INTEGRATION):
        item.add_marker("integration")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a sample of the soak tests that `-m` selected."""
    if config.option.soak_sample is None:
        return
    soak = sorted(item.nodeid for item in items if item.get_closest_marker("soak"))
    random.Random(config.option.soak_seed).shuffle(soak)
    left_out = set(soak[config.option.soak_sample :])
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where there is no CUDA device, or fail where there must be one."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        if os.environ.get("HELIOGRAPH_REQUIRE_CUDA") == "1":
            pytest.fail("HELIOGRAPH_REQUIRE_CUDA=1, and torch finds no CUDA device")
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _keep_global_state() -> Iterator[None]:
    """Keep a test that draws global random numbers or gives torch threads from changing the next.

    `torch.set_num_threads(1)` at the start of a test is how extraction takes one clip at a time,
    in the order in which they are decoded.
    """
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads, scheduler = torch.get_num_threads(), _scheduler()
    yield
    assert _scheduler() == scheduler, "this process would now run before those that it waits for"
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(torch_state)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _scheduler() -> int | None:
    """Return the scheduling policy of this thread, where the system has any."""
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None


@pytest.fixture(scope="session", autouse=True)
def _keep_users_record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the record of checked files apart from the user's own, and one for all tests.

    Models that were downloaded stay where they are.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in (("TORCH_HOME", "torch"), ("HF_HOME", "huggingface")):
            if name not in os.environ:
                patch.setenv(name, str(cache / folder))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Begin without a record of checked files, as another account does; return where it will be."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("data.screening._recorded_here", set())
    return tmp_path / "cache" / "heliograph" / "checked"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and features next to a development checkout."""
    folder = TESTS.parents[1] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the development data next to the checkout (../shared)")
    return folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Backbone]:
    """Register a tiny random backbone as `tiny`, and give `load` for it."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY_ENTRY)
    return lambda **options: backbones.load("tiny", **{"device": "cpu", **options})


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register as `mapped` a backbone whose maps are the pixels themselves."""
    monkeypatch.setitem(backbones.BACKBONES, "mapped", MAPPED_ENTRY)
