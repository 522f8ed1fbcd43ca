"""The zygote that all tests of a session share."""

from collections.abc import Iterator

import pytest

from tests.robustness.zygote import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote() as started:
        yield started
