"""Fixtures of the tests of backbones."""

import pytest


@pytest.fixture(autouse=True)
def _files_of_weights_are_ours(monkeypatch: pytest.MonkeyPatch, request) -> None:
    """Read the files that a test has made without the process that reads those of others.

    It takes seconds to start; what it does is in `test_tensor_files.py`.
    """
    if request.path.name != "test_tensor_files.py":
        monkeypatch.setattr("backbones.tensor_files.require_screened", lambda *_, **__: None)


@pytest.fixture(autouse=True)
def _record_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> None:
    """Give each test an empty record of what this account has used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("data.screening._recorded_here", set())
