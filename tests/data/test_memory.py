"""How much memory there is, and the sentence where there is too little."""

import pytest

from data import memory
from data.errors import OutOfMemoryError
from data.memory import available_bytes, require_memory


def test_the_memory_of_this_machine_is_known() -> None:
    available = available_bytes()
    assert available is not None
    assert 0 <= available < 1 << 50


def test_too_little_memory_is_a_sentence_with_both_sizes(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 << 30)
    require_memory(3 << 30, "training", "give --axes 64")
    with pytest.raises(OutOfMemoryError) as caught:
        require_memory(25 << 30, "training", "give --axes 64")
    assert str(caught.value) == (
        "training takes 25 GiB of memory, and 3.0 GiB are free: give --axes 64"
    )


def test_a_system_that_does_not_tell_is_believed(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    require_memory(1 << 60, "training", "give --axes 64")
