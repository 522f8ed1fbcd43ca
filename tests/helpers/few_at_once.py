"""Limits so low that a few hundred clips are held as a million are."""

import pytest

from data import columns, digests
from data.cache import batches, consolidation, content, parts, row_batches
from data.cache import rows as cache_rows


def have_few_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have tables of digests in files, and make, sort and write few clips at once."""
    for module, name, number in (
        (columns, "_IN_MEMORY", 64),
        (columns, "BLOCK", 64),
        (digests, "BLOCK", 64),
        (digests, "_LEAST", 16),
        (digests, "_TOGETHER", 64),
        (batches, "BATCH_CLIPS", 64),
        (consolidation, "_AT_ONCE", 64),
        (row_batches, "_AT_ONCE", 64),
        (cache_rows, "_ROWS_AT_ONCE", 64),
        (parts, "PART_CLIPS", 100),
        (content, "_IN_MEMORY", 64),
        (content, "_PIECE", 64),
        (content, "_READ_BYTES", 4096),
    ):
        monkeypatch.setattr(module, name, number)
